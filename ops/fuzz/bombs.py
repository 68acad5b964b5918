"""Bodies that are small to describe and dear to read: what each costs, in time and in memory.

`BOMBS` makes them, of any size. What a body costs may grow with its length and no faster: `burst`
converts one and measures, and ends its process by a signal where that takes more than `_LIMIT`
times what is usual, so that even an endless loop of the kernel ends. As a command:

    python -m ops.fuzz.bombs [MEGABYTES [BOMB …]]

Memory is measured as the peak of the process above what it had before the body came, so it is right
for the first bomb of a process only.
"""

import datetime as dt
import functools
import gzip
import resource
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from tasks.bustimes.hour import BY_LINES, convert
from tasks.decompression import zstd

_USUAL_SECONDS_A_MB = {False: 0.5, True: 4.0}  # by whether it is full of records for Python
_LIMIT = 50
_LEAST_SECONDS = 5.0
_TIME = dt.datetime(2021, 11, 8, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Bomb:
    """`make` gives a body of about so many bytes."""

    make: Callable[[int], bytes]
    is_for_python: bool = False
    """Whether it holds so many records that the kernel leaves out that they are what it costs."""


@dataclass(frozen=True)
class Burst:
    """What a body of `size` bytes came to: CPU seconds, bytes of memory, and what it turned out."""

    size: int
    seconds: float
    peak: int
    outcome: str


def _full(scrap: bytes, begin: bytes = b"", end: bytes = b"", for_python: bool = False) -> Bomb:
    def make(size: int) -> bytes:
        return begin + scrap * max(1, (size - len(begin) - len(end)) // len(scrap)) + end

    return Bomb(make, for_python)


def _counted(item: bytes, begin: bytes = b"[", end: bytes = b"]", for_python: bool = False) -> Bomb:
    def make(size: int) -> bytes:
        return begin + b",".join(item % at for at in range(size // (len(item) + 5))) + end

    return Bomb(make, for_python)


@functools.cache
def _zeros() -> bytes:
    """Sixteen megabytes of nothing, as a member of a gzip file: a thousandth of that."""
    packing = zlib.compressobj(9, wbits=31)
    return b"".join(packing.compress(bytes(1 << 20)) for _ in range(16)) + packing.flush()


BOMBS: dict[str, Bomb] = {
    "nothing but space": _full(b" "),
    "space before the end": _full(b" ", b"[", b"x"),
    "byte order marks": _full(b"\xef\xbb\xbf"),
    "gzip": Bomb(lambda size: _zeros() * max(1, size // len(_zeros()))),
    "zstd": Bomb(lambda size: zstd().compress(bytes(1 << 20)) * max(1, size // 60)),
    "empty members of gzip": _full(gzip.compress(b"", mtime=0)),
    "empty frames of zstd": _full(b"\x50\x2a\x4d\x18\0\0\0\0"),
    "UTF-32": Bomb(lambda size: ("[" + "{}," * (size // 12) + "{}]").encode("utf-32")),
    "gzip in gzip": Bomb(lambda size: gzip.compress(_zeros() * max(1, size * 50 // len(_zeros())))),
    "zeros": _full(b"\0"),
    "zeros behind gzip": _full(b"\0", gzip.compress(b"[]")),
    "zeros behind a list": _full(b"\0", b"[]"),
    "brackets behind the end": _full(b"[]"),
    "a field of protobuf again and again": _full(b"\x08\x01"),
    "markup": _full(b"<title"),
    "no UTF-8 at the end": _full("é".encode(), b'[{"a":"', b'\xff"}]'),
    # Records
    "empty records": _full(b"{},", b"[", b"{}]"),
    "empty records, cut off": _full(b"{},", b"["),
    "empty records, half of them repr": _full(b"{},", b"""[{"a":1},{'b':1},""", b"{}]", True),
    "records of one field": _full(b'{"a":1},', b"[", b"{}]"),
    "many vehicles": _counted(b'{"vehicleID":%d}'),
    "many vehicles that are texts": _counted(b'{"vehicleID":"%d"}', for_python=True),
    "vehicles that are texts": _full(b'{"vehicleID":"x"},', b"[", b"{}]", for_python=True),
    "those, cut off": _full(b'{"vehicleID":"x"},', b"[", for_python=True),
    "half surrogates": _full(b'{"vehicleID":"\\ud800"},', b"[", b"{}]", for_python=True),
    "odd repr": _full(
        b"{u'vehicleID': u'x', u'a': [u'\\xe9', None, 12L]}, ", b"[", b"{}]", for_python=True
    ),
    "commas": _full(b","),
    "commas in a list": _full(b",", b"["),
    # Fields
    "one record of many fields": _counted(b'"f%d":1', b"[{", b"}]"),
    "records of one new field each": _counted(b'{"f%d":1}', for_python=True),
    "one field again and again": _full(b'"vehicleID":1,', b"[{", b'"a":1}]'),
    "one long name": _full(b"a", b'[{"', b'":1}]'),
    # Texts
    "one text": _full(b"x", b'[{"a":"', b'"}]'),
    "one text that is a vehicle": _full(b"x", b'[{"vehicleID":"', b'"}]'),
    "one text of emoji": _full("😀".encode(), b'[{"a":"', b'"}]'),
    "one text of emoji in repr": _full("😀".encode(), b"[{'a':'", b"'}]"),
    "escapes": _full(b"\\x00", b"[{'a':'", b"'}]"),
    "octal escapes": _full(b"\\0", b"[{'a':'", b"'}]"),
    "named escapes": _full(b"\\N{DASH}", b"[{'a':'", b"'}]"),
    "backslashes": _full(b"\\"),
    "backslashes in a text": _full(b"\\", b'[{"a":"'),
    "pairs of backslashes": _full(b"\\\\", b"[{u'a':u'", b"'}]"),
    "apostrophes": _full(b"'"),
    "apostrophes in a record": _full(b"'", b"[{"),
    "quotes": _full(b'"'),
    "quotes in a record": _full(b'"', b"[{"),
    "texts that begin": _full(b"u'", b"[{"),
    "empty texts": _full(b"'',", b"[{"),
    "texts of repr, cut off": _full(b"{'a':''},", b"["),
    "brackets in a text": _full(b"{[", b'[{"vehicleID":"x","a":"', b'"}]'),
    # Numbers and names
    "digits": _full(b"7", b'[{"a":', b"}]"),
    "digits of a vehicle": _full(b"7", b'[{"vehicleID":', b"}]"),
    "digits behind the point": _full(b"7", b'[{"vehicleID":1.', b"}]"),
    "digits of an exponent": _full(b"7", b'[{"vehicleID":1e', b"}]"),
    "longs": _full(b"{'a':01L},", b"[", b"{}]"),
    "a long word": _full(b"a", b"[{'a':", b"}]"),
    "NaN": _full(b'{"a":NaN},', b"[", b"{}]"),
    # Nesting
    "open lists": _full(b"["),
    "open lists in a record": _full(b"[", b'[{"a":'),
    "open objects": _full(b'{"a":', b"["),
    "lists in a record": _full(b"[],", b'[{"vehicleID":1,"a":[', b"1]}]"),
    "lists in an odd record": _full(b"[],", b'[{"vehicleID":"x","a":[', b"1]}]"),
    "nesting of thirty": _full(b"[" * 30 + b"]" * 30 + b",", b'[{"a":[', b"1]}]"),
    "nesting of five hundred": _full(b"[" * 498 + b"]" * 498 + b",", b'[{"a":[', b"1]}]"),
}


def burst(bomb: Bomb, size: int) -> Burst:
    """Convert a body of about so many bytes, as the only one of its hour."""
    body = bomb.make(size)
    limit = max(_LEAST_SECONDS, _LIMIT * _USUAL_SECONDS_A_MB[bomb.is_for_python] * size / 1e6)
    base = _peak_bytes()
    signal.setitimer(signal.ITIMER_PROF, limit)  # of CPU; ends the process if nobody else does
    began = time.process_time()
    hour = convert([("key", _TIME, body)], "vehicle", BY_LINES, count=1, largest=len(body))
    seconds = time.process_time() - began
    signal.setitimer(signal.ITIMER_PROF, 0)
    outcome = hour.refused[0][1] if hour.refused else f"{hour.lines:,} records"
    return Burst(len(body), seconds, _peak_bytes() - base, outcome)


def measured(name: str, size: int) -> Burst | None:
    """The same in a process of its own; None if that was ended, whatever by."""
    run = [sys.executable, "-m", "ops.fuzz.bombs", str(size / 1e6), name]
    ended = subprocess.run(run, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        return None
    _, made, seconds, peak, outcome = ended.stdout.rstrip("\n").split("\t")
    return Burst(int(made), float(seconds), int(peak), outcome)


def _peak_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main(arguments: list[str]) -> None:
    size = int(float(arguments[0]) * 1e6) if arguments else 1_000_000
    warm_up = [("key", _TIME, b'[{"vehicleID":1},{"vehicleID":"x"}]')]
    convert(warm_up, "vehicle", BY_LINES, count=1, largest=99)
    for name in arguments[1:] or BOMBS:
        print(name, end="\t", flush=True)  # so that it is known which one was the last
        one = burst(BOMBS[name], size)
        print(one.size, one.seconds, one.peak, one.outcome, sep="\t", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
