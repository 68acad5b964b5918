"""Instances of a fleet at a run: real daemons, which really share it, die, and take over.

The gate of each holds what it asks of S3, so that a scenario knows what an instance is at. Each
scenario has a fleet of its own. Three are played at a time, since most of each is waiting.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from ops.ec2.board import Lease, Member
from tasks.weeks import Week
from tests.conftest import PROJECT, free_port
from tests.ec2_fleets import WEEKS, Fleet, Site
from tests.ec2_members import Instance, wait_until
from tests.gate import Hold

pytestmark = pytest.mark.soak


def hold_week(instance: Instance, week: Week) -> Hold:
    """Have an instance wait in the middle of a week."""
    return instance.gate.hold("GET", rf"/raw/bustimes__{week.start:%Y-%m-%d}__01-00")


def hold_all(instances: list[Instance]) -> dict[str, list[Hold]]:
    """Have each instance wait in the middle of any week."""
    return {one.id: [hold_week(one, week) for week in WEEKS] for one in instances}


def release(held: dict[str, list[Hold]], *instances: Instance) -> None:
    for instance in instances:
        for hold in held[instance.id]:
            hold.release()


def at_a_week(member: Member) -> bool:
    return member.state == "working" and bool(member.running)


def check_weeks(fleet: Fleet) -> None:
    """All weeks are there, as one machine makes them, and no week was written twice."""
    assert fleet.weeks() == fleet.expected
    assert [fleet.versions(week) for week in WEEKS] == [1] * len(WEEKS)


def three_share_a_run_although_the_holder_of_luigid_is_cut_off_for_a_while(
    fleet: Fleet,
) -> None:
    members = fleet.add(3)
    held = hold_all(members)
    fleet.order(WEEKS)
    for one in members:
        fleet.wait_for(one, at_a_week)
    under_way = [week for one in members for week in fleet.member(one).running]
    assert sorted(under_way) == sorted(map(str, WEEKS)), "each is at another week"
    cut_off = fleet.holder(members)
    assert [one for one in members if one.has_luigid(fleet.port)] == [cut_off]

    cut = cut_off.cut_off()
    wait_until(lambda: not cut_off.has_luigid(fleet.port), fleet.words)
    others = [one for one in members if one is not cut_off]
    holder = fleet.holder(others)
    assert [one for one in members if one.has_luigid(fleet.port)] == [holder]
    last_beat = fleet.member(cut_off).seen
    for refusal in cut:
        refusal.end()
    back = fleet.wait_for(cut_off, lambda member: member.seen > last_beat)
    assert not back.scheduler
    assert [one for one in members if one.has_luigid(fleet.port)] == [holder]

    release(held, *members)
    run = fleet.wait_until_ended("finished")
    check_weeks(fleet)
    assert "3 weeks converted by 3 instances" in run.sentence
    wait_until(lambda: fleet.desired() == 0, fleet.words)
    wait_until(lambda: not any(one.has_luigid(fleet.port) for one in members), fleet.words)
    wait_until(lambda: "Complete and correct." in "".join(map(fleet.logged, members)), fleet.words)
    wait_until(lambda: fleet.webhook.told, fleet.words)
    [told] = fleet.webhook.told
    assert "is complete and verified" in told
    assert "3 good" in told


def the_weeks_of_the_killed_are_taken_over_and_so_is_luigid(fleet: Fleet) -> None:
    members = fleet.add(3)
    held = hold_all(members)
    fleet.order(WEEKS)
    for one in members:
        fleet.wait_for(one, at_a_week)
    holder = fleet.holder(members)
    killed, last = [one for one in members if one is not holder]
    [week] = fleet.member(killed).running
    killed.kill()
    release(held, last)
    fleet.wait_for(last, lambda member: week in [*member.running, *member.weeks_done])
    assert holder.has_luigid(fleet.port)

    [week] = fleet.member(holder).running
    holder.kill()
    assert fleet.holder([last]) is last
    fleet.wait_until_ended("finished")
    check_weeks(fleet)
    finished = fleet.member(last)
    assert week in finished.weeks_done
    assert finished.restarts >= 1


def an_instance_that_aws_wants_back_takes_no_more_weeks_and_uploads_what_it_has(
    fleet: Fleet,
) -> None:
    [leaving] = fleet.add()
    refused = leaving.gate.refuse("PUT", rf"/{WEEKS[0]}\.jsonl\.gz", 403)
    finishing = hold_week(leaving, WEEKS[1])
    hold_week(leaving, WEEKS[2])
    fleet.order(WEEKS, workers=2)
    fleet.wait_for(leaving, lambda member: member.spooled == 1 and len(member.running) == 2)
    leaving.notice(45 + 6)  # six seconds before the time at which the rest is given up
    noticed = fleet.wait_for(leaving, lambda member: member.state == "phasing out")
    assert noticed.notice
    assert leaving.has_luigid(fleet.port)
    refused.end()
    finishing.release()
    gone = fleet.wait_for(leaving, lambda member: member.state == "interrupted")
    assert [week for week in WEEKS if f"{week}.jsonl.gz" in fleet.weeks()] == WEEKS[:2]
    assert gone.spooled == 0
    assert "what was finished is all uploaded" in gone.sentence
    assert "uploaded and confirmed" in leaving.said()
    assert fleet.scheduler() == Lease(beat=fleet.scheduler().beat), "luigid may be had at once"
    assert not leaving.has_luigid(fleet.port)
    assert fleet.webhook.told == []


def a_run_that_cannot_succeed_ends_as_failed_and_says_what_to_do(fleet: Fleet) -> None:
    [one] = fleet.add()
    given = {"BUSTIMES_MAX_ERRORS": "0", "LD_PRELOAD": "/no/such/thing"}
    fleet.order(WEEKS, settings=given, keep=True)
    run = fleet.wait_until_ended("failed")
    wait_until(lambda: fleet.webhook.told, fleet.words)
    [told] = fleet.webhook.told
    weeks = ",".join(map(str, WEEKS))
    assert "\n  make full ON=ec2 SOURCE=s3://" in told
    [command] = [line for line in told.splitlines() if line.startswith("  make full ")]
    assert {f"WEEKS={weeks}", "KEEP=1", "MAX_ERRORS=0"} <= set(command.split())
    assert "could not be read" in told
    assert "The fleet stays" in told
    assert run.sentence.startswith("0 weeks converted")
    member = fleet.wait_for(one, lambda member: not member.scheduler)
    assert member.state == "failed"
    assert member.restarts == 0
    assert "/no/such/thing" not in one.said()

    [late] = fleet.add()
    fleet.wait_for(late, lambda member: (member.state, member.run_id) == ("idle", ""))
    assert not late.has_luigid(fleet.port)
    assert not late.runs("full")
    assert fleet.desired() == 1
    assert one.terminate() == 0
    assert one.processes() == {}


def a_killed_member_starts_again_and_leaves_an_old_run_for_a_new_one_until_that_is_cancelled(
    fleet: Fleet,
) -> None:
    [one] = fleet.add()
    hold_week(one, WEEKS[0])
    fleet.order(WEEKS)
    fleet.wait_for(one, at_a_week)
    left = {pid for pid, line in one.processes().items() if "-m ops full" in line}
    one.kill_daemon()
    assert one.runs("full")
    assert one.has_luigid(fleet.port)
    held = hold_week(one, WEEKS[2])
    one.start()
    held.wait()
    assert "ended what an earlier member had left running" in one.said()
    assert not left & one.processes().keys()
    assert fleet.wait_for(one, at_a_week).restarts == 1
    assert fleet.holder([one]) is one

    held = hold_week(one, WEEKS[2])
    fleet.order(WEEKS[2:], "run-2")
    held.wait()
    member = fleet.wait_for(one, at_a_week)
    assert (member.run_id, member.weeks_done, member.restarts) == ("run-2", [], 0)

    fleet.end_run("cancelled")
    fleet.wait_for(one, lambda member: (member.state, member.scheduler) == ("idle", False))
    assert not one.runs("full")
    assert not one.has_luigid(fleet.port)
    assert fleet.webhook.told == []
    assert fleet.desired() == 1


def an_instance_that_cannot_read_the_board_at_first_stays_until_it_can(fleet: Fleet) -> None:
    one = fleet.make()
    refused = one.gate.refuse("GET", "/_fleet/members/i-", 403)
    fleet.order(WEEKS[:1])
    one.start()
    one.wait_until_said("access is denied")
    refused.end()
    fleet.wait_until_ended("finished")
    assert one.terminate() == 0


Scenario = Callable[[Fleet], None]
SCENARIOS: list[Scenario] = [
    an_instance_that_cannot_read_the_board_at_first_stays_until_it_can,
    three_share_a_run_although_the_holder_of_luigid_is_cut_off_for_a_while,
    the_weeks_of_the_killed_are_taken_over_and_so_is_luigid,
    an_instance_that_aws_wants_back_takes_no_more_weeks_and_uploads_what_it_has,
    a_run_that_cannot_succeed_ends_as_failed_and_says_what_to_do,
    a_killed_member_starts_again_and_leaves_an_old_run_for_a_new_one_until_that_is_cancelled,
]


@pytest.fixture(scope="module")
def played(site: Site, request: pytest.FixtureRequest) -> dict[Scenario, Future[None]]:
    """The scenarios that are asked for, played to their ends."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    wanted: list[Any] = [
        item.callspec.params["scenario"] for item in items if item.obj is test_members
    ]

    def play(number: int, scenario: Scenario) -> None:
        with site.fleet(number) as fleet:
            scenario(fleet)

    with ThreadPoolExecutor(3) as threads:
        return {
            scenario: threads.submit(play, number, scenario)
            for number, scenario in enumerate(wanted)
        }


@pytest.mark.parametrize(
    ("destination", "why"),
    [
        ("s3://bucket/v2", "does not say which EC2 instance this is"),
        ("/a/folder", "a fleet needs one in S3"),
    ],
)
def test_where_there_is_no_fleet_a_member_says_so(destination: str, why: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "ops.ec2.member"],
        cwd=PROJECT,
        env=os.environ
        | {
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{free_port()}",
            "BUSTIMES_SOURCE": "s3://bucket",
            "BUSTIMES_DESTINATION": destination,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 2
    assert why in ran.stderr
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_members(scenario: Scenario, played: dict[Scenario, Future[None]]) -> None:
    played[scenario].result()
