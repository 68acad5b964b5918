"""Runs that may have little memory: a sentence that names the remedy, never a wrong week or a hang.

The limit is one on addresses (ulimit -v), which each process of a run has for itself. Of what is
below 2 GB, nothing is begun; above, it depends on how little it is what fails first.
"""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks import forks
from tasks.forks import Program
from tasks.problem import Problem
from tasks.workers import in_order
from tests.conftest import PROJECT, Run
from tests.crashes import world
from tests.crashes.world import World

pytestmark = pytest.mark.soak

LIMITS_MIB = {
    "1": [1000, 3000, 4090, 4160, 4230],
    "2": [188, 4090, 4200],
}
"""By how many weeks are converted at once."""

NEVER_ENOUGH_MIB = 4096
"""The kernel wants addresses for more."""


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with world.server(tmp_path_factory.mktemp("s3")) as url:
        yield url


@pytest.mark.parametrize("workers", LIMITS_MIB)
def test_too_little_memory_is_a_sentence_and_no_week(s3: str, tmp_path: Path, workers: str) -> None:
    raw = world.raw_snapshots()
    command = [*world.FULL, "--workers", workers]
    undisturbed = World(s3, s3, tmp_path / "undisturbed", f"undisturbed-{workers}")
    undisturbed.fill(raw)
    assert undisturbed.start(command, tmp_path / "said").wait() == 0
    due = undisturbed.made()
    place = World(s3, s3, tmp_path, f"little-memory-{workers}")
    place.fill(raw)
    for limit in LIMITS_MIB[workers]:
        size = (limit << 20, limit << 20)
        run = place.start(
            command,
            tmp_path / f"said-{limit}",
            preexec=lambda size=size: resource.setrlimit(resource.RLIMIT_AS, size),
        )
        code = run.wait()
        run.wait_until_nothing_is_left()
        said = f"with {limit} MiB: {run.said()}"
        assert "Traceback" not in said
        if limit < NEVER_ENOUGH_MIB:
            assert code in (1, 2), said
            assert "There is not enough memory" in said
            assert "ulimit -v" in said
        else:
            assert code == 0 or (code == 1 and "et processes" in said), said
        made = place.made()
        assert made == {key: due[key] for key in made}, said
        if code == 0:
            place.fill(raw)
    run = place.start(command, tmp_path / "said-at-last")
    assert run.wait() == 0, run.said()
    place.check(due)


class TooLarge:
    """A job that cannot be unpickled where it goes to."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("(_ for _ in ()).throw(MemoryError())",)


def test_a_process_that_cannot_take_its_job_ends_and_nobody_waits_for_it(tmp_path: Path) -> None:
    (tmp_path / "at_work.py").write_text(
        "from tasks.workers import serve\n"
        "class Work:\n"
        "    def fetch(self, job): pass\n"
        "    def work(self, job, fetched): pass\n"
        "def main(): serve(lambda setup: Work())\n"
    )
    program = Program("at_work", "A converter process", tmp_path)
    with pytest.raises(Problem, match=r"ended in the middle \(exit status 1\)"):
        list(in_order(program, "a setup", [TooLarge()], 1))


@pytest.mark.parametrize("missing", ["MemoryError()", "OSError(12, 'Cannot allocate memory')"])
def test_a_program_that_has_no_memory_to_begin_with_leaves_it_to_others_to_say_so(
    tmp_path: Path, missing: str
) -> None:
    (tmp_path / "at_work.py").write_text(f"raise {missing}")
    ended = started(tmp_path)
    assert (ended.returncode, ended.stderr) == (1, "")


def test_a_program_that_cannot_begin_for_another_reason_says_which(tmp_path: Path) -> None:
    (tmp_path / "at_work.py").write_text("raise OSError(2, 'No such file or directory')")
    ended = started(tmp_path)
    assert ended.returncode == 1
    assert "No such file or directory" in ended.stderr


def started(folder: Path) -> subprocess.CompletedProcess[str]:
    """What came of the program of a folder, as `forks` starts it."""
    return subprocess.run(
        [sys.executable, "-c", forks.START, "at_work", "0"],
        env=os.environ | {"PYTHONPATH": f"{folder}:{PROJECT}"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


COMMANDS = [
    *(["full"], ["smoke"], ["refresh"], ["verify", "--deep"], ["prune"], ["plan"], ["status"]),
    *(["report"], ["restore", "--week", "2021-W45", "--to", "x"], ["sync"], ["luigid"]),
]


@pytest.mark.parametrize(
    ("command", "mib"),
    [*((command, 188) for command in COMMANDS), (["verify"], 100), (["verify"], 2047)],
    ids=lambda value: value[0] if isinstance(value, list) else f"{value} MiB",
)
def test_every_command_says_of_a_limit_that_it_cannot_work_within(
    tmp_path: Path, ops: Run, command: list[str], mib: int
) -> None:
    ran = ops(*command, before=("sh", "-c", f'ulimit -v {mib << 10}; exec "$@"', "sh"))
    assert ran.returncode == 2, ran.stderr
    assert ran.stdout == ""
    assert ran.stderr.startswith("There is not enough memory: each process may have ")
    assert "(ulimit -v), and a command wants more than 2.1 GB" in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert not (tmp_path / "state").exists(), "it asks before it does anything"


@pytest.mark.parametrize("task", [("WeekTask", "--week"), ("AllWeeks", "--weeks")])
def test_plain_luigi_says_of_a_limit_that_no_converter_can_work_within(
    raw_week: Path, tmp_path: Path, luigi: Run, task: tuple[str, str]
) -> None:
    places = {"BUSTIMES_SOURCE": str(raw_week), "BUSTIMES_DESTINATION": str(tmp_path / "weeks")}
    limited = ("sh", "-c", 'ulimit -v 2000000; exec "$@"', "sh")
    ran = luigi(*task, "2021-W45", before=limited, **places)
    assert ran.returncode != 0
    assert "each process may have 2.0 GB of addresses (ulimit -v)" in ran.stderr + ran.stdout
    assert "wants more than 4.3 GB" in ran.stderr + ran.stdout
    assert "Traceback" not in ran.stderr + ran.stdout
    assert list(tmp_path.glob("weeks/2021*")) == []
    assert luigi(*task, "2021-W45", **places).returncode == 0
    ran = luigi("AllWeeks", "--weeks", "2021-W45", before=limited, **places)
    assert ran.returncode == 0, "what is done needs no converter"
    limited = ("sh", "-c", 'ulimit -v 500000; exec "$@"', "sh")
    ran = luigi("Verify", "--weeks", "2021-W45", before=limited, **places)
    assert ran.returncode != 0
    assert "(ulimit -v), and a command wants more than 2.1 GB" in ran.stderr + ran.stdout
