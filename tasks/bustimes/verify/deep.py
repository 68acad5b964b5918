"""Every byte and line of many weeks, and some or all of their raw snapshots, by all cores.

Two week files are read at a time, so that the beginning of one is there when another ends. Their
hours go, a few at a time, to processes that read and compare them (`checker`): memory does not grow
with weeks. Writes nothing.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace

from tasks import figures
from tasks.bustimes.archive import Archive
from tasks.bustimes.listing import list_week
from tasks.bustimes.manifest import HourOfFile
from tasks.bustimes.programs import CHECKER
from tasks.bustimes.verify import states, surface
from tasks.bustimes.verify.checker import HourChecked, HourJob, Setup, check_hour
from tasks.bustimes.verify.share import draw
from tasks.bustimes.verify.states import DAMAGED, GOOD, PARTIAL, STALE, WeekCheck
from tasks.bustimes.verify.surface import damaged_inside
from tasks.bustimes.verify.week_reader import WeekReader
from tasks.processes import cores
from tasks.progress import RunProgress, UnitProgress
from tasks.storage import StoredObject
from tasks.storage.archived import counted
from tasks.storage.listed import Unreadable
from tasks.workers import in_order

_WEEKS_AT_ONCE = 2
_FEW_BYTES = 32_000_000
"""So much this process reads in the time that it takes to start others."""

Progress = Callable[[int, str], RunProgress]
"""Makes the progress of a run of so many units: `RunProgress` itself."""


@dataclass(frozen=True)
class WeekRead:
    """What reading a week came to: its check now, and how much was compared with the raw side."""

    check: WeekCheck
    snapshots: int
    records: int
    archived: int = 0
    """Raw snapshots of the week that S3 has archived, so that none of them was compared."""


def read_weeks(
    archive: Archive,
    checks: list[WeekCheck],
    share: float,
    seed: int,
    progress: Progress | None = None,
) -> Iterator[WeekRead]:
    """Read the files of weeks that have a manifest; comes week by week, as they are done.

    A `share` (0 to 1) of the raw snapshots is compared, drawn by `seed`, where they are those that
    were converted. Raises `Problem` for what cannot be read for reasons of its own.
    """
    while checks:
        run = progress(len(checks), "week") if progress is not None else None
        reading = _Reading(archive, share, seed, run)
        try:
            yield from reading.all(checks)
        finally:
            if run is not None:
                run.close()
        checks = reading.again


@dataclass
class _Open:
    """A week that is being read; `pending` hours are on their way."""

    check: WeekCheck
    reader: WeekReader
    unit: UnitProgress | None
    jobs: Iterator[HourJob]
    pending: int = 0
    is_at_its_end: bool = False


class _Reading:
    """One call of `read_weeks`."""

    def __init__(self, archive: Archive, share: float, seed: int, run: RunProgress | None) -> None:
        self.again: list[WeekCheck] = []
        """Weeks whose files were written anew while they were read."""
        self._archive, self._share, self._seed, self._run = archive, share, seed, run
        self._open: list[_Open] = []
        self._given: deque[tuple[_Open, HourOfFile]] = deque()
        self._done: list[WeekRead] = []

    def all(self, checks: list[WeekCheck]) -> Iterator[WeekRead]:
        with closing(self), ThreadPoolExecutor(1) as thread:
            jobs = self._jobs(self._prepared(thread, checks))
            answers = self._here(jobs) if self._are_few(checks) else self._elsewhere(jobs)
            with closing(answers):
                for answer in answers:
                    week, hour = self._given.popleft()
                    week.reader.take(hour, answer)
                    week.pending -= 1
                    if week.unit is not None:
                        size = answer.read.uncompressed_bytes + answer.raw_bytes
                        week.unit.advance(1, answer.read.lines, size)
                    yield from self._finished()
            yield from self._finished()

    def close(self) -> None:
        """Take away what is shown of weeks that were not read to their end."""
        for week in self._open:
            if week.unit is not None:
                week.unit.close()

    def _are_few(self, checks: list[WeekCheck]) -> bool:
        manifests = [check.manifest for check in checks if check.manifest is not None]
        size = sum(one.output.uncompressed_bytes + self._share * one.raw_bytes for one in manifests)
        return size < _FEW_BYTES

    def _here(self, jobs: Iterator[HourJob]) -> Generator[HourChecked]:
        for job in jobs:
            yield check_hour(job, self._bodies_of(job))

    def _bodies_of(self, job: HourJob) -> list[bytes] | Unreadable:
        try:
            return [self._archive.source.read(one.stored.key) for one in job.compared]
        except Unreadable as problem:
            return problem

    def _elsewhere(self, jobs: Iterator[HourJob]) -> Generator[HourChecked]:
        settings = self._archive.settings
        source = self._archive.source.bulk_source() if self._share else None
        processes = settings.processes or cores()
        setup = Setup(source, settings.reads_at_once, settings.patience)
        yield from in_order(CHECKER, setup, jobs, processes, self._with_fresh_credentials)

    def _with_fresh_credentials(self, job: HourJob) -> HourJob | None:
        fresh = self._archive.source.credentials(job.credentials)
        return None if fresh == job.credentials else replace(job, credentials=fresh)

    def _prepared(
        self, thread: ThreadPoolExecutor, checks: list[WeekCheck]
    ) -> Iterator[tuple[WeekCheck, WeekReader]]:
        """The weeks, each listed while those before it are read."""
        futures: deque[Future[tuple[WeekCheck, WeekReader | None]]] = deque()
        for check in checks:
            futures.append(thread.submit(self._prepare, check))
            if len(futures) > _WEEKS_AT_ONCE:
                yield from self._ready(futures.popleft())
        while futures:
            yield from self._ready(futures.popleft())

    def _ready(
        self, future: "Future[tuple[WeekCheck, WeekReader | None]]"
    ) -> Iterator[tuple[WeekCheck, WeekReader]]:
        check, reader = future.result()
        if reader is None:
            self._done.append(WeekRead(check, 0, 0))
        else:
            yield check, reader

    def _prepare(self, check: WeekCheck) -> tuple[WeekCheck, WeekReader | None]:
        archive, manifest, listing = self._archive, check.manifest, None
        if check.state in (GOOD, PARTIAL) and manifest is not None:
            listing = list_week(archive.source, check.week)
            if listing.fingerprint != manifest.listing_sha256:  # something came this very moment
                check = surface.check_week(archive, check.week, will_be_read=True)
                manifest, listing = check.manifest, None
        if manifest is None:
            return check, None
        compared = draw(listing, self._share, self._seed) if listing and self._share else set()
        snapshots = listing.snapshots if listing else []
        archived = [one.stored for one in snapshots if one.stored.archived]
        there = compared - {one.key for one in archived}
        reader = WeekReader(archive, manifest, listing, there)
        if there != compared:
            reader.unread.append(_are_archived(archived))
        return check, reader

    def _jobs(self, prepared: Iterator[tuple[WeekCheck, WeekReader]]) -> Iterator[HourJob]:
        """The hours of the open weeks in turn; a week is opened when another is at its end."""
        reading: deque[_Open] = deque()
        while True:
            while len(reading) < _WEEKS_AT_ONCE and (found := next(prepared, None)) is not None:
                reading.append(self._begin(*found))
            if not reading:
                return
            week = reading.popleft()
            job = next(week.jobs, None)
            if job is None:
                week.is_at_its_end = True
                continue
            reading.append(week)
            week.pending += 1
            self._given.append((week, job.hour))
            yield job

    def _begin(self, check: WeekCheck, reader: WeekReader) -> _Open:
        unit = None
        if self._run is not None:
            hours = sum(1 for hour in reader.manifest.hours if hour.lines)
            unit = self._run.unit(str(check.week), hours, "hour", lambda _share, _text: None)
        week = _Open(check, reader, unit, reader.jobs(self._archive.source.credentials))
        self._open.append(week)
        return week

    def _finished(self) -> Iterator[WeekRead]:
        for week in self._open[:]:
            if week.is_at_its_end and not week.pending:
                self._open.remove(week)
                self._finish(week)
        while self._done:
            yield self._done.pop(0)

    def _finish(self, week: _Open) -> None:
        faults, check = week.reader.faults(), week.check
        if faults:
            self._archive.list_again()
            now = surface.check_week(self._archive, check.week)
            if now.manifest is not None and now.manifest != week.reader.manifest:
                self.again.append(now)
                _say_of(week, "was written anew meanwhile, and is read again")
                return
            check = _damaged(self._archive, check, now, faults)
        elif week.reader.unread:
            check = _unread(self._archive, check, week.reader.unread[0])
        self._done.append(WeekRead(check, week.reader.snapshots, week.reader.records))
        _say_of(week, "is read" if check.is_fine else f"is {check.state}: {check.why}")


def _say_of(week: _Open, outcome: str) -> None:
    if week.unit is not None:
        seconds = figures.duration(week.unit.seconds)
        week.unit.finished(f"{week.check.week} {outcome} ({seconds})")


def _unread(archive: Archive, before: WeekCheck, why: str) -> WeekCheck:
    """What to say of a week of which something could not be read, perhaps because it is gone."""
    archive.list_again()
    now = surface.check_week(archive, before.week)
    return states.unread(now, why) if now.state in (GOOD, PARTIAL) else now


def _are_archived(objects: list[StoredObject]) -> str:
    classes = " and ".join(one.storage_class for one in counted(objects))
    count = figures.count(len(objects), "raw snapshot")
    return f"{count} of it cannot be compared until S3 has restored them ({classes})"


def _damaged(
    archive: Archive, before: WeekCheck, now: WeekCheck, faults: tuple[str, ...]
) -> WeekCheck:
    """What to say of a week in which faults were found; it is by its surface what it is `now`."""
    if now.state == DAMAGED or (now.state == STALE and before.is_fine):  # since a moment ago
        more = [fault for fault in faults if fault != now.why]
        return replace(now, details=(*now.details, *more))
    return damaged_inside(archive, now, faults)
