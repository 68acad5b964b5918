"""The S3 that fails on demand, when it answers: bodies, completed uploads, pages of listings."""

import hashlib
import http.client
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from tests.faults import Fault, FaultyS3
from tests.faults.plain import connection_to
from tests.faulty_bucket import (
    BODY,
    KEY,
    PART,
    begin_upload,
    client_of,
    code_of,
    complete,
    get,
    wait_until_open,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


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
    faulty_s3: FaultyS3, s3: "S3Client", behind: "S3Client", bucket_name: str
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
        assert ask(connection, bucket_name) == got
        if not closes:
            assert ask(connection, bucket_name).body == BODY
        connection.close()
    for fault in (Fault.RESET_IN_BODY, Fault.TRUNCATED):
        faulty_s3.control.fail(fault)
        with pytest.raises(ResponseStreamingError):
            get(s3, bucket_name)
        assert get(s3, bucket_name) == BODY
    assert faulty_s3.control.counts() == {
        Fault.RESET_IN_BODY: 2,
        Fault.TRUNCATED: 2,
        Fault.SHORTENED: 1,
    }


def test_one_bit_is_flipped(faulty_s3: FaultyS3, bucket_name: str, behind: "S3Client") -> None:
    assert behind
    faulty_s3.control.fail(Fault.FLIPPED_BYTE)
    connection = connection_to(faulty_s3.url)
    got = ask(connection, bucket_name)
    assert (got.promised, got.etag, len(got.body)) == (len(BODY), ETAG, len(BODY))
    changed = [(at, a ^ b) for at, (a, b) in enumerate(zip(BODY, got.body, strict=True)) if a != b]
    assert changed == [(HALF, 1)]
    assert ask(connection, bucket_name).body == BODY
    connection.close()


def test_an_object_is_replaced_behind_a_listing(
    faulty_s3: FaultyS3, s3: "S3Client", bucket_name: str
) -> None:
    faulty_s3.control.fail(Fault.REPLACED, times=2)
    [listed] = s3.list_objects_v2(Bucket=bucket_name)["Contents"]
    with pytest.raises(ClientError) as caught:
        get(s3, bucket_name, IfMatch=listed["ETag"])
    assert code_of(caught) == "PreconditionFailed"
    answer = s3.get_object(Bucket=bucket_name, Key=KEY)
    other = answer["Body"].read()
    assert len(other) == len(BODY)
    assert other != BODY
    assert answer["ETag"] == f'"{hashlib.md5(other).hexdigest()}"' != listed["ETag"]
    assert get(s3, bucket_name, IfMatch=listed["ETag"]) == BODY


def test_a_body_stalls_until_it_is_released_or_given_up(
    faulty_s3: FaultyS3, s3: "S3Client", bucket_name: str
) -> None:
    faulty_s3.control.fail(Fault.STALLED_IN_BODY, times=2)
    body = s3.get_object(Bucket=bucket_name, Key=KEY)["Body"]
    assert body.read(HALF) == BODY[:HALF]
    faulty_s3.control.release()
    assert body.read() == BODY[HALF:]
    with pytest.raises(ReadTimeoutError):
        get(client_of(faulty_s3.url, read_seconds=0.2), bucket_name)
    wait_until_open(faulty_s3, 1)


def test_a_drip_takes_its_time_unless_it_is_released(
    faulty_s3: FaultyS3, s3: "S3Client", bucket_name: str
) -> None:
    faulty_s3.control.fail(Fault.DRIP, seconds=0.2)
    began = time.monotonic()  # it cannot be quicker, however slow the machine
    assert get(s3, bucket_name) == BODY
    assert time.monotonic() - began >= 0.2
    faulty_s3.control.fail(Fault.DRIP, seconds=3600)
    body = s3.get_object(Bucket=bucket_name, Key=KEY)["Body"]
    faulty_s3.control.release()
    assert body.read() == BODY
    assert faulty_s3.control.counts() == {Fault.DRIP: 2}


def test_an_answer_without_a_body_is_not_harmed_and_does_not_count(
    faulty_s3: FaultyS3, s3: "S3Client", behind: "S3Client", bucket_name: str
) -> None:
    behind.put_object(Bucket=bucket_name, Key="empty")
    rule = faulty_s3.control.fail(Fault.TRUNCATED)
    s3.head_object(Bucket=bucket_name, Key=KEY)
    assert s3.get_object(Bucket=bucket_name, Key="empty")["Body"].read() == b""
    assert not rule.is_over
    assert faulty_s3.control.seen() == []
    with pytest.raises(ResponseStreamingError):
        get(s3, bucket_name)
    assert rule.is_over


# Uploads in parts, and listings


@pytest.mark.parametrize("is_done", [False, True])
def test_a_completion_says_200_with_an_error_inside(
    faulty_s3: FaultyS3, s3: "S3Client", behind: "S3Client", bucket_name: str, is_done: bool
) -> None:
    fault = Fault.COMPLETION_UNSURE if is_done else Fault.COMPLETION_FAILED
    upload_id, parts = begin_upload(s3, bucket_name)
    faulty_s3.control.fail(fault)
    with pytest.raises(ClientError) as caught:
        complete(s3, bucket_name, upload_id, parts)
    assert code_of(caught) == "InternalError"
    assert (get(behind, bucket_name) == PART + b"the end") is is_done
    if not is_done:
        complete(s3, bucket_name, upload_id, parts)
        assert get(behind, bucket_name) == PART + b"the end"
    assert faulty_s3.control.seen() == [(fault, "POST", KEY)]


def test_a_completion_with_an_error_inside_has_status_200_on_the_wire(
    faulty_s3: FaultyS3, bucket_name: str
) -> None:
    faulty_s3.control.fail(Fault.COMPLETION_FAILED)
    connection = connection_to(faulty_s3.url)
    connection.request("POST", f"/{bucket_name}/{KEY}?uploadId=u", body=b"<xml/>")
    answer = connection.getresponse()
    assert answer.status == 200
    assert ElementTree.fromstring(answer.read()).findtext("Code") == "InternalError"
    connection.close()


def test_a_completion_that_the_server_refuses_is_not_said_to_be_done(
    faulty_s3: FaultyS3, s3: "S3Client", bucket_name: str
) -> None:
    rule = faulty_s3.control.fail(Fault.COMPLETION_UNSURE)
    with pytest.raises(ClientError) as caught:
        complete(s3, bucket_name, "no-such-upload", [{"PartNumber": 1, "ETag": "e"}])
    assert code_of(caught) == "NoSuchUpload"
    assert not rule.is_over


@pytest.fixture
def ten_keys(behind: "S3Client", bucket_name: str) -> list[str]:
    keys = [f"raw/{number}+ü" for number in range(10)]
    for key in keys:
        behind.put_object(Bucket=bucket_name, Key=key)
    return sorted([*keys, KEY])


def listed(s3: "S3Client", bucket: str, **more: Any) -> list[list[str]]:
    """The keys, by page."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, **more)
    return [[one["Key"] for one in page.get("Contents", [])] for page in pages]


def test_a_listing_comes_in_short_pages_and_misses_nothing(
    faulty_s3: FaultyS3, s3: "S3Client", bucket_name: str, ten_keys: list[str]
) -> None:
    faulty_s3.control.fail(Fault.SHORT_PAGE, times=2)
    pages = listed(s3, bucket_name, Prefix="raw/")
    assert [len(page) for page in pages] == [3, 3, 5]
    assert [key for page in pages for key in page] == ten_keys
    faulty_s3.control.fail(Fault.SHORT_PAGE)
    assert len(s3.list_objects_v2(Bucket=bucket_name, MaxKeys=1)["Contents"]) == 1


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
    bucket_name: str,
    ten_keys: list[str],
    fault: Fault,
    error: type[Exception],
) -> None:
    options: Any = {"Prefix": "raw/", "PaginationConfig": {"PageSize": 6}}
    faulty_s3.control.fail(fault, operation="ListObjectsV2", key="raw/*", after=1)
    assert len(s3.list_objects_v2(Bucket=bucket_name)["Contents"]) == 11  # of another prefix
    with pytest.raises(error):
        listed(s3, bucket_name, **options)
    assert [key for page in listed(s3, bucket_name, **options) for key in page] == ten_keys
    assert faulty_s3.control.seen() == [(fault, "GET", "raw/")]
