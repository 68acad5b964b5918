"""A bucket behind the S3 that fails on demand, for boto3, which here neither retries nor checks."""

import functools
import os
import random
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.faults import FaultyS3
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
def bucket_name(bucket: str) -> str:
    return bucket.removeprefix("s3://")


@pytest.fixture
def behind(s3_server: str, bucket_name: str) -> "S3Client":
    """Past the proxy, in a bucket that holds one object."""
    client = shared_client_of(s3_server)
    client.put_object(Bucket=bucket_name, Key=KEY, Body=BODY)
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
