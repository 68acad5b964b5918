"""The tables of a run, for a screen and for a README: goals, contenders, and levels.

Says beside the figures what they must not be taken for: a sample for the whole, a busy machine for
a free one, a contender that is not installed for one that was beaten.
"""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from ops.bench.contenders import DUCKDB, FOLDER, JQ, LIMIT, OURS, S3, STRAIGHTFORWARD
from ops.bench.goals import DAYS, goals
from ops.bench.levels import GZIP
from ops.bench.results import BUSY, Outcome, Overhead, Results
from tasks import figures

DAY_NAMES = {"json-day": "JSON day", "repr-day": "repr day"}


@dataclass(frozen=True)
class Table:
    """Rows under their names; the first columns are text, the others figures."""

    names: list[str]
    rows: list[list[str]]
    text_columns: int

    def plain(self) -> Iterator[str]:
        """For a screen."""
        widths = [max(map(len, column)) for column in zip(self.names, *self.rows, strict=True)]
        for row in (self.names, *self.rows):
            cells = [
                f"{cell:<{width}}" if number < self.text_columns else f"{cell:>{width}}"
                for number, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            yield "  ".join(cells).rstrip()

    def markdown(self) -> Iterator[str]:
        """For a README."""
        rules = ["---" if n < self.text_columns else "--:" for n in range(len(self.names))]
        for row in (self.names, rules, *self.rows):
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def lines(results: Results, markdown: bool) -> Iterator[str]:
    """Everything, as text."""
    for title, table in _tables(results):
        yield f"### {title}" if markdown else title
        yield ""
        yield from table.markdown() if markdown else table.plain()
        yield ""
    mark = "- " if markdown else ""
    for remark in _remarks(results):
        yield f"{mark}{remark}"


def summary(results: Results) -> Iterator[str]:
    """What a newcomer wants to see, as Markdown: a day by everyone, against ours."""
    yield from _summary(results).markdown()
    yield ""
    limit = f"The limit is what {_WHAT_THE_LIMIT_IS}."
    sampled = next(_sampled(results), "")
    yield " ".join(filter(None, [_machine(results), limit, sampled, *_not_measured(results)]))


def _tables(results: Results) -> Iterator[tuple[str, Table]]:
    yield "Figures to reach", _goals(results)
    if results.outcomes:
        yield "Contenders", _contenders(results)
    parts = _parts(results)
    if parts.rows:
        yield "Where the CPU seconds of a day go, on one core", parts
    if results.levels:
        yield "compression_level and order: size, and CPU of compressing alone", _levels(results)


def _goals(results: Results) -> Table:
    rows = [
        [
            goal.name,
            *("" if value is None else goal.write(value) for value in (goal.value, goal.reach)),
            "" if goal.aim is None else goal.write(goal.aim),
            goal.verdict,
        ]
        for goal in goals(results)
    ]
    return Table(["figure", "measured", "reach", "aim", ""], rows, 1)


def _contenders(results: Results) -> Table:
    rows = []
    for one in results.outcomes:
        ours = _counterpart(results, one)
        rows.append(
            [
                one.sample + (f" (1 in {one.every})" if one.every > 1 else ""),
                one.name,
                one.reads,
                f"{one.cores}",
                f"{one.cpu_seconds:.2f} s",
                _against(one.cpu_seconds, ours.cpu_seconds if ours else None),
                f"{one.wall_seconds:.2f} s",
                _against(one.wall_seconds, ours.wall_seconds if ours else None),
                *_sizes(one),
            ]
        )
    names = ["snapshots", "contender", "reads", "cores"]
    names += ["CPU", "of ours", "wall", "of ours", "memory", "output"]
    return Table(names, rows, 3)


def _parts(results: Results) -> Table:
    """Each day's seconds by what was measured by itself, and what is left."""
    columns = []
    for day in DAY_NAMES:
        start = results.find("one-snapshot", OURS, FOLDER, 1)
        ours, limit = (results.find(day, name, FOLDER, 1) for name in (OURS, LIMIT))
        if not (start and ours and limit):
            continue
        rest = ours.cpu_seconds - start.cpu_seconds - limit.cpu_seconds
        parts = [start.cpu_seconds, limit.cpu_seconds, rest, ours.cpu_seconds]
        parts += [one.cpu_seconds_each * results.snapshots[day] for one in results.gets[1:]]
        columns.append([DAY_NAMES[day], *(f"{seconds:.2f} s" for seconds in parts)])
    names = [
        "",
        "starting: what one snapshot takes",
        "the limit: reading the files, compressing the finished lines",
        "the rest: finding the records, ordering them, making lines, checking",
        "all of it, from a folder",
        "on top, from S3: the GETs in place of files",
    ]
    rows = [list(row) for row in zip(names, *columns, strict=False)]
    return Table(rows[0], rows[1:] if columns else [], 1)


def _summary(results: Results) -> Table:
    """A row for each contender, ours as it is and the others against it; two cores, both days."""
    days = [day for day in DAY_NAMES if results.find(day, OURS)]
    kinds = [(name, FOLDER) for name in (JQ, DUCKDB, STRAIGHTFORWARD, LIMIT, OURS)]
    kinds = [(STRAIGHTFORWARD, S3), (OURS, S3), *kinds]
    rows = []
    for name, reads in kinds:
        of_days = [results.find(day, name, reads, results.cores) for day in days]
        if not any(of_days):
            continue
        row = [f"**{name}**" if name == OURS else name, reads]
        for one in of_days:
            row += _cells(results, one) if one else [""] * 4
        rows.append(row)
    names = ["", "reads"]
    for day in days:
        names += [f"{DAY_NAMES[day]}: CPU", "wall", "memory", "output"]
    return Table(names, rows, 2)


def _cells(results: Results, one: Outcome) -> list[str]:
    ours = _counterpart(results, one)
    seconds = [f"{one.cpu_seconds:.1f} s", f"{one.wall_seconds:.1f} s"]
    if ours is not None:
        seconds = [
            f"{_against(one.cpu_seconds, ours.cpu_seconds)} ×",
            f"{_against(one.wall_seconds, ours.wall_seconds)} ×",
        ]
    return [*seconds, *_sizes(one)]


def _sizes(one: Outcome) -> list[str]:
    """Memory and output, but for those of a sample."""
    if one.every > 1:
        return ["", ""]
    return [figures.size(one.peak_bytes) if one.peak_bytes else "", figures.size(one.output_bytes)]


def _counterpart(results: Results, one: Outcome) -> Outcome | None:
    """Ours, from where the contender reads and on as many cores."""
    ours = results.find(one.sample, OURS, one.reads, one.cores)
    return None if ours is one else ours


def _against(value: float, ours: float | None) -> str:
    if not ours:
        return ""
    return f"{value / ours:.2f}" if value < 10 * ours else f"{value / ours:.1f}"


def _levels(results: Results) -> Table:
    """Sizes as parts of what gzip 6 makes of the snapshots in order; both days together."""
    orders = sorted({one.order for one in results.levels}, reverse=True)
    kinds = sorted({(one.codec == GZIP, one.level, one.codec) for one in results.levels})
    whole = sum(one.bytes / one.share for one in results.levels if one.codec == GZIP)
    rows = []
    for is_gzip, level, codec in kinds:
        row = [f"{codec} {level}" if is_gzip else f"{level}"]
        for order in orders:
            found = [
                one
                for one in results.levels
                if (one.codec, one.order, one.level) == (codec, order, level)
            ]
            if not found:
                row += ["", "", ""]
                continue
            size = sum(one.bytes / one.share for one in found)
            seconds = sum(one.cpu_seconds / one.share for one in found)
            row += [
                figures.size(size / len(found)),
                f"{size / whole:.2f}" if whole else "",
                f"{seconds / len(found):.2f} s",
            ]
        rows.append(row)
    names = ["compression_level"]
    for order in orders:
        names += [f"order = {order}: a day", "of gzip 6", "CPU"]
    return Table(names, rows, 1)


_WHAT_THE_LIMIT_IS = (
    "no conversion of the same files with the same codec can go below: it reads them, compresses "
    "the finished lines, and does nothing else"
)


def _machine(results: Results) -> str:
    machine = results.machine
    return (
        f"Measured on {machine['processor']}, {machine['cores']} cores, {machine['memory']}, "
        f"{machine['system']}, Python {machine['python']}; the middle one of "
        f"{figures.count(results.rounds, 'run')}, in which all took turns."
    )


def _sampled(results: Results) -> Iterator[str]:
    for sample in DAYS:
        every = max((one.every for one in results.outcomes if one.sample == sample), default=1)
        if every > 1:
            yield (
                f"On the {DAY_NAMES[sample]} the straightforward script got one in {every} "
                "snapshots, and its seconds are made as long as all would take."
            )


def _not_measured(results: Results) -> Iterator[str]:
    for name, why in results.missing.items():
        yield f"Not measured: {name}, because {why}."


def _remarks(results: Results) -> Iterator[str]:
    yield _machine(results)
    spreads = [one.spread for one in results.outcomes if len(one.cpu_of_runs) > 1]
    if spreads:
        yield (
            f"Between the {results.rounds} runs of a contender its CPU seconds differ by "
            f"{statistics.median(spreads):.0%} as a rule and by {max(spreads):.0%} at most."
        )
    for name, raw_bytes in results.raw_bytes.items():
        snapshots = figures.count(results.snapshots[name], "snapshot")
        yield f"{name}: {snapshots}, {figures.size(raw_bytes)}."
    if not results.is_whole:
        yield "The days are cut short: starting counts for more here than in a full run."
    if any(one.name == LIMIT for one in results.outcomes):
        yield (
            f"The limit is what {_WHAT_THE_LIMIT_IS}: no records found, ordered or made lines of, "
            "nothing started. Fetching from S3 comes on top of it."
        )
    yield from _sampled(results)
    yield from _not_measured(results)
    yield from _of_others(results)
    for one in results.gets:
        yield (
            f"One GET of {figures.size(one.bytes / one.gets)} by {one.way}: "
            f"{1e3 * one.cpu_seconds_each:.2f} ms of CPU here, "
            f"{1e3 * one.endpoint_cpu_seconds / one.gets:.2f} ms at the endpoint."
        )
    for part in results.overhead:
        yield _where_it_goes(results, part)
    if results.levels:
        hours = min(one.share for one in results.levels)
        yield (
            f"Levels: both days in the mean, by {hours:.0%} of their lines; gzip 6 is zlib's, of "
            "the lines in the order of the snapshots."
        )


def _of_others(results: Results) -> Iterator[str]:
    busy = [one for one in results.outcomes if results.is_busy(one)]
    if busy:
        cores = int(results.machine["cores"])
        worst = max(one.share_of_others(cores) for one in busy)
        yield (
            f"Other programs had more than {BUSY:.0%} of the machine during {len(busy)} of "
            f"{len(results.outcomes)} measurements, at most {worst:.0%}: those wall seconds are "
            "longer than they need be. (The S3 endpoint is one of them.)"
        )


def _where_it_goes(results: Results, part: Overhead) -> str:
    week = results.find("week", OURS, part.reads, part.cores)
    raw = results.raw_bytes["week"]
    return (
        f"The week from {part.reads} on {figures.count(part.cores, 'core')}: {part.own:.2f} s of "
        f"CPU for scheduling and writing, {part.converters:.2f} s for converters (of which "
        f"{part.converter_starts:.2f} s to start). Of raw snapshots that is "
        f"{figures.size(raw / (part.own + part.converters))} a second of CPU"
        + (f", {figures.size(raw / week.wall_seconds)} a second of wall time." if week else ".")
    )
