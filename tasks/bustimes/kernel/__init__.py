"""The conversion at machine speed: C compiled to WebAssembly, in a memory of its own.

`kernel.wasm` is made from the C files beside it by `make kernel` (`ops.kernel`) and is the same on
every machine; nobody needs a compiler to use it. It reads, orders and compresses what is usual, and
says so wherever something is not: it never guesses, and `tasks.bustimes.hour` then asks Python's
own parsers. Whatever bytes come in, it can reach nothing but its own memory.
"""

import atexit
import ctypes
import functools
import hashlib
import mmap
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import wasmtime

FOLDER = Path(__file__).parent
WASM = FOLDER / "kernel.wasm"

READ, ODD, NOT_READ = range(3)
_NO_MEMORY = 1  # a record takes two bytes at least: no odd one ends there
KINDS = ("null", "boolean", "integer", "number", "text", "list", "object")
"""What a value can be, in the order in which the kernel counts them."""

BEHIND_ALL_NUMBERS = 1 << 62
"""Below it is what a whole number of a vehicle can be; above it there is room for other kinds."""

NO_VEHICLE = 3 << 61
"""What the kernel orders records by that have no vehicle, or null for it."""

ADDRESSES = 1 << 32
"""What a kernel's memory takes of a process's addresses from the beginning, in bytes.

It is also the most that it can have.
"""

LONGEST_LINE_END = 56
"""What `Kernel.open` can put in place of a closing brace, in bytes."""

_FIELD_BYTES = 4 * (2 + len(KINDS))
_END_BYTES = 64  # of a line's end and what is kept with it; how many records have it comes first
_RECORD_BYTES = 16  # before a record's text; the first eight are its vehicle
_ADDED_TO_VEHICLES = 1 << 63


class OutOfMemory(Exception):
    """An hour does not fit into memory: this machine's, or the 4 GB that the kernel can have."""


class Kernel:
    """One hour at a time: `begin`, each snapshot, `sort`, then its lines in one form."""

    def __init__(self, module: "wasmtime.Module | None" = None) -> None:
        """`module` is another than the compiled kernel beside this file, of the same engine."""
        import wasmtime  # here: who only knows what an hour is, such as a scheduler, does without

        self._store = wasmtime.Store(engine())
        try:
            instance = wasmtime.Instance(self._store, module or _module(), [])
        except wasmtime.WasmtimeError as error:  # it wants 4 GB of addresses, though no memory
            if "mmap" not in str(error):
                raise
            raise OutOfMemory from None
        exports = instance.exports(self._store)
        memory = exports["memory"]
        assert isinstance(memory, wasmtime.Memory)
        self._memory = memory
        _ask_for_large_pages(self._pointer(0))
        self._functions = {
            name: function
            for name, function in exports.items()
            if isinstance(function, wasmtime.Func)
        }
        self._body = self._largest_body = self._snapshots = self._snapshots_left = 0
        self._odd = (0, 0)

    def begin(self, largest_body: int, snapshots: int) -> None:
        """Start an hour of so many snapshots; what was left of the last one is gone."""
        self._snapshots_left = 0
        self._body = self._needed("begin", largest_body + 64, snapshots)
        self._largest_body = largest_body
        self._snapshots = self._snapshots_left = snapshots

    def open(self, body: bytes, line_end: bytes, is_repr: bool) -> int:
        """Begin to `read` the next snapshot, UTF-8; `line_end` replaces records' closing braces.

        A body may be longer than `begin` was told. Raises `ValueError` for a line end that is too
        long, or a snapshot too many: they would be written over the rest.
        """
        if len(line_end) > LONGEST_LINE_END:
            raise ValueError("a line end is longer than there is room for")
        if len(body) > self._largest_body:  # twice as much, so that this is rare
            self._largest_body = max(len(body), 2 * self._largest_body)
            self._body = self._needed("grow", self._largest_body + LONGEST_LINE_END + 8)
        if not self._snapshots_left:
            raise ValueError("there are more snapshots than the hour was begun for")
        self._snapshots_left -= 1
        self._write(self._body, body, line_end)
        return self._status(self._call("open", len(body), len(line_end), is_repr))

    def read(self) -> int:
        """Read on: READ at the end, ODD after a record that was left out, NOT_READ if it fails."""
        return self._status(self._call("read"))

    def odd_record(self) -> tuple[int, int]:
        """Where in the body the record that was left out begins and ends."""
        return self._odd

    def add(self, record: bytes, vehicle: int) -> int:
        """Add a record, compact JSON, as the next one; gives its address for `set_vehicle`."""
        address = self._needed("add", vehicle, len(record) - 1)
        self._write(address, record[:-1])
        return address

    def set_vehicle(self, address: int, vehicle: int) -> None:
        """Change what an added record is ordered by."""
        self._write(address - _RECORD_BYTES, vehicle.to_bytes(8, "little", signed=True))

    def undo(self) -> None:
        """Forget the records of this snapshot; others may be added in their place."""
        self._call("undo")

    def sort(self, by_vehicle: bool) -> list[int]:
        """Put the records in order and give each vehicle once, in numerical order."""
        address = self._needed("sort", by_vehicle)
        count = self._call("vehicles_count")
        vehicles = (ctypes.c_uint64 * count).from_buffer_copy(self._read(address, 8 * count))
        return [vehicle - _ADDED_TO_VEHICLES for vehicle in vehicles]

    def segment(self) -> tuple[bytes, int]:
        """The lines as one segment, by the kernel's own compressor, and their Adler-32.

        `tasks.compression` says what a segment is; its `checked_segment` has to read it first.
        """
        address = self._needed("segment")
        return self._read(address, self._call("segment_size")), self._call("check") & 0xFFFFFFFF

    def segment_of(self, stream: bytes) -> bytes:
        """The segment that holds what a whole deflate stream, from another compressor, holds.

        To be called when the hour's `lines` have been read. Raises `ValueError` where it is none.
        """
        address = self._needed("stream_at", len(stream))
        self._write(address, stream)
        size = self._call("segment_of_stream", address, len(stream))
        if not size:
            raise ValueError("this is no whole deflate stream")
        return self._read(address, size)

    def lines(self) -> bytes:
        """The lines as they are."""
        return self._read(self._needed("lines"), self.lines_bytes)

    def records_of_snapshots(self) -> list[int]:
        """How many records each snapshot has that was opened, in their order."""
        opened = self._snapshots - self._snapshots_left
        table = self._read(self._call("ends_at"), opened * _END_BYTES)
        return list(memoryview(table).cast("I")[:: _END_BYTES // 4])

    @property
    def records(self) -> int:
        """How many records the hour has so far."""
        return self._call("count")

    @property
    def lines_bytes(self) -> int:
        """How long all lines are together."""
        return self._call("size_of_lines")

    def fields(self) -> dict[str, dict[str, int]]:
        """How often each field has a value of each kind, but for records that were added."""
        count = self._call("fields_count")
        table = memoryview(self._read(self._call("fields_at"), count * _FIELD_BYTES)).cast("I")
        names = self._call("names_at")
        found = {}
        for start in range(0, len(table), 2 + len(KINDS)):
            offset, length, *counts = table[start : start + 2 + len(KINDS)]
            name = self._read(names + offset, length).decode()
            if any(counts):
                kinds = zip(KINDS, counts, strict=True)
                found[name] = {kind: times for kind, times in kinds if times}
        return found

    def _status(self, answer: int) -> int:
        answer &= 0xFFFFFFFFFFFFFFFF
        if answer == _NO_MEMORY:
            raise OutOfMemory
        if answer in (READ, NOT_READ):
            return answer
        self._odd = (answer >> 32, answer & 0xFFFFFFFF)
        return ODD

    def _call(self, name: str, *arguments: int) -> int:
        return int(self._functions[name](self._store, *arguments) or 0)

    def _needed(self, name: str, *arguments: int) -> int:
        """Call what gives 0 where there is no memory for it."""
        answer = self._call(name, *arguments)
        if not answer:
            raise OutOfMemory
        return answer & 0xFFFFFFFF

    def _pointer(self, address: int) -> int:
        base = ctypes.addressof(self._memory.data_ptr(self._store).contents)
        return base + (address & 0xFFFFFFFF)

    def _write(self, address: int, *parts: bytes) -> None:
        pointer = self._pointer(address)
        for part in parts:
            ctypes.memmove(pointer, part, len(part))
            pointer += len(part)

    def _read(self, address: int, length: int) -> bytes:
        return ctypes.string_at(self._pointer(address), length)


def _ask_for_large_pages(address: int) -> None:
    """Have the system give a kernel's memory in pages of 2 MB, where there are such."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(ADDRESSES), mmap.MADV_HUGEPAGE)


@functools.cache
def kernel() -> Kernel:
    """The one of this process; made when it is first needed. For one thread at a time."""
    return Kernel()


def prepare() -> None:
    """Compile the kernel, which processes that are forked from this one then have already."""
    _module()


def digest_of_sources() -> str:
    """SHA-256 of the C files, each with its name."""
    digest = hashlib.sha256()
    for path in sorted(FOLDER.glob("*.[ch]")):
        digest.update(b"%s %d\n" % (path.name.encode(), path.stat().st_size))
        digest.update(path.read_bytes())
    return digest.hexdigest()


def section(digest: str) -> bytes:
    """A custom section of a WebAssembly file that tells which sources it was made from."""
    content = b"\x07sources" + digest.encode()
    return b"\x00" + bytes([len(content)]) + content


@functools.cache
def engine() -> "wasmtime.Engine":
    """What compiles WebAssembly here."""
    import wasmtime

    config = wasmtime.Config()
    config.parallel_compilation = False  # threads would cost more than they save on so little
    return wasmtime.Engine(config)


@functools.cache
def _module() -> "wasmtime.Module":
    import wasmtime

    return wasmtime.Module(engine(), WASM.read_bytes())


@atexit.register
def _free() -> None:
    """Let go of what is wasmtime's while it can still be freed; later it would complain."""
    for kept in (kernel, _module, engine):
        kept.cache_clear()
