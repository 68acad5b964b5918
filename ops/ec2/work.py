"""One command of the project as a process of its own, looked after by the member that started it.

Its words go line by line to whoever is told. It runs in a session of its own and holds, with all
that it forks, a lock on a file that says which session that is: so a member that was killed and
starts again finds what it left behind and ends it. One such process at a time.
"""

import collections
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from tasks.settings import PROJECT

_GRACE_SECONDS = 15.0
"""How long a process may take to end after it was told to."""
_LAST_LINES = 30


class Work:
    """``python -m ops …``, running from the moment that this is made."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        lock: Path,
        on_line: Callable[[str], None],
    ) -> None:
        """`on_line` is called by a thread of this object's own.

        Raises `OSError` where no process can be started, or an earlier one is still there.
        """
        self.last_lines: collections.deque[str] = collections.deque(maxlen=_LAST_LINES)
        self._on_line, self._lock = on_line, lock
        self._kill_at: float | None = None
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ops", *arguments],
                cwd=PROJECT,
                env={**environment, "PYTHONPATH": _path(environment), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
                pass_fds=(file.fileno(),),
            )
            with contextlib.suppress(OSError):  # on a full disk: whoever looks for it has to wait
                os.write(file.fileno(), str(self._process.pid).encode())
        assert self._process.stdout is not None
        self._reader = threading.Thread(
            target=self._read, args=(self._process.stdout,), daemon=True
        )
        self._reader.start()

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it, or what it has forked, runs."""
        code = self._process.poll()
        if code is None:
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                self.kill()
            return None
        with self._lock.open() as file:
            if not _is_free(file):
                _signal(self._process.pid, signal.SIGKILL)
                return None
        self._reader.join(1)  # for its last words
        return code

    def report(self) -> list[str]:
        """The last lines that it has said, without empty ones."""
        return [line for line in self.last_lines if line.strip()]

    def stop_taking_weeks(self) -> None:
        """Have `full` end when the weeks under way are done."""
        self._process.send_signal(signal.SIGUSR1)

    def terminate(self) -> None:
        """Have it end now; `poll` kills it if it has not done so after a while."""
        if self._kill_at is None:
            self._kill_at = time.monotonic() + _GRACE_SECONDS
            self._process.terminate()

    def kill(self) -> None:
        """End it this very moment, with all that it has forked."""
        if self._process.poll() is None:  # else its number may be another's by now
            _signal(self._process.pid, signal.SIGKILL)

    def _read(self, output: IO[str]) -> None:
        with output:
            for line in output:
                self.last_lines.append(line.rstrip())
                self._on_line(line.rstrip())


def end_leftover(lock: Path) -> bool:
    """End what a member that was killed has left running; whether there was anything."""
    if not lock.exists():
        return False
    with lock.open("r+") as file:
        if _is_free(file):
            return False
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ValueError):
                _signal(int(lock.read_text()), number)
            deadline = time.monotonic() + _GRACE_SECONDS
            while time.monotonic() < deadline:
                if _is_free(file):
                    return True
                time.sleep(0.05)
        return True


def _signal(group: int, number: int) -> None:
    """Send a signal to a process group, of which the lock, or its leader, says that it is ours."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _is_free(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _path(environment: Mapping[str, str]) -> str:
    """Where Python finds the code, and what else it is told to look at."""
    return os.pathsep.join(filter(None, [str(PROJECT), environment.get("PYTHONPATH", "")]))
