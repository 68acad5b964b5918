"""What S3's answer to a GET means: the object, another attempt, or the end of it.

Pure: an answer goes in, a `Failure` comes out, or None where the answer is the whole object.
Whether there is another attempt is for others to decide; this tells what kind of failure it was and
what a person could do about it.
"""

import datetime as dt
import html
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from tasks.storage import StoredObject
from tasks.storage.encodings import SENT_OTHERWISE, is_encoded, is_recoded, plain
from tasks.storage.refusal import remedy

if TYPE_CHECKING:  # boto3's answers are read without libcurl
    from tasks.storage.transfers import Transfer

PARTIAL = 206
OBJECT_COMES = (200, PARTIAL)
"""The statuses of an answer that is the object, or the part of it that was asked for."""

TOO_LONG = "too long"
"""The reason of an answer that goes on behind any end that the object may have."""

_CODE = re.compile(rb"<Code>(\w+)</Code>")
_MESSAGE = re.compile(rb"<Message>([^<]*)</Message>")
_DETAILS = re.compile(rb"<Details>([^<]*)</Details>")
_SKEW_SECONDS = 15 * 60  # S3 takes no request that is further off
_PASSING_STATUS = (429, 500, 502, 503, 504)
_PASSING_CODES = ("RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable")
_CODE_OF_STATUS = {
    301: "PermanentRedirect",
    307: "PermanentRedirect",
    401: "AccessDenied",
    403: "AccessDenied",
    429: "SlowDown",
}
"""What a status means to a person where no code came with it."""


class Kind(Enum):
    """What to do about a failure."""

    PASSING = "try again"
    CLOCK = "try again, at S3's time"
    EXPIRED = "try again, with fresh credentials"
    GONE = "list again: there is no such object any more"
    RECODED = "try again, asking for another encoding"
    CHANGED = "list again: there is another object of this name"
    REFUSED = "give up"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt brought no object.

    `reason` is short, to be counted by; `sentence` is what to tell a person. `status` is 0 where
    no answer came, and `error` is the HTTP client's message then. `seconds` is what S3 asks to wait
    for, or how far its clock is ahead where that is the trouble.
    """

    kind: Kind
    reason: str
    sentence: str
    status: int = 0
    code: str = ""
    request_id: str = ""
    error: str = ""
    seconds: float = 0.0
    said: str = ""
    """What S3 says itself."""

    @property
    def for_log(self) -> str:
        """Why it failed, as it is logged."""
        return self.error or ": ".join(filter(None, (self.reason, self.said)))


def failure_of(transfer: "Transfer", stored: StoredObject, came: int) -> Failure | None:
    """What went wrong with a GET of an object, of which so many bytes have come in all."""
    if (fault := transfer.fault) is not None:
        if fault.name == TOO_LONG:
            return _recoded(transfer, stored, f"more than {transfer.bytes:,}", TOO_LONG)
        kind = Kind.PASSING if fault.may_pass else Kind.REFUSED
        return _of_answer(transfer, kind, fault.name, fault.message, fault.message)
    if transfer.status not in OBJECT_COMES:
        return _refusal(transfer)
    if (failure := not_of_object(transfer, stored)) is not None:
        return failure
    if came != stored.size:
        if came > stored.size or is_encoded(transfer.headers):
            return _recoded(transfer, stored, f"{max(came, transfer.bytes):,}", "wrong length")
        sentence = f"{came:,} bytes of it came, and {stored.size:,} were listed"
        return _of_answer(transfer, Kind.PASSING, "wrong length", sentence)
    return None


def not_of_object(transfer: "Transfer", stored: StoredObject) -> Failure | None:
    """What is wrong with the head of an answer whose body would be taken for the object's."""
    if b'"%b"' % stored.etag.encode() in transfer.raw_head:
        return None
    etag = transfer.headers.get("etag")
    if etag is None:  # from a proxy, or from whoever asks to log in
        sentence = "what came has no ETag, so it is no object of S3's"
        return _of_answer(transfer, Kind.PASSING, "no ETag", sentence)
    if etag.strip('"') != stored.etag:
        return _of_answer(transfer, Kind.CHANGED, "changed", "it was replaced")
    return None


def is_other_form(transfer: "Transfer", stored: StoredObject, offset: int) -> bool:
    """Whether the head of an answer tells that its body will not be the object's bytes.

    The bytes from `offset` on were asked for; all of them may come nevertheless.
    """
    headers = transfer.headers
    told = headers.get("content-length", "")
    due = stored.size - (offset if transfer.status == PARTIAL else 0)
    return int(told) != due if told.isdecimal() else is_recoded(headers)


def _recoded(transfer: "Transfer", stored: StoredObject, came: str, reason: str) -> Failure:
    sentence = f"{stored.size:,} bytes were listed, and {came} came: {SENT_OTHERWISE}"
    return _of_answer(transfer, Kind.RECODED, reason, sentence)


def damaged(transfer: "Transfer", checksum: str) -> Failure:
    """For a body that is not what its checksum says."""
    sentence = f"what came does not have the {checksum} that S3 keeps of it"
    return _of_answer(transfer, Kind.PASSING, "wrong checksum", sentence)


def _of_answer(
    transfer: "Transfer", kind: Kind, reason: str, sentence: str, error: str = ""
) -> Failure:
    """A failure that S3 itself does not know of."""
    request_id = transfer.headers.get("x-amz-request-id", "")
    return Failure(kind, reason, sentence, transfer.status, "", request_id, error)


def _refusal(transfer: "Transfer") -> Failure:
    document = plain(transfer.body, transfer.headers)
    said = (_first(_MESSAGE, document), _first(_DETAILS, document))
    message = " ".join(filter(None, said)) or transfer.reason
    return refusal_of(transfer.status, _first(_CODE, document), message, transfer.headers)


def refusal_of(status: int, code: str, message: str, headers: Mapping[str, str]) -> Failure:
    """What an answer means that is an error; headers by their names in lower case.

    `code` is empty where none came, as in an answer to a HEAD.
    """
    kind, seconds = _kind(status, code, headers), 0.0
    if kind is Kind.CLOCK:
        moment = _moment(headers.get("date", ""))
        kind = Kind.REFUSED if moment is None else kind
        seconds = 0.0 if moment is None else moment - time.time()
    elif headers.get("retry-after", "").isdecimal():
        seconds = float(headers["retry-after"])
    meaning = _CODE_OF_STATUS.get(status, str(status))
    return Failure(
        kind,
        f"{status} {code}".rstrip(),
        remedy(meaning if status == 429 or not code else code, message),
        status,
        code,
        headers.get("x-amz-request-id", ""),
        seconds=seconds,
        said=" ".join(message.split()),
    )


def _kind(status: int, code: str, headers: Mapping[str, str]) -> Kind:
    if status == 404 and code != "NoSuchBucket":
        return Kind.GONE
    if status == 412:
        return Kind.CHANGED
    if code == "RequestTimeTooSkewed" or (status == 403 and not code and _is_skewed(headers)):
        return Kind.CLOCK
    if code == "ExpiredToken":
        return Kind.EXPIRED
    return Kind.PASSING if status in _PASSING_STATUS or code in _PASSING_CODES else Kind.REFUSED


def _is_skewed(headers: Mapping[str, str]) -> bool:
    moment = _moment(headers.get("date", ""))
    return moment is not None and abs(moment - time.time()) > _SKEW_SECONDS


def _first(pattern: re.Pattern[bytes], document: bytes) -> str:
    match = pattern.search(document)
    return html.unescape(match[1].decode("utf-8", "replace")) if match else ""


def _moment(date: str) -> float | None:
    """The time in a Date header, in seconds since the epoch."""
    try:
        moment = dt.datetime.strptime(date, "%a, %d %b %Y %H:%M:%S GMT")
        return moment.replace(tzinfo=dt.UTC).timestamp()
    except ValueError:
        return None
