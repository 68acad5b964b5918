"""What a process and its forks share: memory, a lock, a file without a name.

Each is made before the forks are. None needs a folder that can be written: /tmp and /dev/shm may be
full, read-only or missing. Knows nothing of what is shared.
"""

import ctypes
import fcntl
import mmap
import os
import tempfile
import threading
from typing import BinaryIO, TypeVar

_Kind = TypeVar("_Kind", bound=ctypes.Structure)


class Count(ctypes.Structure):
    """A whole number, 0 at first."""

    _fields_ = (("value", ctypes.c_int64),)
    value: int


def memory(kind: type[_Kind]) -> _Kind:
    """A structure of zeros, in memory that all forks have."""
    return kind.from_buffer(mmap.mmap(-1, max(1, ctypes.sizeof(kind))))


def nameless_file() -> BinaryIO:
    """An empty file, open for reading and for adding at its end, unbuffered."""
    if hasattr(os, "memfd_create"):  # Linux
        file: BinaryIO = os.fdopen(os.memfd_create("shared"), "ab+", buffering=0)
    else:
        file = tempfile.TemporaryFile("ab+", buffering=0)  # noqa: SIM115, open for as long as it is
    fcntl.fcntl(file, fcntl.F_SETFL, os.O_APPEND)
    return file


class Lock:
    """For the threads of all processes that have it by fork(). The system takes it from a process
    that is killed, which it would not do with multiprocessing's."""

    def __init__(self) -> None:
        self._threads = threading.RLock()
        self._depth = 0
        self._file = nameless_file()

    def __enter__(self) -> None:
        self._threads.acquire()
        try:
            if not self._depth:
                fcntl.lockf(self._file, fcntl.LOCK_EX)
        except BaseException:
            self._threads.release()
            raise
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        try:
            if not self._depth:
                fcntl.lockf(self._file, fcntl.LOCK_UN)
        finally:
            self._threads.release()
