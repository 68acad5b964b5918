"""What requests to S3 came to: how many, how often again and why, how many bytes, how long.

Plain values: what a process counted can be sent to another and added up there. Knows no S3 client
and imports none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Traffic:
    """Requests of one operation, such as GET.

    `attempts` counts every try, `retries` those that followed a failed one, by the reason why that
    had failed. `bytes` is what came of bodies, the parts of those that were read again included.
    `seconds` is the sum of the wall times of the requests from the first try to the last, waits
    between them included; requests overlap, so this is more than the wall time of them all.
    """

    requests: int = 0
    attempts: int = 0
    bytes: int = 0
    seconds: float = 0.0
    retries: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: "Traffic") -> "Traffic":
        retries = dict(self.retries)
        for reason, times in other.retries.items():
            retries[reason] = retries.get(reason, 0) + times
        return Traffic(
            self.requests + other.requests,
            self.attempts + other.attempts,
            self.bytes + other.bytes,
            self.seconds + other.seconds,
            retries,
        )
