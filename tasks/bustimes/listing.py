"""Which raw snapshots a week has: listed, checked by name, in time order, with a fingerprint.

A week's snapshots lie under two prefixes (``raw/`` and the root) and seven dates, of which as many
are listed at once as is good for the source. Only names that are a snapshot's count; what begins
like one and is none is a stray, which is told beside them. The fingerprint covers keys, sizes and
tags of snapshots, so equal fingerprints mean that none came, went or changed. Reads names only,
never bodies.
"""

import datetime as dt
import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from tasks.bustimes.snapshot import PREFIXES, time_of
from tasks.bustimes.strays import FIRST_WEEK, Stray, stray_among_dates
from tasks.storage import Root, StoredObject
from tasks.weeks import Week

__all__ = ["FIRST_WEEK", "ListedSnapshot", "Listing", "list_week", "weeks_with_snapshots"]


class ListedSnapshot(NamedTuple):
    """One raw snapshot: where it is, and its UTC time."""

    stored: StoredObject
    time: dt.datetime


@dataclass(frozen=True)
class Listing:
    """The raw snapshots of one week, in time order, and what only looks like one."""

    week: Week
    snapshots: list[ListedSnapshot]
    strays: list[Stray] = field(default_factory=list)

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
    snapshots: list[ListedSnapshot] = []
    strays: list[Stray] = []
    for entry in entries_of_week(source, week):
        if not entry.no_file and (time := time_of(entry.key)) is not None:
            snapshots.append(ListedSnapshot(entry, time))
        elif (stray := stray_among_dates(entry)) is not None:
            strays.append(stray)
    snapshots.sort(key=lambda snapshot: (snapshot.time, snapshot.stored.key))
    return Listing(week, _each_once(source, snapshots, strays), strays)


def _each_once(
    source: Root, snapshots: list[ListedSnapshot], strays: list[Stray]
) -> list[ListedSnapshot]:
    """Of two of one time that are one file, as where raw/ is a link to the root, the first only.

    Equal files of other times may be one file on the disk: some tools see to that to save space.
    """
    kept: list[ListedSnapshot] = []
    for one in snapshots:
        at = one.stored.key
        if kept and kept[-1].time == one.time and source.is_same(kept[-1].stored.key, at):
            strays.append(Stray(at, f"is the same file as {kept[-1].stored.key}", is_taken=True))
        else:
            kept.append(one)
    return kept


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
