"""How much memory a piece of work takes at its peak, with all the processes it starts.

Linux says for each process how much memory is its own, shared pages divided among their users
(PSS); a thread adds that up for the whole family while the work runs. Elsewhere the largest single
process is known, and the figure says so.
"""

import contextlib
import os
import resource
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

_EVERY_SECONDS = 0.05


class PeakMemory:
    """`peak_bytes` after the ``with`` block; `is_sum` unless only the largest process is known."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self.is_sum = Path("/proc/self/smaps_rollup").exists()
        self._done = threading.Event()

    def __enter__(self) -> "PeakMemory":
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        if not self.is_sum:
            unit = 1 if sys.platform == "darwin" else 1024
            used = (resource.getrusage(who).ru_maxrss for who in _WHO)
            self.peak_bytes = max(used) * unit

    def _watch(self) -> None:
        while self.is_sum and not self._done.wait(_EVERY_SECONDS):
            self.peak_bytes = max(self.peak_bytes, sum(map(_own_bytes, _family("self"))))


_WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def _family(pid: str) -> Iterator[str]:
    """A process and those it started, but for services, which have sessions of their own."""
    with contextlib.suppress(OSError):
        if pid != "self" and os.getsid(int(pid)) != os.getsid(0):
            return
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                for child in (task / "children").read_text().split():
                    yield from _family(child)


def _own_bytes(pid: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0  # it has ended meanwhile


def available_bytes() -> int | None:
    """Memory that is free for use on this machine, where the system tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None
