"""ISO weeks: labels such as ``2021-W45``, the seven UTC dates of each, and ranges of them.

A week starts on Monday at 00:00 UTC and belongs to the year that holds its Thursday, so
2020 has a week 53, 2018-W01 starts on 1 January and 2016-W52 ends on 1 January 2017. Weeks
are values: they compare, hash and sort. This module never reads the clock; whoever asks
whether a week is over says what time it is.
"""

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tasks.problem import Problem

_LABEL = re.compile(r"(\d{4})-W(\d{2})", re.ASCII)


@dataclass(frozen=True, order=True)
class Week:
    """One ISO week, such as ``Week(2021, 45)``."""

    year: int
    number: int

    @classmethod
    def parse(cls, label: str) -> "Week":
        """The week of a label ``YYYY-Www``; raises `Problem` where there is no such week."""
        match = _LABEL.fullmatch(label.strip())
        if match is None:
            raise Problem(
                f"{label!r} is not an ISO week: write the year, -W and two digits, as in 2021-W45."
            )
        year, number = int(match[1]), int(match[2])
        try:
            dt.date.fromisocalendar(year, number, 1)
        except ValueError:
            raise Problem(
                f"There is no ISO week {label.strip()}: {_weeks_of_year(year)}."
            ) from None
        return cls(year, number)

    @classmethod
    def of(cls, moment: dt.date) -> "Week":
        """The week that holds a date, or a UTC datetime."""
        year, number, _ = moment.isocalendar()
        return cls(year, number)

    @property
    def label(self) -> str:
        return f"{self.year:04d}-W{self.number:02d}"

    @property
    def monday(self) -> dt.date:
        return dt.date.fromisocalendar(self.year, self.number, 1)

    @property
    def dates(self) -> list[dt.date]:
        """Monday to Sunday."""
        return [self.monday + dt.timedelta(days=day) for day in range(7)]

    @property
    def start(self) -> dt.datetime:
        """Monday 00:00 UTC; the week holds this moment and not `end`."""
        return dt.datetime.combine(self.monday, dt.time(), dt.UTC)

    @property
    def end(self) -> dt.datetime:
        """The next Monday 00:00 UTC."""
        return self.start + dt.timedelta(days=7)

    @property
    def next(self) -> "Week":
        return Week.of(self.monday + dt.timedelta(days=7))

    @property
    def previous(self) -> "Week":
        return Week.of(self.monday - dt.timedelta(days=7))

    def is_over(self, now: dt.datetime) -> bool:
        return now >= self.end

    def __str__(self) -> str:
        return self.label


def _weeks_of_year(year: int) -> str:
    if not 1 <= year <= 9999:
        return "the year is out of range"
    last = dt.date(year, 12, 28).isocalendar()[1]
    return f"{year:04d} has weeks W01 to W{last}"


def span(first: Week, last: Week) -> Iterator[Week]:
    """Every week from `first` to `last`, both included."""
    week = first
    while week <= last:
        yield week
        week = week.next


def ranges(weeks: list[Week]) -> str:
    """Weeks in words, neighbours drawn together: ``2021-W45, 2022-W01 to 2022-W03``."""
    runs: list[list[Week]] = []
    for week in sorted(weeks):
        if runs and runs[-1][-1].next == week:
            runs[-1].append(week)
        else:
            runs.append([week])
    return ", ".join(run[0].label if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def chosen(
    labels: list[str], first: str, last: str, now: dt.datetime, default_first: Week
) -> list[Week]:
    """The weeks that `weeks`, `from` and `to` ask for, in order.

    Given labels win; else every finished week from `first` (or `default_first`) to `last` (or the
    last finished week). Raises `Problem` for a label that is no week, a week that has not begun,
    a range that ends before it starts, and labels together with a range.
    """
    current = Week.of(now)
    if labels and (first or last):
        raise Problem("Give either weeks (WEEKS=...) or a range (FROM=..., TO=...), not both.")
    if labels:
        weeks = sorted({Week.parse(label) for label in labels})
        for week in weeks:
            _must_have_begun(week, current)
        return weeks
    start = Week.parse(first) if first else default_first
    end = Week.parse(last) if last else current.previous
    if start > end:
        raise Problem(
            f"The range starts in {start}, after its end in {end}: "
            + ("swap FROM and TO." if first and last else "choose other weeks with FROM and TO.")
        )
    _must_have_begun(end, current)
    return list(span(start, end))


def _must_have_begun(week: Week, current: Week) -> None:
    if week > current:
        raise Problem(
            f"{week} lies in the future (this is {current}): choose weeks that have begun."
        )
