"""ON=ec2 as a person uses it: every command end to end, on a local AWS whose instances truly run.

The fleet shares one luigid over a network; instances are killed, cut off and come back. Whatever
happens, the archive is that of one machine, byte for byte, and each object was written once.
"""

import contextlib
import dataclasses
import http.server
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ops.ec2.board import Board, Member, Run
from ops.local_aws import LocalAws
from tasks.bustimes import synthetic
from tasks.bustimes.archive import Archive, convert_week
from tasks.bustimes.snapshot import key_of, time_of
from tasks.settings import load
from tasks.storage import open_root
from tasks.storage.s3 import S3Prefix
from tasks.weeks import Week, span
from tests.archives import archive_in, same_in_every_run
from tests.conftest import PROJECT
from tests.local_cloud import wait_for
from tests.proven_archive import confirmation_in

pytestmark = pytest.mark.soak

_NUMBERS = itertools.count(1)
WEEKS = list(span(Week(2021, 40), Week(2021, 45)))
CHOICE = ("--from", WEEKS[0].label, "--to", WEEKS[-1].label)


@dataclasses.dataclass
class Fleet:
    """A bucket with raw snapshots, the commands, and what there is to look at."""

    cloud: LocalAws
    bucket: str
    state: Path

    @property
    def board(self) -> Board:
        return Board(S3Prefix(f"s3://{self.bucket}/v2"))

    def run(self) -> Run:
        found = self.board.run()
        assert found is not None
        return found

    def members(self) -> dict[str, Member]:
        return {one.member.instance: one.member for one in self.board.members()}

    def ops(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ops", *arguments, "--on", "ec2"]
        return subprocess.run(
            command,
            cwd=PROJECT,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    def done(self, *arguments: str, **environment: str) -> str:
        """What a command prints that does what it should."""
        ran = self.ops(*arguments, **environment)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "Traceback" not in ran.stderr
        return ran.stdout

    def refused(self, *arguments: str, **environment: str) -> str:
        """What a command says that ends with a mistake explained."""
        ran = self.ops(*arguments, **environment)
        assert ran.returncode == 2, ran.stdout + ran.stderr
        assert "Traceback" not in ran.stderr
        return ran.stderr

    def objects(self, prefix: str = "") -> dict[str, str]:
        listed = S3Prefix(f"s3://{self.bucket}").objects(prefix)
        return {one.key: one.etag for one in listed}

    def archive(self) -> dict[str, bytes]:
        """The weeks, and what stands beside them, but for how long each took."""
        root = open_root(f"s3://{self.bucket}/v2")
        ours = ("_manifests/", "_inventories/", "_refused/", "_seals/", "2")
        return same_in_every_run(
            {one.key: root.read(one.key) for key in ours for one in root.objects(key)}
        )

    def writes(self) -> dict[str, int]:
        """How often each week file was written: the bucket keeps every version."""
        client = self.cloud.client("s3")
        pages = client.get_paginator("list_object_versions")
        found: dict[str, int] = {}
        for page in pages.paginate(Bucket=self.bucket, Prefix="v2/2"):
            for version in page.get("Versions", []):
                found[version["Key"]] = found.get(version["Key"], 0) + 1
        return found

    def everything(self) -> dict[str, Any]:
        """All that setup may change: stack, group, instances, objects, the webhook."""
        stacks = self.cloud.client("cloudformation").describe_stacks()["Stacks"]
        groups = self.cloud.client("autoscaling").describe_auto_scaling_groups()
        return {
            "stacks": [(one["StackName"], one.get("LastUpdatedTime")) for one in stacks],
            "groups": [
                (one["AutoScalingGroupName"], one["DesiredCapacity"], one["MaxSize"])
                for one in groups["AutoScalingGroups"]
            ],
            "instances": sorted(self.cloud.machines()),
            "objects": {
                key: etag
                for key, etag in self.objects().items()
                if not key.startswith("v2/_fleet/members/")  # signs of life
            },
        }


@pytest.fixture(scope="session")
def raw_of_six_weeks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("six-weeks")
    for week in WEEKS:
        synthetic.write_folder(
            folder,
            week.start,
            week.start.replace(hour=12),
            interval_seconds=600,
            vehicles=20,
            unreadable=1 if week == WEEKS[0] else 0,
        )
    return folder


@pytest.fixture
def empty_fleet(
    cloud: LocalAws, stack_name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Fleet:
    """Without raw snapshots yet."""
    bucket = f"story-{next(_NUMBERS)}"
    cloud.client("s3").create_bucket(Bucket=bucket)
    cloud.client("s3").put_bucket_versioning(
        Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    for name, value in {
        "BUSTIMES_SOURCE": f"s3://{bucket}",
        "BUSTIMES_DESTINATION": f"s3://{bucket}/v2",
        "BUSTIMES_SPOOL": str(tmp_path / "spool"),
        "EC2_STACK": stack_name,
        "EC2_TAKEOVER_SECONDS": "4",
        "LOCAL_STATE": str(tmp_path / "state"),
    }.items():
        monkeypatch.setenv(name, value)
    return Fleet(cloud, bucket, tmp_path)  # the bucket goes with the server


@pytest.fixture
def fleet(empty_fleet: Fleet, raw_of_six_weeks: Path) -> Fleet:
    root = open_root(f"s3://{empty_fleet.bucket}")
    for path in (raw_of_six_weeks / "raw").iterdir():
        root.write(f"raw/{path.name}", path.read_bytes())
    return empty_fleet


def of_one_machine(fleet: Fleet) -> dict[str, bytes]:
    """What one machine makes of the same snapshots, which are the same for all tests."""
    if not _OF_ONE_MACHINE:
        settings = dataclasses.replace(load(), spool=fleet.state / "own-spool")
        destination = fleet.state / "of-one-machine"
        source = open_root(f"s3://{fleet.bucket}")
        archive = Archive(settings, source, open_root(str(destination)))
        for week in WEEKS:
            convert_week(archive, week, "", 1, lambda _listing: lambda _hour: None, print)
        _OF_ONE_MACHINE.update(archive_in(destination))
    return _OF_ONE_MACHINE


_OF_ONE_MACHINE: dict[str, bytes] = {}


@pytest.fixture
def webhook(cloud: LocalAws) -> Iterator[tuple[str, list[str]]]:
    """The address of a webhook that instances can reach, and what it is told."""
    told: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.append(json.loads(body)["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    host = cloud.endpoint.removeprefix("http://").rpartition(":")[0]
    server = http.server.ThreadingHTTPServer((host, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{host}:{server.server_address[1]}/hook", told
    server.shutdown()
    server.server_close()


def test_from_nothing_to_a_verified_archive_and_back(
    fleet: Fleet, webhook: tuple[str, list[str]]
) -> None:
    """All commands, in the order in which a person needs them."""
    address, told = webhook
    two = {"EC2_INSTANCES": "2", "NOTIFY_WEBHOOK": address}
    two["BUSTIMES_NOT_OURS"] = "raw/*"  # such as a snapshot of the week to come, see below
    nothing = fleet.everything()

    for command in ("setup", "plan", "status", "teardown"):  # before there is anything
        said = fleet.done(command, "--dry-run", **two)
        assert fleet.everything() == nothing, said
    for command in ("smoke", "full", "sync", "verify"):
        refused = fleet.refused(command, **two)
        assert f"make setup ON=ec2 SOURCE=s3://{fleet.bucket} " in refused
        assert " makes one" in refused
    assert "none is: make full ON=ec2 SOURCE=" in fleet.refused("ui", **two)
    planned = fleet.done("plan", *CHOICE, **two)
    assert "to do        6 weeks: 2021-W40 to 2021-W45" in planned
    assert "on 2 instances like c6i.large" in planned
    assert re.search(r"^ +c7i\.2xlarge +[\d.]+ (s|min|h)\b.* +<?\$\d", planned, re.MULTILINE)

    said = fleet.done("setup", **two)
    for step in ("check", "code", "stack", "fleet", "prepare", "prove", "join"):
        assert f"\n{step:9}" in f"\n{said}", said
    assert len(fleet.cloud.machines()) == 2
    assert len(fleet.objects("v2/_probe/")) == 2
    made = fleet.everything()
    again = fleet.done("setup", **two)
    assert "is as it should be" in again
    assert fleet.everything() == made

    for command in ("setup", "smoke", "full", "sync", "verify", "teardown"):
        fleet.done(command, "--dry-run", **two)
        assert fleet.everything() == made
    smoked = fleet.done("smoke", "--weeks", WEEKS[0].label, **two)
    assert "complete and correct" in smoked
    assert list(fleet.objects("v2/2")) == [f"v2/{WEEKS[0]}.jsonl.gz"]

    assert "The run is on" in fleet.done("full", *CHOICE, "--keep", **two)
    assert "on already" in fleet.done("full", *CHOICE, "--keep", **two)
    assert "Another run is on" in fleet.refused("full", "--weeks", "2021-W40", **two)
    wait_for(lambda: fleet.run().state == "finished", "the run finished")
    assert fleet.archive() == of_one_machine(fleet)
    assert set(fleet.writes().values()) == {1}
    shown = fleet.done("status", **two)
    assert "6 of 6 done (100%)" in shown
    assert "Complete and correct" in shown
    logged = fleet.done("logs", **two)
    for week in WEEKS[1:]:
        assert f"{week} converted" in logged
    assert "Complete and correct." in fleet.done("verify", *CHOICE, "--deep", **two)
    assert fleet.done("sync", **two).count("Nothing waits") == 2
    [sentence] = told
    assert "complete and verified" in sentence
    assert len(fleet.cloud.machines()) == 2  # as KEEP=1 says

    late_data_is_taken_in(fleet, two)
    the_heap_is_proven_deleted_and_restored(fleet, two)
    kept = fleet.objects("raw/"), fleet.archive()

    torn = fleet.done("teardown", **two)
    assert "Nothing is left but the weeks" in torn
    assert fleet.cloud.machines() == {}
    shown = fleet.done("status", **two)
    assert "Nothing is left of" in shown
    assert "last run" in shown
    assert "cost " in shown
    assert (fleet.objects("raw/"), fleet.archive()) == kept
    left = {key.split("/")[1] for key in fleet.objects("v2/") if "/_" in key}
    ours = {"_manifests", "_inventories", "_refused", "_seals", "_verified", "_pruned"}
    assert left == {*ours, "_runs"}
    assert fleet.objects("_ops/") == {}
    assert "is there" in fleet.done("teardown", **two)


def late_data_is_taken_in(fleet: Fleet, two: dict[str, str]) -> None:
    """refresh converts the one stale week again, CURRENT=1 the week that is not over."""
    source, before = open_root(f"s3://{fleet.bucket}"), fleet.archive()
    late, current = WEEKS[0].end - timedelta(hours=1), Week.of(datetime.now(UTC))
    for time in (late, current.start, current.next.start):  # whichever is the current one then
        source.write(key_of(time), b'[{"vehicleID":1}]')
    assert "The run is on" in fleet.done("refresh", *CHOICE, "--keep", **two)
    wait_for(lambda: fleet.run().state == "finished", "the refresh finished")
    after = fleet.archive()
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    names = (f"{WEEKS[0]}.jsonl.gz", f"_manifests/{WEEKS[0]}.json")
    beside = ("_inventories/", "_seals/")
    assert {name for name in changed if not name.startswith(beside)} == {*names}
    asked = ("full", "--weeks", WEEKS[0].label, "--current", "--keep")
    assert "The run is on" in fleet.done(*asked, **two)
    wait_for(lambda: fleet.run().state == "finished", "the current week is there")
    [partial] = set(fleet.archive()) - set(after) - {*_inventories(fleet)}
    assert partial.startswith("_manifests/")


def _inventories(fleet: Fleet) -> list[str]:
    return [name for name in fleet.archive() if name.startswith(("_inventories/", "_seals/", "2"))]


def the_heap_is_proven_deleted_and_restored(fleet: Fleet, two: dict[str, str]) -> None:
    """verify SHARE=1.0, prune without and with the right to it, restore, and verify again."""
    week = ("--weeks", WEEKS[1].label)
    proven = fleet.done("verify", *CHOICE, "--share", "1.0", **two)
    assert f"proven     {WEEKS[0]} to {WEEKS[-1]}, by every raw snapshot" in proven
    looked = fleet.done("prune", *week, **two)
    assert f"may go     {WEEKS[1]} (1 week): 72 raw snapshots, " in looked
    assert f"whether {fleet.bucket} keeps old versions, which cost as much, is not known" in looked
    confirm = confirmation_in(looked)
    assert f"  make prune ON=ec2 SOURCE=s3://{fleet.bucket} DESTINATION=s3://" in looked
    assert f" WEEKS={WEEKS[1]} ALLOW_PRUNE=true CONFIRM={confirm}" in looked
    confirm = ("--confirm", confirm)
    raw = fleet.objects("raw/")
    allowed = two | {"BUSTIMES_ALLOW_PRUNE": "true"}
    denied = fleet.refused("prune", *week, *confirm, **allowed)
    assert "AllowPrune says so. make setup ON=ec2 SOURCE=" in denied
    assert " ALLOW_PRUNE=true lets them" in denied
    assert fleet.objects("raw/") == raw

    fleet.done("setup", **allowed)
    assert "keeps old versions: what is deleted stays" in fleet.done("prune", *week, **two)
    assert "Deleted 72 raw snapshots, " in fleet.done("prune", *week, *confirm, **allowed)
    gone = set(raw) - set(fleet.objects("raw/"))
    assert {Week.of(time) for key in gone if (time := time_of(key))} == {WEEKS[1]}
    assert len(gone) == 72

    asked = ("restore", "--week", WEEKS[1].label, "--to")
    elsewhere = fleet.ops(*asked, f"s3://{fleet.bucket}/elsewhere", **two)
    assert elsewhere.returncode == 2
    assert "elsewhere cannot be written: access is denied" in elsewhere.stdout
    below = f"s3://{fleet.bucket}/v2/restored"
    assert "72 snapshots with 798 records" in fleet.done(*asked, below, **two)
    assert {one.key for one in open_root(below).objects("")} == gone


def signal_converters(fleet: Fleet, number: signal.Signals) -> int:
    """How many there are; stopped, none finishes the week under way and none begins another."""
    signalled = 0
    for machine in fleet.cloud.machines().values():
        for pid in machine["processes"]:
            with contextlib.suppress(OSError):
                if b"tasks.bustimes.converter" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, number)
                    signalled += 1
    return signalled


def working(fleet: Fleet) -> list[Member]:
    return [one for one in fleet.members().values() if one.running and one.state == "working"]


def test_a_fleet_of_three_gets_over_a_dead_instance_a_network_and_a_notice(fleet: Fleet) -> None:
    """The one with luigid dies, another is cut off and comes back, the third is wanted back."""
    three = {"EC2_INSTANCES": "3"}
    fleet.done("setup", **three)
    slowly = {"BUSTIMES_PROCESSES": "1", "BUSTIMES_READS_AT_ONCE": "1"}
    fleet.done("full", *CHOICE, **three, **slowly)

    wait_for(lambda: any(one.scheduler for one in fleet.members().values()), "luigid runs")

    def are_all_at_work() -> bool:
        signal_converters(fleet, signal.SIGSTOP)  # else two might do it all before the third comes
        return len(working(fleet)) == 3

    wait_for(are_all_at_work, "all three are at work")
    signal_converters(fleet, signal.SIGCONT)
    first = next(one.instance for one in fleet.members().values() if one.scheduler)
    addresses = {one.address for one in fleet.members().values()}
    assert len(addresses) == 3
    fleet.cloud.trouble("kill", instance=first)
    second, third = (name for name in fleet.members() if name != first)
    fleet.cloud.trouble("cut", instance=second)

    def has_moved() -> bool:
        found = fleet.board.lease()
        return found is not None and found[0].instance not in ("", first, second)

    wait_for(has_moved, "another runs luigid")
    fleet.cloud.trouble("restore", instance=second)
    fleet.cloud.trouble("interrupt", instance=third, seconds=20)
    wait_for(lambda: not fleet.run().is_running, "the run has ended")
    assert fleet.run().state == "finished", fleet.run().sentence
    assert fleet.archive() == of_one_machine(fleet)
    assert set(fleet.writes().values()) == {1}
    assert len(fleet.writes()) == len(WEEKS)

    def is_at_zero() -> bool:
        client = fleet.cloud.client("autoscaling")
        [group] = client.describe_auto_scaling_groups()["AutoScalingGroups"]
        return group["DesiredCapacity"] == 0 and not fleet.cloud.machines()

    wait_for(is_at_zero, "the fleet has ended itself")
    assert fleet.members()[third].state in ("interrupted", "finished")
    assert "gone " in fleet.done("status", **three)
    fleet.done("teardown", **three)


def test_a_setup_that_was_broken_off_goes_on_and_a_run_is_ended_by_force(fleet: Fleet) -> None:
    command = [sys.executable, "-m", "ops", "setup", "--on", "ec2"]
    broken = subprocess.Popen(
        command,
        cwd=PROJECT,
        env=os.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: fleet.cloud.machines(), "an instance is there")
        broken.send_signal(signal.SIGSTOP)  # the lid is closed
    finally:
        broken.kill()
        broken.wait()
    assert "Ready" in fleet.done("setup")
    assert len(fleet.cloud.machines()) == 1
    slowly = {"BUSTIMES_PROCESSES": "1", "BUSTIMES_READS_AT_ONCE": "1"}
    fleet.done("full", *CHOICE, **slowly)
    wait_for(lambda: working(fleet), "the run is under way")
    # Else it might be done before teardown looks.
    wait_for(lambda: signal_converters(fleet, signal.SIGSTOP), "the run stands still")
    assert "FORCE=1" in fleet.refused("teardown")
    assert "Nothing is left but the weeks" in fleet.done("teardown", "--force")
    assert fleet.cloud.machines() == {}
    made = of_one_machine(fleet)
    assert all(made[key] == data for key, data in fleet.archive().items())


def test_an_instance_whose_disk_is_full_says_so_and_costs_nothing(fleet: Fleet) -> None:
    fleet.done("setup")
    [instance] = fleet.cloud.machines()
    fleet.cloud.trouble("fill-disk", instance=instance)
    ran = fleet.ops("smoke", "--weeks", WEEKS[0].label)
    assert ran.returncode != 0
    assert "is full" in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr
    assert fleet.objects("v2/2") == {}


Refuse = Callable[[Fleet], str]


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"BUSTIMES_SOURCE": "/somewhere"}, "which instances of EC2 cannot see"),
        ({"BUSTIMES_DESTINATION": "s3://bucket/v2;rm"}, "no bucket and prefix that can be passed"),
        ({"BUSTIMES_DESTINATION": "s3://bucket"}, "a whole bucket"),
        ({"EC2_REGION": "nowhere"}, "give a region of AWS"),
        ({"EC2_STACK": "$(reboot)"}, "give a name of 3 to 63 letters"),
        ({"AWS_PROFILE": "nobody"}, "nobody"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "no AWS credentials"),
    ],
)
def test_a_mistake_is_one_clear_message_and_nothing_is_made(
    empty_fleet: Fleet, environment: dict[str, str], words: str
) -> None:
    before = empty_fleet.everything()
    said = empty_fleet.refused("setup", **environment)
    assert words in said
    assert empty_fleet.everything() == before


@pytest.mark.parametrize("weeks", ["2021-W45;reboot", "$(reboot)", "2021-W99"])
def test_weeks_with_anything_else_in_them_are_refused(empty_fleet: Fleet, weeks: str) -> None:
    said = empty_fleet.refused("smoke", "--weeks", weeks, "--dry-run")
    assert weeks in said or "no week" in said or "make setup" in said
