"""Files that this project keeps for itself: one that cannot be used is put aside, not deleted.

Whatever has become of such a file (damaged, of another version, a folder in its place, no right to
read it), it costs a sentence and not the command: it gets another name beside its own, and whoever
needs one begins anew. Knows nothing of what the files hold.
"""

import itertools
import os
import stat
from collections.abc import Callable
from pathlib import Path

from tasks.problem import Problem


def put_aside(path: Path, why: str) -> str:
    """Give what is there another name; returns the sentence that says so.

    Raises `Problem` where that is not possible either.
    """
    names = (f"{path.name}.damaged{number or ''}" for number in itertools.count())
    aside = next(one for one in map(path.with_name, names) if not os.path.lexists(one))
    try:
        path.rename(aside)
    except FileNotFoundError:
        return f"{path} could not be used ({why}) and is gone: a new one is begun."
    except OSError as error:
        raise Problem(
            f"{path} cannot be used ({why}), nor put aside: {error.strerror}. Remove it, or mend "
            "that."
        ) from None
    return (
        f"{path} cannot be used ({why}): it is put aside as {aside.name}, and a new one is begun."
    )


def make_way(path: Path, say: Callable[[str], object]) -> None:
    """Put aside what would keep a file of this name from being read and written, if anything does.

    `say` is given the sentence; the file itself may hold anything, or not be there.
    """
    if os.path.lexists(path.parent) and not path.parent.is_dir():
        say(put_aside(path.parent, "it is no folder"))
    elif why := _in_the_way(path):
        say(put_aside(path, why))


def _in_the_way(path: Path) -> str:
    """Why a name cannot be that of a file which is read and written; nothing where it can."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return "it is a link to nothing" if path.is_symlink() else ""
    except OSError as error:  # a link to itself, say
        return error.strerror or str(error)
    if stat.S_ISDIR(found.st_mode):
        return "it is a folder"
    if not stat.S_ISREG(found.st_mode):
        return "it is no file"
    if not os.access(path, os.R_OK | os.W_OK):
        return "access is denied"
    return ""
