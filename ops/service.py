"""Background services of this machine: starts one, says whether it runs, stops it.

A `Service` is a command that answers at a URL of this machine once it is ready. Its state lies in
one folder, that of its pid file: the pid file, a lock and the log. Starting what runs and stopping
what does not are no errors, and two starts at once start one. A process is signalled only if the
pid file's process number and start time both fit, so a recycled number never kills a stranger. This
module does not know what the services do, and never restarts one by itself.
"""

import contextlib
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tasks import advice
from tasks.problem import Problem
from tasks.settings import PROJECT

_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.05
_TAIL_LINES = 15

# A proxy named in the environment is for the world outside, never for this machine.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

# What this process started. Kept so that a child that has ended can be reaped: until then it is a
# zombie, which looks alive to every other question.
_children: dict[int, subprocess.Popen[bytes]] = {}


class _Process(NamedTuple):
    """What the pid file says of a process: enough to know it again."""

    pid: int
    started: str
    port: int


def python_path() -> str:
    """PYTHONPATH for a service that is a module of this project, wherever it is started."""
    return os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH", "")]))


@dataclass(frozen=True)
class Service:
    """A command that runs in the background and answers at `ready_url` when it is ready."""

    name: str
    """As a message names it: "The {name} ..."."""
    command: list[str]
    port: int
    port_setting: str
    """The setting that a person changes to have another port, and where it is."""
    ready_url: str
    """Answers 200 once the service is ready."""
    log_path: Path
    """Output of the latest start; that of the start before it is kept beside it, as `.1`."""
    pid_path: Path
    """Its folder is the service's working directory."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to the environment of whoever starts it."""
    host: str = "127.0.0.1"
    """The address of this machine that it listens on."""

    @property
    def address(self) -> str:
        """Where it listens, as ``host:port``."""
        return f"{self.host}:{self.port}"

    def start(self) -> None:
        """Start the service unless it runs, and wait until it answers.

        Raises `Problem` if the port belongs to something else, if the service runs already on
        another port, and, with the end of its log, if it ends or does not answer in a minute.
        """
        with self._locked():
            process = self._running()
            if process and process.port != self.port:
                raise Problem(
                    f"The {self.name} already runs on port {process.port}, not on {self.port}. "
                    f"Stop it first ({advice.make('teardown')}), or set {self.port_setting} to "
                    f"{process.port}."
                )
            self._wait_until_ready(process or self._spawn())

    def is_running(self) -> bool:
        """Whether the process that was started is still there; it may not answer yet."""
        return self._running() is not None

    def stop(self) -> None:
        """Stop the service and wait until it is gone: asked first, killed after ten seconds.

        Raises `Problem` if even that does not end it.
        """
        if not self.pid_path.parent.is_dir():
            return  # never started: leave no folder behind
        with self._locked():
            if process := self._running():
                self._end(process)
            self.pid_path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the service's lock: the system lets go of it if we are killed."""
        self.pid_path.parent.mkdir(parents=True, exist_ok=True)
        with self.pid_path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _running(self) -> _Process | None:
        try:
            process = _Process(**json.loads(self.pid_path.read_text()))
        except (FileNotFoundError, ValueError, TypeError, RecursionError):
            return None
        is_whole = isinstance(process.pid, int) and process.pid > 0  # a crash may have spoilt it
        return process if is_whole and _is_alive(process) else None

    def _answers(self) -> bool:
        try:
            with _direct.open(self.ready_url, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError, http.client.HTTPException):
            return False

    def _spawn(self) -> _Process:
        if _is_taken(self.host, self.port):
            raise Problem(
                f"Port {self.port} on {self.host}, which the {self.name} needs, is taken by "
                f"another program. Stop that one, or set {self.port_setting} to a free port."
            )
        if self.log_path.exists():
            self.log_path.replace(self.log_path.with_name(self.log_path.name + ".1"))
        with self.log_path.open("wb") as log:
            child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.pid_path.parent,
                env={**os.environ, **self.env},
                start_new_session=True,  # so that Ctrl-C and a closed terminal do not end it
            )
        _children[child.pid] = child
        process = _Process(child.pid, _start_time(child.pid) or "", self.port)
        draft = self.pid_path.with_suffix(".new")
        draft.write_text(json.dumps(process._asdict()))
        draft.replace(self.pid_path)
        return process

    def _wait_until_ready(self, process: _Process) -> None:
        def settled() -> bool:
            return not _is_alive(process) or self._answers()

        answers = _wait_for(settled, _START_SECONDS)
        if not _is_alive(process):
            self.pid_path.unlink(missing_ok=True)
            raise Problem(f"The {self.name} ended while it started. {self._log_tail()}")
        if not answers:
            raise Problem(
                f"The {self.name} (process {process.pid}) runs, but did not answer at "
                f"{self.ready_url} for {_START_SECONDS:.0f} s. Stop it "
                f"({advice.make('teardown')}) and try again. {self._log_tail()}"
            )

    def _end(self, process: _Process) -> None:
        for number, seconds in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _STOP_SECONDS)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
            if _wait_for(lambda: not _is_alive(process), seconds):
                return
        raise Problem(
            f"The {self.name} (process {process.pid}) does not end, not even when killed. Look at "
            f"what it waits for (ps -p {process.pid}), then stop it again."
        )

    def _log_tail(self) -> str:
        lines = self.log_path.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        if not lines:
            return f"It wrote nothing to {self.log_path}."
        return "\n".join([f"The end of {self.log_path}:", *lines])


def _wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not (fulfilled := condition()) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return fulfilled


def _is_taken(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex((host, port)) == 0


def _is_alive(process: _Process) -> bool:
    if process.pid in _children and _children[process.pid].poll() is not None:
        del _children[process.pid]
    return process.started != "" and _start_time(process.pid) == process.started


def _start_time(pid: int) -> str | None:
    """When a process started, as text to compare; None if it has ended."""
    return _start_time_from_proc(pid) if Path("/proc/self/stat").exists() else _start_time_ps(pid)


def _start_time_from_proc(pid: int) -> str | None:
    folder = Path(f"/proc/{pid}")
    try:
        # The second field is the program's name in brackets, which may hold spaces and brackets.
        state, *rest = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        # While other threads are still on their way out, so are the files and the port.
        if state in "ZX" and len(list((folder / "task").iterdir())) <= 1:
            return None
    except (FileNotFoundError, ProcessLookupError):
        return None
    return rest[18]  # field 22 of all: clock ticks since the machine started


def _start_time_ps(pid: int) -> str | None:
    answer = subprocess.run(
        ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},  # the same text whoever asks
    )
    state, _, started = answer.stdout.strip().partition(" ")
    return None if not state or state[0] in "ZX" else started.strip()
