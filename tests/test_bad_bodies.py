"""Bodies that cannot be read, names that are nearly right, objects that change: named, no loss."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import boto3
import pytest

from tasks.bustimes.archive import Archive
from tasks.bustimes.listing import list_week
from tasks.bustimes.weekfile import Spool, finish
from tasks.problem import Problem
from tasks.settings import load
from tasks.storage import open_root
from tests.conftest import PROJECT, Run, forget
from tests.explained import (
    FULL,
    WEEK,
    Result,
    assert_done,
    assert_explained,
    files_below,
    keys_in,
    upload,
    week_files,
)


def comparable(records: Iterable[object]) -> list[str]:
    return sorted(map(json.dumps, records))


def records_of(week_file: bytes) -> list[str]:
    return comparable(json.loads(line) for line in gzip.decompress(week_file).splitlines())


def expected_records(snapshots: list[Path]) -> list[str]:
    records: list[object] = []
    for path in snapshots:
        date, time = path.stem.split("__")[1:]
        moment = f"{date}T{time.replace('-', ':')}+00:00"
        records += [one | {"snapshot_time": moment} for one in json.loads(path.read_bytes())]
    return comparable(records)


def name_of(second: int, day: int = 15) -> str:
    return f"bustimes__2021-11-{day:02}__05-{second // 60:02}-{second % 60:02}.json"


# Bodies


UNREADABLE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it is empty"),
    "space": (b" \r\n\t", "it is empty"),
    "HTML": (b"<html><title>503</title></html>", "it is an HTML page (503)"),
    "cut JSON": (b'[{"vehicleID": 1}, {"vehicleI', "it ends in the middle (cut off)"),
    "cut repr": (b"[{u'vehicleID': 1}, {u'vehicleI", "it ends in the middle (cut off)"),
    "number": (b"42", "it is a number, not a list of records"),
    "text": (b'"busy"', "it is a text, not a list of records"),
    "null": (b"null", "it is null, not a list of records"),
    "no records": (b"[1, 2]", "it is a list that holds a number where a record should be"),
    "one object": (b'{"vehicleID": 1}', "it is one object, not a list of records"),
    "no UTF-8": (b'[{"vehicleID": 1, "sign": "\xff"}]', "byte 27 is not UTF-8 text"),
    "NaN": (b'[{"vehicleID": 1, "delay": NaN}]', "it holds NaN, which JSON cannot hold"),
    "own time": (
        b'[{"vehicleID": 1, "snapshot_time": "now"}]',
        "record 1 has a field snapshot_time of its own",
    ),
    "too long": (b"[" + b" " * (2 << 20) + b"]", "it is 2.0 MB long, and max_snapshot_mb is 1"),
}


def add_unreadable(folder: Path) -> dict[str, tuple[bytes, str]]:
    """Adds all of them; key to body and reason."""
    added = {f"raw/{name_of(at)}": case for at, case in enumerate(UNREADABLE.values())}
    for key, (body, _) in added.items():
        (folder / key).write_bytes(body)
    return added


def assert_set_aside(
    result: Result, output: dict[str, bytes], added: dict[str, tuple[bytes, str]]
) -> None:
    assert_done(result)
    manifest = json.loads(output[f"_manifests/{WEEK}.json"])
    reasons = {one["key"]: one["reason"] for one in manifest["refused"]}
    assert set(reasons) == set(added)
    for key, (body, reason) in added.items():
        assert reason in reasons[key]
        assert f"{WEEK}: {key} is set aside: {reasons[key]}" in result.stderr
        assert output[f"_refused/{WEEK}/{key}"] == body


@pytest.fixture(autouse=True)
def any_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weeks here are small, and most in them is bad; `test_packed_bodies` has the usual."""
    monkeypatch.setenv("BUSTIMES_MAX_REFUSED_SHARE", "1")


@pytest.fixture
def limit_of_one_mb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUSTIMES_MAX_SNAPSHOT_MB", "1")


@pytest.mark.usefixtures("limit_of_one_mb")
def test_unreadable_bodies_in_a_folder_are_set_aside_and_all_others_converted(
    ops: Run, source: Path, destination: Path
) -> None:
    good = expected_records(sorted((source / "raw").iterdir()))
    added = add_unreadable(source)
    result = ops(*FULL, "--weeks", WEEK)
    output = {name: (destination / name).read_bytes() for name in files_below(destination)}
    assert_set_aside(result, output, added)
    assert records_of(output[f"{WEEK}.jsonl.gz"]) == good
    assert_done(ops("verify", "--weeks", WEEK, "--deep", BUSTIMES_SPOT_CHECKS="30"))


@pytest.mark.usefixtures("limit_of_one_mb")
def test_unreadable_bodies_in_a_bucket_are_set_aside_and_all_others_converted(
    luigi: Run, bucket: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = expected_records(sorted((source / "raw").iterdir()))
    added = add_unreadable(source)
    upload(source, bucket)
    monkeypatch.setenv("BUSTIMES_SOURCE", bucket)
    monkeypatch.setenv("BUSTIMES_DESTINATION", f"{bucket}/out")
    result = luigi("AllWeeks", "--weeks", WEEK)
    output = {key.removeprefix("out/"): body for key, body in keys_in(bucket).items()}
    assert_set_aside(result, output, added)
    assert records_of(output[f"{WEEK}.jsonl.gz"]) == good
    assert_done(luigi("Verify", "--weeks", WEEK, "--deep"))


def test_a_body_of_200_mb_never_lies_in_memory(source: Path, destination: Path) -> None:
    size = 200 << 20
    key = f"raw/{name_of(0)}"
    with (source / key).open("wb") as file:
        file.truncate(size)
    script = (
        "import resource, subprocess, sys\n"
        "subprocess.run([sys.executable, '-m', 'ops', *sys.argv[1:]], check=True)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, *FULL, "--weeks", str(WEEK)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert_done(result)
    assert f"{key} is set aside: it is 200.0 MB long, and max_snapshot_mb is 64" in result.stderr
    assert (destination / f"_refused/{WEEK}/{key}").stat().st_size == size
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(result.stdout.split()[-1]) * unit < size / 2


# max_errors


def make_unreadable(folder: Path, count: int, day: int = 15) -> None:
    (folder / "raw").mkdir(parents=True, exist_ok=True)
    for at in range(count):
        (folder / "raw" / name_of(at, day)).touch()


@pytest.mark.parametrize(("refused", "allowed"), [(3, 2), (1, 0)])
def test_more_unreadable_bodies_than_max_errors_stop_the_run(
    ops: Run, source: Path, destination: Path, tmp_path: Path, refused: int, allowed: int
) -> None:
    make_unreadable(source, refused)
    result = ops(*FULL, "--weeks", WEEK, BUSTIMES_MAX_ERRORS=str(allowed))
    assert_explained(
        result,
        f"max_errors allows {allowed}",
        f"{refused} snapshot",
        f"raw/{name_of(refused - 1)}, because it is empty",
        "MAX_ERRORS=1000",
    )
    assert week_files(destination) == []
    assert not list((tmp_path / "spool").glob(f"*/{WEEK}/manifest.json"))
    again = ops(*FULL, "--weeks", WEEK, BUSTIMES_MAX_ERRORS=str(refused))
    assert_done(again)
    assert week_files(destination) == [f"{WEEK}.jsonl.gz"]


@pytest.mark.parametrize("workers", [1, 2])
def test_max_errors_holds_for_all_weeks_of_a_run_together(
    ops: Run, source: Path, destination: Path, workers: int
) -> None:
    make_unreadable(source, 60, day=15)
    make_unreadable(source, 60, day=22)
    result = ops(*FULL, "--weeks", f"{WEEK},{WEEK.next}", "--workers", workers)
    assert_explained(
        result, "snapshots could not be read, and max_errors allows 100", "MAX_ERRORS="
    )
    written = week_files(destination)
    assert len(written) == 1 or (not written and workers == 2)
    for name in written:
        assert gzip.decompress((destination / name).read_bytes()) is not None
        assert (destination / "_manifests" / name.replace("jsonl.gz", "json")).exists()


# Weeks with little or nothing in them


@pytest.mark.parametrize("body", [b"<html></html>", b"{}", b"[]"], ids=["unreadable", "{}", "[]"])
def test_a_week_without_any_record_is_an_empty_gzip_file(
    ops: Run, tmp_path: Path, destination: Path, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    folder = tmp_path / "bare"
    make_unreadable(folder, 3)
    for path in (folder / "raw").iterdir():
        path.write_bytes(body)
    monkeypatch.setenv("BUSTIMES_SOURCE", str(folder))
    assert_done(ops(*FULL, "--weeks", WEEK))
    assert gzip.decompress((destination / f"{WEEK}.jsonl.gz").read_bytes()) == b""
    manifest = json.loads((destination / f"_manifests/{WEEK}.json").read_bytes())
    assert (manifest["snapshots"], manifest["records"]) == (3, 0)
    assert len(manifest["refused"]) == (3 if body.startswith(b"<") else 0)
    verified = ops("verify", "--weeks", WEEK, "--deep")
    assert_done(verified)
    assert "Complete and correct." in verified.stdout


def nearly_snapshots(date: str) -> list[str]:
    name = f"bustimes__{date}__05-00-00.json"
    wrong = [
        *(f"{name}.gz", f"{name}~", f"{name}.tmp", name.replace(".json", ".JSON")),
        name.replace("05-00-00", "25-00-00"),
        name.replace("05-00-00", "05-60-00"),
        name.replace("05-00-00", "5-0-0"),
        name.replace(date, f"{date[:8]}31"),
        name.upper(),
        name.replace("bustimes", "Bustimes"),
    ]
    folders = ("every_minute", "data_test", "raw/every_minute", f"raw/bustimes__{date}")
    return [
        *wrong,
        *(f"raw/{one}" for one in wrong),
        *(f"{folder}/{name}" for folder in folders),
        *(f"RAW/{name}", f"raw/{name}/{name}"),
    ]


@pytest.mark.parametrize("place", ["a folder", "a bucket"])
def test_names_that_nearly_match_are_no_snapshots(
    ops: Run, request: pytest.FixtureRequest, source: Path, destination: Path, place: str
) -> None:
    good = expected_records(sorted((source / "raw").iterdir()))
    for name in nearly_snapshots("2021-11-15") + nearly_snapshots("2021-11-24"):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'[{"vehicleID":666}]')
    environment = {}
    if place == "a bucket":
        environment = {"BUSTIMES_SOURCE": request.getfixturevalue("bucket")}
        upload(source, environment["BUSTIMES_SOURCE"])
    weeks = ("--weeks", f"{WEEK},{WEEK.next}")
    result = ops(*FULL, *weeks, **environment)
    assert_done(result)
    assert f"No raw snapshots, so no file: {WEEK.next}." in result.stderr
    assert week_files(destination) == [f"{WEEK}.jsonl.gz"]
    assert records_of((destination / f"{WEEK}.jsonl.gz").read_bytes()) == good
    verified = ops("verify", *weeks, "--deep", **environment)
    assert "not taken  32 objects that look like snapshots" in verified.stdout
    assert f"gaps       {WEEK.next}" in verified.stdout
    verified = ops("verify", *weeks, "--deep", **environment, BUSTIMES_NOT_OURS="*")
    assert_done(verified)


@pytest.mark.usefixtures("destination")
def test_a_folder_named_like_a_snapshot_is_none(ops: Run, source: Path) -> None:
    (source / "raw" / name_of(0, day=22)).mkdir()
    result = ops(*FULL, "--weeks", f"{WEEK},{WEEK.next}")
    assert_done(result)
    assert f"No raw snapshots, so no file: {WEEK.next}." in result.stderr


def test_two_snapshots_of_the_same_second_are_both_converted(
    ops: Run, source: Path, destination: Path
) -> None:
    good = sorted((source / "raw").iterdir())
    twin = source / good[0].name
    twin.write_bytes(b'[{"vehicleID":7,"twin":true}]')
    assert_done(ops(*FULL, "--weeks", WEEK))
    records = records_of((destination / f"{WEEK}.jsonl.gz").read_bytes())
    assert records == expected_records([*good, twin])
    assert_done(ops("verify", "--weeks", WEEK, "--deep", BUSTIMES_SPOT_CHECKS="30"))


@pytest.mark.usefixtures("source")
def test_a_week_without_snapshots_among_others_is_a_gap_and_no_failure(
    ops: Run, luigi: Run, destination: Path
) -> None:
    gap = f"No raw snapshots, so no file: {WEEK.previous}, {WEEK.next}."
    result = ops(*FULL, "--from", WEEK.previous, "--to", WEEK.next)
    assert_done(result)
    assert gap in result.stderr
    again = luigi("AllWeeks", "--from", WEEK.previous, "--to", WEEK.next)
    assert_done(again)
    assert gap in again.stderr
    assert week_files(destination) == [f"{WEEK}.jsonl.gz"]


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("task", ["AllWeeks", "Verify", "full", "verify"])
def test_a_range_without_any_snapshots_is_a_mistake(
    ops: Run, luigi: Run, destination: Path, task: str
) -> None:
    weeks = ("--from", "2018-W01", "--to", "2018-W03")
    options = (*FULL, *weeks) if task == "full" else (task, *weeks)
    result = (luigi if task[0].isupper() else ops)(*options)
    words = ("There is nothing to", "no raw snapshots in 2018-W01 to 2018-W03", "Check SOURCE")
    assert_explained(result, *words)
    assert week_files(destination) == []


# A raw object that changes between being listed and being read


CHANGES: dict[str, tuple[Callable[[bytes], bytes | None], str]] = {
    "deleted": (lambda _: None, "was listed but is gone now"),
    "longer": (lambda body: body + b"\n", "was replaced while its week was converted"),
    "shorter": (lambda body: body[:-1], "was replaced while its week was converted"),
    "of the same length": (
        lambda body: body.replace(b"1", b"2"),
        "was replaced while its week was converted",
    ),
}


def change(root: str, key: str, to: Callable[[bytes], bytes | None]) -> None:
    if root.startswith("s3://"):
        stored = boto3.resource("s3").Object(root.removeprefix("s3://"), key)
        body = to(stored.get()["Body"].read())
        stored.put(Body=body) if body is not None else stored.delete()
        return
    path = Path(root) / key
    body = to(path.read_bytes())
    if body is None:
        path.unlink()
        return
    changed = path.stat().st_mtime_ns + 1_000_000  # whatever the clock of the file system
    path.write_bytes(body)
    os.utime(path, ns=(changed, changed))


@pytest.mark.usefixtures("limit_of_one_mb")
@pytest.mark.parametrize("place", ["a folder", "a bucket"])
@pytest.mark.parametrize("which", ["a snapshot", "one that is too long"])
@pytest.mark.parametrize(("to", "sentence"), CHANGES.values(), ids=CHANGES)
def test_an_object_that_changes_after_it_was_listed_spoils_no_week(
    request: pytest.FixtureRequest,
    source: Path,
    destination: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    which: str,
    to: Callable[[bytes], bytes | None],
    sentence: str,
) -> None:
    key = f"raw/{name_of(0)}"
    body = b'[{"vehicleID":1}]' if which == "a snapshot" else b'[{"vehicleID":1' + b" " * (1 << 20)
    (source / key).write_bytes(body)
    root = str(source)
    if place == "a bucket":
        root = request.getfixturevalue("bucket")
        upload(source, root)
    monkeypatch.setenv("BUSTIMES_SOURCE", root)
    forget()
    archive = Archive.open()
    listing = list_week(archive.source, WEEK)
    assert key in {one.stored.key for one in listing.snapshots}
    change(root, key, to)
    spooled = Spool(archive.settings.spool, archive.destination.url).week(WEEK)
    with pytest.raises(Problem) as problem:
        finish(listing, True, archive.source, spooled, archive.settings, 2, lambda _: None)
    assert f"{root}/{key} {sentence}" in str(problem.value)
    assert "run it again" in str(problem.value)
    assert not spooled.is_finished()
    assert not destination.exists()

    afresh = list_week(open_root(root), WEEK)
    manifest = finish(afresh, True, archive.source, spooled, load(), 2, lambda _: None)
    assert spooled.is_finished()
    assert manifest.snapshots == len(afresh.snapshots) == 12 + (to(b"") is not None)
