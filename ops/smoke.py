"""`make smoke`: one week end to end, with the figures that size a full run.

Fill (the embedded server only), convert, validate every line, run again to show that nothing is
left to do, verify. Each step prints its seconds; the first that fails ends the smoke test.
"""

import resource
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from tqdm import tqdm

from ops.memory import PeakMemory
from ops.place import Place
from tasks import advice, figures
from tasks.bustimes import manifest as manifests
from tasks.bustimes import synthetic
from tasks.bustimes.archive import Archive
from tasks.bustimes.graph import AllWeeks, WeekTask, run
from tasks.bustimes.listing import list_week
from tasks.bustimes.manifest import Manifest
from tasks.bustimes.plan import keep_rate
from tasks.bustimes.verify import read_through, verify
from tasks.compression import gunzip
from tasks.problem import Problem
from tasks.progress import in_terminal, say, tell
from tasks.storage import tally
from tasks.weeks import Week

WEEK = Week(2021, 45)
"""The week in which the format changed, so that both are tried."""

INTERVAL_SECONDS = 600
VEHICLES = 275

FULL_BYTES = 909e9
"""What the whole archive of nine years holds."""

_PUTS_AT_ONCE = 16


@dataclass
class _Step:
    name: str
    outcome: str = ""


def smoke(place: Place, week: Week, scheduler: str | None) -> None:
    """Run the smoke test; raises `Problem` where a step does not do what it should."""
    archive = Archive.open()
    tell(f"One week, {week}, end to end: {archive.source.url} -> {archive.destination.url}")
    tell("")
    if place.s3 is not None:
        with _step("fill") as step:
            step.outcome = fill(archive, week)
            tally.of_process.take()  # is none of what the run asks for
    with _step("convert") as step, PeakMemory() as memory:
        cpu = _cpu_of_children()
        _run(WeekTask(week=week, replaces=_as_it_is(archive, week)), scheduler)
        cpu = _cpu_of_children() - cpu
        manifest = _manifest(archive, week)
        step.outcome = (
            f"{figures.count(manifest.snapshots, 'snapshot')}, "
            f"{figures.count(manifest.records, 'record')}"
        )
    with _step("validate") as step:
        fault = read_through(archive, week, manifest)
        if fault:
            raise Problem(f"{week} is not as it should be: {fault}.")
        step.outcome = f"{manifest.output.lines:,} lines, each a JSON object with its snapshot_time"
    with _step("resume") as step:
        again = AllWeeks(weeks=str(week))
        if not again.complete():
            raise Problem(f"{week} was converted, but a second run would convert it again.")
        _run(again, scheduler)
        step.outcome = "nothing left to do"
    with _step("verify") as step:
        report = verify(archive, [week], deep=False)
        if not report.is_fine:
            raise Problem("\n".join(report.lines()))
        step.outcome = (
            f"complete and correct; {figures.count(report.spot_records, 'record')} of "
            f"{figures.count(report.spot_checked, 'raw snapshot')} compared"
        )
    keep_rate(place.state, manifest.raw_bytes / max(cpu, 0.01), say)
    for line in _figures(archive, week, manifest, memory, cpu):
        tell(line)
    tell("")
    if scheduler is not None:
        tell(f"Every week and its progress: {place.page}")
    for line in advice.lines(_next_commands(place)):
        tell(line)


def _next_commands(place: Place) -> list[tuple[str, str]]:
    """What to run next: on one's own snapshots, where these were made up."""
    if place.s3 is None:
        return [(advice.make("plan"), "says what all weeks take")]
    own = advice.make("plan", SOURCE="folder-of-snapshots", DESTINATION="folder-for-weeks")
    return [(own, "says what your own take; s3://… is a place, too")]


def fill(archive: Archive, week: Week) -> str:
    """Put synthetic snapshots of a week into the source, unless they are there; says what is."""
    listing = list_week(archive.source, week)
    wanted = 7 * 24 * 3600 // INTERVAL_SECONDS
    if len(listing.snapshots) < wanted:
        bodies = synthetic.snapshots(
            week.start,
            week.end,
            interval_seconds=INTERVAL_SECONDS,
            vehicles=VEHICLES,
            unreadable=1,
        )
        bar = tqdm(
            total=wanted, desc="fill", unit=" snapshots", leave=False, disable=not in_terminal()
        )
        with bar, ThreadPoolExecutor(_PUTS_AT_ONCE) as threads:
            for _ in threads.map(lambda one: archive.source.write(*one), bodies):
                bar.update()
        listing = list_week(archive.source, week)
    return (
        f"{figures.count(len(listing.snapshots), 'synthetic snapshot')}, "
        f"{figures.size(listing.raw_bytes)}, one of them unreadable"
    )


@contextmanager
def _step(name: str) -> Iterator[_Step]:
    step = _Step(name)
    started = time.monotonic()
    yield step
    tell(f"{name:9} {time.monotonic() - started:6.1f} s   {step.outcome}")


def _run(task: WeekTask | AllWeeks, scheduler: str | None) -> None:
    if not run(task, workers=1, scheduler=scheduler):
        raise Problem("The week was not converted; the messages above say why.")


def _as_it_is(archive: Archive, week: Week) -> str:
    """Have the week converted even if it is there: what skips the work tests nothing."""
    archive.list_again()
    if week not in archive.weeks_written():
        return ""
    return archive.identity(week)


def _manifest(archive: Archive, week: Week) -> Manifest:
    manifest = archive.manifest(week)
    if manifest is None:
        raise Problem(f"{week} has no snapshots in {archive.source.url}. Choose another week.")
    return manifest


def _figures(
    archive: Archive, week: Week, manifest: Manifest, memory: PeakMemory, cpu_seconds: float
) -> Iterator[str]:
    raw, output = manifest.raw_bytes, manifest.output.bytes
    rate = raw / max(cpu_seconds, 0.01)
    hours = FULL_BYTES / rate / 3600
    peak = "all processes together" if memory.is_sum else "the largest process"
    yield ""
    yield f"raw       {figures.size(raw)} in {figures.count(manifest.snapshots, 'snapshot')}"
    yield f"output    {figures.size(output)}, {figures.ratio(raw, output)}"
    yield f"refused   {len(manifest.refused)}"
    for one in manifest.refused[:3]:
        yield f"          {one.key}: {one.reason}"
    yield f"memory    {figures.size(memory.peak_bytes)} at the peak, {peak}"
    yield (
        f"speed     {figures.size(rate)} of raw snapshots a second of CPU: the whole archive "
        f"({figures.size(FULL_BYTES)}) takes {hours:.1f} core hours"
    )
    yield f"first     {_first_line(archive, week)}"


def _first_line(archive: Archive, week: Week) -> str:
    chunks = archive.destination.stream(manifests.file_of(week))
    start = b"".join(data for data, _ in zip(gunzip(chunks), range(1), strict=False))
    return start.partition(b"\n")[0].decode()


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
