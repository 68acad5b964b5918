"""One checking process: hours of week files in, what is wrong with them out.

Started by `tasks.bustimes.verify.deep`; how it is told what to do, and how it ends, `tasks.workers`
knows. It fetches the raw snapshots to compare hours with while it reads another one, and holds
three hours in memory at most.
"""

import gc
from dataclasses import dataclass, field, replace
from typing import NoReturn

from tasks.bustimes.listing import ListedSnapshot
from tasks.bustimes.manifest import HourOfFile
from tasks.bustimes.verify.hour_reader import HourRead, read_hour
from tasks.bustimes.verify.share import Comparison, compare, time_in_line
from tasks.storage.address import BulkSource, Credentials
from tasks.storage.bulk import BulkReader
from tasks.storage.listed import CredentialsExpired, Unreadable
from tasks.storage.patience import Patience
from tasks.workers import OutOfDate, serve


@dataclass(frozen=True)
class Setup:
    """What holds for all hours; the first message. `source` is None where nothing is compared."""

    source: BulkSource | None
    reads_at_once: int
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True)
class HourJob:
    """One hour: its bytes of the week file, and what its manifest promises; every later message.

    `times` are those of its readable snapshots, or None where nobody knows; `compared` are those to
    hold against it, all that there are of each time, by this setting of `python_escapes`.
    """

    hour: HourOfFile
    data: bytes
    order: str
    times: frozenset[bytes] | None
    compared: list[ListedSnapshot] = field(default_factory=list)
    credentials: Credentials | None = None
    python_escapes: str = ""


@dataclass(frozen=True)
class HourChecked:
    """What was found in an hour, without its lines."""

    read: HourRead
    comparison: Comparison
    raw_bytes: int
    unread: str = ""
    """Why the raw snapshots to compare could not be read; empty where they were."""


class Checker:
    """What the process does; see `tasks.workers.Work`."""

    def __init__(self, setup: Setup) -> None:
        gc.disable()  # nothing here goes round in circles, and much is made
        self._reader = (
            BulkReader(setup.source, setup.reads_at_once, setup.patience) if setup.source else None
        )

    def fetch(self, job: HourJob) -> list[bytes] | Unreadable:
        if self._reader is None or not job.compared:
            return []
        try:
            return self._reader.read([one.stored for one in job.compared], job.credentials)
        except CredentialsExpired as error:
            raise OutOfDate(str(error)) from None
        except Unreadable as problem:  # of one of them: no reason to look at nothing else
            return problem

    def work(self, job: HourJob, bodies: list[bytes] | Unreadable) -> HourChecked:
        return check_hour(job, bodies)


def check_hour(job: HourJob, bodies: list[bytes] | Unreadable) -> HourChecked:
    """Read an hour, and hold the `compared` snapshots of the job, of these bodies, against it.

    Where they could not be read, only the hour is.
    """
    if isinstance(bodies, Unreadable):
        return replace(check_hour(replace(job, compared=[]), []), unread=str(bodies))
    keep = {time_in_line(one) for one in job.compared}
    read = read_hour(job.data, job.hour, job.order, job.times, keep)
    comparison = Comparison()
    if not read.fault:
        snapshots = zip(job.compared, bodies, strict=True)
        comparison = compare(read.kept, snapshots, job.python_escapes)
    read.kept = {}
    return HourChecked(read, comparison, sum(map(len, bodies)))


def main() -> NoReturn:
    serve(Checker)
