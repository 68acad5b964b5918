"""A forked process that ends when the one that forked it has been killed.

Luigi's workers, with more than one, are forks: after a ``kill -9`` of the command they would go on
unseen. A process that is asked to end, or that ends by itself, sees to its forks without this.
"""

import os
import threading
import time

_EVERY_SECONDS = 0.5


def end_with(parent: int) -> None:
    """From now on end this process once `parent` is not its parent any more."""
    if os.getpid() != parent:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_EVERY_SECONDS)
    os._exit(1)
