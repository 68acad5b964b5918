"""What reading by the thousand promises when S3 fails: the bytes that were listed, or a reason."""

import base64
import logging
import pickle
import random
import sys
import threading
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tasks.problem import Problem
from tasks.storage import transfers
from tasks.storage.address import Credentials
from tasks.storage.bulk import BulkReader
from tasks.storage.listed import CredentialsExpired
from tasks.storage.patience import Patience
from tasks.storage.traffic import Traffic
from tests.conftest import free_port
from tests.scripted_s3 import (
    REQUEST_ID,
    Answer,
    Exchange,
    ScriptedS3,
    close,
    cut_off,
    error,
    fine,
    flipped,
    garbage,
    having,
    reset,
    reset_half_way,
    shortened,
)

PATIENCE = Patience(first_pause=0.001, longest_pause=0.01)
WHO = Credentials("AKIDPLANTED", "planted-secret", "planted-token")
BODY = random.Random(0).randbytes(170_000)
CRC32 = base64.b64encode(zlib.crc32(BODY).to_bytes(4, "big")).decode()
SLOW_DOWN = error("503 Slow Down", "SlowDown")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedS3]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ScriptedS3({"a": BODY, "b": b"b", "empty": b""}) as server:
        yield server


def reader_of(s3: ScriptedS3, at_once: int = 4, **patience: Any) -> BulkReader:
    return BulkReader(s3.source, at_once, replace(PATIENCE, **patience))


def test_bodies_come_in_the_order_that_was_asked_for(s3: ScriptedS3) -> None:
    first_is_asked, others_came = threading.Event(), threading.Event()

    def late(exchange: Exchange) -> bool:
        first_is_asked.set()
        return others_came.wait(20) and fine(exchange)

    def last(exchange: Exchange) -> bool:
        others_came.set()
        return first_is_asked.wait(20) and fine(exchange)

    s3.answers("a", late)
    s3.answers("empty", last)
    reader = reader_of(s3)
    assert reader.read(s3.listed(), WHO) == [BODY, b"b", b""]
    assert reader.read([], WHO) == []


def test_connections_are_kept_and_no_more_than_are_wanted(s3: ScriptedS3) -> None:
    s3.objects |= {f"raw/{number}": b"%d" % number for number in range(60)}
    wanted = s3.listed(*(f"raw/{number}" for number in range(60)))
    reader = reader_of(s3)
    for _ in range(3):
        assert reader.read(wanted, WHO) == [b"%d" % number for number in range(60)]
    assert s3.connections <= 4
    assert len(s3.requests) == 180


def test_a_reader_keeps_no_body(s3: ScriptedS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "_STALL_LOOKS", 1_000_000)
    reader = reader_of(s3)
    s3.answers("a", fine, fine, cut_off)
    for _ in range(20):
        [body] = reader.read(s3.listed("a"), WHO)
        assert sys.getrefcount(body) == 2


def test_what_is_asked_for_is_the_version_that_was_listed(s3: ScriptedS3) -> None:
    [listed] = s3.listed("a")
    reader_of(s3).read([listed], WHO)
    [request] = s3.requests
    assert request.target == "/bucket/deep/a"
    assert request.headers["if-match"] == f'"{listed.etag}"'
    assert request.headers["host"] == s3.url.removeprefix("http://")
    assert request.headers["x-amz-security-token"] == WHO.token
    assert request.headers["x-amz-checksum-mode"] == "ENABLED"
    assert "/eu-west-1/s3/aws4_request" in request.headers["authorization"]


def test_without_credentials_it_asks_as_anybody_may(s3: ScriptedS3) -> None:
    assert reader_of(s3).read(s3.listed("b"), None) == [b"b"]
    assert "authorization" not in s3.requests[0].headers


# What passes


PASSING: dict[str, tuple[Answer, str]] = {
    "500": (error("500 Internal Server Error", "InternalError"), "500 InternalError"),
    "502 of a proxy": (error("502 Bad Gateway"), "502"),
    "503": (SLOW_DOWN, "503 SlowDown"),
    "503 with a time": (error("503 Slow Down", "SlowDown", Retry_After="1"), "503 SlowDown"),
    "504": (error("504 Gateway Timeout"), "504"),
    "429": (error("429 Too Many Requests", "TooManyRequests"), "429 TooManyRequests"),
    "400 that passes": (error("400 Bad Request", "RequestTimeout"), "400 RequestTimeout"),
    "reset": (reset, "reset"),
    "reset half way": (reset_half_way, "reset"),
    "no answer": (close, "no answer"),
    "cut off": (cut_off, "cut off"),
    "another length": (shortened, "wrong length"),
    "flipped bit": (flipped(x_amz_checksum_crc32=CRC32), "wrong checksum"),
    "no HTTP": (garbage, "no HTTP"),
    "far too long": (
        lambda exchange: exchange.send("200 OK", b"x" * (2 << 20), ETag=f'"{exchange.etag}"'),
        "too long",
    ),
}


KNOWN_AT_THE_END = ("flipped bit", "far too long")
"""What a stream finds out when the bytes have been given away."""

WAYS = [("read", name) for name in PASSING]
WAYS += [("stream", name) for name in PASSING if name not in KNOWN_AT_THE_END]


@pytest.mark.parametrize(("way", "name"), WAYS)
def test_what_passes_is_tried_again(s3: ScriptedS3, way: str, name: str) -> None:
    answer, reason = PASSING[name]
    s3.answers("a", answer, answer)
    reader = reader_of(s3)
    [listed] = s3.listed("a")
    if way == "read":
        assert reader.read([listed], WHO) == [BODY]
    else:
        assert b"".join(reader.stream(listed, WHO)) == BODY
    traffic = reader.traffic()
    assert (traffic.requests, traffic.attempts) == (1, 3)
    assert traffic.retries == {reason: 2}
    assert traffic.bytes >= len(BODY)
    assert traffic.seconds > 0
    assert reader.traffic() == Traffic()


@pytest.mark.parametrize("way", ["read", "stream"])
def test_a_stalled_answer_is_given_up(s3: ScriptedS3, way: str) -> None:
    s3.answers("a", s3.stall)
    reader = reader_of(s3, stall=0.4)
    [listed] = s3.listed("a")
    read = reader.read([listed], WHO) if way == "read" else list(reader.stream(listed, WHO))
    assert b"".join(read) == BODY
    assert reader.traffic().retries.keys() == {"stalled"}


def test_an_answer_that_comes_slowly_is_waited_for(s3: ScriptedS3) -> None:
    s3.answers("a", s3.drip(pause=0.03, pieces=60))
    reader = reader_of(s3, stall=1.5)
    assert reader.read(s3.listed("a"), WHO) == [BODY]
    assert reader.traffic().attempts == 1


def test_an_attempt_has_an_end_however_slowly_it_goes_on(s3: ScriptedS3) -> None:
    s3.objects["b"] *= 10_000
    s3.answers("b", s3.drip(pause=0.02, pieces=10_000))
    reader = reader_of(s3, attempt=0.3)
    assert reader.read(s3.listed("b"), WHO) == [s3.objects["b"]]
    assert reader.traffic().retries.keys() == {"timeout"}


def test_a_connection_that_was_closed_meanwhile_costs_no_retry(s3: ScriptedS3) -> None:
    def answer_and_close(exchange: Exchange) -> bool:
        fine(exchange)
        return False

    s3.answers("b", answer_and_close)
    reader = reader_of(s3)
    for _ in range(2):
        assert reader.read(s3.listed("b"), WHO) == [b"b"]
    assert reader.traffic().retries == {}


def test_a_stream_goes_on_where_it_broke_off(s3: ScriptedS3) -> None:
    s3.answers("a", cut_off, SLOW_DOWN, reset_half_way)
    [listed] = s3.listed("a")
    assert b"".join(reader_of(s3).stream(listed, WHO)) == BODY
    half = len(BODY) // 2
    assert [one.headers.get("range") for one in s3.requests[:3]] == [
        None,
        f"bytes={half}-",
        f"bytes={half}-",
    ]
    assert {one.headers["if-match"] for one in s3.requests} == {f'"{listed.etag}"'}


def test_a_storm_changes_nothing(s3: ScriptedS3) -> None:
    draw = random.Random(1)
    bodies = {f"raw/{number}": draw.randbytes(number * 100) for number in range(200)}
    s3.objects |= bodies
    faults = [reset, reset_half_way, close, cut_off, SLOW_DOWN, shortened]
    for key in bodies:
        while draw.random() < 0.3:
            s3.answers(key, draw.choice(faults))
    injected = sum(map(len, s3.script.values()))
    reader = reader_of(s3, at_once=16)
    assert reader.read(s3.listed(*bodies), WHO) == list(bodies.values())
    traffic = reader.traffic()
    assert traffic.requests == 199  # there is nothing in one of them
    assert traffic.attempts == 199 + sum(traffic.retries.values())
    # Some of half a tiny body are whole; some resets hit a connection that libcurl tried anew.
    assert injected / 2 < sum(traffic.retries.values()) <= injected


# What does not pass


FINAL: dict[str, tuple[Answer, str]] = {
    "gone": (error("404 Not Found", "NoSuchKey"), "was listed but is gone now"),
    "no bucket": (error("404 Not Found", "NoSuchBucket"), "there is no such bucket"),
    "changed": (error("412 Precondition Failed", "PreconditionFailed"), "was replaced"),
    "another ETag": (having(ETag='"0123"'), "was replaced while its week was converted"),
    "denied": (error("403 Forbidden", "AccessDenied"), "access is denied; this needs s3:List"),
    "denied by a proxy": (error("403 Forbidden"), "access is denied; this needs s3:List"),
    "wrong secret": (error("403 Forbidden", "SignatureDoesNotMatch"), "the secret key is not"),
    "elsewhere": (error("301 Moved"), "the bucket lies in another region; set AWS_REGION"),
    "expired": (error("400 Bad Request", "ExpiredToken"), "the credentials have expired; log in"),
    "something new": (
        error("418 Teapot", "Teapot", "Short and stout"),
        r"S3 answers Teapot \(Short and stout\); mend that",
    ),
}


@pytest.mark.parametrize(("answer", "sentence"), FINAL.values(), ids=FINAL)
@pytest.mark.parametrize("way", ["read", "stream"])
def test_what_does_not_pass_is_said_at_once(
    s3: ScriptedS3, way: str, answer: Answer, sentence: str
) -> None:
    s3.answers("a", answer)
    reader = reader_of(s3)
    [listed] = s3.listed("a")
    with pytest.raises(
        Problem, match=f"^s3://bucket/deep/a (cannot be read: )?{sentence}"
    ) as raised:
        reader.read([listed], WHO) if way == "read" else list(reader.stream(listed, WHO))
    assert len(s3.requests) == 1
    assert isinstance(raised.value, CredentialsExpired) == ("expired" in sentence)
    assert reader.traffic().retries == {}
    assert reader.read(s3.listed("b"), WHO) == [b"b"]  # it can go on


def test_one_that_fails_ends_those_under_way(s3: ScriptedS3) -> None:
    slow_is_asked = threading.Event()

    def slow(exchange: Exchange) -> bool:
        slow_is_asked.set()
        return s3.stall(exchange)

    def denied(exchange: Exchange) -> bool:
        return slow_is_asked.wait(20) and error("403 Forbidden", "AccessDenied")(exchange)

    s3.objects |= {"slow": BODY}
    s3.answers("slow", slow)
    s3.answers("a", denied)
    reader = reader_of(s3)
    with pytest.raises(Problem, match="deep/a cannot be read: access is denied"):
        reader.read(s3.listed("slow", "a"), WHO)
    assert reader.read(s3.listed("slow", "a"), WHO) == [BODY, BODY]


def test_there_is_an_end_to_trying(s3: ScriptedS3) -> None:
    s3.answers("a", *[SLOW_DOWN] * 10)
    with pytest.raises(Problem, match="deep/a cannot be read: S3 asks to slow down, still after"):
        reader_of(s3).read(s3.listed("a"), WHO)
    assert len(s3.requests) == 10
    s3.answers("a", *[cut_off] * 3)
    with pytest.raises(Problem, match=r"cannot be read: .* \(after 3 tries in .*run it again"):
        reader_of(s3, attempts=3).read(s3.listed("a"), WHO)
    s3.answers("a", *[flipped(x_amz_checksum_crc32=CRC32)] * 3)
    with pytest.raises(Problem, match="what came does not have the CRC32 that S3 keeps of it"):
        reader_of(s3, attempts=3).read(s3.listed("a"), WHO)
    s3.answers("a", *[shortened] * 3)
    with pytest.raises(Problem, match="85,000 bytes of it came, and 170,000 were listed"):
        reader_of(s3, attempts=3).read(s3.listed("a"), WHO)


def test_all_attempts_together_have_an_end(s3: ScriptedS3) -> None:
    s3.answers("a", *[SLOW_DOWN] * 1000)
    reader = reader_of(s3, attempts=1000, request=0.3, connect=0.1)
    with pytest.raises(Problem, match="deep/a cannot be read"):
        reader.read(s3.listed("a"), WHO)
    assert s3.script["a"]


def test_the_retries_of_a_run_are_counted_over_all_objects(s3: ScriptedS3) -> None:
    reader = reader_of(s3, retries=5)
    s3.answers("a", SLOW_DOWN, cut_off, cut_off)
    assert reader.read(s3.listed("a"), WHO) == [BODY]
    s3.answers("b", SLOW_DOWN, SLOW_DOWN, SLOW_DOWN)
    with pytest.raises(
        Problem, match=r"read \(503 SlowDown\), and the retries of this run \(retry_b"
    ):
        reader.read(s3.listed("b"), WHO)
    assert reader.traffic().retries == {"503 SlowDown": 3, "cut off": 2}
    assert reader.read(s3.listed("a", "b"), WHO) == [BODY, b"b"]  # as long as nothing fails


def test_a_server_that_is_not_there_is_tried_and_named(s3: ScriptedS3) -> None:
    source = replace(s3.source, bucket_url=f"http://127.0.0.1:{free_port()}/bucket/")
    reader = BulkReader(source, 2, replace(PATIENCE, attempts=3))
    with pytest.raises(Problem, match=r"Failed to connect to 127\.0.* \(after 3 tries in .*AWS_E"):
        reader.read(s3.listed("a"), WHO)
    assert reader.traffic().retries == {"not connected": 2}


# Clocks, checksums


def test_a_clock_that_is_wrong_is_set_by_that_of_s3(s3: ScriptedS3) -> None:
    date = "Sat, 01 Feb 2031 12:00:00 GMT"
    skewed = error("403 Forbidden", "RequestTimeTooSkewed", Date=date)
    s3.answers("a", skewed)
    reader = reader_of(s3)
    assert reader.read(s3.listed("a"), WHO) == [BODY]
    assert reader.read(s3.listed("b"), WHO) == [b"b"]
    dates = [one.headers["x-amz-date"][:11] for one in s3.requests]
    assert dates[1:] == ["20310201T12", "20310201T12"]
    assert "/20310201/eu-west-1/" in s3.requests[1].headers["authorization"]
    s3.answers("a", skewed, skewed, skewed)
    with pytest.raises(Problem, match="this machine's clock is wrong; set it"):
        reader.read(s3.listed("a"), WHO)
    s3.answers("a", error("403 Forbidden", "RequestTimeTooSkewed", Date="lunch time"))
    with pytest.raises(Problem, match="this machine's clock is wrong; set it"):
        reader.read(s3.listed("a"), WHO)


def test_a_flipped_bit_is_found_where_there_is_a_checksum_and_only_there(s3: ScriptedS3) -> None:
    s3.answers("a", flipped())
    assert reader_of(s3).read(s3.listed("a"), WHO) != [BODY]  # none to check by: TLS has its own
    s3.answers("a", flipped())
    careful = BulkReader(s3.source, 4, PATIENCE, check_etag=True)
    assert careful.read(s3.listed("a"), WHO) == [BODY]
    assert careful.traffic().retries == {"wrong checksum": 1}
    s3.answers("a", flipped(x_amz_checksum_crc32=CRC32))
    with pytest.raises(Problem, match=r"the CRC32 that S3 keeps of it\. Run it again"):
        list(careful.stream(s3.listed("a")[0], WHO))


def test_a_stream_that_broke_off_is_checked_as_a_whole(s3: ScriptedS3) -> None:
    def half(exchange: Exchange) -> bool:
        exchange.begin(x_amz_checksum_crc32=CRC32)
        return False

    s3.answers("a", half)
    assert b"".join(reader_of(s3).stream(s3.listed("a")[0], WHO)) == BODY


# What is told


def test_each_failed_attempt_is_logged_with_what_s3_wants_to_know(
    s3: ScriptedS3, caplog: pytest.LogCaptureFixture
) -> None:
    s3.answers("a", SLOW_DOWN, cut_off, error("403 Forbidden", "AccessDenied"))
    with caplog.at_level(logging.INFO, "tasks.storage"), pytest.raises(Problem):
        reader_of(s3).read(s3.listed("a"), WHO)
    told: list[dict[str, Any]] = [record.s3 for record in caplog.records]  # type: ignore[attr-defined]
    assert [(one["attempt"], one["status"], one["code"], one["request_id"]) for one in told] == [
        (1, 503, "SlowDown", REQUEST_ID),
        (2, 200, "", REQUEST_ID),
        (3, 403, "AccessDenied", REQUEST_ID),
    ]
    assert {(one["key"], one["operation"]) for one in told} == {("deep/a", "GET")}
    assert [one["backoff"] is None for one in told] == [False, False, True]
    assert all(one["seconds"] >= 0 for one in told)
    assert "85000 bytes missing" in told[1]["error"]


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_credentials_are_never_shown(
    s3: ScriptedS3, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    echo = f"</Message><Token-0>{WHO.token}</Token-0><AWSAccessKeyId>{WHO.access_key}"
    s3.answers("a", SLOW_DOWN, error("403 Forbidden", code, echo))
    reader = reader_of(s3)
    with caplog.at_level(logging.DEBUG), pytest.raises(Problem) as raised:
        reader.read(s3.listed("a"), WHO)
    shown = [str(raised.value), repr(raised.value), repr(vars(reader)), repr(reader.traffic())]
    shown += [f"{record.getMessage()} {vars(record)}" for record in caplog.records]
    for secret in (WHO.access_key, WHO.secret_key, str(WHO.token), "Signature="):
        assert secret not in "".join(shown)


def test_traffic_can_be_sent_and_added_up() -> None:
    one = Traffic(2, 5, 100, 0.5, {"reset": 2, "503 SlowDown": 1})
    other = pickle.loads(pickle.dumps(Traffic(1, 2, 50, 0.25, {"reset": 1})))
    assert one + other == Traffic(3, 7, 150, 0.75, {"reset": 3, "503 SlowDown": 1})
    assert one + Traffic() == one
    assert one.retries == {"reset": 2, "503 SlowDown": 1}


def test_pauses_grow_are_spread_and_have_a_limit() -> None:
    patience = Patience()
    longest = [max(patience.pause(failed) for _ in range(300)) for failed in (1, 2, 3, 20)]
    assert longest[0] <= 0.1 < longest[1] <= 0.2 < longest[2] <= 0.4
    assert 10 < longest[3] <= 20
    assert min(patience.pause(20) for _ in range(300)) < 5
