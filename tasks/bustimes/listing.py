"""Which raw snapshots a week has: listed, checked by name, in time order, with a fingerprint.

A week's snapshots lie under two prefixes (``raw/`` and the root) and seven dates, of which as many
are listed at once as is good for the source. Only names that are a snapshot's count; everything
else in the bucket is none of this archive's. The fingerprint covers keys, sizes and tags, so equal
fingerprints mean that nothing came, went or changed. Reads names only, never bodies.
"""

import datetime as dt
import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from tasks.bustimes.snapshot import PREFIXES, time_of
from tasks.storage import Root, StoredObject
from tasks.weeks import Week

FIRST_WEEK = Week(2016, 49)
"""The week of TriMet's first snapshot."""


class ListedSnapshot(NamedTuple):
    """One raw snapshot: where it is, and its UTC time."""

    stored: StoredObject
    time: dt.datetime


@dataclass(frozen=True)
class Listing:
    """The raw snapshots of one week, in time order."""

    week: Week
    snapshots: list[ListedSnapshot]

    @property
    def raw_bytes(self) -> int:
        return sum(snapshot.stored.size for snapshot in self.snapshots)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over every key, size and tag."""
        lines = [f"{one.key}\t{one.size}\t{one.etag}\n" for one, _ in self.snapshots]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def by_hour(self) -> list[list[ListedSnapshot]]:
        """The snapshots of each hour that has any."""
        # The days of a week differ in their number.
        hours = groupby(self.snapshots, key=lambda one: (one.time.day, one.time.hour))
        return [list(hour) for _, hour in hours]


def entries_of_week(root: Root, week: Week) -> list[StoredObject]:
    """All that lies where a week's raw snapshots do, whatever it is."""
    prefixes = [f"{prefix}{date.isoformat()}" for prefix in PREFIXES for date in week.dates]
    with ThreadPoolExecutor(root.lists_at_once) as threads:
        dates = threads.map(lambda prefix: list(root.entries(prefix)), prefixes)
        return [one for date in dates for one in date]


def list_week(source: Root, week: Week) -> Listing:
    """Every raw snapshot of a week."""
    entries = entries_of_week(source, week)
    snapshots = _snapshots_of(one for one in entries if not one.no_file)
    snapshots.sort(key=lambda snapshot: (snapshot.time, snapshot.stored.key))
    return Listing(week, snapshots)


def weeks_with_snapshots(source: Root, weeks: list[Week]) -> set[Week]:
    """Those of the weeks that have at least one raw snapshot.

    Costs one small request for each that has, and one for each stretch of weeks that have not.
    """
    weeks = sorted(weeks)
    stretch = -(-len(weeks) // source.lists_at_once) or 1
    stretches = [
        (prefix, weeks[at : at + stretch])
        for prefix in PREFIXES
        for at in range(0, len(weeks), stretch)
    ]
    with ThreadPoolExecutor(source.lists_at_once) as threads:
        found = threads.map(lambda one: _weeks_with_snapshots(source, *one), stretches)
        return set().union(*found)


def _weeks_with_snapshots(source: Root, prefix: str, weeks: list[Week]) -> set[Week]:
    """The same for one prefix, from each week to the first key behind its beginning."""
    found = set()
    at = 0
    while at < len(weeks):
        first = source.first_key(prefix, after=f"{prefix}{weeks[at].monday.isoformat()}")
        if first is None:
            break
        while at < len(weeks) and f"{prefix}{weeks[at].end.date().isoformat()}" <= first:
            at += 1
        if at < len(weeks) and f"{prefix}{weeks[at].monday.isoformat()}" <= first:
            # A name that merely looks like a snapshot's: only the whole listing tells.
            if time_of(first) is not None or list_week(source, weeks[at]).snapshots:
                found.add(weeks[at])
            at += 1
    return found


def _snapshots_of(stored: Iterable[StoredObject]) -> list[ListedSnapshot]:
    return [ListedSnapshot(one, time) for one in stored if (time := time_of(one.key)) is not None]
