"""An address in another tool's form is told how to write it, and is never a folder's name."""

import os
from pathlib import Path

import pytest

from tasks.problem import Problem
from tasks.settings import load
from tasks.storage import open_root
from tasks.storage.address import S3Place, place_of
from tasks.storage.folder import Folder
from tests.conftest import Run
from tests.explained import FULL, WEEK, assert_explained, files_below, text_of

ONLY = "only s3://bucket/prefix and folders can be read and written"
TO_WRITE = {
    "S3://feed/run": "write s3://feed/run, with s3:// in small letters",
    "s3:/feed/run": "write s3://feed/run, with",
    "s3:feed/run": "write s3://feed/run, with",
    "s3:/": "write s3://bucket/prefix, with",
    "s3a://feed/run#2": "write s3://feed/run#2, with",
    "S3N://feed": "write s3://feed, with",
    " s3://feed/run": "write s3://feed/run, with",
    "'s3://feed/run": "write s3://feed/run, with",
    "s3:///feed/run": "names no bucket: write s3://feed/run",
    "s3://": "names no bucket: write s3://bucket or s3://bucket/prefix",
    "s3:\\\\feed\\run": "write s3://feed\\run, with",
    "arn:aws:s3:::feed/run": "is an ARN: write s3://feed/run",
    "arn:aws-cn:s3:::feed": "is an ARN: write s3://feed",
    "arn:aws:s3:eu-west-1:123456789012:accesspoint/x": "is an ARN: write s3://bucket/prefix",
    "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/x": "the access point's alias",
    "gs://feed/run?1": "set AWS_ENDPOINT_URL_S3=https://storage.googleapis.com, use an HMAC key of "
    "it, and write s3://feed/run?1",
    "https://feed.s3.amazonaws.com/run%20a/b": "write s3://feed/run a/b",
    "https://feed.s3.eu-west-1.amazonaws.com": "write s3://feed/",
    "https://feed.x.s3-eu-west-1.amazonaws.com/run": "write s3://feed.x/run",
    "https://s3.dualstack.eu-west-1.amazonaws.com/feed/run": "write s3://feed/run",
    "http://s3.amazonaws.com/": "write s3://bucket/prefix",
    "https://s3.cn-north-1.amazonaws.com.cn/feed": "write s3://feed",
    "https://eu-west-1.console.aws.amazon.com/s3/buckets/feed?region=eu-west-1&prefix=a%2Fb/": (
        "is a page of AWS's console: write s3://feed/a/b/"
    ),
    "https://minio.example:9000/feed/run": "set AWS_ENDPOINT_URL_S3=https://minio.example:9000 and "
    "write s3://feed/run",
    "http://user:planted@example.org/feed?X-Amz-Signature=planted": "write s3://feed",
    "file:///data/my%20feed": "a folder is given by its path alone: write /data/my feed",
    "file:/data": "write /data",
    "file://localhost/data": "write /data",
    "ftp://host/x": ONLY,
    "hdfs://host/x": ONLY,
    "az://container/x": ONLY,
    "C:/feed": ONLY,
    "s3://feed/a\tb": "has a line break, a tab or another control character",
    "s3://feed/a\r": "has a line break, a tab or another control character",
    "s3://feed/\udcff": "is not UTF-8",
    "/data\0x": "has a NUL in it",
    "~no-such-user/x": "there is no user of that name",
    "": "An address is empty",
    " \t": "An address is empty",
}


@pytest.mark.parametrize(("address", "sentence"), TO_WRITE.items(), ids=ascii)
def test_an_address_that_is_none_says_how_to_write_it(address: str, sentence: str) -> None:
    with pytest.raises(Problem) as raised:
        open_root(address)
    said = str(raised.value)
    assert sentence in said
    assert said.endswith((".", ".)"))
    assert "planted" not in said
    assert said.isprintable() or address.startswith(" ")


FOLDERS = (
    "a:b",
    "2021-11-15T05:00:00/raw",
    "./s3:/x",
    "/data/s3://x",
    "a#b?c%41",
    "localhost:90/x",
)


@pytest.mark.parametrize("path", FOLDERS)
def test_a_folder_is_what_its_path_says(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = open_root(path)
    assert isinstance(root, Folder)
    assert root.path == Path(path).absolute()
    assert root.address_of("raw/x") == f"{Path(path).absolute()}/raw/x"


def test_the_root_of_all_folders_has_no_second_slash() -> None:
    assert open_root("/").address_of("raw/x") == "/raw/x"


def test_one_slash_at_the_end_may_be_left_away_and_no_other_may() -> None:
    same = [place_of(f"s3://feed/run{end}") for end in ("", "/")]
    assert same == [S3Place("feed", "run/")] * 2
    assert place_of("s3://feed") == place_of("s3://feed/") == S3Place("feed", "")
    assert place_of("s3://feed/run//") == S3Place("feed", "run//")
    assert place_of("s3://feed//run") == S3Place("feed", "/run/")
    assert place_of("s3://feed//") == S3Place("feed", "/")


def test_bytes_that_a_locale_without_utf_8_takes_for_no_text_are_read_as_utf_8() -> None:
    as_python_has_it = "s3://feed/ü".encode().decode("ascii", "surrogateescape")
    assert place_of(as_python_has_it) == S3Place("feed", "ü/")


@pytest.mark.usefixtures("source", "destination")
@pytest.mark.parametrize("variable", ["SOURCE", "DESTINATION", "SPOOL", "TO"])
@pytest.mark.parametrize("address", ["s3:/feed/run", "file:///data/x", "S3://feed/run"])
def test_every_command_says_so_and_makes_no_folder(
    ops: Run, tmp_path: Path, variable: str, address: str
) -> None:
    before = files_below(tmp_path)
    if variable == "TO":
        results = [ops("restore", "--week", WEEK, "--to", address), ops("report", "--to", address)]
    else:
        given = {f"BUSTIMES_{variable}": address}
        results = [ops(*FULL, "--weeks", WEEK, **given)]
    for result in results:
        assert_explained(result, address, "write ")
        assert result.returncode == 2, text_of(result)
    new = [path for path in files_below(tmp_path) if path not in before]
    assert [path for path in new if not path.startswith("state/")] == []
    assert not any(Path.cwd().glob("[sS]3:*"))
    assert not Path("file:").exists()


def test_a_spool_in_s3_is_no_folder(ops: Run) -> None:
    result = ops(*FULL, BUSTIMES_SPOOL="s3://feed/spool")
    assert_explained(result, "BUSTIMES_SPOOL is s3://feed/spool: give a folder of this machine")


def test_a_space_at_the_end_of_a_place_is_a_part_of_it() -> None:
    given = {"BUSTIMES_SOURCE": "s3://feed/run ", "BUSTIMES_DESTINATION": "s3://feed/out\u00a0"}
    settings = load(os.environ | given | {"BUSTIMES_ORDER": " vehicle "})
    assert (settings.source, settings.destination) == tuple(given.values())
    assert settings.order == "vehicle"
    assert load(os.environ | {"BUSTIMES_SOURCE": "  "}).source == "s3://bustimes-data"
