"""The logs that commands of this machine have kept: which ran last, for what, and what it said.

Every command that changes or checks something keeps its lines in `<state>/log/<command>.log`, below
a heading with the command as it was typed. Reads those files only; what cannot be read is put
aside.
"""

from dataclasses import dataclass
from pathlib import Path

from tasks import own_files
from tasks.progress import HEADING, say


@dataclass(frozen=True)
class LastRun:
    """What the last run of a command left in its log: `lines` begin with their local time.

    `heading` is the command as it was typed, with its places, and `began` when; both are empty
    where the log has grown so long that the run began in an older file.
    """

    path: Path
    heading: str
    began: str
    lines: list[str]

    @property
    def title(self) -> str:
        """Which command it is of, and since when."""
        if not self.heading:
            return f"{self.path}, of a run that began in an older file"
        return f"{self.heading}, begun at {self.began}"


def last_run(folder: Path) -> LastRun | None:
    """Of all logs in a folder, the run that has said something last; None where there is none."""
    for path in folder.glob("*.log"):
        own_files.make_way(path, say)
    logs = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime)
    return _read(logs[-1]) if logs else None


def _read(path: Path) -> LastRun:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for at in range(len(lines) - 1, -1, -1):
        began, _, said = lines[at].partition("  ")
        if said.startswith(HEADING):
            return LastRun(path, said.removeprefix(HEADING), began, lines[at + 1 :])
    return LastRun(path, "", "", lines)
