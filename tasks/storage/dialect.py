"""What the server behind an endpoint does not know of S3, and that it was found out.

Servers that speak S3 differ in what they know: conditional writes, checksums, `max-keys`. Each is
used until the server refuses it, or is seen to ignore it. Then that is remembered for all processes
of this run, said once, and the same thing is done another way by whoever asked. Nothing is believed
of AWS itself, and nothing because of one refusal, which may pass. Keeps what is known and says the
sentences; what is done instead is up to `tasks.storage.s3_writing`, `s3_attempts`, `s3` and `gets`.
"""

import base64
import enum
import fcntl
import functools
import hashlib
import io
import os
import tempfile
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from tasks.progress import say
from tasks.storage.traffic import Traffic

CHECKSUM_HEADERS = ("x-amz-checksum-", "x-amz-sdk-checksum-")
CHECKSUMS_REFUSED = "x-amz-checksum-mode refused"
"""The reason under which a GET is counted that had to be made again without that header."""

_OF_OTHER_THINGS = (
    *("BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"),
    *("AuthorizationHeaderMalformed", "AuthorizationQueryParametersError", "ExpiredToken"),
    *("IllegalLocationConstraintException", "InvalidToken", "InvalidAccessKeyId", "InvalidRange"),
    *("EntityTooLarge", "EntityTooSmall", "IncompleteBody", "InvalidBucketName", "InvalidPart"),
    *("InvalidPartOrder", "KeyTooLongError", "RequestTimeout", "RequestTimeTooSkewed"),
)
"""Codes that come with 400 and never mean that a header is not known."""
_CLEAR = (
    *("AccessDenied", "AllAccessDisabled", "AccountProblem", "NoSuchBucket", "PermanentRedirect"),
    *("SignatureDoesNotMatch", "TemporaryRedirect"),
    *(code for code in _OF_OTHER_THINGS if code not in ("InvalidPart", "InvalidPartOrder")),
)
_UNCLEAR_STATUS = (400, 404, 405, 500, 501)


class Feature(enum.StrEnum):
    """What a server may not know; the value is its name for people."""

    CHECKSUMS = "x-amz-checksum-*"
    IF_MATCH = "If-Match"
    IF_NONE_MATCH = "If-None-Match"
    MAX_KEYS = "max-keys"
    UPLOAD_OF_NONE = "uploadId"


_SENTENCES = {
    Feature.CHECKSUMS: "does not keep SHA-256 checksums ({why}). What is uploaded carries a "
    "Content-MD5 instead and is read back; of what is there, only DEEP=1 compares checksums.",
    Feature.IF_MATCH: "does not know If-Match for writing ({why}). Objects are looked at before "
    "they are replaced instead, so two runs at once are not safe there: start one at a time.",
    Feature.IF_NONE_MATCH: "does not know If-None-Match for writing ({why}). It is looked whether "
    "there is an object before one is written instead, so two runs at once are not safe there: "
    "start one at a time.",
    Feature.MAX_KEYS: "cannot list a single object ({why}); whole pages are listed instead.",
    Feature.UPLOAD_OF_NONE: "does not tell who may write when it is asked to complete an upload "
    "that there is not ({why}); one was begun and given up instead, which it allows.",
}


class _Ledger:
    """Facts that processes of a run have found out, each a line of a file that all have by fork.

    A line is one write at the end of the file, so that of two processes which find out the same
    each knows who was first.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("ab+", buffering=0)  # noqa: SIM115, open to the end
        flags = fcntl.fcntl(self._file, fcntl.F_GETFL)
        fcntl.fcntl(self._file, fcntl.F_SETFL, flags | os.O_APPEND)
        self._read = 0
        self._facts: dict[str, str] = {}

    def facts(self) -> dict[str, str]:
        """What is known: for each fact the mark of who found out first."""
        number = self._file.fileno()
        size = os.fstat(number).st_size
        if size > self._read:
            for line in os.pread(number, size, 0).decode().splitlines():
                fact, _, mark = line.rpartition("\t")
                self._facts.setdefault(fact, mark)
            self._read = size
        return self._facts

    def add(self, fact: str) -> bool:
        """Whether it is new."""
        if fact in self.facts():
            return False
        mark = f"{os.getpid()}.{threading.get_ident()}.{time.monotonic_ns()}"
        self._file.write(f"{fact}\t{mark}\n".encode())
        return self.facts()[fact] == mark


of_run = _Ledger()


class Dialect:
    """What is known of the server at one endpoint."""

    def __init__(self, endpoint: str | None) -> None:
        """Without an endpoint, or with one of AWS's own, nothing is ever found to be missing."""
        self.is_aws = endpoint is None or is_of_aws(endpoint)
        self._place = endpoint or ""

    def lacks(self, feature: Feature) -> bool:
        """Whether the server was found not to know it."""
        return not self.is_aws and f"{self._place}\tlacks\t{feature}" in of_run.facts()

    def knows(self, feature: Feature) -> bool:
        """Whether it was seen to know it; neither is so before it was tried."""
        return self.is_aws or f"{self._place}\tknows\t{feature}" in of_run.facts()

    def found(self, feature: Feature) -> None:
        """The server knows it."""
        if not self.knows(feature):
            of_run.add(f"{self._place}\tknows\t{feature}")

    def missed(self, feature: Feature, why: str) -> None:
        """The server does not know it, which is said if it is new; `why` is how that shows."""
        if not self.is_aws and of_run.add(f"{self._place}\tlacks\t{feature}"):
            parts = urlsplit(self._place)
            place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"  # and no password
            say(f"The server at {place} {_SENTENCES[feature].format(why=why)}")


@functools.cache
def of(endpoint: str | None) -> Dialect:
    """What is known of the server at an endpoint, None for AWS."""
    return Dialect(endpoint)


def has_checksums(request: dict[str, Any]) -> bool:
    """Whether a request, as botocore keeps it while it sends it, has headers of checksums."""
    return any(name.lower().startswith(CHECKSUM_HEADERS) for name in request["headers"])


def leave_out_checksums(request: dict[str, Any]) -> None:
    """Take the headers of checksums out of such a request, and put in its body's Content-MD5."""
    headers = request["headers"]
    for name in [name for name in headers if name.lower().startswith(CHECKSUM_HEADERS)]:
        del headers[name]
    planned = request["context"].get("checksum", {})  # by botocore, which has not begun to send
    planned.pop("request_algorithm", None)
    planned.pop("request_algorithm_header", None)
    body = request["body"]
    data = body.getbuffer() if isinstance(body, io.BytesIO) else body
    if request["method"] == "PUT" or (request["method"] == "POST" and data):
        md5 = hashlib.md5(data, usedforsecurity=False).digest()
        headers["Content-MD5"] = base64.b64encode(md5).decode()


def learn(endpoint: str | None, traffic: Traffic) -> None:
    """What another process's GETs have shown of the server that they went to."""
    if CHECKSUMS_REFUSED in traffic.retries:
        of(endpoint).missed(Feature.CHECKSUMS, "it refuses x-amz-checksum-mode")


def forget() -> None:
    """Know nothing again, as a new run does."""
    global of_run
    of_run = _Ledger()


def is_of_aws(endpoint: str) -> bool:
    """Whether an endpoint's host is one of AWS's."""
    host = urlsplit(endpoint).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def may_be_of_a_header(status: int, code: str) -> bool:
    """Whether a refusal may mean that something in the request is not known to the server."""
    return status in (400, 501) and code not in _OF_OTHER_THINGS


def is_unclear(status: int, code: str) -> bool:
    """Whether an error says nothing of rights: not that access is denied, or where to."""
    return status in _UNCLEAR_STATUS and code not in _CLEAR
