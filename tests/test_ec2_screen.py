"""`make status ON=ec2`: what a person reads, in each state that a fleet can be in."""

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest

from ops.ec2 import record, screen
from ops.ec2.board import Member, Run, Sighting
from ops.ec2.costs import Cost
from ops.ec2.fleet import Instance
from ops.ec2.record import RunRecord
from ops.ec2.view import Pace, View
from tasks.problem import Problem
from tasks.storage import open_root
from tasks.weeks import Week, span

NOW = dt.datetime(2026, 2, 11, 15, 14, 30, tzinfo=dt.UTC)
WEEKS = list(span(Week(2016, 49), Week(2026, 6)))
GB = 1_000_000_000


def ago(seconds: float) -> str:
    return (NOW - dt.timedelta(seconds=seconds)).isoformat(timespec="seconds")


RUN = Run("20260211T140230Z-3f1c", "running", ago(3600), by="arn:aws:iam::144370233886:user/ann")
OVER = replace(RUN, state="finished", ended=ago(600), sentence="Complete and correct.")


def instance(number: int, **given: object) -> Instance:
    launched = NOW - dt.timedelta(seconds=3900)
    name = f"i-0123456789abcde{number:02}"
    one = Instance(name, "c6i.large", "us-east-1a", "10.0.1.4", launched, "running", True, "")
    return replace(one, **given)  # type: ignore[arg-type]


def member(number: int, weeks: int = 60, silent: float = 3, **given: object) -> Sighting:
    """An instance's record: so many weeks done, written so many seconds ago."""
    one = Member(
        instance(number).id,
        "c6i.large",
        "us-east-1a",
        state="working",
        launched=ago(3900),
        seen=ago(silent),
        run_id=RUN.run_id,
        weeks_done=[f"done-{number}-{week}" for week in range(weeks)],
        running={f"2018-W{20 + number}": "50%, 5,040 of 10,080 snapshots, 57.3 MB/s, ETA 16.2 s"},
        raw_bytes=weeks * 2 * GB,
        snapshots=weeks * 10_080,
        memory_free=2 * GB,
        memory_total=4 * GB,
        disk_free=14 * GB,
        disk_total=20 * GB,
    )
    changed = replace(one, **given)  # type: ignore[arg-type]
    return Sighting(changed, NOW.timestamp() - silent)


def view(**given: object) -> View:
    """Three instances in the middle of a run, unless said otherwise."""
    usual = View(
        "bustimes-conversion",
        "us-east-1",
        "s3://bustimes-data/v2",
        NOW,
        stack_state="CREATE_COMPLETE",
        wanted=3,
        instances=[instance(0), instance(1), instance(2)],
        sightings=[member(0, scheduler=True), member(1), member(2)],
        run=RUN,
        done=WEEKS[:180],
        left=WEEKS[180:],
        cost=Cost(0.12, 0.01, 0.02, 0.80),
    )
    return replace(usual, **given)  # type: ignore[arg-type]


NOTHING = view(stack_state="", wanted=0, instances=[], sightings=[], run=None, done=WEEKS, left=[])

EVERY_STATE = {
    "working": view(),
    "begun": view(run=replace(RUN, started=ago(5)), sightings=[member(0, weeks=0, running={})]),
    "ending": view(done=WEEKS, left=[], sightings=[member(0, running={})]),
    "notice": view(sightings=[member(0, notice=ago(-92)), member(1), member(2)]),
    "silent": view(sightings=[member(0), member(1), member(2, silent=200)]),
    "all silent": view(sightings=[member(number, silent=200) for number in range(3)]),
    "gone": view(sightings=[member(number, silent=3) for number in range(14)]),
    "nobody": view(instances=[], wanted=0),
    "no capacity": view(instances=[], run=None, sightings=[], waiting="AWS has no capacity. " * 9),
    "starting": view(
        run=None,
        sightings=[],
        instances=[
            instance(0, state="pending", registered=False),
            instance(1, registered=False),
            instance(2),
        ],
    ),
    "idle": view(run=None, sightings=[member(0, run_id="", sentence="waits for a run " * 12)]),
    "kept": view(run=OVER, done=WEEKS, left=[]),
    "finished": view(run=OVER, done=WEEKS, left=[], instances=[], wanted=0),
    "failed": view(
        run=replace(OVER, state="failed"), sightings=[member(0, errors=["it went wrong " * 50])]
    ),
    "some weeks": view(run=replace(RUN, weeks=",".join(map(str, WEEKS)))),
    "stack": view(stack_state="UPDATE_ROLLBACK_FAILED"),
    "no stack": view(stack_state=""),
    "sixteen": view(
        wanted=16,
        instances=[instance(number) for number in range(16)],
        sightings=[member(number) for number in range(16)],
    ),
    "nothing": NOTHING,
    "nothing yet": replace(NOTHING, done=[], left=WEEKS),
    "something left": replace(NOTHING, left_over=["the log group /bustimes-conversion"] * 5),
    "records": replace(NOTHING, last=RunRecord(OVER, [member(0).member], Cost(1, 2, 3, 4))),
    "cancelled": replace(NOTHING, last=RunRecord(removed=ago(5))),
}


def shown(one: View) -> str:
    return "\n".join(screen.lines(one))


@pytest.mark.parametrize("name", EVERY_STATE)
def test_every_state_fits_one_screen(name: str) -> None:
    lines = list(screen.lines(EVERY_STATE[name]))
    assert max(map(len, lines)) <= 100
    assert len(lines) <= 50
    assert lines == [line.rstrip() for line in lines]


def test_a_run_in_the_middle() -> None:
    assert shown(view()) == (
        """\
fleet      bustimes-conversion in us-east-1: 3 instances
run        every finished week: running for 1 h, since 14:14 UTC, by ann
weeks      180 of 479 done (37%) in s3://bustimes-data/v2, 3 under way
rate       101 MB/s of raw snapshots; ETA 1 h 38 min, at about 16:52 UTC
cost       $0.95 so far: $0.80 requests, $0.12 instances, $0.02 addresses, $0.01 disks. $0.13 an
           hour at typical spot prices; about $2.49 in the end
luigid     on i-0123456789abcde00: make ui ON=ec2 shows its page

instance             type         zone  state       weeks      rate mem used disk used spool   seen
i-0123456789abcde00  c6i.large    1a    working        60 33.6 MB/s      50%       30%          3 s
    2018-W20  50%, 5,040 of 10,080 snapshots, 57.3 MB/s, ETA 16.2 s
i-0123456789abcde01  c6i.large    1a    working        60 33.6 MB/s      50%       30%          3 s
    2018-W21  50%, 5,040 of 10,080 snapshots, 57.3 MB/s, ETA 16.2 s
i-0123456789abcde02  c6i.large    1a    working        60 33.6 MB/s      50%       30%          3 s
    2018-W22  50%, 5,040 of 10,080 snapshots, 57.3 MB/s, ETA 16.2 s

next       make logs ON=ec2    follows what is said
           make status ON=ec2  shows this anew"""
    )


def test_the_time_left_goes_by_those_that_are_at_it() -> None:
    """An hour for 60.5 weeks each: with one of three gone it takes half as long again."""
    three = Pace(view()).seconds_left
    two = Pace(view(sightings=[member(0), member(1), member(2, silent=200)])).seconds_left
    assert three == pytest.approx((299 - 1.5) / (3 * 60.5) * 3600)
    assert two == pytest.approx((299 - 1.0) / (2 * 60.5) * 3600)


def test_one_that_has_joined_late_is_not_taken_for_a_slow_one() -> None:
    late = member(1, weeks=30, launched=ago(1800))
    pace = Pace(view(sightings=[member(0), late]))
    assert pace.of(late.member) == pytest.approx(pace.of(member(0).member) or 0, rel=0.02)


def test_another_runs_weeks_do_not_count() -> None:
    earlier = member(1, run_id="20260101T000000Z-0000", errors=["an old one"])
    text = shown(view(sightings=[member(0), earlier]))
    assert "an old one" not in text
    assert Pace(view(sightings=[member(0), earlier])).at_it == 1


def test_an_interruption_notice_is_seen() -> None:
    assert "AWS takes it back at 15:16:02 UTC, in 92 s" in shown(EVERY_STATE["notice"])


def test_silence_is_told_by_the_clock_of_s3() -> None:
    """An instance whose own clock is wrong is not silent."""
    wrong = member(0, seen=ago(9000))
    assert "silent" not in shown(view(sightings=[wrong, member(1), member(2)]))


def test_one_that_is_silent_is_named_with_what_it_was_at() -> None:
    text = shown(EVERY_STATE["silent"])
    assert "no sign of life for 3 min; it was at 2018-W22, which others take over" in text
    assert "2 under way" in text


def test_where_all_are_silent_nobody_takes_over() -> None:
    text = shown(EVERY_STATE["all silent"])
    assert "Nobody has given a sign of life for 3 min" in " ".join(text.split())
    assert "nothing moves" in text
    assert "take over" not in text
    assert "luigid" not in text
    assert "make teardown FORCE=1 ON=ec2" in text


def test_waiting_for_capacity_says_why_and_what_else_there_is() -> None:
    text = shown(EVERY_STATE["no capacity"])
    assert "0 of 3 instances. AWS has no capacity" in text
    assert "asks for other types" in text


def test_instances_on_their_way() -> None:
    rows = shown(EVERY_STATE["starting"])
    for number, state in enumerate(("starting", "booting", "preparing")):
        assert f"{instance(number).id}  c6i.large    1a    {state}" in rows
    assert "launched 65 min ago and not ready yet" in rows


def test_instances_without_a_run_say_what_they_cost_and_when_they_go() -> None:
    text = shown(EVERY_STATE["idle"])
    assert "run        none yet" in text
    assert "$0.13 an\n           hour" in text
    assert "without one they go after 60 minutes" in text


def test_a_nearly_full_disk_is_pointed_out() -> None:
    text = shown(view(sightings=[member(0, disk_free=300_000_000)]))
    assert "its disk is nearly full: 300 MB of 20.0 GB free" in text


def test_the_same_error_everywhere_is_said_once() -> None:
    error = "2018-W25: The run stops: 101 snapshots could not be read."
    text = shown(view(sightings=[member(number, errors=[error]) for number in range(3)]))
    assert text.count("101 snapshots") == 1
    assert "on 3 instances" in text


def test_those_that_have_gone_are_named_a_few_of_them() -> None:
    text = shown(EVERY_STATE["gone"])
    assert "gone       i-0123456789abcde03  working, 60 weeks, last seen 15:14 UTC" in text
    assert "and 4 more" in text


def test_a_failed_run_says_how_to_go_on() -> None:
    text = shown(EVERY_STATE["failed"])
    assert "make logs ON=ec2      shows what went wrong" in text
    assert "make full ON=ec2      goes on from there" in text


def test_a_run_that_nobody_is_at_says_how_to_go_on() -> None:
    text = shown(EVERY_STATE["nobody"])
    assert "No instance is at it" in text
    assert "make setup ON=ec2     starts instances, which go on with the run" in text


def test_a_stack_in_trouble_is_named() -> None:
    assert "The stack is in UPDATE_ROLLBACK_FAILED" in shown(EVERY_STATE["stack"])
    assert "The stack is in" not in shown(EVERY_STATE["working"])


def test_many_instances_have_a_row_each_and_their_weeks_a_line_together() -> None:
    text = shown(EVERY_STATE["sixteen"])
    assert "under way  2018-W20 50%, 2018-W21 50%," in text
    assert "5,040 of 10,080" not in text


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_when_nothing_is_left_the_last_run_and_its_cost_are_told(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    root = open_root(
        str(tmp_path / "v2") if kind == "folder" else f"{request.getfixturevalue('bucket')}/v2"
    )
    assert record.last(root) is None
    older = replace(OVER, run_id="20250101T000000Z-0000")
    record.write(root, RunRecord(older, [], Cost(9), "", ago(9999)))
    members = [member(number).member for number in range(3)]
    cost = Cost(0.41, 0.03, 0.05, 2.12)
    key = record.write(root, RunRecord(OVER, members, cost, "Complete and correct.", ago(5)))
    assert key == f"_runs/{RUN.run_id}.json"
    last = record.last(root)
    assert last is not None
    assert last.members == members
    assert shown(replace(NOTHING, looked_for=("stack", "instance", "code"), last=last)) == (
        """\
Nothing is left of bustimes-conversion in us-east-1: no stack, no instance, no code.
weeks      479 done in s3://bustimes-data/v2
last run   every finished week, finished 15:04 UTC: 180 weeks in 50 min on 3 instances
cost       $2.61 in all: $2.12 requests, $0.41 instances, $0.05 addresses, $0.03 disks
verified   Complete and correct"""
    )


def test_a_fleet_that_went_without_a_run_leaves_what_it_cost(tmp_path: Path) -> None:
    root = open_root(str(tmp_path))
    record.write(root, RunRecord(cost=Cost(0.02), removed=ago(5)))
    text = shown(replace(NOTHING, last=record.last(root)))
    assert "last run   none: the fleet was taken away before it had one" in text
    assert "$0.02 in all" in text


def test_what_is_left_over_is_named() -> None:
    text = shown(EVERY_STATE["something left"])
    assert "the log group /bustimes-conversion" in text
    assert "make teardown ON=ec2  takes that away as well" in text
    assert "Nothing is left" not in text


def test_a_record_that_is_none_is_a_problem(tmp_path: Path) -> None:
    root = open_root(str(tmp_path))
    root.write("_runs/x.json", b"[")
    with pytest.raises(Problem, match=r"_runs/x\.json is no record of a run"):
        record.last(root)


def test_a_record_of_a_later_version_is_read(tmp_path: Path) -> None:
    root = open_root(str(tmp_path))
    root.write("_runs/x.json", b'{"verified": "Complete.", "mood": "good"}')
    assert record.last(root) == RunRecord(verified="Complete.")
