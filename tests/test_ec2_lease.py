"""The lease of luigid: one instance has it, keeps it, loses it when it falls silent."""

import threading
from dataclasses import dataclass

import pytest

from ops.ec2.board import Board, Lease
from ops.ec2.lease import SchedulerLease, answers
from tasks.problem import Problem
from tasks.storage.s3 import S3Prefix
from tests.conftest import free_port
from tests.gate import Gate

TAKEOVER_SECONDS = 60


@dataclass
class Clock:
    """Time that passes when told to."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def offer(number: int) -> Lease:
    return Lease(f"i-{number}", f"10.0.0.{number}", 8082)


def view(bucket: str, clock: Clock, number: int) -> SchedulerLease:
    board = Board(S3Prefix(f"{bucket}/v2"))
    return SchedulerLease(board, offer(number), TAKEOVER_SECONDS, clock)


def test_the_first_has_it_and_keeps_it_as_long_as_it_renews_it(bucket: str, clock: Clock) -> None:
    first, second = view(bucket, clock, 1), view(bucket, clock, 2)
    assert first.turn(is_wanted=False) is None, "nobody has it"
    for beat in range(1, 20):
        assert first.turn(is_wanted=True) == Lease("i-1", "10.0.0.1", 8082, beat)
        assert second.turn(is_wanted=True) == Lease("i-1", "10.0.0.1", 8082, beat)
        assert (first.is_held, second.is_held) == (True, False)
        clock.now += 15


def test_a_holder_that_falls_silent_knows_that_it_has_lost_it_before_another_can_take_it(
    bucket: str, clock: Clock
) -> None:
    silent, other = view(bucket, clock, 1), view(bucket, clock, 2)
    silent.turn(is_wanted=True)
    other.turn(is_wanted=True)
    clock.now += TAKEOVER_SECONDS - 1
    assert not silent.is_held
    held = other.turn(is_wanted=True)
    assert held is not None
    assert held.instance == "i-1", "a second too early"
    clock.now += 1
    held = other.turn(is_wanted=True)
    assert held is not None
    assert held.instance == "i-2"
    assert other.is_held
    back = silent.turn(is_wanted=True)
    assert back == held
    assert not silent.is_held


def test_who_comes_late_waits_as_long_as_everybody(bucket: str, clock: Clock) -> None:
    view(bucket, clock, 1).turn(is_wanted=True)
    clock.now += 10 * TAKEOVER_SECONDS
    late = view(bucket, clock, 2)
    late.turn(is_wanted=True)
    assert not late.is_held, "it cannot know yet whether the holder is silent"
    clock.now += TAKEOVER_SECONDS
    late.turn(is_wanted=True)
    assert late.is_held


def test_a_holder_that_gives_it_back_leaves_it_to_the_next_at_once(
    bucket: str, clock: Clock
) -> None:
    first, second = view(bucket, clock, 1), view(bucket, clock, 2)
    first.turn(is_wanted=True)
    assert second.turn(is_wanted=True) == Lease("i-1", "10.0.0.1", 8082, 1)
    assert first.turn(is_wanted=False) is None
    assert not first.is_held
    assert second.turn(is_wanted=True) == Lease("i-2", "10.0.0.2", 8082, 3)
    assert first.turn(is_wanted=False) == Lease("i-2", "10.0.0.2", 8082, 3)


def test_an_instance_whose_member_starts_again_still_has_it(bucket: str, clock: Clock) -> None:
    view(bucket, clock, 1).turn(is_wanted=True)
    again = view(bucket, clock, 1)
    assert again.turn(is_wanted=True) == Lease("i-1", "10.0.0.1", 8082, 2)
    assert again.is_held


def test_of_many_who_want_it_at_once_one_gets_it(bucket: str, clock: Clock) -> None:
    view(bucket, clock, 99).turn(is_wanted=True)
    views = [view(bucket, clock, number) for number in range(6)]
    for one in views:
        one.turn(is_wanted=True)
    clock.now += TAKEOVER_SECONDS
    together = threading.Barrier(len(views))

    def take(one: SchedulerLease) -> None:
        together.wait()
        one.turn(is_wanted=True)

    threads = [threading.Thread(target=take, args=(one,)) for one in views]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [holder] = [number for number, one in enumerate(views) if one.is_held]
    for one in views:
        found = one.turn(is_wanted=True)
        assert found is not None
        assert found.instance == f"i-{holder}"


def test_where_s3_refuses_the_holder_keeps_it_only_as_long_as_it_was_renewed_for(
    gated_board: Board, clock: Clock, gate: Gate
) -> None:
    holder = SchedulerLease(gated_board, offer(1), TAKEOVER_SECONDS, clock)
    holder.turn(is_wanted=True)
    refused = gate.refuse("PUT", "scheduler.json", 403)
    clock.now += 15
    with pytest.raises(Problem, match="access is denied"):
        holder.turn(is_wanted=True)
    assert holder.is_held
    clock.now += 30
    assert not holder.is_held
    refused.end()
    holder.turn(is_wanted=True)
    assert holder.is_held, "nobody has taken it meanwhile"


def test_a_luigid_that_is_not_there_does_not_answer() -> None:
    assert not answers(Lease("i-1", "127.0.0.1", free_port()))
