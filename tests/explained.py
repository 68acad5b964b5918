"""A run that is given something bad: what goes in, what comes out, and how a good answer looks."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest

from tasks.weeks import Week

WEEK = Week(2021, 46)  # JSON bodies only
FULL = ("full", "--local-scheduler")
Result = subprocess.CompletedProcess[str]
Snapshots = Callable[..., list[Path]]


def text_of(result: Result) -> str:
    return result.stdout + result.stderr


def assert_explained(result: Result, *words: str) -> None:
    """It did not do what was asked, and says why in plain words."""
    assert result.returncode != 0
    assert "Traceback" not in text_of(result)
    for word in words:
        assert word in text_of(result)


def assert_done(result: Result) -> None:
    assert result.returncode == 0, text_of(result)
    assert "Traceback" not in text_of(result)


def files_below(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in files)


def week_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*jsonl*"))


def upload(folder: Path, bucket: str) -> None:
    client = boto3.client("s3")
    for key in files_below(folder):
        path = folder / key
        client.put_object(Bucket=bucket.removeprefix("s3://"), Key=key, Body=path.read_bytes())


def keys_in(bucket: str) -> dict[str, bytes]:
    objects = boto3.resource("s3").Bucket(bucket.removeprefix("s3://")).objects.all()
    return {one.key: one.get()["Body"].read() for one in objects}


@pytest.fixture
def source(tmp_path: Path, make_snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with twelve snapshots of WEEK, which is the source."""
    folder = tmp_path / "raw-snapshots"
    make_snapshots(folder, WEEK.label)
    monkeypatch.setenv("BUSTIMES_SOURCE", str(folder))
    return folder


@pytest.fixture
def destination(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is not there yet, which is the destination."""
    folder = tmp_path / "archive"
    monkeypatch.setenv("BUSTIMES_DESTINATION", str(folder))
    return folder
