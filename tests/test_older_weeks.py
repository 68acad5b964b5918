"""Weeks of an older version of the program stay valid for every command.

`older/version_2.tar.gz` was made by the program when it wrote manifests of version 2, and the hours
of a week file were gzip members. It has the twelve raw snapshots as well, one of them unreadable,
with their times, by which the listing of a folder is known.
"""

import dataclasses
import gzip
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.bustimes import prune
from tasks.bustimes.archive import Archive, convert_week
from tasks.bustimes.restore import restore
from tasks.bustimes.verify import verify
from tasks.settings import load
from tasks.storage import open_root
from tests.conftest import PROJECT
from tests.verified_archive import (
    FILE,
    MANIFEST,
    UNREADABLE,
    WEEK,
    archive_in,
    as_of_version_2,
    check,
    is_of_segments,
    manifest_of,
)

pytestmark = pytest.mark.soak


@pytest.fixture
def older(tmp_path: Path) -> Archive:
    """The archive in a folder."""
    with tarfile.open(PROJECT / "tests/older/version_2.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
    return opened(tmp_path / "raw-side", tmp_path / "weeks")


def opened(source: Path, destination: Path) -> Archive:
    settings = dataclasses.replace(load(), spool=destination.parent / "spool", spot_checks=3)
    return Archive(settings, open_root(str(source)), open_root(str(destination)))


def places(archive: Archive) -> dict[str, str]:
    return {
        "BUSTIMES_SOURCE": archive.source.url,
        "BUSTIMES_DESTINATION": archive.destination.url,
    }


def lines(archive: Archive) -> list[bytes]:
    return gzip.decompress(archive.destination.read(FILE)).splitlines()


def converted(source: Path, destination: Path) -> Archive:
    archive = opened(source, destination)
    convert_week(archive, WEEK, "", 1, lambda _listing: lambda _hour: None, print)
    return archive


def test_it_is_as_that_version_wrote_it(older: Archive) -> None:
    manifest = manifest_of(older)
    assert (manifest["version"], is_of_segments(older)) == (2, False)
    data = older.destination.read(FILE)
    for hour in manifest["hours"]:
        member = data[hour["offset"] : hour["offset"] + hour["bytes"]]
        assert len(gzip.decompress(member).splitlines()) == hour["lines"]


@pytest.mark.parametrize(("is_deep", "share"), [(False, 0.0), (True, 0.0), (False, 1.0)])
def test_it_is_good_at_every_depth(older: Archive, is_deep: bool, share: float) -> None:
    result = verify(older, [WEEK], is_deep, share=share)
    assert result.is_fine
    assert result.recorded == ([WEEK] if share == 1.0 else [])


def test_it_is_restored_and_then_converted_to_the_same_lines_in_one_member(
    older: Archive, tmp_path: Path
) -> None:
    restored = restore(older, WEEK, open_root(str(tmp_path / "back")))
    assert (restored.snapshots, restored.records, restored.refused) == (12, 110, 1)
    again = converted(tmp_path / "back", tmp_path / "again")
    assert is_of_segments(again)
    assert lines(again) == lines(older)


def test_it_is_no_reason_to_convert_it_again(older: Archive, ops: Callable[..., Any]) -> None:
    before = older.destination.read(FILE), older.destination.read(MANIFEST)
    ran = ops("full", "--refresh", "--weeks", WEEK, "--local-scheduler", **places(older))
    assert ran.returncode == 0, ran.stderr
    assert "0 weeks to convert" in ran.stdout + ran.stderr
    assert (older.destination.read(FILE), older.destination.read(MANIFEST)) == before


def test_a_late_snapshot_has_it_converted_again_as_one_member(
    older: Archive, ops: Callable[..., Any]
) -> None:
    late = "raw/bustimes__2021-11-09__00-00-05.json"
    older.source.write(late, b'[{"vehicleID": 7}]')
    assert check(older).state == "stale"
    ran = ops("full", "--refresh", "--weeks", WEEK, "--local-scheduler", **places(older))
    assert ran.returncode == 0, ran.stderr
    older.list_again()
    assert is_of_segments(older)
    assert len(lines(older)) == 111
    assert verify(older, [WEEK], False, share=1.0).is_fine


def test_plan_and_report_read_it(older: Archive, ops: Callable[..., Any], tmp_path: Path) -> None:
    planned = ops("plan", "--weeks", WEEK, **places(older))
    assert planned.returncode == 0, planned.stderr
    page = tmp_path / "page.html"
    reported = ops("report", "--to", page, **places(older))
    assert reported.returncode == 0, reported.stderr
    assert UNREADABLE in page.read_text()


def test_one_that_waits_in_the_spool_is_published_as_it_is(older: Archive, tmp_path: Path) -> None:
    spooled = older.spool.week(WEEK)
    spooled.folder.mkdir(parents=True)
    manifest, file = older.destination.read(MANIFEST), older.destination.read(FILE)
    weeks = tmp_path / "weeks"
    (weeks / FILE).rename(spooled.file)
    (weeks / MANIFEST).rename(spooled.manifest_file)
    [packed] = (weeks / "_inventories" / str(WEEK)).iterdir()
    packed.rename(spooled.inventory_file)
    kept = spooled.refused_folder / UNREADABLE
    kept.parent.mkdir(parents=True)
    (weeks / "_refused" / str(WEEK) / UNREADABLE).rename(kept)
    older.list_again()
    how = convert_week(older, WEEK, "", 1, lambda _listing: lambda _hour: None, print).how
    assert how.startswith("uploaded from the spool")
    assert (older.destination.read(MANIFEST), older.destination.read(FILE)) == (manifest, file)
    assert verify(older, [WEEK], True).is_fine


def test_its_raw_snapshots_may_go_once_it_is_proven(bucket: str, tmp_path: Path) -> None:
    archive = archive_in(bucket, f"{bucket}/v2", tmp_path / "spool", allow_prune=True)
    as_of_version_2(archive)
    assert verify(archive, [WEEK], False, share=1.0).recorded == [WEEK]
    assert prune.prune(archive, WEEK).objects == 12
    for is_deep in (False, True):
        assert check(archive, is_deep).state == "pruned"
    back = restore(archive, WEEK, archive.source)
    assert (back.snapshots, back.records) == (12, 110)


def test_its_manifest_is_read_as_it_stands(older: Archive) -> None:
    manifest = older.manifest(WEEK)
    assert manifest is not None
    written = json.loads(manifest.to_bytes())
    assert {name: written[name] for name in ("version", "records")} == {
        "version": 2,
        "records": 110,
    }
    assert written["output"]["layout"] == "members"
