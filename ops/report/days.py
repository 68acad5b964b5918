"""The calendar: how many snapshots each day has, and every stretch of hours without any.

Days are UTC's. What a day should have is taken from the data: 24 times the number of snapshots that
most hours have, so 1,440 for an archive of one a minute.
"""

import datetime as dt
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

from ops.report.states import WeekState
from tasks.bustimes.verify.states import GAP
from tasks.weeks import Week, span

_HOUR = dt.timedelta(hours=1)

_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

LEVELS = {
    "full": "99 % and more",
    "most": "from 90 %",
    "half": "from 50 %",
    "few": "less than half",
    "none": "no snapshot",
    "unknown": "no week file",
}
"""Of a day: how much of what it should have it has."""
_LEAST = {"full": 0.99, "most": 0.9, "half": 0.5}


@dataclass(frozen=True)
class Year:
    """The weeks of one ISO year: a column for each, a row for each weekday, Monday on top.

    `counts` are the days' snapshots from Monday of W01 on; None where nothing tells, and before the
    archive begins and behind its end. `cells` has for each level the path of an SVG, one unit a
    day. `months` are names and where they begin, as a share of the width.
    """

    year: int
    monday: dt.date
    counts: list[int | None]
    cells: dict[str, str]
    months: list[tuple[str, float]]
    snapshots: int
    present: int
    expected: int
    empty_days: list[dt.date]
    unknown_days: int

    @property
    def columns(self) -> int:
        return len(self.counts) // 7

    @property
    def share(self) -> float:
        """Of the snapshots that there should be; more on one day do not make up for another."""
        return self.present / self.expected if self.expected else 0.0


@dataclass(frozen=True)
class Hole:
    """Hours in a row without a snapshot, from the beginning of the first to the end of the last."""

    first: dt.datetime
    end: dt.datetime

    @property
    def hours(self) -> int:
        return (self.end - self.first) // _HOUR


@dataclass(frozen=True)
class Calendar:
    """All years, what a day should have, and the holes, the longest first."""

    years: list[Year]
    a_day: int
    holes: list[Hole]

    @property
    def share(self) -> float:
        """Of the snapshots that there should be."""
        expected = sum(year.expected for year in self.years)
        return sum(year.present for year in self.years) / expected if expected else 0.0


def calendar(states: list[WeekState]) -> Calendar:
    """From the first hour with a snapshot to the last; without any there are no years."""
    described = [one.described for one in states if one.described is not None]
    by_hour = {hour.hour: hour.snapshots for one in described for hour in one.hours}
    seen = [_hour(name) for name in sorted(by_hour) if by_hour[name]]
    if not seen:
        return Calendar([], 0, [])
    rates = Counter(count for count in by_hour.values() if count)
    rate = max(rates, key=lambda one: (rates[one], one))
    counts: Counter[str] = Counter()
    for hour, snapshots in by_hour.items():
        counts[hour[:10]] += snapshots
    told = {one.week for one in states if one.described is not None or one.state == GAP}
    days: dict[dt.date, _Day] = {}
    first, last = seen[0], seen[-1]
    for week in span(Week.of(first), Week.of(last)):
        for date in week.dates:
            if first.date() <= date <= last.date():
                begins = first.hour if date == first.date() else 0
                ends = last.hour + 1 if date == last.date() else 24
                count = counts[date.isoformat()] if week in told else None
                days[date] = _Day(count, rate * (ends - begins))
    years = range(Week.of(first).year, Week.of(last).year + 1)
    return Calendar([_year(year, days) for year in years], 24 * rate, _holes(seen, told))


@dataclass(frozen=True)
class _Day:
    """How many snapshots a day has, None where nothing tells, and how many it should have."""

    count: int | None
    due: int

    @property
    def level(self) -> str:
        if self.count is None:
            return "unknown"
        if not self.count:
            return "none"
        share = self.count / self.due
        return next((level for level, least in _LEAST.items() if share >= least), "few")


def _year(number: int, known: dict[dt.date, _Day]) -> Year:
    """`known` are the archive's days, of whichever year."""
    last = Week(number, dt.date(number, 12, 28).isocalendar().week)
    dates = [date for week in span(Week(number, 1), last) for date in week.dates]
    days = [known[date] for date in dates if date in known]
    cells: dict[str, list[str]] = {}
    for at, date in enumerate(dates):
        if date in known:
            column, row = divmod(at, 7)
            cell = f"M{column} {row}h.88v.88h-.88z"
            cells.setdefault(known[date].level, []).append(cell)
    months = [(dt.date(number, month, 1) - dates[0]).days // 7 for month in range(1, 13)]
    return Year(
        year=number,
        monday=dates[0],
        counts=[known[date].count if date in known else None for date in dates],
        cells={level: "".join(cells[level]) for level in LEVELS if level in cells},
        months=[
            (name, max(0, column) * 7 / len(dates))
            for name, column in zip(_MONTHS, months, strict=True)
        ],
        snapshots=sum(day.count or 0 for day in days),
        present=sum(min(day.count or 0, day.due) for day in days),
        expected=sum(day.due for day in days),
        empty_days=[date for date in dates if date in known and known[date].count == 0],
        unknown_days=sum(day.count is None for day in days),
    )


def _hour(name: str) -> dt.datetime:
    return dt.datetime.fromisoformat(name).replace(tzinfo=dt.UTC)


def _holes(seen: list[dt.datetime], told: set[Week]) -> list[Hole]:
    """Between the hours that have snapshots, in weeks of which something tells."""
    filled = [(hour, hour + _HOUR) for hour in seen]
    weeks = span(Week.of(seen[0]), Week.of(seen[-1]))
    filled += [(week.start, week.end) for week in weeks if week not in told]
    holes = [
        Hole(end, start)
        for (_, end), (start, _) in pairwise(sorted(filled))
        if start - end >= _HOUR
    ]
    return sorted(holes, key=lambda hole: (-hole.hours, hole.first))
