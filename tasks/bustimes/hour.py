"""One hour of raw snapshots to one segment of compressed JSON lines: the conversion itself.

Pure functions, bytes in and bytes out, for any number of processes or a notebook: no settings, no
S3, no luigi. `convert` promises that every record of every readable snapshot stands in the result
exactly once, with `snapshot_time` added last, in the promised order; a body that cannot be read is
named with its reason and leaves nothing behind. The same input gives the same bytes.

An hour is the unit because it is large enough to compress well and small enough to sort in
memory: inside it all records of one vehicle stand together, which makes neighbouring lines nearly
equal and halves the size.

How: `tasks.bustimes.kernel` reads, orders and compresses. A record that it leaves out is read by
Python's own parsers and put back in its place; where that fails as well, or the body is no plain
list of records, `tasks.bustimes.snapshot` reads the whole body, or says what is wrong with it.
"""

import bisect
import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tasks.bustimes import snapshot
from tasks.bustimes.kernel import BEHIND_ALL_NUMBERS, NO_VEHICLE, NOT_READ, ODD, Kernel, kernel
from tasks.bustimes.python_repr import Escapes
from tasks.bustimes.snapshot import MISSING, Refused, VehicleKey
from tasks.compression import checked_segment, deflate_stream, text_crc32

BY_LINES = 0
"""The compression level at which the kernel compresses, each line by what differs from the last."""

Fields = dict[str, dict[str, int]]
"""For each field, how often it has a value of which kind."""

MOST_NAMES, LONGEST_NAMES = 256, 16384
"""How many fields are counted beside the kernel's, and how many bytes their names may have."""


@dataclass(frozen=True)
class ConvertedHour:
    """One hour's segment (see `tasks.compression`) and what is in it.

    `segment` is empty where there are no lines; `crc32` is that of the lines.
    `refused` holds (key, reason) of each body that is no snapshot; `tokenized` counts records
    that needed more than the kernel; `records` holds how many each snapshot has, in their order,
    None for a refused one; `vehicles` holds each vehicle once. `fields` holds the first few hundred
    names that the records have: whoever makes up names can make up millions. `has_asked_setting`
    tells whether another setting of `python_escapes` might have given another hour.
    """

    segment: bytes
    crc32: int
    lines: int
    uncompressed_bytes: int
    snapshots: int
    raw_bytes: int
    refused: list[tuple[str, str]]
    tokenized: int
    records: list[int | None] = field(default_factory=list)
    vehicles: list[VehicleKey] = field(default_factory=list)
    fields: Fields = field(default_factory=dict)
    has_asked_setting: bool = False


def convert(
    snapshots: Iterable[tuple[str, dt.datetime, bytes]],
    order: str,
    level: int,
    *,
    count: int,
    largest: int,
    python_escapes: str = "",
    most_bytes: int = snapshot.MOST_BYTES,
    on_refused: Callable[[str, bytes], object] = lambda _key, _body: None,
    using: Kernel | None = None,
) -> ConvertedHour:
    """Convert (key, UTC time, body) of one hour, which must come in time order.

    There are at most `count` of them, and most have no more than `largest` bytes. `order` is
    "vehicle" or "snapshot"; `level` is libdeflate's, 1 to 12, or `BY_LINES`. `python_escapes` and
    `most_bytes` are as in `snapshot.read_records`. `on_refused` is called with the key
    and body of each that is no snapshot. `using` is the kernel to do it with: this process's own,
    as a rule. No body is held longer than it is read. Raises `kernel.OutOfMemory` for an hour too
    large for this machine.
    """
    reader = _Reader(using or kernel(), count, largest, python_escapes, most_bytes)
    refused: list[tuple[str, str]] = []
    places: list[int | None] = []  # of each among those that the kernel has opened
    raw_bytes = 0
    for key, time, body in snapshots:
        raw_bytes += len(body)
        try:
            places.append(reader.read(body, line_end(time)))
        except Refused as reason:
            refused.append((key, str(reason)))
            places.append(None)
            on_refused(key, body)
    vehicles = reader.sort(by_vehicle=order == "vehicle")
    counts = [*reader.kernel.records_of_snapshots(), 0]
    lines, size = reader.kernel.records, reader.kernel.lines_bytes
    segment, crc32 = b"", 0
    if lines and level == BY_LINES:
        segment, adler32 = reader.kernel.segment()
        crc32 = checked_segment(
            segment, size, adler32
        )  # read by others before anybody relies on it
    elif lines:
        text = reader.kernel.lines()
        segment = reader.kernel.segment_of(deflate_stream(text, level))
        crc32 = text_crc32(text)
    return ConvertedHour(
        segment=segment,
        crc32=crc32,
        lines=lines,
        uncompressed_bytes=size,
        snapshots=len(places),
        raw_bytes=raw_bytes,
        refused=refused,
        tokenized=reader.tokenized,
        records=[None if place is None else counts[place] for place in places],
        vehicles=vehicles,
        fields=reader.fields(),
        has_asked_setting=reader.has_asked_setting,
    )


def line_end(time: dt.datetime) -> bytes:
    """What stands in place of a record's closing brace: its snapshot_time, and the line's end."""
    return b',"snapshot_time":"%s"}\n' % time.isoformat().encode()


class _Reader:
    """The records of an hour, by the kernel where it can and by Python where it cannot."""

    def __init__(
        self, empty: Kernel, snapshots: int, largest: int, python_escapes: str, most_bytes: int
    ) -> None:
        self.kernel = empty
        self.tokenized = 0
        self.has_asked_setting = False
        self._python_escapes, self._most_bytes = python_escapes, most_bytes
        self._opened = 0
        self._fields = _FieldCounts()
        self._others: list[tuple[int, VehicleKey]] = []  # address of the record, vehicle
        self._same: dict[VehicleKey, VehicleKey] = {}  # of equal ones, one is enough
        self.kernel.begin(largest, snapshots)

    def read(self, body: bytes, end: bytes) -> int:
        """Add a snapshot's records; raises `Refused`.

        Returns its place among those that have any, -1 where it has none.
        """
        try:
            return self._read(body, end)
        except Refused as refused:
            self.has_asked_setting |= refused.has_asked_setting
            raise

    def _read(self, body: bytes, end: bytes) -> int:
        found = snapshot.text_of(body, self._most_bytes)
        if found is None:
            return -1
        text = found.content
        is_repr = not snapshot.looks_like_json(text)
        if not snapshot.is_utf8(text):
            snapshot.records_of(found, self._python_escapes)  # says where
        status = self.kernel.open(text, end, is_repr)
        self._opened += 1
        escapes = Escapes(text, self._python_escapes)
        odd = _FieldCounts()
        others = len(self._others)
        while status == ODD:
            start, stop = self.kernel.odd_record()
            record = snapshot.read_one_record(text[start:stop], is_repr, escapes)
            if record is None:
                status = NOT_READ
                break
            self._add(*record, odd)
            status = self.kernel.read()
        if status == NOT_READ:
            self.kernel.undo()
            del self._others[others:]
            odd = _FieldCounts()
            records = snapshot.records_of(found, self._python_escapes)
            self.has_asked_setting |= records.has_asked_setting
            for record in zip(records.records, records.vehicles, strict=True):
                self._add(*record, odd)
        self.has_asked_setting |= escapes.has_asked_setting
        self.tokenized += odd.records
        self._fields.add(odd)
        return self._opened - 1

    def sort(self, by_vehicle: bool) -> list[VehicleKey]:
        """Put the records in order: whole numbers first, then all other kinds of vehicle."""
        others = sorted({vehicle for _, vehicle in self._others})
        before = bisect.bisect_left(others, MISSING)
        vehicle_of: dict[int, VehicleKey] = {NO_VEHICLE: MISSING}
        for place, other in enumerate(others):
            start = BEHIND_ALL_NUMBERS if place < before else NO_VEHICLE + 1
            vehicle_of[start + place] = other
        number_of = {vehicle: number for number, vehicle in vehicle_of.items()}
        for address, other in self._others:
            self.kernel.set_vehicle(address, number_of[other])
        return [vehicle_of.get(number, number) for number in self.kernel.sort(by_vehicle)]

    def fields(self) -> Fields:
        """Every field that was counted, with its kinds of values."""
        found = self.kernel.fields()
        for name, kinds in self._fields.kinds.items():
            found[name] = dict(Counter(found.get(name, {})) + kinds)
        return found

    def _add(self, record: bytes, vehicle: VehicleKey, counts: "_FieldCounts") -> None:
        counts.add_record(record)
        if isinstance(vehicle, int):
            self.kernel.add(record, vehicle)
        elif vehicle == MISSING:
            self.kernel.add(record, NO_VEHICLE)
        else:
            vehicle = self._same.setdefault(vehicle, vehicle)
            self._others.append((self.kernel.add(record, BEHIND_ALL_NUMBERS), vehicle))


class _FieldCounts:
    """How often fields have values of each kind, in records that the kernel does not count."""

    def __init__(self) -> None:
        self.records = 0
        self.kinds: dict[str, Counter[str]] = {}
        self._length = 0

    def add_record(self, record: bytes) -> None:
        self.records += 1
        for name, value in snapshot.fields_of(record).items():
            if self._has_room_for(name):
                self.kinds[name][snapshot.kind_of(value)] += 1

    def add(self, more: "_FieldCounts") -> None:
        self.records += more.records
        for name, kinds in more.kinds.items():
            if self._has_room_for(name):
                self.kinds[name] += kinds

    def _has_room_for(self, name: str) -> bool:
        if name not in self.kinds:
            length = self._length + len(name.encode())
            if len(self.kinds) == MOST_NAMES or length > LONGEST_NAMES:
                return False
            self.kinds[name], self._length = Counter(), length
        return True
