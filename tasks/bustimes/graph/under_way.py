"""The run that this process is part of: what its tasks, its progress and its end all know.

luigi makes the tasks itself and gives them nothing but their parameters, so there is one `run` in a
process. Luigi's workers are forks of it: what must count for all of them is in shared memory.
"""

import os
from pathlib import Path

import luigi

from tasks import processes
from tasks.bustimes.refusals import RefusalCount
from tasks.bustimes.standing import StandingFile
from tasks.progress import RunProgress
from tasks.storage import tally


class UnderWay:
    """A run: AllWeeks counts its weeks, and a WeekTask alone is a run of one."""

    def __init__(self) -> None:
        self.refusals = RefusalCount()
        self.traffic = tally.RunTally()
        self.standing = StandingFile(None)
        self.scheduling_process = os.getpid()
        self._progress: RunProgress | None = None
        self._workers: int | None = None
        self._to_do = 0  # weeks, where AllWeeks has found out

    def begin(self, workers: int, standing: Path | None) -> None:
        """With so many workers; `standing` is the file to keep `tasks.bustimes.standing` in."""
        self._workers = workers
        self.traffic = tally.RunTally()
        self.standing = StandingFile(standing)
        self.standing.begin(self._progress.total if self._progress is not None else 0)

    def end(self) -> None:
        """Nothing is drawn any more; what was asked of S3 is counted."""
        if self._progress is not None:
            self._progress.close()
        self.count_traffic()

    def count(self, to_do: int) -> RunProgress:
        """So many weeks are to do: the progress of the run begins anew."""
        self._to_do = to_do or self._to_do
        return self._begin_progress(to_do)

    @property
    def progress(self) -> RunProgress:
        """Where the run stands, for people."""
        return self._progress or self._begin_progress(1)

    def _begin_progress(self, to_do: int) -> RunProgress:
        self._progress = RunProgress(to_do, "week")
        self.standing.begin(to_do)
        return self._progress

    def count_traffic(self) -> None:
        """What this process has asked of S3 since this was called last is the run's."""
        self.traffic.note(tally.of_process.take())

    def cores_for_each_worker(self) -> int:
        """How many converters each week may have that is under way."""
        workers = self._workers or luigi.interface.core().workers
        return max(1, processes.cores() // min(workers, self._to_do or workers))


run = UnderWay()
