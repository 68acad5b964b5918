"""Runs that meet another run, a full disk, a refusal or a long week: each week is converted once
and whole, or a sentence says what stands in the way. All are real processes, held by the gate.
"""

import datetime as dt
import hashlib
import json
import random
import re
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ops import luigid
from tasks.bustimes import standing
from tasks.bustimes.snapshot import key_of
from tasks.storage import open_root
from tasks.weeks import Week
from tests.conftest import PROJECT, free_port
from tests.gate import Gate
from tests.processes_under_test import (
    BOTH,
    FULL,
    MIDDLE,
    NEXT_WEEK,
    SNAPSHOT,
    WEEK,
    WEEK_FILE,
    Fill,
    Place,
    Start,
    complete,
)

pytestmark = pytest.mark.soak


def test_two_runs_of_a_week_on_one_machine_convert_it_once(
    place: Place, start: Start, gate: Gate
) -> None:
    held = gate.hold(*MIDDLE)
    first = start(place, *FULL)
    held.wait()
    second = start(place, *FULL)
    second.wait_until_said("another run is at it; waiting")
    held.release()
    assert (first.wait(), second.wait()) == (0, 0)
    assert gate.count(*MIDDLE) == 1
    assert "was finished by another run" in second.said()
    complete(place, start)


def test_two_runs_of_a_week_on_two_machines_write_the_same(
    place: Place, start: Start, gate: Gate, tmp_path: Path
) -> None:
    """Each is held before it publishes, so that both have converted the week."""
    first_held = gate.hold(*WEEK_FILE)
    first = start(place, *FULL)
    first_held.wait()
    second_held = gate.hold(*WEEK_FILE)
    second = start(place.with_spool(tmp_path / "other-spool"), *FULL)
    second_held.wait()
    second_held.release()
    assert second.wait() == 0
    first_held.release()
    assert first.wait() == 0
    assert gate.count(*MIDDLE) == 2
    complete(place, start)


def test_what_another_machine_wrote_meanwhile_stays(place: Place, start: Start, gate: Gate) -> None:
    held = gate.hold(*WEEK_FILE)
    run = start(place, *FULL)
    held.wait()
    destination = open_root(place.destination)
    destination.write(f"{WEEK}.jsonl.gz", b"of another machine, with snapshots that came later")
    held.release()
    assert run.wait() == 1
    assert f"{WEEK}.jsonl.gz was written by somebody else meanwhile" in run.said()
    assert place.week_file() == b"of another machine, with snapshots that came later"
    assert place.spooled() == []


def add_late_snapshot(place: Place) -> None:
    """What a machine that lists the week from now on finds besides."""
    open_root(place.source).write(key_of(WEEK.start.replace(hour=20)), b'[{"vehicleID": 7}]')


def check_manifest(place: Place) -> None:
    """The manifest is that of the week file which is there."""
    week_file = place.week_file()
    assert week_file is not None
    manifest = json.loads(place.files()[f"_manifests/{WEEK}.json"])
    assert manifest["output"]["sha256"] == hashlib.sha256(week_file).hexdigest()


@pytest.mark.parametrize("first_is_first", [True, False])
def test_of_two_machines_that_list_a_week_differently_one_writes_both_file_and_manifest(
    place: Place, start: Start, gate: Gate, tmp_path: Path, first_is_first: bool
) -> None:
    """Both are at the week file when both have written a manifest."""
    held = gate.hold(*WEEK_FILE)
    run = start(place, *FULL)
    held.wait()
    add_late_snapshot(place)
    other_held = gate.hold(*WEEK_FILE)
    other = start(place.with_spool(tmp_path / "other-spool"), *FULL)
    other_held.wait()
    in_order = [(held, run), (other_held, other)]
    codes = []
    for one_held, one in in_order if first_is_first else reversed(in_order):
        one_held.release()
        codes.append(one.wait())
    assert codes == [0, 1], run.said() + other.said()
    check_manifest(place)


def test_a_machine_that_was_cut_off_leaves_file_and_manifest_of_the_one_that_went_on(
    place: Place, start: Start, gate: Gate, tmp_path: Path
) -> None:
    held = gate.hold(*MIDDLE)
    run = start(place, *FULL)
    held.wait()
    add_late_snapshot(place)
    assert start(place.with_spool(tmp_path / "other-spool"), *FULL).wait() == 0
    before = place.files()
    held.release()
    assert run.wait() == 1
    assert "was written by somebody else meanwhile" in run.said()
    assert place.files() == before
    check_manifest(place)


def test_asked_to_stop_a_run_finishes_its_week_and_takes_no_more(
    place: Place, start: Start, gate: Gate, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    held = gate.hold(*MIDDLE)
    command = ("full", "--local-scheduler", "--weeks", f"{WEEK},{NEXT_WEEK}")
    run = start(place, *command, LOCAL_STATE=str(state))
    held.wait()
    assert standing.read(state / "progress.json").running.keys() == {str(WEEK)}
    run.signal(signal.SIGUSR1)
    held.release()
    assert run.wait() == 1
    assert "Asked to stop: no more weeks are taken." in run.said()
    assert place.week_file(WEEK) is not None
    assert place.week_file(NEXT_WEEK) is None
    told = standing.read(state / "progress.json")
    assert (told.to_do, told.weeks_done, told.running) == (2, [str(WEEK)], {})
    assert (told.snapshots, told.raw_bytes > 0, told.errors) == (24, True, [])
    complete(place, start, *BOTH)


def test_a_scheduler_that_goes_away_costs_no_week(
    place: Place, start: Start, gate: Gate, tmp_path: Path
) -> None:
    service = luigid.make_service(tmp_path / "luigid", free_port(), PROJECT / "luigi.cfg")
    service.start()
    held = gate.hold(*MIDDLE)
    run = start(place, "full", "--scheduler", service.address, "--weeks", f"{WEEK},{NEXT_WEEK}")
    held.wait()
    service.stop()
    held.release()
    assert run.wait() == 1
    assert f"The Luigi scheduler at {service.address} does not answer any more." in run.said()
    assert "Traceback" not in run.said()
    assert place.week_file(WEEK) is not None
    complete(place, start, *BOTH)
    assert gate.count(*MIDDLE) == 1


@pytest.fixture
def luigid_port(tmp_path: Path) -> Iterator[str]:
    """luigid with the settings of luigi.cfg, but quicker to notice that a run was killed."""
    settings = (PROJECT / "luigi.cfg").read_text()
    quick = re.sub(r"(?m)^worker_disconnect_delay = .*", "worker_disconnect_delay = 3", settings)
    (tmp_path / "quick.cfg").write_text(quick)
    port = free_port()
    service = luigid.make_service(tmp_path / "luigid", port, tmp_path / "quick.cfg")
    service.start()
    yield str(port)
    service.stop()


@pytest.mark.parametrize("first_is_killed", [False, True], ids=["finished", "killed"])
def test_two_runs_that_share_luigid_convert_a_week_once_and_one_takes_over_from_the_other(
    place: Place,
    start: Start,
    gate: Gate,
    tmp_path: Path,
    luigid_port: str,
    first_is_killed: bool,
) -> None:
    shared = {"LOCAL_LUIGID_PORT": luigid_port, "LOCAL_STATE": str(tmp_path / "luigid")}
    command = ("full", "--weeks", str(WEEK))
    held = gate.hold(*MIDDLE)
    first = start(place, *command, **shared)
    held.wait()
    second = start(place, *command, **shared)
    second.wait_until_said("Another run has some of these weeks under way; waiting for it.")
    if first_is_killed:
        first.kill()
        held.lose()
    else:
        held.release()
        assert first.wait() == 0
    assert second.wait() == 0, second.said()
    if first_is_killed:
        assert gate.count(*MIDDLE) >= 2  # on a busy machine a slow answer is asked for again
    else:
        assert gate.count(*MIDDLE) == 1
    complete(place, start)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_run_says_so_in_its_logs_and_luigid_knows_it_at_once(
    place: Place, start: Start, gate: Gate, tmp_path: Path, luigid_port: str, workers: int
) -> None:
    shared = {"LOCAL_LUIGID_PORT": luigid_port, "LOCAL_STATE": str(tmp_path / "luigid")}
    held = gate.hold(*MIDDLE)
    run = start(place, "full", "--weeks", str(WEEK), "--workers", workers, **shared)
    held.wait()
    run.ctrl_c()
    assert run.wait() == 130, run.said()
    status = start(place, "status", "--weeks", str(WEEK), **shared)
    assert status.wait() == 0
    assert "running" not in status.said().replace("not running", "")
    assert f"to do     {WEEK}" in status.said()
    held.lose()
    logs = tmp_path / "luigid/log"
    for name in ("full.log", "full.jsonl"):
        assert "Interrupted. What is finished is kept" in (logs / name).read_text(), name
    complete(place, start)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], None] | None]]:
    """A folder with little room, and what to do in a process for it to have so little.

    A small file system of its own where that may be mounted, which takes root; elsewhere the
    process may write no long file, which the system refuses in the same place.
    """
    folder = tmp_path / "small"
    folder.mkdir()
    if shutil.which("mount") and _mounts(folder):
        yield folder, None
        subprocess.run(["umount", str(folder)], check=True)
    else:
        yield folder, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5 << 20, 5 << 20))


def _mounts(folder: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("with_what", ["the week file", "an unreadable snapshot"])
def test_a_full_disk_is_named_with_what_to_do_about_it(
    with_what: str,
    fill: Fill,
    large_raw: Path,
    tmp_path: Path,
    start: Start,
    full_disk: tuple[Path, Callable[[], None] | None],
) -> None:
    raw = large_raw
    if with_what == "an unreadable snapshot":
        raw = tmp_path / "unreadable"
        (raw / "raw").mkdir(parents=True)
        (raw / key_of(WEEK.start)).write_bytes(b"x" * (6 << 20))
        (raw / key_of(WEEK.end - dt.timedelta(minutes=1))).write_bytes(b"[]")  # half may be bad
    small, limit = full_disk
    place = fill(raw).with_spool(small)
    run = start(place, *FULL, preexec=limit)
    assert run.wait() == 1, run.said()
    run.wait_until_nothing_is_left()
    assert f"The spool folder {small}" in run.said()
    assert "set spool to" in run.said()
    assert "Traceback" not in run.said()
    assert place.files() == {}
    if limit is None:
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
    complete(place, start)


def test_a_week_that_cannot_be_uploaded_waits_in_the_spool_for_sync(
    place: Place, start: Start, gate: Gate
) -> None:
    """Refused with 403, as boto3 tries the others for half a minute."""
    refusal = gate.refuse(*WEEK_FILE, status=403)
    run = start(place, *FULL)
    assert run.wait() == 1
    assert "is finished and waits in" in run.said()
    assert "make sync" in run.said()
    assert "Traceback" not in run.said()
    assert place.week_file() is None
    refusal.end()
    fetched = gate.count(*SNAPSHOT)
    sync = start(place, "sync")
    assert sync.wait() == 0
    assert f"{WEEK} uploaded and confirmed" in sync.said()
    assert gate.count(*SNAPSHOT) == fetched
    complete(place, start)


def test_memory_does_not_grow_with_the_week(
    fill: Fill, start: Start, gate: Gate, tmp_path: Path
) -> None:
    """Both runs are looked at when they ask for the last hour of theirs."""
    peaks = []
    for label, hours in (("2021-W47", 4), ("2021-W48", 16)):
        week = Week.parse(label)
        raw = tmp_path / label
        write_even_hours(raw, week, hours)
        place = fill(raw)
        last = key_of(week.start.replace(hour=hours - 1))
        held = gate.hold("GET", re.escape(last))
        command = ("full", "--local-scheduler", "--weeks", label)
        run = start(place, *command, BUSTIMES_PROCESSES="1")
        held.wait()
        peaks.append(sum(map(peak_kib, [run.pid, *run.converters()])))
        held.release()
        assert run.wait() == 0
    small, large = peaks
    assert large < 1.1 * small


def write_even_hours(folder: Path, week: Week, hours: int) -> None:
    """Hours of the same megabyte each."""
    (folder / "raw").mkdir(parents=True)
    digits = random.Random(0)
    records = [{"vehicleID": n, "signMessage": digits.randbytes(500).hex()} for n in range(1000)]
    body = json.dumps(records)
    for hour in range(hours):
        (folder / key_of(week.start.replace(hour=hour))).write_text(body)


def peak_kib(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])
