"""The errors that S3 answers with itself, headers and all, as they are on the wire."""

import base64
import os
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from xml.sax.saxutils import escape

from tests.faults.kinds import Fault
from tests.faults.request import Request

_SKEW = timedelta(hours=1)
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_INTERNAL_ERROR = "InternalError", "We encountered an internal error. Please try again."

_ERRORS = {  # status line, code, message
    Fault.INTERNAL_ERROR: ("500 Internal Server Error", *_INTERNAL_ERROR),
    Fault.SLOW_DOWN: ("503 Slow Down", "SlowDown", "Please reduce your request rate."),
    Fault.TOO_MANY_REQUESTS: (
        "429 Too Many Requests",
        "TooManyRequests",
        "Please reduce your request rate.",
    ),
    Fault.CLOCK_SKEW: (
        "403 Forbidden",
        "RequestTimeTooSkewed",
        "The difference between the request time and the current time is too large.",
    ),
    Fault.EXPIRED_TOKEN: ("400 Bad Request", "ExpiredToken", "The provided token has expired."),
    Fault.REPLACED: (
        "412 Precondition Failed",
        "PreconditionFailed",
        "At least one of the pre-conditions you specified did not hold",
    ),
    Fault.COMPLETION_FAILED: ("200 OK", *_INTERNAL_ERROR),
    Fault.COMPLETION_UNSURE: ("200 OK", *_INTERNAL_ERROR),
}
_KEEP_OPEN = ("200", "412")


def closes(fault: Fault) -> bool:
    """Whether S3 ends the connection after this answer."""
    return not _ERRORS[fault][0].startswith(_KEEP_OPEN)


def error(fault: Fault, request: Request, close: bool) -> bytes:
    """What S3 answers `request` with; notes the request id in it."""
    now = datetime.now(UTC) + (_SKEW if fault is Fault.CLOCK_SKEW else timedelta())
    return refusal(*_ERRORS[fault], request, close, now, _details(fault, request, now))


def refusal(
    status: str,
    code: str,
    message: str,
    request: Request,
    close: bool,
    now: datetime | None = None,
    details: str = "",
) -> bytes:
    """An error with a status line's end, such as ``501 Not Implemented``."""
    now = now or datetime.now(UTC)
    request.request_id = base64.b32encode(os.urandom(10)).decode()
    host_id = base64.b64encode(os.urandom(57)).decode()
    # While it puts parts together, S3 sends spaces, so that nobody gives up waiting.
    declared = '<?xml version="1.0" encoding="UTF-8"?>\n' + " " * 4 * (status == "200 OK")
    xml = (
        f"{declared}<Error><Code>{code}</Code><Message>{message}</Message>"
        f"{details}"
        f"<RequestId>{request.request_id}</RequestId><HostId>{host_id}</HostId></Error>"
    )
    lines = [
        f"HTTP/1.1 {status}",
        f"x-amz-request-id: {request.request_id}",
        f"x-amz-id-2: {host_id}",
        "Content-Type: application/xml",
        "Transfer-Encoding: chunked",
        f"Date: {format_datetime(now, usegmt=True)}",
        "Server: AmazonS3",
        *(["Connection: close"] if close else []),
    ]
    body = "" if request.method == "HEAD" else f"{len(xml):x}\r\n{xml}\r\n0\r\n\r\n"
    return ("\r\n".join([*lines, "", ""]) + body).encode()


def _details(fault: Fault, request: Request, now: datetime) -> str:
    if fault is Fault.CLOCK_SKEW:
        return (
            f"<RequestTime>{now - _SKEW:%Y%m%dT%H%M%SZ}</RequestTime>"
            f"<ServerTime>{now:{_TIME}}</ServerTime>"
            "<MaxAllowedSkewMilliseconds>900000</MaxAllowedSkewMilliseconds>"
        )
    if fault is Fault.EXPIRED_TOKEN and request.credentials:
        return f"<Token-0>{escape(request.credentials[1])}</Token-0>"
    if fault is Fault.REPLACED:
        return "<Condition>If-Match</Condition>"
    return ""
