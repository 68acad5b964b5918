"""`make restore` killed in the middle, and twice at once: the same folder as without all that."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from tasks.bustimes.archive import Archive, convert_week
from tasks.bustimes.restore import restore
from tasks.bustimes.snapshot import key_of, time_of
from tasks.settings import load
from tasks.storage import open_root
from tests.gate import Gate
from tests.processes_under_test import WEEK, Fill, Place, Process, Start, wait_until

pytestmark = pytest.mark.soak

HOURS, MINUTES = 3, 25
RESTORE = ("restore", "--week", WEEK, "--to")

Files = dict[str, bytes]


@pytest.fixture
def converted(fill: Fill, tmp_path: Path) -> tuple[Place, Files]:
    """A week of many small snapshots in a bucket, and what restoring it gives undisturbed."""
    folder = tmp_path / "raw"
    (folder / "raw").mkdir(parents=True)
    for number in range(HOURS * MINUTES):
        time = WEEK.start + timedelta(hours=number // MINUTES, minutes=number % MINUTES)
        records = [{"vehicleID": vehicle, "delay": number} for vehicle in range(number % 7)]
        (folder / key_of(time)).write_text(json.dumps(records))
    place = fill(folder)
    archive = Archive(load(), open_root(place.source), open_root(place.destination))
    convert_week(archive, WEEK, "", 1, lambda _listing: lambda _hour: None, print)
    restore(archive, WEEK, open_root(str(tmp_path / "due")))
    due = files_in(tmp_path / "due")
    assert len(due) == HOURS * MINUTES
    return place, due


def files_in(folder: Path) -> Files:
    """All files, hidden ones too."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def assert_some_of(there: Files, due: Files) -> None:
    """Whatever has a snapshot's name is a whole one."""
    for name, data in there.items():
        if time_of(name) is not None:
            assert data == due[name]


def done(run: Process) -> None:
    assert run.wait() == 0, run.said()
    assert "Traceback" not in run.said()
    assert f"{HOURS * MINUTES} snapshots with " in run.said()


def test_a_restore_that_is_killed_again_and_again_is_completed_by_the_next(
    converted: tuple[Place, Files], start: Start, tmp_path: Path, gate: Gate
) -> None:
    place, due = converted
    back = tmp_path / "back"
    hold = gate.hold("GET", r"W45\.jsonl\.gz$", after=1)
    run = start(place, *RESTORE, back)
    hold.wait()  # between two hours
    run.kill()
    hold.lose()
    assert len(files_in(back)) == MINUTES
    assert_some_of(files_in(back), due)
    for _ in range(2):  # while files are written
        for name in list(due)[::2]:
            (back / name).unlink(missing_ok=True)
        before = len(list(back.rglob("*.json")))
        run = start(place, *RESTORE, back)
        wait_until(lambda: len(list(back.rglob("*.json"))) > before + 5, run.said)  # noqa: B023
        run.kill()
        assert_some_of(files_in(back), due)
    dead = Path("/proc/sys/kernel/pid_max").read_text().strip()
    name = min(due)
    (back / name).with_name(f".{Path(name).name}.tmp-{dead}").write_bytes(due[name][:5])
    (back / f".probe.tmp-{dead}").touch()
    done(start(place, *RESTORE, back))
    assert files_in(back) == due


def test_a_restore_to_a_bucket_that_is_killed_is_completed_by_the_next(
    converted: tuple[Place, Files], start: Start, gate: Gate
) -> None:
    place, due = converted
    back = f"{place.source}/back"
    hold = gate.hold("PUT", r"/back/raw/", after=30)
    run = start(place, *RESTORE, back)
    hold.wait()
    run.kill()
    hold.release()  # it arrives, and nobody hears of it
    assert 0 < len(in_bucket(back)) < len(due)
    assert_some_of(in_bucket(back), due)
    done(start(place, *RESTORE, back))
    assert in_bucket(back) == due


def in_bucket(url: str) -> Files:
    root = open_root(url)
    return {one.key: root.read(one.key) for one in root.objects("")}


@pytest.mark.parametrize("is_folder", [True, False], ids=["folder", "bucket"])
def test_two_at_once_into_the_same_place_make_what_one_makes(
    converted: tuple[Place, Files], start: Start, gate: Gate, tmp_path: Path, is_folder: bool
) -> None:
    place, due = converted
    back = str(tmp_path / "back") if is_folder else f"{place.source}/back"
    hold = gate.hold("GET", r"W45\.jsonl\.gz$")
    first = start(place, *RESTORE, back)
    hold.wait()
    also = gate.hold("GET", r"W45\.jsonl\.gz$")
    second = start(place, *RESTORE, back)
    also.wait()  # both stand before the first hour
    hold.release()
    also.release()
    done(first)
    done(second)
    assert (files_in(Path(back)) if is_folder else in_bucket(back)) == due
