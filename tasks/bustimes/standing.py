"""Where a run stands, as a small JSON file that whoever looks after the run reads meanwhile.

Several processes of one run write it, one at a time and each time as a whole, so that it can be
read at any moment. It says what was done since the run began, which weeks are under way and how far
they are, and what went wrong last. It decides nothing: what is done, the archive itself tells.
"""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path

import msgspec

from tasks import own_files
from tasks.bustimes.manifest import Manifest
from tasks.file_lock import held
from tasks.progress import say
from tasks.weeks import Week

_LAST_ERRORS = 5


@dataclass
class Standing:
    """Where a run stands; `snapshots` and `raw_bytes` are of the weeks that are done."""

    to_do: int = 0
    weeks_done: list[str] = field(default_factory=list)
    running: dict[str, str] = field(default_factory=dict)
    """A sentence for each week under way."""
    snapshots: int = 0
    raw_bytes: int = 0
    errors: list[str] = field(default_factory=list)
    """The last sentences of what failed."""
    stopped: str = ""
    """Why the run as a whole has stopped, where it is of no use to start it again."""


class StandingFile:
    """The file of one run; without a path nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def begin(self, to_do: int) -> None:
        """A run begins; what is in the way of its file is put aside."""
        if self._path is not None:
            for path in (self._path, self._path.with_suffix(".lock")):
                own_files.make_way(path, say)
            if self._path.exists() and _read(self._path) is None:
                say(own_files.put_aside(self._path, "it does not say where a run stands"))
        self._change(lambda standing: _replace(standing, Standing(to_do=to_do)))

    def under_way(self, week: Week, sentence: str) -> None:
        self._change(lambda standing: standing.running.update({week.label: sentence}))

    def done(self, week: Week, manifest: Manifest | None) -> None:
        def change(standing: Standing) -> None:
            standing.weeks_done.append(week.label)
            if manifest is not None:
                standing.snapshots += manifest.snapshots
                standing.raw_bytes += manifest.raw_bytes

        self._change(change)

    def left(self, week: Week) -> None:
        """A week is no longer under way, whether it is done or not."""
        self._change(lambda standing: standing.running.pop(week.label, None))

    def failed(self, sentence: str, stops: bool = False) -> None:
        """Something failed; `stops` says that the run does nothing more for that reason."""

        def change(standing: Standing) -> None:
            standing.errors = [*standing.errors, sentence][-_LAST_ERRORS:]
            if stops:
                standing.stopped = standing.stopped or sentence

        self._change(change)

    def _change(self, change: Callable[[Standing], object]) -> None:
        if self._path is None:
            return
        with suppress(OSError):  # a full disk, say: no reason for a week to fail
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with held(self._path.with_suffix(".lock")):
                standing = read(self._path)
                change(standing)
                draft = self._path.with_suffix(f".{os.getpid()}")
                draft.write_text(json.dumps(vars(standing)))
                draft.replace(self._path)


def read(path: Path) -> Standing:
    """What a file says; nothing done yet where there is none."""
    return _read(path) or Standing()


def _read(path: Path) -> Standing | None:
    try:
        return msgspec.convert(json.loads(path.read_text(encoding="utf-8")), Standing)
    except (OSError, ValueError, RecursionError):
        return None


def _replace(standing: Standing, by: Standing) -> None:
    for one in fields(Standing):
        setattr(standing, one.name, getattr(by, one.name))
