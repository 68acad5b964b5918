"""What S3's error codes mean for a person: the rest of a sentence that says what to do.

Shared by the two ways to S3, boto3 and libcurl; imports neither. An answer to a HEAD has no body,
so there the status stands where the code would.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_OTHER_REGION = "the bucket lies in another region; set AWS_REGION to that one"
CODES_OF_ONE_OBJECT = ("AccessDenied", "403", "NoSuchKey", "404", "InvalidObjectState")
"""Those that say nothing of the objects beside it."""

_REMEDIES = {
    "NoSuchBucket": "there is no such bucket; create it, or correct its name",
    "NoSuchKey": "the object is gone, or was never there; run it again to list afresh",
    "InvalidObjectState": "S3 has archived the object, and must restore it before it can be read "
    "(aws s3api restore-object; README, Archived snapshots)",
    "404": "there is nothing of that name; correct the address, or AWS_ENDPOINT_URL_S3 if it is "
    "set",
    "403": "access is denied; check AWS_PROFILE, the bucket's policy, and that of the key if the "
    "object is encrypted with one of KMS; where the requester pays, set REQUEST_PAYER=requester",
    "PermanentRedirect": _OTHER_REGION,
    "301": _OTHER_REGION,
    "AuthorizationHeaderMalformed": _OTHER_REGION,
    "IllegalLocationConstraintException": _OTHER_REGION,
    "400": "S3 refuses the request and does not say why; as a rule the credentials have expired "
    "(log in again) or AWS_REGION is not the bucket's",
    "ExpiredToken": "the credentials have expired; log in again (aws sso login), or renew what "
    "AWS_SESSION_TOKEN holds",
    "InvalidToken": "the session token is wrong; log in again (aws sso login), or unset "
    "AWS_SESSION_TOKEN",
    "InvalidAccessKeyId": "AWS does not know this access key; check AWS_PROFILE and "
    "AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret key is not that of the access key; check AWS_PROFILE and "
    "AWS_SECRET_ACCESS_KEY",
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it",
    "SlowDown": "S3 asks to slow down, still after many tries; run it again later",
}


_LONGEST_SAID = 600


def remedy(code: str, message: str) -> str:
    """What to do about an error code; `message` is what S3 says itself."""
    if code == "AccessDenied":
        return _access_is_denied(message)
    if code in _REMEDIES:
        return _REMEDIES[code]
    if code.startswith("5") or code in ("InternalError", "ServiceUnavailable"):
        return (
            f"the server answers {code} ({message}), still after several tries; run it again "
            "later, and see that AWS_ENDPOINT_URL_S3, if it is set, names an S3 server"
        )
    return f"S3 answers {code} ({message}); mend that and run it again"


def _access_is_denied(message: str) -> str:
    said = "".join(one if one.isprintable() else " " for one in message)
    said = " ".join(said.split()).rstrip(".")[:_LONGEST_SAID]
    is_bare = said.replace(" ", "").lower() in ("", "accessdenied", "forbidden")
    sentences = [
        "access is denied; this needs s3:ListBucket and s3:GetObject on the source, those and "
        "s3:PutObject on the destination, and the right AWS_PROFILE; where the requester pays, "
        "REQUEST_PAYER=requester as well"
    ]
    if not is_bare:
        sentences.append(f"S3 says: {said}")
    if "kms:" in said.lower():
        sentences.append(
            "The policy of the KMS key must allow kms:Decrypt to whoever reads, and "
            "kms:GenerateDataKey as well to whoever writes"
        )
    if "explicit deny" in said.lower():
        sentences.append(
            "What one policy denies explicitly no other can allow: it may ask for another network, "
            "or for SERVER_SIDE_ENCRYPTION= of what is written"
        )
    return ". ".join(sentences)


def read_refusals(client: "S3Client") -> None:
    """Have a client of boto3's read every refusal, whatever headers come with it."""
    client.meta.events.register("before-parse.s3.GetObject", _keep_to_status)


def _keep_to_status(response_dict: dict[str, Any], **_: object) -> None:
    # Where a checksum comes with it, botocore takes a refusal for the object and fails to parse it.
    if response_dict["status_code"] >= 300 and not isinstance(response_dict["body"], bytes):
        response_dict["body"] = b""
