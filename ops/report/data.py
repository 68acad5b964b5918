"""What the page's script works with: a row for each week, bands of fields, days, and the charts.

Plain values only. Times are milliseconds since the epoch, UTC, as JavaScript has them.
"""

import datetime as dt
from collections.abc import Iterator
from typing import Any

from ops.report.charts import Shown, charts
from ops.report.days import Calendar
from ops.report.fields import Field, Fields
from ops.report.sizes import Priced
from ops.report.speed import rate
from ops.report.states import WeekState
from ops.report.text import percent, shown
from tasks.weeks import Week

Row = dict[str, Any]

_MOST_BANDS = 60
"""Fields that are drawn: those that are in the most weeks."""
_NAME = 60
"""Characters of a name in a chart."""
_CHANGES = 3
"""So many changes are told of a week."""
_MOST_DAILY = 8
"""An archive of no more weeks is drawn day by day: bars of weeks would say little."""
_DAY = 86_400_000


def rows(weeks: list[WeekState], found: Fields, priced: Priced) -> list[Row]:
    """Each week with all its figures, for the charts and the last table; None where unknown."""
    changes: dict[Week, list[str]] = {}
    for change in found.changes:
        changes.setdefault(change.week, []).append(f"{shown(change.name, _NAME)} {change.what}")
    made = []
    raw_dollars = converted_dollars = 0.0
    for one in weeks:
        described, start, end = one.described, _start(one.week), _start(one.week.next)
        row: Row = {
            "name": one.week.label,
            "from": start,
            "middle": (start + end) // 2,
            "to": end,
            "state": one.state,
            "proven": percent(one.proof.share) if one.proof else "",
            "records": None,
        }
        if described is not None:
            conversion, told = described.conversion, changes.get(one.week, [])
            raw_dollars += priced.raw_dollars(described.raw_bytes)
            converted_dollars += priced.dollars(described.output.bytes)
            row |= {
                "snapshots": described.snapshots,
                "refused": len(described.refused),
                "records": described.records,
                "vehicles": described.vehicles,
                "fields": len(described.fields) or None,
                "changes": ", ".join(told[:_CHANGES]) + (" …" if len(told) > _CHANGES else ""),
                "raw": described.raw_bytes,
                "size": described.output.bytes,
                "rate": rate(described),
                "retries": conversion.retries if conversion else None,
            }
        made.append(row | {"rawCost": round(raw_dollars, 3), "cost": round(converted_dollars, 3)})
    return made


def days(weeks: list[WeekState]) -> list[Row]:
    """Each day of a short archive with what its hours sum up to; none of a long one."""
    if len(weeks) > _MOST_DAILY:
        return []
    made = []
    for one in weeks:
        for at, date in enumerate(one.week.dates):
            start = _start(one.week) + at * _DAY
            row: Row = {"from": start, "middle": start + _DAY // 2, "to": start + _DAY}
            row |= {"week": one.week.label, "state": one.state, "records": None}
            if one.described is not None:
                hours = [
                    hour for hour in one.described.hours if hour.hour.startswith(date.isoformat())
                ]
                tell = all(hour.raw_bytes is not None for hour in hours)
                row |= {
                    "records": sum(hour.lines for hour in hours),
                    "snapshots": sum(hour.snapshots for hour in hours),
                    "raw": sum(hour.raw_bytes or 0 for hour in hours) if tell else None,
                    "size": sum(hour.bytes for hour in hours),
                }
            made.append(row)
    return made


def drawn(found: Fields) -> list[Field]:
    """The fields that get a band each, in the order of their first appearance."""
    by_weeks = sorted(enumerate(found.fields), key=lambda one: -one[1].weeks)
    return [field for _, field in sorted(by_weeks[:_MOST_BANDS], key=lambda one: one[0])]


def for_script(
    made: list[Row], of_days: list[Row], fields: list[Field], calendar: Calendar, priced: Priced
) -> Row:
    """Everything that the page's script reads."""
    told = {name for name in ("vehicles", "rate", "retries") if any(row.get(name) for row in made)}
    if priced.raw:
        told.add("rawCost")
    daily = ["records"] if of_days else []
    if of_days and all(row.get("raw", 0) is not None for row in of_days):
        daily.append("sizes")
    shown_weeks = Shown(len(made), made[0]["from"], frozenset(daily))
    return {
        "weeks": made,
        "days": of_days,
        "daily": daily,
        "spans": [
            {
                "row": row,
                "from": _start(span.first),
                "to": _start(span.last.next),
                "kind": span.kind,
            }
            for row, field in enumerate(fields)
            for span in field.spans
        ],
        "charts": charts([shown(field.name, _NAME) for field in fields], told, shown_weeks),
        "aDay": calendar.a_day,
        "years": {
            str(year.year): {"monday": _milliseconds(year.monday), "counts": year.counts}
            for year in calendar.years
        },
    }


def periods(weeks: list[WeekState]) -> Iterator[Row]:
    """What the charts can be set to show: all, and each ISO year where there are several."""
    first, end = _start(weeks[0].week), _start(weeks[-1].week.next)
    yield {"name": "All", "start": first, "end": end}
    years = sorted({one.week.year for one in weeks})
    for year in years if len(years) > 1 else ():
        start, following = _start(Week(year, 1)), _start(Week(year + 1, 1))
        yield {"name": str(year), "start": max(first, start), "end": min(end, following)}


def _start(week: Week) -> int:
    return _milliseconds(week.monday)


def _milliseconds(day: dt.date) -> int:
    return (day - dt.date(1970, 1, 1)).days * 86_400_000
