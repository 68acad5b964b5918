"""Runs that are killed, interrupted or doubled: the archive is whole at every moment.

Everything here is a real process that really gets the signal. The gate holds a request, so that a
test knows what the process is at; where there is no gate, a full pipe holds it.
"""

import array
import contextlib
import dataclasses
import fcntl
import json
import os
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from ops import luigid
from tasks.bustimes import conversion, synthetic
from tasks.bustimes.archive import Archive, convert_week
from tasks.bustimes.converter import Setup
from tasks.bustimes.listing import list_week
from tasks.bustimes.snapshot import key_of
from tasks.problem import Problem
from tasks.settings import load
from tasks.storage import open_root
from tasks.storage.address import BulkSource
from tasks.storage.checksum import PART_BYTES
from tasks.weeks import Week
from tests.conftest import PROJECT, free_port
from tests.gate import DEADLINE_SECONDS, Gate

WEEK, NEXT_WEEK = Week(2021, 45), Week(2021, 46)
WEEK_FILE_NAME = f"{WEEK}.jsonl.gz"
FULL = ("full", "--local-scheduler", "--weeks", str(WEEK))
BOTH = ("full", "--local-scheduler", "--weeks", f"{WEEK},{NEXT_WEEK}", "--workers", "2")

Stage = tuple[str, str] | tuple[str, str, int]
"""What the gate is told to hold."""

LISTING = ("GET", r"list-type=2.*prefix=raw%2Fbustimes__2021-11-10")
EARLY = ("GET", r"/raw/bustimes__2021-11-08__01-")
MIDDLE = ("GET", r"/raw/bustimes__2021-11-08__09-00")
SNAPSHOT = ("GET", r"/raw/bustimes__[^?]*\.json")
REFUSED = ("PUT", r"/_refused/")
MANIFEST = ("PUT", r"/_manifests/")
WEEK_FILE = ("PUT", r"W45\.jsonl\.gz$")
CHECK = ("HEAD", r"W45\.jsonl\.gz$", 1)  # the first looks whether the week is there already
PART_2 = ("PUT", r"W45\.jsonl\.gz\?.*partNumber=2")
COMPLETION = ("POST", r"W45\.jsonl\.gz\?.*uploadId=")


def wait_until(condition: Callable[[], object], what: Callable[[], str]) -> None:
    """Wait for what only another process can bring about."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.005)


class Process:
    """``python -m ops …`` in a session of its own, as in a terminal, its words in a file."""

    def __init__(
        self,
        said: Path,
        arguments: tuple[object, ...],
        environment: dict[str, str],
        stderr: int | None,
        preexec: Callable[[], None] | None,
    ) -> None:
        self._said = said
        with said.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ops", *map(str, arguments)],
                cwd=PROJECT,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file if stderr is None else stderr,
                start_new_session=True,
                preexec_fn=preexec,
            )
        self.pid = self._process.pid

    def said(self) -> str:
        return self._said.read_text()

    def wait_until_said(self, words: str) -> None:
        wait_until(lambda: words in self.said(), lambda: f"never said {words!r}: {self.said()}")

    def kill(self) -> None:
        """kill -9 for the command itself and for nothing that it started."""
        self._process.kill()
        self._process.wait()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def ctrl_c(self) -> None:
        """What a terminal does: every process of the command's group gets it."""
        os.killpg(self.pid, signal.SIGINT)

    def wait(self) -> int:
        try:
            return self._process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"does not end: {self.said()}") from None

    def others(self) -> dict[int, str]:
        """The processes that it started and that live, by number, with their command lines."""
        found = {}
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                state, _, _, session, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(session) == self.pid != int(folder.name) and state not in "ZX":
                    found[int(folder.name)] = (folder / "cmdline").read_text()
        return found

    def converters(self) -> list[int]:
        return [pid for pid, line in self.others().items() if "tasks.bustimes.converter" in line]

    def wait_until_nothing_is_left(self) -> None:
        wait_until(lambda: not self.others(), lambda: f"still there: {self.others()}")

    def end(self) -> None:
        for pid in (self.pid, *self.others()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()


Start = Callable[..., Process]


@dataclass(frozen=True)
class Place:
    """A source, a destination and a spool, looked at past the gate."""

    source: str
    destination: str
    spool: Path
    environment: dict[str, str]

    def files(self) -> dict[str, bytes]:
        """Everything at the destination, hidden files included."""
        if not self.destination.startswith("s3://"):
            folder = Path(self.destination)
            paths = [path for path in folder.rglob("*") if path.is_file()]
            return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        objects = self._bucket.objects.filter(Prefix="v2/")
        return {one.key.removeprefix("v2/"): one.get()["Body"].read() for one in objects}

    def week_file(self, week: Week = WEEK) -> bytes | None:
        return self.files().get(f"{week}.jsonl.gz")

    def uploads(self) -> list[str]:
        """Uploads that were begun and neither completed nor given up."""
        return [upload.object_key for upload in self._bucket.multipart_uploads.all()]

    def spooled(self) -> list[Path]:
        """The files that lie in the spool, but for locks, which are kept."""
        paths = [path for path in self.spool.rglob("*") if path.is_file()]
        return [path for path in paths if path.suffix != ".lock"]

    def with_spool(self, spool: Path) -> "Place":
        return dataclasses.replace(
            self, spool=spool, environment=self.environment | {"BUSTIMES_SPOOL": str(spool)}
        )

    @property
    def _bucket(self) -> Any:
        name = self.source.removeprefix("s3://")
        return boto3.resource("s3", region_name="us-east-1").Bucket(name)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts commands, and ends those that a test left running."""
    started: list[Process] = []

    def start(
        place: Place,
        *arguments: object,
        stderr: int | None = None,
        preexec: Callable[[], None] | None = None,
        **environment: str,
    ) -> Process:
        said = tmp_path / f"said-{len(started)}"
        environment = place.environment | environment
        started.append(Process(said, arguments, environment, stderr, preexec))
        return started[-1]

    yield start
    for process in started:
        process.end()


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve hours of two weeks, in each of which one snapshot cannot be read."""
    folder = tmp_path_factory.mktemp("raw")
    for week in (WEEK, NEXT_WEEK):
        synthetic.write_folder(
            folder,
            week.start,
            week.start.replace(hour=12),
            interval_seconds=1800,
            vehicles=60,
            unreadable=1,
        )
    return folder


@pytest.fixture(scope="session")
def large_raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three snapshots that hardly compress: their week file is too long for one part."""
    folder = tmp_path_factory.mktemp("large")
    digits = random.Random(0)
    (folder / "raw").mkdir()
    for hour in range(3):
        records = [
            {"vehicleID": n, "signMessage": digits.randbytes(1500).hex()} for n in range(2100)
        ]
        key = key_of(WEEK.start.replace(hour=hour))
        (folder / key).write_text(json.dumps(records))
    return folder


@pytest.fixture
def gate(s3_server: str) -> Iterator[Gate]:
    with Gate(s3_server) as gate:
        yield gate


Fill = Callable[[Path], Place]


@pytest.fixture
def fill(bucket: str, gate: Gate, tmp_path: Path) -> Fill:
    """Puts raw snapshots into a bucket, and the gate between it and whatever is started."""

    def fill(raw: Path) -> Place:
        for path in (raw / "raw").iterdir():
            open_root(bucket).write(f"raw/{path.name}", path.read_bytes())
        return place_of(bucket, f"{bucket}/v2", tmp_path / "spool", AWS_ENDPOINT_URL_S3=gate.url)

    return fill


@pytest.fixture
def place(fill: Fill, raw: Path) -> Place:
    return fill(raw)


def place_of(source: str, destination: str, spool: Path, **environment: str) -> Place:
    settings = {
        "BUSTIMES_SOURCE": source,
        "BUSTIMES_DESTINATION": destination,
        "BUSTIMES_SPOOL": str(spool),
        "BUSTIMES_PROCESSES": "2",
    }
    return Place(source, destination, spool, settings | environment)


_undisturbed: dict[str, dict[str, bytes]] = {}


def undisturbed(place: Place, *weeks: Week) -> dict[str, bytes]:
    """What a run without any disturbance makes of the same snapshots."""
    source = open_root(place.source)
    files: dict[str, bytes] = {}
    for week in weeks or (WEEK,):
        listing = list_week(source, week).fingerprint
        if listing not in _undisturbed:
            with tempfile.TemporaryDirectory() as folder:
                settings = dataclasses.replace(load(), spool=Path(folder) / "spool")
                destination = f"{folder}/out"
                archive = Archive(settings, source, open_root(destination))
                convert_week(archive, week, "", 1, lambda _listing: lambda _hour: None, print)
                _undisturbed[listing] = Place("", destination, settings.spool, {}).files()
        files |= _undisturbed[listing]
    return files


def complete(place: Place, start: Start, *arguments: object) -> str:
    """Run again, to the end, and check that all is as if nothing had happened; what was said."""
    run = start(place, *(arguments or FULL))
    assert run.wait() == 0, run.said()
    weeks = (WEEK, NEXT_WEEK) if arguments == BOTH else (WEEK,)
    assert place.files() == undisturbed(place, *weeks)
    assert place.spooled() == []
    if place.source.startswith("s3://"):
        assert place.uploads() == []
    assert "Traceback" not in run.said()
    return run.said()


@pytest.mark.parametrize("stage", [LISTING, EARLY, MIDDLE], ids=["listing", "fetching", "later"])
def test_killed_before_the_week_is_converted_it_leaves_nothing_and_the_next_run_completes_it(
    place: Place, start: Start, gate: Gate, stage: Stage
) -> None:
    held = gate.hold(*stage)
    run = start(place, *FULL)
    held.wait()
    run.kill()
    run.wait_until_nothing_is_left()
    held.lose()
    assert place.files() == {}
    complete(place, start)


def test_killed_while_it_writes_it_leaves_nothing_at_the_destination(
    place: Place, start: Start, gate: Gate
) -> None:
    held = gate.hold(*MIDDLE)
    run = start(place, *FULL)
    held.wait()
    wait_until(lambda: any(path.stat().st_size for path in place.spooled()), run.said)
    run.kill()
    run.wait_until_nothing_is_left()
    held.lose()
    assert place.files() == {}
    assert [path.name for path in place.spooled() if path.suffix == ".gz"] == [WEEK_FILE_NAME]
    complete(place, start)


@pytest.mark.parametrize(
    ("stage", "arrives"),
    [(REFUSED, False), (MANIFEST, False), (WEEK_FILE, False), (WEEK_FILE, True), (CHECK, False)],
    ids=["refused object", "manifest", "week file", "week file, arriving", "check"],
)
def test_killed_while_it_publishes_the_next_run_does_so_without_converting_again(
    place: Place, start: Start, gate: Gate, stage: Stage, arrives: bool
) -> None:
    check_publishing(place, start, gate, stage, arrives)


@pytest.mark.parametrize(
    ("stage", "arrives"),
    [(PART_2, False), (COMPLETION, False), (COMPLETION, True)],
    ids=["part", "completion", "completion, arriving"],
)
def test_killed_while_it_uploads_in_parts_the_next_run_gives_them_up_and_uploads_again(
    fill: Fill, large_raw: Path, start: Start, gate: Gate, stage: Stage, arrives: bool
) -> None:
    place = fill(large_raw)
    check_publishing(place, start, gate, stage, arrives)
    week_file = place.week_file()
    assert week_file is not None
    assert len(week_file) > PART_BYTES


def check_publishing(place: Place, start: Start, gate: Gate, stage: Stage, arrives: bool) -> None:
    held = gate.hold(*stage)
    run = start(place, *FULL)
    held.wait()
    run.kill()
    run.wait_until_nothing_is_left()
    if arrives:
        before = gate.answered
        held.release()
        gate.wait_until_answered(before + 1)
    else:
        held.lose()
    assert place.week_file() in (None, undisturbed(place)[WEEK_FILE_NAME])
    fetched = gate.count(*SNAPSHOT)
    said = complete(place, start)
    assert gate.count(*SNAPSHOT) == fetched
    assert "uploaded from the spool" in said


def test_killed_while_it_replaces_a_week_the_next_run_finishes_that(
    place: Place, start: Start, gate: Gate
) -> None:
    complete(place, start)
    late = key_of(WEEK.start.replace(hour=20))
    open_root(place.source).write(late, b"[]")
    held = gate.hold(*WEEK_FILE)
    run = start(place, *FULL, "--refresh")
    held.wait()
    run.kill()
    run.wait_until_nothing_is_left()
    held.lose()
    fetched = gate.count(*SNAPSHOT)
    complete(place, start)
    assert gate.count(*SNAPSHOT) == fetched


def test_killed_with_two_weeks_under_way_it_leaves_no_process_behind(
    place: Place, start: Start, gate: Gate
) -> None:
    held, other = gate.hold(*MIDDLE), gate.hold("GET", r"/raw/bustimes__2021-11-15__09-00")
    run = start(place, *BOTH)
    held.wait()
    other.wait()
    run.kill()
    run.wait_until_nothing_is_left()
    held.lose()
    other.lose()
    assert place.files() == {}
    complete(place, start, *BOTH)


def test_an_upload_whose_note_was_lost_costs_the_destination_nothing(
    fill: Fill, large_raw: Path, start: Start, gate: Gate
) -> None:
    place = fill(large_raw)
    held = gate.hold("POST", r"W45\.jsonl\.gz\?uploads")
    run = start(place, *FULL)
    held.wait()
    run.kill()
    held.lose()
    [week_file] = [path for path in place.spooled() if path.name == WEEK_FILE_NAME]
    week_file.with_name(f"{WEEK_FILE_NAME}.upload").touch()
    complete(place, start)
    assert gate.count("DELETE", WEEK_FILE_NAME) == 0


def test_killed_between_two_folders_it_leaves_nothing_and_the_next_run_completes_it(
    raw: Path, start: Start, tmp_path: Path
) -> None:
    """Every hour says that something is set aside, into a pipe that holds little of it."""
    source = tmp_path / "in"
    shutil.copytree(raw, source)
    for minute in range(1, 60):
        at = WEEK.start.replace(hour=6 + minute % 6, minute=minute)
        (source / key_of(at)).write_bytes(b"broken")
    place = place_of(str(source), str(tmp_path / "out"), tmp_path / "spool")
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    run = start(place, *FULL, stderr=writing)
    os.close(writing)
    with open(reading, "rb", buffering=0) as said:
        unread = array.array("i", [0])

        def is_full() -> bool:
            fcntl.ioctl(said, termios.FIONREAD, unread)
            return unread[0] > 4096 - 200

        wait_until(is_full, run.said)
        run.kill()
    run.wait_until_nothing_is_left()
    assert any(path.stat().st_size for path in place.spooled() if path.suffix == ".gz")
    assert place.files() == {}
    leftover = Path(place.destination) / f".{WEEK_FILE_NAME}.tmp-{run.pid}"
    leftover.write_bytes(b"half a week")
    complete(place, start)


def test_a_killed_converter_process_ends_the_run_with_a_sentence(
    place: Place, start: Start, gate: Gate
) -> None:
    """Both are at work when one is killed: the end of one that has nothing to do harms nothing."""
    held = [gate.hold("GET", rf"/raw/bustimes__2021-11-08__{hour}-") for hour in ("00", "01")]
    run = start(place, *FULL)
    for one in held:
        one.wait()
    os.kill(run.converters()[0], signal.SIGKILL)
    assert run.wait() == 1
    for one in held:
        one.lose()
    run.wait_until_nothing_is_left()
    assert "A converter process ended in the middle (exit status -9)" in run.said()
    assert "Traceback" not in run.said()
    assert place.files() == {}
    complete(place, start)


@pytest.mark.parametrize(
    ("messages_read", "answer"),
    [(0, b""), (3, b""), (3, struct.pack("!i", 1000) + b"and no more")],
    ids=["before it has read anything", "at work", "in the middle of its answer"],
)
def test_a_converter_process_may_die_at_any_moment(
    messages_read: int, answer: bytes, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a script here that kills itself: nothing else could be sure of the moment."""
    script = tmp_path / "tasks" / "bustimes" / "converter.py"
    script.parent.mkdir(parents=True)
    for folder in (script.parent, script.parent.parent):
        (folder / "__init__.py").touch()
    script.write_text(
        "import os, signal, struct, sys\n"
        "fd = int(sys.argv[1])\n"
        f"for _ in range({messages_read}):\n"
        "    left = struct.unpack('!i', os.read(fd, 4))[0]\n"
        "    while left:\n"
        "        left -= len(os.read(fd, left))\n"
        f"os.write(fd, {answer!r})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    monkeypatch.setattr(conversion, "PROJECT", tmp_path)
    hours = list_week(open_root(str(raw)), WEEK).by_hour()
    setup = Setup(BulkSource(str(raw), folder=raw), 1, 1 << 20, "vehicle", 1, tmp_path)
    with pytest.raises(Problem, match=r"ended in the middle \(exit status -9\)"):
        list(conversion.convert_hours(hours, setup, 1, lambda: None))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    ("command", "stage"),
    [(FULL, MIDDLE), (FULL, WEEK_FILE), (BOTH, MIDDLE)],
    ids=["converting", "publishing", "two weeks at once"],
)
def test_interrupted_it_says_so_in_a_sentence_and_the_next_run_completes(
    place: Place,
    start: Start,
    gate: Gate,
    command: tuple[str, ...],
    number: int,
    code: int,
    stage: Stage,
) -> None:
    held = gate.hold(*stage)
    run = start(place, *command)
    held.wait()
    if number == signal.SIGINT:
        run.ctrl_c()
    else:
        run.signal(number)
    assert run.wait() == code, run.said()
    run.wait_until_nothing_is_left()
    held.lose()
    assert "the next run goes on from here" in run.said()
    assert "Traceback" not in run.said()
    assert place.week_file() is None
    complete(place, start, *command)


def test_interrupted_while_its_converter_processes_start_it_says_so_in_a_sentence(
    place: Place, start: Start, gate: Gate
) -> None:
    held = gate.hold(*SNAPSHOT)
    run = start(place, *FULL)
    wait_until(run.converters, run.said)
    run.ctrl_c()
    assert run.wait() == 130
    run.wait_until_nothing_is_left()
    held.lose()
    assert "Traceback" not in run.said()


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
    assert gate.count(*MIDDLE) == 1 + first_is_killed
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
