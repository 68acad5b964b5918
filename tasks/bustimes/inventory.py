"""Which raw objects went into a week file: `_inventories/{week}/{fingerprint}.tsv.gz`.

One line for each snapshot, in time order: key, size, version tag, and how many records it has, or
nothing where it was refused. It is what makes a late arrival nameable, a deletion provable, and a
snapshot restorable under its own name. Its name tells the listing it describes, so it never
changes; the manifest's `listing_sha256` says which one holds, and is checked whenever one is read.
"""

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tasks.bustimes.listing import Listing
from tasks.bustimes.snapshot import time_of
from tasks.compression import gunzip, gzip_member
from tasks.problem import Problem
from tasks.weeks import Week

FOLDER = "_inventories"
_NAME_DIGITS = 16
_LEVEL = 6
_MOST_BYTES = 64 << 20  # unpacked; a week with a snapshot in every second has 57 MB


class Entry(NamedTuple):
    """One raw object as it was when it was converted; `records` is None where it was refused."""

    key: str
    size: int
    etag: str
    records: int | None


def key_of(week: Week, fingerprint: str) -> str:
    """Where the inventory of a listing lies below the destination."""
    return f"{FOLDER}/{week}/{fingerprint[:_NAME_DIGITS]}.tsv.gz"


def to_bytes(listing: Listing, records: Sequence[int | None]) -> bytes:
    """The inventory of a week; `records` are those of each snapshot, in the listing's order."""
    lines = (
        f"{one.key}\t{one.size}\t{one.etag}\t{'' if count is None else count}\n"
        for (one, _), count in zip(listing.snapshots, records, strict=True)
    )
    return gzip_member("".join(lines).encode(), _LEVEL)


def from_bytes(data: bytes, fingerprint: str, name: str) -> list[Entry]:
    """Read an inventory; raises `Problem` unless it is of the listing with this fingerprint.

    However much its bytes would unpack to, no more is unpacked than a week can have.
    """
    try:
        text = b"".join(gunzip([data], _MOST_BYTES)).decode()
        entries = [_entry(line) for line in text.splitlines()]
    except (zlib.error, ValueError):
        raise Problem(f"{name} is no inventory of a week, or is damaged.") from None
    if fingerprint_of(entries) != fingerprint:
        raise Problem(f"{name} is not the inventory that the week's manifest speaks of.")
    return entries


def fingerprint_of(entries: Iterable[Entry]) -> str:
    """The fingerprint of the listing that an inventory describes."""
    lines = (f"{one.key}\t{one.size}\t{one.etag}\n" for one in entries)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _entry(line: str) -> Entry:
    key, size, etag, records = line.split("\t")
    if time_of(key) is None:
        raise ValueError(key)
    return Entry(key, int(size), etag, int(records) if records else None)
