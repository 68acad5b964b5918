"""What a week file says of itself: `<destination>/_manifests/{week}.json`.

A manifest is written before its week file, describes it completely (what went in, what was
refused, what came out, where each hour lies), and is what verify holds the archive against. It
holds no clock time and no machine: the same input gives the same manifest.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass, fields
from typing import Any

from tasks.bustimes.listing import Listing
from tasks.problem import Problem
from tasks.weeks import Week

VERSION = 1

HOUR_FORMAT = "%Y-%m-%dT%H"


@dataclass(frozen=True)
class RefusedSnapshot:
    """A raw object that could not be read; its bytes are kept below `_refused/{week}/`."""

    key: str
    bytes: int
    reason: str


@dataclass(frozen=True)
class HourOfFile:
    """Where one hour lies in the week file: a gzip member of its own, `bytes` from `offset`.

    `hour` is its beginning in UTC, such as ``2021-11-08T07``.
    """

    hour: str
    snapshots: int
    lines: int
    offset: int
    bytes: int


@dataclass(frozen=True)
class OutputFile:
    """The week file: sizes in bytes, SHA-256 in hex and (`s3_sha256`) as S3 keeps it."""

    file: str
    bytes: int
    uncompressed_bytes: int
    lines: int
    sha256: str
    s3_sha256: str


@dataclass(frozen=True)
class Manifest:
    """One week. `raw_bytes` and `snapshots` count what was listed, refused ones included.

    `listing_sha256` is the listing's fingerprint; `tokenized` counts records that needed the
    parser's slow path; times are ISO 8601, UTC.
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
    version: int = VERSION

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode() + b"\n"


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


def from_bytes(data: bytes, name: str) -> Manifest:
    """Read a manifest; raises `Problem` with `name` in it where the bytes are none."""
    try:
        values: dict[str, Any] = json.loads(data)
        version = values.get("version")
        if version != VERSION:
            raise Problem(f"{name} is of version {version!r}; this program knows {VERSION}.")
        return Manifest(
            **{field.name: values[field.name] for field in fields(Manifest)}
            | {
                "refused": [RefusedSnapshot(**one) for one in values["refused"]],
                "output": OutputFile(**values["output"]),
                "hours": [HourOfFile(**one) for one in values["hours"]],
            }
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Problem(f"{name} is not a manifest ({type(error).__name__}: {error}).") from None
