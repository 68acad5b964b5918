"""A lock by a file's name: one holder at a time, and no file when nobody holds it."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.synchronize import Event
from pathlib import Path

from tasks.file_lock import held


def hold(path: Path, holds: Event, may_end: Event) -> None:
    with held(path):
        holds.set()
        may_end.wait()


def add_one(path: Path, count: Path, times: int) -> None:
    for _ in range(times):
        with held(path):
            count.write_text(str(int(count.read_text()) + 1))


def test_no_file_is_left_whatever_happened_inside(tmp_path: Path) -> None:
    path = tmp_path / "2021-W45.lock"
    with held(path):
        assert path.exists()
    assert not path.exists()
    try:
        with held(path):
            raise KeyError
    except KeyError:
        pass
    assert list(tmp_path.iterdir()) == []


def test_whoever_waits_says_so_once_and_gets_a_lock_that_others_find(tmp_path: Path) -> None:
    """The file that it waited for is removed before it has it."""
    path = tmp_path / "lock"
    context = multiprocessing.get_context("fork")
    holds, may_end = context.Event(), context.Event()
    other = context.Process(target=hold, args=(path, holds, may_end))
    other.start()
    holds.wait()
    said: list[str] = []

    def wait() -> None:
        said.append("waits")
        may_end.set()

    with held(path, on_wait=wait):
        assert path.exists()
        assert said == ["waits"]
        also: list[str] = []
        third = threading.Thread(target=lambda: enter(path, also))
        third.start()
        while "waits" not in also:
            pass
        assert also == ["waits"]
    third.join()
    other.join()
    assert also == ["waits", "in"]
    assert not path.exists()


def enter(path: Path, said: list[str]) -> None:
    with held(path, on_wait=lambda: said.append("waits")):
        said.append("in")


def test_many_at_once_are_in_one_after_the_other(tmp_path: Path) -> None:
    path, count = tmp_path / "lock", tmp_path / "count"
    count.write_text("0")
    context = multiprocessing.get_context("fork")
    others = [context.Process(target=add_one, args=(path, count, 200)) for _ in range(4)]
    for one in others:
        one.start()
    for one in others:
        one.join()
    assert count.read_text() == "800"
    assert not path.exists()


def test_what_a_killed_holder_left_is_taken_over_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    context = multiprocessing.get_context("fork")
    holds, never = context.Event(), context.Event()
    other = context.Process(target=hold, args=(path, holds, never))
    other.start()
    holds.wait()
    assert other.pid is not None
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    assert path.exists()
    with held(path, on_wait=lambda: None):
        pass
    assert not path.exists()
