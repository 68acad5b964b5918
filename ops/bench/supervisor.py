"""Run one command and measure its whole process tree; prints one JSON object.

CPU seconds are what the system accounts to every process below this one: it is their subreaper, so
also those whose parent has died are counted, here and nowhere else. Those of the command's first
process are told apart from those of all that it started. Memory is looked at only when asked for,
because looking takes time from the command. Knows nothing of what it runs.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from ops.memory import _family as family
from ops.memory import _own_bytes as own_bytes

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of linux/prctl.h
_LOOK_EVERY_SECONDS = 0.05
_LOOKING_SHARE = 0.5


class _Memory:
    """Proportional memory of all processes below this one, over time."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, int]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        self._started = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        pause = _LOOK_EVERY_SECONDS
        while not self._done.wait(pause):
            began = time.monotonic()
            processes = [pid for pid in family("self") if pid != "self"]
            self.samples.append((round(began - self._started, 3), sum(map(own_bytes, processes))))
            # A tree of gigabytes takes long to look at: then less often.
            pause = max(_LOOK_EVERY_SECONDS, (time.monotonic() - began) / _LOOKING_SHARE)


def run(command: list[str], cores: set[int], log: str, with_memory: bool) -> dict[str, object]:
    """The measurements of one command, which may use only these cores."""
    _become_subreaper()
    all_cores = os.sched_getaffinity(0)
    memory = _Memory()
    busy = _busy_seconds()
    with open(log, "wb") as output:
        started = time.monotonic()
        os.sched_setaffinity(0, cores)  # which the child inherits
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        os.sched_setaffinity(0, all_cores)
        if with_memory:
            memory.start()
        cpu, own, status, wall = _reap(child.pid, started)
    if with_memory:
        memory.stop()
    child.returncode = os.waitstatus_to_exitcode(status)
    here = os.times()
    others = _busy_seconds() - busy - cpu - here.user - here.system
    return {
        "exit_code": child.returncode,
        "cpu_seconds": cpu,
        "own_cpu_seconds": own,
        "wall_seconds": wall,
        "others_cpu_seconds": max(0.0, others),
        "memory": memory.samples,
    }


def _reap(child: int, started: float) -> tuple[float, float, int, float]:
    """CPU seconds of all that ever ran below us, and of the child alone; its status and wall."""
    cpu, own, status, wall = 0.0, 0.0, 0, 0.0
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            return cpu, own, status, wall
        assert ended is not None
        if ended.si_pid == child:
            wall, own = time.monotonic() - started, _own_seconds(child)
        _, how, used = os.wait4(ended.si_pid, 0)
        cpu += used.ru_utime + used.ru_stime  # its own, and those of the children it waited for
        if ended.si_pid == child:
            status = how


def _own_seconds(pid: int) -> float:
    """CPU seconds of a process that has ended, without its children's, in hundredths.

    Only before it is waited for: what the system says afterwards has them all in one.
    """
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _become_subreaper() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot become the subreaper")


def _busy_seconds() -> float:
    """CPU seconds that the whole machine has spent, and that its host has taken from it."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _waiting, *interrupts = map(int, file.readline().split()[1:9])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ops.bench.supervisor", description=__doc__)
    parser.add_argument("--cores", required=True, help="which ones, comma-separated")
    parser.add_argument("--log", required=True, metavar="FILE", help="what the command prints")
    parser.add_argument("--memory", action="store_true", help="look at its memory as well")
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    cores = {int(core) for core in given.cores.split(",")}
    json.dump(run(given.command, cores, given.log, given.memory), sys.stdout)


if __name__ == "__main__":
    main()
