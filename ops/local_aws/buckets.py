"""Whose a bucket is and where, which S3 looks at before anything else.

A bucket of another account is closed; one of another region answers only requests that are signed
for that region, and says which it is.
"""

from ops.local_aws.wire import Call, Refused


class Buckets:
    """Owner and region of every bucket; both are kept, since every request asks for them."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, str]] = {}

    def check(self, call: Call, account: str) -> None:
        """Raise `Refused` where the bucket of a call is not the caller's, or elsewhere."""
        bucket, _, key = call.environ["PATH_INFO"].lstrip("/").partition("/")
        method = call.environ["REQUEST_METHOD"]
        if not bucket or (method == "PUT" and not key and not call.environ["QUERY_STRING"]):
            return
        found = self._known.get(bucket)
        if found is None:
            found = _look_up(bucket)
            if found is None:
                return
            self._known[bucket] = found
        owner, region = found
        if method == "DELETE" and not key:
            del self._known[bucket]
        headers = {"x-amz-bucket-region": region}
        expected = call.environ.get("HTTP_X_AMZ_EXPECTED_BUCKET_OWNER", owner)
        if account != owner or expected != owner:
            raise Refused("AccessDenied", "Access Denied", 403, headers)
        if call.region != region:
            said = "The bucket you are attempting to access must be addressed using the specified "
            said += "endpoint. Please send all future requests to this endpoint."
            raise Refused("PermanentRedirect", said, 301, headers)


def _look_up(bucket: str) -> tuple[str, str] | None:
    from moto.s3.models import s3_backends

    for account in list(s3_backends):
        found = s3_backends[account]["aws"].buckets.get(bucket)
        if found is not None:
            return str(account), str(found.region_name)
    return None
