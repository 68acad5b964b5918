"""Our codec by itself: the finished lines of an hour to the segment that a week file has of them.

`prepared` does everything before, so that what is left to call is compressing and nothing else.
Lines lie in files as `write_lines` of `ops.bench.checks` leaves them: in a folder for each order a
file for each hour.
"""

from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from tasks.bustimes.hour import BY_LINES
from tasks.bustimes.kernel import READ, Kernel, kernel
from tasks.compression import LEVELS, checked_segment, deflate_stream, text_crc32
from tasks.problem import Problem
from tasks.settings import ORDERS

ALL_LEVELS = [BY_LINES, *LEVELS]
"""Every value of `compression_level`."""

_LINE_END = b',"snapshot_time":'


def hours_of(lines: Path) -> list[str]:
    """The names of the hours that there are lines of."""
    return sorted(path.name for path in (lines / ORDERS[0]).iterdir())


class Compressed(NamedTuple):
    """An hour's segment, and what the file has to know of its lines: their CRC-32 and bytes."""

    segment: bytes
    crc32: int
    size: int


def prepared(lines: Path, hour: str, order: str, level: int) -> Callable[[], Compressed]:
    """What compresses the lines of an hour, which are in memory, and in order; call it once."""
    held = kernel()
    if level != BY_LINES:
        text = (lines / order / hour).read_bytes()
        held.begin(0, 0)
        held.sort(by_vehicle=False)

        def compress_by_libdeflate() -> Compressed:
            segment = held.segment_of(deflate_stream(text, level))
            return Compressed(segment, text_crc32(text), len(text))

        return compress_by_libdeflate
    _fill(held, (lines / "snapshot" / hour).read_bytes())
    held.sort(by_vehicle=order == "vehicle")

    def compress() -> Compressed:
        segment, adler32 = held.segment()
        size = held.lines_bytes
        return Compressed(segment, checked_segment(segment, size, adler32), size)

    return compress


def _fill(held: Kernel, text: bytes) -> None:
    """Give the kernel the lines as the snapshots that they came from, one after the other."""
    lines = text.splitlines(keepends=True)
    snapshots = [(end, list(group)) for end, group in groupby(lines, key=_end_of)]
    held.begin(len(text), len(snapshots))
    for end, group in snapshots:
        records = b",".join(line[: -len(end)] + b"}" for line in group)
        if held.open(b"[%s]" % records, end, is_repr=False) != READ:
            raise Problem("The bench's own lines hold a record that only Python reads.")


def _end_of(line: bytes) -> bytes:
    return line[line.rindex(_LINE_END) :]
