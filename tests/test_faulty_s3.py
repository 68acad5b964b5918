"""The S3 that fails on demand, for boto3 and a real server: each fault is what it says."""

import contextlib
import functools
import hashlib
import http.client
import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    HTTPClientError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from urllib3.exceptions import HTTPError as UrllibError

from tests.faults import Fault, FaultyS3
from tests.faults.plain import connection_to, socket_to
from tests.processes_under_test import wait_until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


KEY = "raw/one.json"
BODY = bytes(random.Random(0).choices(range(32, 127), k=200_000))
"""More than a piece of the proxy's, and more than S3 clients read at once."""

PART = os.urandom(5 << 20)


def client_of(url: str, token: str | None = None, read_seconds: float = 30) -> "S3Client":
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        aws_session_token=token,
        config=Config(
            retries={"total_max_attempts": 1},
            read_timeout=read_seconds,
            max_pool_connections=32,
            # What is stored with a checksum would be refused for it: here the fault is to be seen.
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"},
        ),
    )


shared_client_of = functools.cache(client_of)


@pytest.fixture
def name(bucket: str) -> str:
    return bucket.removeprefix("s3://")


@pytest.fixture
def behind(s3_server: str, name: str) -> "S3Client":
    """Past the proxy, in a bucket that holds one object."""
    client = shared_client_of(s3_server)
    client.put_object(Bucket=name, Key=KEY, Body=BODY)
    return client


@pytest.fixture
def s3(faulty_s3: FaultyS3, behind: "S3Client") -> "S3Client":
    """Through the proxy."""
    assert behind
    return client_of(faulty_s3.url)


def get(s3: "S3Client", bucket: str, **more: Any) -> bytes:
    return s3.get_object(**{"Bucket": bucket, "Key": KEY} | more)["Body"].read()


def wait_until_open(proxy: FaultyS3, connections: int) -> None:
    wait_until(lambda: proxy.connections() == connections, lambda: f"{proxy.connections()} open")


def code_of(caught: pytest.ExceptionInfo[ClientError]) -> str:
    return str(caught.value.response["Error"]["Code"])


def keys_in(behind: "S3Client", bucket: str) -> set[str]:
    return {one["Key"] for one in behind.list_objects_v2(Bucket=bucket).get("Contents", [])}


# Without a fault


def test_everything_goes_through_as_it_came(
    s3: "S3Client", name: str, behind: "S3Client", faulty_s3: FaultyS3
) -> None:
    written = s3.put_object(Bucket=name, Key="häß/w+o r=d&.txt", Body=BODY * 20)
    assert behind.get_object(Bucket=name, Key="häß/w+o r=d&.txt")["Body"].read() == BODY * 20
    through, past = (one.get_object(Bucket=name, Key=KEY) for one in (s3, behind))
    assert through["Body"].read() == past["Body"].read() == BODY
    assert through["ETag"] == past["ETag"] != written["ETag"]
    assert s3.head_object(Bucket=name, Key=KEY)["ContentLength"] == len(BODY)
    assert get(s3, name, Range="bytes=5-9") == BODY[5:10]
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket=name, Key="nothing")
    s3.delete_object(Bucket=name, Key=KEY)
    s3.delete_objects(Bucket=name, Delete={"Objects": [{"Key": "häß/w+o r=d&.txt"}]})
    assert keys_in(behind, name) == set()
    s3.list_objects_v2(Bucket=name, Prefix="a b/")
    asked = [(one.operation, one.key, one.detail) for one in faulty_s3.control.requests()]
    assert asked == [
        ("PutObject", "häß/w+o r=d&.txt", ""),
        ("GetObject", KEY, ""),
        ("HeadObject", KEY, ""),
        ("GetObject", KEY, "bytes=5-9"),
        ("GetObject", "nothing", ""),
        ("DeleteObject", KEY, ""),
        ("DeleteObjects", "", ""),
        ("ListObjectsV2", "a b/", ""),
    ]
    assert {one.bucket for one in faulty_s3.control.requests()} == {name}
    assert {one.credentials for one in faulty_s3.control.requests()} == {("test", "")}
    assert faulty_s3.control.seen() == []


def test_an_upload_in_parts_goes_through(
    s3: "S3Client", name: str, behind: "S3Client", faulty_s3: FaultyS3
) -> None:
    upload_id, parts = begin_upload(s3, name)
    complete(s3, name, upload_id, parts)
    assert get(behind, name) == PART + b"the end"
    asked = [(one.operation, one.detail) for one in faulty_s3.control.requests()]
    assert asked == [
        ("CreateMultipartUpload", ""),
        ("UploadPart", "1"),
        ("UploadPart", "2"),
        ("CompleteMultipartUpload", ""),
    ]


def test_connections_stay_open(faulty_s3: FaultyS3) -> None:
    connection = connection_to(faulty_s3.url)
    kept = []
    for method, path in [("GET", "/"), ("HEAD", "/nowhere"), ("PUT", "/nowhere/k"), ("GET", "/")]:
        connection.request(method, path, body=b"x" if method == "PUT" else None)
        connection.getresponse().read()
        kept.append(connection.sock)
    assert kept[0] is not None
    assert set(kept) == {kept[0]}
    assert faulty_s3.connections() == 1
    connection.close()
    wait_until_open(faulty_s3, 0)


def test_a_client_that_goes_away_leaves_no_half_of_an_object(
    faulty_s3: FaultyS3, behind: "S3Client", name: str
) -> None:
    with socket_to(faulty_s3.url) as client:
        client.sendall(f"PUT /{name}/half HTTP/1.1\r\nContent-Length: 9\r\n\r\nbeg".encode())
        wait_until(faulty_s3.control.requests, lambda: "no request came")
    wait_until_open(faulty_s3, 0)
    assert keys_in(behind, name) == {KEY}


# Errors that S3 answers with


REFUSALS = {
    Fault.INTERNAL_ERROR: (500, "InternalError"),
    Fault.SLOW_DOWN: (503, "SlowDown"),
    Fault.TOO_MANY_REQUESTS: (429, "TooManyRequests"),
    Fault.CLOCK_SKEW: (403, "RequestTimeTooSkewed"),
    Fault.EXPIRED_TOKEN: (400, "ExpiredToken"),
}


@pytest.mark.parametrize("fault", REFUSALS)
def test_boto_understands_a_refusal_of_anything_and_the_server_never_hears_of_it(
    faulty_s3: FaultyS3, s3: "S3Client", behind: "S3Client", name: str, fault: Fault
) -> None:
    upload_id = behind.create_multipart_upload(Bucket=name, Key=KEY)["UploadId"]
    calls: dict[str, Callable[[], object]] = {
        "HeadObject": lambda: s3.head_object(Bucket=name, Key=KEY),
        "ListObjectsV2": lambda: s3.list_objects_v2(Bucket=name),
        "PutObject": lambda: s3.put_object(Bucket=name, Key="new", Body=BODY),
        "UploadPart": lambda: s3.upload_part(
            Bucket=name, Key=KEY, UploadId=upload_id, PartNumber=1, Body=BODY
        ),
    }
    for operation, call in calls.items():
        faulty_s3.control.fail(fault, operation=operation)
        with pytest.raises(ClientError) as caught:
            call()
        status, code = REFUSALS[fault]
        assert code_of(caught) == (str(status) if operation == "HeadObject" else code)
        faulty_s3.control.calm()
    assert keys_in(behind, name) == {KEY}
    assert "Parts" not in behind.list_parts(Bucket=name, Key=KEY, UploadId=upload_id)
    for call in calls.values():
        call()
    behind.abort_multipart_upload(Bucket=name, Key=KEY, UploadId=upload_id)
    assert set(faulty_s3.control.counts()) == {fault}


def test_credentials_stay_expired_until_others_are_used(
    faulty_s3: FaultyS3, behind: "S3Client", name: str
) -> None:
    assert behind
    old, new = (client_of(faulty_s3.url, token) for token in ("old <&>", "new"))
    faulty_s3.control.fail(Fault.EXPIRED_TOKEN, after=1)
    assert get(old, name) == BODY
    for _ in range(3):
        with pytest.raises(ClientError) as caught:
            get(old, name)
        assert code_of(caught) == "ExpiredToken"
        assert caught.value.response["Error"]["Token-0"] == "old <&>"  # type: ignore[typeddict-item]
        assert get(new, name) == BODY
    assert faulty_s3.control.counts() == {Fault.EXPIRED_TOKEN: 3}


# Connections that break


def assert_reset(url: str, method: str, path: str, body: bytes | None = None) -> None:
    def ask() -> None:
        connection.request(method, path, body=body)
        connection.getresponse()

    connection = connection_to(url)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        ask()
    connection.close()


@pytest.mark.parametrize("body", [None, b"small", BODY * 20])
def test_a_reset_comes_before_an_answer_and_before_the_server(
    faulty_s3: FaultyS3, behind: "S3Client", name: str, body: bytes | None
) -> None:
    faulty_s3.control.fail(Fault.RESET)
    assert_reset(faulty_s3.url, "PUT" if body else "GET", f"/{name}/new", body)
    assert keys_in(behind, name) == {KEY}


def test_a_part_of_an_upload_can_be_reset(
    faulty_s3: FaultyS3, s3: "S3Client", behind: "S3Client", name: str
) -> None:
    upload_id = s3.create_multipart_upload(Bucket=name, Key="new")["UploadId"]
    faulty_s3.control.fail(Fault.RESET, operation="UploadPart")
    part: Any = {"Bucket": name, "Key": "new", "UploadId": upload_id, "PartNumber": 1}
    with pytest.raises(HTTPClientError):
        s3.upload_part(**part, Body=PART)
    assert "Parts" not in behind.list_parts(Bucket=name, Key="new", UploadId=upload_id)
    s3.upload_part(**part, Body=PART)
    assert len(behind.list_parts(Bucket=name, Key="new", UploadId=upload_id)["Parts"]) == 1
    behind.abort_multipart_upload(Bucket=name, Key="new", UploadId=upload_id)


def test_an_answer_that_is_lost_is_to_what_was_done(
    faulty_s3: FaultyS3, s3: "S3Client", behind: "S3Client", name: str
) -> None:
    upload_id, parts = begin_upload(s3, name)
    faulty_s3.control.fail(Fault.ANSWER_LOST, times=3)
    assert get(s3, name) == BODY  # which it cannot happen to
    with pytest.raises(HTTPClientError):
        s3.put_object(Bucket=name, Key="new", Body=BODY)
    with pytest.raises(HTTPClientError):
        complete(s3, name, upload_id, parts)
    assert_reset(faulty_s3.url, "PUT", f"/{name}/other", b"small")
    assert keys_in(behind, name) == {KEY, "new", "other"}
    assert get(behind, name) == PART + b"the end"
    assert faulty_s3.control.seen() == [
        (Fault.ANSWER_LOST, "PUT", "new"),
        (Fault.ANSWER_LOST, "POST", KEY),
        (Fault.ANSWER_LOST, "PUT", "other"),
    ]


def test_a_stalled_request_goes_on_when_it_is_released(
    faulty_s3: FaultyS3, s3: "S3Client", behind: "S3Client", name: str
) -> None:
    faulty_s3.control.fail(Fault.STALLED)
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(s3.put_object, Bucket=name, Key="new", Body=BODY)
        faulty_s3.control.wait_for(Fault.STALLED)
        assert keys_in(behind, name) == {KEY}
        assert not waiting.done()
        faulty_s3.control.release()
        assert waiting.result()["ETag"]
    assert keys_in(behind, name) == {KEY, "new"}


def test_the_server_never_gets_what_a_client_gave_up(
    faulty_s3: FaultyS3, behind: "S3Client", name: str
) -> None:
    faulty_s3.control.fail(Fault.STALLED)
    connection = connection_to(faulty_s3.url)
    connection.request("PUT", f"/{name}/new", body=BODY)
    faulty_s3.control.wait_for(Fault.STALLED)
    connection.close()
    wait_until_open(faulty_s3, 0)
    faulty_s3.control.release()
    assert keys_in(behind, name) == {KEY}


# Bodies


@dataclass(frozen=True)
class Got:
    """What a client that checks nothing makes of an answer."""

    promised: int
    etag: str
    body: bytes
    ended_by: type[Exception] | None


SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=me/20211108/us-east-1/s3/aws4_request"}


def ask(connection: http.client.HTTPConnection, bucket: str) -> Got:
    connection.request("GET", f"/{bucket}/{KEY}", headers=SIGNED)
    answer = connection.getresponse()
    body, error = b"", None
    try:
        while piece := answer.read(4000):
            body += piece
    except OSError as broken:
        error = type(broken)
    return Got(int(answer.headers["Content-Length"]), answer.headers["ETag"], body, error)


HALF = len(BODY) // 2
ETAG = f'"{hashlib.md5(BODY).hexdigest()}"'


def test_a_body_ends_in_the_middle(
    faulty_s3: FaultyS3, s3: "S3Client", behind: "S3Client", name: str
) -> None:
    assert behind
    expected = {
        Fault.RESET_IN_BODY: (Got(len(BODY), ETAG, BODY[:HALF], ConnectionResetError), True),
        Fault.TRUNCATED: (Got(len(BODY), ETAG, BODY[:HALF], None), True),
        Fault.SHORTENED: (Got(HALF, ETAG, BODY[:HALF], None), False),
    }
    for fault, (got, closes) in expected.items():
        faulty_s3.control.fail(fault)
        connection = connection_to(faulty_s3.url)
        assert ask(connection, name) == got
        if not closes:
            assert ask(connection, name).body == BODY
        connection.close()
    for fault in (Fault.RESET_IN_BODY, Fault.TRUNCATED):
        faulty_s3.control.fail(fault)
        with pytest.raises(ResponseStreamingError):
            get(s3, name)
        assert get(s3, name) == BODY
    assert faulty_s3.control.counts() == {
        Fault.RESET_IN_BODY: 2,
        Fault.TRUNCATED: 2,
        Fault.SHORTENED: 1,
    }


def test_one_bit_is_flipped(faulty_s3: FaultyS3, name: str, behind: "S3Client") -> None:
    assert behind
    faulty_s3.control.fail(Fault.FLIPPED_BYTE)
    connection = connection_to(faulty_s3.url)
    got = ask(connection, name)
    assert (got.promised, got.etag, len(got.body)) == (len(BODY), ETAG, len(BODY))
    changed = [(at, a ^ b) for at, (a, b) in enumerate(zip(BODY, got.body, strict=True)) if a != b]
    assert changed == [(HALF, 1)]
    assert ask(connection, name).body == BODY
    connection.close()


def test_an_object_is_replaced_behind_a_listing(
    faulty_s3: FaultyS3, s3: "S3Client", name: str
) -> None:
    faulty_s3.control.fail(Fault.REPLACED, times=2)
    [listed] = s3.list_objects_v2(Bucket=name)["Contents"]
    with pytest.raises(ClientError) as caught:
        get(s3, name, IfMatch=listed["ETag"])
    assert code_of(caught) == "PreconditionFailed"
    answer = s3.get_object(Bucket=name, Key=KEY)
    other = answer["Body"].read()
    assert len(other) == len(BODY)
    assert other != BODY
    assert answer["ETag"] == f'"{hashlib.md5(other).hexdigest()}"' != listed["ETag"]
    assert get(s3, name, IfMatch=listed["ETag"]) == BODY


def test_a_body_stalls_until_it_is_released_or_given_up(
    faulty_s3: FaultyS3, s3: "S3Client", name: str
) -> None:
    faulty_s3.control.fail(Fault.STALLED_IN_BODY, times=2)
    body = s3.get_object(Bucket=name, Key=KEY)["Body"]
    assert body.read(HALF) == BODY[:HALF]
    faulty_s3.control.release()
    assert body.read() == BODY[HALF:]
    with pytest.raises(ReadTimeoutError):
        get(client_of(faulty_s3.url, read_seconds=0.2), name)
    wait_until_open(faulty_s3, 1)


def test_a_drip_takes_its_time_unless_it_is_released(
    faulty_s3: FaultyS3, s3: "S3Client", name: str
) -> None:
    faulty_s3.control.fail(Fault.DRIP, seconds=0.2)
    began = time.monotonic()  # it cannot be quicker, however slow the machine
    assert get(s3, name) == BODY
    assert time.monotonic() - began >= 0.2
    faulty_s3.control.fail(Fault.DRIP, seconds=3600)
    body = s3.get_object(Bucket=name, Key=KEY)["Body"]
    faulty_s3.control.release()
    assert body.read() == BODY
    assert faulty_s3.control.counts() == {Fault.DRIP: 2}


def test_an_answer_without_a_body_is_not_harmed_and_does_not_count(
    faulty_s3: FaultyS3, s3: "S3Client", behind: "S3Client", name: str
) -> None:
    behind.put_object(Bucket=name, Key="empty")
    rule = faulty_s3.control.fail(Fault.TRUNCATED)
    s3.head_object(Bucket=name, Key=KEY)
    assert s3.get_object(Bucket=name, Key="empty")["Body"].read() == b""
    assert not rule.is_over
    assert faulty_s3.control.seen() == []
    with pytest.raises(ResponseStreamingError):
        get(s3, name)
    assert rule.is_over


# Uploads in parts, and listings


def begin_upload(s3: "S3Client", bucket: str) -> tuple[str, list[Any]]:
    """An upload of two parts that is to be completed."""
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key=KEY)["UploadId"]
    parts = [
        {
            "PartNumber": number,
            "ETag": s3.upload_part(
                Bucket=bucket, Key=KEY, UploadId=upload_id, PartNumber=number, Body=body
            )["ETag"],
        }
        for number, body in enumerate((PART, b"the end"), 1)
    ]
    return upload_id, parts


def complete(s3: "S3Client", bucket: str, upload_id: str, parts: list[Any]) -> None:
    s3.complete_multipart_upload(
        Bucket=bucket, Key=KEY, UploadId=upload_id, MultipartUpload={"Parts": parts}
    )


@pytest.mark.parametrize("is_done", [False, True])
def test_a_completion_says_200_with_an_error_inside(
    faulty_s3: FaultyS3, s3: "S3Client", behind: "S3Client", name: str, is_done: bool
) -> None:
    fault = Fault.COMPLETION_UNSURE if is_done else Fault.COMPLETION_FAILED
    upload_id, parts = begin_upload(s3, name)
    faulty_s3.control.fail(fault)
    with pytest.raises(ClientError) as caught:
        complete(s3, name, upload_id, parts)
    assert code_of(caught) == "InternalError"
    assert (get(behind, name) == PART + b"the end") is is_done
    if not is_done:
        complete(s3, name, upload_id, parts)
        assert get(behind, name) == PART + b"the end"
    assert faulty_s3.control.seen() == [(fault, "POST", KEY)]


def test_a_completion_with_an_error_inside_has_status_200_on_the_wire(
    faulty_s3: FaultyS3, name: str
) -> None:
    faulty_s3.control.fail(Fault.COMPLETION_FAILED)
    connection = connection_to(faulty_s3.url)
    connection.request("POST", f"/{name}/{KEY}?uploadId=u", body=b"<xml/>")
    answer = connection.getresponse()
    assert answer.status == 200
    assert ElementTree.fromstring(answer.read()).findtext("Code") == "InternalError"
    connection.close()


def test_a_completion_that_the_server_refuses_is_not_said_to_be_done(
    faulty_s3: FaultyS3, s3: "S3Client", name: str
) -> None:
    rule = faulty_s3.control.fail(Fault.COMPLETION_UNSURE)
    with pytest.raises(ClientError) as caught:
        complete(s3, name, "no-such-upload", [{"PartNumber": 1, "ETag": "e"}])
    assert code_of(caught) == "NoSuchUpload"
    assert not rule.is_over


@pytest.fixture
def ten_keys(behind: "S3Client", name: str) -> list[str]:
    keys = [f"raw/{number}+ü" for number in range(10)]
    for key in keys:
        behind.put_object(Bucket=name, Key=key)
    return sorted([*keys, KEY])


def listed(s3: "S3Client", bucket: str, **more: Any) -> list[list[str]]:
    """The keys, by page."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, **more)
    return [[one["Key"] for one in page.get("Contents", [])] for page in pages]


def test_a_listing_comes_in_short_pages_and_misses_nothing(
    faulty_s3: FaultyS3, s3: "S3Client", name: str, ten_keys: list[str]
) -> None:
    faulty_s3.control.fail(Fault.SHORT_PAGE, times=2)
    pages = listed(s3, name, Prefix="raw/")
    assert [len(page) for page in pages] == [3, 3, 5]
    assert [key for page in pages for key in page] == ten_keys
    faulty_s3.control.fail(Fault.SHORT_PAGE)
    assert len(s3.list_objects_v2(Bucket=name, MaxKeys=1)["Contents"]) == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.SLOW_DOWN, ClientError),
        (Fault.TRUNCATED, ClientError),
        (Fault.SHORTENED, ClientError),
        (Fault.RESET_IN_BODY, ConnectionClosedError),
    ],
)
def test_a_listing_fails_on_its_second_page(
    faulty_s3: FaultyS3,
    s3: "S3Client",
    name: str,
    ten_keys: list[str],
    fault: Fault,
    error: type[Exception],
) -> None:
    options: Any = {"Prefix": "raw/", "PaginationConfig": {"PageSize": 6}}
    faulty_s3.control.fail(fault, operation="ListObjectsV2", key="raw/*", after=1)
    assert len(s3.list_objects_v2(Bucket=name)["Contents"]) == 11  # of another prefix
    with pytest.raises(error):
        listed(s3, name, **options)
    assert [key for page in listed(s3, name, **options) for key in page] == ten_keys
    assert faulty_s3.control.seen() == [(fault, "GET", "raw/")]


# All at once


def test_everything_can_go_wrong_at_once_and_the_server_stays_whole(
    faulty_s3: FaultyS3, behind: "S3Client", name: str
) -> None:
    bodies = {f"raw/{number}": b"%d" % number * 1000 for number in range(8)}
    for key, body in bodies.items():
        behind.put_object(Bucket=name, Key=key, Body=body)
    s3 = client_of(faulty_s3.url, read_seconds=0.1)
    faults = [fault for fault in Fault if fault is not Fault.EXPIRED_TOKEN]  # the end of all
    faulty_s3.control.storm(1, 0.7, faults, seconds=0.02)

    def use(key: str) -> None:
        for _ in range(6):
            upload: Any = {"Bucket": name, "Key": key}
            upload["UploadId"] = behind.create_multipart_upload(**upload)["UploadId"]
            etag = behind.upload_part(**upload, PartNumber=1, Body=bodies[key])["ETag"]
            parts: Any = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
            calls: list[Callable[[], object]] = [
                lambda: s3.put_object(Bucket=name, Key=key, Body=bodies[key]),
                *[lambda: get(s3, name, Key=key)] * 2,
                lambda: s3.head_object(Bucket=name, Key=key),
                lambda: s3.list_objects_v2(Bucket=name, Prefix=key),
                functools.partial(s3.complete_multipart_upload, **upload, MultipartUpload=parts),
            ]
            for call in calls:
                with contextlib.suppress(BotoCoreError, ClientError, UrllibError):
                    call()

    with ThreadPoolExecutor(4) as threads:
        for _ in threads.map(use, bodies):
            pass
    assert set(faulty_s3.control.counts()) == set(faults)
    faulty_s3.control.calm()
    assert {key: get(s3, name, Key=key) for key in bodies} == bodies
    assert keys_in(behind, name) == {KEY, *bodies}
