"""A small converted week in a bucket, proven, for the tests of prune; and what may become of it.

2021-W45 of twelve snapshots, as `verified_archive` has it, where deleting is allowed.
"""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from tasks.bustimes import prune
from tasks.bustimes.archive import Archive, convert_week
from tasks.bustimes.snapshot import key_of
from tasks.bustimes.verify import proof, verify
from tasks.settings import load
from tasks.storage import open_root
from tasks.storage.s3 import S3Prefix
from tasks.weeks import Week
from tests.processes_under_test import Fill, Place
from tests.verified_archive import FILE, WEEK, archive_in, flipped, remove

LATE = "raw/bustimes__2021-11-09__00-00-05.json"
FIRST = "raw/bustimes__2021-11-08__00-00-05.json"
RECORD = f"_pruned/{WEEK}.json"


def proven_archive(bucket: str, tmp_path: Path) -> Archive:
    """The archive, in a bucket of the test's own."""
    archive = archive_in(bucket, f"{bucket}/v2", tmp_path / "spool", allow_prune=True)
    prove(archive)
    return archive


Proven = tuple[Place, Archive]


def proven_week(fill: Fill, folder: Path, snapshots: int) -> Proven:
    """A week of so many small snapshots behind the gate, converted and proven; of their folder."""
    (folder / "raw").mkdir(parents=True)
    for time in (WEEK.start + timedelta(minutes=minute) for minute in range(snapshots)):
        (folder / key_of(time)).write_text(json.dumps([{"vehicleID": time.minute, "delay": 1}]))
    place = fill(folder)
    archive = Archive(load(), open_root(place.source), open_root(place.destination))
    convert_week(archive, WEEK, "", 1, lambda _listing: lambda _hour: None, print)
    assert verify(archive, [WEEK], False, share=1.0).recorded == [WEEK]
    return place, archive


def prove(archive: Archive, share: float = 1.0) -> None:
    """As `make verify SHARE=` does that has compared all and found it good."""
    manifest = archive.manifest(WEEK)
    assert manifest is not None
    proof.keep(archive, manifest, share, manifest.snapshots, manifest.records)


def confirmation_of(archive: Archive, *weeks: Week) -> str:
    """What has `make prune` delete all that may go of the weeks."""
    candidates = prune.look_at_all(archive, list(weeks) or [WEEK])
    return f"{source_of(archive).bucket}:{prune.code_of(archive, candidates)}"


def confirmation_in(printed: str) -> str:
    """The same, as `make prune` has printed it."""
    return printed.rpartition("CONFIRM=")[2].split()[0]


def source_of(archive: Archive) -> S3Prefix:
    assert isinstance(archive.source, S3Prefix)
    return archive.source


def raw(archive: Archive) -> set[str]:
    """The keys of the raw snapshots that are there."""
    return {one.key for one in archive.source.objects("raw/")}


def record(archive: Archive) -> dict[str, Any]:
    """What prune has written down of the week."""
    values: dict[str, Any] = json.loads(archive.destination.read(RECORD))
    return values


def late(archive: Archive) -> None:
    """A snapshot comes after the week was converted."""
    archive.source.write(LATE, b"[]")


def replaced(archive: Archive) -> None:
    """A snapshot is replaced."""
    archive.source.write(FIRST, b"[{}]")


def not_converted(archive: Archive) -> None:
    """The week file is lost."""
    remove(archive.destination, FILE)
    archive.list_again()


def with_other_file(archive: Archive) -> None:
    """The week file is replaced."""
    data = archive.destination.read(FILE)
    archive.destination.write(FILE, flipped(data, len(data) // 2))
