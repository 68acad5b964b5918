"""How fast the weeks were converted, and what S3 made of it: requests, and what was tried again."""

import statistics
from collections import Counter
from dataclasses import dataclass, field

from ops.report.reading import Described
from ops.report.states import WeekState


@dataclass
class Operation:
    """One S3 operation over all conversions; `retries` by reason."""

    name: str
    requests: int = 0
    attempts: int = 0
    bytes: int = 0
    seconds: float = 0.0
    retries: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Speed:
    """Raw bytes a second of wall time, in the week in the middle and at either end."""

    weeks: int
    seconds: float
    median: float
    slowest: float
    fastest: float
    operations: list[Operation]

    @property
    def retries(self) -> int:
        return sum(one.retries.total() for one in self.operations)


def rate(described: Described) -> float | None:
    """Raw bytes a second of one conversion, where its manifest tells."""
    if described.conversion is None:
        return None
    return described.raw_bytes / max(described.conversion.seconds, 1e-3)


def speed(states: list[WeekState]) -> Speed | None:
    """Of all weeks whose manifests tell; None where none does."""
    described = [one.described for one in states if one.described is not None]
    rates = [found for one in described if (found := rate(one)) is not None]
    conversions = [one.conversion for one in described if one.conversion is not None]
    operations: dict[str, Operation] = {}
    for conversion in conversions:
        for name, requests in conversion.requests.items():
            known = operations.setdefault(name, Operation(name))
            known.requests += requests.requests
            known.attempts += requests.attempts
            known.bytes += requests.bytes
            known.seconds += requests.seconds
            known.retries.update(requests.retries)
    if not rates:
        return None
    return Speed(
        len(rates),
        sum(one.seconds for one in conversions),
        statistics.median(rates),
        min(rates),
        max(rates),
        list(operations.values()),
    )
