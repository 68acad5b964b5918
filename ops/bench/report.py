"""The tables of a run, for a screen and for a README: goals, contenders, and levels.

Says beside the figures what they must not be taken for: a sample for the whole, a busy machine for
a free one, a contender that is not installed for one that was beaten.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ops.bench.contenders import OURS
from ops.bench.goals import DAYS, goals
from ops.bench.results import BUSY, Outcome, Results
from tasks import figures


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


def _tables(results: Results) -> Iterator[tuple[str, Table]]:
    yield "Figures to reach", _goals(results)
    if results.outcomes:
        yield "Contenders", _contenders(results)
    if results.levels:
        yield (
            "Order and compression_level: size, and CPU of the compression alone",
            _levels(results),
        )


def _goals(results: Results) -> Table:
    rows = [
        [
            goal.name,
            goal.verdict,
            "" if goal.value is None else goal.write(goal.value),
            goal.write(goal.reach),
            goal.write(goal.aim),
        ]
        for goal in goals(results)
    ]
    return Table(["figure", "", "measured", "reach", "aim"], rows, 2)


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
                f"{one.cpu_seconds:.1f} s",
                _against(one.cpu_seconds, ours.cpu_seconds if ours else None),
                f"{one.wall_seconds:.1f} s",
                _against(one.wall_seconds, ours.wall_seconds if ours else None),
                figures.size(one.peak_bytes) if one.peak_bytes else "",
                figures.size(one.output_bytes),
            ]
        )
    names = ["snapshots", "contender", "reads", "cores"]
    names += ["CPU", "of ours", "wall", "of ours", "memory", "output"]
    return Table(names, rows, 3)


def _counterpart(results: Results, one: Outcome) -> Outcome | None:
    """Ours, from where the contender reads and on as many cores."""
    ours = results.find(one.sample, OURS, one.reads, one.cores)
    return None if ours is one else ours


def _against(value: float, ours: float | None) -> str:
    return f"{value / ours:.2f}" if ours else ""


def _levels(results: Results) -> Table:
    """Sizes as parts of what the default gives; CPU in MB of lines a second."""
    columns = sorted({(one.sample, one.order) for one in results.levels}, reverse=True)
    kinds = sorted({(one.codec, one.level) for one in results.levels})
    rows = []
    for codec, level in kinds:
        row = [f"{codec} {level}"]
        for sample, order in columns:
            one = results.level(sample, codec, order, level)
            if one is None:
                row += ["", ""]
                continue
            row += [
                figures.ratio(one.lines_bytes, one.bytes),
                f"{one.lines_bytes / one.cpu_seconds / 1e6:.0f} MB/s",
            ]
        rows.append(row)
    names = ["codec and level"]
    for sample, order in columns:
        names += [f"{sample}, {order}", ""]
    return Table(names, rows, 1)


def _remarks(results: Results) -> Iterator[str]:
    machine = results.machine
    yield (
        f"Measured on {machine['processor']}, {machine['cores']} cores, {machine['memory']}, "
        f"{machine['system']}, Python {machine['python']}; the middle one of "
        f"{figures.count(results.rounds, 'run')}."
    )
    for name, raw_bytes in results.raw_bytes.items():
        snapshots = figures.count(results.snapshots[name], "snapshot")
        yield f"{name}: {snapshots}, {figures.size(raw_bytes)}."
    if not results.is_whole:
        yield "The days are cut short: starting counts for more here than in a full run."
    for sample in DAYS:
        every = max((one.every for one in results.outcomes if one.sample == sample), default=1)
        if every > 1:
            yield (
                f"On the {sample} the straightforward script got one in {every} snapshots, and its "
                "seconds are made as long as all would take; memory and output are the sample's."
            )
    for name, why in results.missing.items():
        yield f"Not measured: {name}, because {why}."
    busy = [one for one in results.outcomes if results.is_busy(one)]
    if busy:
        cores = int(machine["cores"])
        worst = max(one.share_of_others(cores) for one in busy)
        yield (
            f"Other programs had more than {BUSY:.0%} of the machine during {len(busy)} of "
            f"{len(results.outcomes)} measurements, at most {worst:.0%}: those wall seconds are "
            "longer than they need be."
        )
    for one in results.gets:
        yield (
            f"One GET of {figures.size(one.bytes / one.gets)} by {one.way}: "
            f"{1e3 * one.cpu_seconds_each:.2f} ms of CPU here, "
            f"{1e3 * one.endpoint_cpu_seconds / one.gets:.2f} ms at the endpoint."
        )
    for part in results.overhead:
        rate = results.raw_bytes["week"] / (part.own + part.converters)
        yield (
            f"The week from {part.reads} on {figures.count(part.cores, 'core')}: "
            f"{part.own:.1f} s of CPU for scheduling and writing, {part.converters:.1f} s for "
            f"converters (of which {part.converter_starts:.1f} s to start); {figures.size(rate)} "
            "of raw snapshots a second of CPU."
        )
