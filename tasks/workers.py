"""Jobs through processes of their own: out of order inside, in order outside.

`in_order` gives each job to whichever process is free and yields the answers in the order of the
jobs, so that what comes out is the same for any number of processes. At most three jobs are under
way in each (two fetched, one worked on) and none is handed out far ahead of the first unfinished
one: memory does not grow with the number of jobs. `serve` is the other end. The processes are forks
of a program (`tasks.forks`); they end with the generator, and by themselves as soon as the other
end of their connection closes, however that came about and whatever they wait for: a killed parent
leaves nothing running. Knows nothing of what the jobs are.
"""

import contextlib
import os
import queue
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, NoReturn, Protocol, TypeVar, cast

from tasks import forks, open_files, secrets
from tasks.forks import Crew, Program
from tasks.out_of_memory import SENTENCE, is_out_of_memory
from tasks.problem import Problem

Job = TypeVar("Job")
Answer = TypeVar("Answer")
Setup = TypeVar("Setup")
Fetched = TypeVar("Fetched")
_Job = TypeVar("_Job", contravariant=True)
_Answer = TypeVar("_Answer", covariant=True)

FETCHES_AT_ONCE = 2
"""Of one process: from S3 a job of an hour may take longer to fetch than to work on."""

_JOBS_AT_ONCE = FETCHES_AT_ONCE + 1


class OutOfDate(Problem):
    """What a job was made with has had its time: the same job, made anew, may be done."""


@dataclass(frozen=True)
class _Failure:
    """Why there is no answer; `is_problem` where a person can mend it."""

    message: str
    is_problem: bool
    is_out_of_date: bool = False


class Work(Protocol[_Job, Fetched, _Answer]):
    """What a process does. Either may raise `Problem`, or `OSError` for a file or disk.

    Threads, `FETCHES_AT_ONCE`, fetch for the next jobs while this one is worked on, so that network
    and processor are busy at the same time.
    """

    def fetch(self, job: _Job, /) -> Fetched: ...

    def work(self, job: _Job, fetched: Fetched, /) -> _Answer: ...


def in_order(
    program: Program,
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
    try:
        crew = Crew(program, open_files.fitting(processes, files_each=2))
    except ConnectionError:
        raise _ended(program, None) from None
    workers = [_Worker(connection, setup, program.name) for connection in crew.connections]
    is_killed = False
    try:
        yield from _in_order(iter(jobs), workers, make_anew)
    except _Killed:
        is_killed = True
    finally:
        code = crew.end()
    if is_killed:
        raise _ended(program, code)


def _ended(program: Program, code: int | None) -> Problem:
    how = "" if code is None else f" (exit status {code})"
    return Problem(
        f"{program.name} ended in the middle{how}. If the machine ran out of memory, set processes "
        "lower; nothing was written, run it again."
    )


class _Killed(Exception):
    """A process is gone."""


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
    """Be the program whose forks do the work, each until its connection closes.

    `make` gets the setup.
    """
    forks.serve(lambda number: _serve_one(number, make))


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
        self._jobs: queue.Queue[tuple[int, Job]] = queue.Queue()  # the parent hands out few
        self._fetched: queue.Queue[tuple[int, Job, Fetched | _Failure]] = queue.Queue(maxsize=1)

    def run(self) -> NoReturn:
        for work in (self._receive_all, *[self._fetch_all] * FETCHES_AT_ONCE):
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
            print(secrets.traceback_of(error), end="", file=sys.stderr)
        os._exit(1)


def _failure(error: Exception) -> _Failure:
    if isinstance(error, Problem):
        return _Failure(str(error), True, isinstance(error, OutOfDate))
    if is_out_of_memory(error):
        return _Failure(SENTENCE, is_problem=True)
    if isinstance(error, OSError):
        return _Failure(f"{error.filename or 'the spool folder'}: {error.strerror}.", True)
    return _Failure(secrets.traceback_of(error), is_problem=False)
