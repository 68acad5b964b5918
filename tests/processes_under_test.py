"""Real runs to kill, hold or double: the process, its places, and what is due there in the end."""

import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from tasks.bustimes import synthetic
from tasks.bustimes.archive import Archive, convert_week
from tasks.bustimes.listing import list_week
from tasks.bustimes.snapshot import key_of
from tasks.settings import load
from tasks.storage import open_root
from tasks.weeks import Week
from tests.archives import archive_in, same_in_every_run
from tests.conftest import PROJECT
from tests.gate import DEADLINE_SECONDS, Gate

WEEK, NEXT_WEEK = Week(2021, 45), Week(2021, 46)
WEEK_FILE_NAME = f"{WEEK}.jsonl.gz"
FULL = ("full", "--local-scheduler", "--weeks", str(WEEK))
BOTH = ("full", "--local-scheduler", "--weeks", f"{WEEK},{NEXT_WEEK}", "--workers", "2")

Stage = tuple[str, str] | tuple[str, str, int]
"""What the gate is told to hold."""

MIDDLE = ("GET", r"/raw/bustimes__2021-11-08__09-00")
SNAPSHOT = ("GET", r"/raw/bustimes__[^?]*\.json")
WEEK_FILE = ("PUT", r"W45\.jsonl\.gz$")


def wait_until(condition: Callable[[], object], what: Callable[[], str]) -> None:
    """Wait for what only another process can bring about."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.005)


def is_gone(pid: int) -> bool:
    """Whether a process has ended, though nobody may have taken notice of that yet.

    The system takes its files, and with them its locks, a moment before.
    """
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    return True


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
        """The processes that convert, without the one that they are forks of."""
        there = [pid for pid, line in self.others().items() if "tasks.bustimes.converter" in line]
        return [pid for pid in there if _parent_of(pid) in there]

    def wait_until_nothing_is_left(self) -> None:
        wait_until(lambda: not self.others(), lambda: f"still there: {self.others()}")

    def end(self) -> None:
        for pid in (self.pid, *self.others()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()


def _parent_of(pid: int) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return None


Start = Callable[..., Process]


@dataclass(frozen=True)
class Place:
    """A source, a destination and a spool, looked at past the gate."""

    source: str
    destination: str
    spool: Path
    environment: dict[str, str]

    def files(self) -> dict[str, bytes]:
        """Everything at the destination, hidden files included, that is the same in every run."""
        if not self.destination.startswith("s3://"):
            folder = Path(self.destination)
            return archive_in(folder)
        objects = self._bucket.objects.filter(Prefix="v2/")
        files = {one.key.removeprefix("v2/"): one.get()["Body"].read() for one in objects}
        return same_in_every_run(files)

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
