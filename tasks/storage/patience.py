"""How long to wait for S3, how often to ask again, and when to give up: decided here for all ways.

Used by libcurl's GETs and by boto3's calls alike, of which neither tries again by itself.
"""

import random
import time
from dataclasses import dataclass

from tasks import figures


@dataclass(frozen=True, slots=True)
class Patience:
    """Limits of a request; seconds, where nothing else is said.

    The time for all attempts, and for each of them, is for small objects; a large one gets more
    (`seconds_more`).
    """

    connect: float = 10.0
    stall: float = 30.0
    """Without a byte, within an attempt."""
    attempt: float = 120.0
    request: float = 300.0
    """Over all its attempts and the pauses between them."""
    attempts: int = 10
    first_pause: float = 0.1
    longest_pause: float = 20.0
    retries: int = 100_000
    """Of all requests of a run together: when they are used up, the first that fails is the end."""

    def pause(self, failed: int) -> float:
        """How long to wait after so many failed attempts of a request, 1 or more.

        Anything up to a limit that doubles each time: those who failed together do not all come
        back together.
        """
        limit = min(self.longest_pause, self.first_pause * 2 ** (failed - 1))
        return random.uniform(0, limit)

    def pause_before_next(
        self, failed: int, began: float, size: int, asked: float = 0.0
    ) -> float | None:
        """How long to wait until the next attempt, or None where there is to be none.

        `began` is when the first began, by `time.monotonic`, `size` that of the object in bytes,
        and `asked` how long the server asks to wait.
        """
        pause = max(self.pause(failed), min(asked, self.longest_pause))
        ends = began + self.request + self.seconds_more(size)
        has_time = time.monotonic() + pause + self.connect < ends
        return pause if failed < self.attempts and has_time else None

    def seconds_of_attempt(self, began: float, size: int) -> float:
        """How long an attempt that begins now may take, of a request that began then."""
        left = began + self.request - time.monotonic()
        return max(self.connect, min(self.attempt, left)) + self.seconds_more(size)

    def seconds_more(self, size: int) -> float:
        """What an object of so many bytes may take beyond a small one."""
        return size / _SLOWEST_BYTES_A_SECOND


_SLOWEST_BYTES_A_SECOND = 1 << 18

MOMENTS_OF_CLOCK = 2
"""So often may S3 say of one request that the clock is wrong before it is believed."""


USED_UP = (
    "and the retries of this run (retry_budget) are used up. Run it again when S3, or the way to "
    "it, is well: what is finished is kept."
)
"""The end of a sentence about what has failed."""


def tried(attempts: int, began: float) -> str:
    """How often and how long it was tried, such as ``10 tries in 42.0 s``."""
    times = "1 try" if attempts == 1 else f"{attempts:,} tries"
    return f"{times} in {figures.duration(time.monotonic() - began)}"
