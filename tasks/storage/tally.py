"""What this process asked of S3, by operation, whichever of the two ways it went.

`of_process` counts from the beginning, or from when it was last taken; a fork begins at nought.
`RunTally` adds up what the processes of a run took.
"""

import json
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict

from tasks import across_forks
from tasks.storage.traffic import Traffic


class Tally:
    """Traffic by operation (GET, LIST, HEAD, PUT, multipart, DELETE). Safe for threads."""

    def __init__(self) -> None:
        self._counted: dict[str, Traffic] = {}
        self._lock = threading.Lock()

    def add(self, operation: str, traffic: Traffic) -> None:
        with self._lock:
            self._counted[operation] = self._counted.get(operation, Traffic()) + traffic

    def counted(self) -> dict[str, Traffic]:
        """What was counted since it was taken last; requests under way are not complete in it."""
        with self._lock:
            return dict(self._counted)

    def take(self) -> dict[str, Traffic]:
        """The same, and from now on it counts anew."""
        with self._lock:
            counted, self._counted = self._counted, {}
        return counted

    def begin_anew(self) -> None:
        """In a fork: forget all, with a lock that nobody holds."""
        self._lock = threading.Lock()
        self._counted = {}


of_process = Tally()
os.register_at_fork(after_in_child=of_process.begin_anew)


class RunTally:
    """What all processes of a run took: made before they are forked, asked in the end."""

    def __init__(self) -> None:
        self._file = across_forks.nameless_file()

    def note(self, taken: Mapping[str, Traffic]) -> None:
        """Add what this process took; each note is one write at the end of the file."""
        if taken:
            with suppress(OSError):  # a full disk, say: no reason for a week to fail
                self._file.write(
                    json.dumps({k: asdict(v) for k, v in taken.items()}).encode() + b"\n"
                )

    def total(self) -> dict[str, Traffic]:
        """What was noted until now."""
        total = Tally()
        self._file.seek(0)
        for line in self._file.read().splitlines():
            with suppress(ValueError):  # one that a full disk has cut off
                for operation, one in json.loads(line).items():
                    total.add(operation, Traffic(**one))
        return total.take()
