"""What a run says and what went wrong meanwhile, kept in files: lines to read, and JSON objects.

The JSON file holds one object a line, from all processes of a run: what the run says, and every
call to S3 that failed, with its object, operation, seconds and request id. Only this project's own
loggers write to it; what other libraries log may hold credentials. Each line is one write at the
end of the file, so that lines of several processes, and of several runs, never mix. A file that has
grown long is put aside as `.1`, then `.2` and so on; the oldest goes, and no other line is ever
lost, but for a full disk: nothing that goes wrong with a log is a reason for anything else to.
"""

import datetime as dt
import fcntl
import json
import logging
import os
from contextlib import suppress
from io import FileIO
from pathlib import Path

from tasks import secrets

FILE_BYTES = 16 << 20
"""A file that is as long as this is put aside."""
FILES = 5
"""How many there are at most, with the one that is being written."""

_VARIABLE = "BUSTIMES_RUN_LOG"  # tells the programs that a run starts where to write, and for whom
_OURS = logging.getLogger("tasks")
_said = logging.getLogger("tasks.run")


def begin(path: Path) -> None:
    """From now on keep the JSON objects of this process, and all that it starts, in a file.

    Its folder is made with the first line, unless the folder that this one is in is not there.
    """
    os.environ[_VARIABLE] = f"{os.getpid()}:{path.absolute()}"
    join()


def join() -> None:
    """For a program that a run has started: write where the run does, if it keeps a file."""
    for handler in _handlers():
        _OURS.removeHandler(handler)
    run, _, path = os.environ.get(_VARIABLE, "").partition(":")
    if run.isdecimal() and path:
        _OURS.addHandler(_JsonLines(int(run), Path(path)))
        _OURS.setLevel(logging.INFO)


def said(sentence: str, level: int = logging.INFO) -> None:
    """Keep what was said to a person."""
    if _handlers():  # else it would be said twice where somebody has Python's logs printed
        _said.log(level, "%s", sentence)


def append(path: Path, line: str) -> None:
    """Add a line to a file in one write; one that has grown long is put aside before."""
    data = f"{line}\n".encode(errors="backslashreplace")
    with suppress(OSError):  # a full disk, say
        path.parent.mkdir(exist_ok=True)
        with path.open("ab", buffering=0) as file:
            if os.fstat(file.fileno()).st_size < FILE_BYTES:
                file.write(data)
                return
            _put_aside(path, file)
        with path.open("ab", buffering=0) as file:
            file.write(data)


def _put_aside(path: Path, file: FileIO) -> None:
    """Whoever has it open goes on writing to it: no line is lost."""
    fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
    try:
        if not os.path.samestat(path.stat(), os.fstat(file.fileno())):
            return  # another process has done it meanwhile
    except FileNotFoundError:
        return  # has just done it
    names = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, FILES))]
    for number in range(FILES - 1, 0, -1):
        with suppress(OSError):  # not there, or a folder is in the way of the oldest
            names[number - 1].replace(names[number])


def _handlers() -> list[logging.Handler]:
    return [handler for handler in _OURS.handlers if isinstance(handler, _JsonLines)]


class _JsonLines(logging.Handler):
    def __init__(self, run: int, path: Path) -> None:
        super().__init__()
        self._run, self._path = run, path

    def emit(self, record: logging.LogRecord) -> None:
        try:
            append(self._path, secrets.without(json.dumps(self._object(record), default=str)))
        except Exception:  # as every handler: logging must not fail what is logged
            self.handleError(record)

    def _object(self, record: logging.LogRecord) -> dict[str, object]:
        moment = dt.datetime.fromtimestamp(record.created, dt.UTC)
        told: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "run": self._run,
            "process": os.getpid(),
            "message": record.getMessage(),
        }
        if (call := getattr(record, "s3", None)) is not None:
            told["s3"] = call
        return told
