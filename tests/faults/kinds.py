"""What can go wrong between a client and S3, by name, and which requests each can happen to."""

import enum
from dataclasses import dataclass


class Fault(enum.StrEnum):
    """One way to fail. Those in a body need an answer that has one, of a known length.

    A part of an upload that fails is `INTERNAL_ERROR` or `RESET` with operation UploadPart; a
    listing that fails or breaks off is any of these with operation ListObjectsV2.
    """

    # The server never gets the request:
    INTERNAL_ERROR = "500 InternalError"
    SLOW_DOWN = "503 SlowDown"
    TOO_MANY_REQUESTS = "429 TooManyRequests"
    CLOCK_SKEW = "403 RequestTimeTooSkewed, with a Date one hour ahead"
    EXPIRED_TOKEN = "400 ExpiredToken, for every request with the same credentials from then on"
    RESET = "connection reset half way through the request"
    COMPLETION_FAILED = "200 with an error inside, the upload not completed"

    STALLED = "no answer; the server gets the request once it is released, if the client waited"

    # The server has done what it was asked to:
    ANSWER_LOST = "connection reset in place of the answer"
    COMPLETION_UNSURE = "200 with an error inside, the upload completed all the same"
    RESET_IN_BODY = "connection reset in the middle of the body"
    TRUNCATED = "connection closed in the middle of the body"
    SHORTENED = "the body's beginning, with a Content-Length to match"
    STALLED_IN_BODY = "half the body, and the rest when it is released"
    FLIPPED_BYTE = "one byte of the body is another, by one bit"
    DRIP = "the body in twenty pieces, with a pause before each"
    REPLACED = "412 to If-Match; otherwise another ETag, and another body of that length"
    SHORT_PAGE = "a page of a listing that holds fewer keys than asked for, and says there are more"

    @property
    def is_in_body(self) -> bool:
        return self in _IN_BODY

    def can_meet(self, method: str, operation: str, is_signed: bool) -> bool:
        """Whether this can happen to a request of that kind at all."""
        if only := _ONLY.get(self):
            return operation == only
        if self is Fault.EXPIRED_TOKEN:
            return is_signed
        if self is Fault.ANSWER_LOST:  # to a GET, this is no other fault than RESET
            return method in ("PUT", "POST", "DELETE")
        return method in ("GET", "POST") or not self.is_in_body


_IN_BODY = {
    Fault.RESET_IN_BODY,
    Fault.TRUNCATED,
    Fault.SHORTENED,
    Fault.STALLED_IN_BODY,
    Fault.FLIPPED_BYTE,
    Fault.DRIP,
}
_ONLY = {
    Fault.COMPLETION_FAILED: "CompleteMultipartUpload",
    Fault.COMPLETION_UNSURE: "CompleteMultipartUpload",
    Fault.SHORT_PAGE: "ListObjectsV2",
    Fault.REPLACED: "GetObject",
    # In a listing it could name another object that exists, which no client can find out.
    Fault.FLIPPED_BYTE: "GetObject",
}


@dataclass
class Lack:
    """What a server does not know, as some do not that speak S3.

    `named` is how a header begins, in lower case, or a parameter of the query. A request that has
    it is answered with `answer`: a status, a code and a message. Without an answer the header is
    ignored, as if it had not come.
    """

    named: str
    answer: tuple[str, str, str] | None
    operation: str | None = None
    key: str = "*"
    times_left: int | None = None
    """Of how many requests; None for all."""
