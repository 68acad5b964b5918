"""All that the page shows, made of what the destination says: sentences, tables, charts' data.

What could be without bound (names, reasons, changes) is cut here, and what is left out is counted.
"""

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ops.report import data, words
from ops.report.charts import COLOURS
from ops.report.days import LEVELS, Calendar, calendar
from ops.report.fields import Field, Fields, fields_of
from ops.report.reading import read
from ops.report.refusals import reasons
from ops.report.sizes import Priced, Sums, by_year, sums
from ops.report.speed import speed
from ops.report.states import REMEDIES, WeekState, states, strange_weeks
from ops.report.text import about, percent
from tasks import advice, figures
from tasks.bustimes.archive import Archive
from tasks.figures import money
from tasks.problem import Problem
from tasks.storage.address import is_s3
from tasks.weeks import Week, ranges

Values = dict[str, Any]

_MOST_ROWS = 300
"""Of any table but that of the weeks."""
_MOST_NAMED = 4
"""Weeks in a command."""


@dataclass(frozen=True)
class Content:
    """The template's values, and what the terminal shows: sentences, and commands to run next."""

    values: Values
    sentences: tuple[str, str]
    commands: list[tuple[str, str]]


def content(archive: Archive, now: dt.datetime) -> Content:
    """Everything; raises `Problem` where there is nothing to show."""
    holdings = read(archive)
    weeks = states(holdings, now)
    if not any(one.described for one in weeks):
        raise Problem(
            f"There is nothing to report: {holdings.url} has no manifest that can be read. "
            f"{advice.make('full')} makes week files and their manifests; check DESTINATION."
        )
    priced = Priced(is_s3(archive.source.url), is_s3(holdings.url))
    total, days, fields = sums("all", weeks, priced), calendar(weeks), fields_of(weeks)
    pruned = sum(one.prune.bytes for one in weeks if one.prune and one.prune.ended)
    rows, drawn = data.rows(weeks, fields, priced), data.drawn(fields)
    headline, state = words.headline(total, weeks[0].week, weeks[-1].week), words.state(weeks)
    values = {
        "url": holdings.url,
        "now": now,
        "headline": headline,
        "size_sentence": words.size(total, pruned),
        "is_fine": all(one.is_fine for one in weeks),
        "state_sentence": state,
        "tiles": list(_tiles(weeks, total, pruned, days)),
        "periods": list(data.periods(weeks)),
        "records_sentence": words.records(weeks),
        "money_sentence": words.money_saved(total) if priced.raw else "",
        "by_year": by_year(weeks, priced),
        "total": total,
        "speed": speed(weeks),
        "speed_sentence": words.speed(speed(weeks), total.weeks),
        "weeks": rows,
        "data": data.for_script(rows, data.days(weeks), drawn, days, priced),
        "notes": words.notes(weeks, strange_weeks(holdings, now), holdings.unreadable),
    }
    values |= _of_days(days) | _of_states(weeks, holdings.verified, now, priced)
    values |= _of_refusals(weeks, holdings.address_of, total.snapshots) | _of_fields(fields, drawn)
    return Content(values, (f"{headline}.", state), words.commands(weeks, now))


def _tiles(
    weeks: list[WeekState], total: Sums, pruned: int, days: Calendar
) -> Iterator[dict[str, str]]:
    """The figures to see first."""

    def tile(name: str, figure: str, note: str) -> dict[str, str]:
        return {"name": name, "figure": figure, "note": note}

    proofs = [one.proof for one in weeks if one.proof is not None]
    whole = [proof for proof in proofs if proof.share == 1]
    latest = max((proof.when for proof in proofs), default=None)
    yield tile("weekly files", f"{total.weeks:,}", f"of {figures.count(len(weeks), 'week')}")
    yield tile("snapshots", about(total.snapshots), f"{percent(days.share)} of what is due")
    yield tile("records", about(total.records), f"{total.records_a_snapshot:,.0f} in a snapshot")
    sizes = f"{figures.size(total.raw_bytes)} → {figures.size(total.bytes)}"
    yield tile("raw to converted", total.ratio, sizes)
    raw = (
        f"{money(total.priced.raw_dollars(pruned))} of raw is gone"
        if pruned
        else "once the raw side is pruned"
    )
    if total.priced.raw:
        yield tile("saved a month", money(total.saved), raw)
    sampled = len(proofs) - len(whole)
    when = f"last on {latest:%Y-%m-%d}" if latest else "by every raw snapshot"
    if sampled:
        when = f"{sampled:,} {'more ' if whole else ''}by a sample"
    yield tile("proven in full", f"{len(whole):,} of {total.weeks:,}", when)


def _of_days(days: Calendar) -> Values:
    used = {level for year in days.years for level in year.cells}
    return {
        "calendar": days,
        "levels": {level: text for level, text in LEVELS.items() if level in used},
        "calendar_sentence": words.days(days) if days.years else "",
        "holes": days.holes[:_MOST_ROWS],
    }


def _of_states(
    weeks: list[WeekState], verified: dt.datetime | None, now: dt.datetime, priced: Priced
) -> Values:
    """Weeks that are not as they should be; neighbours of the same state in one row."""
    findings = []
    wanting = [one for one in weeks if not one.is_fine]
    for (state, why), group in groupby(wanting, key=lambda one: (one.state, one.why)):
        those = [one.week for one in group]
        findings.append(
            {
                "weeks": ranges(those),
                "state": state,
                "why": why,
                "remedy": advice.make(REMEDIES[state], **_choice(those)),
            }
        )
    return {
        "state_sentences": words.state_details(weeks, verified, now, priced),
        "commands": words.commands(weeks, now),
        "findings": findings[:_MOST_ROWS],
        "findings_left": len(findings) - _MOST_ROWS,
    }


def _choice(weeks: list[Week]) -> dict[str, str]:
    """These weeks as options of make."""
    if len(weeks) > _MOST_NAMED:
        return {"FROM": str(weeks[0]), "TO": str(weeks[-1])}
    return {"WEEKS": ",".join(map(str, weeks))}


def _of_refusals(
    weeks: list[WeekState], address_of: Callable[[str], str], snapshots: int
) -> Values:
    found = reasons(weeks, address_of)
    return {
        "refused_sentence": words.refused(found, snapshots),
        "reasons": found[:_MOST_ROWS],
        "reasons_left": len(found[_MOST_ROWS:]),
    }


def _of_fields(fields: Fields, drawn: list[Field]) -> Values:
    kinds = {span.kind for field in drawn for span in field.spans}
    return {
        "fields_sentence": words.fields(fields),
        "kinds": {kind: colour for kind, colour in COLOURS.items() if kind in kinds},
        "fields": fields.fields[:_MOST_ROWS],
        "fields_left": len(fields.fields) - _MOST_ROWS,
        "changes": fields.changes[:_MOST_ROWS],
        "changes_left": len(fields.changes) - _MOST_ROWS,
    }
