"""What requests to S3 came to: how many, how often again and why, how many bytes, how long.

Plain values: what a process counted can be sent to another and added up there. Knows no S3 client
and imports none.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks import figures

_OPERATIONS = ("LIST", "GET", "HEAD", "PUT", "multipart", "DELETE")  # in the order of a run
_REASONS_SHOWN = 4


@dataclass(frozen=True)
class Traffic:
    """Requests of one operation, such as GET.

    `attempts` counts every try, `retries` those that followed a failed one, by the reason why that
    had failed. `bytes` is what came or went of bodies, the parts of those that were sent again
    included. `seconds` is the sum of the wall times of the requests from the first try to the last,
    waits between them included; requests overlap, so this is more than the wall time of them all.
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


def retries_in(requests: Mapping[str, Traffic]) -> "Counter[str]":
    """How often something was tried again, by reason, over all operations."""
    counted: Counter[str] = Counter()
    for one in requests.values():
        counted.update(one.retries)
    return counted


def sentence(requests: Mapping[str, Traffic]) -> str:
    """For a week under way: ``S3: 10,100 requests, 12 tried again (503 SlowDown 9, reset 3)``."""
    if not requests:
        return ""
    number = figures.count(sum(one.requests for one in requests.values()), "request")
    return f"S3: {number}, {_again(retries_in(requests))}"


def lines(requests: Mapping[str, Traffic]) -> list[str]:
    """For the end of a run: a line for each operation; nothing where there was none."""
    if not requests:
        return []
    known = [one for one in _OPERATIONS if one in requests]
    told = [f"{sentence(requests)}."]
    for operation in [*known, *sorted(set(requests) - set(known))]:
        one = requests[operation]
        each = f"{1000 * one.seconds / max(one.requests, 1):,.0f} ms each"
        size = f"{figures.size(one.bytes):>10}" if one.bytes else " " * 10
        again = f"  {_again(Counter(one.retries))}" if one.retries else ""
        told.append(f"  {operation:<9} {one.requests:>10,}  {size}  {each:>13}{again}".rstrip())
    return told


def _again(retries: "Counter[str]") -> str:
    if not retries:
        return "none tried again"
    most = [f"{reason} {times:,}" for reason, times in retries.most_common(_REASONS_SHOWN)]
    rest = len(retries) - len(most)
    more = [f"and {rest} other reasons"] if rest > 0 else []
    return f"{retries.total():,} tried again ({', '.join([*most, *more])})"
