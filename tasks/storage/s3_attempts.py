"""The attempts of boto3's calls to S3: each in its time, all counted, and no more than make sense.

boto3 itself tries nothing again here. `Attempts` sends its requests, holds each answer to its
length and to a time, and decides by `tasks.storage.patience` whether there is another attempt.
Credentials that S3 calls expired are looked up afresh. Every attempt that fails is logged as those
of `tasks.storage.gets` are. What is given up is `GivenUp`, a sentence without its beginning.
"""

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from botocore import exceptions as aws
from botocore.awsrequest import AWSResponse

from tasks import secrets
from tasks.storage import budget, dialect, tally
from tasks.storage.answers import Failure, Kind, refusal_of
from tasks.storage.dialect import Feature
from tasks.storage.encodings import plain
from tasks.storage.patience import MOMENTS_OF_CLOCK, USED_UP, Patience, tried
from tasks.storage.s3_body import Body, Sending
from tasks.storage.traffic import Traffic

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_log = logging.getLogger("tasks.storage")
_CALL = "tasks.storage.call"
_OPERATIONS = {
    "GetObject": "GET",
    "HeadBucket": "HEAD",
    "HeadObject": "HEAD",
    "ListObjectsV2": "LIST",
    "ListMultipartUploads": "LIST",
    "PutObject": "PUT",
    "CreateMultipartUpload": "multipart",
    "UploadPart": "multipart",
    "CompleteMultipartUpload": "multipart",
    "AbortMultipartUpload": "multipart",
    "DeleteObject": "DELETE",
    "DeleteObjects": "DELETE",
}
_ANSWERED_IN_XML = (
    *("CompleteMultipartUpload", "CreateMultipartUpload", "DeleteObjects"),
    *("ListMultipartUploads", "ListObjectsV2"),
)
_ROOT = re.compile(rb"<([A-Za-z][\w:.-]*)[\s/>]")
_NO_CONTENT = 204
_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"


class _NoAnswer(aws.HTTPClientError):
    fmt = (
        "what came is no answer of S3's, but such as a proxy gives; see that AWS_ENDPOINT_URL_S3, "
        "if it is set, names an S3 server"
    )


_NAMES: tuple[tuple[type[Exception], str], ...] = (  # as those of libcurl's faults
    (_NoAnswer, "not S3's"),
    (aws.EndpointConnectionError, "not connected"),
    (aws.ConnectTimeoutError, "not connected"),
    (aws.ProxyConnectionError, "not connected"),
    (aws.ReadTimeoutError, "stalled"),
    (aws.SSLError, "no TLS"),
    (aws.ConnectionClosedError, "reset"),
    (aws.ResponseStreamingError, "reset"),
    (aws.IncompleteReadError, "cut off"),
    (aws.FlexibleChecksumError, "wrong checksum"),
    (aws.HTTPClientError, "reset"),
)
BODY_FAILS = (aws.HTTPClientError, aws.IncompleteReadError, aws.FlexibleChecksumError)
"""What reading a streamed body raises where another attempt may help."""


class GivenUp(aws.BotoCoreError):
    """What was tried and tried again; its message is what is said behind the name of the thing.

    `kwargs["status"]` is that of the last answer, 0 where none came.
    """

    fmt = "{sentence}"


class _NoWholeDocument(aws.IncompleteReadError):
    fmt = "the answer of {actual_bytes} bytes is no whole document"


@dataclass
class Call:
    """One call and how it went until now."""

    operation: str
    key: str
    began: float
    attempt: int = 0
    attempt_began: float = 0.0
    request_id: str = ""
    size: int = 0
    """Of the body that is sent, in bytes."""
    clock_failures: int = 0
    refused: str = ""
    """How a header of it may have been refused: such as ``400 InvalidArgument``."""
    is_without_checksums: bool = False
    """Whether they were taken out because of that."""


class _Here(threading.local):
    """The attempt that this thread is at: one thread makes a call from beginning to end."""

    began = 0.0
    request_id = ""
    token = ""
    size = 0
    accept = ""


class Attempts:
    """The attempts of one client's calls, from all its threads."""

    def __init__(self, patience: Patience, renew: Callable[[str], bool]) -> None:
        """`renew` gets a session token that has expired; whether there is another one now."""
        self._patience = patience
        self._renew = renew
        self._here = _Here()
        self._dialect = dialect.of(None)

    def attach(self, client: "S3Client") -> None:
        self._dialect = dialect.of(client.meta.endpoint_url)
        self._endpoint: Any = client._endpoint  # type: ignore[attr-defined]  # there is no other way
        events: Any = client.meta.events  # described without what handlers return
        events.register("before-call.s3", self._begin)
        events.register("before-send.s3", self._send)
        events.register("needs-retry.s3", self._after)

    @contextlib.contextmanager
    def accepting(self, encoding: str) -> Iterator[None]:
        """For the calls that this thread makes inside: what to accept objects as."""
        self._here.accept = encoding
        try:
            yield
        finally:
            self._here.accept = ""

    def pause_after_body(self, call: Call, error: Exception) -> float:
        """How long to wait before a body that broke off is asked for again; raises `GivenUp`."""
        call.attempt += 1
        call.attempt_began, call.request_id = self._here.began, self._here.request_id
        pause = self._pause(call, _failure_of(error))
        assert pause is not None  # such failures may pass
        return pause

    def _begin(self, params: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        path = unquote(params["url_path"].partition("?")[0]).removeprefix("/")
        query = params["query_string"]
        prefix = query.get("prefix", "") if isinstance(query, dict) else ""
        operation = _OPERATIONS.get(model.name, model.name)
        if self._dialect.lacks(Feature.CHECKSUMS):
            dialect.leave_out_checksums(params)
        context[_CALL] = Call(operation, path or prefix, time.monotonic())

    def _send(self, request: Any, event_name: str, **_: Any) -> AWSResponse:
        """In place of botocore, which neither looks at lengths nor ever stops reading."""
        name = event_name.rpartition(".")[2]
        operation = _OPERATIONS.get(name, name)
        now = self._here
        now.began, now.request_id = time.monotonic(), ""
        now.token = _text(request.headers.get("X-Amz-Security-Token", ""))
        now.size = sent = int(request.headers.get("Content-Length") or 0)
        if now.accept:  # after it was signed: some servers change this header
            request.headers["Accept-Encoding"] = now.accept
        is_streamed, request.stream_output = request.stream_output, True
        tally.of_process.add(operation, Traffic(attempts=1, bytes=sent))
        if hasattr(request.body, "read"):
            seconds = self._patience.attempt + self._patience.seconds_more(sent)
            request.body = Sending(request.body, request.url, seconds)
        answer = self._endpoint.http_session.send(request)
        now.request_id = answer.headers.get("x-amz-request-id", "")
        told = answer.headers.get("Content-Length", "")
        size = int(told) if told.isdecimal() else None
        body = Body(
            answer.raw,
            answer.url,
            None if request.method == "HEAD" else size,
            self._patience.attempt + self._patience.seconds_more(max(sent, size or 0)),
            lambda came: tally.of_process.add(operation, Traffic(bytes=came)),
        )
        has_body = answer.status_code < 300 and answer.status_code != _NO_CONTENT
        if has_body and _is_web_page(answer.headers):
            body.close()
            raise _NoAnswer
        whole = AWSResponse(answer.url, answer.status_code, answer.headers, body)
        if not is_streamed or answer.status_code >= 300:
            document = whole.content
            if answer.status_code >= 300:
                headers = {name.lower(): _text(value) for name, value in answer.headers.items()}
                document = whole._content = plain(document, headers)  # type: ignore[attr-defined]
            is_due = name in _ANSWERED_IN_XML and answer.status_code == 200
            if not _is_whole(document) and (is_due or document.startswith(b"<")):
                raise _NoWholeDocument(actual_bytes=len(document), expected_bytes=0)
            if is_due and not _is_of_s3(document):
                raise _NoAnswer
        return whole

    def _after(
        self,
        response: tuple[Any, Any] | None,
        caught_exception: Exception | None,
        attempts: int,
        request_dict: dict[str, Any],
        **_: Any,
    ) -> float | None:
        """What botocore asks after each attempt: in how many seconds to try again, if at all."""
        call: Call = request_dict["context"][_CALL]
        now = self._here
        call.attempt, call.attempt_began, call.size = attempts, now.began, now.size
        call.request_id = now.request_id
        failure = _failure(response, caught_exception)
        pause = None if failure is None else self._pause(call, failure, request_dict)
        if pause is None:
            self._count(call)
            if call.is_without_checksums and (failure is None or failure.status in (404, 412)):
                self._dialect.missed(Feature.CHECKSUMS, f"it answers {call.refused}")
        return pause

    def _pause(
        self, call: Call, failure: Failure, request: dict[str, Any] | None = None
    ) -> float | None:
        """How long to wait until the next attempt, None where it makes no sense, or `GivenUp`.

        `request` is what botocore sends again then; it may be changed.
        """
        try:
            pause = self._what_then(call, failure)
            if pause is None and request is not None and self._another_way(call, failure, request):
                pause = 0.0
        except GivenUp:
            self._tell(call, failure, None)
            self._count(call)
            raise
        if pause is not None or failure.status != 404:  # which is an answer as good as any
            self._tell(call, failure, pause)
        if pause is not None:
            budget.of_run.spend()
            tally.of_process.add(call.operation, Traffic(retries={failure.reason: 1}))
        return pause

    def _what_then(self, call: Call, failure: Failure) -> float | None:
        asked = failure.seconds
        if failure.kind is Kind.EXPIRED or (failure.status == 400 and not failure.code):
            if not self._renew(self._here.token):
                return None
        elif failure.kind is Kind.CLOCK:
            asked = 0.0
            call.clock_failures += 1
            if call.clock_failures > MOMENTS_OF_CLOCK:
                return None
        elif failure.kind is not Kind.PASSING:
            return None
        patience = self._patience
        if not budget.of_run.left_of(patience.retries):
            raise GivenUp(sentence=f"it failed ({failure.reason}), {USED_UP}", status=0)
        pause = patience.pause_before_next(call.attempt, call.began, call.size, asked)
        if pause is None:
            raise GivenUp(sentence=_given_up(call, failure), status=failure.status)
        return pause

    def _another_way(self, call: Call, failure: Failure, request: dict[str, Any]) -> bool:
        """Whether to send a refused request again: first as it is, for what is refused once may
        pass; then without checksums, if it has any, which the server may not know."""
        if self._dialect.is_aws or call.is_without_checksums:
            return False
        if not dialect.may_be_of_a_header(failure.status, failure.code):
            return False
        if not dialect.has_checksums(request):
            return False
        if call.refused == failure.reason:
            call.is_without_checksums = True
            dialect.leave_out_checksums(request)
        call.refused = failure.reason
        return True

    def _count(self, call: Call) -> None:
        seconds = time.monotonic() - call.began
        tally.of_process.add(call.operation, Traffic(requests=1, seconds=seconds))

    def _tell(self, call: Call, failure: Failure, pause: float | None) -> None:
        if not _log.isEnabledFor(logging.INFO):
            return
        why = secrets.without(failure.for_log)
        told = {
            "key": call.key,
            "operation": call.operation,
            "status": failure.status,
            "code": failure.code,
            "error": why,
            "request_id": call.request_id,
            "seconds": round(time.monotonic() - call.attempt_began, 3),
            "attempt": call.attempt,
            "backoff": pause if pause is None else round(pause, 3),
        }
        _log.info(
            "%s %a failed: %s (attempt %d, %s)",
            *(call.operation, call.key, why, call.attempt),
            "the last" if pause is None else f"again in {pause:.2f} s",
            extra={"s3": told},
        )


def _given_up(call: Call, failure: Failure) -> str:
    times = tried(call.attempt, call.began)
    if failure.status:
        return f"{failure.sentence} (after {times}; the last answer was {failure.reason})."
    return (
        f"{failure.sentence} (after {times}). Check the network and AWS_ENDPOINT_URL_S3, then run "
        "it again."
    )


def _failure(response: tuple[Any, Any] | None, error: Exception | None) -> Failure | None:
    """What was wrong with an attempt, if anything."""
    if response is None:
        return None if error is None else _failure_of(error)
    answer, parsed = response
    status = int(parsed.get("ResponseMetadata", {}).get("HTTPStatusCode", answer.status_code))
    if status < 300:
        return None
    told = parsed.get("Error", {})
    code = str(told.get("Code") or "")
    headers = {name.lower(): _text(value) for name, value in answer.headers.items()}
    code = "" if code.isdecimal() else code  # the status, as no code came
    return refusal_of(status, code, str(told.get("Message", "")), headers)


def _failure_of(error: Exception) -> Failure:
    """Of an attempt without an answer, or without a whole one."""
    name = next((name for kind, name in _NAMES if isinstance(error, kind)), "")
    kind = Kind.PASSING if name and _UNTRUSTED not in str(error) else Kind.REFUSED
    sentence = str(error).rstrip(" .")
    if _cannot_be_sent(error):
        kind, name = Kind.REFUSED, "not sent"
    if isinstance(error, aws.FlexibleChecksumError):
        sentence = "what came does not have the checksum that S3 keeps of it"
    status = 200 if isinstance(error, _NoAnswer) else 0
    return Failure(kind, name or type(error).__name__, sentence, status, error=sentence)


def _cannot_be_sent(error: Exception) -> bool:
    """Whether the request itself is at fault, as with a header that no line can hold."""
    told = getattr(error, "kwargs", {}).get("error")
    return type(error) is aws.HTTPClientError and isinstance(told, ValueError | TypeError)


def _is_web_page(headers: Mapping[str, str]) -> bool:
    """Whether a proxy, or whoever asks to log in, has answered for S3.

    S3 may call an object of somebody's a page too, but it never leaves out what is its own.
    """
    told = {name.lower(): value for name, value in headers.items()}
    is_page = told.get("content-type", "").lower().startswith("text/html")
    is_empty = told.get("content-length") == "0"  # as some servers answer a PUT
    return is_page and not is_empty and not any(name.startswith("x-amz-") for name in told)


def _is_whole(document: bytes) -> bool:
    """Whether a document of XML goes on to its end."""
    root = _ROOT.search(document)
    end = document.rstrip()
    return root is not None and end.endswith((b"</" + root[1] + b">", b"/>"))


def _is_of_s3(document: bytes) -> bool:
    """Whether a whole document is a result or an error; a web page may be written as XML too."""
    root = _ROOT.search(document)
    name = root[1].rpartition(b":")[2] if root else b""
    return name == b"Error" or name.endswith(b"Result")


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
