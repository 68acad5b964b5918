"""The retries of a run: one count for all that it asks of S3.

The count lies in shared memory made before luigi forks its workers. A converter process, which is
no fork, is given its share of what is left when its week begins, and what it spent is counted with
each hour that it has done.
"""

from tasks import across_forks


class RetryBudget:
    """How many retries were spent. Without a lock, which a killed process would keep: of two that
    are spent in the same instant by two processes one may not count, and the budget bears that."""

    def __init__(self) -> None:
        self._spent = across_forks.memory(across_forks.Count)

    def spend(self, retries: int = 1) -> None:
        self._spent.value += retries

    def left_of(self, retries: int) -> int:
        """What is left where a run may spend so many."""
        return max(0, retries - int(self._spent.value))

    def share_of(self, retries: int, processes: int) -> int:
        """What each of so many processes may spend by itself."""
        return -(-self.left_of(retries) // processes)


of_run = RetryBudget()
