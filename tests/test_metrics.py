"""luigid's metrics: what Prometheus reads of a run is what the run did, and what manifests say."""

import dataclasses
import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import ops.metrics
from ops import luigid
from ops.metrics import Metrics
from ops.service import Service
from tasks.bustimes.metrics import FinishedWeek, WeekFigures
from tasks.storage.traffic import Traffic
from tests.conftest import PROJECT, Run, free_port
from tests.explained import assert_done, upload
from tests.faults import Fault, FaultyS3

WEEKS = ("2021-W44", "2021-W45")
README = (PROJECT / "README.md").read_text()

Samples = dict[tuple[str, ...], float]
"""Values by the metric's name and the values of its labels."""


def samples_of(text: str) -> Samples:
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def scraped(service: Service) -> Samples:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"http://{service.address}/metrics", timeout=30) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        return samples_of(answer.read().decode())


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Service]:
    """luigid with the project's luigi.cfg."""
    service = luigid.make_service(tmp_path / "luigid", free_port(), PROJECT / "luigi.cfg")
    service.start()
    yield service
    service.stop()


def manifests_in(folder: Path) -> dict[str, Any]:
    paths = sorted((folder / "_manifests").iterdir())
    return {path.stem: json.loads(path.read_text()) for path in paths}


def of_manifest(manifest: dict[str, Any]) -> dict[str, float]:
    """What there should be of a week, by what it is called."""
    return {
        "snapshots": manifest["snapshots"],
        "refused_snapshots": len(manifest["refused"]),
        "records": manifest["records"],
        "raw_bytes": manifest["raw_bytes"],
        "output_bytes": manifest["output"]["bytes"],
        "vehicles": manifest["vehicles"],
        "conversion_seconds": manifest["conversion"]["seconds"],
    }


def test_what_is_scraped_after_a_run_of_two_weeks_is_what_their_manifests_say(
    ops: Run,
    scheduler: Service,
    bucket: str,
    faulty_s3: FaultyS3,
    tmp_path: Path,
    make_snapshots: Callable[..., list[Path]],
) -> None:
    for week in WEEKS:
        make_snapshots(tmp_path / "in", week, unreadable=week == WEEKS[0])
    upload(tmp_path / "in", bucket)
    faulty_s3.control.fail(Fault.SLOW_DOWN, 2, operation="GetObject", key="raw/*2021-11-01*")
    out = f"{tmp_path}/out"
    environment = {
        "AWS_ENDPOINT_URL_S3": faulty_s3.url,
        "BUSTIMES_SOURCE": bucket,
        "BUSTIMES_DESTINATION": out,
    }
    command = ("full", "--weeks", ",".join(WEEKS), "--scheduler", scheduler.address)
    assert_done(ops(*command, **environment))
    found, kept = scraped(scheduler), manifests_in(tmp_path / "out")
    weeks = {week: of_manifest(manifest) for week, manifest in kept.items()}
    assert set(weeks) == set(WEEKS)
    for week, figures in weeks.items():
        for name, value in figures.items():
            assert found[f"bustimes_week_{name}", out, week] == value, (week, name)
    for name in ("snapshots", "refused_snapshots", "records", "raw_bytes", "output_bytes"):
        total = sum(figures[name] for figures in weeks.values())
        assert found[f"bustimes_{name}_total", out] == total, name
    assert found["bustimes_conversion_seconds_total", out] > 0
    assert found["bustimes_weeks_total", out] == 2
    gets = [manifest["conversion"]["requests"]["GET"] for manifest in kept.values()]
    for name in ("requests", "attempts", "bytes", "seconds"):  # the destination is none of S3's
        total = sum(one[name] for one in gets)
        assert found[f"bustimes_s3_{name}_total", out, "GET"] == pytest.approx(total), name
    assert found["bustimes_s3_retries_total", out, "GET", "503 SlowDown"] == 2
    assert found["luigi_task_done_total", "WeekTask"] == 2  # luigi's own are there, too

    # A run that finds everything done changes nothing.
    assert_done(ops(*command, **environment))
    after = scraped(scheduler)
    ours = {name for name in {*found, *after} if name[0].startswith("bustimes_")}
    assert {name for name in ours if found.get(name) != after.get(name)} == set()
    # The README has them all, and no others.
    documented = set(re.findall(r"`(bustimes_[a-z0-9_]+)[`{]", README))
    assert {name for name, *_ in ours} == documented


FINISHED = FinishedWeek(10, 1, 99, 1000, 100, 5, 2.5)
BEGUN = WeekFigures("s3://b", "2021-W45", "one")
HALF = dataclasses.replace(BEGUN, snapshots=4, records=40, raw_bytes=400, conversion_seconds=1.0)
DONE = dataclasses.replace(
    HALF,
    snapshots=10,
    requests={"GET": Traffic(10, 12, 1000, 3.0, {"429": 2})},
    finished=FINISHED,
)


class Luigid:
    """The collector as luigid uses it."""

    def __init__(self) -> None:
        self._metrics = Metrics()

    def told(self, *messages: WeekFigures) -> Samples:
        """What it shows after these messages, which went through JSON."""
        for message in messages:
            self._metrics.handle_task_statistics(None, json.loads(json.dumps(message.to_json())))
        return samples_of(self._metrics.generate_latest().decode())  # type: ignore[no-untyped-call]


def test_counters_grow_while_a_week_is_converted_and_lost_messages_falsify_nothing() -> None:
    server = Luigid()
    found = server.told(BEGUN, HALF)
    assert found["bustimes_snapshots_total", "s3://b"] == 4
    assert ("bustimes_weeks_total", "s3://b") not in found
    assert server.told(DONE)["bustimes_snapshots_total", "s3://b"] == 10
    assert Luigid().told(BEGUN, DONE) == server.told()


def test_a_message_that_comes_twice_counts_once() -> None:
    once = Luigid().told(BEGUN, HALF, DONE)
    assert Luigid().told(BEGUN, BEGUN, HALF, HALF, DONE, DONE, DONE) == once
    assert once["bustimes_weeks_total", "s3://b"] == 1
    assert once["bustimes_s3_retries_total", "s3://b", "GET", "429"] == 2


def test_a_luigid_that_is_started_in_the_middle_counts_from_there_on() -> None:
    found = Luigid().told(HALF, DONE)
    assert found["bustimes_snapshots_total", "s3://b"] == 6
    assert found["bustimes_weeks_total", "s3://b"] == 1
    found = Luigid().told(DONE)
    assert found["bustimes_snapshots_total", "s3://b"] == 0
    assert found["bustimes_weeks_total", "s3://b"] == 1
    assert found["bustimes_week_snapshots", "s3://b", "2021-W45"] == 10


def test_a_conversion_that_failed_counts_with_the_one_after_it() -> None:
    again = dataclasses.replace(DONE, conversion="two")
    found = Luigid().told(BEGUN, HALF, dataclasses.replace(BEGUN, conversion="two"), again)
    assert found["bustimes_snapshots_total", "s3://b"] == 14
    assert found["bustimes_weeks_total", "s3://b"] == 1


def test_what_is_no_week_is_ignored() -> None:
    metrics = Metrics()
    for strange in ({}, {"memory": 5}, BEGUN.to_json() | {"snapshots": "many"}, [], None):
        metrics.handle_task_statistics(None, strange)  # type: ignore[arg-type]
    assert "s3://b" not in metrics.generate_latest().decode()  # type: ignore[no-untyped-call]


def test_only_the_latest_weeks_have_gauges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops.metrics, "MOST_WEEKS", 3)
    server = Luigid()
    for number in [1, 2, 3, 1, 4]:
        week = dataclasses.replace(DONE, week=f"2021-W0{number}", conversion=f"of {number}")
        found = server.told(week)
    weeks = {labels[1] for name, *labels in found if name == "bustimes_week_records"}
    assert weeks == {"2021-W01", "2021-W03", "2021-W04"}
    assert found["bustimes_weeks_total", "s3://b"] == 4
