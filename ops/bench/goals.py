"""The figures to reach, and those to aim at: what each is in the results of one run.

Every ratio is of seconds or bytes of the same run on the same machine. Seconds alone are judged
once, where weeks that are done are scheduled. Figures that only explain another have no goal.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ops.bench.contenders import (
    DUCKDB,
    FAR_S3,
    FOLDER,
    LATE_S3,
    MBIT,
    OURS,
    S3,
    STRAIGHTFORWARD,
)
from ops.bench.levels import GZIP
from ops.bench.levels import OURS as OUR_CODEC
from ops.bench.results import Outcome, Results
from tasks import figures

DAYS = ("repr-day", "json-day")
_BYTES_A_SECOND = MBIT * 1e6 / 8


@dataclass(frozen=True)
class Goal:
    """One figure; `value` is None where it was not measured.

    `reach` and `aim` are None for a figure that only explains the one before it. `on_busy_machine`
    is for wall seconds that would have been others without other programs.
    """

    name: str
    value: float | None
    reach: float | None
    aim: float | None
    write: Callable[[float], str]
    more_is_better: bool
    on_busy_machine: bool = False

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        if self.reach is None or self.aim is None:
            return ""
        if self._is_at(self.aim):
            return "passed"
        if self._is_at(self.reach):
            return "reached"
        return "missed on a busy machine" if self.on_busy_machine else "missed"

    def _is_at(self, goal: float) -> bool:
        assert self.value is not None
        return self.value >= goal if self.more_is_better else self.value <= goal


def goals(results: Results) -> list[Goal]:
    """Every figure that has a goal, in the order of the table."""
    return [*_of_days(results), *_of_memory(results), *_of_week(results), *_of_weeks(results)]


def _of_days(results: Results) -> Iterator[Goal]:
    yield from _of_day(results, "json-day", "JSON day", 7, 10)
    yield from _of_day(results, "repr-day", "repr day", 14, 25)
    theirs, ours = ([*results.gets, None, None])[:2]
    size_of_one = figures.size(theirs.bytes / theirs.gets) if theirs else "170 kB"
    yield Goal(
        f"CPU per GET of a {size_of_one} object, against boto3",
        theirs.cpu_seconds_each / ours.cpu_seconds_each if theirs and ours else None,
        *(8, 10, _times_less, True),
    )
    yield _of_wall(
        results,
        f"wall, one week with {results.cores} cores, against one core",
        results.find("week", OURS, FOLDER, 1),
        results.find("week", OURS, FOLDER, results.cores),
        *(1.7, 1.9),
    )
    yield _of_wall(
        results,
        f"wall, JSON day, {results.cores} cores, against DuckDB on the same cores",
        results.find("json-day", DUCKDB),
        results.find("json-day", OURS, FOLDER, results.cores),
        *(4, 8),
    )
    yield Goal(
        "output size against gzip 6 in snapshot order",
        max((size for day in DAYS if (size := _size(results, day))), default=None),
        *(0.55, 0.45, _plain, False),
    )


def _of_day(results: Results, day: str, name: str, reach: float, aim: float) -> Iterator[Goal]:
    """Both from the same endpoint, ours with all cores; beside it the same in other ways."""
    script, ours = (
        results.find(day, STRAIGHTFORWARD, S3),
        results.find(day, OURS, S3, results.cores),
    )
    yield Goal(
        f"CPU, {name}, against the straightforward script, both from S3",
        _ratio(script, ours, "cpu_seconds"),
        *(reach, aim, _times_less, True),
    )
    yield Goal(
        "- the same, ours on one core, as the script converts on one",
        _ratio(script, results.find(day, OURS, S3, 1), "cpu_seconds"),
        *(None, None, _times_less, True),
    )
    yield Goal(
        "- the same without starting, which a run of years does once",
        _ratio_without_start(results, script, ours),
        *(None, None, _times_less, True),
    )
    yield Goal(
        "- the same, both from a folder",
        _ratio(
            results.find(day, STRAIGHTFORWARD, FOLDER),
            results.find(day, OURS, FOLDER, results.cores),
            "cpu_seconds",
        ),
        *(None, None, _times_less, True),
    )


def _of_wall(
    results: Results,
    name: str,
    other: Outcome | None,
    ours: Outcome | None,
    reach: float,
    aim: float,
) -> Goal:
    is_busy = results.is_busy(other, ours)
    value = _ratio(other, ours, "wall_seconds")
    return Goal(name, value, reach, aim, _times_faster, True, is_busy)


def _of_memory(results: Results) -> Iterator[Goal]:
    peaks = {name: max(size for _, size in of) for name, of in results.memory.items()}
    days = [peaks[day] for day in DAYS if day in peaks]
    week = peaks.get("week")
    yield Goal(
        f"peak memory of one worker with {results.cores} converters, a day or seven, from S3",
        max(week, *days) if week and days else None,
        *(300e6, 150e6, figures.size, False),
    )
    yield Goal(
        "- seven days against one: flat within 10 %",
        week / max(days) if week and days else None,
        *(1.1, 1.1, _plain, False),
    )


def _of_week(results: Results) -> Iterator[Goal]:
    shares = [
        one.share for one in results.overhead if one.reads == S3 and one.cores == results.cores
    ]
    yield Goal(
        "share of CPU that is not reading, parsing or compressing, on a full week from S3",
        max(shares, default=None),
        *(0.05, 0.02, _percent, False),
    )
    yield Goal(
        "- the same without starting, which a run of years does once",
        _share_without_start(results),
        *(None, None, _percent, False),
    )
    near = results.find("week", OURS, S3)
    late, far = results.find("week", OURS, LATE_S3), results.find("week", OURS, FAR_S3)
    on_the_wire = results.raw_bytes.get("week", 0) / _BYTES_A_SECOND
    yield Goal(
        f"throughput of a week from {FAR_S3}, of what CPU or network allow",
        max(near.wall_seconds, on_the_wire) / far.wall_seconds if near and far else None,
        *(0.9, 0.9, _percent, True, results.is_busy(near, far)),
    )
    yield Goal(
        f"- from {LATE_S3}, any bandwidth, of what CPU allows",
        _ratio(near, late, "wall_seconds"),
        *(0.9, 0.9, _percent, True, results.is_busy(near, late)),
    )


def _of_weeks(results: Results) -> Iterator[Goal]:
    of = results.scheduling
    name = f"scheduling {of.weeks if of else 481} weeks, all done already"
    seconds, requests = (of.wall_seconds, of.requests) if of else (None, None)
    yield Goal(name, seconds, 3, 1, figures.duration, False)
    yield Goal("- in S3 requests", requests, 5, 5, _count, False)


def _size(results: Results, day: str) -> float | None:
    """Our bytes for those of the script's gzip: of the same lines, all of them if it wrote all."""
    script, ours = results.find(day, STRAIGHTFORWARD), results.find(day, OURS)
    if script and ours and script.every == 1:
        return ours.output_bytes / script.output_bytes
    theirs = results.level(day, GZIP, "snapshot", 6)
    same = results.level(day, OUR_CODEC, results.order, results.compression_level)
    return same.bytes / theirs.bytes if same and theirs else None


def _ratio(one: Outcome | None, other: Outcome | None, figure: str) -> float | None:
    if one is None or other is None:
        return None
    return float(getattr(one, figure) / getattr(other, figure))


def _ratio_without_start(
    results: Results, one: Outcome | None, other: Outcome | None
) -> float | None:
    """CPU beyond that of converting one snapshot, of both."""
    seconds = []
    for outcome in (one, other):
        if outcome is None:
            return None
        start = results.find("one-snapshot", outcome.name, outcome.reads, outcome.cores)
        if start is None:
            return None
        seconds.append(outcome.cpu_seconds - start.cpu_seconds)
    return seconds[0] / seconds[1] if seconds[1] > 0 else None


def _share_without_start(results: Results) -> float | None:
    """Of a week from S3, without what all processes take to start."""
    one_snapshot = results.find("one-snapshot", OURS, S3)
    if one_snapshot is None:
        return None
    start = one_snapshot.own_cpu_seconds
    shares = [
        (one.own - start) / (one.own - start + one.converters - one.converter_starts)
        for one in results.overhead
        if one.reads == S3 and one.cores == results.cores
    ]
    return max(shares, default=None)


def _times_less(value: float) -> str:
    return f"{value:.1f} times less"


def _times_faster(value: float) -> str:
    return f"{value:.2f} times faster" if value < 3 else f"{value:.1f} times faster"


def _plain(value: float) -> str:
    return f"{value:.2f}"


def _percent(value: float) -> str:
    return f"{value:.1%}"


def _count(value: float) -> str:
    return f"{value:.0f}"
