"""How far one week is: on screen, on luigid's page, in the file of the run and for Prometheus."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from luigi.rpc import RPCError

from tasks import figures
from tasks.bustimes.archive import Archive, WeekResult
from tasks.bustimes.graph import under_way
from tasks.bustimes.listing import Listing
from tasks.bustimes.metrics import WeekFigures
from tasks.bustimes.strays import ours, sentence
from tasks.progress import UnitProgress
from tasks.storage import tally, traffic
from tasks.weeks import Week

if TYPE_CHECKING:
    from tasks.bustimes.graph.tasks import WeekTask
    from tasks.bustimes.hour import ConvertedHour

_STATISTICS_EVERY_SECONDS = 5.0  # Prometheus asks less often


class WeekProgress:
    """How far one week is, on screen and on luigid's page, from the moment that it is listed."""

    def __init__(self, task: "WeekTask") -> None:
        self._task = task
        self._run = under_way.run.progress
        self._unit: UnitProgress | None = None
        self._is_reported = True
        self._figures = WeekFigures(Archive.open().destination.url, task.week.label)
        self._statistics_due = 0.0

    def __enter__(self) -> "WeekProgress":
        under_way.run.count_traffic()  # of the run, not of this week
        self._report(0, "listing")
        return self

    def start(self, listing: Listing) -> "Callable[[ConvertedHour], None]":
        unit = self._run.unit(
            self._task.week.label, len(listing.snapshots), "snapshot", self._report
        )
        self._unit = unit
        settings = Archive.open().settings
        max_errors = settings.max_errors
        if not_taken := sentence(ours(listing.strays, settings.not_ours)):
            self._run.say(f"{self._task.week}: {not_taken}.")

        def on_hour(hour: "ConvertedHour") -> None:
            self._figures.add(hour, unit.seconds)
            unit.advance(hour.snapshots, hour.lines, hour.raw_bytes)
            for key, reason in hour.refused:
                self._run.say(f"{self._task.week}: {key} is set aside: {reason}")
            under_way.run.refusals.add(hour.refused, max_errors)

        return on_hour

    def finished(self, result: WeekResult, seconds: float) -> None:
        if not result.is_by_another:
            under_way.run.standing.done(self._task.week, result.manifest)
            if result.manifest is not None:
                self._figures.finish(result.manifest)
        self._statistics_due = 0.0
        sentence = _sentence(self._task.week, result, seconds)
        self._show(1, sentence.replace(": ", "\n", 1))  # the page does not wrap lines
        (self._unit or self._run).finished(sentence)

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure is not None and issubclass(failure, Exception):
            self._tell_figures()
        under_way.run.standing.left(self._task.week)
        under_way.run.count_traffic()
        if self._unit is not None:
            self._unit.close()

    def _report(self, share: float, sentence: str) -> None:
        text = f"{int(100 * share)}%, {sentence}"
        under_way.run.standing.under_way(self._task.week, text)
        self._show(share, f"{sentence}\nwhole run: {self._run.standing()}")

    def _show(self, share: float, message: str) -> None:
        of_s3 = traffic.sentence(tally.of_process.counted())
        text = "\n".join(filter(None, (message, of_s3)))
        self._tell(self._task.set_status_message, for_page(text))
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


def for_page(message: str) -> str:
    """A message as luigid's page must get it, which takes it for HTML; `html.unescape` undoes it.

    A `>` alone does no harm, and stays readable where the page shows the message as text.
    """
    return message.replace("&", "&amp;").replace("<", "&lt;")


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
