"""Both kinds of root keep the same promises: a folder, and a bucket on a real S3 server."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest

from tasks.problem import Problem
from tasks.storage import Overtaken, Root, open_root
from tasks.storage.address import BulkSource, Credentials
from tasks.storage.checksum import PART_BYTES, RunningChecksum
from tasks.storage.s3 import S3Prefix
from tasks.storage.s3_clients import client_of_process
from tests.conftest import forget


@pytest.fixture(params=["folder", "bucket", "prefix"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Root:
    if request.param == "folder":
        return open_root(str(tmp_path / "root"))
    bucket = request.getfixturevalue("bucket")
    return open_root(bucket if request.param == "bucket" else f"{bucket}/some/prefix/")


def keys(root: Root, prefix: str) -> list[str]:
    return [one.key for one in root.objects(prefix)]


def test_what_is_written_is_read_back(root: Root) -> None:
    root.write("raw/a.json", b"0123456789")
    assert root.read("raw/a.json") == b"0123456789"
    assert root.read("raw/a.json", 2, 3) == b"234"
    assert root.read("raw/a.json", 8) == b"89"
    assert root.read("raw/a.json", 4, 0) == b""
    assert b"".join(root.stream("raw/a.json")) == b"0123456789"


def test_a_prefix_is_the_beginning_of_a_key_and_not_a_folder(root: Root) -> None:
    for key in ("raw/b__2018-06-01", "raw/b__2018-06-02", "raw/b__2018-07-01", "b__2018-06-01"):
        root.write(key, b"x")
    assert keys(root, "raw/b__2018-06") == ["raw/b__2018-06-01", "raw/b__2018-06-02"]
    assert keys(root, "b__2018") == ["b__2018-06-01"]
    assert keys(root, "raw/nothing") == []
    assert keys(root, "nowhere/") == []


def test_a_listing_of_the_top_leaves_out_what_lies_deeper(root: Root) -> None:
    for key in ("2021-W45.jsonl.gz", "_manifests/2021-W45.json", "_refused/2021-W45/raw/x.json"):
        root.write(key, b"x")
    assert [one.key for one in root.top_objects()] == ["2021-W45.jsonl.gz"]


def test_a_listing_says_size_tag_and_time_and_the_tag_changes_with_the_object(root: Root) -> None:
    root.write("a", b"one")
    first = root.find("a")
    assert first is not None
    assert first.size == 3
    assert list(root.objects("a")) == [first]
    root.write("a", b"two")
    second = root.find("a")
    assert second is not None
    assert second.etag != first.etag
    assert second.written >= first.written
    assert root.find("b") is None


def test_the_first_key_behind_another_is_found(root: Root) -> None:
    for key in ("raw/b1", "raw/b3", "raw/c1"):
        root.write(key, b"x")
    assert root.first_key("raw/b", "raw/b0") == "raw/b1"
    assert root.first_key("raw/b", "raw/b1") == "raw/b3"
    assert root.first_key("raw/b", "raw/b3") is None
    assert root.first_key("d", "d0") is None


def test_a_missing_object_is_a_sentence_that_names_it(root: Root) -> None:
    with pytest.raises(Problem, match=r"missing\.json cannot be read: .*run it again"):
        root.read("missing.json")
    with pytest.raises(Problem, match=r"missing\.json cannot be read"):
        list(root.stream("missing.json"))


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES, 20_000_000])
def test_a_file_arrives_whole_and_confirmed(root: Root, tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    root.write_file("week.gz", path)
    arrived = hashlib.sha256(b"".join(root.stream("week.gz"))).hexdigest()
    assert arrived == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.exists()


@pytest.mark.parametrize("size", [0, 5, PART_BYTES, 2 * PART_BYTES, 2 * PART_BYTES + 5])
def test_s3_keeps_the_checksum_that_was_computed_while_writing(
    bucket: str, tmp_path: Path, size: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    running = RunningChecksum()
    data = path.read_bytes()
    for at in range(0, size, 1_000_003):
        running.update(data[at : at + 1_000_003])
    root = open_root(bucket)
    root.write_file("week.gz", path)
    result = running.result()
    assert result.size == size
    assert result.sha256 == hashlib.sha256(data).hexdigest()
    assert root.stored_sha256("week.gz") == result.s3_sha256


def test_s3_refuses_bytes_that_do_not_match_their_checksum(bucket: str) -> None:
    client = boto3.client("s3", region_name="us-east-1")
    name = bucket.removeprefix("s3://")
    wrong = "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg="
    with pytest.raises(client.exceptions.ClientError, match="BadDigest"):
        client.put_object(Bucket=name, Key="a", Body=b"other bytes", ChecksumSHA256=wrong)


def test_an_upload_that_was_given_up_is_removed_by_the_next(bucket: str, tmp_path: Path) -> None:
    client = boto3.client("s3", region_name="us-east-1")
    name = bucket.removeprefix("s3://")
    path = tmp_path / "file"
    path.write_bytes(os.urandom(PART_BYTES + 1))
    upload = client.create_multipart_upload(Bucket=name, Key="week.gz")["UploadId"]
    path.with_name("file.upload").write_text(upload)
    open_root(bucket).write_file("week.gz", path)
    assert "Uploads" not in client.list_multipart_uploads(Bucket=name)
    assert not path.with_name("file.upload").exists()


def test_checking_for_the_right_to_write_leaves_nothing_behind(root: Root) -> None:
    root.check_writable()
    assert keys(root, "") == []
    if isinstance(root, S3Prefix):
        client = boto3.client("s3", region_name="us-east-1")
        assert "Uploads" not in client.list_multipart_uploads(Bucket=root.bucket)


def test_what_a_killed_process_left_beside_a_file_is_removed_by_the_next_write(
    tmp_path: Path,
) -> None:
    killed = int(os.popen("sh -c 'echo $$'").read())
    leftover = tmp_path / f".a.tmp-{killed}"
    leftover.write_bytes(b"half")
    ours = tmp_path / f".a.tmp-{os.getppid()}"
    ours.write_bytes(b"still being written")
    open_root(str(tmp_path)).write("a", b"whole")
    assert not leftover.exists()
    assert ours.exists()


def test_addresses_that_mean_nothing_are_refused() -> None:
    for address in ("", "s3://", "ftp://host/x", "https://bucket.s3.amazonaws.com"):
        with pytest.raises(Problem):
            open_root(address)


_OTHER = "http://127.0.0.1:5555"


@pytest.mark.parametrize(
    ("environment", "profile", "url"),
    [
        ({}, "", "https://bucket.s3.amazonaws.com/key"),
        ({"AWS_ENDPOINT_URL": _OTHER}, "", f"{_OTHER}/bucket/key"),
        ({"AWS_ENDPOINT_URL_S3": _OTHER}, "", f"{_OTHER}/bucket/key"),
        ({}, f"endpoint_url = {_OTHER}", f"{_OTHER}/bucket/key"),
        (
            {"AWS_ENDPOINT_URL_S3": _OTHER, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
            "",
            "https://bucket.s3.amazonaws.com/key",
        ),
        (
            {"AWS_ENDPOINT_URL_S3": "https://s3.eu-west-1.amazonaws.com"},
            "",
            "https://s3.eu-west-1.amazonaws.com/bucket/key",
        ),
    ],
    ids=["AWS", "any", "S3", "profile", "ignored", "AWS's own"],
)
def test_objects_are_asked_for_where_the_settings_say(
    environment: dict[str, str],
    profile: str,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bucket of AWS has a host name of its own, which other S3s rarely know of."""
    (tmp_path / "no-aws-config").write_text(f"[default]\nregion = eu-west-1\n{profile}\n")
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    for name, value in (keys | environment).items():
        monkeypatch.setenv(name, value)
    forget()
    client = client_of_process(os.getpid())
    asked = client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "key"})
    assert asked.partition("?")[0] == url
    forget()


def test_credentials_never_show(bucket: str) -> None:
    credentials = open_root(bucket).credentials()
    assert credentials == Credentials("test", "test", None)
    assert "test" not in repr(credentials)
    source = open_root(f"{bucket}/deep").bulk_source()
    assert isinstance(source, BulkSource)
    assert source.prefix == "deep/"


def test_an_object_is_written_only_if_it_is_still_as_expected(root: Root) -> None:
    root.write("a", b"one", expected_etag="")
    with pytest.raises(Overtaken, match="a was written by somebody else meanwhile"):
        root.write("a", b"two", expected_etag="")
    first = root.find("a")
    assert first is not None
    root.write("a", b"three", expected_etag=first.etag)
    with pytest.raises(Overtaken):
        root.write("a", b"four", expected_etag=first.etag)
    assert root.read("a") == b"three"
    with pytest.raises(Overtaken):  # what was to be replaced is gone
        root.write("b", b"five", expected_etag=first.etag)
    assert root.find("b") is None


def test_what_is_there_already_counts_as_written(root: Root) -> None:
    """The answer to the first of two tries may have been lost on its way."""
    root.write("a", b"one", expected_etag="")
    root.write("a", b"one", expected_etag="")
    assert root.read("a") == b"one"


@pytest.mark.parametrize("size", [10, PART_BYTES + 10])
def test_a_file_is_written_only_if_the_object_is_still_as_expected(
    root: Root, tmp_path: Path, size: int
) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.write_bytes(b"o" * size)
    theirs.write_bytes(b"t" * size)
    root.write_file("week", theirs, expected_etag="")
    with pytest.raises(Overtaken):
        root.write_file("week", ours, expected_etag="")
    root.write_file("week", theirs, expected_etag="")  # the same again is no conflict
    there = root.find("week")
    assert there is not None
    root.write_file("week", ours, expected_etag=there.etag)
    assert root.read("week") == ours.read_bytes()
    if isinstance(root, S3Prefix):
        uploads = root.client.list_multipart_uploads(Bucket=root.bucket)
        assert not uploads.get("Uploads")


def test_of_several_who_write_an_object_one_is_first(bucket: str) -> None:
    root = S3Prefix(bucket)
    with ThreadPoolExecutor(8) as threads:
        written = list(threads.map(lambda n: root.write_if("a", b"%d" % n, ""), range(8)))
    [etag] = [etag for etag in written if etag]
    there = root.read_with_etag("a")
    assert there is not None
    assert there == (b"%d" % written.index(etag), etag)
    assert root.write_if("a", b"next", etag)
    assert root.write_if("a", b"late", etag) is None


def test_objects_are_removed_and_those_that_are_not_there_are_no_error(bucket: str) -> None:
    root = S3Prefix(f"{bucket}/v2")
    for name in ("a", "b", "c"):
        root.write(name, b"x")
    root.remove(["a", "b", "never there"])
    assert keys(root, "") == ["c"]
    assert root.read_with_etag("a") is None
    root.remove([])
