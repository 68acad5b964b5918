"""One converter process: hours of raw snapshots in, gzip members out, over one connection.

Started by `tasks.bustimes.conversion` as ``python -m tasks.bustimes.converter FD``. A thread
fetches the next hour while this one is converted, so that network and processor work at the same
time. The process holds two hours in memory at most, never forks, and ends by itself as soon as the
other end of the connection closes, however that came about and whatever it waits for: a killed
parent leaves nothing running.
"""

import contextlib
import datetime as dt
import os
import queue
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

from tasks.bustimes.disk import explained
from tasks.bustimes.hour import ConvertedHour, convert
from tasks.bustimes.kernel import OutOfMemory
from tasks.bustimes.listing import ListedSnapshot
from tasks.problem import Problem
from tasks.storage.address import BulkSource, Credentials
from tasks.storage.bulk import BulkReader


@dataclass(frozen=True)
class Setup:
    """What holds for all hours; the first message. Refused bodies are left in `refused_folder`."""

    source: BulkSource
    reads_at_once: int
    max_snapshot_bytes: int
    order: str
    level: int
    refused_folder: Path


@dataclass(frozen=True)
class Job:
    """One hour to convert; every later message."""

    number: int
    snapshots: list[ListedSnapshot]
    credentials: Credentials | None


@dataclass(frozen=True)
class Failure:
    """Why an hour could not be converted; `is_problem` where a person can mend it."""

    message: str
    is_problem: bool


Answer = tuple[int, ConvertedHour | Failure]
_Fetched = tuple[Job, list[bytes] | Failure]


class Converter:
    """The process, but for starting and ending it."""

    def __init__(self, connection: "Connection[Answer, Setup | Job]") -> None:
        setup = connection.recv()
        assert isinstance(setup, Setup)
        self._connection = connection
        self._setup = setup
        self._reader = BulkReader(setup.source, setup.reads_at_once)
        self._jobs: queue.Queue[Job] = queue.Queue()  # the parent hands out two at most
        self._fetched: queue.Queue[_Fetched] = queue.Queue(maxsize=1)

    def run(self) -> NoReturn:
        """Convert until the connection closes, which ends the process."""
        for thread in (self._receive_all, self._fetch_all):
            threading.Thread(target=thread, daemon=True).start()
        while True:
            job, bodies = self._fetched.get()
            answer = bodies if isinstance(bodies, Failure) else self._convert(job, bodies)
            self._connection.send((job.number, answer))

    def _receive_all(self) -> None:
        while True:
            try:
                job = self._connection.recv()
            except (EOFError, OSError):
                os._exit(0)  # no parent any more: nobody will use what is being read
            assert isinstance(job, Job)
            self._jobs.put(job)

    def _fetch_all(self) -> None:
        while True:
            job = self._jobs.get()
            self._fetched.put((job, self._fetch(job)))

    def _fetch(self, job: Job) -> list[bytes] | Failure:
        wanted = [one.stored for one in job.snapshots if not self._is_too_large(one)]
        try:
            for snapshot in job.snapshots:
                if self._is_too_large(snapshot):
                    self._keep_large(snapshot, job.credentials)
            return self._reader.read(wanted, job.credentials)
        except Exception as error:
            return _failure(error)

    def _convert(self, job: Job, bodies: list[bytes]) -> ConvertedHour | Failure:
        try:
            hour = convert(
                self._one_by_one(job, bodies),
                self._setup.order,
                self._setup.level,
                count=len(bodies),
                largest=max(map(len, bodies), default=0),
                on_refused=self._keep,
            )
            return self._with_large(hour, job)
        except OutOfMemory:
            hour_of = job.snapshots[0].time.strftime("%Y-%m-%d %H:00")
            return Failure(
                f"The snapshots of {hour_of} UTC take more memory than there is. Set processes or "
                "workers lower, or use a larger machine; nothing was written, run it again.",
                is_problem=True,
            )
        except Exception as error:
            return _failure(error)

    def _one_by_one(
        self, job: Job, bodies: list[bytes]
    ) -> Iterator[tuple[str, dt.datetime, bytes]]:
        """The snapshots, each of which is let go as soon as the next is asked for."""
        bodies.reverse()
        for one in job.snapshots:
            if not self._is_too_large(one):
                yield one.stored.key, one.time, bodies.pop()

    def _keep(self, key: str, body: bytes) -> None:
        with explained(self._setup.refused_folder):
            self._refused_path(key).write_bytes(body)

    def _with_large(self, hour: ConvertedHour, job: Job) -> ConvertedHour:
        """The hour with its too large snapshots counted and named among the refused."""
        large = [one.stored for one in job.snapshots if self._is_too_large(one)]
        if not large:
            return hour
        limit = self._setup.max_snapshot_bytes >> 20
        reason = "it is {:,.1f} MB long, and max_snapshot_mb is {}"
        return replace(
            hour,
            snapshots=hour.snapshots + len(large),
            raw_bytes=hour.raw_bytes + sum(one.size for one in large),
            refused=sorted(
                [
                    *hour.refused,
                    *((one.key, reason.format(one.size / (1 << 20), limit)) for one in large),
                ]
            ),
        )

    def _is_too_large(self, snapshot: ListedSnapshot) -> bool:
        return snapshot.stored.size > self._setup.max_snapshot_bytes

    def _keep_large(self, snapshot: ListedSnapshot, credentials: Credentials | None) -> None:
        folder = self._setup.refused_folder
        with explained(folder), self._refused_path(snapshot.stored.key).open("wb") as file:
            for chunk in self._reader.stream(snapshot.stored, credentials):
                file.write(chunk)

    def _refused_path(self, key: str) -> Path:
        path = self._setup.refused_folder / key  # a snapshot's key: its pattern allows no ".."
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _failure(error: Exception) -> Failure:
    if isinstance(error, Problem):
        return Failure(str(error), is_problem=True)
    if isinstance(error, OSError):
        return Failure(f"{error.filename or 'the spool folder'}: {error.strerror}.", True)
    return Failure("".join(traceback.format_exception(error)), is_problem=False)


def main() -> None:
    connection: Connection[Answer, Setup | Job] = Connection(int(sys.argv[1]))
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, EOFError):  # no parent any more
        Converter(connection).run()
    os._exit(0)


if __name__ == "__main__":
    # By its own name, so that what is pickled here is what the parent knows.
    from tasks.bustimes import converter

    converter.main()
