"""The board of a fleet: what is read is what was written, and nobody overwrites anybody."""

import dataclasses
import json

import pytest

from ops.ec2.board import Board, Lease, Member, Run, Sighting, last_alive
from tasks.problem import Problem
from tasks.storage.s3 import S3Prefix
from tests.gate import Gate

RUN = Run("run-1", "running", weeks="2021-W45", settings={"BUSTIMES_ORDER": "snapshot"})
MEMBER = Member("i-1", state="working", weeks_done=["2021-W44"], running={"2021-W45": "half"})


@pytest.fixture
def board(bucket: str) -> Board:
    return Board(S3Prefix(f"{bucket}/v2"))


def test_an_empty_board_has_nothing(board: Board) -> None:
    assert (board.run(), board.lease(), board.member("i-1"), board.members()) == (
        None,
        None,
        None,
        [],
    )


def test_what_is_read_is_what_was_written(board: Board) -> None:
    lease = Lease("i-1", "10.0.0.7", 8082, 3)
    run_etag, lease_etag = board.write_run(RUN, ""), board.write_lease(lease, "")
    board.write_member(MEMBER)
    assert board.run_with_etag() == (RUN, run_etag)
    assert board.lease() == (lease, lease_etag)
    assert board.member("i-1") == MEMBER
    assert [one.member for one in board.members()] == [MEMBER]


def test_of_two_who_write_the_same_object_only_one_succeeds(board: Board) -> None:
    etag = board.write_run(RUN, "")
    assert etag is not None
    other = dataclasses.replace(RUN, run_id="run-2")
    assert board.write_run(other, "") is None
    assert board.write_run(dataclasses.replace(RUN, state="finished"), etag) is not None
    assert board.write_run(other, etag) is None
    found = board.run()
    assert found is not None
    assert (found.run_id, found.state, found.is_running) == ("run-1", "finished", False)


def test_versions_of_the_code_may_differ(board: Board, bucket: str) -> None:
    root = S3Prefix(f"{bucket}/v2")
    root.write("_fleet/run.json", json.dumps({"run_id": "r", "mood": "good"}).encode())
    assert board.run() == Run(run_id="r")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"run_id": 3}', b"\xff"])
def test_a_record_that_is_none_is_named(board: Board, bucket: str, data: bytes) -> None:
    S3Prefix(f"{bucket}/v2").write("_fleet/run.json", data)
    with pytest.raises(Problem, match=r"v2/_fleet/run\.json is no record .* Remove that object"):
        board.run()


def test_a_damaged_record_keeps_nobody_from_going_on(board: Board, bucket: str) -> None:
    board.write_member(MEMBER)
    root = S3Prefix(f"{bucket}/v2")
    for name in ("members/i-0", "scheduler"):
        root.write(f"_fleet/{name}.json", b'{"instance": 3}')
    assert [one.member for one in board.members()] == [MEMBER]
    assert board.member("i-0") is None
    found = board.lease()
    assert found is not None
    assert found[0] == Lease()
    assert board.write_lease(Lease("i-1"), found[1]) is not None


def test_only_records_that_are_new_are_read_again(gated_board: Board, gate: Gate) -> None:
    second = dataclasses.replace(MEMBER, instance="i-2")
    for member in (MEMBER, second):
        gated_board.write_member(member)
    gated_board.members()
    changed = dataclasses.replace(second, state="finished")
    gated_board.write_member(changed)
    assert [one.member for one in gated_board.members()] == [MEMBER, changed]
    assert gate.count("GET", "members/i-1.json") == 1
    assert gate.count("GET", "members/i-2.json") == 2


def test_all_of_it_can_be_removed_and_nothing_else_is(board: Board, bucket: str) -> None:
    root = S3Prefix(f"{bucket}/v2")
    root.write("2021-W45.jsonl.gz", b"a week")
    board.write_run(RUN, "")
    board.write_lease(Lease(), "")
    board.write_member(MEMBER)
    board.clear()
    assert [one.key for one in root.objects("")] == ["2021-W45.jsonl.gz"]
    assert board.members() == []


def test_only_the_clock_of_s3_says_who_is_alive() -> None:
    early, late = dataclasses.replace(MEMBER, seen="2031-01-01"), Member("i-2")
    sightings = [Sighting(early, 1000.0), Sighting(late, 1061.0)]
    assert last_alive(sightings, 60) == [early, late]
    assert last_alive(sightings, 59) == [late]
    assert last_alive([], 60) == []
