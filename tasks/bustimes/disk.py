"""What goes wrong on the spool's disk, in words: one place for all who write there."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from tasks.problem import Problem


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn an `OSError` into a `Problem` that names the folder and the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "the disk is full: free some space, or set spool to a folder elsewhere"
        else:
            remedy = f"{error.strerror}: mend that, or set spool to another folder"
        raise Problem(f"The spool folder {folder} cannot be written, {remedy}.") from None
