"""One hour of raw snapshots to one gzip member of JSON lines: the conversion itself.

Pure functions, bytes in and bytes out, for any number of processes or a notebook: no settings, no
S3, no luigi. `convert` promises that every record of every readable snapshot stands in the result
exactly once, with `snapshot_time` added last, in the promised order; a body that cannot be read is
named with its reason and leaves nothing behind. The same input gives the same bytes.

An hour is the unit because it is large enough to compress well and small enough to sort in
memory: inside it all records of one vehicle stand together, which makes neighbouring lines nearly
equal and halves the size.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tasks.bustimes.snapshot import Records, Refused, VehicleKey, read_records
from tasks.compression import gzip_member


@dataclass(frozen=True)
class ConvertedHour:
    """One hour's gzip member and what is in it; `member` is empty where there are no lines.

    `refused` holds (key, reason) of each body that is no snapshot; `tokenized` counts records
    that needed the parser's slow path.
    """

    member: bytes
    lines: int
    uncompressed_bytes: int
    snapshots: int
    raw_bytes: int
    refused: list[tuple[str, str]]
    tokenized: int


def convert(
    snapshots: Iterable[tuple[str, dt.datetime, bytes]], order: str, level: int
) -> ConvertedHour:
    """Convert (key, UTC time, body) of one hour, which must come in time order.

    `order` is "vehicle" or "snapshot"; `level` is libdeflate's, 1 to 12.
    """
    read: list[tuple[bytes, Records]] = []
    refused: list[tuple[str, str]] = []
    raw_bytes = count = tokenized = 0
    for key, time, body in snapshots:
        count += 1
        raw_bytes += len(body)
        try:
            records = read_records(body)
        except Refused as reason:
            refused.append((key, str(reason)))
            continue
        read.append((line_end(time), records))
        tokenized += records.tokenized
    lines = list(_by_vehicle(read) if order == "vehicle" else _by_snapshot(read))
    text = b"".join(lines)
    return ConvertedHour(
        member=gzip_member(text, level) if lines else b"",
        lines=len(lines),
        uncompressed_bytes=len(text),
        snapshots=count,
        raw_bytes=raw_bytes,
        refused=refused,
        tokenized=tokenized,
    )


def line_end(time: dt.datetime) -> bytes:
    """What stands in place of a record's closing brace: its snapshot_time, and the line's end."""
    return b',"snapshot_time":"%s"}\n' % time.isoformat().encode()


def _line(record: bytes, end: bytes) -> bytes:
    return record[:-1] + end if len(record) > 2 else b"{" + end[1:]


def _by_snapshot(read: list[tuple[bytes, Records]]) -> Iterator[bytes]:
    for end, snapshot in read:
        for record in snapshot.records:
            yield _line(record, end)


def _by_vehicle(read: list[tuple[bytes, Records]]) -> Iterator[bytes]:
    """By vehicle, then time: whole numbers first, in numerical order, then all other kinds."""
    of_vehicle: defaultdict[VehicleKey, list[bytes]] = defaultdict(list)
    for end, snapshot in read:
        for vehicle, record in zip(snapshot.vehicles, snapshot.records, strict=True):
            of_vehicle[vehicle].append(_line(record, end))
    for vehicle in sorted(key for key in of_vehicle if isinstance(key, int)):
        yield from of_vehicle[vehicle]
    for other in sorted(key for key in of_vehicle if isinstance(key, tuple)):
        yield from of_vehicle[other]
