"""Which code an input reaches: in the conversion kernel by its counters, in Python by its lines.

Both come as a row of counters. `Reached` tells whether a row holds anything new: an edge that was
not reached before, or one that was taken in another order of magnitude.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

Counters = Callable[[], bytes]

# How often, as one bit of a byte: 1, 2, 3, 4 and more, 8 and more, 16, 32, 128.
_LIMITS = (1, 2, 3, 4, 8, 16, 32, 128)
_MAGNITUDE = bytes(
    0 if not times else 1 << max(bit for bit, limit in enumerate(_LIMITS) if times >= limit)
    for times in range(256)
)


class Reached:
    """What all inputs together have reached."""

    def __init__(self) -> None:
        self._seen = 0
        self._edges = 0

    @property
    def edges(self) -> int:
        """How many different edges, or lines, have been reached."""
        return self._edges.bit_count() if self._edges else 0

    def add(self, counters: bytes) -> bool:
        """Whether there is anything new in what one input reached."""
        row = int.from_bytes(counters.translate(_MAGNITUDE), "little")
        if row | self._seen == self._seen:
            return False
        self._seen |= row
        self._edges |= int.from_bytes(counters.translate(_ANY), "little")
        return True


_ANY = bytes(bool(times) for times in range(256))


class LinesOfPython:
    """Counts the steps from line to line in some modules of Python."""

    _SIZE = 1 << 13

    def __init__(self, files: list[Path]) -> None:
        self._files = {str(file): 1009 * number for number, file in enumerate(files)}
        self._counts = bytearray(self._SIZE)
        self._last = 0

    def counters(self) -> bytes:
        return bytes(self._counts)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count from nought what is executed inside."""
        self._counts = bytearray(self._SIZE)
        before = sys.gettrace()
        sys.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(before)

    def _call(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        return self._line if frame.f_code.co_filename in self._files else None

    def _line(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            here = self._files[frame.f_code.co_filename] + 7 * frame.f_lineno
            place = (here ^ self._last) & (self._SIZE - 1)
            self._last = here << 1
            if self._counts[place] < 255:
                self._counts[place] += 1
        return self._line
