"""One script that the agent of a simulated instance runs, as AWS-RunShellScript does.

The script is a file in a folder of its own, run by sh (so that its first line may name another
interpreter), its output in two files there. Processes that have left the script's session outlive
it; the others end when it is stopped.
"""

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ops.local_aws.instances import Machine

_EVENT_BYTES = 200_000


class Run:
    """A script that runs, or has run, on a machine. Raises OSError if it cannot be started."""

    def __init__(self, machine: Machine, command: str, script: str, place: str) -> None:
        self.command = command
        self.started = datetime.now(UTC)
        self._folder = machine.folder / "ssm" / command
        self._folder.mkdir(parents=True)
        path = self._folder / "_script.sh"
        # By another process: what this one has open for writing, whatever it starts in the same
        # moment has open as well, and then the script could not be run.
        subprocess.run(
            ["sh", "-c", 'umask 077; cat >"$1"; chmod 700 "$1"', "sh", path],
            input=script.encode(),
            check=True,
        )
        self._read = {"stdout": 0, "stderr": 0}
        with (
            (self._folder / "stdout").open("wb") as out,
            (self._folder / "stderr").open("wb") as err,
        ):
            line = f"{shlex.quote(str(path))}"
            self._process = machine.start(
                ["sh", "-c", line], Path(place) if place else self._folder, out, err
            )

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def code(self) -> int:
        """The exit code, as the agent reports it: a script that a signal ended failed with -1."""
        return self._process.returncode if self._process.returncode >= 0 else -1

    def wait(self, seconds: float) -> None:
        """Until it has ended, at most so long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def stop(self, number: signal.Signals) -> None:
        """End every process of its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def text(self, stream: str) -> str:
        """All that it has printed."""
        return (self._folder / stream).read_bytes().decode("utf-8", "replace")

    def new_text(self, last: bool) -> dict[str, list[str]]:
        """What came since the last time, by stream, in pieces that end with a line.

        Half a line comes, and the last line end goes, only when there is no more: so the agent
        writes to CloudWatch Logs, an event for each piece.
        """
        found: dict[str, list[str]] = {}
        for stream, offset in self._read.items():
            with (self._folder / stream).open("rb") as file:
                file.seek(offset)
                fresh = file.read()
            end = len(fresh) if last else fresh.rfind(b"\n") + 1
            self._read[stream] = offset + end
            pieces = list(_pieces(fresh[:end]))
            if pieces and last:
                pieces[-1] = pieces[-1].removesuffix(b"\n")
            found[stream] = [one.decode("utf-8", "replace") for one in pieces if one]
        return found


def _pieces(text: bytes) -> Iterator[bytes]:
    """`text` in pieces of whole lines, each as long as an event may be; longer lines are cut."""
    while len(text) > _EVENT_BYTES:
        end = text.rfind(b"\n", 0, _EVENT_BYTES) + 1 or _EVENT_BYTES
        yield text[:end]
        text = text[end:]
    yield text
