"""`WeekTask` makes one week file, `AllWeeks` wants those of all weeks, `Verify` checks them.

`WeekTask` has one target, its week file; a week whose file is there is complete, so a run that was
stopped or repeated goes on where it stopped. `AllWeeks` finds the weeks to do with one listing of
the destination, `Verify` checks what came out.
"""

import contextlib
import datetime as dt
import functools
import time
from collections.abc import Callable

import luigi

from tasks import advice, figures, forks, processes, secrets
from tasks.bustimes import manifest as manifests
from tasks.bustimes.archive import Archive, convert_week, now
from tasks.bustimes.graph import under_way
from tasks.bustimes.graph.targets import target
from tasks.bustimes.graph.week_progress import WeekProgress
from tasks.bustimes.kernel import ADDRESSES
from tasks.bustimes.listing import weeks_with_snapshots
from tasks.bustimes.other_names import none_found
from tasks.bustimes.programs import converter
from tasks.bustimes.refusals import TooManyRefused
from tasks.bustimes.strays import sentence
from tasks.out_of_memory import check_limit
from tasks.problem import Problem
from tasks.progress import say
from tasks.weeks import Week, chosen, ranges


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

    def to_str_params(
        self, only_significant: bool = False, only_public: bool = False
    ) -> dict[str, str]:
        """As luigid's page shows them: what was given, and to which archive it goes.

        The name of the task (`only_significant`) is made of what was given alone.
        """
        told: dict[str, str] = super().to_str_params(only_significant, only_public)
        if only_significant:
            return told
        given = {name: value for name, value in told.items() if value not in ("", "False")}
        return self._told_of(given) | {"destination": Archive.open().destination.url}

    def _told_of(self, given: dict[str, str]) -> dict[str, str]:
        return given

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
        return target(Archive.open().destination, manifests.file_of(self.week))

    def complete(self) -> bool:
        return Archive.open().has(self.week, self.replaces)

    def run(self) -> None:
        run, archive = under_way.run, Archive.open()
        processes.end_with(run.scheduling_process)
        chosen([self.week.label], "", "", now(), self.week)  # not in the future
        run.refusals.check(archive.settings.max_errors)
        check_limit(ADDRESSES, "one that converts")
        started = time.monotonic()
        with WeekProgress(self) as unit:
            result = convert_week(
                archive,
                self.week,
                self.replaces,
                processes=archive.settings.processes or run.cores_for_each_worker(),
                on_listing=unit.start,
                say=run.progress.say,
            )
            archive.list_again()
            unit.finished(result, time.monotonic() - started)

    def on_failure(self, exception: BaseException) -> str:
        if isinstance(exception, Problem):
            is_too_many = isinstance(exception, TooManyRefused)
            under_way.run.standing.failed(f"{self.week}: {exception}", is_too_many)
            return str(exception)
        under_way.run.standing.failed(secrets.without(f"{self.week}: {exception!r}"))
        return secrets.without(str(super().on_failure(exception)))


def _on_killed(task: WeekTask, why: str) -> None:
    """Say it of the process that luigi made for a week: luigi itself does so to nobody."""
    status = why.rpartition(" ")[2]
    sentence = (
        f"{task.week}: the process that was at it ended in the middle (exit status {status}). If "
        "the machine ran out of memory, set processes or workers lower; run it again."
    )
    under_way.run.standing.failed(sentence)
    under_way.run.standing.left(task.week)
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

    def _told_of(self, given: dict[str, str]) -> dict[str, str]:
        """With the first and the last week that are meant, where they were not given."""
        with contextlib.suppress(Problem):  # whoever runs the task says it
            weeks = self.chosen_weeks()
            if weeks and "weeks" not in given:
                return given | {"from": str(weeks[0]), "to": str(weeks[-1])}
        return given

    def range_parameters(self) -> dict[str, object]:
        names = ("weeks", "from", "to", "refresh")
        return {name: getattr(self, name) for name in names}


class AllWeeks(_WeekRange, _OfArchive, luigi.WrapperTask):
    """Every finished ISO week that has raw snapshots, or those that the parameters choose."""

    def requires(self) -> list[WeekTask]:
        return self._tasks

    def run(self) -> None:
        under_way.run.count_traffic()  # luigi runs this in a fork, where it has listed

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
        if missing or self.refresh:
            check_limit(ADDRESSES, "one that converts")
        found = weeks_with_snapshots(archive.source, missing)
        gaps = [week for week in missing if week not in found]
        tasks = [
            WeekTask(week=week, replaces=_replaces(archive, week, self.refresh))
            for week in weeks
            if week in written or week in found
        ]
        if not tasks:
            raise Problem(
                f"There is nothing to convert: {none_found(archive.source, weeks)} Check SOURCE "
                "and WEEKS."
            )
        to_do = sum(not task.complete() for task in tasks)
        if to_do:
            forks.load(converter(archive.source.url))  # while the first weeks are listed
            archive.destination.check_writable()
        progress = under_way.run.count(to_do)
        if gaps:
            progress.say(f"No raw snapshots, so no file: {ranges(gaps)}.")
        if not self.weeks:
            strays = archive.strays_elsewhere({*written, *found}, weeks)
            if strays:
                progress.say(f"{sentence(strays)}.")
        done = figures.count(len(tasks) - to_do, "week")
        progress.say(f"{figures.count(to_do, 'week')} to convert, {done} done already.")
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

        check_limit()
        report = verify(
            Archive.open(),
            self.chosen_weeks(),
            self.deep,
            share=self.share,
            everything=not self.weeks,
        )
        for line in report.lines():
            print(line, flush=True)
        if not report.is_fine:
            raise Problem("The archive is not as it should be; what to run is said above.")

    def on_failure(self, exception: BaseException) -> str:
        if isinstance(exception, Problem):
            return str(exception)
        return secrets.without(str(super().on_failure(exception)))


def _replaces(archive: Archive, week: Week, refresh: bool) -> str:
    """The identity of what a week's conversion should replace, or nothing where it should not."""
    stored = archive.weeks_written().get(week)
    if stored is None:
        return ""
    if not refresh and stored.written >= week.end.timestamp():
        return ""  # written when the week was over: as good as it was then
    from tasks.bustimes.verify import check_week  # loads what converters need, too

    check = check_week(archive, week)
    if check.is_fine and not (refresh and check.readable_now):
        return ""
    if not check.can_be_converted:
        verify = advice.make("verify", WEEKS=week)
        say(f"{week} is left as it is: {check.why}. {verify} says what to do.")
        return ""
    return archive.identity(week)
