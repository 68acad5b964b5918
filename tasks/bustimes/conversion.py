"""A week's hours through converter processes: out of order inside, in order outside.

`convert_hours` gives each hour to whichever process is free and yields the results in time order,
so the bytes are the same for any number of processes. At most two hours are under way in each
(one fetched, one converted) and none is handed out far ahead of the first unfinished one: memory
does not grow with the week. The processes are programs of their own, not forks, and end with the
generator.
"""

import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait

from tasks.bustimes.converter import Answer, Failure, Job, Setup
from tasks.bustimes.hour import ConvertedHour
from tasks.bustimes.listing import ListedSnapshot
from tasks.problem import Problem
from tasks.settings import PROJECT
from tasks.storage.address import Credentials

_HOURS_AT_ONCE = 2


def convert_hours(
    hours: list[list[ListedSnapshot]],
    setup: Setup,
    processes: int,
    credentials: Callable[[], Credentials | None],
) -> Generator[ConvertedHour]:
    """The converted hours, in the order of `hours`.

    Raises `Problem` for what a person can mend (an object gone, access denied, a full disk, a
    process that was killed), and `RuntimeError` with its traceback for a fault in a converter.
    """
    workers = [_Worker(setup) for _ in range(max(1, min(processes, len(hours))))]
    try:
        yield from _in_order(hours, workers, credentials)
    finally:
        for worker in workers:
            worker.stop()


def _in_order(
    hours: list[list[ListedSnapshot]],
    workers: list["_Worker"],
    credentials: Callable[[], Credentials | None],
) -> Iterator[ConvertedHour]:
    done: dict[int, ConvertedHour] = {}
    handed_out = yielded = 0
    while yielded < len(hours):
        window = min(len(hours), yielded + 2 * _HOURS_AT_ONCE * len(workers))
        while handed_out < window:
            worker = min(workers, key=lambda worker: worker.jobs)
            if worker.jobs >= _HOURS_AT_ONCE:
                break
            worker.give(Job(handed_out, hours[handed_out], credentials()))
            handed_out += 1
        for number, hour in _next_answers(workers):
            done[number] = hour
        while yielded in done:
            yield done.pop(yielded)
            yielded += 1


def _next_answers(workers: list["_Worker"]) -> Iterator[tuple[int, ConvertedHour]]:
    connections = {worker.connection: worker for worker in workers if worker.jobs}
    for connection in wait(list(connections)):
        worker = connections[connection]  # type: ignore[index]
        number, answer = worker.take()
        if isinstance(answer, Failure):
            if answer.is_problem:
                raise Problem(answer.message)
            raise RuntimeError(f"a converter process failed:\n{answer.message}")
        yield number, answer


class _Worker:
    """One converter process and how many hours it has to do."""

    def __init__(self, setup: Setup) -> None:
        ours, theirs = Pipe()
        self.connection: Connection[Setup | Job, Answer] = ours
        self.jobs = 0
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tasks.bustimes.converter", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for us: we decide what it means
            )
        self._setup: Setup | None = setup

    def give(self, job: Job) -> None:
        try:
            if self._setup is not None:
                self.connection.send(self._setup)
                self._setup = None
            self.connection.send(job)
        except (BrokenPipeError, ConnectionResetError):
            raise self._was_killed() from None
        self.jobs += 1

    def take(self) -> Answer:
        try:
            answer = self.connection.recv()
        except (EOFError, OSError):  # the latter where it died in the middle of its answer
            raise self._was_killed() from None
        self.jobs -= 1
        return answer

    def stop(self) -> None:
        self.connection.close()
        self._process.kill()
        self._process.wait()

    def _was_killed(self) -> Problem:
        code = self._process.wait()
        return Problem(
            f"A converter process ended in the middle (exit status {code}). If the machine ran out "
            "of memory, set processes lower; nothing was written, run it again."
        )
