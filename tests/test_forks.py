"""A program that forks processes for whoever asks: how it begins, is asked, and ends."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks import forks, processes
from tasks.forks import Crew, Program
from tests.conftest import PROJECT
from tests.processes_under_test import wait_until

# Answers with its parent's number and its own, then does what it is told.
WORK = """
import os, signal
from multiprocessing.connection import Connection
from tasks import forks

def work(number):
    connection = Connection(number)
    connection.send((os.getppid(), os.getpid()))
    try:
        told = connection.recv()
    except EOFError:
        os._exit(0)
    if told == "stay":
        while True:
            signal.pause()
    if told < 0:
        os.kill(os.getpid(), -told)
    os._exit(told)

def main():
    forks.serve(work)
"""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    (tmp_path / "works.py").write_text(WORK)
    yield Program("works", "A process", tmp_path)
    forks.unload()


def is_over(pid: int) -> bool:
    return not processes.is_alive(pid)


def wait_for_the_end_of(*pids: int) -> None:
    wait_until(lambda: all(map(is_over, pids)), lambda: f"still there: {pids}")


def test_a_crew_has_a_program_of_its_own_where_none_is_loaded(program: Program) -> None:
    crew = Crew(program, 3)
    told = [connection.recv() for connection in crew.connections]
    [parent] = {parent for parent, _ in told}
    pids = [pid for _, pid in told]
    assert len({os.getpid(), parent, *pids}) == 5
    assert crew.end() == 0
    assert all(map(is_over, [parent, *pids]))
    other = Crew(program, 1)
    assert other.connections[0].recv()[0] != parent
    assert other.end() == 0


def test_a_loaded_program_is_asked_again_and_again(program: Program) -> None:
    forks.load(program)
    parents = set()
    for _ in range(3):
        forks.load(program)  # it is
        crew = Crew(program, 2)
        parents |= {connection.recv()[0] for connection in crew.connections}
        assert crew.end() == 0
    [parent] = parents
    assert processes.is_alive(parent)
    forks.unload()
    assert is_over(parent)


def test_crews_at_the_same_time_do_not_end_with_each_other(program: Program) -> None:
    forks.load(program)
    one, other = Crew(program, 1), Crew(program, 1)
    [(_, first)], [(_, second)] = (
        [connection.recv() for connection in crew.connections] for crew in (one, other)
    )
    assert one.end() == 0
    assert is_over(first)
    assert processes.is_alive(second)
    assert other.end() == 0


@pytest.mark.parametrize("is_loaded", [True, False])
@pytest.mark.parametrize("code", [0, 3, -signal.SIGKILL, -signal.SIGSEGV])
def test_how_the_first_that_failed_ended_is_told(
    program: Program, code: int, is_loaded: bool
) -> None:
    if is_loaded:
        forks.load(program)
    crew = Crew(program, 3)
    for connection in crew.connections:
        connection.recv()
    crew.connections[1].send(code)
    assert crew.end() == code


def test_a_process_that_does_not_end_is_killed(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forks, "_SECONDS_TO_END", 0.2)
    crew = Crew(program, 2)
    for connection in crew.connections:
        connection.recv()
    crew.connections[0].send("stay")
    assert crew.end() == -signal.SIGKILL


def test_a_program_that_is_killed_leaves_its_forks_to_their_work(program: Program) -> None:
    forks.load(program)
    crew = Crew(program, 1)
    parent, pid = crew.connections[0].recv()
    os.kill(parent, signal.SIGKILL)
    wait_until(lambda: forks._loaded[program].is_gone(), lambda: "still there")
    assert processes.is_alive(pid)
    assert crew.end() == -signal.SIGKILL
    wait_for_the_end_of(pid)


def test_a_loaded_program_that_was_killed_is_started_again(program: Program) -> None:
    forks.load(program)
    crew = Crew(program, 1)
    parent, _ = crew.connections[0].recv()
    crew.end()
    os.kill(parent, signal.SIGKILL)
    wait_until(lambda: forks._loaded[program].is_gone(), lambda: "still there")
    crew = Crew(program, 1)
    assert crew.connections[0].recv()[0] != parent
    assert crew.end() == 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("os._exit(7)", 7),
        ("os.kill(os.getpid(), 9)", -9),
        ("raise MemoryError", 1),
        ("os.fork = lambda: exec('raise BlockingIOError(11, str())'); forks.serve(None)", 1),
    ],
)
@pytest.mark.parametrize("is_loaded", [True, False])
def test_a_program_that_cannot_begin_is_told_by_how_it_ended(
    tmp_path: Path, body: str, code: int, is_loaded: bool
) -> None:
    (tmp_path / "fails.py").write_text(
        f"import os\nfrom tasks import forks\ndef main():\n    {body}\n"
    )
    program = Program("fails", "A process", tmp_path)
    try:
        if is_loaded:
            forks.load(program)
        crew = Crew(program, 2)
    except ConnectionError:  # it was gone before all were asked for
        return
    with pytest.raises((EOFError, ConnectionResetError)):
        crew.connections[0].recv()
    assert crew.end() == code
    forks.unload()


def test_a_program_loads_ahead_what_its_forks_will_need(tmp_path: Path) -> None:
    (tmp_path / "needed.py").write_text("")
    (tmp_path / "works.py").write_text(
        WORK.replace("(os.getppid(), os.getpid())", "'needed' in __import__('sys').modules")
    )
    for ahead, is_there in (((), False), (("needed",), True)):
        crew = Crew(Program("works", "A process", tmp_path, ahead), 1)
        assert crew.connections[0].recv() is is_there
        assert crew.end() == 0


def test_processes_that_are_forked_later_may_ask_as_well(program: Program) -> None:
    """As luigi's workers do."""
    forks.load(program)
    pids = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            try:
                crew = Crew(program, 2)
                told = {connection.recv()[0] for connection in crew.connections}
                os._exit(0 if len(told) == 1 and crew.end() == 0 else 1)
            finally:
                os._exit(2)
        pids.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0, 0]


def test_nothing_is_left_when_whoever_asks_is_killed(program: Program) -> None:
    script = f"""
        import os, signal
        from pathlib import Path
        from tasks import forks
        from tasks.forks import Crew, Program
        program = Program("works", "A process", Path({str(program.folder)!r}))
        forks.load(program)
        crew = Crew(program, 2)
        print(*(number for connection in crew.connections for number in connection.recv()))
        os.sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    ran = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert ran.returncode == -signal.SIGKILL
    wait_for_the_end_of(*map(int, ran.stdout.split()))
