"""One search for faults: inputs that reach new code are kept, and changed further.

A `Search` feeds one target. It begins with the target's own inputs and those of earlier searches,
and then makes new ones for as long as it is asked to. Whatever a target raises is a fault, but for
nothing: a target says itself what is right. The same seed and inputs give the same search.
"""

import hashlib
import random
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ops.fuzz.changes import changed
from ops.fuzz.coverage import Reached
from ops.fuzz.targets import Target

_LATEST = 20  # of the kept inputs, which are chosen as often as all others


@dataclass(frozen=True)
class Fault:
    """An input, and what went wrong with it."""

    data: bytes
    told: str

    @property
    def kind(self) -> str:
        """The kind of exception, and where it was raised."""
        return _kind_of(self.told)


class Search:
    """See above. `before` is told of each input just before it is fed."""

    def __init__(
        self,
        target: Target,
        seed: int,
        kept: Iterable[bytes] = (),
        before: Callable[[bytes], object] = lambda _: None,
    ) -> None:
        self.target = target
        self.reached = Reached()
        self.runs = 0
        self.kept: list[bytes] = []
        self._chance = random.Random(seed)
        self._before = before
        self._first = [*target.seeds(), *kept]

    def steps(self) -> Iterator[Fault | bytes | None]:
        """Feed one input after the other: gives a fault, an input that was kept, or None."""
        for data in self._first:
            yield self.feed(data)
        while True:
            pool = self._chance.choice((self.kept, self.kept[-_LATEST:])) or [b""]
            data = min(self._chance.choices(pool, k=2), key=len)  # the shorter, the more of them
            other = self._chance.choice(self.kept or [b""])
            scraps, longest = self.target.scraps, self.target.longest
            yield self.feed(changed(data, other, scraps, self._chance, longest))

    def feed(self, data: bytes) -> Fault | bytes | None:
        """Feed one input."""
        self.runs += 1
        self._before(data)
        told = fault_of(self.target, data)
        if told:
            return Fault(data, told)
        if not self.reached.add(self.target.counters()):
            return None
        self.kept.append(data)
        return data


def fault_of(target: Target, data: bytes) -> str:
    """What a target has to say against an input: the kind of fault and a traceback, or nothing."""
    try:
        with target.counting():
            target.feed(data)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        kind = f"{type(error).__name__} in {place.name} of {Path(place.filename).name}"
        return "\n".join((kind, *traceback.format_exception(error)))
    return ""


def smaller(
    target: Target,
    data: bytes,
    tries: int = 3000,
    before: Callable[[bytes], object] = lambda _: None,
) -> bytes:
    """A smaller input with a fault of the same kind, made by leaving away what can be left away."""
    kind = _kind_of(fault_of(target, data))
    length = len(data)
    while length and tries:
        at = 0
        while at < len(data) and tries:
            tries -= 1
            shorter = data[:at] + data[at + length :]
            before(shorter)
            if _kind_of(fault_of(target, shorter)) == kind:
                data = shorter
            else:
                at += length
        length = min(length, len(data)) // 2
    return data


def _kind_of(told: str) -> str:
    return told.partition("\n")[0]


def read_inputs(folder: Path) -> list[bytes]:
    """The inputs that earlier searches have kept, the short ones first."""
    found = [path.read_bytes() for path in sorted(folder.glob("*"))] if folder.is_dir() else []
    return sorted(found, key=len)


def keep_input(folder: Path, data: bytes) -> Path:
    """Keep an input for later searches, under a name of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(data).hexdigest()[:16]
    path.write_bytes(data)
    return path
