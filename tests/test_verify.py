"""Verify finds and names each kind of damage, and says what to run."""

import dataclasses
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest

from tasks.bustimes import verify as verify_module
from tasks.bustimes.archive import Archive, convert_week
from tasks.bustimes.listing import Listing
from tasks.bustimes.verify import Report, WeekCheck, verify
from tasks.problem import Problem
from tasks.settings import load
from tasks.storage import Root, open_root
from tasks.weeks import Week, span
from tests.conftest import Run

WEEK = Week(2021, 45)
Make = Callable[..., list[Path]]


@pytest.fixture(params=["folder", "bucket"])
def archive(request: pytest.FixtureRequest, tmp_path: Path, make_snapshots: Make) -> Archive:
    """A converted 2021-W45 of two hours, in a folder or in a bucket, with a refused snapshot."""
    paths = make_snapshots(tmp_path / "in", "2021-W45", unreadable=1)
    source = open_root(str(tmp_path / "in"))
    destination = open_root(str(tmp_path / "out"))
    if request.param == "bucket":
        bucket = request.getfixturevalue("bucket")
        source, destination = open_root(bucket), open_root(f"{bucket}/v2")
        for path in paths:
            source.write(f"raw/{path.name}", path.read_bytes())
    settings = dataclasses.replace(load(), spot_checks=12)
    archive = Archive(settings, source, destination)
    convert_week(archive, WEEK, "", 1, lambda _listing: lambda _hour: None, print)
    return archive


def check(archive: Archive, deep: bool = False) -> WeekCheck:
    return verify(archive, [WEEK], deep, seed=1).checks[0]


def read(archive: Archive, key: str) -> bytes:
    return archive.destination.read(key)


FILE = "2021-W45.jsonl.gz"
MANIFEST = "_manifests/2021-W45.json"


def test_a_good_archive_is_good(archive: Archive) -> None:
    report = verify(archive, list(span(Week(2021, 44), Week(2021, 46))), deep=True, seed=1)
    text = "\n".join(report.lines())
    assert report.is_fine
    assert "weeks      2021-W44 to 2021-W46 (3): 1 good, 2 gaps" in text
    assert "first      2021-W45, from 2021-11-08T00:00:05+00:00" in text
    assert "last       2021-W45, to 2021-11-08T01:50:05+00:00" in text
    assert "snapshots  12, of which 1 unreadable ones set aside" in text
    assert "gaps       2021-W44, 2021-W46: no raw snapshots, so no file" in text
    assert "12 snapshots at random" in text
    assert report.spot_records > 0
    assert text.endswith("Complete and correct.")


def test_a_missing_file_is_missing(archive: Archive, tmp_path: Path) -> None:
    other = Archive(archive.settings, archive.source, open_root(str(tmp_path / "empty")))
    found = check(other)
    assert (found.state, found.why) == ("missing", "12 raw snapshots and no file")
    assert found.remedy == "Run make full WEEKS=2021-W45."


def test_a_file_of_another_size_is_damaged(archive: Archive) -> None:
    data = read(archive, FILE)
    archive.destination.write(FILE, data[:-1])
    found = check(archive)
    assert found.state == "damaged"
    assert found.why == f"the file has {len(data) - 1:,} bytes, its manifest says {len(data):,}"


def test_a_flipped_byte_is_found(archive: Archive) -> None:
    data = bytearray(read(archive, FILE))
    data[len(data) // 2] ^= 1
    archive.destination.write(FILE, bytes(data))
    found = check(archive)
    assert found.state == "damaged"
    assert found.why == "the file's SHA-256 is not the one in its manifest"
    assert "make full WEEKS=2021-W45 REFRESH=1" in found.remedy


@pytest.mark.parametrize("archive", ["bucket"], indirect=True)
def test_a_file_that_another_tool_put_on_s3_is_read_when_deep(
    bucket: str, archive: Archive
) -> None:
    data = bytearray(read(archive, FILE))
    data[len(data) // 2] ^= 1
    client = boto3.client(
        "s3",
        region_name="us-east-1",
        config=boto3.session.Config(request_checksum_calculation="when_required"),
    )
    client.put_object(Bucket=bucket.removeprefix("s3://"), Key=f"v2/{FILE}", Body=bytes(data))
    found = check(archive, deep=True)
    assert found.state == "damaged"


def _same_size(archive: Archive, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Replace the file by one with changed lines, and its manifest by one that fits the bytes."""
    lines = gzip.decompress(read(archive, FILE)).splitlines(keepends=True)
    changed = change(lines)
    data = gzip.compress(b"".join(changed))
    archive.destination.write(FILE, data)
    manifest = json.loads(read(archive, MANIFEST))
    import base64
    import hashlib

    digest = hashlib.sha256(data)
    manifest["output"] |= {
        "bytes": len(data),
        "sha256": digest.hexdigest(),
        "s3_sha256": base64.b64encode(digest.digest()).decode(),
    }
    archive.destination.write(MANIFEST, json.dumps(manifest).encode())


def test_deep_finds_missing_and_doubled_lines(archive: Archive) -> None:
    _same_size(archive, lambda lines: lines[1:])
    archive.settings.__dict__["spot_checks"] = 0
    found = check(archive, deep=True)
    assert found.state == "damaged"
    assert "lines, its manifest says" in found.why
    assert found.remedy.startswith("Remove ")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{not json}\n", "behind line 1 it cannot be read"),
        (b"[1]\n", "line 1 is no record with its snapshot_time last"),
        (b'{"snapshot_time":"2021-11-08T00:00:05+00:00","a":1}\n', "line 1 is no record"),
        (b'{"a":1,"snapshot_time":"2021-11-15T00:00:05+00:00"}\n', "is outside the week"),
    ],
)
def test_deep_finds_a_line_that_does_not_belong(archive: Archive, line: bytes, why: str) -> None:
    _same_size(archive, lambda lines: [line, *lines[1:]])
    assert why in check(archive, deep=True).why


def test_deep_finds_a_truncated_member_and_no_gzip_at_all(archive: Archive) -> None:
    from tasks.bustimes.verify import read_through

    manifest = archive.manifest(WEEK)
    assert manifest is not None
    data = read(archive, FILE)
    archive.destination.write(FILE, data[:-20])
    assert "ends in the middle of a gzip member" in read_through(archive, WEEK, manifest)
    archive.destination.write(FILE, b"no gzip")
    assert "cannot be read" in read_through(archive, WEEK, manifest)


def test_the_spot_check_finds_records_that_are_not_those_of_the_snapshot(archive: Archive) -> None:
    manifest = json.loads(read(archive, MANIFEST))
    hour = manifest["hours"][0]
    data = read(archive, FILE)
    text = gzip.decompress(data[: hour["bytes"]]).replace(b'"delay":', b'"Delay":')
    member = gzip.compress(text)
    import base64
    import hashlib

    new = member + data[hour["bytes"] :]
    manifest["hours"][0]["bytes"] = len(member)
    manifest["hours"][1]["offset"] = len(member)
    digest = hashlib.sha256(new)
    manifest["output"] |= {
        "bytes": len(new),
        "sha256": digest.hexdigest(),
        "s3_sha256": base64.b64encode(digest.digest()).decode(),
    }
    archive.destination.write(FILE, new)
    archive.destination.write(MANIFEST, json.dumps(manifest).encode())
    found = check(archive)
    assert found.state == "damaged"
    assert "are not those in the file" in found.why


def test_the_spot_check_reads_by_other_means_than_the_conversion(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.bustimes import kernel, snapshot

    def fail(*_: object) -> None:
        raise AssertionError("the spot check used the conversion's own parser")

    monkeypatch.setattr(snapshot, "read_records", fail)
    monkeypatch.setattr(kernel, "Kernel", fail)
    assert check(archive).state == "good"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is not a manifest"),
        (b"[]", "is not a manifest"),
        (b'{"version": 1}', "is not a manifest"),
        (b'{"version": 99}', "is of version 99; this program knows 2"),
    ],
)
def test_a_manifest_that_is_none_is_damage(archive: Archive, data: bytes, why: str) -> None:
    archive.destination.write(MANIFEST, data)
    found = check(archive)
    assert found.state == "damaged"
    assert why in found.why


def test_the_manifest_of_another_week_is_damage(archive: Archive) -> None:
    manifest = json.loads(read(archive, MANIFEST)) | {"week": "2021-W44"}
    archive.destination.write(MANIFEST, json.dumps(manifest).encode())
    assert check(archive).why == "its manifest is that of 2021-W44"


def test_a_refused_snapshot_whose_bytes_are_not_kept_is_damage(archive: Archive) -> None:
    manifest = archive.manifest(WEEK)
    assert manifest is not None
    [refused] = manifest.refused
    archive.destination.write(f"_refused/2021-W45/{refused.key}", b"other")
    found = check(archive)
    assert found.state == "damaged"
    assert refused.key in found.why


def test_snapshots_that_came_late_make_a_week_stale(archive: Archive) -> None:
    archive.source.write("raw/bustimes__2021-11-09__00-00-05.json", b"[]")
    found = check(archive)
    assert (found.state, found.why) == ("stale", "1 raw snapshot came after it was converted")
    assert found.remedy == "Run make full WEEKS=2021-W45 REFRESH=1."


def test_snapshots_that_changed_make_a_week_stale(archive: Archive) -> None:
    archive.source.write("raw/bustimes__2021-11-08__00-00-05.json", b"[{}]")
    found = check(archive)
    assert (found.state, found.why) == (
        "stale",
        "raw snapshots have changed since it was converted",
    )


def test_snapshots_that_are_gone_are_named_and_the_week_is_to_be_kept(
    archive: Archive, tmp_path: Path
) -> None:
    emptied = Archive(archive.settings, open_root(str(tmp_path)), archive.destination)
    found = check(emptied)
    assert found.state == "raw gone"
    assert "12 of 12 raw snapshots" in found.why
    assert "do not convert the week again" in found.remedy


def test_a_damaged_week_whose_raw_side_is_gone_is_not_to_be_converted_again(
    archive: Archive, tmp_path: Path
) -> None:
    archive.destination.write(FILE, b"damaged")
    emptied = Archive(archive.settings, open_root(str(tmp_path / "empty")), archive.destination)
    (tmp_path / "empty").mkdir()
    found = check(emptied)
    assert found.state == "damaged"
    assert "12 of 12 raw snapshots in it are gone" in found.why
    assert not found.can_be_converted
    assert "make full" not in found.remedy


def test_nothing_to_verify_is_not_called_correct(archive: Archive) -> None:
    with pytest.raises(Problem, match="nothing to verify"):
        verify(archive, [Week(2021, 44)], deep=False)


def test_weeks_without_snapshots_are_not_listed_one_by_one(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[Week] = []
    real = verify_module.list_week

    def counted(source: Root, week: Week) -> Listing:
        listed.append(week)
        return real(source, week)

    monkeypatch.setattr(verify_module, "list_week", counted)
    report = verify(archive, list(span(Week(2017, 1), Week(2024, 1))), deep=False)
    assert len(report.of("gap")) > 300
    assert set(listed) == {check.week for check in report.checks if check.state != "gap"}
    assert report.is_fine


def test_the_report_counts_every_week_and_ends_with_the_verdict() -> None:
    checks = [
        WeekCheck(Week(2021, 44), "gap"),
        WeekCheck(Week(2021, 45), "stale", "3 raw snapshots came", "Run make full."),
    ]
    lines = list(Report("s3://raw", "s3://v2", checks, deep=False).lines())
    assert lines[0] == "archive    s3://v2, from s3://raw"
    assert lines[1] == "weeks      2021-W44 to 2021-W45 (2): 1 stale, 1 gap"
    assert "stale      2021-W45: 3 raw snapshots came. Run make full." in lines
    assert lines[-1] == "Not as it should be: 1 of 2 weeks."


def test_make_verify_exits_with_the_truth(tmp_path: Path, make_snapshots: Make, ops: Run) -> None:
    make_snapshots(tmp_path / "in", "2021-W45")
    places = {
        "BUSTIMES_SOURCE": str(tmp_path / "in"),
        "BUSTIMES_DESTINATION": str(tmp_path / "out"),
    }
    missing = ops("verify", "--weeks", "2021-W45", **places)
    assert missing.returncode == 1
    assert "missing    2021-W45: 12 raw snapshots and no file." in missing.stdout
    assert ops("full", "--weeks", "2021-W45", "--local-scheduler", **places).returncode == 0
    good = ops("verify", "--weeks", "2021-W45", "--deep", **places)
    assert good.returncode == 0
    assert "every byte and line of every week" in good.stdout
    file = tmp_path / "out" / FILE
    os.truncate(file, file.stat().st_size - 1)
    assert ops("verify", "--weeks", "2021-W45", **places).returncode == 1
    mended = ops("full", "--weeks", "2021-W45", "--refresh", "--local-scheduler", **places)
    assert mended.returncode == 0
    assert ops("verify", "--weeks", "2021-W45", "--deep", **places).returncode == 0
