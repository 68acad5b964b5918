"""One converter process: hours of raw snapshots in, compressed lines out, over one connection.

Started by `tasks.bustimes.conversion`; how it is told what to do, and how it ends, `tasks.workers`
knows. The process holds three hours in memory at most (two are fetched while one is converted).
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from tasks.bustimes.disk import explained
from tasks.bustimes.hour import ConvertedHour, convert
from tasks.bustimes.kernel import OutOfMemory, prepare
from tasks.bustimes.listing import ListedSnapshot
from tasks.out_of_memory import REMEDY
from tasks.problem import Problem
from tasks.storage.address import BulkSource, Credentials
from tasks.storage.bulk import BulkReader
from tasks.storage.listed import CredentialsExpired
from tasks.storage.patience import Patience
from tasks.storage.traffic import Traffic
from tasks.workers import OutOfDate, serve


@dataclass(frozen=True)
class Setup:
    """What holds for all hours; the first message. Refused bodies are left in `refused_folder`."""

    source: BulkSource
    reads_at_once: int
    max_snapshot_bytes: int
    order: str
    level: int
    refused_folder: Path
    python_escapes: str = ""
    patience: Patience = field(default_factory=Patience)
    """With the share of the retries that each thread which fetches has."""


@dataclass(frozen=True)
class Job:
    """One hour to convert; every later message."""

    snapshots: list[ListedSnapshot]
    credentials: Credentials | None


class Converter:
    """What the process does; see `tasks.workers.Work`."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._reader = BulkReader(setup.source, setup.reads_at_once, setup.patience)

    def fetch(self, job: Job) -> tuple[list[bytes], Traffic]:
        """The bodies of the hour's snapshots, but for those that are too large, which are kept."""
        wanted = [one.stored for one in job.snapshots if not self._is_too_large(one)]
        try:
            for snapshot in job.snapshots:
                if self._is_too_large(snapshot):
                    self._keep_large(snapshot, job.credentials)
            return self._reader.read(wanted, job.credentials), self._reader.traffic()
        except CredentialsExpired as error:
            raise OutOfDate(str(error)) from None

    def work(self, job: Job, fetched: tuple[list[bytes], Traffic]) -> tuple[ConvertedHour, Traffic]:
        """The converted hour, and what fetching it came to; takes the bodies out of their list."""
        bodies, traffic = fetched
        try:
            hour = convert(
                self._one_by_one(job, bodies),
                self._setup.order,
                self._setup.level,
                count=len(bodies),
                largest=max(map(len, bodies), default=0),
                python_escapes=self._setup.python_escapes,
                most_bytes=self._setup.max_snapshot_bytes,
                on_refused=self._keep,
            )
        except OutOfMemory:
            hour_of = job.snapshots[0].time.strftime("%Y-%m-%d %H:00")
            raise Problem(
                f"The snapshots of {hour_of} UTC take more memory than there is. {REMEDY}"
            ) from None
        return self._with_large(hour, job), traffic

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
        known = iter(hour.records)
        limit = self._setup.max_snapshot_bytes >> 20
        reason = "it is {:,.1f} MB long, and max_snapshot_mb is {}"
        return replace(
            hour,
            snapshots=hour.snapshots + len(large),
            records=[None if self._is_too_large(one) else next(known) for one in job.snapshots],
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


def main() -> None:
    """What the processes run."""
    prepare()
    serve(Converter)
