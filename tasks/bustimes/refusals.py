"""How many snapshots a run may refuse: one count for all its processes.

The count lives in shared memory made before luigi forks its workers, so that `max_errors` holds
for the run and not for each week. It starts at nought with every run.
"""

from tasks import across_forks, figures
from tasks.problem import Problem


class TooManyRefused(Problem):
    """The run stops; starting it again would only set aside so many more."""


class RefusalCount:
    """Refused snapshots of this run, counted against `max_errors`."""

    def __init__(self) -> None:
        self._count = across_forks.memory(across_forks.Count)
        self._lock = across_forks.Lock()

    def add(self, refused: list[tuple[str, str]], max_errors: int) -> None:
        """Count (key, reason) pairs; raises `TooManyRefused` once they are more than that."""
        with self._lock:
            self._count.value += len(refused)
            count = self._count.value
        if count <= max_errors:
            return
        example = f" The last one: {refused[-1][0]}, because {refused[-1][1]}." if refused else ""
        raise TooManyRefused(
            f"The run stops: {figures.count(count, 'snapshot')} could not be read, and max_errors "
            f"allows {max_errors:,}.{example} Look at it; if such objects are to be expected, give "
            f"MAX_ERRORS={max(count * 2, 1000)} (or set max_errors in luigi.cfg): they are set "
            "aside under _refused/ and named in the manifest."
        )

    def check(self, max_errors: int) -> None:
        """Raises `TooManyRefused` where the run has refused more than `max_errors` already."""
        count = self._count.value
        if count > max_errors:
            raise TooManyRefused(
                f"not begun, because the run stops: {figures.count(count, 'snapshot')} could not "
                f"be read, and max_errors allows {max_errors:,}."
            )
