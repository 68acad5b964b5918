"""Week files back to raw snapshots: what a pruned archive gives in place of the heap.

Each snapshot is written under its own raw name as a JSON list of exactly the records that its
original held, in the archive's order; an empty one is an empty list; one that was refused comes
back byte for byte. Converting what was restored gives the same week file again, in today's layout.
The place is listed first: what is there already must be the same, or the original itself, as where
a deletion was broken off, and is left alone; nothing that is in the way is overwritten. Reads the
archive, never the raw side.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum

from tasks import advice
from tasks.bustimes import inventory
from tasks.bustimes import manifest as manifests
from tasks.bustimes.archive import Archive
from tasks.bustimes.hour import line_end
from tasks.bustimes.inventory import Entry
from tasks.bustimes.listing import entries_of_week
from tasks.bustimes.manifest import HourOfFile, Manifest
from tasks.bustimes.snapshot import PREFIXES, key_of, time_of
from tasks.compression import Damaged
from tasks.problem import Problem
from tasks.storage import Overtaken, Root, StoredObject
from tasks.weeks import Week

_WRITES_AT_ONCE = 16
_TIME_BEGINS = b',"snapshot_time":"'
_ONLY_TIME_BEGINS = b'{"snapshot_time":"'


@dataclass(frozen=True)
class Restored:
    """What the place has now.

    `merged` counts snapshots that came back inside one of the same second, and `were_there` those
    that were there already, and to which nothing was done.
    """

    snapshots: int
    records: int
    bytes: int
    refused: int
    merged: int
    knows_names: bool
    """Whether the week has an inventory; without, empty snapshots are not known."""
    were_there: int = 0


def restore(
    archive: Archive,
    week: Week,
    to: Root,
    only: str = "",
    on_snapshot: Callable[[int], object] = int,
) -> Restored:
    """Write a week's snapshots below `to`, or only one: its key or its time, ISO 8601 in UTC.

    `on_snapshot` is called with 1 for each. Raises `Problem` where the week is not in the archive,
    the file is damaged or the snapshot is none of the week's; and, when all others are written,
    where something else is in the way of some.
    """
    manifest = archive.manifest(week)
    if manifest is None:
        raise Problem(f"{week} is not in the archive at {archive.destination.url}.")
    if manifest.week != week.label:
        raise Problem(
            f"{archive.destination.address_of(manifests.key_of(week))} is the manifest of "
            f"{manifest.week}. {advice.make('verify', WEEKS=week)} tells what to do."
        )
    entries = _entries(archive, week, manifest)
    wanted = _wanted(only, week, entries) if only else None
    records = size = refused = merged = restored = were_there = 0
    in_the_way: list[str] = []
    to.check_writable()
    for prefix in PREFIXES:
        to.remove_leftovers(prefix)
    there = {one.key: one for one in entries_of_week(to, week)}
    with ThreadPoolExecutor(_WRITES_AT_ONCE) as threads:
        for hour in manifest.hours:
            if wanted is not None and hour.hour != wanted.strftime(manifests.HOUR_FORMAT):
                continue
            bodies = list(_bodies(archive, manifest, hour, entries))
            chosen = [one for one in bodies if wanted is None or time_of(one.key) == wanted]
            outcomes = threads.map(lambda one: _put_back(to, one, there.get(one.key)), chosen)
            for body, outcome in zip(chosen, outcomes, strict=True):
                on_snapshot(1)
                were_there += outcome is _Outcome.WAS_THERE
                if outcome is _Outcome.IN_THE_WAY:
                    in_the_way.append(body.key)
            restored += len(chosen)
            records += sum(one.records for one in chosen)
            size += sum(len(one.data) for one in chosen)
            refused += sum(one.is_refused for one in chosen)
            merged += sum(one.is_merged for one in chosen)
    if in_the_way:
        more = f", and so are {len(in_the_way) - 1:,} more" if len(in_the_way) > 1 else ""
        raise Problem(
            f"{to.address_of(in_the_way[0])} is there already and is something else{more}; nothing "
            "is overwritten. All others are written. What would have been there comes to an empty "
            f"place: {advice.make('restore', WEEK=week, TO='folder')}"
        )
    knows_names = entries is not None
    return Restored(restored, records, size, refused, merged, knows_names, were_there)


def snapshots_to_restore(archive: Archive, week: Week) -> int:
    """How many snapshots a week has, for a progress bar."""
    manifest = archive.manifest(week)
    return manifest.snapshots if manifest is not None else 0


@dataclass(frozen=True)
class _Body:
    key: str
    data: bytes
    records: int
    original: Entry | None = None
    is_refused: bool = False
    is_merged: bool = False


_Entries = dict[str, list[Entry]]
"""The snapshots of each hour, in time order."""


def _entries(archive: Archive, week: Week, manifest: Manifest) -> _Entries | None:
    """What the inventory tells, by hour; None for a week that was written before there were any."""
    key = inventory.key_of(week, manifest.listing_sha256)
    if archive.destination.find(key) is None:
        return None
    name = archive.destination.address_of(key)
    found: _Entries = defaultdict(list)
    for entry in inventory.from_bytes(archive.destination.read(key), manifest.listing_sha256, name):
        time = time_of(entry.key)
        assert time is not None  # the fingerprint is that of a listing of snapshots
        found[time.strftime(manifests.HOUR_FORMAT)].append(entry)
    return found


def _wanted(only: str, week: Week, entries: _Entries | None) -> dt.datetime:
    """The time of the one snapshot that is asked for."""
    time = time_of(only) or time_of(f"raw/{only}")
    if time is None:
        try:
            time = dt.datetime.fromisoformat(only)
        except ValueError:
            raise Problem(
                f"{only!r} is no snapshot: write its key, such as {key_of(week.start)}, or its "
                f"time in UTC, such as {week.start:%Y-%m-%dT%H:%M:%S}."
            ) from None
        time = time.astimezone(dt.UTC) if time.tzinfo else time.replace(tzinfo=dt.UTC)
    known = [] if entries is None else entries.get(time.strftime(manifests.HOUR_FORMAT), [])
    is_known = entries is None or any(time_of(one.key) == time for one in known)
    if Week.of(time) != week or not is_known:
        raise Problem(f"{week} has no snapshot of {time:%Y-%m-%d %H:%M:%S} UTC.")
    return time


def _bodies(
    archive: Archive, manifest: Manifest, hour: HourOfFile, entries: _Entries | None
) -> Iterator[_Body]:
    """Every snapshot of an hour."""
    week = Week.parse(manifest.week)
    records_of = _records_by_time(archive, manifest, hour)
    if entries is None:
        for moment, records in sorted(records_of.items()):
            yield _Body(key_of(moment), _list_of(records), len(records))
        return
    left = 0
    for entry in entries[hour.hour]:
        if entry.records is None:
            kept = archive.destination.read(manifests.refused_key_of(week, entry.key))
            yield _Body(entry.key, kept, 0, entry, is_refused=True)
            continue
        time = time_of(entry.key)
        assert time is not None
        records = records_of.pop(time, [])
        left += len(records) - entry.records
        # Of several in one second the first gets all records, which the lines do not tell apart.
        merged = entry.records > 0 and not records
        yield _Body(entry.key, _list_of(records), len(records), entry, is_merged=merged)
    if left or records_of:
        raise Problem(
            f"{archive.destination.address_of(manifests.file_of(week))}: the hour {hour.hour} does "
            "not hold the records that its inventory promises. "
            f"{advice.make('verify', WEEKS=week, DEEP=1)} tells more."
        )


def _records_by_time(
    archive: Archive, manifest: Manifest, hour: HourOfFile
) -> dict[dt.datetime, list[bytes]]:
    """The records of an hour, without what the archive added, by their snapshot's time.

    However much its bytes would unpack to, no more is unpacked than the whole file should have.
    """
    week = Week.parse(manifest.week)
    file, most = manifests.file_of(week), manifest.output.uncompressed_bytes
    found: defaultdict[dt.datetime, list[bytes]] = defaultdict(list)
    try:
        data = archive.destination.read(file, hour.offset, hour.bytes) if hour.bytes else b""
        text = b"".join(_at_most(most, manifests.unpack(hour, data)))
        for line in text.splitlines(keepends=True):
            time, record = _parted(line)
            found[time].append(record)
    except ValueError as error:
        what = str(error) if isinstance(error, Damaged) else f"is damaged ({error})"
        raise Problem(
            f"{archive.destination.address_of(file)}: the hour {hour.hour} {what}. "
            f"{advice.make('verify', WEEKS=week, DEEP=1)} tells more."
        ) from None
    return found


def _at_most(most: int, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Raises `Damaged` before there are more bytes, and more memory is taken."""
    left = most
    for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            raise Damaged(
                f"is damaged: it unpacks to more than the {most:,} bytes of the whole file"
            )
        yield chunk


def _parted(line: bytes) -> tuple[dt.datetime, bytes]:
    """A line's snapshot_time, and its record as it was before that was added."""
    at = line.rfind(_TIME_BEGINS)
    begins = _TIME_BEGINS if at > 0 else _ONLY_TIME_BEGINS
    at = max(at, 0)
    time = dt.datetime.fromisoformat(line[at + len(begins) : -3].decode())
    record = line[:at] + b"}" if at else b"{}"
    end = line_end(time)
    if line != (record[:-1] + end if at else b"{" + end[1:]):
        raise ValueError("a line does not end in its snapshot_time")
    return time, record


def _list_of(records: list[bytes]) -> bytes:
    return b"[" + b",".join(records) + b"]"


class _Outcome(Enum):
    WRITTEN = "there was nothing of its name"
    WAS_THERE = "it, or its original, was there already"
    IN_THE_WAY = "something else has its name"


def _put_back(to: Root, body: _Body, there: StoredObject | None) -> _Outcome:
    """Write a snapshot where there is none; `there` is what the place was listed with."""
    if there is None:
        try:
            to.write(body.key, body.data, expected_etag="")
            return _Outcome.WRITTEN
        except Overtaken:  # by another restore at the same time
            there = to.find(body.key)
    if there is None or there.no_file:
        return _Outcome.IN_THE_WAY
    if body.original and (there.size, there.etag) == (body.original.size, body.original.etag):
        return _Outcome.WAS_THERE
    is_same = there.size == len(body.data) and to.read(body.key) == body.data
    return _Outcome.WAS_THERE if is_same else _Outcome.IN_THE_WAY
