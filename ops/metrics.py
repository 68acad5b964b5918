"""luigid's metrics for Prometheus, at /metrics of its port: luigi's own, and those of the weeks.

luigi.cfg names `Metrics` as luigid's collector. What runs tell of their weeks (`WeekFigures`) adds
up to counters for each destination, which grow while a week is converted; each week that is done
leaves what its manifest says of it as gauges. All of it counts from luigid's start: a message that
comes twice is counted once, and what was counted of a conversion before luigid was started again
is not counted anew. Only the latest weeks are kept. Knows nothing of how weeks are converted.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import msgspec
from luigi.contrib.prometheus_metric import PrometheusMetricsCollector
from prometheus_client import Counter, Gauge

from tasks.bustimes.metrics import FinishedWeek, WeekFigures
from tasks.storage.traffic import Traffic

MOST_WEEKS = 1000
"""So many weeks have gauges of their own."""

_OF_CONVERSIONS = {
    "snapshots": "raw snapshots converted, refused ones included",
    "refused_snapshots": "raw snapshots set aside because they cannot be read",
    "records": "records written",
    "raw_bytes": "bytes of raw snapshots converted",
    "conversion_seconds": "wall time of conversions; those at the same time add up",
}
_OF_TRAFFIC = {
    "requests": "requests to S3, however often each was tried",
    "attempts": "tries of these requests",
    "bytes": "bytes of bodies that came",
    "seconds": "wall time of these requests, waits between tries included",
}
_OF_A_WEEK = {
    "snapshots": "raw snapshots of a week, refused ones included",
    "refused_snapshots": "raw snapshots of a week that cannot be read",
    "records": "records of a week",
    "raw_bytes": "bytes of a week's raw snapshots",
    "output_bytes": "bytes of a week's file",
    "vehicles": "different vehicles of a week",
    "conversion_seconds": "wall time of a week's conversion",
}


class Metrics(PrometheusMetricsCollector):
    """What `[scheduler] metrics_custom_import` of luigi.cfg names."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._conversions: OrderedDict[str, WeekFigures] = OrderedDict()
        self._weeks: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._counters = {name: self._counter(name, text) for name, text in _OF_CONVERSIONS.items()}
        self._done = self._counter("weeks", "weeks put at the destination")
        self._output = self._counter("output_bytes", "bytes of these weeks' files")
        self._traffic = {
            name: self._counter(f"s3_{name}", text, "operation")
            for name, text in _OF_TRAFFIC.items()
        }
        text = "tries after one that failed, by why it had"
        self._retries = self._counter("s3_retries", text, "operation", "reason")
        self._gauges = {
            name: Gauge(
                f"bustimes_week_{name}", text, ["destination", "week"], registry=self.registry
            )
            for name, text in _OF_A_WEEK.items()
        }

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(
            f"bustimes_{name}_total", text, ["destination", *labels], registry=self.registry
        )

    def handle_task_statistics(self, task: object, statistics: Mapping[str, Any]) -> None:
        """Called by luigid with what a task tells of itself."""
        del task
        try:
            told = msgspec.convert(statistics, WeekFigures)
        except msgspec.ValidationError:
            return  # not of a week, or from another version of this project
        # The first message is of the beginning, or of a conversion that an earlier luigid knew.
        before = self._conversions.pop(told.conversion, told)
        self._conversions[told.conversion] = told
        if len(self._conversions) > MOST_WEEKS:
            self._conversions.popitem(last=False)
        self._count(before, told)
        if told.finished is not None:
            if before is told or before.finished is None:
                self._done.labels(told.destination).inc()
                self._output.labels(told.destination).inc(told.finished.output_bytes)
            self._keep((told.destination, told.week), told.finished)

    def _count(self, before: WeekFigures, now: WeekFigures) -> None:
        _add(self._counters, (now.destination,), before, now)
        for operation, traffic in now.requests.items():
            labels = (now.destination, operation)
            earlier = before.requests.get(operation, Traffic())
            _add(self._traffic, labels, earlier, traffic)
            for reason, times in traffic.retries.items():
                self._retries.labels(*labels, reason).inc(times - earlier.retries.get(reason, 0))

    def _keep(self, week: tuple[str, str], finished: FinishedWeek) -> None:
        self._weeks.pop(week, None)
        self._weeks[week] = None
        for name, gauge in self._gauges.items():
            value = getattr(finished, name)
            if value is not None:  # manifests of old do not tell everything
                gauge.labels(*week).set(value)
        if len(self._weeks) > MOST_WEEKS:
            oldest, _ = self._weeks.popitem(last=False)
            for gauge in self._gauges.values():
                gauge.remove(*oldest)


def _add(
    counters: Mapping[str, Counter], labels: tuple[str, ...], before: object, now: object
) -> None:
    """Have each counter grow by what the value of its name has grown by."""
    for name, counter in counters.items():
        more = getattr(now, name) - getattr(before, name)
        counter.labels(*labels).inc(max(0, more))  # times may be a bit less when measured anew
