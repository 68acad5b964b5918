"""One hour of a week file, line by line: what is in it, and the first thing that is wrong with it.

The hour must be one whole segment or gzip member, every line a JSON object with its `snapshot_time`
last, of the hour and of a snapshot that there is, and all in the promised order. It is read at
machine speed, without building the records. Pure functions over bytes; memory does not grow with
what damaged bytes claim to hold.
"""

import functools
import json
import operator
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import msgspec

from tasks.bustimes import manifest as manifests
from tasks.bustimes.manifest import HourOfFile
from tasks.bustimes.snapshot import MISSING, VehicleKey
from tasks.bustimes.verify.line_fields import FieldCount, Fields, Unusual, fields_of
from tasks.compression import Damaged

_LONGEST_LINE = 256 << 20

_TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")
_TIME_AT = slice(-27, -2)
_NAME_AT = slice(-45, -27)
_NAMES = {b',"snapshot_time":"', b'{"snapshot_time":"'}
_NOT_LAST = "does not have its snapshot_time once and last"
_WHOLE = 10**18
"""From here on, up and down, a whole number of a vehicle is ordered as text is."""


@dataclass
class HourRead:
    """What an hour holds, as far as it could be read.

    `fault` says what is wrong, to follow "the hour", or "line 7" where `line` is 7 (the hour's
    first is 1). `times` counts the lines of each snapshot. `fields` is None where lines have more
    of them than can be counted. `kept` holds the records of the times that were asked for, each
    without its `snapshot_time` and closing brace.
    """

    lines: int = 0
    uncompressed_bytes: int = 0
    times: Counter[bytes] = field(default_factory=Counter)
    vehicles: set[VehicleKey] = field(default_factory=set)
    fields: Fields | None = field(default_factory=dict)
    kept: dict[bytes, list[bytes]] = field(default_factory=dict)
    fault: str = ""
    line: int = 0


def read_hour(
    data: bytes,
    hour: HourOfFile,
    order: str,
    times: Collection[bytes] | None = None,
    keep: Collection[bytes] = (),
) -> HourRead:
    """Read an hour from its bytes of the week file; `hour` is what its manifest says of it.

    `times` are those of its snapshots, as lines have them; None where nobody knows. The records of
    the times in `keep` are kept. For one thread of a process.
    """
    found = HourRead(kept={time: [] for time in keep})
    reader = _Reader(found, hour.hour, hour.lines, order, times)
    try:
        for chunk in _line_chunks(manifests.unpack(hour, data)):
            reader.read(chunk)
        reader.end()
    except _Wrong as wrong:
        found.fault, found.line = wrong.what, wrong.line
    except Damaged as damaged:
        found.fault = str(damaged)
    found.fields = _field_count().take()
    return found


def fields_of_hour(data: bytes, hour: HourOfFile) -> Fields:
    """Every field of an hour with its kinds of values, thoroughly; nothing if it is damaged."""
    try:
        chunks = _line_chunks(manifests.unpack(hour, data))
        return fields_of(line for chunk in chunks for line in chunk.split(b"\n")[:-1])
    except (_Wrong, Damaged, Unusual):
        return {}


class _Wrong(Exception):
    """What is wrong, and in which line; 0 where it is the hour as a whole."""

    def __init__(self, what: str, line: int = 0) -> None:
        super().__init__(what, line)
        self.what, self.line = what, line


class _Reader:
    """Reads chunks of whole lines, one after the other."""

    def __init__(
        self,
        found: HourRead,
        hour: str,
        lines: int,
        order: str,
        times: Collection[bytes] | None,
    ) -> None:
        self._found, self._hour, self._lines = found, hour.encode(), lines
        self._by_vehicle = order == "vehicle"
        self._times = times
        self._last_rank: tuple[Any, ...] | None = None
        self._last_line = b""
        self._repeated = 0

    def read(self, chunk: bytes) -> None:
        found = self._found
        lines = chunk.split(b"\n")
        del lines[-1]
        self._note_repeated(lines)
        if found.lines + len(lines) > self._lines:
            raise self._other_count("more than")
        vehicles = self._vehicles(lines, chunk)
        times = [line[_TIME_AT] for line in lines]
        found.times.update(times)
        self._check_times(lines, set(times))
        try:
            _field_count().add(lines, chunk)
        except Unusual as unusual:
            at, what = unusual.args
            raise _Wrong(what, found.lines + 1 + at) from None
        self._check_order(vehicles, times)
        if found.kept:
            for time, line in zip(times, lines, strict=True):
                if time in found.kept:
                    found.kept[time].append(line[: _NAME_AT.start])
        found.lines += len(lines)
        found.uncompressed_bytes += len(chunk)

    def end(self) -> None:
        if self._found.lines != self._lines:
            raise self._other_count(f"{self._found.lines:,} and not")

    def _other_count(self, count: str) -> _Wrong:
        again = f"; line {self._repeated:,} is the one before it again" if self._repeated else ""
        return _Wrong(f"has {count} the {self._lines:,} lines that its manifest says{again}")

    def _note_repeated(self, lines: list[bytes]) -> None:
        """See whether a line stands twice: allowed, but worth a word where there are too many."""
        before = [self._last_line, *lines[:-1]]
        self._last_line = lines[-1]
        if not self._repeated and any(map(operator.eq, lines, before)):
            at = next(at for at, line in enumerate(lines) if line == before[at])
            self._repeated = self._found.lines + 1 + at

    def _fail(self, lines: list[bytes], is_wrong: Callable[[bytes], bool], what: str) -> None:
        """Raise for the first line that is wrong, if there is one."""
        for number, line in enumerate(lines, self._found.lines + 1):
            if is_wrong(line):
                raise _Wrong(what, number)

    def _vehicles(self, lines: list[bytes], chunk: bytes) -> list[VehicleKey]:
        """What each line is ordered by; raises for one that is no JSON object."""
        keys: list[Any]
        try:
            chunk.decode()
            keys = [_read(line).vehicleID for line in lines]
        except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
            self._fail(lines, lambda line: _object(line) is None, "is no JSON object")
            keys = [_patient_key(line) for line in lines]
        if set(map(type, keys)) != {int} or not -_WHOLE < min(keys) <= max(keys) < _WHOLE:
            keys = [
                key if type(key) is int and -_WHOLE < key < _WHOLE else _patient_key(line)
                for key, line in zip(keys, lines, strict=True)
            ]
        self._found.vehicles.update(keys)
        return keys

    def _check_times(self, lines: list[bytes], times: set[bytes]) -> None:
        if not {line[_NAME_AT] for line in lines} <= _NAMES:
            self._fail(lines, lambda line: line[_NAME_AT] not in _NAMES, _NOT_LAST)
        wrong: dict[bytes, str] = {}
        for time in times:
            if not _TIME.fullmatch(time):
                wrong[time] = _NOT_LAST
            elif not time.startswith(self._hour):
                wrong[time] = f"is of {time.decode()}, which is outside the hour"
            elif self._times is not None and time not in self._times:
                wrong[time] = f"is of {time.decode()}, when there was no readable snapshot"
        if wrong:
            first = next(at for at, line in enumerate(lines) if line[_TIME_AT] in wrong)
            raise _Wrong(wrong[lines[first][_TIME_AT]], self._found.lines + 1 + first)

    def _check_order(self, vehicles: list[VehicleKey], times: list[bytes]) -> None:
        ranks: list[tuple[Any, ...]] = []
        if self._last_rank is not None:
            ranks.append(self._last_rank)
        if not self._by_vehicle:
            ranks += zip(times, strict=True)
        elif set(map(type, vehicles)) == {int}:
            ranks += zip(repeat(False), vehicles, times, strict=False)
        else:
            ranks += zip((type(key) is tuple for key in vehicles), vehicles, times, strict=True)
        if ranks != sorted(ranks):
            at = next(at for at in range(1, len(ranks)) if ranks[at] < ranks[at - 1])
            number = self._found.lines + at + (self._last_rank is None)
            order = "vehicle, then time" if self._by_vehicle else "time"
            raise _Wrong(f"stands behind lines that come after it by {order}", number)
        self._last_rank = ranks[-1]


class _Line(msgspec.Struct):
    vehicleID: Any = None


_read = msgspec.json.Decoder(_Line).decode


@functools.cache
def _field_count() -> FieldCount:
    """The one of this process: what one hour's lines look like, the next one's do."""
    return FieldCount()


def _object(line: bytes) -> dict[str, Any] | None:
    """A line as Python reads it, which is patient: with half surrogates, and what else there is."""
    try:
        read = json.loads(line.decode(), parse_int=_whole_number)
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def _whole_number(digits: str) -> int | str:
    return int(digits) if len(digits.removeprefix("-")) <= 18 else digits


def _patient_key(line: bytes) -> VehicleKey:
    value = (_object(line) or {}).get("vehicleID")
    if type(value) is int:
        return value
    return MISSING if value is None else (type(value).__name__, json.dumps(value))


def _line_chunks(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes, cut behind line ends."""
    rest: list[bytes] = []
    size = 0
    for chunk in chunks:
        end = chunk.rfind(b"\n") + 1
        if end:
            yield b"".join([*rest, chunk[:end]])
            rest, size = [], 0
        rest.append(chunk[end:])
        size += len(chunk) - end
        if size > _LONGEST_LINE:
            raise _Wrong(f"has a line of more than {_LONGEST_LINE:,} bytes")
    if size:
        raise _Wrong("has a last line without an end")
