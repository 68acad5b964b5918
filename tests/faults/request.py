"""What an HTTP request asks of S3: the operation by Amazon's name, the bucket and the key."""

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote

from tests.faults.kinds import Fault
from tests.faults.wire import Head

_ACCESS_KEY = re.compile(r"Credential=([^/,\s]+)")

_ON_BUCKETS = [  # method, what the query holds, operation; the first that fits
    ("GET", "list-type", "ListObjectsV2"),
    ("GET", "uploads", "ListMultipartUploads"),
    ("GET", "", "ListObjects"),
    ("HEAD", "", "HeadBucket"),
    ("PUT", "", "CreateBucket"),
    ("POST", "delete", "DeleteObjects"),
    ("DELETE", "", "DeleteBucket"),
]
_ON_OBJECTS = [
    ("GET", "uploadId", "ListParts"),
    ("GET", "", "GetObject"),
    ("HEAD", "", "HeadObject"),
    ("PUT", "partNumber", "UploadPart"),
    ("PUT", "", "PutObject"),
    ("POST", "uploads", "CreateMultipartUpload"),
    ("POST", "uploadId", "CompleteMultipartUpload"),
    ("DELETE", "uploadId", "AbortMultipartUpload"),
    ("DELETE", "", "DeleteObject"),
]


@dataclass
class Request:
    """A request that came; `fault` and `request_id` are what it met with, if anything."""

    method: str
    operation: str
    bucket: str
    key: str
    """The object's, or the prefix of a listing; empty for what is about a bucket."""

    detail: str
    """What tells apart requests for one key that are under way at once: part, range, page."""

    credentials: tuple[str, str] | None
    """Access key and session token, empty where there is none; None for an anonymous request."""

    if_match: str
    head: Head
    fault: Fault | None = None
    request_id: str = ""
    """Of an error that the proxy answered with itself."""

    @classmethod
    def of(cls, head: Head) -> "Request":
        method, target, _ = head.first.split(" ", 2)
        path, _, query_string = target.partition("?")
        bucket, _, key = path.lstrip("/").partition("/")
        query = {
            name: values[0]
            for name, values in parse_qs(query_string, keep_blank_values=True).items()
        }
        operation = _operation(method, bucket, key, query)
        return cls(
            method,
            operation,
            unquote(bucket),
            unquote(key) or query.get("prefix", ""),
            query.get("partNumber") or query.get("start-after") or head.get("range"),
            _credentials(head, query),
            head.get("if-match"),
            head,
        )

    def can_meet(self, fault: Fault) -> bool:
        return fault.can_meet(self.method, self.operation, self.credentials is not None)


def _operation(method: str, bucket: str, key: str, query: dict[str, str]) -> str:
    if not bucket:
        return "ListBuckets"
    for wanted, held, operation in _ON_OBJECTS if key else _ON_BUCKETS:
        if method == wanted and (not held or held in query):
            return operation
    return f"{method} of no known operation"


def _credentials(head: Head, query: dict[str, str]) -> tuple[str, str] | None:
    signed = _ACCESS_KEY.search(head.get("authorization"))
    access_key = signed[1] if signed else query.get("X-Amz-Credential", "").partition("/")[0]
    if not access_key:
        return None
    return access_key, head.get("x-amz-security-token") or query.get("X-Amz-Security-Token", "")
