"""The embedded S3: what a client needs of a real one, and who reaches it."""

import base64
import hashlib
import http.client
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from ops import embedded_s3
from ops.service import Service
from tests.conftest import PROJECT, answers_at, free_port

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("without_proxy")


@pytest.fixture(scope="module")
def s3_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = embedded_s3.make_service(tmp_path_factory.mktemp("state"), free_port())
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_PROFILE", "a-profile-that-does-not-exist")
        made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def s3(s3_service: Service) -> Iterator["S3Client"]:
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            environment.delenv(name)
        environment.setenv("AWS_CONFIG_FILE", os.devnull)
        client = make_client(s3_service, "anything")
        client.create_bucket(Bucket="archive")
        yield client


def make_client(running: Service, access_key: str) -> "S3Client":
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{running.port}",
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key="goes",
        # One try only: an answer that has to be asked for twice is a fault here.
        config=Config(
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=32,
            s3={"addressing_style": "path"},
        ),
    )


def b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def code_of(caught: pytest.ExceptionInfo[ClientError]) -> str:
    return str(caught.value.response["Error"]["Code"])


def status_of(caught: pytest.ExceptionInfo[ClientError]) -> int:
    return int(caught.value.response["ResponseMetadata"]["HTTPStatusCode"])


_BODY = b"one snapshot"
_CHECKSUMS = {
    "ContentMD5": b64(hashlib.md5(_BODY).digest()),
    "ChecksumCRC32": b64(zlib.crc32(_BODY).to_bytes(4, "big")),
    "ChecksumSHA1": b64(hashlib.sha1(_BODY).digest()),
    "ChecksumSHA256": b64(hashlib.sha256(_BODY).digest()),
}
_PART = os.urandom(5 << 20)


class TestEmbeddedS3:
    def test_listens_on_loopback_only(self, s3_service: Service) -> None:
        assert answers_at("127.0.0.1", s3_service.port)
        assert not answers_at("127.0.0.2", s3_service.port)

    @pytest.mark.usefixtures("s3")
    def test_takes_any_credentials(self, s3_service: Service) -> None:
        for access_key in ("AKIAIOSFODNN7EXAMPLE", "x"):
            buckets = make_client(s3_service, access_key).list_buckets()["Buckets"]
            assert [bucket["Name"] for bucket in buckets] == ["archive"]

    @pytest.mark.usefixtures("s3")
    def test_keeps_connections_open(self, s3_service: Service) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", s3_service.port)
        connection.request("GET", "/")
        connection.getresponse().read()
        kept = connection.sock
        connection.request("PUT", "/nowhere/key", body=b"a body that is not wanted")
        refused = connection.getresponse()
        refused.read()
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        assert connection.sock is kept is not None
        assert refused.status == 404
        connection.close()

    def test_no_web_page_may_read_it(self, s3_service: Service) -> None:
        request = urllib.request.Request(s3_service.ready_url, headers={"Origin": "http://evil"})
        with urllib.request.urlopen(request) as answer:
            assert "access-control-allow-origin" not in answer.headers

    @pytest.mark.parametrize("name", _CHECKSUMS)
    def test_a_body_that_does_not_match_its_checksum_is_refused(
        self, s3: "S3Client", name: str
    ) -> None:
        checksum: Any = {name: _CHECKSUMS[name]}
        with pytest.raises(ClientError) as caught:
            s3.put_object(Bucket="archive", Key=f"bad/{name}", Body=b"one snapsh0t", **checksum)
        assert (code_of(caught), status_of(caught)) == ("BadDigest", 400)
        assert "Contents" not in s3.list_objects_v2(Bucket="archive", Prefix=f"bad/{name}")

    def test_a_checksum_that_is_none_is_refused(self, s3: "S3Client") -> None:
        with pytest.raises(ClientError) as caught:
            s3.put_object(Bucket="archive", Key="bad/none", Body=_BODY, ContentMD5="no base64")
        assert (code_of(caught), status_of(caught)) == ("InvalidDigest", 400)

    def test_a_part_that_does_not_match_its_checksum_is_refused(self, s3: "S3Client") -> None:
        upload: Any = {"Bucket": "archive", "Key": "bad/part"}
        upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
        with pytest.raises(ClientError) as caught:
            s3.upload_part(
                **upload, PartNumber=1, Body=b"other", ChecksumSHA256=_CHECKSUMS["ChecksumSHA256"]
            )
        assert code_of(caught) == "BadDigest"
        s3.abort_multipart_upload(**upload)

    @pytest.mark.parametrize("name", [name for name in _CHECKSUMS if name != "ContentMD5"])
    def test_a_checksum_that_matches_is_kept(self, s3: "S3Client", name: str) -> None:
        checksum: Any = {name: _CHECKSUMS[name]}
        s3.put_object(Bucket="archive", Key=f"good/{name}", Body=_BODY, **checksum)
        where: Any = {"Bucket": "archive", "Key": f"good/{name}", "ChecksumMode": "ENABLED"}
        head: Any = s3.head_object(**where)
        assert head[name] == _CHECKSUMS[name]
        assert head["ContentLength"] == len(_BODY)
        answer: Any = s3.get_object(**where)
        assert answer["Body"].read() == _BODY
        assert answer[name] == _CHECKSUMS[name]

    def test_a_multipart_upload_shows_the_checksum_of_its_parts_and_their_number(
        self, s3: "S3Client"
    ) -> None:
        parts = [_PART, b"the rest"]
        digests = [hashlib.sha256(part).digest() for part in parts]
        upload: Any = {"Bucket": "archive", "Key": "week"}
        upload["UploadId"] = s3.create_multipart_upload(**upload, ChecksumAlgorithm="SHA256")[
            "UploadId"
        ]
        etags = [
            s3.upload_part(
                **upload, PartNumber=number, Body=part, ChecksumSHA256=b64(digests[number - 1])
            )["ETag"]
            for number, part in enumerate(parts, 1)
        ]
        s3.complete_multipart_upload(
            **upload,
            MultipartUpload={
                "Parts": [
                    {"PartNumber": n, "ETag": etags[n - 1], "ChecksumSHA256": b64(digests[n - 1])}
                    for n in (1, 2)
                ]
            },
        )
        expected = b64(hashlib.sha256(b"".join(digests)).digest()) + "-2"
        where: Any = {"Bucket": "archive", "Key": "week", "ChecksumMode": "ENABLED"}
        assert s3.head_object(**where)["ChecksumSHA256"] == expected
        answer = s3.get_object(**where)
        assert answer["ChecksumSHA256"] == expected
        assert answer["Body"].read() == b"".join(parts)

    def test_an_upload_that_was_given_up_is_gone(self, s3: "S3Client") -> None:
        upload: Any = {"Bucket": "archive", "Key": "given-up"}
        upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
        etag = s3.upload_part(**upload, PartNumber=1, Body=_BODY)["ETag"]
        s3.abort_multipart_upload(**upload)
        assert "Uploads" not in s3.list_multipart_uploads(Bucket="archive", Prefix="given-up")
        parts: Any = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
        calls: list[Callable[[], object]] = [
            lambda: s3.upload_part(**upload, PartNumber=2, Body=_BODY),
            lambda: s3.complete_multipart_upload(**upload, MultipartUpload=parts),
            lambda: s3.list_parts(**upload),
            lambda: s3.abort_multipart_upload(**upload),
        ]
        for call in calls:
            with pytest.raises(ClientError) as caught:
                call()
            assert (code_of(caught), status_of(caught)) == ("NoSuchUpload", 404)
        assert "Contents" not in s3.list_objects_v2(Bucket="archive", Prefix="given-up")

    def test_ranges_are_cut_out_exactly(self, s3: "S3Client") -> None:
        s3.put_object(Bucket="archive", Key="digits", Body=b"0123456789")

        def get(part: str) -> bytes:
            answer = s3.get_object(Bucket="archive", Key="digits", Range=f"bytes={part}")
            assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
            return answer["Body"].read()

        assert (get("2-4"), get("7-"), get("-2"), get("8-99")) == (b"234", b"789", b"89", b"89")
        with pytest.raises(ClientError) as caught:
            get("10-")
        assert (code_of(caught), status_of(caught)) == ("InvalidRange", 416)

    def test_a_version_that_was_replaced_is_not_answered_for(self, s3: "S3Client") -> None:
        old = s3.put_object(Bucket="archive", Key="changing", Body=b"old")["ETag"]
        where: Any = {"Bucket": "archive", "Key": "changing"}
        assert s3.get_object(**where, IfMatch=old)["Body"].read() == b"old"
        s3.put_object(**where, Body=b"new")
        with pytest.raises(ClientError) as caught:
            s3.get_object(**where, IfMatch=old)
        assert status_of(caught) == 412
        with pytest.raises(ClientError) as caught:
            s3.get_object(**where, IfNoneMatch=s3.head_object(**where)["ETag"])
        assert status_of(caught) == 304
        assert s3.get_object(**where)["Body"].read() == b"new"

    def test_a_missing_object_is_a_404(self, s3: "S3Client") -> None:
        with pytest.raises(ClientError) as caught:
            s3.head_object(Bucket="archive", Key="nowhere")
        assert status_of(caught) == 404
        with pytest.raises(ClientError) as caught:
            s3.get_object(Bucket="archive", Key="nowhere")
        assert code_of(caught) == "NoSuchKey"

    def test_listings_of_several_pages_are_whole_and_in_order(self, s3: "S3Client") -> None:
        keys = [f"raw/bustimes__{number:05}" for number in range(1_050)]
        with ThreadPoolExecutor(16) as threads:
            list(
                threads.map(
                    lambda key: s3.put_object(Bucket="archive", Key=key, Body=b"x"), reversed(keys)
                )
            )
        pages = s3.get_paginator("list_objects_v2")
        found = [
            item["Key"]
            for page in pages.paginate(Bucket="archive", Prefix="raw/bustimes__")
            for item in page["Contents"]
        ]
        assert found == keys
        after = s3.list_objects_v2(
            Bucket="archive", Prefix="raw/", StartAfter="raw/bustimes__00999x", MaxKeys=2
        )
        assert [item["Key"] for item in after["Contents"]] == keys[1_000:1_002]
        top = s3.list_objects_v2(Bucket="archive", Delimiter="/", Prefix="raw")
        assert [item["Prefix"] for item in top["CommonPrefixes"]] == ["raw/"]

    def test_requests_reach_moto_one_at_a_time(self) -> None:
        inside: list[int] = []
        peak: list[int] = []

        def moto(_environ: object, _start: object) -> list[bytes]:
            inside.append(1)
            time.sleep(0.001)  # so that another would come in, if it could
            peak.append(len(inside))
            inside.pop()
            return []

        strict: Any = embedded_s3.StrictS3(moto)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda _: strict({"REQUEST_METHOD": "GET"}, None), range(50)))
        assert peak == [1] * 50

    def test_says_how_it_is_used(self) -> None:
        said = subprocess.run(
            [sys.executable, "-m", "ops.embedded_s3", "--help"],
            capture_output=True,
            text=True,
            check=True,
            cwd=PROJECT,
        )
        assert "--port" in said.stdout
