"""Some of a week's raw snapshots, or all, held record by record against the week file.

`draw` chooses them by a seed, `compare` holds the records of one hour against its lines: each must
be there as often as in the snapshot, and nothing else of its time. Records are read by
`tasks.bustimes.verify.second_reader` and not by the conversion.
"""

import math
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby, zip_longest

from tasks import figures
from tasks.bustimes.listing import ListedSnapshot, Listing
from tasks.bustimes.verify.second_reader import NotRead, text_of, texts_of

_SHOWN = 100


@dataclass
class Comparison:
    """How many snapshots were compared, with how many records; a sentence for each that differs."""

    snapshots: int = 0
    records: int = 0
    faults: list[str] = field(default_factory=list)


def draw(listing: Listing, share: float, seed: int) -> set[str]:
    """The keys of a share of the snapshots, 0 to 1: at least one, and all for 1."""
    keys = [one.stored.key for one in listing.snapshots]
    wanted = max(1, math.ceil(share * len(keys)))
    choice = random.Random(f"{seed} {listing.week}")
    return set(keys if wanted >= len(keys) else choice.sample(keys, wanted))


def time_in_line(snapshot: ListedSnapshot) -> bytes:
    """The time of a snapshot as its lines have it."""
    return snapshot.time.isoformat().encode()


def compare(
    kept: dict[bytes, list[bytes]],
    snapshots: Iterable[tuple[ListedSnapshot, bytes]],
    python_escapes: str = "",
) -> Comparison:
    """Hold snapshots (and their bodies), in time order, against what the lines of their times hold.

    `kept` is as in `HourRead`; all readable snapshots of a time must come, not just one.
    `python_escapes` is the setting that they were converted by, where one needed it.
    """
    found = Comparison()
    for time, group in groupby(snapshots, key=lambda one: time_in_line(one[0])):
        texts: list[bytes] = []
        keys = []
        for snapshot, body in group:
            keys.append(snapshot.stored.key)
            try:
                texts += texts_of(body, python_escapes)
            except NotRead as error:
                found.faults.append(f"{keys[-1]} was not refused, although {error}")
        lines = [line + b"}" if line else b"{}" for line in kept[time]]
        found.snapshots += len(keys)
        found.records += len(texts)
        if fault := _difference(sorted(texts), sorted(lines)):
            found.faults.append(f"of {' and '.join(keys)}, {fault}")
    return found


def _difference(texts: list[bytes], lines: list[bytes]) -> str:
    """What is in one and not in the other; nothing where lines are only written otherwise.

    Both come sorted: so of two that are equal but for a few, most stand beside each other.
    """
    if texts == lines:
        return ""
    pairs = zip_longest(texts, lines)
    unequal = [pair for pair in pairs if pair[0] != pair[1]]
    left = Counter(text for text, _ in unequal if text is not None)
    read = Counter(text_of(line) or line for _, line in unequal if line is not None)
    missing, others = left - read, read - left
    parts = []
    if missing:
        count = figures.count(missing.total(), "record")
        parts.append(f"{count} of {len(texts):,} cannot be found in the file: {_first(missing)}")
    if others:
        count = figures.count(others.total(), "record")
        parts.append(f"{count} in the file cannot be found in it: {_first(others)}")
    return ", and ".join(parts)


def _first(records: Counter[bytes]) -> str:
    text = min(records).decode(errors="replace")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"
