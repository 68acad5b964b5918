"""Background services of this machine: starts one, says whether it runs, stops it.

A `Service` is a command that answers at a URL of this machine once it is ready. Its state lies in
one folder, that of its pid file: the pid file, a lock and the log. Starting what runs and stopping
what does not are no errors, and two starts at once start one. A process is signalled only if the
pid file's process number and start time both fit, so a recycled number never kills a stranger.

Each service tells on a path of its own, `CARD_PATH`, in which folder it keeps its state and which
process it is. So one of another checkout at the same port is never taken for ours, and ours is
found again when its pid file is damaged. This module does not know what the services do, and never
restarts one by itself.
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
from typing import Any, NamedTuple

from tasks import advice, own_files
from tasks.problem import Problem
from tasks.progress import say
from tasks.settings import PROJECT

CARD_PATH = "/_service"
"""Where a service tells what `card` holds; no bucket has such a name."""
NOTICE = "Notice: "
"""How a line of a service's log begins that whoever starts it is to be told."""

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


def card() -> bytes:
    """What this process, a service that runs in the folder of its state, tells at `CARD_PATH`."""
    told = {"folder": os.getcwd(), "pid": os.getpid(), "started": _start_time(os.getpid())}
    return json.dumps(told).encode()


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
            if process:
                self._must_be_at_its_port(process)
                self._note(process)
            self._wait_until_ready(process or self._spawn())
            if not process:
                self._tell_notices()

    def is_running(self) -> bool:
        """Whether the process that was started is still there; it may not answer yet."""
        return self._running() is not None

    def is_here(self) -> bool:
        """Whether it runs, at this very port.

        Raises `Problem` where it runs at another one, or the port is that of another checkout's.
        """
        if process := self._running():
            self._must_be_at_its_port(process)
        elif whose := self._whose():
            raise Problem(whose)
        return process is not None

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
        folder, lock_path = self.pid_path.parent, self.pid_path.with_suffix(".lock")
        own_files.make_way(lock_path, say)
        folder.mkdir(parents=True, exist_ok=True)
        with lock_path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for path in (self.pid_path, self._draft_path, self.log_path, self._earlier_log_path):
                own_files.make_way(path, say)
            if self.pid_path.exists() and self._noted() is None:
                say(own_files.put_aside(self.pid_path, "it names no process"))
            yield

    @property
    def _draft_path(self) -> Path:
        return self.pid_path.with_suffix(".new")

    @property
    def _earlier_log_path(self) -> Path:
        return self.log_path.with_name(f"{self.log_path.name}.1")

    def _running(self) -> _Process | None:
        """Ours, by the pid file; where that is not there or damaged, by what the port tells."""
        for find in (self._noted, self._told):
            if (process := find()) and _is_alive(process):
                return process
        return None

    def _noted(self) -> _Process | None:
        """What the pid file says, whether that process is still there or not."""
        try:
            process = _Process(**json.loads(self.pid_path.read_text()))
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        is_whole = isinstance(process.pid, int) and process.pid > 0  # a crash may have spoilt it
        return process if is_whole else None

    def _told(self) -> _Process | None:
        """The process at the port, if it keeps its state in our folder."""
        told = self._ask()
        pid, started = told.get("pid"), told.get("started")
        if not isinstance(pid, int) or not isinstance(started, str) or pid <= 0:
            return None
        return _Process(pid, started, self.port) if self._is_ours(told) else None

    def _is_ours(self, told: dict[str, Any]) -> bool:
        with contextlib.suppress(OSError):  # a folder that is not there
            return os.path.samefile(str(told.get("folder")), self.pid_path.parent)
        return False

    def _ask(self) -> dict[str, Any]:
        """What whoever listens at the port tells of itself; nothing where it has nothing to say."""
        try:
            with _direct.open(f"http://{self.address}{CARD_PATH}", timeout=2) as answer:
                told = json.loads(answer.read(1 << 16))
        except (urllib.error.URLError, OSError, http.client.HTTPException, ValueError):
            return {}
        return told if isinstance(told, dict) else {}

    def _whose(self) -> str:
        """A sentence where the port is that of a service of another folder; else nothing."""
        told = self._ask()
        folder = told.get("folder")
        if not isinstance(folder, str) or self._is_ours(told):
            return ""
        return (
            f"Port {self.port} on {self.host} is that of another {self.name}, whose files are in "
            f"{folder}. Set {self.port_setting} to a free port, or work in that checkout."
        )

    def _must_be_at_its_port(self, process: _Process) -> None:
        if process.port != self.port:
            raise Problem(
                f"The {self.name} already runs on port {process.port}, not on {self.port}. "
                f"Stop it first ({advice.make('teardown')}), or set {self.port_setting} to "
                f"{process.port}."
            )

    def _answers(self) -> bool:
        try:
            with _direct.open(self.ready_url, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError, http.client.HTTPException):
            return False

    def _spawn(self) -> _Process:
        if _is_taken(self.host, self.port):
            raise Problem(
                self._whose()
                or f"Port {self.port} on {self.host}, which the {self.name} needs, is taken by "
                f"another program. Stop that one, or set {self.port_setting} to a free port."
            )
        if self.log_path.exists():
            self.log_path.replace(self._earlier_log_path)
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
        self._note(process)
        return process

    def _note(self, process: _Process) -> None:
        """Keep in the pid file which process it is, unless that stands there."""
        if self._noted() != process:
            self._draft_path.write_text(json.dumps(process._asdict()))
            self._draft_path.replace(self.pid_path)

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

    def _tell_notices(self) -> None:
        for line in self.log_path.read_text(errors="replace").splitlines():
            if line.startswith(NOTICE):
                say(line.removeprefix(NOTICE))

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
