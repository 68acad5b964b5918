"""The S3 that fails on demand, for boto3: refusals, connections that break, everything at once."""

import contextlib
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from urllib3.exceptions import HTTPError as UrllibError

from tests.faults import Fault, FaultyS3
from tests.faults.plain import connection_to, socket_to
from tests.faulty_bucket import (
    BODY,
    KEY,
    PART,
    begin_upload,
    client_of,
    code_of,
    complete,
    get,
    keys_in,
    wait_until_open,
)
from tests.processes_under_test import wait_until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


# Without a fault


def test_everything_goes_through_as_it_came(
    s3: "S3Client", bucket_name: str, behind: "S3Client", faulty_s3: FaultyS3
) -> None:
    written = s3.put_object(Bucket=bucket_name, Key="häß/w+o r=d&.txt", Body=BODY * 20)
    assert behind.get_object(Bucket=bucket_name, Key="häß/w+o r=d&.txt")["Body"].read() == BODY * 20
    through, past = (one.get_object(Bucket=bucket_name, Key=KEY) for one in (s3, behind))
    assert through["Body"].read() == past["Body"].read() == BODY
    assert through["ETag"] == past["ETag"] != written["ETag"]
    assert s3.head_object(Bucket=bucket_name, Key=KEY)["ContentLength"] == len(BODY)
    assert get(s3, bucket_name, Range="bytes=5-9") == BODY[5:10]
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket=bucket_name, Key="nothing")
    s3.delete_object(Bucket=bucket_name, Key=KEY)
    s3.delete_objects(Bucket=bucket_name, Delete={"Objects": [{"Key": "häß/w+o r=d&.txt"}]})
    assert keys_in(behind, bucket_name) == set()
    s3.list_objects_v2(Bucket=bucket_name, Prefix="a b/")
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
    assert {one.bucket for one in faulty_s3.control.requests()} == {bucket_name}
    assert {one.credentials for one in faulty_s3.control.requests()} == {("test", "")}
    assert faulty_s3.control.seen() == []


def test_an_upload_in_parts_goes_through(
    s3: "S3Client", bucket_name: str, behind: "S3Client", faulty_s3: FaultyS3
) -> None:
    upload_id, parts = begin_upload(s3, bucket_name)
    complete(s3, bucket_name, upload_id, parts)
    assert get(behind, bucket_name) == PART + b"the end"
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
    faulty_s3: FaultyS3, behind: "S3Client", bucket_name: str
) -> None:
    with socket_to(faulty_s3.url) as client:
        client.sendall(f"PUT /{bucket_name}/half HTTP/1.1\r\nContent-Length: 9\r\n\r\nbeg".encode())
        wait_until(faulty_s3.control.requests, lambda: "no request came")
    wait_until_open(faulty_s3, 0)
    assert keys_in(behind, bucket_name) == {KEY}


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
    faulty_s3: FaultyS3, s3: "S3Client", behind: "S3Client", bucket_name: str, fault: Fault
) -> None:
    upload_id = behind.create_multipart_upload(Bucket=bucket_name, Key=KEY)["UploadId"]
    calls: dict[str, Callable[[], object]] = {
        "HeadObject": lambda: s3.head_object(Bucket=bucket_name, Key=KEY),
        "ListObjectsV2": lambda: s3.list_objects_v2(Bucket=bucket_name),
        "PutObject": lambda: s3.put_object(Bucket=bucket_name, Key="new", Body=BODY),
        "UploadPart": lambda: s3.upload_part(
            Bucket=bucket_name, Key=KEY, UploadId=upload_id, PartNumber=1, Body=BODY
        ),
    }
    for operation, call in calls.items():
        faulty_s3.control.fail(fault, operation=operation)
        with pytest.raises(ClientError) as caught:
            call()
        status, code = REFUSALS[fault]
        assert code_of(caught) == (str(status) if operation == "HeadObject" else code)
        faulty_s3.control.calm()
    assert keys_in(behind, bucket_name) == {KEY}
    assert "Parts" not in behind.list_parts(Bucket=bucket_name, Key=KEY, UploadId=upload_id)
    for call in calls.values():
        call()
    behind.abort_multipart_upload(Bucket=bucket_name, Key=KEY, UploadId=upload_id)
    assert set(faulty_s3.control.counts()) == {fault}


def test_credentials_stay_expired_until_others_are_used(
    faulty_s3: FaultyS3, behind: "S3Client", bucket_name: str
) -> None:
    assert behind
    old, new = (client_of(faulty_s3.url, token) for token in ("old <&>", "new"))
    faulty_s3.control.fail(Fault.EXPIRED_TOKEN, after=1)
    assert get(old, bucket_name) == BODY
    for _ in range(3):
        with pytest.raises(ClientError) as caught:
            get(old, bucket_name)
        assert code_of(caught) == "ExpiredToken"
        assert caught.value.response["Error"]["Token-0"] == "old <&>"  # type: ignore[typeddict-item]
        assert get(new, bucket_name) == BODY
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


@pytest.mark.parametrize("body", [None, b"small", BODY * 20], ids=["none", "small", "large"])
def test_a_reset_comes_before_an_answer_and_before_the_server(
    faulty_s3: FaultyS3, behind: "S3Client", bucket_name: str, body: bytes | None
) -> None:
    faulty_s3.control.fail(Fault.RESET)
    assert_reset(faulty_s3.url, "PUT" if body else "GET", f"/{bucket_name}/new", body)
    assert keys_in(behind, bucket_name) == {KEY}


def test_a_part_of_an_upload_can_be_reset(
    faulty_s3: FaultyS3, s3: "S3Client", behind: "S3Client", bucket_name: str
) -> None:
    upload_id = s3.create_multipart_upload(Bucket=bucket_name, Key="new")["UploadId"]
    faulty_s3.control.fail(Fault.RESET, operation="UploadPart")
    part: Any = {"Bucket": bucket_name, "Key": "new", "UploadId": upload_id, "PartNumber": 1}
    with pytest.raises(HTTPClientError):
        s3.upload_part(**part, Body=PART)
    assert "Parts" not in behind.list_parts(Bucket=bucket_name, Key="new", UploadId=upload_id)
    s3.upload_part(**part, Body=PART)
    assert len(behind.list_parts(Bucket=bucket_name, Key="new", UploadId=upload_id)["Parts"]) == 1
    behind.abort_multipart_upload(Bucket=bucket_name, Key="new", UploadId=upload_id)


def test_an_answer_that_is_lost_is_to_what_was_done(
    faulty_s3: FaultyS3, s3: "S3Client", behind: "S3Client", bucket_name: str
) -> None:
    upload_id, parts = begin_upload(s3, bucket_name)
    faulty_s3.control.fail(Fault.ANSWER_LOST, times=3)
    assert get(s3, bucket_name) == BODY  # which it cannot happen to
    with pytest.raises(HTTPClientError):
        s3.put_object(Bucket=bucket_name, Key="new", Body=BODY)
    with pytest.raises(HTTPClientError):
        complete(s3, bucket_name, upload_id, parts)
    assert_reset(faulty_s3.url, "PUT", f"/{bucket_name}/other", b"small")
    assert keys_in(behind, bucket_name) == {KEY, "new", "other"}
    assert get(behind, bucket_name) == PART + b"the end"
    assert faulty_s3.control.seen() == [
        (Fault.ANSWER_LOST, "PUT", "new"),
        (Fault.ANSWER_LOST, "POST", KEY),
        (Fault.ANSWER_LOST, "PUT", "other"),
    ]


def test_a_stalled_request_goes_on_when_it_is_released(
    faulty_s3: FaultyS3, s3: "S3Client", behind: "S3Client", bucket_name: str
) -> None:
    faulty_s3.control.fail(Fault.STALLED)
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(s3.put_object, Bucket=bucket_name, Key="new", Body=BODY)
        faulty_s3.control.wait_for(Fault.STALLED)
        assert keys_in(behind, bucket_name) == {KEY}
        assert not waiting.done()
        faulty_s3.control.release()
        assert waiting.result()["ETag"]
    assert keys_in(behind, bucket_name) == {KEY, "new"}


def test_the_server_never_gets_what_a_client_gave_up(
    faulty_s3: FaultyS3, behind: "S3Client", bucket_name: str
) -> None:
    faulty_s3.control.fail(Fault.STALLED)
    connection = connection_to(faulty_s3.url)
    connection.request("PUT", f"/{bucket_name}/new", body=BODY)
    faulty_s3.control.wait_for(Fault.STALLED)
    connection.close()
    wait_until_open(faulty_s3, 0)
    faulty_s3.control.release()
    assert keys_in(behind, bucket_name) == {KEY}


# All at once


def test_everything_can_go_wrong_at_once_and_the_server_stays_whole(
    faulty_s3: FaultyS3, behind: "S3Client", bucket_name: str
) -> None:
    bodies = {f"raw/{number}": b"%d" % number * 1000 for number in range(8)}
    for key, body in bodies.items():
        behind.put_object(Bucket=bucket_name, Key=key, Body=body)
    s3 = client_of(faulty_s3.url, read_seconds=0.1)
    faults = [fault for fault in Fault if fault is not Fault.EXPIRED_TOKEN]  # the end of all
    faulty_s3.control.storm(1, 0.7, faults, seconds=0.02)

    def use(key: str) -> None:
        for _ in range(6):
            upload: Any = {"Bucket": bucket_name, "Key": key}
            upload["UploadId"] = behind.create_multipart_upload(**upload)["UploadId"]
            etag = behind.upload_part(**upload, PartNumber=1, Body=bodies[key])["ETag"]
            parts: Any = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
            calls: list[Callable[[], object]] = [
                lambda: s3.put_object(Bucket=bucket_name, Key=key, Body=bodies[key]),
                *[lambda: get(s3, bucket_name, Key=key)] * 2,
                lambda: s3.head_object(Bucket=bucket_name, Key=key),
                lambda: s3.list_objects_v2(Bucket=bucket_name, Prefix=key),
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
    assert {key: get(s3, bucket_name, Key=key) for key in bodies} == bodies
    assert keys_in(behind, bucket_name) == {KEY, *bodies}
