"""What a run would do, before it does it: weeks, snapshots, bytes, time, money.

Reads names only. Time follows from a measured rate (raw bytes a second and core, of the last
`make smoke` on this machine where there was one), money from the prices below.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tasks import figures
from tasks.bustimes.archive import Archive
from tasks.bustimes.listing import list_week, weeks_with_snapshots
from tasks.weeks import Week, ranges

RATE = 60e6
"""Raw bytes a second of CPU for half a synthetic week: used until `make smoke` has measured."""

_COMPRESSION = 15.0
_WEEKS_AT_ONCE = 4

# us-east-1, US dollars.
_PER_GET = 0.0004 / 1000
_PER_PUT_OR_LIST = 0.005 / 1000
_PER_GB_MONTH = 0.023
_PER_SPOT_HOUR_OF_TWO_CORES = 0.01


@dataclass(frozen=True)
class PlannedWeek:
    """A week to convert."""

    week: Week
    snapshots: int
    raw_bytes: int


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
        raw = self.raw_bytes
        seconds = raw / (self.rate * self.cores)
        cores = figures.count(self.cores, "core")
        origin = "measured by make smoke" if self.rate_is_measured else "until make smoke measures"
        yield (
            f"time         about {figures.duration(seconds)} on {cores} "
            f"({figures.size(self.rate)}/s each, {origin})"
        )
        requests = self.snapshots * _PER_GET + len(self.to_do) * 40 * _PER_PUT_OR_LIST
        spot = seconds / 3600 * self.cores / 2 * _PER_SPOT_HOUR_OF_TWO_CORES
        yield (
            f"cost         about ${requests + spot:,.2f} on EC2 spot (${requests:,.2f} of requests)"
        )
        yield from self.storage()

    def storage(self) -> Iterator[str]:
        """What keeping it costs, before and after."""
        before = self.raw_bytes / 1e9 * _PER_GB_MONTH
        yield (
            f"storage      ${before:,.2f} a month raw, about ${before / _COMPRESSION:,.2f} "
            f"converted (at {_COMPRESSION:.0f} to 1)"
        )

    def work(self) -> Iterator[str]:
        """What there is to do, wherever it is done."""
        yield f"source       {self.source}"
        yield f"destination  {self.destination}"
        yield f"weeks        {len(self.weeks):,} asked for: {ranges(self.weeks)}"
        done = figures.count(len(self.done), "week")
        yield f"done         {done}, {figures.size(self.done_bytes)}"
        if self.gaps:
            yield f"gaps         {ranges(self.gaps)}: no raw snapshots"
        if not self.to_do:
            yield "to do        nothing"
            return
        yield (
            f"to do        {figures.count(len(self.to_do), 'week')}: "
            f"{ranges([week.week for week in self.to_do])}"
        )
        yield (f"snapshots    {self.snapshots:,}, {figures.size(self.raw_bytes)} to read")


def plan(
    archive: Archive,
    weeks: list[Week],
    cores: int,
    measured_rate: float | None,
    on_week: Callable[[], object] = lambda: None,
) -> Plan:
    """Plan the weeks; `on_week` is called as each of the missing ones has been listed."""
    archive.source.check_readable()
    archive.list_again()
    written = archive.weeks_written()
    missing = [week for week in weeks if week not in written]
    found = weeks_with_snapshots(archive.source, missing)
    done = [week for week in weeks if week in written]

    def planned(week: Week) -> PlannedWeek:
        listing = list_week(archive.source, week)
        on_week()
        return PlannedWeek(week, len(listing.snapshots), listing.raw_bytes)

    with ThreadPoolExecutor(_WEEKS_AT_ONCE) as threads:
        to_do = list(threads.map(planned, sorted(found)))
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
    )
