"""Processes as forks of one program that has loaded all they need, and does nothing else.

`load` starts such a program ahead of time, once for all that is to come: this process, and those
that are forked from it later, ask it for processes as they need them. Where nothing was loaded, a
`Crew` has a program of its own for as long as it is there; one that was killed is started again.
`serve` is the other end: the program ends when nobody is left who could ask, and its forks see to
their end themselves. Knows nothing of what they do.
"""

import contextlib
import gc
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from tasks import run_log

_SECONDS_TO_END = 10.0

START = """\
import gc, importlib, os, sys
from tasks import secrets
from tasks.out_of_memory import is_out_of_memory
gc.disable()
secrets.guard()
try:
    for name in sys.argv[1:-1]:
        module = importlib.import_module(name)
    module.main()
except Exception as error:
    if is_out_of_memory(error):
        os._exit(1)
    raise
"""
"""What the program runs: looking for garbage while it imports would cost a fifth of its start.

It ends without a word where there is no memory: whoever started it says so.
"""

_MEMORY = {
    # glibc: one heap for all threads, which keeps what is freed. Hours are of one size, so what one
    # has left serves the next, and memory need not be given back and asked for again all the time.
    # From glibc 2.35 on: pages of 2 MB in place of 4 KB are half the faults, and found sooner.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
}

_NUMBER = struct.Struct("=i")
_FORK = b"f"


@dataclass(frozen=True)
class Program:
    """What to start in a folder: a module whose `main` calls `serve`.

    `name` is what people call a fork of it, such as "A converter process". Of what its forks will
    need, `ahead` are the modules that it does not load by itself.
    """

    module: str
    name: str
    folder: Path
    ahead: tuple[str, ...] = ()


class _Loader:
    """A program that was started, seen from whoever asks it for forks."""

    def __init__(self, program: Program) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-c", START),
                    *(*program.ahead, program.module, str(theirs.fileno())),
                ],
                pass_fds=[theirs.fileno()],
                cwd=program.folder,
                env=_MEMORY | os.environ,
                stdin=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for us: we decide what it means
            )

    def is_gone(self) -> bool:
        """Whether it has ended; it never says anything here."""
        return bool(select.select([self._control], [], [], 0)[0])

    def fork(self, connection: int) -> "_Fork":
        """Ask for a process with this connection; raises `OSError` if the program is gone."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._control, [_FORK], [connection, theirs.fileno()])
            except OSError:
                ours.close()
                raise
        return _Fork(ours, self)

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> int:
        """Its exit status, when nobody asks any more; nought where it is another process's child.

        What does not end by itself is killed.
        """
        self._control.close()
        try:
            return self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.wait()


class _Fork:
    """A process that was asked for."""

    def __init__(self, status: socket.socket, loader: _Loader) -> None:
        self._status, self._loader = status, loader
        self._pid: int | None = None

    def end(self) -> int:
        """Its exit status, once its connection is closed; what does not end by itself is killed."""
        with self._status:
            self._status.settimeout(_SECONDS_TO_END)
            try:
                return self._code()
            except TimeoutError:
                if self._pid is None:
                    self._loader.kill()
                else:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(self._pid, signal.SIGKILL)
                self._status.settimeout(None)
                return self._code()

    def _code(self) -> int:
        """The program says which process it is, and then how that ended."""
        self._pid = self._pid or self._number()
        code = self._number() if self._pid else None
        return self._loader.end() if code is None else code

    def _number(self) -> int | None:
        """None where the program is gone."""
        with contextlib.suppress(ConnectionResetError):
            if data := self._status.recv(_NUMBER.size):
                return int(_NUMBER.unpack(data)[0])
        return None


_loaded: dict[Program, _Loader] = {}


def load(program: Program) -> None:
    """Start a program that forks will be asked of, unless it runs already."""
    if program not in _loaded or _loaded[program].is_gone():
        _loaded[program] = _Loader(program)


def unload() -> None:
    """End what `load` has started, even in the middle of loading: its forks end by themselves."""
    while _loaded:
        _, loader = _loaded.popitem()
        loader.kill()
        loader.end()


class Crew:
    """Forks of a program, each at the other end of one of the `connections`."""

    def __init__(self, program: Program, processes: int) -> None:
        """Raises `OSError` where there is no memory, or the program ends this very moment."""
        self.connections: list[Connection[Any, Any]] = []
        self._forks: list[_Fork] = []
        self._own: _Loader | None = None
        if program in _loaded:
            load(program)
            loader = _loaded[program]
        else:
            loader = self._own = _Loader(program)
        try:
            for _ in range(processes):
                ours, theirs = Pipe()
                self.connections.append(ours)
                with theirs:
                    self._forks.append(loader.fork(theirs.fileno()))
        except OSError:
            self.end()
            raise

    def end(self) -> int:
        """Close the connections; the exit status of the first that failed, once all have ended."""
        for connection in self.connections:
            connection.close()
        codes = [fork.end() for fork in self._forks]
        if self._own is not None:
            codes.append(self._own.end())
        self._forks, self._own = [], None
        return next(filter(None, codes), 0)


def serve(work: Callable[[int], NoReturn]) -> NoReturn:
    """Be the program: a process for each connection that comes, which does `work` with its number.

    The program's last argument is its own connection, to whoever asks. What was loaded and made by
    now the processes share.
    """
    control = socket.socket(fileno=int(sys.argv[-1]))
    run_log.join()
    gc.freeze()
    gc.enable()
    statuses: dict[int, socket.socket] = {}
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([control, woken], [], [])
        if woken in ready:
            woken.recv(4096)
            _tell_of_ended(statuses)
        if control not in ready:
            continue
        data, numbers, _, _ = socket.recv_fds(control, len(_FORK), 2)
        if not data:
            os._exit(0)  # nobody can ask any more
        connection, number = numbers
        status = socket.socket(fileno=number)
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for other in (control, woken, wakes, status, *statuses.values()):
                other.close()
            work(connection)
        os.close(connection)
        statuses[pid] = status
        _tell(status, pid)


def _tell_of_ended(statuses: dict[int, socket.socket]) -> None:
    """Tell how each fork ended, to whoever asked for it."""
    with contextlib.suppress(ChildProcessError):  # there is none
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = ended
            with statuses.pop(pid) as told:
                _tell(told, os.waitstatus_to_exitcode(status))


def _tell(status: socket.socket, number: int) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # whoever asked is gone
        status.send(_NUMBER.pack(number))
