"""What a week file says of itself: `<destination>/_manifests/{week}.json`.

A manifest is written before its week file, describes it completely (what went in, what was
refused, what came out, where each hour lies), and is what verify holds the archive against. The
same input gives the same manifest, but for `conversion`, which tells how the work went.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from tasks.bustimes.listing import Listing
from tasks.compression import unpack_member, unpack_segment
from tasks.problem import Problem
from tasks.storage.traffic import Traffic
from tasks.weeks import Week

VERSION = 3
_OLDER = (1, 2)  # without what has a default here

MEMBERS, SEGMENTS = "members", "segments"
"""How hours lie in a week file: each a gzip member, or each a segment of the only member."""
LAYOUTS = (MEMBERS, SEGMENTS)

UNSET = "unset"
"""What stands for `python_escapes` where it would have had to decide and was empty."""

HOUR_FORMAT = "%Y-%m-%dT%H"


@dataclass(frozen=True)
class RefusedSnapshot:
    """A raw object that could not be read; its bytes are kept below `_refused/{week}/`."""

    key: str
    bytes: int
    reason: str


@dataclass(frozen=True)
class HourOfFile:
    """Where one hour lies in the week file: `bytes` from `offset`, to be read alone.

    They are a segment (raw deflate), whose lines have `uncompressed_bytes` and this CRC-32; or a
    gzip member, which tells these two itself, where both are None. `hour` is its beginning in UTC,
    such as ``2021-11-08T07``. `snapshots` and `raw_bytes` count what was listed, refused ones
    included.
    """

    hour: str
    snapshots: int
    lines: int
    offset: int
    bytes: int
    raw_bytes: int | None = None
    uncompressed_bytes: int | None = None
    crc32: int | None = None


@dataclass(frozen=True)
class OutputFile:
    """The week file: sizes in bytes, SHA-256 in hex and (`s3_sha256`) as S3 keeps it.

    `layout` is one of `LAYOUTS`; segments were not known before version 3.
    """

    file: str
    bytes: int
    uncompressed_bytes: int
    lines: int
    sha256: str
    s3_sha256: str
    layout: str = MEMBERS


@dataclass(frozen=True)
class InventoryFile:
    """The week's inventory (see `inventory`): size in bytes, checksums as of `OutputFile`."""

    bytes: int
    sha256: str
    s3_sha256: str


@dataclass(frozen=True)
class Conversion:
    """How converting a week went: wall `seconds`, and what each operation on S3 came to.

    Only what came before this was written can be in it: the week's listing and its snapshots, but
    not its own upload.
    """

    seconds: float
    requests: dict[str, Traffic]


@dataclass(frozen=True)
class Manifest:
    """One week. `raw_bytes` and `snapshots` count what was listed, refused ones included.

    `listing_sha256` is the listing's fingerprint; `tokenized` counts records that needed more than
    the kernel; times are ISO 8601, UTC. `vehicles` is how many different ones there are, and
    `fields` how often each field has a value of which kind, fields in the order in which they first
    appear. `inventory` is None where an older version wrote it. `python_escapes` is the setting
    where it decided over a snapshot, `UNSET` where one was refused for want of it, and empty where
    no snapshot needed it.
    """

    week: str
    week_over: bool
    order: str
    compression_level: int
    snapshots: int
    raw_bytes: int
    records: int
    tokenized: int
    first_snapshot: str
    last_snapshot: str
    listing_sha256: str
    refused: list[RefusedSnapshot]
    output: OutputFile
    hours: list[HourOfFile]
    vehicles: int | None = None
    fields: dict[str, dict[str, int]] = field(default_factory=dict)
    inventory: InventoryFile | None = None
    python_escapes: str = ""
    conversion: Conversion | None = None
    version: int = VERSION

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode() + b"\n"


def unpack(hour: HourOfFile, data: bytes) -> Iterator[bytes]:
    """The lines of an hour, in chunks, from its bytes of the week file. Raises `Damaged`."""
    if not data and not hour.lines:
        return iter(())
    if hour.uncompressed_bytes is None or hour.crc32 is None:
        return unpack_member(data)
    return unpack_segment(data, hour.uncompressed_bytes, hour.crc32)


def is_mostly_refused(refused: int, snapshots: int, share: float) -> bool:
    """Whether more than a share of a week's snapshots could not be read (`max_refused_share`)."""
    return refused > share * snapshots


def gone_from(manifest: Manifest, listing: Listing) -> int:
    """How many of a manifest's snapshots the source no longer has, counted hour by hour."""
    now = Counter(snapshot.time.strftime(HOUR_FORMAT) for snapshot in listing.snapshots)
    return sum(max(0, hour.snapshots - now[hour.hour]) for hour in manifest.hours)


def key_of(week: Week) -> str:
    """Where a week's manifest lies below the destination."""
    return f"_manifests/{week}.json"


def file_of(week: Week) -> str:
    """Where the week file itself lies below the destination."""
    return f"{week}.jsonl.gz"


def week_of(name: str) -> Week | None:
    """The week of a week file's name, or None where the name is none."""
    label = name.removesuffix(".jsonl.gz")
    try:
        week = Week.parse(label)
    except Problem:
        return None
    return week if name == file_of(week) else None


def refused_key_of(week: Week, key: str) -> str:
    """Where the bytes of a refused snapshot are kept below the destination."""
    return f"_refused/{week}/{key}"


def prune_record_key_of(week: Week) -> str:
    """Where it stands, below the destination, that a week's raw snapshots were deleted."""
    return f"_pruned/{week}.json"


def from_bytes(data: bytes, name: str) -> Manifest:
    """Read a manifest; raises `Problem` with `name` in it where the bytes are none."""
    try:
        values: dict[str, Any] = msgspec.json.decode(data)
        version = values.get("version")
        if version != VERSION and version not in _OLDER:
            raise Problem(f"{name} is of version {version!r}; this program knows {VERSION}.")
        return msgspec.convert(values, Manifest)  # what it holds besides is left alone
    except (ValueError, AttributeError, RecursionError) as error:
        raise Problem(f"{name} is not a manifest ({type(error).__name__}: {error}).") from None
