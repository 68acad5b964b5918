"""How a command begins: half of what a short one takes is to import luigi and botocore.

`quick` is for what a process makes once and keeps. Python does not look for garbage meanwhile, and
never again among what is there by then, not even at the end.
"""

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quick(without: tuple[str, ...] = ()) -> Iterator[None]:
    """Begin quickly, as if the modules in `without`, optional ones, were not installed."""
    absent = [name for name in without if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    gc.disable()
    try:
        yield
    finally:
        for name in absent:
            sys.modules.pop(name, None)
        gc.freeze()
        gc.enable()
