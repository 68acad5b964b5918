"""The picture of a run, as one SVG: what each contender costs, and memory over time.

Above, for each day, CPU and wall seconds as multiples of ours, on as many cores and from the same
kind of source. Below, the memory of all processes of ours, for one day and for seven. Drawn by
hand, so that nothing but a browser is needed, and readable on a light page and on a dark one.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from xml.sax.saxutils import escape

from ops.bench.contenders import LIMIT, OURS
from ops.bench.goals import DAYS
from ops.bench.results import Results

_WIDTH = 920
_MARGIN = 28
_LABELS = 216
_GAP = 36
_FIGURE = 74  # room for the number behind the longest bar
_ROW = 25
_BAR = 15
_TITLE = 66  # the title of all, with the line below it
_HEADING = 54  # from a chart's title to its first row
_BELOW = 40  # from its last row to what follows
_CURVES = 190
_MOST_BYTES = 300e6  # what one worker may take

_STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif;
  fill: #1f2328; paint-order: stroke; stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round; }
.head { font-weight: 600; font-size: 18px; }
.title { font-weight: 600; font-size: 15px; }
.quiet { fill: #59636e; font-weight: 400; font-size: 13px; }
.us { font-weight: 600; }
.label, .axis-y { text-anchor: end; }
.axis-x { text-anchor: middle; }
.axis-x, .axis-y { fill: #59636e; font-size: 12px; }
.grid { stroke: #d1d9e0; }
.one { stroke: #59636e; }
.goal { stroke: #cf222e; stroke-dasharray: 5 4; }
.page { fill: #ffffff; }
.ours, .key-seven { fill: #0969da; }
.limit { fill: #1a7f37; }
.other { fill: #818b98; }
.key-day { fill: #bc4c00; }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
.seven { stroke: #0969da; }
.day { stroke: #bc4c00; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; stroke: #0d1117; }
  .quiet, .axis-x, .axis-y { fill: #9198a1; }
  .grid { stroke: #3d444d; }
  .one { stroke: #9198a1; }
  .goal { stroke: #f85149; }
  .page { fill: #0d1117; }
  .ours, .key-seven { fill: #4493f8; }
  .seven { stroke: #4493f8; }
  .limit { fill: #3fb950; }
  .key-day { fill: #f0883e; }
  .day { stroke: #f0883e; }
}
"""

_TITLES = {"repr-day": "A day of Python 2 repr", "json-day": "A day of JSON"}
_COLUMNS = {"cpu_seconds": "CPU seconds", "wall_seconds": "wall seconds"}
_LABEL_OF = {OURS: "this project", LIMIT: "limit: read, compress"}


@dataclass(frozen=True)
class _Bar:
    """A contender, and its seconds as they are and for each of ours."""

    name: str
    reads: str
    seconds: dict[str, float]
    times: dict[str, float]


def svg(results: Results) -> str:
    """The whole picture."""
    cores = f"{results.cores} cores" if results.cores > 1 else "1 core"
    parts = [
        _text(_MARGIN, _MARGIN + 14, "What others take for one second of this project", "head"),
        _text(
            _MARGIN,
            _MARGIN + 36,
            f"CPU seconds of all processes, and wall seconds on {cores}; shorter is better",
            "quiet",
        ),
    ]
    y = _MARGIN + _TITLE
    for day in reversed(DAYS):
        bars = _bars(results, day)
        if bars:
            parts += _chart(bars, _TITLES[day], _data_of(results, day), y)
            y += _HEADING + _ROW * len(bars) + _BELOW
    if results.memory:
        parts += _memory(results, y)
        y += _HEADING + _CURVES + _BELOW
    parts.append(_text(_MARGIN, y + 6, _footnote(results), "quiet"))
    height = y + _MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img" aria-label="What a day costs">\n'
        f'<style>{_STYLE}</style>\n<rect class="page" width="100%" height="100%"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _data_of(results: Results, day: str) -> str:
    snapshots, size = results.snapshots[day], results.raw_bytes[day] / 1e6
    every = max(one.every for one in results.outcomes if one.sample == day)
    sampled = f", of which the script got one in {every}" if every > 1 else ""
    return f"{snapshots:,} snapshots, {size:,.0f} MB{sampled}"


def _footnote(results: Results) -> str:
    machine = results.machine
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, Python "
        f"{machine['python']}; all in one run, on the same files, each against ours from its source"
    )


def _bars(results: Results, day: str) -> list[_Bar]:
    """The most expensive contender first; one bar of ours is enough, for they are all 1."""
    bars = []
    for one in results.outcomes:
        ours = results.find(day, OURS, one.reads, one.cores)
        if one.sample != day or ours is None or one.cores != results.cores:
            continue
        if one.name.startswith(OURS) and (one is not ours or one.reads != "folder"):
            continue
        seconds = {figure: getattr(one, figure) for figure in _COLUMNS}
        times = {figure: seconds[figure] / getattr(ours, figure) for figure in _COLUMNS}
        bars.append(_Bar(one.name, one.reads, seconds, times))
    return sorted(bars, key=lambda bar: -bar.times["cpu_seconds"])


def _chart(bars: list[_Bar], title: str, data: str, y: int) -> Iterator[str]:
    """CPU on the left, wall time on the right, on the same scale."""
    yield _text(_MARGIN, y + 12, title, "title", f"  {data}")
    largest = max(times for bar in bars for times in bar.times.values())
    width = (_WIDTH - 2 * _MARGIN - _LABELS - _GAP) / 2
    scale = (width - _FIGURE) / largest
    top = y + _HEADING
    bottom = top + _ROW * len(bars)
    for column, (figure, name) in enumerate(_COLUMNS.items()):
        left = _MARGIN + _LABELS + column * (width + _GAP)
        yield _text(left, top - 10, name, "quiet")
        for tick in _ticks(largest):
            x = left + tick * scale
            yield _line(x, top, x, bottom, "grid")
            yield _text(x, bottom + 16, f"{tick:g}", "axis-x")
        yield _line(left + scale, top, left + scale, bottom, "one")
        for row, bar in enumerate(bars):
            middle = top + _ROW * row + _ROW / 2
            length = max(1.5, bar.times[figure] * scale)
            kind = {OURS: "ours", LIMIT: "limit"}.get(bar.name, "other")
            yield _box(left, middle - _BAR / 2, length, _BAR, kind)
            yield _text(left + length + 6, middle + 4.5, _figure_of(bar, figure), "")
            if column == 0:
                yield _label(left - 10, middle + 4.5, bar)


def _figure_of(bar: _Bar, figure: str) -> str:
    """``9.2``; and ``1 = 2.6 s`` for ours."""
    if bar.name == OURS:
        return f"1 = {bar.seconds[figure]:.1f} s"
    value = bar.times[figure]
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}" if value >= 1.95 else f"{value:.2f}"


def _label(x: float, y: float, bar: _Bar) -> str:
    kind = "label us" if bar.name == OURS else "label"
    return _text(x, y, _LABEL_OF.get(bar.name, bar.name), kind, f", {bar.reads}")


def _memory(results: Results, y: int) -> Iterator[str]:
    """Memory over time; the day of the higher peak stands for both."""
    peaks = {name: max(size for _, size in of) for name, of in results.memory.items()}
    day = max((day for day in DAYS if day in peaks), key=lambda name: peaks[name], default="")
    curves = {
        (kind, label): results.memory[sample]
        for kind, label, sample in (("seven", "seven days", "week"), ("day", "one day", day))
        if sample in results.memory
    }
    title = f"Memory of one worker with {results.cores} converters, all its processes, from S3"
    yield _text(_MARGIN, y + 12, title, "title")
    left, right = _MARGIN + 58, _WIDTH - _MARGIN - 12
    bottom = y + _HEADING + _CURVES
    longest = max(at for samples in curves.values() for at, _ in samples)
    highest = 1.12 * max(_MOST_BYTES, *(size for of in curves.values() for _, size in of))

    def at_height(size: float) -> float:
        return bottom - size / highest * _CURVES

    for size in range(0, int(highest), 100_000_000):
        kind = "goal" if size == _MOST_BYTES else "grid"
        yield _line(left, at_height(size), right, at_height(size), kind)
        yield _text(left - 8, at_height(size) + 4, f"{size // 1_000_000} MB", "axis-y")
    for tick in _ticks(longest):
        yield _text(left + tick / longest * (right - left), bottom + 18, f"{tick:g} s", "axis-x")
    x: float = left
    for (kind, label), samples in curves.items():
        points = " ".join(
            f"{left + at / longest * (right - left):.1f},{at_height(size):.1f}"
            for at, size in samples
        )
        yield f'<polyline class="curve {kind}" points="{points}"/>'
        peak = max(size for _, size in samples)
        yield _box(x, y + 27, 12, 12, f"key-{kind}")
        yield _text(x + 18, y + 37.5, f"{label}, {peak / 1e6:.0f} MB at the peak", "")
        x += 260
    yield _line(x, y + 33, x + 24, y + 33, "goal")
    yield _text(x + 30, y + 37.5, f"{_MOST_BYTES / 1e6:.0f} MB: the most that it may take", "")


def _ticks(largest: float) -> list[float]:
    """Round numbers from nought, three to seven of them."""
    power = 10.0 ** math.floor(math.log10(largest / 4))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if largest / step <= 6)
    return [number * step for number in range(int(largest / step) + 1)]


def _text(x: float, y: float, text: str, kind: str, quietly: str = "") -> str:
    """Some words; what is said `quietly` comes after them."""
    rest = f'<tspan class="quiet" xml:space="preserve">{escape(quietly)}</tspan>' if quietly else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}{rest}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _box(x: float, y: float, width: float, height: float, kind: str) -> str:
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}" '
        'rx="2"/>'
    )
