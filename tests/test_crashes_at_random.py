"""Runs of several weeks that are crashed at moments drawn from seeds, and then finished.

``make soak CRASHES=500 PYTEST=tests/test_crashes_at_random.py`` crashes them so many times in place
of fifty. Each sequence of crashes has a seed, which is its test's name; one that fails says what
was done to it when. The same seed strikes at the same requests again: as the third UploadPart
comes, or when the server has done it and nobody knows yet.

A run is killed, alone or with all that it started, or one of its processes is, or luigid, or the
server goes down for a while. Then it is run again, and struck again, until a run is through: the
bucket then holds what an undisturbed run leaves, byte by byte, and nothing else. Twice for each
archive: when it is made, and when late snapshots are added to it.
"""

import os
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ops import luigid
from tests.conftest import PROJECT, free_port
from tests.crashes import blows, world
from tests.crashes.moments import Front
from tests.crashes.world import LUIGI, OPS, Run, World
from tests.processes_under_test import wait_until

pytestmark = pytest.mark.soak

CRASHES = int(os.environ.get("CRASHES", "50"))
EACH = 10
_WEEKS = ["--weeks", world.LABELS]
_LUIGI = [LUIGI, "--module", "tasks", "AllWeeks", "--local-scheduler", "--log-level", "WARNING"]

WHY = re.compile(r"ended in the middle|does not answer|cannot be (listed|looked at|read|written)")

Command = tuple[list[str], dict[str, str]]

COMMANDS: dict[str, Command] = {
    "one week at a time": ([OPS, "full", "--local-scheduler"], {"BUSTIMES_PROCESSES": "2"}),
    "two weeks at once": ([OPS, "full", "--local-scheduler", "--workers", "2"], {}),
    "with luigid": ([OPS, "full", "--workers", "2"], {}),
    "plain luigi": ([*_LUIGI, "--workers", "2"], {}),
}
ORDER = [*COMMANDS, "two weeks at once"]


@dataclass
class Due:
    """What an undisturbed run leaves, and so many requests of each operation it makes."""

    made: dict[str, bytes]
    requests: "Counter[str]"


@dataclass
class Ground:
    """The server and what is due on it, for all sequences."""

    server_url: str
    raw: dict[str, bytes]
    late: dict[str, bytes]
    due: dict[str, Due] = field(default_factory=dict)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("crashes")
    with world.server(folder) as url, Front(url) as front:
        ground = Ground(url, world.raw_snapshots(), world.late_snapshots())
        undisturbed = World(url, front.url, folder, "undisturbed")
        command, environment = COMMANDS["one week at a time"]
        for stage, bodies in stages(ground):
            undisturbed.fill(bodies, keep=stage == "refresh")
            before = len(front.control.requests())
            run = undisturbed.start(arguments(command, stage), folder / "said", **environment)
            assert run.wait() == 0, run.said()
            requests = front.control.requests()[before:]
            counts = Counter(one.operation for one in requests)
            ground.due[stage] = Due(undisturbed.made(), counts)
        yield ground


def stages(ground: Ground) -> list[tuple[str, dict[str, bytes]]]:
    return [("full", ground.raw), ("refresh", ground.raw | ground.late)]


def arguments(command: list[str], stage: str) -> list[str]:
    return ["-c", *command, *_WEEKS, *(["--refresh"] if stage == "refresh" else [])]


def test_undisturbed_runs_do_all_that_a_crash_should_meet(ground: Ground) -> None:
    for due in ground.due.values():
        assert due.requests.keys() >= {
            *("ListObjectsV2", "GetObject", "HeadObject", "PutObject"),
            *("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"),
        }
    assert len([key for key in ground.due["full"].made if "/_refused/" in key]) == len(world.WEEKS)
    first, second = (due.made for due in ground.due.values())
    assert [key for key in first if first[key] != second[key]] == [
        f"v2/{part}{week}{end}"
        for part, end in (("", ".jsonl.gz"), ("_manifests/", ".json"))
        for week in world.WEEKS[1:]
    ]


@pytest.mark.parametrize("seed", range(-(-CRASHES // EACH)))
def test_whatever_crashes_when_the_next_run_makes_the_same_of_it(
    seed: int, ground: Ground, tmp_path: Path
) -> None:
    with Front(ground.server_url) as front:
        sequence = Sequence(seed, ground, front, tmp_path)
        try:
            sequence.go()
        except BaseException:
            print("\n".join([*sequence.log, sequence.said()]))
            raise
        finally:
            sequence.end()


class Sequence:
    """Runs after one another, which are struck so many times in all."""

    def __init__(self, seed: int, ground: Ground, front: Front, folder: Path) -> None:
        self._chance = random.Random(seed)
        self._ground, self._front, self._folder = ground, front, folder
        name = ORDER[seed % len(ORDER)]
        self._command, self._environment = COMMANDS[name]
        self.log = [f"seed {seed}, {name}:"]
        self._world = World(ground.server_url, front.url, folder, f"seed-{seed}")
        self._left = EACH
        self._runs: list[Run] = []
        if name == "with luigid":
            self._use_luigid()

    def said(self) -> str:
        return "\n".join(run.said() for run in self._runs[-3:])

    def go(self) -> None:
        while self._left:
            for stage, bodies in stages(self._ground):
                self._world.fill(bodies, keep=stage == "refresh")
                self._complete(stage)
                self._world.check(self._ground.due[stage].made)

    def end(self) -> None:
        for run in self._runs:
            run.end()
        if self._luigid is not None:
            self._luigid.stop()

    _luigid: "luigid.Service | None" = None

    def _use_luigid(self) -> None:
        """The runs start it; it notices soon that one was killed."""
        settings = (PROJECT / "luigi.cfg").read_text()
        config = self._folder / "quick.cfg"
        config.write_text(re.sub(r"(?m)^(worker_disconnect_delay =).*", r"\1 2", settings))
        port = free_port()
        self._environment = {
            **self._environment,
            "LUIGI_CONFIG_PATH": str(config),
            "LOCAL_LUIGID_PORT": str(port),
        }
        self._luigid = luigid.make_service(self._world.state, port, config)

    def _complete(self, stage: str) -> None:
        """Run until a run is through; one that nothing is done to must be."""
        while True:
            said = self._folder / f"said-{len(self._runs)}"
            command = arguments(self._command, stage)
            run = self._world.start(command, said, **self._environment)
            self._runs.append(run)
            self.log.append(f"{stage}: run {run.pid}")
            struck = 0
            while self._left and self._strike(stage, run):
                struck += 1
            wait_until(run.has_ended, lambda: "does not end")
            self._front.wait_until_back()
            self.log.append(f"  ends with {run.code}")
            assert "Traceback" not in run.said()
            assert run.code <= 0 or WHY.search(run.said()), "it does not say why it failed"
            if run.code == 0:
                run.wait_until_nothing_is_left()
                return
            assert struck, "an undisturbed run fails"

    def _strike(self, stage: str, run: Run) -> bool:
        """One blow; whether its moment has come."""
        blow = blows.draw(self._chance, self._ground.due[stage].requests)
        struck: list[str] = []

        def act(request: object) -> None:
            struck.append(blow.strike(run, self._front, self._world))
            self.log.append(f"  {struck[0]}, {blow.moment}: {request}")

        self._front.control.at(blow.moment, act)
        wait_until(lambda: struck or run.has_ended(), lambda: f"neither {blow.moment} nor an end")
        if self._front.control.call_off():
            return False
        wait_until(lambda: struck, lambda: f"{blow.moment} has come, and nothing happens")
        self._left -= 1
        return True
