"""What a run would do, before it does it: weeks, snapshots, bytes, time, money.

Reads names only. Time follows from a rate, in raw bytes a second and core, that `make smoke` or
`make bench` has measured on this machine and kept (`keep_rate`), or else from `RATE`; money from
the prices below. What instances of EC2 take and cost is not known here but to `ops.ec2.costs`.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tasks import figures, own_files
from tasks.bustimes.archive import Archive
from tasks.bustimes.listing import list_week, weeks_with_snapshots
from tasks.bustimes.other_names import none_found
from tasks.bustimes.strays import Stray, ours
from tasks.bustimes.strays import lines as stray_lines
from tasks.storage.address import is_s3
from tasks.storage.archived import Archived, counted, together
from tasks.storage.archived import lines as archived_lines
from tasks.weeks import Week, ranges

RATE = 200e6
"""Raw bytes a second of CPU, rounded down from 230e6 (a synthetic week, `make bench`): used until
something has measured here."""

RATE_FILE = "rate.json"
"""Where a measured rate is kept, in the folder of this machine's own files."""

_COMPRESSION = 15.0
_WEEKS_AT_ONCE = 4

_PRICES = "us-east-1's prices"

# us-east-1, US dollars.
PER_PUT_OR_LIST = 0.005 / 1000
_PER_GET = 0.0004 / 1000
PER_GB_MONTH = 0.023

_REQUESTS_A_WEEK = 75
"""PUTs and LISTs for a week of 10,080 snapshots: 21 LISTs (a page of 1,000 keys each) to convert it
and as many to verify it, 25 PUTs for its 180 MB in parts of 8 MiB, and some for its manifest."""


def keep_rate(folder: Path, bytes_a_second: float, say: Callable[[str], object] = print) -> None:
    """Keep what was measured on this machine: raw bytes a second of CPU."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RATE_FILE
    own_files.make_way(path, say)
    draft = path.with_suffix(".new")
    own_files.make_way(draft, say)
    draft.write_text(json.dumps({"bytes_a_second_and_core": bytes_a_second}))
    draft.replace(path)


def kept_rate(folder: Path) -> float | None:
    """What was last measured on this machine, if anything was."""
    try:
        rate = float(json.loads((folder / RATE_FILE).read_text())["bytes_a_second_and_core"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return rate if 0 < rate < float("inf") else None


def check_kept_rate(folder: Path, say: Callable[[str], object]) -> None:
    """Put the file aside if what it holds is no rate; `say` is told."""
    path = folder / RATE_FILE
    own_files.make_way(path, say)
    if path.exists() and kept_rate(folder) is None:
        say(own_files.put_aside(path, "it holds no rate"))


def cost_of_requests(snapshots: int, weeks: int) -> float:
    """US dollars for S3's requests: a GET for each snapshot, PUTs and LISTs for each week."""
    return snapshots * _PER_GET + weeks * _REQUESTS_A_WEEK * PER_PUT_OR_LIST


@dataclass(frozen=True)
class PlannedWeek:
    """A week to convert."""

    week: Week
    snapshots: int
    raw_bytes: int
    strays: list[Stray] = field(default_factory=list)
    archived: list[Archived] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """The weeks of a range, and what is left to do of them; `rate` is bytes a second and core."""

    source: str
    destination: str
    weeks: list[Week]
    done: list[Week]
    done_bytes: int
    gaps: list[Week]
    to_do: list[PlannedWeek]
    rate: float
    rate_is_measured: bool
    cores: int
    strays: list[Stray] = field(default_factory=list)
    """What looks like a snapshot and will not be taken."""
    nothing: str = ""
    """Where there is neither a week file nor a raw snapshot: what is there instead."""

    @property
    def snapshots(self) -> int:
        """How many are to be read."""
        return sum(week.snapshots for week in self.to_do)

    @property
    def raw_bytes(self) -> int:
        """How many are to be read."""
        return sum(week.raw_bytes for week in self.to_do)

    def lines(self) -> Iterator[str]:
        """What there is to do, and what that takes on this machine."""
        yield from self.work()
        if not self.to_do:
            return
        seconds = self.raw_bytes / (self.rate * self.cores)
        yield (
            f"time         about {figures.duration(seconds)} on this machine: "
            f"{figures.count(self.cores, 'core')}, {self.rate_in_words}"
        )
        if is_s3(self.source) or is_s3(self.destination):
            yield f"cost         {figures.money(self.cost)} of requests to S3, at {_PRICES}"
        yield from self.storage()

    @property
    def rate_in_words(self) -> str:
        """``60.0 MB/s each, as measured here``."""
        measured = "as measured here" if self.rate_is_measured else "for nothing was measured yet"
        return f"{figures.size(self.rate)}/s each, {measured}"

    @property
    def is_all_s3(self) -> bool:
        """Whether both places are in S3: instances of EC2 see no folders."""
        return is_s3(self.source) and is_s3(self.destination)

    @property
    def cost(self) -> float:
        """US dollars for the requests to S3; a folder takes none."""
        read = self.snapshots if is_s3(self.source) else 0
        return cost_of_requests(read, len(self.to_do))

    def storage(self) -> Iterator[str]:
        """What the week files will take, and what keeping things in S3 costs, before and after."""
        size = self.raw_bytes / _COMPRESSION
        yield f"output       about {figures.size(size)} (at {_COMPRESSION:.0f} to 1)"
        costs = [
            f"{figures.money(count / 1e9 * PER_GB_MONTH)} a month {what}"
            for url, count, what in (
                (self.source, self.raw_bytes, "raw"),
                (self.destination, size, "converted"),
            )
            if is_s3(url)
        ]
        if costs:
            yield f"storage      {', about '.join(costs)}, in S3 at {_PRICES}"

    def work(self) -> Iterator[str]:
        """What there is to do, wherever it is done."""
        yield f"source       {self.source}"
        yield f"destination  {self.destination}"
        there = len(self.weeks) - len(self.gaps)
        known = f"of which {there:,} {'has' if there == 1 else 'have'} raw snapshots or a file"
        yield f"weeks        {ranges(self.weeks)}: {len(self.weeks):,}, {known}"
        done = figures.count(len(self.done), "week")
        yield f"done         {done}, {figures.size(self.done_bytes)}"
        if self.gaps:
            yield f"gaps         {ranges(self.gaps)}: no raw snapshots"
        yield from stray_lines(self.strays, 13)
        if self.nothing:
            yield f"nothing      {self.nothing}"
        if not self.to_do:
            yield "to do        nothing"
            return
        yield (
            f"to do        {figures.count(len(self.to_do), 'week')}: "
            f"{ranges([week.week for week in self.to_do])}"
        )
        yield (f"snapshots    {self.snapshots:,}, {figures.size(self.raw_bytes)} to read")
        for at, line in enumerate(archived_lines(together(self._archived()))):
            yield f"{'' if at else 'archived':13}{line}"

    def _archived(self) -> Iterator[Archived]:
        for week in self.to_do:
            yield from week.archived


def plan(
    archive: Archive,
    weeks: list[Week],
    cores: int,
    measured_rate: float | None,
    on_week: Callable[[], object] = lambda: None,
    everything: bool = False,
) -> Plan:
    """Plan the weeks; `on_week` is called as each of the missing ones has been listed.

    `everything` looks through the rest of the source as well for what looks like snapshots.
    """
    archive.source.check_readable()
    archive.list_again()
    written = archive.weeks_written()
    missing = [week for week in weeks if week not in written]
    found = weeks_with_snapshots(archive.source, missing)
    done = [week for week in weeks if week in written]

    def planned(week: Week) -> PlannedWeek:
        listing = list_week(archive.source, week)
        on_week()
        archived = counted(one.stored for one in listing.snapshots)
        count = len(listing.snapshots)
        return PlannedWeek(week, count, listing.raw_bytes, listing.strays, archived)

    with ThreadPoolExecutor(_WEEKS_AT_ONCE) as threads:
        to_do = list(threads.map(planned, sorted(found)))
    strays = [one for week in to_do for one in week.strays]
    strays = ours(strays, archive.settings.not_ours)
    if everything:
        strays += archive.strays_elsewhere({*found, *done}, weeks)
    return Plan(
        source=archive.source.url,
        destination=archive.destination.url,
        weeks=weeks,
        done=done,
        done_bytes=sum(written[week].size for week in done),
        gaps=[week for week in missing if week not in found],
        to_do=to_do,
        rate=measured_rate or RATE,
        rate_is_measured=measured_rate is not None,
        cores=cores,
        strays=strays,
        nothing="" if found or done else none_found(archive.source, weeks),
    )
