"""An edited manifest is found and named, by the shallowest look that can tell.

What is at odds with itself or with the raw listing, every verify finds; what only the lines can
tell, DEEP; what only the raw snapshots can, SHARE. The rest nobody can tell.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.bustimes.archive import Archive
from tasks.bustimes.verify import WeekCheck
from tests.verified_archive import (
    MANIFEST,
    UNREADABLE,
    Values,
    archive_in,
    as_of_version_2,
    change_manifest,
    change_output,
    check,
    manifest_of,
    said,
    without_inventory,
)

SURFACE, DEEP, SHARE = "surface", "DEEP", "SHARE"
DEPTHS = (SURFACE, DEEP, SHARE)


@pytest.fixture
def here(tmp_path: Path) -> Archive:
    """A converted 2021-W45 of two hours, with a refused snapshot."""
    return archive_in(str(tmp_path / "in"), str(tmp_path / "out"), tmp_path / "spool")


def look(archive: Archive, depth: str = SURFACE) -> WeekCheck:
    return check(archive, depth == DEEP, 1.0 if depth == SHARE else 0.0)


def changed_hour(**values: object) -> Callable[[Values], Values]:
    """The second hour says something else."""
    return lambda manifest: {"hours": [manifest["hours"][0], manifest["hours"][1] | values]}


def changed(**values: object) -> Callable[[Values], Values]:
    return lambda _manifest: values


def changed_in_output(**values: object) -> Callable[[Values], Values]:
    return lambda manifest: {"output": manifest["output"] | values}


EDITS: dict[str, tuple[Callable[[Values], Values], str, str]] = {
    "week": (changed(week="2021-W44"), SURFACE, "its manifest is that of 2021-W44"),
    "order": (changed(order="snapshot"), DEEP, "stands behind lines that come after it by time"),
    "no order": (changed(order="upside down"), SURFACE, "knows an order 'upside down'"),
    "snapshots": (changed(snapshots=13), SURFACE, "says 13 snapshots, and its hours have 12"),
    "raw_bytes": (changed(raw_bytes=1), SURFACE, "says 1 raw bytes, and its hours have"),
    "records": (changed(records=111), SURFACE, "says 111 records in 110 lines"),
    "first": (changed(first_snapshot="2021-11-09T00:00:05+00:00"), SURFACE, "has a first snapshot"),
    "last": (changed(last_snapshot="2021-11-08T01:40:05+00:00"), SURFACE, "the snapshots are of"),
    "vehicles": (changed(vehicles=11), DEEP, "it is of 10 vehicles, its manifest says 11"),
    "a field": (
        lambda manifest: {"fields": manifest["fields"] | {"delay": {"integer": 7}}},
        DEEP,
        "delay is integer 110 times, its manifest says 7",
    ),
    "no field": (
        lambda manifest: {"fields": manifest["fields"] | {"colour": {"text": 1}}},
        DEEP,
        "colour is text 0 times, its manifest says 1",
    ),
    "too many": (
        lambda manifest: {"fields": manifest["fields"] | {"delay": {"integer": 111}}},
        SURFACE,
        "has the field delay in more records than there are",
    ),
    "refused": (changed(refused=[]), DEEP, f"its inventory says that {UNREADABLE} was refused"),
    "other refused": (
        changed(refused=[{"key": "raw/other.json", "bytes": 1, "reason": "?"}]),
        SURFACE,
        "has refused 'raw/other.json', which is no snapshot of the week",
    ),
    "refused size": (
        changed(refused=[{"key": UNREADABLE, "bytes": 1, "reason": "?"}]),
        SURFACE,
        f"the bytes of the unreadable {UNREADABLE} are not kept under _refused/",
    ),
    "no hours": (changed(hours=[]), SURFACE, "its manifest has no hours"),
    "hour": (changed_hour(hour="2021-11-08T02"), SURFACE, "a last snapshot of"),
    "hour of another week": (changed_hour(hour="2021-11-15T02"), SURFACE, "is not of the week"),
    "hour twice": (
        changed_hour(hour="2021-11-08T00"),
        SURFACE,
        "has the hour 2021-11-08T00 behind",
    ),
    "hour's place": (changed_hour(offset=7), SURFACE, "has the hour 2021-11-08T01 at byte 7, and"),
    "hour's bytes": (changed_hour(bytes=7), SURFACE, "bytes, and its hours have"),
    "hour's lines": (changed_hour(lines=7), SURFACE, "says 110 lines, and its hours have 67"),
    "hour's snapshots": (changed_hour(snapshots=7), SURFACE, "12 snapshots, and its hours have 13"),
    "hour's raw bytes": (changed_hour(raw_bytes=7), SURFACE, "raw bytes, and its hours have"),
    "hour is a text": (changed_hour(lines="7"), SURFACE, "is not a manifest"),
    "negative": (changed_hour(lines=-1), SURFACE, "that 6 snapshots are -1 lines in"),
    "null": (changed(records=None), SURFACE, "is not a manifest"),
    "list": (changed(fields=[]), SURFACE, "is not a manifest"),
    "file": (changed_in_output(file="other.gz"), SURFACE, "is of a file 'other.gz'"),
    "bytes": (changed_in_output(bytes=7), SURFACE, "its manifest says 7 bytes, and its hours have"),
    "lines": (changed_in_output(lines=7), SURFACE, "its manifest says 7 lines, and its hours have"),
    "uncompressed": (
        changed_in_output(uncompressed_bytes=7),
        SURFACE,
        "says 7 bytes unpacked, and its hours have",
    ),
    "layout": (changed_in_output(layout="members"), SURFACE, "has the hour 2021-11-08T00 at byte"),
    "other layout": (changed_in_output(layout="rows"), SURFACE, "knows a layout 'rows'"),
    "hour's uncompressed": (
        changed_hour(uncompressed_bytes=7),
        SURFACE,
        "bytes unpacked, and its hours have",
    ),
    "no hour's uncompressed": (
        changed_hour(uncompressed_bytes=None),
        SURFACE,
        "does not say which size and CRC-32 the lines of the hour 2021-11-08T01 have",
    ),
    "hour of no bytes": (
        changed_hour(uncompressed_bytes=0),
        SURFACE,
        "says of the hour 2021-11-08T01 that 50 lines have 0 bytes",
    ),
    "hour's CRC": (
        changed_hour(crc32=7),
        DEEP,
        "the hour 2021-11-08T01 is damaged: its checksum (CRC-32) is not the one in its manifest",
    ),
    "sha256": (
        changed_in_output(sha256="0" * 64),
        DEEP,
        "the file's SHA-256 is not the one in its manifest",
    ),
    "s3_sha256": (
        changed_in_output(s3_sha256="AAAA"),
        DEEP,
        "its manifest has another checksum of S3's than the file",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_manifest_is_found_and_named(here: Archive, name: str) -> None:
    edit, depth, why = EDITS[name]
    change_manifest(here, **edit(manifest_of(here)))
    in_folder = depth == DEEP and name == "sha256"  # where there is nothing else to check it by
    for shallower in () if in_folder else DEPTHS[: DEPTHS.index(depth)]:
        assert look(here, shallower).state == "good"
    found = look(here, depth)
    assert found.state == "damaged"
    assert why in said(found)


def test_without_an_inventory_only_the_raw_side_tells_what_was_refused(here: Archive) -> None:
    without_inventory(here)
    change_manifest(here, refused=[])
    assert look(here, DEEP).state == "good"
    found = look(here, SHARE)
    assert found.state == "damaged"
    assert f"{UNREADABLE} was not refused, although it is no" in said(found)


@pytest.mark.parametrize(
    "values",
    [
        {"tokenized": 7},
        {"compression_level": 7},
        {"conversion": None},
        {
            "conversion": {
                "seconds": 1.5,
                "requests": {"GET": {"requests": 7, "retries": {"503": 1}}},
            }
        },
    ],
)
def test_what_nothing_can_be_held_against_is_not_found(here: Archive, values: Values) -> None:
    change_manifest(here, **values)
    assert look(here, SHARE).state == "good"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is not a manifest"),
        (b"[]", "is not a manifest"),
        (b'{"version": 1}', "is not a manifest"),
        (b'{"version": 99}', "is of version 99; this program knows"),
    ],
)
def test_a_manifest_that_is_none_is_damage(here: Archive, data: bytes, why: str) -> None:
    here.destination.write(MANIFEST, data)
    for depth in DEPTHS:
        found = look(here, depth)
        assert found.state == "damaged"
        assert why in found.why
        assert not found.can_be_converted
        assert "If the source still has the whole week" in found.remedy


def test_a_week_of_members_is_held_to_what_its_manifest_says(here: Archive) -> None:
    as_of_version_2(here)
    assert look(here, SHARE).state == "good"
    change_output(here, uncompressed_bytes=7)
    assert look(here).state == "good"
    assert "bytes, its manifest says 7" in said(look(here, DEEP))
    hours = manifest_of(here)["hours"]
    change_manifest(here, hours=[hours[0] | {"crc32": 7}, hours[1]])
    assert "says of the hour 2021-11-08T00 what a gzip member says itself" in look(here).why


def test_manifests_of_version_1_are_held_to_what_they_say(here: Archive) -> None:
    as_of_version_2(here)
    manifest = manifest_of(here)
    for name in ("vehicles", "fields", "conversion"):
        manifest.pop(name, None)
    for hour in manifest["hours"]:
        del hour["raw_bytes"]
    here.destination.write(MANIFEST, json.dumps(manifest | {"version": 1}).encode())
    assert look(here, SHARE).state == "good"
