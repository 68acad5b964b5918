"""Jobs through processes of their own: out of order inside, in order outside.

`in_order` gives each job to whichever process is free and yields the answers in the order of the
jobs, so that what comes out is the same for any number of processes. At most two jobs are under way
in each (one fetched, one worked on) and none is handed out far ahead of the first unfinished one:
memory does not grow with the number of jobs. `serve` is the other end. The processes are no forks
of this one, but of one program that has loaded all they need and does nothing else; they end with
the generator, and by themselves as soon as the other end of their connection closes, however that
came about and whatever they wait for: a killed parent leaves nothing running. Knows nothing of what
the jobs are.
"""

import contextlib
import gc
import os
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic, NoReturn, Protocol, TypeVar, cast

from tasks import run_log
from tasks.out_of_memory import SENTENCE, is_out_of_memory
from tasks.problem import Problem

Job = TypeVar("Job")
Answer = TypeVar("Answer")
Setup = TypeVar("Setup")
Fetched = TypeVar("Fetched")
_Job = TypeVar("_Job", contravariant=True)
_Answer = TypeVar("_Answer", covariant=True)

_JOBS_AT_ONCE = 2

_SECONDS_TO_END = 10.0

_START = """\
import gc, importlib, os, sys
gc.disable()
try:
    importlib.import_module(sys.argv.pop(1)).main()
except Exception as error:
    from tasks.out_of_memory import is_out_of_memory
    if is_out_of_memory(error):
        os._exit(1)
    raise
"""
"""What a process runs: looking for garbage while it imports would cost a fifth of its start.

It ends without a word where there is no memory: whoever started it says so.
"""


class OutOfDate(Problem):
    """What a job was made with has had its time: the same job, made anew, may be done."""


@dataclass(frozen=True)
class Program(Generic[Setup, Job, Answer]):
    """What to start in a folder: a module whose `main` calls `serve`.

    `name` is what people call it, such as "A converter process".
    """

    module: str
    name: str
    folder: Path


_MEMORY = {
    # glibc: one heap for all threads, which keeps what is freed. Hours are of one size, so what one
    # has left serves the next, and memory need not be given back and asked for again all the time.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
}


@dataclass(frozen=True)
class _Failure:
    """Why there is no answer; `is_problem` where a person can mend it."""

    message: str
    is_problem: bool
    is_out_of_date: bool = False


class Work(Protocol[_Job, Fetched, _Answer]):
    """What a process does. Either may raise `Problem`, or `OSError` for a file or disk.

    A thread fetches for the next job while this one is worked on, so that network and processor
    are busy at the same time.
    """

    def fetch(self, job: _Job, /) -> Fetched: ...

    def work(self, job: _Job, fetched: Fetched, /) -> _Answer: ...


def in_order(
    program: Program[Setup, Job, Answer],
    setup: Setup,
    jobs: Iterable[Job],
    processes: int,
    make_anew: Callable[[Job], Job | None] = lambda _job: None,
) -> Generator[Answer]:
    """The answers to the jobs, in their order; a job is made when a process is free for it.

    `setup` is the first message that each process gets. `make_anew` is asked for what to do in
    place of a job that is `OutOfDate`; None is the end. Raises `Problem` for what a person can mend
    (an object gone, access denied, a full disk, a process that was killed), and `RuntimeError` with
    its traceback for a fault in the program.
    """
    with contextlib.ExitStack() as of_this_process:
        with contextlib.ExitStack() as of_the_others:
            pairs = [Pipe() for _ in range(processes)]
            for ours, theirs in pairs:
                of_this_process.enter_context(ours)
                of_the_others.enter_context(theirs)
            started = _start(program, [theirs.fileno() for _, theirs in pairs])
        workers = [_Worker(ours, setup, program.name) for ours, _ in pairs]
        is_killed = False
        try:
            yield from _in_order(iter(jobs), workers, make_anew)
        except _Killed:
            is_killed = True
        finally:
            of_this_process.close()
            code = _end(started)
    if is_killed:
        raise Problem(
            f"{program.name} ended in the middle (exit status {code}). If the machine ran out of "
            "memory, set processes lower; nothing was written, run it again."
        )


class _Killed(Exception):
    """A process is gone."""


def _start(program: Program[Any, Any, Any], numbers: list[int]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", _START, program.module, *map(str, numbers)],
        pass_fds=numbers,
        cwd=program.folder,
        env=_MEMORY | os.environ,
        stdin=subprocess.DEVNULL,
        process_group=0,  # Ctrl-C is for us: we decide what it means
    )


def _end(started: "subprocess.Popen[bytes]") -> int:
    """The exit status, once they all have ended; what does not end by itself is killed."""
    try:
        return started.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        return started.wait()


def _in_order(
    jobs: Iterator[Job], workers: list["_Worker"], make_anew: Callable[[Job], Job | None]
) -> Iterator[Any]:
    given: dict[int, Job] = {}
    done: dict[int, Any] = {}
    handed_out = yielded = 0
    is_all = False
    while True:
        while not is_all and handed_out < yielded + 2 * _JOBS_AT_ONCE * len(workers):
            worker = min(workers, key=lambda worker: worker.jobs)
            if worker.jobs >= _JOBS_AT_ONCE:
                break
            try:
                job = next(jobs)
            except StopIteration:
                is_all = True
                break
            worker.give(handed_out, job)
            given[handed_out] = job
            handed_out += 1
        if is_all and yielded == handed_out:
            return
        for worker, number, answer in _next_answers(workers):
            job = given.pop(number)
            if not isinstance(answer, _Failure):
                done[number] = answer
            elif answer.is_out_of_date and (again := make_anew(job)) is not None:
                worker.give(number, again)
                given[number] = again
            elif answer.is_problem:
                raise Problem(answer.message)
            else:
                raise RuntimeError(f"{worker.name} failed:\n{answer.message}")
        while yielded in done:
            yield done.pop(yielded)
            yielded += 1


def _next_answers(workers: list["_Worker"]) -> Iterator[tuple["_Worker", int, object]]:
    connections = {worker.connection: worker for worker in workers if worker.jobs}
    for connection in wait(list(connections)):
        worker = connections[cast(Connection, connection)]
        yield worker, *worker.take()


class _Worker:
    """One process and how many jobs it has to do."""

    def __init__(
        self, connection: "Connection[object, tuple[int, object]]", setup: object, name: str
    ) -> None:
        self.connection = connection
        self.jobs = 0
        self.name = name
        self._setup: object | None = setup

    def give(self, number: int, job: object) -> None:
        try:
            if self._setup is not None:
                self.connection.send(self._setup)
                self._setup = None
            self.connection.send((number, job))
        except (BrokenPipeError, ConnectionResetError):
            raise _Killed from None
        self.jobs += 1

    def take(self) -> tuple[int, object]:
        try:
            answer = self.connection.recv()
        except (EOFError, OSError):  # the latter where it died in the middle of its answer
            raise _Killed from None
        self.jobs -= 1
        return answer


def serve(make: Callable[[Setup], Work[Job, Fetched, Answer]]) -> NoReturn:
    """Be such processes: one for each connection, which works until that closes.

    `make` gets the setup. The connections' numbers are the program's arguments. What was loaded
    and made by now the processes share. Ends when they have, in the way of the first that failed.
    """
    numbers = [int(number) for number in sys.argv[1:]]
    run_log.join()
    gc.freeze()
    gc.enable()
    for number in numbers:
        if os.fork() == 0:
            for other in numbers:
                if other != number:
                    os.close(other)
            _serve_one(number, make)
    for number in numbers:
        os.close(number)
    failed = 0
    with contextlib.suppress(ChildProcessError):  # no more of them
        while True:
            code = os.waitstatus_to_exitcode(os.wait()[1])
            failed = failed or code
    if failed < 0:
        os.kill(os.getpid(), -failed)
    os._exit(failed)


def _serve_one(number: int, make: Callable[[Any], Work[Any, Any, Any]]) -> NoReturn:
    connection: Connection[Any, Any] = Connection(number)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, EOFError):  # no parent any more
        _Server(connection, make(connection.recv())).run()
    os._exit(0)


class _Server(Generic[Job, Fetched, Answer]):
    def __init__(
        self, connection: "Connection[Any, Any]", work: Work[Job, Fetched, Answer]
    ) -> None:
        self._connection = connection
        self._work = work
        self._jobs: queue.Queue[tuple[int, Job]] = queue.Queue()  # the parent hands out two at most
        self._fetched: queue.Queue[tuple[int, Job, Fetched | _Failure]] = queue.Queue(maxsize=1)

    def run(self) -> NoReturn:
        for work in (self._receive_all, self._fetch_all):
            threading.Thread(target=_or_end, args=(work,), daemon=True).start()
        while True:
            number, answer = self._next()
            self._connection.send((number, answer))

    def _next(self) -> tuple[int, Answer | _Failure]:
        """The next answer; a function of its own, so that no job outlives its answer."""
        number, job, fetched = self._fetched.get()
        if isinstance(fetched, _Failure):
            return number, fetched
        try:
            return number, self._work.work(job, fetched)
        except Exception as error:
            return number, _failure(error)

    def _receive_all(self) -> None:
        while True:
            try:
                number, job = self._connection.recv()
            except (EOFError, OSError):
                os._exit(0)  # no parent any more: nobody will use what is being read
            self._jobs.put((number, job))

    def _fetch_all(self) -> None:
        while True:
            number, job = self._jobs.get()
            self._fetched.put((number, job, self._fetch(job)))

    def _fetch(self, job: Job) -> Fetched | _Failure:
        try:
            return self._work.fetch(job)
        except Exception as error:
            return _failure(error)


def _or_end(work: Callable[[], None]) -> None:
    """What a thread does; where that fails, the process ends, for others wait for the thread."""
    try:
        work()
    except BaseException as error:
        if not is_out_of_memory(error):
            traceback.print_exc()
        os._exit(1)


def _failure(error: Exception) -> _Failure:
    if isinstance(error, Problem):
        return _Failure(str(error), True, isinstance(error, OutOfDate))
    if is_out_of_memory(error):
        return _Failure(SENTENCE, is_problem=True)
    if isinstance(error, OSError):
        return _Failure(f"{error.filename or 'the spool folder'}: {error.strerror}.", True)
    return _Failure("".join(traceback.format_exception(error)), is_problem=False)
