"""How Python and its libraries say that there is no memory, and what a person can do about it.

Where memory is limited (ulimit -v), what fails first may be an allocation, a thread, a process or
the loading of a library. What the system ends instead, without a word, `tasks.workers` and luigi's
worker see.
"""

import errno
import resource

from tasks import figures
from tasks.problem import Problem

REMEDY = (
    "Set processes or workers lower, lift the limit if there is one (ulimit -v), or use a larger "
    "machine; what is finished is kept, run it again."
)
SENTENCE = f"There is not enough memory. {REMEDY}"

_NO_ROOM = (
    "can't start new thread",
    "Cannot allocate memory",
    "failed to map segment from shared object",
    "out of memory",
    "Not enough memory",
)


OF_A_COMMAND = 2 << 30
"""Addresses that any process of ours may want, in bytes, though it fills few of them.

Libraries and threads take most: with 0.8 GB verify found no room for a thread, with 1.6 GB all
commands did their work (Linux, glibc 2.36).
"""


def check_limit(addresses: int = OF_A_COMMAND, of: str = "a command") -> None:
    """Raises `Problem` where a process may not have so many bytes of addresses (ulimit -v).

    `of` is what wants them, for the sentence.

    To be asked before anything is begun: there is no telling what fails first for want of them, and
    what Python does then. A thread that cannot even begin is waited for in vain, and a library that
    is loaded may end the process.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if resource.RLIM_INFINITY != limit < addresses:
        raise Problem(
            f"There is not enough memory: each process may have {figures.size(limit)} of addresses "
            f"(ulimit -v), and {of} wants more than {figures.size(addresses)}, though "
            "it fills few of them. Lift that limit and run it again."
        )


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether this error, or what it was made of, came about for want of memory."""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return True
        if _may_say_so(error) and any(words in str(error) for words in _NO_ROOM):
            return True
        error = error.__cause__ or error.__context__
    return False


def _may_say_so(error: BaseException) -> bool:
    """Not what a server says: the memory is its own then."""
    is_wasmtimes = type(error).__name__ == "WasmtimeError"  # not imported: that takes a while
    return is_wasmtimes or isinstance(error, RuntimeError | ImportError | OSError | ValueError)
