"""What the report says in sentences: each from figures, each true when there is only one week."""

import datetime as dt
from collections import Counter

from ops.report.days import Calendar
from ops.report.fields import Fields
from ops.report.refusals import Reason
from ops.report.sizes import Priced, Sums, extremes
from ops.report.speed import Speed
from ops.report.states import NO_FILE, WeekState
from ops.report.text import about, percent, shown
from tasks import advice, figures
from tasks.bustimes.plan import PER_GB_MONTH
from tasks.bustimes.verify.states import ATTENTION, DAMAGED, GAP, PARTIAL, RAW_GONE
from tasks.figures import money
from tasks.weeks import Week, ranges, span

_MOST_NAMED = 5
_MOST_DAYS = 2
_NAME = 60
_IN_WORDS = {
    NO_FILE: "without a file",
    RAW_GONE: "of which raw snapshots are gone",
    ATTENTION: "of which hardly a snapshot could be read",
}


def named(things: list[str]) -> str:
    """Some by name, and how many more: ``a, b and 3 more``."""
    if len(things) > _MOST_NAMED:
        things = [*things[: _MOST_NAMED - 1], f"{len(things) - _MOST_NAMED + 1:,} more"]
    *most, last = (shown(thing, _NAME) for thing in things)
    return f"{', '.join(most)} and {last}" if most else last


def headline(total: Sums, first: Week, last: Week) -> str:
    """What there is."""
    weeks = f"{first}" if first == last else f"{first} to {last}"
    return (
        f"{about(total.records)} records of {about(total.snapshots)} snapshots in "
        f"{figures.count(total.weeks, 'weekly file')}, {weeks}"
    )


def size(total: Sums, pruned_bytes: int) -> str:
    """What became of the bytes, and the money."""
    sentence = (
        f"{figures.size(total.raw_bytes)} of raw snapshots became {figures.size(total.bytes)} "
        f"({figures.ratio(total.raw_bytes, total.bytes)})."
    )
    if total.saved < 0.005:
        return sentence
    if pruned_bytes >= total.raw_bytes:
        return f"{sentence} That saves {money(total.saved)} a month."
    soon = f"Once the raw ones are pruned, that saves {money(total.saved)} a month"
    if pruned_bytes:
        gone = money(total.priced.raw_dollars(pruned_bytes))
        soon += f"; raw ones of {gone} a month are deleted already"
    return f"{sentence} {soon}."


def state(states: list[WeekState]) -> str:
    """Whether all is well, in one breath; what is proven is part of it."""
    wanting = Counter(one.state for one in states if not one.is_fine)
    if wanting:
        kinds = ", ".join(
            f"{count:,} {_IN_WORDS.get(state, state)}" for state, count in wanting.most_common()
        )
        verb = "needs" if wanting.total() == 1 else "need"
        return f"{figures.count(wanting.total(), 'week')} {verb} a look: {kinds}. {_proven(states)}"
    first, last = states[0].week, states[-1].week
    if first == last:
        return f"{first} is as it should be. {_proven(states)}"
    gaps = [one.week for one in states if one.state == GAP]
    if not gaps:
        return f"Every week from {first} to {last} is as it should be. {_proven(states)}"
    there = len(states) - len(gaps)
    return (
        f"Of {len(states):,} weeks from {first} to {last}, {there:,} {_has(there)} a file that is "
        f"as it should be; {len(gaps):,} {_has(len(gaps))} neither raw snapshots nor a file "
        f"({_listed(gaps)}). {_proven(states)}"
    )


def _proven(states: list[WeekState]) -> str:
    there = [one for one in states if one.described is not None]
    whole = [one for one in there if one.proof is not None and one.proof.share == 1]
    some = [one for one in there if one.proof is not None and one.proof.share < 1]
    if not whole and not some:
        which = "It is not" if len(there) == 1 else "None is"
        return f"{which} proven against its raw snapshots yet."
    when = max(one.proof.when for one in there if one.proof is not None)
    more = ""
    if some:
        number = f"{len(some):,}{' more' if whole else ''} {'was' if len(some) == 1 else 'were'}"
        more = f"{number} compared with a sample of the raw snapshots; "
    if not whole:
        return f"None is proven in full; {more}last on {_date(when)}."
    if len(there) == 1:
        return f"It is proven in full, record by record; last on {_date(when)}."
    count = f"All {len(there):,} are"
    if len(whole) < len(there):
        count = f"{len(whole):,} of {len(there):,} {_is(len(whole))}"
    return f"{count} proven in full, record by record; {more}last on {_date(when)}."


def state_details(
    states: list[WeekState], verified: dt.datetime | None, now: dt.datetime, priced: Priced
) -> list[str]:
    """What else is to be said of states: where they come from, gaps, prunes, what comes after.

    `verified` is when verify left its findings, None where it has not.
    """
    said = [f"The raw side is not read for this page. {_verified(verified)}"]
    outdated = sum(one.was_proven for one in states)
    if outdated:
        said.append(
            f"{figures.count(outdated, 'week')} had been verified, but not as the file is now, "
            "or by an older version."
        )
    gaps = [one.week for one in states if one.state == GAP]
    if gaps:
        said.append(f"Gaps, without a raw snapshot and so without a file: {ranges(gaps)}.")
    partial = [one.week for one in states if one.state == PARTIAL]
    if partial:
        said.append(f"Not over yet, and partial: {ranges(partial)}.")
    said += _pruned(states, priced)
    last, newest = states[-1].week, Week.of(now).previous
    if newest > last:
        since = list(span(last.next, newest))
        said.append(
            f"After {last}, the last week here, {figures.count(len(since), 'week')} "
            f"{_has(len(since))} ended and {_has(len(since))} no file here: {ranges(since)}."
        )
    return said


def commands(states: list[WeekState], now: dt.datetime) -> list[tuple[str, str]]:
    """What to run next, each with what it does."""
    found = []
    if states[-1].week < Week.of(now).previous:
        found.append((advice.make("plan"), "says whether there is anything to convert"))
    there = [one for one in states if one.described is not None]
    if not all(one.proof is not None and one.proof.share == 1 for one in there):
        verify = advice.make("verify", SHARE="1.0")
        found.append((verify, "proves every week by all of its raw snapshots"))
    if any(one.prune is not None and one.prune.ended is None for one in states):
        found.append((advice.make("prune"), "goes on with what was broken off"))
    return found


def _verified(when: dt.datetime | None) -> str:
    """What verify, which does read the raw side, has to do with it."""
    if when is None:
        return (
            "Which weeks are stale, and which gaps, only verify can tell, and it has left no "
            "findings here."
        )
    return (
        f"verify does that, and ran last on {_date(when)}: what it found counts while a week "
        "is as it was then, and what has become stale since then is not known here."
    )


def _pruned(states: list[WeekState], priced: Priced) -> list[str]:
    done = [one for one in states if one.prune is not None and one.prune.ended is not None]
    under_way = [one.week for one in states if one.prune is not None and one.prune.ended is None]
    said = []
    if done:
        prunes = [one.prune for one in done if one.prune is not None]
        size, objects = sum(one.bytes for one in prunes), sum(one.objects for one in prunes)
        saved = money(priced.raw_dollars(size))
        saves = f", which saves {saved} a month" if priced.raw else ""
        said.append(
            f"{figures.count(len(done), 'week')} {_is(len(done))} pruned "
            f"({ranges([one.week for one in done])}): {figures.count(objects, 'raw object')}, "
            f"{figures.size(size)}, deleted{saves}."
        )
    if under_way:
        said.append(f"Being pruned, or broken off in it: {ranges(under_way)}.")
    return said


def days(calendar: Calendar) -> str:
    """How complete the snapshots are."""
    empty = [day for year in calendar.years for day in year.empty_days]
    sentence = (
        f"A cell is a day, a column a week file. A full day has {calendar.a_day:,} snapshots "
        f"({calendar.a_day // 24:,} in the usual hour); of all that there should be, "
        f"{percent(calendar.share)} are there."
    )
    if empty:
        which = f": {named([_date(day) for day in empty])}" if len(empty) <= _MOST_DAYS else ""
        sentence += f" {figures.count(len(empty), 'day')} {_has(len(empty))} none at all{which}."
    if calendar.holes:
        longest = calendar.holes[0]
        sentence += (
            f" The longest stretch without any lasted {_hours(longest.hours)}, from "
            f"{longest.first:%Y-%m-%d %H:%M} UTC."
        )
    return sentence


def records(states: list[WeekState]) -> str:
    """The largest and the smallest week, and vehicles."""
    described = [one.described for one in states if one.described is not None]
    least, most = extremes(described)
    sentence = f"{figures.count(most.records, 'record')} in {most.week}"
    if least is not most:
        sentence += f", the fullest week; {least.records:,} in {least.week}, the emptiest"
    vehicles = [(one.vehicles, one.week) for one in described if one.vehicles is not None]
    if vehicles:
        (fewest, week), (highest, when) = min(vehicles), max(vehicles)
        sentence += f". {figures.count(highest, 'different vehicle')} in {when}"
        if fewest != highest:
            sentence += f", {fewest:,} in {week}"
    return f"{sentence}.{_silent(len(described) - len(vehicles), 'vehicles')}"


def refused(reasons: list[Reason], snapshots: int) -> str:
    """How many could not be read."""
    count = sum(one.count for one in reasons)
    if not count:
        return "None: every raw object could be read."
    return (
        f"{figures.count(count, 'raw object')} of {snapshots:,} could not be read as a snapshot, "
        f"for {figures.count(len(reasons), 'reason')}. Their bytes are kept."
    )


def fields(found: Fields) -> str:
    """How many there are, and which came and went."""
    if not found.fields:
        return "No manifest tells fields: those of version 1 do not."
    last = max(one.last for one in found.fields)
    gone = [one.name for one in found.fields if one.last != last]
    came = [one.name for one in found.fields if one.first != found.fields[0].first]
    empty = [one.name for one in found.fields if set(one.counts) == {"null"}]
    sentence = f"{figures.count(len(found.fields), 'field')}"
    parts = [
        f"{len(names):,} {what} ({named(names)})"
        for names, what in (
            (came, "came later"),
            (gone, f"{_is(len(gone))} not in the last week"),
            (empty, "never held anything"),
        )
        if names
    ]
    if parts:
        sentence += f": {', '.join(parts)}"
    return f"{sentence}.{_silent(found.weeks_that_do_not, 'fields')}"


def speed(found: Speed | None, weeks: int) -> str:
    """How fast it went, and what S3 made of it."""
    if found is None:
        return "No manifest tells how long its conversion took: those of version 1 do not."
    requests = sum(one.requests for one in found.operations)
    tried = (
        f"Of {figures.count(requests, 'S3 request')}, {found.retries:,} had to be tried again."
        if requests
        else "No requests were counted."
    )
    which = "The median week" if found.weeks > 1 else "The week"
    sentence = f"{which} was converted at {figures.rate(found.median)} of raw snapshots"
    if found.weeks > 1:
        sentence += (
            f", the slowest at {figures.rate(found.slowest)}, the fastest at "
            f"{figures.rate(found.fastest)}"
        )
    taken = _hours(found.seconds / 3600)
    return f"{sentence}; {taken} in all. {tried}{_silent(weeks - found.weeks, 'speed')}"


def money_saved(total: Sums) -> str:
    """What is paid for what."""
    sentence = (
        f"S3 takes ${PER_GB_MONTH} for a GB a month (STANDARD, us-east-1): "
        f"{money(total.raw_dollars)} a month for the raw snapshots"
    )
    if not total.priced.converted:
        return f"{sentence}, saved once they are deleted. The week files are in a folder."
    return (
        f"{sentence}, {money(total.dollars)} for the week files. The difference, "
        f"{money(total.saved)}, is saved once the raw ones are deleted; until then both are paid."
    )


def notes(states: list[WeekState], strange: list[Week], unreadable: list[str]) -> list[str]:
    """What the page could not tell."""
    said = []
    old = [one.week for one in states if one.described is not None and one.described.version == 1]
    if old:
        said.append(
            f"{figures.count(len(old), 'manifest')} of version 1 ({ranges(old)}) "
            f"{_has(len(old))} no vehicles, fields and speed; they were left out of those."
        )
    if unreadable:
        said.append(f"Could not be read, and left out: {named(unreadable)}.")
    if strange:
        names = named([str(week) for week in strange])
        said.append(f"In the future or long past, and so left out: {names}.")
    without = sum(one.described is None and one.state == DAMAGED for one in states)
    if without:
        files = figures.count(without, "week file")
        said.append(f"{files} without a readable manifest {_is(without)} in no sum.")
    return said


def _silent(weeks: int, what: str) -> str:
    if weeks <= 0:
        return ""
    return f" The manifests of {figures.count(weeks, 'week')} do not tell {what}."


def _hours(hours: float) -> str:
    if hours < 1:
        return figures.duration(hours * 3600)
    if hours >= 72:
        return f"{hours / 24:,.1f} days"
    return figures.count(round(hours), "hour") if hours >= 10 else f"{hours:.2g} hours"


def _listed(weeks: list[Week]) -> str:
    """Weeks in words, cut where they are many."""
    runs = ranges(weeks).split(", ")
    return ", ".join(runs) if len(runs) <= _MOST_NAMED else f"{', '.join(runs[:3])} and others"


def _date(day: dt.date) -> str:
    return f"{day.day} {day:%B %Y}"


def _has(count: int) -> str:
    return "has" if count == 1 else "have"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
