"""What a process must know of others (is one alive, is the one above it gone) and of its cores.

Luigi's workers, with more than one, are forks: after a ``kill -9`` of the command they would go on
unseen. A process that is asked to end, or that ends by itself, sees to its forks without this.
"""

import os
import threading
import time

_EVERY_SECONDS = 0.5


def cores() -> int:
    """Those that this process may use; not every system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_alive(pid: int) -> bool:
    """Whether there is a process of this number on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    return True


def end_with(parent: int) -> None:
    """From now on end this process once `parent` is not its parent any more."""
    if os.getpid() != parent:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_EVERY_SECONDS)
    os._exit(1)
