"""What the weeks hold and what keeping them costs, in all and year by year.

Money is S3's STANDARD storage in us-east-1, US dollars a month; what lies in a folder costs none of
it. What is saved counts from the day on which the raw snapshots of a week are deleted; until then
both are paid for.
"""

from dataclasses import dataclass
from itertools import groupby

from ops.report.reading import Described
from ops.report.states import WeekState
from tasks import figures
from tasks.bustimes.plan import PER_GB_MONTH


@dataclass(frozen=True)
class Priced:
    """Which side of an archive is in S3, and so has S3's prices."""

    raw: bool
    converted: bool

    def raw_dollars(self, size: float) -> float:
        """What so many bytes of raw snapshots cost in a month."""
        return size / 1e9 * PER_GB_MONTH if self.raw else 0.0

    def dollars(self, size: float) -> float:
        """What so many bytes of week files cost in a month."""
        return size / 1e9 * PER_GB_MONTH if self.converted else 0.0


@dataclass(frozen=True)
class Sums:
    """What some weeks hold together; `name` says which."""

    name: str
    weeks: int
    snapshots: int
    records: int
    raw_bytes: int
    bytes: int
    priced: Priced

    @property
    def raw_dollars(self) -> float:
        return self.priced.raw_dollars(self.raw_bytes)

    @property
    def dollars(self) -> float:
        return self.priced.dollars(self.bytes)

    @property
    def saved(self) -> float:
        """A month, once the raw snapshots are gone."""
        return self.raw_dollars - self.dollars

    @property
    def ratio(self) -> str:
        return figures.ratio(self.raw_bytes, self.bytes)

    @property
    def records_a_snapshot(self) -> float:
        return self.records / self.snapshots if self.snapshots else 0.0


def sums(name: str, states: list[WeekState], priced: Priced) -> Sums:
    """Of those weeks that have a readable manifest."""
    described = [one.described for one in states if one.described is not None]
    return Sums(
        name,
        len(described),
        sum(one.snapshots for one in described),
        sum(one.records for one in described),
        sum(one.raw_bytes for one in described),
        sum(one.output.bytes for one in described),
        priced,
    )


def by_year(states: list[WeekState], priced: Priced) -> list[Sums]:
    """Each ISO year."""
    years = groupby(states, key=lambda one: one.week.year)
    return [sums(str(year), list(weeks), priced) for year, weeks in years]


def extremes(described: list[Described]) -> tuple[Described, Described]:
    """The weeks with the fewest and the most records, of whole weeks where there are any."""
    whole = [one for one in described if one.week_over] or described
    return min(whole, key=lambda one: one.records), max(whole, key=lambda one: one.records)
