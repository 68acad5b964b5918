"""A lock that processes of one machine hold by a file's name, and that leaves no file behind.

The system lets go of a lock when its holder ends, however that happens; a killed holder leaves the
empty file, which the next one removes. Whoever waited for a file that is removed by then has locked
nothing that others would find: it is noticed by the file's number, and locked anew.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def held(path: Path, on_wait: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Hold the lock of this name; `on_wait` is called once where another process has it.

    The folder must exist. Raises `OSError` where the file cannot be made.
    """
    descriptor = _locked(path, on_wait)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a folder that is gone, or read-only since
            path.unlink()  # while it is held: no other process has this file locked
        os.close(descriptor)


def _locked(path: Path, on_wait: Callable[[], object]) -> int:
    said = False
    while True:
        # "x" is no use here: a killed holder's file is as good as a new one.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not said:
                    on_wait()
                    said = True
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_still(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the name still means the file that was locked."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
