"""Which fields lines have, and with which kinds of values: counted at machine speed.

Lines that differ in digits only have the same fields and kinds, so one of them is read for all.
That is wrong only where names of fields differ in digits only, and none had one when the first of
those lines was read: who finds a count that is not as promised should have `fields_of` count again.
"""

import json
from collections import Counter
from collections.abc import Iterable
from typing import NoReturn

from tasks.bustimes.hour import LONGEST_NAMES, MOST_NAMES

Fields = dict[str, dict[str, int]]
"""For each field, how often it has a value of which kind."""

_DIGITS = b"0123456789"
_DIGIT_SET = frozenset(_DIGITS.decode())
_KNOWN_BYTES = 16 << 20
_MOST_SHAPES = 1000
_MOST_PLACES = 200_000
"""Fields of all shapes that an hour has: with 28 each, that is thousands of them."""
_TIME = "snapshot_time"

_Shape = tuple[tuple[str, str], ...]
"""Names and kinds of a line's fields, but for its time."""


class Unusual(ValueError):
    """A line is no record with its time: the line's number in the list, from 0, and why."""


class _Alike:
    """All lines of one shape, and how many there were."""

    __slots__ = ("shape", "times")

    def __init__(self, shape: _Shape) -> None:
        self.shape = shape
        self.times = 0


class FieldCount:
    """Counts the fields of lines; keeps what it has learned for the next hour."""

    def __init__(self) -> None:
        self._known: dict[bytes, _Alike | None] = {}
        self._known_bytes = 0
        self._shapes: dict[_Shape, _Alike] = {}
        self._counted: list[_Alike] = []
        self._places = 0

    def add(self, lines: list[bytes], text: bytes) -> None:
        """Count lines, JSON objects, which are `text` with a line break behind each.

        Raises `Unusual` for the first that has its time more than once, or space before it.
        """
        bare = text.translate(None, _DIGITS).split(b"\n")
        del bare[-1]
        for key, times in Counter(bare).items():
            if key not in self._known:
                self._learn(key, lines, bare.index(key))
            alike = self._known[key]
            if alike is not None:
                self._count(alike, times)
            else:
                for at, other in enumerate(bare):
                    if other == key:
                        self._count(self._alike(_shape(lines[at], at)), 1)

    def take(self) -> Fields | None:
        """What was counted since this was asked last; None if that was too much to keep."""
        found: Fields | None = {} if self._places <= _MOST_PLACES else None
        for alike in self._counted:
            if found is not None:
                add(found, {name: {kind: alike.times} for name, kind in alike.shape})
            alike.times = 0
        self._counted.clear()
        self._places = 0
        return found

    def _learn(self, key: bytes, lines: list[bytes], at: int) -> None:
        shape = _shape(lines[at], at)
        if self._known_bytes > _KNOWN_BYTES:
            self._known.clear()
            self._known_bytes = 0
        has_digits = any(not _DIGIT_SET.isdisjoint(name) for name, _ in shape)
        self._known[key] = None if has_digits else self._alike(shape)
        self._known_bytes += len(key)

    def _alike(self, shape: _Shape) -> _Alike:
        if len(self._shapes) > _MOST_SHAPES:
            self._shapes.clear()
        return self._shapes.setdefault(shape, _Alike(shape))

    def _count(self, alike: _Alike, times: int) -> None:
        if not alike.times:
            self._places += len(alike.shape)
            if self._places > _MOST_PLACES:
                return
            self._counted.append(alike)
        alike.times += times


def fields_of(lines: Iterable[bytes]) -> Fields:
    """The same, thoroughly, each line for itself."""
    found: dict[str, Counter[str]] = {}
    for at, line in enumerate(lines):
        for name, kind in _shape(line, at):
            found.setdefault(name, Counter())[kind] += 1
    return {name: dict(kinds) for name, kinds in found.items()}


def add(fields: Fields, more: Fields) -> None:
    """Add the counts of other lines to `fields`."""
    for name, kinds in more.items():
        known = fields.setdefault(name, {})
        for kind, times in kinds.items():
            known[kind] = known.get(kind, 0) + times


def difference(found: Fields, promised: Fields) -> str:
    """A sentence on the first count that is not as promised; nothing where all are.

    Of so many names that a conversion does not count them all, it may have counted fewer.
    """
    is_all = len(found) <= MOST_NAMES and len("".join(found).encode()) <= LONGEST_NAMES
    for name in sorted({*found, *promised}):
        there, said = found.get(name, {}), promised.get(name, {})
        for kind in sorted({*there, *said}):
            counted, promise = there.get(kind, 0), said.get(kind, 0)
            if counted != promise if is_all else counted < promise:
                return f"{name} is {kind} {counted:,} times, its manifest says {promise:,}"
    return ""


class _Whole(str):
    """A whole number's digits, of any length."""


class _Pairs(list[tuple[str, object]]):
    """An object as it stands there."""


_KINDS: dict[type, str] = {
    bool: "boolean",
    _Whole: "integer",
    float: "number",
    str: "text",
    list: "list",
    _Pairs: "object",
}


def _shape(line: bytes, at: int) -> _Shape:
    try:
        pairs = json.loads(
            line,
            parse_int=_Whole,
            parse_constant=_refuse,
            object_pairs_hook=_Pairs,
        )
    except (ValueError, RecursionError):
        pairs = None
    if not isinstance(pairs, _Pairs) or line[:1] != b"{":
        raise Unusual(at, "is no JSON object")
    name, _ = pairs.pop() if pairs else ("", None)
    kinds = {_as_text(name): _KINDS.get(type(value), "null") for name, value in pairs}
    if name != _TIME or _TIME in kinds:
        raise Unusual(at, f"does not have its {_TIME} once and last")
    return tuple(kinds.items())


def _as_text(name: str) -> str:
    """A name, its half surrogates as escapes: so manifests have them."""
    return name.encode("utf-8", "backslashreplace").decode()


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)
