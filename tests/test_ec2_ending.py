"""The end of a run and of a fleet: when it has come, what is said of it, what becomes of it."""

import itertools
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ops.ec2 import ending, vitals, work
from ops.ec2.aws import Aws
from ops.ec2.board import Board, Member, Run, Sighting
from ops.ec2.pulse import View
from ops.ec2.savings import Savings
from ops.ec2.share import Workplace
from tasks.problem import Problem
from tasks.settings import load
from tasks.storage.s3 import S3Prefix
from tests.ec2_services import REGION, aws_environment, desired, make_group
from tests.test_ec2_lease import Clock

RUN = Run("run-1", "running", started="2021-11-08T00:00:00+00:00")
LAUNCHED = "2021-11-08T00:00:00+00:00"
IDLE_SECONDS = 3600.0
_numbers = itertools.count()


def member(state: str, run_id: str = "run-1", **more: object) -> Member:
    return replace(Member("i-1", state=state, run_id=run_id), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("me", "others", "due"),
    [
        ("finished", [], True),
        ("finished", [member("finished"), member("failed")], True),
        ("finished", [member("working")], False),
        ("finished", [member("phasing out")], False),
        ("finished", [member("interrupted")], True),
        ("finished", [member("idle", ""), member("preparing", "")], True),
        ("finished", [member("working", "run-0")], True),
        ("failed", [], True),
        ("failed", [member("failed")], True),
        ("failed", [member("finished")], True),
        ("failed", [member("working")], False),
        ("failed", [member("idle", "")], False),
        ("failed", [member("idle")], False),
        ("failed", [member("preparing", "")], False),
        ("failed", [member("finished", "run-0")], False),
        ("failed", [member("interrupted")], True),
    ],
)
def test_a_run_ends_when_nobody_is_at_it_and_nobody_could_do_what_is_left(
    me: str, others: list[Member], due: bool
) -> None:
    assert ending.is_due(RUN, member(me), others) is due


@pytest.mark.parametrize(
    ("state", "is_waited_for"), [("idle", False), ("preparing", False), ("working", True)]
)
def test_who_does_nothing_is_not_waited_for_for_ever(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, is_waited_for: bool
) -> None:
    monkeypatch.setattr(work, "PROJECT", tmp_path)  # where there is nothing to verify with
    said: list[str] = []
    place = Workplace(load(), tmp_path, 1.0, said.append, said.append)
    board = Board(S3Prefix(f"{bucket}/v2"))
    end = ending.Ending(board, place, "i-1", lambda _text, _subject: None)
    me, other = member("failed"), replace(member(state), instance="i-2")
    view = replace(seen(RUN, me, other), listed=me)
    end.tick(RUN, view)
    assert not end.is_verifying
    end._since -= 3600  # an hour passes
    end.tick(RUN, view)
    end.stop()
    assert end.is_verifying is not is_waited_for


def test_a_run_is_closed_once(bucket: str) -> None:
    board = Board(S3Prefix(f"{bucket}/v2"))
    assert ending.close(board, RUN, "finished", "well") is None
    board.write_run(RUN, "")
    closed = ending.close(board, RUN, "finished", "well")
    assert closed is not None
    assert (closed.state, closed.sentence) == ("finished", "well")
    assert closed.ended
    assert ending.close(board, RUN, "failed", "not so well") is None
    assert board.run() == closed
    assert ending.close(board, replace(RUN, run_id="run-0"), "failed", "") is None


def test_the_next_command_can_be_typed_as_it_is_said() -> None:
    run = replace(
        RUN,
        weeks="2021-W44,2021-W45",
        workers=2,
        refresh=True,
        settings={"BUSTIMES_SPOOL": "/mnt/a folder; rm"},
    )
    command = ending.next_command(run)
    assert shlex.split(command) == [
        *("make", "full", "ON=ec2", "WEEKS=2021-W44,2021-W45", "WORKERS=2", "REFRESH=1"),
        "SPOOL=/mnt/a folder; rm",
    ]
    assert ending.next_command(RUN) == "make full ON=ec2"


def test_a_failure_says_who_failed_why_and_what_comes_next() -> None:
    failed = replace(RUN, state="failed", sentence="It was not to be.")
    members = [member("failed", errors=["early", "the disk is full"]), member("finished")]
    lines = ending.message(failed, "s3://b/v2", members, ["1 missing", "Not complete."])
    assert lines.splitlines() == [
        "The run run-1 of s3://b/v2 has failed.",
        "It was not to be.",
        "i-1: the disk is full",
        "1 missing",
        "Not complete.",
        "Next: make logs ON=ec2 shows what went wrong. When that is mended, this goes on from "
        "where it stopped:",
        "  make full ON=ec2",
        "The fleet scales itself to zero; make status ON=ec2 shows what it cost.",
    ]


def test_a_run_is_put_into_a_sentence() -> None:
    members = [
        member("finished", weeks_done=["2021-W44", "2021-W45"]),
        member("interrupted", weeks_done=["2021-W45"]),
        member("finished", "run-0", weeks_done=["2018-W01"]),
        member("finished"),
    ]
    sentence = ending.sentence(RUN, members, "All is well.")
    assert sentence.startswith("2 weeks converted by 2 instances in ")
    assert sentence.endswith(". All is well.")


class Group:
    """An Auto Scaling group of one, and an instance that may scale it to zero."""

    def __init__(self, clock: Clock, name: str) -> None:
        self.aws, self.name = Aws(REGION), name
        self.savings = Savings(self.aws, name, LAUNCHED, IDLE_SECONDS, 60, clock)

    def desired(self) -> int:
        return desired(self.aws, self.name)

    def resize(self, count: int) -> None:
        self.aws.client("autoscaling").set_desired_capacity(
            AutoScalingGroupName=self.name, DesiredCapacity=count
        )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def group(aws_server: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Group:
    for name, value in aws_environment(aws_server).items():
        monkeypatch.setenv(name, value)
    group = Group(clock, f"group-{next(_numbers)}")
    make_group(group.aws, group.name)
    return group


def seen(run: Run | None, *members: Member, reads: int = 1) -> View:
    return View(run=run, run_reads=reads, sightings=[Sighting(one, 1.0) for one in members])


IDLE = member("idle", "")


@pytest.mark.parametrize("state", ["finished", "failed"])
def test_a_fleet_whose_run_has_ended_scales_to_zero_once(group: Group, state: str) -> None:
    ended = replace(RUN, state=state, ended="2021-11-08T00:00:00+00:00")
    group.savings.tick(seen(ended))
    assert group.desired() == 0
    assert group.savings.sentence == f"the run run-1 is {state}: the fleet scales to zero"
    group.resize(2)
    group.savings.tick(seen(ended))
    assert group.desired() == 2, "somebody wants it again"


@pytest.mark.parametrize(
    "run", [replace(RUN, state="finished", ended=LAUNCHED), None], ids=["a run has ended", "none"]
)
def test_an_instance_that_somebody_wanted_again_and_left_alone_asks_again(
    group: Group, clock: Clock, run: Run | None
) -> None:
    for _ in range(3):
        clock.now += IDLE_SECONDS
        group.savings.tick(seen(run, IDLE))
        assert group.desired() == 0
        group.resize(1)
        group.savings.tick(seen(run, IDLE))
        clock.now += IDLE_SECONDS - 1
        group.savings.tick(seen(run, IDLE))
        assert group.desired() == 1


@pytest.mark.parametrize(
    "blind",
    [View(problem="S3 refuses"), View(run=RUN, run_reads=1, problem="S3 refuses")],
    ids=["not at all", "not any more"],
)
def test_an_instance_that_never_sees_the_board_does_not_stay_for_ever(
    group: Group, clock: Clock, blind: View
) -> None:
    working = replace(seen(blind.run, member("working", "")), problem="S3 refuses now")
    group.savings.tick(blind)
    clock.now += 2 * IDLE_SECONDS - 1
    group.savings.tick(blind)
    group.savings.tick(working)
    assert group.desired() == 1
    clock.now += 1
    group.savings.tick(blind)
    assert group.desired() == 0


@pytest.mark.parametrize(
    "run",
    [
        replace(RUN, state="finished", ended="2021-11-08T00:00:01+00:00", keep=True),
        replace(RUN, state="finished", ended="2021-11-07T23:59:59+00:00"),
        replace(RUN, state="cancelled", ended="2021-11-08T00:00:01+00:00"),
        RUN,
        None,
    ],
    ids=["to be kept", "before the instance was there", "cancelled", "running", "none"],
)
def test_a_fleet_stays_when_it_should(group: Group, run: Run | None) -> None:
    group.savings.tick(seen(run, IDLE))
    assert group.desired() == 1


def test_a_fleet_without_a_run_for_long_scales_to_zero(group: Group, clock: Clock) -> None:
    for reads in range(1, 4):
        clock.now += IDLE_SECONDS - 1
        group.savings.tick(seen(RUN, IDLE, reads=reads))
    clock.now += IDLE_SECONDS - 1
    assert not group.savings.is_idle
    group.savings.tick(seen(None, IDLE, reads=5))
    assert group.desired() == 1
    clock.now += 1
    assert group.savings.is_idle
    group.savings.tick(seen(None, reads=6))
    assert group.desired() == 1, "what the others do is not known yet"
    group.savings.tick(seen(None, IDLE, reads=7))
    assert group.desired() == 0
    assert "there was no run for" in group.savings.sentence


def test_a_fleet_that_cannot_see_its_board_is_idle_too(group: Group, clock: Clock) -> None:
    group.savings.tick(seen(RUN, IDLE, reads=1))
    clock.now += IDLE_SECONDS
    group.savings.tick(seen(RUN, IDLE, reads=1))
    assert group.desired() == 0


def test_who_works_by_hand_keeps_the_fleet(group: Group, clock: Clock) -> None:
    clock.now += IDLE_SECONDS
    group.savings.tick(seen(None, IDLE, member("working", "")))
    assert group.desired() == 1
    assert not group.savings.is_idle
    clock.now += IDLE_SECONDS
    group.savings.tick(seen(None, IDLE))
    assert group.desired() == 0


@pytest.mark.usefixtures("group")
def test_what_is_refused_is_said_and_asked_for_again_a_minute_later(clock: Clock) -> None:
    other = Group(clock, "no-such-group")
    ended = replace(RUN, state="finished", ended=LAUNCHED)
    for _ in range(2):
        with pytest.raises(Problem, match="The fleet no-such-group cannot be scaled to zero"):
            other.savings.tick(seen(ended))
        other.savings.tick(seen(ended))
        clock.now += 60


@pytest.fixture
def by_hand(tmp_path: Path) -> Iterator[None]:
    """A process that looks like a command which somebody has started on an instance."""
    (tmp_path / "ops").mkdir()
    (tmp_path / "ops" / "__init__.py").touch()
    (tmp_path / "ops" / "__main__.py").write_text("print(flush=True); input()")
    process = subprocess.Popen(
        [sys.executable, "-m", "ops", "verify", "--deep"],
        cwd=tmp_path,
        env=os.environ | {"BUSTIMES_HOME": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield
    process.communicate(b"\n")


@pytest.mark.usefixtures("by_hand")
def test_the_commands_that_run_on_an_instance_are_known(tmp_path: Path) -> None:
    assert vitals.commands(str(tmp_path)) == ["verify"]
    assert vitals.commands(str(tmp_path / "another")) == []


def test_an_instance_knows_how_it_is(tmp_path: Path) -> None:
    (tmp_path / "spool" / "place" / "2021-W45").mkdir(parents=True)
    (tmp_path / "spool" / "place" / "2021-W45" / "manifest.json").touch()
    found = vitals.read(tmp_path / "spool")
    assert found.spooled == 1
    assert found.cpu_count == os.cpu_count()
    assert 0 < found.memory_free < found.memory_total
    assert 0 < found.disk_free < found.disk_total
