"""The picture of a run, as one SVG: what each contender costs, and memory over time.

Above, for each day, CPU and wall seconds as multiples of ours, on as many cores and from the same
kind of source. Below, the memory of all processes of ours, for one day and for seven. Drawn by
hand, so that nothing but a browser is needed, and readable on a light page and on a dark one.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from xml.sax.saxutils import escape

from ops.bench.contenders import CORES, LIMIT, OURS
from ops.bench.goals import DAYS
from ops.bench.results import Outcome, Results

_WIDTH = 920
_MARGIN = 24
_LABELS = 216
_GAP = 40
_FIGURE = 44  # room for the number behind the longest bar
_ROW = 26
_BAR = 16
_HEADING = 52  # from a chart's title to its first row
_BELOW = 44  # from its last row to what follows
_CURVES = 200
_MOST_BYTES = 300e6  # what one worker may take

_STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; fill: #1f2328;
  paint-order: stroke; stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round; }
.title { font-weight: 600; font-size: 15px; }
.quiet { fill: #59636e; }
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
  .page { fill: #0d1117; }
  .ours, .key-seven { fill: #4493f8; }
  .seven { stroke: #4493f8; }
  .limit { fill: #3fb950; }
  .key-day { fill: #f0883e; }
  .day { stroke: #f0883e; }
}
"""

_TITLES = {"repr-day": "Python 2 repr", "json-day": "JSON"}
_COLUMNS = {"cpu_seconds": "CPU seconds", "wall_seconds": "wall seconds"}


@dataclass(frozen=True)
class _Bar:
    """A contender, and its seconds for each of ours."""

    name: str
    label: str
    times: dict[str, float]


def svg(results: Results) -> str:
    """The whole picture."""
    parts: list[str] = []
    y = _MARGIN
    for day in DAYS:
        bars = _bars(results, day)
        if bars:
            parts += _chart(bars, _title_of(results, day), y)
            y += _HEADING + _ROW * len(bars) + _BELOW
    if results.memory:
        parts += _memory(results, y)
        y += _HEADING + _CURVES + _BELOW
    parts.append(_text(_MARGIN, y, _footnote(results), "quiet"))
    height = y + _MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img" aria-label="What a day costs">\n'
        f'<style>{_STYLE}</style>\n<rect class="page" width="100%" height="100%"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _title_of(results: Results, day: str) -> str:
    snapshots, size = results.snapshots[day], results.raw_bytes[day] / 1e6
    return f"{_TITLES[day]}: {snapshots:,} snapshots, {size:,.0f} MB"


def _footnote(results: Results) -> str:
    machine = results.machine
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, Python "
        f"{machine['python']}; all in one run, on the same files."
    )


def _bars(results: Results, day: str) -> list[_Bar]:
    """The most expensive contender first."""
    bars = []
    for one in results.outcomes:
        ours = results.find(day, OURS, one.reads, one.cores)
        if one.sample != day or ours is None or (one is ours and not _is_shown(one)):
            continue
        times = {figure: getattr(one, figure) / getattr(ours, figure) for figure in _COLUMNS}
        label = {OURS: "ours = 1", LIMIT: "limit: read, compress"}.get(one.name, one.name)
        bars.append(_Bar(one.name, label + (" (sampled)" if one.every > 1 else ""), times))
    return sorted(bars, key=lambda bar: -bar.times["cpu_seconds"])


def _is_shown(ours: Outcome) -> bool:
    """One bar of ours is enough: they are all 1."""
    return ours.reads == "folder" and ours.cores == CORES


def _chart(bars: list[_Bar], title: str, y: int) -> Iterator[str]:
    """CPU on the left, wall time on the right, on the same scale."""
    yield _text(_MARGIN, y + 12, title, "title")
    largest = max(times for bar in bars for times in bar.times.values())
    width = (_WIDTH - 2 * _MARGIN - _LABELS - _GAP) / 2
    scale = (width - _FIGURE) / largest
    top = y + _HEADING
    bottom = top + _ROW * len(bars)
    for column, (figure, name) in enumerate(_COLUMNS.items()):
        left = _MARGIN + _LABELS + column * (width + _GAP)
        yield _text(left, top - 10, f"{name}, for one of ours", "quiet")
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
            yield _text(left + length + 6, middle + 4.5, _times(bar.times[figure]), "")
            if column == 0:
                yield _text(left - 10, middle + 4.5, bar.label, "label")


def _memory(results: Results, y: int) -> Iterator[str]:
    """Memory over time; the longer one of the days stands for both."""
    days = [day for day in DAYS if day in results.memory]
    longer = max(days, key=lambda day: results.memory[day][-1][0], default="")
    shown = [("seven", "seven days", "week"), ("day", "one day", longer)]
    curves = {
        (kind, label): results.memory[sample]
        for kind, label, sample in shown
        if sample in results.memory
    }
    title = f"Memory of one worker with {CORES} converters, all processes, from S3"
    yield _text(_MARGIN, y + 12, title, "title")
    left, right = _MARGIN + 56, _WIDTH - _MARGIN - 12
    bottom = y + _HEADING + _CURVES
    longest = max(at for samples in curves.values() for at, _ in samples)
    highest = 1.1 * max(_MOST_BYTES, *(size for of in curves.values() for _, size in of))
    for size in range(0, int(highest), 100_000_000):
        level = bottom - size / highest * _CURVES
        yield _line(left, level, right, level, "goal" if size == _MOST_BYTES else "grid")
        yield _text(left - 8, level + 4, f"{size // 1_000_000} MB", "axis-y")
    for tick in _ticks(longest):
        yield _text(left + tick / longest * (right - left), bottom + 18, f"{tick:g} s", "axis-x")
    x: float = left
    for (kind, label), samples in curves.items():
        points = " ".join(
            f"{left + at / longest * (right - left):.1f},{bottom - size / highest * _CURVES:.1f}"
            for at, size in samples
        )
        yield f'<polyline class="curve {kind}" points="{points}"/>'
        peak = max(size for _, size in samples)
        yield _box(x, y + 27, 12, 12, f"key-{kind}")
        yield _text(x + 18, y + 37.5, f"{label}, {peak / 1e6:.0f} MB at the peak", "")
        x += 250


def _ticks(largest: float) -> list[float]:
    """Round numbers from nought, four to ten of them."""
    power = 10.0 ** math.floor(math.log10(largest / 4))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if largest / step <= 8)
    return [number * step for number in range(int(largest / step) + 1)]


def _times(value: float) -> str:
    return f"{value:.1f}" if value >= 1.95 else f"{value:.2f}"


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _box(x: float, y: float, width: float, height: float, kind: str) -> str:
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}" '
        'rx="2"/>'
    )
