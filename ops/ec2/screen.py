"""`make status ON=ec2`: the whole fleet on one screen of 100 columns, as of one moment.

`lines` puts into words what has been found out (`ops.ec2.view`) and ends with what to run next.
Asks nothing and changes nothing.
"""

import datetime as dt
import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ops.ec2.board import Member, Run
from ops.ec2.costs import dollars, hourly
from ops.ec2.record import RunRecord
from ops.ec2.view import Pace, View, time_of
from tasks import advice, figures
from tasks.weeks import ranges

if TYPE_CHECKING:
    from ops.ec2.fleet import Instance

_COLUMNS = 100
_LABEL = 11
_ROW = "{:19}  {:11}  {:4}  {:11} {:>5} {:>9} {:>8} {:>9} {:>5} {:>6}"
_HEADINGS = ("instance", "type", "zone", "state")
_MORE_HEADINGS = ("weeks", "rate", "mem used", "disk used", "spool", "seen")
_FEW = 8
"""Up to so many instances, each week under way has a line of its own."""
_ERRORS = 5
_NEARLY_FULL = 0.95
_LONG_SECONDS = 600


def lines(view: View) -> Iterator[str]:
    """The screen, line by line."""
    if not view.stack_state and not view.alive:
        yield from _nothing(view)
        return
    pace = Pace(view)
    yield from _entry("fleet", _fleet(view))
    yield from _entry("run", _run(view))
    yield from _entry("weeks", _weeks(view))
    if view.is_running:
        yield from _entry("rate", _rate(view, pace))
    yield from _entry("cost", _cost(view, pace))
    ui = advice.make("ui", ON="ec2")
    for member in view.members:
        if member.scheduler and member.instance not in view.silent:
            yield from _entry("luigid", f"on {member.instance}: {ui} shows its page")
    if view.alive:
        yield ""
        yield _row(*_HEADINGS, *_MORE_HEADINGS)
        for instance in sorted(view.alive, key=lambda one: one.launched):
            yield from _instance(view, instance, pace)
        yield ""
    if len(view.alive) > _FEW:
        yield from _under_way(view)
    yield from _gone(view)
    yield from _errors(view)
    yield from _next(view)


def _fleet(view: View) -> str:
    there = len(view.alive)
    text = f"{view.stack} in {view.region}: "
    if there or view.wanted:
        text += "" if there == view.wanted else f"{there} of "
        text += figures.count(view.wanted, "instance")
        if there < view.wanted:
            text += f". {view.waiting or 'The rest is being started'}"
        elif there > view.wanted:
            text += ": AWS is taking the others away"
    else:
        text += "no instances, so nothing to pay for but the code in S3"
    if not view.stack_state:
        text += ". There is no stack: they are being taken away, or were left behind"
    elif view.stack_state not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        text += f". The stack is in {view.stack_state}"
    return text


def _run(view: View) -> str:
    run = view.run
    if run is None:
        return "none yet"
    by = f", by {run.by.rpartition('/')[2]}" if run.by else ""
    started = time_of(run.started)
    if not run.is_running:
        ended = time_of(run.ended or run.started)
        took = figures.duration((ended - started).total_seconds())
        return f"{_range(run)}: {run.state} {_clock(ended, view.now)} after {took}. {run.sentence}"
    so_far = figures.duration((view.now - started).total_seconds())
    text = f"{_range(run)}: running for {so_far}, since {_clock(started, view.now)}{by}"
    if not view.alive:
        text += ". No instance is at it"
    elif len(view.silent) == len(view.alive):
        ages = [view.age(one) or 0.0 for one in view.silent]
        text += f". Nobody has given a sign of life for {_span(min(ages))}"
    return text


def _weeks(view: View) -> str:
    done, total = len(view.done), len(view.done) + len(view.left)
    if view.run is None and not view.left:  # what is to do has not been looked for
        return f"{done:,} done in {view.destination}"
    share = int(100 * done / total) if total else 100
    text = f"{done:,} of {total:,} done ({share}%) in {view.destination}"
    if view.is_running and view.under_way:
        return f"{text}, {len(view.under_way):,} under way"
    if view.left and not view.is_running:
        return f"{text}. To do: {textwrap.shorten(ranges(list(view.left)), 200, placeholder=' …')}"
    return text


def _rate(view: View, pace: Pace) -> str:
    left = pace.seconds_left
    if not view.left:
        return "every week is done; the run ends when it has been verified"
    if not pace.at_it:
        return "nothing moves"
    if left is None:
        return "known as soon as the first weeks are under way"
    speed = pace.bytes_a_second
    rate = "" if speed is None else f"{figures.size(speed)}/s of raw snapshots; "
    then = _clock(view.now + dt.timedelta(seconds=left), view.now)
    return f"{rate}ETA {figures.duration(left)}, at about {then}"


def _cost(view: View, pace: Pace) -> str:
    text = "nothing so far"
    if view.cost.total or view.cost.unknown:
        text = f"{dollars(view.cost.total)} so far: {view.cost.parts()}"
    an_hour = hourly(view.alive, view.prices, view.disk_gb)
    if an_hour:
        text += f". {dollars(an_hour)} an hour at {view.prices.origin}"
    left = pace.seconds_left
    if view.is_running and left is not None and pace.weeks_done and view.left:
        requests = view.cost.requests * len(view.left) / pace.weeks_done
        text += f"; about {dollars(view.cost.total + requests + an_hour * left / 3600)} in the end"
    return text


def _instance(view: View, instance: "Instance", pace: Pace) -> Iterator[str]:
    member = next((one for one in view.members if one.instance == instance.id), None)
    where = (instance.id, instance.type, instance.zone.rpartition("-")[2])
    if member is None:
        state = "starting" if instance.state == "pending" else "booting"
        yield _row(*where, "preparing" if instance.registered else state)
        age = (view.now - instance.launched).total_seconds()
        if age > _LONG_SECONDS:
            setup = advice.make("setup", ON="ec2")
            yield from _indented(f"launched {_span(age)} ago and not ready yet: {setup}")
        return
    silent = instance.id in view.silent
    rate = pace.of(member) if view.takes_part(member) and member.raw_bytes else None
    yield _row(
        *where,
        "silent" if silent else member.state,
        f"{len(member.weeks_done):,}" if view.takes_part(member) else "",
        f"{figures.size(rate)}/s" if rate and not silent else "",
        _used(member.memory_free, member.memory_total),
        _used(member.disk_free, member.disk_total),
        f"{member.spooled:,}" if member.spooled else "",
        _span(view.age(instance.id) or 0.0),
    )
    for sentence in _about(view, member, silent):
        yield from _indented(sentence)


def _about(view: View, member: Member, silent: bool) -> Iterator[str]:
    """What there is to say of an instance besides its row."""
    if member.notice:
        left = (time_of(member.notice) - view.now).total_seconds()
        then = _clock(time_of(member.notice), view.now, seconds=True)
        yield f"AWS takes it back at {then}, {f'in {_span(left)}' if left > 0 else 'by now'}"
    if silent:
        weeks = ", ".join(sorted(member.running))
        was_at = f"; it was at {weeks}" if weeks else ""
        others = "" if len(view.silent) == len(view.alive) else ", which others take over"
        age = _span(view.age(member.instance) or 0.0)
        yield f"no sign of life for {age}{was_at}{others if weeks else ''}"
    elif member.running and len(view.alive) <= _FEW:
        for week, sentence in sorted(member.running.items()):
            yield f"{week}  {sentence}"
    elif member.sentence and not member.running:
        yield member.sentence
    if member.restarts:
        yield f"the run was started again {figures.count(member.restarts, 'time')} here"
    for name, free, total in (
        ("disk", member.disk_free, member.disk_total),
        ("memory", member.memory_free, member.memory_total),
    ):
        if total and 1 - free / total > _NEARLY_FULL:
            yield f"its {name} is nearly full: {figures.size(free)} of {figures.size(total)} free"


def _under_way(view: View) -> Iterator[str]:
    """The weeks under way in few words, where there are many."""
    weeks = [
        f"{week} {sentence.partition(',')[0]}" for week, sentence in sorted(view.under_way.items())
    ]
    if weeks:
        yield from _entry("under way", ", ".join(weeks))


def _gone(view: View) -> Iterator[str]:
    """Those that took part in the run and that EC2 does not show any more."""
    shown = {one.id for one in view.alive}
    gone = [
        f"{one.instance}  {one.state}, {figures.count(len(one.weeks_done), 'week')}, "
        f"last seen {_clock(time_of(one.seen), view.now)}"
        for one in (sighting.member for sighting in view.sightings)
        if one.instance not in shown and view.takes_part(one)
    ]
    if len(gone) > _FEW:
        gone[_FEW - 1 :] = [f"and {len(gone) - _FEW + 1} more"]
    yield from _entries("gone", gone)


def _errors(view: View) -> Iterator[str]:
    where: dict[str, list[str]] = {}
    for sighting in sorted(view.sightings, key=lambda one: one.written):
        if view.takes_part(sighting.member):
            for error in sighting.member.errors:
                where.setdefault(error, []).append(sighting.member.instance)
    for error, instances in list(where.items())[-_ERRORS:]:
        place = instances[0] if len(instances) == 1 else f"{len(instances)} instances"
        text = textwrap.shorten(error, 2 * _COLUMNS - 60, placeholder=" …")
        yield from _entry("error", f"{text} (on {place})")


def _next(view: View) -> Iterator[str]:
    """What to run next, a command a line."""
    run, away = view.run, ("teardown", "takes everything away but the weeks")
    idle = figures.count(view.idle_minutes, "minute")
    idle = f"; without one they go after {idle}" if view.alive else ""
    if not view.stack_state:
        yield from _commands(("teardown", "takes away what is left"))
    elif view.wanted and not view.alive:
        yield from _commands(("setup", "waits for instances; TYPE=… asks for other types"), away)
    elif view.is_running and not view.alive:
        yield from _commands(("setup", "starts instances, which go on with the run"), away)
    elif view.is_running and len(view.silent) == len(view.alive):
        yield from _commands(
            ("logs", "shows what was said last"),
            ("teardown FORCE=1", "ends it; a new run goes on from the weeks that are done"),
        )
    elif view.is_running:
        yield from _commands(("logs", "follows what is said"), ("status", "shows this anew"))
    elif run is not None and run.state == "failed":
        setup = [] if view.alive else [("setup", "starts instances")]
        logs, again = ("logs", "shows what went wrong"), ("full", "goes on from there")
        yield from _commands(logs, *setup, again, away)
    elif view.left or run is None:
        setup = [] if view.alive else [("setup", "starts instances")]
        yield from _commands(*setup, ("full", f"starts a run{idle}"), away)
    elif view.alive:
        yield from _commands(("verify", "checks all weeks once more"), away)
    else:
        yield from _commands(away)


def _commands(*commands: tuple[str, str]) -> Iterator[str]:
    given = [(advice.make(command, ON="ec2"), what) for command, what in commands]
    width = max(len(command) for command, _ in given)
    yield from _entries("next", [f"{command:{width}}  {what}" for command, what in given])


def _nothing(view: View) -> Iterator[str]:
    if view.left_over:
        yield from _entry("left", f"of {view.stack} in {view.region}: {', '.join(view.left_over)}")
        yield from _commands(("teardown", "takes that away as well"))
        return
    kinds = ", no ".join(view.looked_for)
    yield from _wrapped(f"Nothing is left of {view.stack} in {view.region}: no {kinds}.", "")
    yield from _entry("weeks", _weeks(view))
    if view.last is not None:
        yield from _last_run(view, view.last)
    if view.left or not view.done:
        yield from _commands(("plan", "says what it takes"), ("setup", "begins"))


def _last_run(view: View, last: RunRecord) -> Iterator[str]:
    run = last.run
    if not run.run_id:
        yield from _entry("last run", "none: the fleet was taken away before it had one")
    else:
        took = (time_of(run.ended or last.removed) - time_of(run.started)).total_seconds()
        yield from _entry(
            "last run",
            f"{_range(run)}, {run.state} {_clock(time_of(run.ended or last.removed), view.now)}: "
            f"{figures.count(last.weeks, 'week')} in {figures.duration(took)} on "
            f"{figures.count(len(last.members), 'instance')}",
        )
    yield from _entry("cost", f"{dollars(last.cost.total)} in all: {last.cost.parts()}")
    if last.verified:
        yield from _entry("verified", last.verified)


def _range(run: Run) -> str:
    if run.weeks:
        return textwrap.shorten(run.weeks.replace(",", ", "), 60, placeholder=" …")
    if not run.first and not run.last:
        return "every finished week"
    if not run.last:
        return f"every finished week from {run.first}"
    return f"{run.first} to {run.last}" if run.first else f"every week to {run.last}"


def _row(*cells: str) -> str:
    return _ROW.format(*cells, *[""] * (10 - len(cells))).rstrip()


def _entry(label: str, text: str) -> Iterator[str]:
    """A label and a text beside it, in as many lines as it takes."""
    yield from _wrapped(text.rstrip(". "), f"{label:{_LABEL}}")


def _entries(label: str, texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield f"{label:{_LABEL}}{text}"
        label = ""


def _indented(text: str) -> Iterator[str]:
    yield from _wrapped(text, " " * 4)


def _wrapped(text: str, start: str) -> Iterator[str]:
    yield from textwrap.wrap(
        text,
        _COLUMNS,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_on_hyphens=False,
    )


def _used(free: int, total: int) -> str:
    return f"{1 - free / total:.0%}" if total else ""


def _clock(time: dt.datetime, now: dt.datetime, seconds: bool = False) -> str:
    """``14:02 UTC``, with its date unless that is today's."""
    day = "" if time.date() == now.date() else f"{time:%Y-%m-%d} "
    return f"{day}{time:%H:%M:%S} UTC" if seconds else f"{day}{time:%H:%M} UTC"


def _span(seconds: float) -> str:
    """A short time in one figure: ``3 s``, ``4 min``, ``2 h``, ``5 d``."""
    for unit, length, most in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 48)):
        if seconds < most * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"
