"""Who pays, and how S3 is to encrypt: sent with every request that a bucket may demand it of."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from aws_refusals import EVERYTHING, GET, LIST, PUT, WRITES, RefusingS3

from tasks.problem import Problem
from tasks.settings import load
from tasks.storage import checksum, open_root
from tasks.storage.s3 import S3Prefix
from tests.conftest import PROJECT, Run, forget
from tests.explained import FULL, WEEK, assert_done, assert_explained, keys_in, text_of, upload

pytestmark = pytest.mark.soak

KEY = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012"
DENIED_BY_KEY = (
    "User: arn:aws:iam::123456789012:user/x is not authorized to perform: kms:Decrypt on resource: "
    f"{KEY} because no identity-based policy allows the kms:Decrypt action"
)
DENIED_BY_ENDPOINT = (
    "User: arn:aws:sts::123456789012:assumed-role/r/s is not authorized to perform: s3:PutObject "
    'on resource: "arn:aws:s3:::feed/raw" with an explicit deny in a VPC endpoint policy'
)


def is_paid_for(_method: str, _path: str, headers: Mapping[str, str]) -> bool:
    return headers.get("x-amz-request-payer") == "requester"


def has_no_payer(method: str, path: str) -> bool:
    """A request in which S3 knows no such header: of the bucket itself."""
    return method in ("HEAD", "GET", "PUT") and path.partition("?")[0].count("/") < 2


@pytest.fixture
def paid(bucket: str, s3_server: str, source: Path) -> Iterator[tuple[RefusingS3, str]]:
    """A bucket that holds the source, and answers only those who say that they pay."""
    upload(source, bucket)

    def allows(method: str, path: str, headers: Mapping[str, str]) -> bool:
        is_of_bucket = has_no_payer(method, path) and "list-type" not in path
        return is_of_bucket or is_paid_for(method, path, headers)

    with RefusingS3("AccessDenied", EVERYTHING, s3_server, allows=allows) as s3:
        yield s3, bucket


def test_whoever_pays_says_so_with_every_request(ops: Run, paid: tuple[RefusingS3, str]) -> None:
    s3, bucket = paid
    given = {
        "AWS_ENDPOINT_URL_S3": s3.url,
        "BUSTIMES_SOURCE": bucket,
        "BUSTIMES_DESTINATION": f"{bucket}/out",
        "BUSTIMES_REQUEST_PAYER": "requester",
        "BUSTIMES_ALLOW_PRUNE": "true",
    }
    assert_done(ops(*FULL, "--weeks", WEEK, **given))
    assert_done(ops("verify", "--weeks", WEEK, "--share", "1.0", **given))
    assert_done(ops("restore", "--week", WEEK, "--to", f"{bucket}/back", **given))
    looked = ops("prune", "--weeks", WEEK, **given)
    assert_done(looked)
    [confirm] = re.findall(r"CONFIRM=(\S+)", looked.stdout)
    assert_done(ops("prune", "--weeks", WEEK, "--confirm", confirm, **given))
    assert not s3.refused
    left = {key for key in keys_in(bucket) if key.startswith("raw/")}
    assert left == set()


def test_who_does_not_is_told_of_the_setting(
    ops: Run, paid: tuple[RefusingS3, str], destination: Path
) -> None:
    s3, bucket = paid
    result = ops(*FULL, "--weeks", WEEK, BUSTIMES_SOURCE=bucket, AWS_ENDPOINT_URL_S3=s3.url)
    assert_explained(result, f"{bucket} cannot be listed: access is denied", "REQUEST_PAYER=req")
    assert s3.refused[LIST]
    assert not destination.exists()


def is_begun_unencrypted(method: str, path: str, headers: Mapping[str, str]) -> bool:
    begins = (method == "PUT" and "partNumber=" not in path) or "?uploads" in path
    begins |= "uploadId=of-no-upload" in path  # of which nobody knows how it began
    return begins and headers.get("x-amz-server-side-encryption") != "aws:kms"


@pytest.fixture
def demanding(bucket: str, s3_server: str) -> Iterator[tuple[RefusingS3, str]]:
    """A bucket whose policy wants the encryption named in all that is written."""

    def allows(*request: Any) -> bool:
        return not is_begun_unencrypted(*request)

    message = DENIED_BY_ENDPOINT.replace("VPC endpoint", "resource-based")
    with RefusingS3("AccessDenied", WRITES, s3_server, allows=allows, message=message) as s3:
        yield s3, bucket


def heads(bucket: str) -> dict[str, Any]:
    client, name = boto3.client("s3"), bucket.removeprefix("s3://")
    return {key: client.head_object(Bucket=name, Key=key) for key in keys_in(bucket)}


@pytest.mark.usefixtures("source")
def test_all_that_is_written_is_encrypted_as_the_setting_says(
    ops: Run, source: Path, demanding: tuple[RefusingS3, str]
) -> None:
    s3, bucket = demanding
    (source / "raw/bustimes__2021-11-15__05-00-00.json").write_bytes(b"<unreadable>")
    given = {
        "AWS_ENDPOINT_URL_S3": s3.url,
        "BUSTIMES_DESTINATION": f"{bucket}/out",
        "BUSTIMES_SERVER_SIDE_ENCRYPTION": "aws:kms",
        "BUSTIMES_KMS_KEY_ID": KEY,
    }
    assert_done(ops(*FULL, "--weeks", WEEK, **given))
    assert_done(ops("verify", "--weeks", WEEK, "--share", "1.0", "--deep", **given))
    assert_done(ops("restore", "--week", WEEK, "--to", f"{bucket}/back", **given))
    assert_done(ops("report", "--to", f"{bucket}/page.html", **given))
    assert not s3.refused
    found = heads(bucket)
    names = {key.partition("/2021")[0] for key in found}
    assert {"out/_refused", "out/_inventories", "out/_manifests", "out/_verified"} <= names
    assert "page.html" in found
    for key, head in found.items():
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", KEY), key


def test_a_file_in_parts_is_encrypted_so_too(
    demanding: tuple[RefusingS3, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3, bucket = demanding
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.url)
    monkeypatch.setenv("BUSTIMES_SERVER_SIDE_ENCRYPTION", "aws:kms")
    monkeypatch.setenv("BUSTIMES_KMS_KEY_ID", KEY)
    forget()
    (tmp_path / "file").write_bytes(os.urandom(checksum.PART_BYTES + 1))
    open_root(bucket).write_file("long", tmp_path / "file")
    assert not s3.refused
    [head] = heads(bucket).values()
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", KEY)


@pytest.mark.usefixtures("source")
def test_without_the_setting_what_s3_says_leads_to_it(
    ops: Run, demanding: tuple[RefusingS3, str]
) -> None:
    s3, bucket = demanding
    given = {"BUSTIMES_DESTINATION": f"{bucket}/out", "AWS_ENDPOINT_URL_S3": s3.url}
    result = ops(*FULL, "--weeks", WEEK, **given)
    assert_explained(result, "SERVER_SIDE_ENCRYPTION=", "explicit deny in a resource-based policy")
    assert keys_in(bucket) == {}


REASONS = {
    "a key": (DENIED_BY_KEY, "The policy of the KMS key must allow kms:Decrypt to"),
    "an endpoint": (DENIED_BY_ENDPOINT, "What one policy denies explicitly no other can allow"),
}


@pytest.mark.parametrize(("reason", "hint"), REASONS.values(), ids=REASONS)
@pytest.mark.parametrize("kind", [LIST, GET, PUT])
def test_what_s3_says_of_a_denial_is_on_the_screen_and_in_the_log(
    ops: Run,
    s3_server: str,
    bucket: str,
    source: Path,
    tmp_path: Path,
    kind: str,
    reason: str,
    hint: str,
) -> None:
    upload(source, bucket)
    given = {"BUSTIMES_SOURCE": bucket, "BUSTIMES_DESTINATION": f"{bucket}/out"}
    with RefusingS3("AccessDenied", (kind,), s3_server, message=reason) as refusing:
        result = ops(*FULL, "--weeks", WEEK, AWS_ENDPOINT_URL_S3=refusing.url, **given)
    assert refusing.refused[kind]
    assert_explained(result, f"S3 says: {reason}. {hint}")
    [log] = (tmp_path / "state/log").glob("full.jsonl")
    assert reason.replace('"', '\\"') in log.read_text()


def test_a_denied_deletion_says_what_s3_says(
    s3_server: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.storage.deletion import delete

    root = open_root(bucket)
    assert isinstance(root, S3Prefix)
    root.write("a", b"a")
    with RefusingS3("AccessDenied", WRITES, s3_server, message=DENIED_BY_ENDPOINT) as refusing:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", refusing.url)
        forget()
        with pytest.raises(Problem, match="explicit deny in a VPC endpoint policy"):
            delete(S3Prefix(bucket), [one for one in [root.find("a")] if one])
    forget()


def test_the_documentation_names_the_rights_of_kms() -> None:
    readme = (PROJECT / "README.md").read_text()
    rights = readme.partition("### What it needs from AWS")[2].partition("\n## ")[0]
    for word in ("kms:Decrypt", "kms:GenerateDataKey", "REQUEST_PAYER=", "SERVER_SIDE_ENCRYPTION="):
        assert word in rights


WRONG = [
    ("BUSTIMES_REQUEST_PAYER", "owner", "give requester, or nothing"),
    (
        "BUSTIMES_SERVER_SIDE_ENCRYPTION",
        "aes",
        "give AES256 or aws:kms or aws:kms:dsse, or nothing",
    ),
    ("BUSTIMES_KMS_KEY_ID", "a key", "give the ARN of a KMS key, its ID or its alias, or nothing"),
]


@pytest.mark.parametrize(("variable", "value", "sentence"), WRONG)
def test_a_value_that_is_none_is_named(variable: str, value: str, sentence: str) -> None:
    with pytest.raises(Problem, match=f"{variable} is '{value}': {sentence}"):
        load(os.environ | {variable: value})


@pytest.mark.usefixtures("source", "bucket")
def test_a_key_without_its_encryption_is_refused(ops: Run, bucket: str) -> None:
    given = {"BUSTIMES_DESTINATION": f"{bucket}/out", "BUSTIMES_KMS_KEY_ID": KEY}
    result = ops(*FULL, "--weeks", WEEK, **given)
    assert_explained(result, "kms_key_id is set, and server_side_encryption is not aws:kms")
    assert result.returncode == 2, text_of(result)
