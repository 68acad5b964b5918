"""How long to wait for S3, how often to ask again, and when to give up."""

import random
from dataclasses import dataclass


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
    retries: int = 10_000
    """Of all requests together: when they are used up, the first that fails is the end."""

    def pause(self, failed: int) -> float:
        """How long to wait after so many failed attempts of a request, 1 or more.

        Anything up to a limit that doubles each time: those who failed together do not all come
        back together.
        """
        limit = min(self.longest_pause, self.first_pause * 2 ** (failed - 1))
        return random.uniform(0, limit)

    def seconds_more(self, size: int) -> float:
        """What an object of so many bytes may take beyond a small one."""
        return size / _SLOWEST_BYTES_A_SECOND


_SLOWEST_BYTES_A_SECOND = 1 << 18
