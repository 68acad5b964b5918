"""What restore promises: the heap again, as good as it was."""

import datetime as dt
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_week_file import convert, manifest_of

from tasks import advice
from tasks.bustimes import inventory
from tasks.bustimes.archive import Archive
from tasks.bustimes.restore import Restored, restore
from tasks.bustimes.snapshot import read_records
from tasks.problem import Problem
from tasks.storage import open_root
from tasks.weeks import Week

WEEK = Week(2021, 45)
FILE = f"{WEEK}.jsonl.gz"
EMPTY, REFUSED = (
    "raw/bustimes__2021-11-09__00-00-05.json",
    "raw/bustimes__2021-11-09__00-01-05.json",
)
AT_ROOT = "bustimes__2021-11-09__00-02-05.json"

Converted = Callable[..., Archive]


@pytest.fixture
def heap(raw_week: Path) -> Path:
    """Some of a week, of both formats, with an empty snapshot, unreadable ones, one at the root."""
    paths = sorted((raw_week / "raw").iterdir())
    body = paths[0].read_bytes()
    for path in set(paths) - set(paths[::25]):
        path.unlink()
    (raw_week / EMPTY).write_bytes(b"{}")
    (raw_week / REFUSED).write_bytes(b"<html>503</html>")
    (raw_week / AT_ROOT).write_bytes(body)
    return raw_week


@pytest.fixture(params=["vehicle", "snapshot"])
def archive(request: pytest.FixtureRequest, heap: Path, tmp_path: Path) -> Archive:
    return convert(str(heap), str(tmp_path / "weeks"), order=request.param)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.json"))


def as_it_lies(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder below, by its number and the time of its last change of any kind."""
    paths = {path: path.stat() for path in folder.rglob("*")}
    return {str(path): (status.st_ino, status.st_ctime_ns) for path, status in paths.items()}


def refused_of(archive: Archive) -> set[str]:
    return {one.key for one in manifest_of(archive).refused}


def counted(body: bytes) -> list[str]:
    return sorted(json.dumps(json.loads(record)) for record in read_records(body).records)


def back(archive: Archive, folder: Path, only: str = "") -> Restored:
    return restore(archive, WEEK, open_root(str(folder)), only)


def test_every_snapshot_comes_back_under_its_own_name_with_its_own_records(
    archive: Archive, heap: Path, tmp_path: Path
) -> None:
    done = back(archive, tmp_path / "back")
    assert names(tmp_path / "back") == names(heap)
    for name in names(heap):
        original, restored = (heap / name).read_bytes(), (tmp_path / "back" / name).read_bytes()
        if name in refused_of(archive):
            assert restored == original
        else:
            json.loads(restored)
            assert counted(restored) == counted(original)
    manifest = manifest_of(archive)
    assert (done.snapshots, done.records) == (manifest.snapshots, manifest.records)
    assert REFUSED in refused_of(archive)
    assert (done.refused, done.merged, done.knows_names) == (len(manifest.refused), 0, True)


def test_what_was_restored_gives_the_same_week_file_again(archive: Archive, tmp_path: Path) -> None:
    back(archive, tmp_path / "back")
    again = convert(str(tmp_path / "back"), str(tmp_path / "again"), order=archive.settings.order)
    assert again.destination.read(FILE) == archive.destination.read(FILE)


@pytest.mark.parametrize("only", [AT_ROOT, "2021-11-09T00:02:05", "2021-11-09T01:02:05+01:00"])
def test_one_snapshot_may_be_asked_for_by_key_or_time(
    archive: Archive, tmp_path: Path, only: str
) -> None:
    assert back(archive, tmp_path / "back", only).snapshots == 1
    assert names(tmp_path / "back") == [AT_ROOT]


def test_restoring_twice_is_as_good_as_once_but_nothing_else_is_overwritten(
    archive: Archive, tmp_path: Path
) -> None:
    first = back(archive, tmp_path / "back")
    assert first.were_there == 0
    before = as_it_lies(tmp_path / "back")
    assert back(archive, tmp_path / "back") == replace(first, were_there=first.snapshots)
    assert as_it_lies(tmp_path / "back") == before
    (tmp_path / "back" / AT_ROOT).write_bytes(b"mine")
    (tmp_path / "back" / EMPTY).unlink()
    with pytest.raises(Problem, match=r"is there already and is something else; .* All others are"):
        back(archive, tmp_path / "back")
    assert (tmp_path / "back" / AT_ROOT).read_bytes() == b"mine"
    assert (tmp_path / "back" / EMPTY).read_bytes() == b"[]"


@pytest.mark.parametrize(
    ("only", "why"),
    [
        ("yesterday", "is no snapshot"),
        ("raw/bustimes__2021-11-09__00-00-06.json", "has no snapshot of 2021-11-09 00:00:06 UTC"),
        ("2022-01-01T00:00:00", "has no snapshot of"),
    ],
)
def test_a_snapshot_that_is_none_is_said_to_be_none(
    archive: Archive, tmp_path: Path, only: str, why: str
) -> None:
    with pytest.raises(Problem, match=why):
        back(archive, tmp_path / "back", only)


def test_a_week_that_is_not_there_is_said_to_be_not_there(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(Problem, match="2021-W44 is not in the archive"):
        restore(archive, Week(2021, 44), open_root(str(tmp_path / "back")))


def test_two_snapshots_of_the_same_second_keep_all_their_records(
    heap: Path, tmp_path: Path
) -> None:
    (heap / "raw" / AT_ROOT).write_bytes((heap / AT_ROOT).read_bytes())
    archive = convert(str(heap), str(tmp_path / "weeks"))
    done = back(archive, tmp_path / "back")
    assert (done.merged, done.records) == (1, manifest_of(archive).records)
    assert names(tmp_path / "back") == names(heap)
    again = convert(str(tmp_path / "back"), str(tmp_path / "again"))
    assert again.destination.read(FILE) == archive.destination.read(FILE)


def test_a_week_without_an_inventory_comes_back_but_for_what_nobody_knows(
    archive: Archive, heap: Path, tmp_path: Path
) -> None:
    key = inventory.key_of(WEEK, manifest_of(archive).listing_sha256)
    (tmp_path / "weeks" / key).unlink()
    done = back(archive, tmp_path / "back")
    assert not done.knows_names
    assert done.records == manifest_of(archive).records
    wanted = {f"raw/{name.removeprefix('raw/')}" for name in set(names(heap)) - refused_of(archive)}
    there = set(names(tmp_path / "back"))
    assert there < wanted
    assert EMPTY in wanted - there
    for name in wanted - there:
        assert not counted((heap / name).read_bytes())


def spoil(path: Path, change: Callable[[bytearray], Any]) -> None:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)


def test_a_damaged_week_is_not_restored_as_if_it_were_whole(
    archive: Archive, tmp_path: Path
) -> None:
    spoil(tmp_path / "weeks" / FILE, lambda data: data.__setitem__(len(data) // 2, 0xFF))
    with pytest.raises(Problem, match=r"the hour .* (is damaged|does not hold)"):
        back(archive, tmp_path / "back")


def test_an_inventory_of_another_listing_is_not_believed(archive: Archive, tmp_path: Path) -> None:
    key = inventory.key_of(WEEK, manifest_of(archive).listing_sha256)
    spoil(tmp_path / "weeks" / key, lambda data: data.__setitem__(slice(None), b"no gzip"))
    with pytest.raises(Problem, match="is no inventory of a week, or is damaged"):
        back(archive, tmp_path / "back")


def test_the_inventory_names_every_raw_object_and_its_records(archive: Archive, heap: Path) -> None:
    manifest = manifest_of(archive)
    key = inventory.key_of(WEEK, manifest.listing_sha256)
    entries = inventory.from_bytes(archive.destination.read(key), manifest.listing_sha256, key)
    assert [one.key for one in entries] == sorted(names(heap), key=lambda name: name[-26:])
    of = {one.key: one.records for one in entries}
    assert of[EMPTY] == 0
    assert {name for name, count in of.items() if count is None} == refused_of(archive)
    for name in set(names(heap)) - refused_of(archive):
        assert of[name] == len(counted((heap / name).read_bytes()))
    assert sum(one.records or 0 for one in entries) == manifest.records


def test_the_command_says_what_it_did(ops: Callable[..., Any], heap: Path, tmp_path: Path) -> None:
    archive = convert(str(heap), str(tmp_path / "weeks"))
    places = {"BUSTIMES_SOURCE": str(heap), "BUSTIMES_DESTINATION": str(tmp_path / "weeks")}
    ran = ops("restore", "--week", str(WEEK), "--to", str(tmp_path / "back"), **places)
    assert ran.returncode == 0, ran.stderr
    assert f"{manifest_of(archive).snapshots:,} snapshots with" in ran.stdout
    assert "that had been refused came back as kept." in ran.stdout
    assert names(tmp_path / "back") == names(heap)
    nothing = ops("restore", "--week", str(WEEK), **places)
    assert nothing.returncode == 2
    example = advice.make("restore", os.environ | places, WEEK="2018-W25", TO="folder")
    assert f"as in: {example}\n" in nothing.stderr


def test_hours_and_fields_and_vehicles_are_in_the_manifest(archive: Archive, heap: Path) -> None:
    manifest = manifest_of(archive)
    records = [
        json.loads(record)
        for name in set(names(heap)) - refused_of(archive)
        for record in read_records((heap / name).read_bytes()).records
    ]
    assert manifest.vehicles == len({record["vehicleID"] for record in records})
    assert sum(hour.raw_bytes or 0 for hour in manifest.hours) == manifest.raw_bytes
    assert set(manifest.fields) == {name for record in records for name in record}
    for name, kinds in manifest.fields.items():
        assert sum(kinds.values()) == sum(name in record for record in records)
    nulls = sum(record["loadPercentage"] is None for record in records)
    assert manifest.fields["loadPercentage"].get("null", 0) == nulls
    assert manifest.conversion is not None
    assert manifest.conversion.seconds > 0
    assert dt.datetime.fromisoformat(manifest.first_snapshot).tzinfo is not None


def test_nothing_is_written_through_a_link_at_the_place_or_below_it(
    archive: Archive, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    for leads_to in (elsewhere, tmp_path / "back", tmp_path / "nowhere", tmp_path / "back/raw"):
        elsewhere.mkdir(exist_ok=True)
        (tmp_path / "back").mkdir()
        (tmp_path / "back/raw").symlink_to(leads_to)
        with pytest.raises(Problem, match=r"back/raw (is a link, and nothing is written|cannot)"):
            back(archive, tmp_path / "back")
        assert list(elsewhere.iterdir()) == []
        assert {path.name for path in (tmp_path / "back").iterdir()} <= {"raw", AT_ROOT}
        assert not (tmp_path / "nowhere").exists()
        shutil.rmtree(tmp_path / "back")
    (tmp_path / "back").symlink_to(elsewhere)  # which was named, and may be one
    back(archive, tmp_path / "back")
    assert len(names(elsewhere)) == manifest_of(archive).snapshots


@pytest.mark.parametrize("kind", ["link to nowhere", "link to itself", "pipe", "folder"])
def test_what_is_no_file_is_in_the_way_as_well_and_is_left(
    archive: Archive, tmp_path: Path, kind: str
) -> None:
    place = tmp_path / "back" / EMPTY
    place.parent.mkdir(parents=True)
    if kind == "folder":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to(place if kind == "link to itself" else tmp_path / "nowhere")
    before = place.lstat()
    with pytest.raises(Problem, match=rf"{EMPTY} is there already and is something else; "):
        back(archive, tmp_path / "back")
    assert (place.lstat().st_ino, place.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert len(list((tmp_path / "back").rglob("*.json"))) == manifest_of(archive).snapshots
    assert not (tmp_path / "nowhere").exists()
