"""The run's log through the CloudWatch Logs of a local AWS."""

import datetime as dt
import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ops.ec2 import runlog
from ops.ec2.aws import Aws
from ops.ec2.runlog import LogStream, Shipper
from ops.local_aws import LocalAws
from tasks.problem import Problem
from tests.local_cloud import wait_for

pytestmark = pytest.mark.soak

_NUMBERS = itertools.count(1)


@pytest.fixture
def group(cloud: LocalAws) -> Iterator[str]:
    """A log group of the test's own."""
    name = f"/logs-{next(_NUMBERS)}"
    cloud.client("logs").create_log_group(logGroupName=name)
    yield name
    cloud.client("logs").delete_log_group(logGroupName=name)


def shipped(group: str, stream: str = "run/i-1") -> list[str]:
    client = Aws("us-east-1").client("logs")
    return [line for _, line in LogStream(client, group, stream).new()]


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[runlog.Event]]:
    """Every batch that a shipper sends, or tries to."""
    seen: list[list[runlog.Event]] = []
    put = Shipper._put

    def note(self: Shipper, batch: list[runlog.Event]) -> None:
        try:
            put(self, batch)
        finally:
            seen.append(batch)

    monkeypatch.setattr(Shipper, "_put", note)
    return seen


def test_lines_arrive_all_and_in_order(group: str, batches: list[list[runlog.Event]]) -> None:
    lines = [f"line {number} {'.' * (number % 300)}" for number in range(25_000)]
    shipper = Shipper(group, "run/i-1", "us-east-1")
    for line in lines:
        shipper.line(line)
    shipper.close()
    assert shipped(group) == lines
    # CloudWatch's rules.
    assert len(batches) < 20
    for batch in batches:
        assert len(batch) <= 10_000
        assert sum(len(line.encode()) + 26 for _, line in batch) <= 1_048_576
        assert [when for when, _ in batch] == sorted(when for when, _ in batch)


def test_lines_that_cloudwatch_would_not_take_are_made_fit(group: str) -> None:
    long = "ä€😀" * 100_000
    shipper = Shipper(group, "run/i-1", "us-east-1")
    for line in (long, "", "with an end\n", "half a pair \ud83d", "\x00\x1b[31mred"):
        shipper.line(line)
    shipper.close()
    *pieces, empty, ended, half, red = shipped(group)
    assert "".join(pieces) == long
    assert all(len(piece.encode()) <= 256_000 for piece in pieces)
    assert [empty, ended, half, red] == [" ", "with an end", "half a pair ?", "\x00\x1b[31mred"]


def test_a_clock_that_is_set_back_does_not_turn_lines_round(
    group: str, monkeypatch: pytest.MonkeyPatch, batches: list[list[runlog.Event]]
) -> None:
    shipper = Shipper(group, "run/i-1", "us-east-1")
    shipper.line("first")
    later = time.time_ns() - 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    shipper.line("second")
    shipper.close()
    assert shipped(group) == ["first", "second"]
    times = [when for batch in batches for when, _ in batch]
    assert times == sorted(times)


def test_lines_wait_for_cloudwatch(
    cloud: LocalAws, capsys: pytest.CaptureFixture[str], batches: list[list[runlog.Event]]
) -> None:
    group = f"/late-{next(_NUMBERS)}"
    shipper = Shipper(group, "run/i-1", "us-east-1")
    shipper.line("one")
    wait_for(lambda: batches, "a first try")
    shipper.line("two")
    cloud.client("logs").create_log_group(logGroupName=group)
    cloud.trouble("throttle", service="logs", action="PutLogEvents", times=2)
    shipper.line("three")
    shipper.close(30)
    assert shipped(group) == ["one", "two", "three"]
    assert "cannot be written" in capsys.readouterr().err
    cloud.client("logs").delete_log_group(logGroupName=group)


def test_memory_has_a_limit_and_the_gap_is_said(
    cloud: LocalAws, monkeypatch: pytest.MonkeyPatch, batches: list[list[runlog.Event]]
) -> None:
    monkeypatch.setattr(runlog, "_KEPT_BYTES", 100_000)
    group = f"/late-{next(_NUMBERS)}"
    shipper = Shipper(group, "run/i-1", "us-east-1")
    shipper.line("first")
    wait_for(lambda: batches, "a first try")
    for number in range(20_000):
        shipper.line(f"line {number:5}")
        assert shipper._bytes <= 100_000
    cloud.client("logs").create_log_group(logGroupName=group)
    shipper.close(30)
    first, gap, *rest = shipped(group)
    assert first == "first"
    lost = 20_000 - len(rest)
    assert gap == f"({lost:,} lines are missing here; they are in the instance's own log)"
    assert rest == [f"line {number:5}" for number in range(lost, 20_000)]
    cloud.client("logs").delete_log_group(logGroupName=group)


def test_nothing_holds_up_a_run_that_ends(
    cloud: LocalAws,  # noqa: ARG001
    capsys: pytest.CaptureFixture[str],
    batches: list[list[runlog.Event]],
) -> None:
    shipper = Shipper("/never", "run/i-1", "us-east-1")
    shipper.line("one")
    wait_for(lambda: batches, "a first try")
    shipper.close(0.5)
    assert not shipper._thread.is_alive()
    assert "the last lines (1 at least) were not sent" in capsys.readouterr().err


def put(cloud: LocalAws, group: str, stream: str, *events: tuple[int, str]) -> None:
    client = cloud.client("logs")
    names = [
        one["logStreamName"]
        for one in client.describe_log_streams(logGroupName=group)["logStreams"]
    ]
    if stream not in names:
        client.create_log_stream(logGroupName=group, logStreamName=stream)
    now = int(time.time() * 1000)
    sent: Any = [{"timestamp": now + when, "message": line} for when, line in events]
    client.put_log_events(logGroupName=group, logStreamName=stream, logEvents=sent)


def test_several_streams_are_followed_in_order_of_time(cloud: LocalAws, group: str) -> None:
    put(cloud, group, "run/i-1", (-90_000, "old"), (-5_000, "a1"), (-3_000, "a2\na3\n"))
    put(cloud, group, "run/i-2", (-4_000, "b1"), (-2_000, "b2"))
    put(cloud, group, "another", (-4_000, "not asked for"))
    aws, since = Aws("us-east-1"), dt.datetime.now(dt.UTC) - dt.timedelta(seconds=60)
    there = list(runlog.follow(aws, group, "run/", since, lambda: True))
    a, b = "run/i-1", "run/i-2"
    assert there == [(a, "a1"), (b, "b1"), (a, "a2"), (a, "a3"), (b, "b2")]
    assert (a, "old") in runlog.follow(aws, group, "run/", None, lambda: True)

    heard: list[tuple[str, str]] = []
    for one in runlog.follow(aws, group, "run/", since, lambda: len(heard) >= 8):
        heard.append(one)
        if len(heard) == 5:  # what comes while one listens, of an instance that is new as well
            put(cloud, group, b, (0, "b3"))
            put(cloud, group, "run/i-3", (0, "c1"))
            cloud.trouble("throttle", service="logs", times=1)
        elif len(heard) == 7:
            put(cloud, group, a, (0, "a4"))
            put(cloud, group, b, (1, "b4"))
    assert heard[:5] == there
    assert sorted(heard[5:7]) == [(b, "b3"), ("run/i-3", "c1")]
    assert sorted(heard[7:]) == [(a, "a4"), (b, "b4")]


def test_many_lines_are_read_page_by_page(cloud: LocalAws, group: str) -> None:
    lines = [f"line {number}" for number in range(12_000)]
    put(
        cloud,
        group,
        "run/i-1",
        *[(number // 100, line) for number, line in enumerate(lines[:9000])],
    )
    stream = LogStream(Aws("us-east-1").client("logs"), group, "run/i-1")
    first = [line for _, line in stream.new()]
    put(cloud, group, "run/i-1", *[(1000, line) for line in lines[9000:]])
    assert first + [line for _, line in stream.new()] == lines
    assert list(stream.new()) == []


def test_logs_that_are_not_there_are_explained(
    cloud: LocalAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Problem, match="The logs of /nowhere cannot be read"):
        list(runlog.follow(Aws("us-east-1"), "/nowhere", "run/", None, lambda: True))
    for name, value in cloud.environment("expired").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Problem, match="the credentials have expired"):
        list(runlog.follow(Aws("us-east-1"), "/nowhere", "run/", None, lambda: True))
