"""The Luigi tasks of the bustimes archive: a week, all weeks, and verify on top.

`WeekTask` has one target, its week file; a week whose file is there is complete, so a run that was
stopped or repeated goes on where it stopped. `AllWeeks` finds the weeks to do with one listing of
the destination, `Verify` checks what came out. Thin: what a week is and how it is converted, the
modules beside this one know.
"""

import datetime as dt
import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import luigi
from luigi.execution_summary import LuigiStatusCode
from luigi.metrics import MetricsCollectors
from luigi.rpc import RemoteScheduler, RPCError
from luigi.scheduler import Scheduler

from tasks import figures, forks, luigi_messages, processes
from tasks.bustimes import manifest as manifests
from tasks.bustimes.archive import Archive, WeekResult, convert_week, now
from tasks.bustimes.listing import Listing, weeks_with_snapshots
from tasks.bustimes.metrics import WeekFigures
from tasks.bustimes.programs import CONVERTER
from tasks.bustimes.refusals import RefusalCount, TooManyRefused
from tasks.bustimes.standing import StandingFile
from tasks.problem import Problem
from tasks.progress import RunProgress, UnitProgress, say
from tasks.storage import tally, traffic
from tasks.weeks import Week, chosen, ranges

if TYPE_CHECKING:
    from tasks.bustimes.hour import ConvertedHour

luigi_messages.install()

# luigi hands only some of what it can be told to its tasks: statistics, for metrics, as well.
luigi.worker.TaskProcess.forward_reporter_attributes["report_task_statistics"] = "report_statistics"

_WAIT_SECONDS = 1.0
_STATISTICS_EVERY_SECONDS = 5.0  # Prometheus asks less often
_UNDER_WAY_ELSEWHERE = "being run by another worker"  # luigi's words; it calls this a success


class WeekParameter(luigi.Parameter):
    """An ISO week, such as 2021-W45."""

    def parse(self, x: str) -> Week:
        return Week.parse(x)

    def serialize(self, x: Week) -> str:
        return str(x)


class _OfArchive(luigi.Task):
    """A task of one archive: luigid must not take another archive's week for this one's."""

    def __init__(self, *arguments: object, **parameters: object) -> None:
        super().__init__(*arguments, **parameters)
        self.task_id = f"{self.task_id}_{Archive.open().short_name}"

    @classmethod
    @functools.cache
    def get_params(cls) -> list[tuple[str, luigi.Parameter]]:
        """What luigi finds anew, four times a week, by looking at everything the class has."""
        found: list[tuple[str, luigi.Parameter]] = super().get_params()
        return found


class WeekTask(_OfArchive):
    """One ISO week of raw snapshots as one checked file, with its manifest beside it."""

    report_statistics: Callable[[dict[str, object]], None] | None = None  # set by luigi
    week: Week = WeekParameter(description="the ISO week to convert, such as 2021-W45")
    replaces: str = luigi.Parameter(
        default="",
        description="convert although there is a file, as long as it is the one of this identity "
        "(AllWeeks sets it for stale and damaged weeks)",
    )

    @property
    def priority(self) -> int:  # type: ignore[override]
        """Earlier weeks first; above nought, for luigi raises all below to that of AllWeeks."""
        return dt.date.max.toordinal() - self.week.monday.toordinal()

    def output(self) -> luigi.Target:
        archive = Archive.open()
        name = manifests.file_of(self.week)
        if archive.destination.url.startswith("s3://"):
            from luigi.contrib.s3 import S3Target  # boto3 takes a while to import

            return S3Target(f"{archive.destination.url}/{name}")
        return luigi.LocalTarget(os.path.join(archive.destination.url, name))

    def complete(self) -> bool:
        return Archive.open().has(self.week, self.replaces)

    def run(self) -> None:
        processes.end_with(_scheduling_process)
        archive, run = Archive.open(), _run()
        chosen([self.week.label], "", "", now(), self.week)  # not in the future
        _refusals.check(archive.settings.max_errors)
        started = time.monotonic()
        with _WeekProgress(self, run) as unit:
            result = convert_week(
                archive,
                self.week,
                self.replaces,
                processes=archive.settings.processes or _cores_for_each_worker(),
                on_listing=unit.start,
                say=run.say,
            )
            archive.list_again()
            unit.finished(result, time.monotonic() - started)

    def on_failure(self, exception: BaseException) -> str:
        if isinstance(exception, Problem):
            _standing.failed(f"{self.week}: {exception}", isinstance(exception, TooManyRefused))
            return str(exception)
        _standing.failed(f"{self.week}: {exception!r}")
        return str(super().on_failure(exception))


def _on_killed(task: WeekTask, why: str) -> None:
    """Say it of the process that luigi made for a week: luigi itself does so to nobody."""
    status = why.rpartition(" ")[2]
    sentence = (
        f"{task.week}: the process that was at it ended in the middle (exit status {status}). If "
        "the machine ran out of memory, set processes or workers lower; run it again."
    )
    _standing.failed(sentence)
    _standing.left(task.week)
    say(sentence)


WeekTask.event_handler(luigi.Event.PROCESS_FAILURE)(_on_killed)


class _WeekRange:
    """The parameters that choose weeks; without any, every finished week since 2016-W49."""

    weeks = luigi.Parameter(
        default="", description="only these ISO weeks, comma-separated: 2018-W25,2021-W45"
    )
    # "from" is a word of Python's, so the parameter is put in place by its name.
    vars()["from"] = luigi.Parameter(
        default="", description="the first ISO week of a range (default: 2016-W49)"
    )
    to = luigi.Parameter(
        default="", description="the last ISO week of a range (default: the last finished one)"
    )
    refresh = luigi.BoolParameter(
        default=False,
        description="look at weeks that are there as well, and convert again those that are stale "
        "or damaged",
    )

    def chosen_weeks(self) -> list[Week]:
        return Archive.open().chosen_weeks(self.weeks, getattr(self, "from"), self.to)

    def range_parameters(self) -> dict[str, object]:
        names = ("weeks", "from", "to", "refresh")
        return {name: getattr(self, name) for name in names}


class AllWeeks(_WeekRange, _OfArchive, luigi.WrapperTask):
    """Every finished ISO week that has raw snapshots, or those that the parameters choose."""

    def requires(self) -> list[WeekTask]:
        return self._tasks

    def run(self) -> None:
        _traffic.note(tally.of_process.take())  # luigi runs this in a fork, where it has listed

    def complete(self) -> bool:
        Archive.open().list_again()  # the one listing that scheduling costs
        return bool(super().complete())

    def deps(self) -> list[WeekTask]:
        if self._has_been_scheduled:
            Archive.open().list_again()  # weeks may have been finished on other machines
        self._has_been_scheduled = True
        return list(super().deps())

    _has_been_scheduled = False

    @functools.cached_property
    def _tasks(self) -> list[WeekTask]:
        """Found out once a run: a week is not dropped or added half way."""
        archive = Archive.open()
        weeks = self.chosen_weeks()
        archive.source.check_readable()
        written = archive.weeks_written()
        missing = [week for week in weeks if week not in written]
        found = weeks_with_snapshots(archive.source, missing)
        gaps = [week for week in missing if week not in found]
        tasks = [
            WeekTask(week=week, replaces=_replaces(archive, week, self.refresh))
            for week in weeks
            if week in written or week in found
        ]
        if not tasks:
            raise Problem(
                f"There is nothing to convert: {archive.source.url} has no raw snapshots in "
                f"{ranges(weeks)}. Check SOURCE and WEEKS."
            )
        to_do = sum(not task.complete() for task in tasks)
        if to_do:
            forks.load(CONVERTER)  # while the first weeks are listed
            archive.destination.check_writable()
        run = _run(to_do)
        if gaps:
            run.say(f"No raw snapshots, so no file: {ranges(gaps)}.")
        done = figures.count(len(tasks) - to_do, "week")
        run.say(f"{figures.count(to_do, 'week')} to convert, {done} done already.")
        return tasks


class Verify(_WeekRange, _OfArchive):
    """Check that the weeks of AllWeeks are complete and correct; fails where they are not."""

    deep = luigi.BoolParameter(default=False, description="read every byte of every week file")
    share = luigi.FloatParameter(
        default=0.0,
        description="compare so many of each week's raw snapshots as well, 0.01 to 1.0",
    )

    def requires(self) -> AllWeeks:
        return AllWeeks(**self.range_parameters())

    def complete(self) -> bool:
        return False  # what was true an hour ago may not be now

    def run(self) -> None:
        from tasks.bustimes.verify import verify  # loads what converters need, too

        report = verify(Archive.open(), self.chosen_weeks(), self.deep, share=self.share)
        for line in report.lines():
            print(line, flush=True)
        if not report.is_fine:
            raise Problem("The archive is not as it should be; what to run is said above.")

    def on_failure(self, exception: BaseException) -> str:
        if isinstance(exception, Problem):
            return str(exception)
        return str(super().on_failure(exception))


def run(
    task: luigi.Task, workers: int, scheduler: str | None, standing: Path | None = None
) -> bool:
    """Run a task and all it needs; True where everything was done.

    Weeks that another run has under way are waited for, and taken over if that run dies. Without a
    `scheduler`, as ``host:port`` of luigid, the scheduler lives in this process. `standing` is the
    file to keep `tasks.bustimes.standing` in. Asked with SIGUSR1, a run takes no more weeks, and
    ends when those under way are done.
    """
    where: dict[str, object] = {"local_scheduler": True}
    if scheduler is not None:
        host, _, port = scheduler.rpartition(":")
        where = {"scheduler_host": host, "scheduler_port": int(port)}
    global _workers, _standing, _traffic
    _workers = workers
    _traffic = tally.RunTally()
    _standing = StandingFile(standing)
    _standing.begin(_progress.total if _progress is not None else 0)
    luigi.configuration.get_config().set("core", "no_configure_logging", "true")
    luigi_messages.print_with(say)
    try:
        return _build(task, workers, where)
    except RPCError:
        say(
            f"The Luigi scheduler at {scheduler} does not answer any more. What is finished is "
            "kept; the next run goes on from here."
        )
        return False
    except ValueError as error:  # a setting of luigi's own
        sentence = luigi_messages.sentence_of(error)
        if sentence is None:
            raise
        raise Problem(sentence) from None
    finally:
        forks.unload()
        if _progress is not None:
            _progress.close()
        _traffic.note(tally.of_process.take())
        for line in traffic.lines(_traffic.total()):
            say(line)


def _build(task: luigi.Task, workers: int, where: dict[str, object]) -> bool:
    said = False
    while True:
        result = luigi.build(
            [task],
            workers=workers,
            detailed_summary=True,
            worker_scheduler_factory=_Workers(),
            **where,
        )
        if _Worker.was_asked_to_stop:
            if task.complete():
                return True
            say("Asked to stop: no more weeks are taken. The next run goes on from here.")
            return False
        if result.status in (LuigiStatusCode.SUCCESS, LuigiStatusCode.SUCCESS_WITH_RETRY):
            if _UNDER_WAY_ELSEWHERE not in result.summary_text:
                return True
        elif result.status != LuigiStatusCode.NOT_RUN:
            return False
        if not said:
            say("Another run has some of these weeks under way; waiting for it.")
            said = True
        time.sleep(_WAIT_SECONDS)


class _Worker(luigi.worker.Worker):
    """luigi's worker, which takes no more tasks after SIGUSR1; remembers that it was asked."""

    was_asked_to_stop = False

    def handle_interrupt(self, signum: int, frame: FrameType | None) -> None:
        _Worker.was_asked_to_stop = True
        super().handle_interrupt(signum, frame)


class _Workers(luigi.interface._WorkerSchedulerFactory):
    def create_local_scheduler(self) -> Scheduler:
        """One without metrics, which nobody could ask it for."""
        none = MetricsCollectors.none
        return Scheduler(prune_on_get_work=True, record_task_history=False, metrics_collector=none)

    def create_remote_scheduler(self, url: str) -> RemoteScheduler:
        """One that is given up after a few seconds without an answer, and not after minutes.

        Set here, since luigi warns of these very settings if they stand in its [core].
        """
        scheduler = RemoteScheduler(url)
        scheduler._rpc_retry_attempts, scheduler._rpc_retry_wait = 3, 3
        scheduler._rpc_log_retries = False
        return scheduler

    def create_worker(
        self, scheduler: object, worker_processes: int, assistant: bool = False
    ) -> _Worker:
        return _Worker(scheduler=scheduler, worker_processes=worker_processes, assistant=assistant)


class _WeekProgress:
    """How far one week is, on screen and on luigid's page, from the moment that it is listed."""

    def __init__(self, task: WeekTask, run: RunProgress) -> None:
        self._task = task
        self._run = run
        self._unit: UnitProgress | None = None
        self._is_reported = True
        self._figures = WeekFigures(Archive.open().destination.url, task.week.label)
        self._statistics_due = 0.0

    def __enter__(self) -> "_WeekProgress":
        _traffic.note(tally.of_process.take())  # of the run, not of this week
        self._report(0, "listing")
        return self

    def start(self, listing: Listing) -> "Callable[[ConvertedHour], None]":
        unit = self._run.unit(
            self._task.week.label, len(listing.snapshots), "snapshot", self._report
        )
        self._unit = unit
        max_errors = Archive.open().settings.max_errors

        def on_hour(hour: "ConvertedHour") -> None:
            self._figures.add(hour, unit.seconds)
            unit.advance(hour.snapshots, hour.lines, hour.raw_bytes)
            for key, reason in hour.refused:
                self._run.say(f"{self._task.week}: {key} is set aside: {reason}")
            _refusals.add(hour.refused, max_errors)

        return on_hour

    def finished(self, result: WeekResult, seconds: float) -> None:
        if not result.is_by_another:
            _standing.done(self._task.week, result.manifest)
            if result.manifest is not None:
                self._figures.finish(result.manifest)
        self._statistics_due = 0.0
        sentence = _sentence(self._task.week, result, seconds)
        self._show(1, sentence.replace(": ", "\n", 1))  # the page does not wrap lines
        (self._unit or self._run).finished(sentence)

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure is not None and issubclass(failure, Exception):
            self._tell_figures()
        _standing.left(self._task.week)
        _traffic.note(tally.of_process.take())
        if self._unit is not None:
            self._unit.close()

    def _report(self, share: float, sentence: str) -> None:
        _standing.under_way(self._task.week, f"{int(100 * share)}%, {sentence}")
        self._show(share, f"{sentence}\nwhole run: {self._run.standing()}")

    def _show(self, share: float, message: str) -> None:
        of_s3 = traffic.sentence(tally.of_process.counted())
        self._tell(self._task.set_status_message, "\n".join(filter(None, (message, of_s3))))
        self._tell(self._task.set_progress_percentage, int(100 * share))
        if time.monotonic() >= self._statistics_due:
            self._tell_figures()
            self._statistics_due = time.monotonic() + _STATISTICS_EVERY_SECONDS

    def _tell_figures(self) -> None:
        self._figures.requests = tally.of_process.counted()
        self._tell(self._task.report_statistics, self._figures.to_json())

    def _tell(self, luigid: "Callable[[Any], object] | None", what: object) -> None:
        try:
            if luigid is not None and self._is_reported:
                luigid(what)
        except RPCError:  # luigid is gone: no reason to lose the week as well
            self._is_reported = False


_refusals = RefusalCount()
_traffic = tally.RunTally()
_progress: RunProgress | None = None
_workers: int | None = None
_to_do = 0  # weeks, where AllWeeks has found out
_standing = StandingFile(None)
_scheduling_process = os.getpid()


def _run(to_do: int | None = None) -> RunProgress:
    """The progress of this run; AllWeeks begins it, and a WeekTask alone is a run of one."""
    global _progress, _to_do
    if to_do:
        _to_do = to_do
    if _progress is None or to_do is not None:
        _progress = RunProgress(1 if to_do is None else to_do, "week")
        _standing.begin(_progress.total)
    return _progress


def _cores_for_each_worker() -> int:
    workers = _workers or luigi.interface.core().workers
    return max(1, _cores() // min(workers, _to_do or workers))


def _cores() -> int:
    """Those that this process may use; not every system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _replaces(archive: Archive, week: Week, refresh: bool) -> str:
    """The identity of what a week's conversion should replace, or nothing where it should not."""
    stored = archive.weeks_written().get(week)
    if stored is None:
        return ""
    if not refresh and stored.written >= week.end.timestamp():
        return ""  # written when the week was over: as good as it was then
    from tasks.bustimes.verify import check_week  # loads what converters need, too

    check = check_week(archive, week)
    if check.is_fine:
        return ""
    if not check.can_be_converted:
        say(f"{week} is left as it is: {check.why}.")
        return ""
    return archive.identity(week)


def _sentence(week: Week, result: WeekResult, seconds: float) -> str:
    manifest = result.manifest
    if manifest is None:
        return f"{week} {result.how}"
    sizes = f"{figures.size(manifest.raw_bytes)} -> {figures.size(manifest.output.bytes)}"
    return (
        f"{week} {result.how} in {figures.duration(seconds)}: "
        f"{figures.count(manifest.snapshots, 'snapshot')}, "
        f"{figures.count(manifest.records, 'record')}, {sizes} "
        f"({figures.ratio(manifest.raw_bytes, manifest.output.bytes)})"
    )
