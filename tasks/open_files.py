"""How many files and connections this process may have open (`ulimit -n`), and what fits.

Many systems allow few at first and many to a process that asks. Where there are few whatever is
asked, less is done at once, which is slower and nothing else.
"""

import resource
from contextlib import suppress

from tasks.problem import Problem

_WANTED = 4096
NEEDED = 64
"""With fewer there is no room for what Python, S3 and a few processes need."""
_KEPT_FREE = 48


def ask_for_many() -> None:
    """Have this process, and those that it starts, open as many as the system lets it.

    Raises `Problem` where that is too few for anything.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(hard, _WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if (allowed := _allowed()) is not None and allowed < NEEDED:
        raise Problem(
            f"Each process may have only {allowed} files open (ulimit -n), and a command needs "
            f"{NEEDED}. Raise that limit and run it again."
        )


def fitting(wanted: int, files_each: int) -> int:
    """How many of so many things, of `files_each` open files each, may be there at once."""
    allowed = _allowed()
    if allowed is None:
        return wanted
    return max(1, min(wanted, (allowed - _KEPT_FREE) // files_each))


def _allowed() -> int | None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft
