"""The snapshots that were set aside, by reason: how many, which, and where their bytes are kept."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ops.report.states import WeekState
from tasks.bustimes.manifest import refused_key_of
from tasks.weeks import Week

_KEYS = 40
"""So many are named for each reason; the manifests name them all."""


@dataclass(frozen=True)
class Kept:
    """One of them: its raw key, its size, and where its bytes are."""

    key: str
    bytes: int
    place: str


@dataclass(frozen=True)
class Reason:
    """All that were set aside for one reason, in which weeks; some of them by name."""

    reason: str
    count: int
    bytes: int
    weeks: list[Week]
    examples: list[Kept]


def reasons(states: list[WeekState], address_of: Callable[[str], str]) -> list[Reason]:
    """The most frequent reason first; `address_of` gives the address of a key of the archive."""
    found: dict[str, list[tuple[Week, Kept]]] = {}
    for week, reason, kept in _refused(states, address_of):
        found.setdefault(reason, []).append((week, kept))
    of_reasons = [
        Reason(
            reason,
            len(those),
            sum(kept.bytes for _, kept in those),
            sorted({week for week, _ in those}),
            [kept for _, kept in those[:_KEYS]],
        )
        for reason, those in found.items()
    ]
    return sorted(of_reasons, key=lambda one: (-one.count, one.reason))


def _refused(
    states: list[WeekState], address_of: Callable[[str], str]
) -> Iterator[tuple[Week, str, Kept]]:
    for one in states:
        for refused in one.described.refused if one.described is not None else []:
            place = address_of(refused_key_of(one.week, refused.key))
            yield one.week, refused.reason, Kept(refused.key, refused.bytes, place)
