"""A simulated instance: folders, an address and processes of its own.

A machine boots (its metadata service answers, its user data runs), runs what it is told to, and
ends: shut down, as EC2 does it, or killed like a machine whose power is cut. Its processes see
only the commands that a fresh instance has: no Python until `dnf` has installed it, and no
credentials but those of its metadata service. Nothing here knows moto.
"""

import base64
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from ops.local_aws import imds
from ops.local_aws.network import Port

_SHIMS = Path(__file__).parent / "shims"
_NOT_THERE = re.compile(
    "python|pip|pypy|uv|conda|dnf|yum|microdnf|apt|dpkg|rpm|aws|session-manager|docker|podman"
    "|systemctl|service|init|telinit|shutdown|reboot|halt|poweroff"
)

MARK = "LOCAL_AWS_INSTANCE"
"""The variable that every process of an instance carries, with the instance's folder."""


@dataclass(frozen=True)
class Image:
    """What every fresh instance of a server is made from."""

    commands: Path
    """A folder with the commands of a fresh instance."""
    endpoint: str
    region: str

    @classmethod
    def make(cls, folder: Path, endpoint: str, region: str) -> "Image":
        """Everything that this machine has as commands, but for Python, AWS and installers."""
        commands = folder / "commands"
        commands.mkdir(parents=True, exist_ok=True)
        for place in ("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"):
            for path in Path(place).glob("*"):
                if not _NOT_THERE.match(path.name):
                    with contextlib.suppress(FileExistsError):
                        (commands / path.name).symlink_to(path)
        return cls(commands, endpoint, region)


class Machine:
    """One instance, from its boot to its end."""

    def __init__(
        self,
        image: Image,
        folder: Path,
        port: Port,
        facts: dict[str, str],
        credentials: Callable[[], dict[str, str] | None],
        role: str,
    ) -> None:
        self.id = facts["instance"]
        self.facts = facts
        self.address = port.address
        self.folder = folder.resolve()
        self.home = self.folder / "opt/bustimes"
        self.interruption: datetime | None = None
        """When the instance ends, once there is a notice of it."""
        self.ended = False
        self.group = facts["group"]
        self.cut = False
        self._image, self._port = image, port
        self._credentials, self._role = credentials, role
        self._user_data = ""
        self._disk_bytes = 0
        self._mounted = False
        self._metadata: imds.MetadataService | None = None
        self._lock = threading.Lock()

    # Its life

    def boot(self, user_data: str, disk_bytes: int) -> None:
        """Come up; the user data (as EC2 keeps it, in base64) goes on running in the background."""
        for name in ("bin", "root", "opt/bustimes", "ssm"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._disk_bytes = disk_bytes
        self._mounted = _mount(self.home, disk_bytes)
        aws = f'#!/bin/sh\nexec "{sys.executable}" -m awscli "$@"\n'
        for name, text in (("dnf", (_SHIMS / "dnf").read_text()), ("aws", aws)):
            (self.folder / "bin" / name).write_text(text)
            (self.folder / "bin" / name).chmod(0o755)
        self._user_data = base64.b64decode(user_data).decode() if user_data else ""
        self._metadata = imds.MetadataService(self._port.metadata, self._look)
        if self._user_data.startswith("#!"):
            script = self.folder / "user-data"
            script.write_text(self._user_data)
            script.chmod(0o755)
            with (self.folder / "cloud-init-output.log").open("wb") as log:
                process = self.start([str(script)], Path("/"), log, log)
            threading.Thread(target=process.wait, daemon=True).start()

    def start(
        self, command: Sequence[str], place: Path, stdout: IO[bytes], stderr: IO[bytes]
    ) -> "subprocess.Popen[bytes]":
        """A process of this instance, in a session of its own."""
        with self._lock:
            if self.ended:
                raise ProcessLookupError(f"{self.id} is gone")
            return subprocess.Popen(
                [*self._port.command, *command],
                cwd=place,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )

    def environment(self) -> dict[str, str]:
        """What its processes are given: what EC2 gives, and where this AWS is."""
        packages = [path for path in sys.path if path.endswith("site-packages")]
        return {
            "PATH": f"{self.folder / 'bin'}:{self._image.commands}",
            "HOME": str(self.folder / "root"),
            "LANG": "C.UTF-8",
            "BUSTIMES_HOME": str(self.home),
            "AWS_ENDPOINT_URL": self._image.endpoint,
            "PYTHONPATH": ":".join(packages),  # so that pip finds everything without a network
            "LOCAL_AWS_PYTHON": os.path.realpath(getattr(sys, "_base_executable", sys.executable)),
            MARK: str(self.folder),
            **self._port.environment,
        }

    def is_wanted_back(self) -> bool:
        """Whether its time has come."""
        return self.interruption is not None and datetime.now(UTC) >= self.interruption

    def kill(self) -> None:
        """Everything ends at once, as if the power were cut."""
        with self._lock:
            self.ended = True
        deadline = time.monotonic() + 10
        while (alive := self.processes()) and time.monotonic() < deadline:
            for process in alive:
                _signal(process, signal.SIGKILL)
            time.sleep(0.01)
        self._close()

    def shut_down(self, grace_seconds: float) -> None:
        """As EC2 ends an instance: SIGTERM to everything, and SIGKILL to what is left of it."""
        with self._lock:
            self.ended = True
        for process in self.processes():
            _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + grace_seconds
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.02)
        self.kill()

    def _close(self) -> None:
        if self._metadata is not None:
            self._metadata.close()
            self._metadata = None
        self._port.close()
        if self._mounted:
            _unmount(self.home)
            self._mounted = False

    def processes(self) -> list[int]:
        """The numbers of all its processes that live."""
        mark = f"{MARK}={self.folder}".encode()
        return [one for one in _everybody() if carries(one, mark) or self._port.holds(one)]

    def connect(self, host: str, port: int) -> socket.socket:
        """A connection that one of its processes might have made."""
        connection = self._port.connect(host, port)
        connection.settimeout(None)
        return connection

    # What can happen to it

    def cut_off(self) -> None:
        """Pull the network cable."""
        self.cut = True
        self._port.cut()

    def restore(self) -> None:
        """Put the cable back."""
        self.cut = False
        self._port.restore()

    @property
    def has_disk(self) -> bool:
        """Whether it has a disk of its own, which this machine's user must be allowed to mount."""
        return self._mounted

    def fill_disk(self) -> None:
        """From now on nothing more can be written to the instance's disk."""
        self._need_disk_of_its_own()
        disk = os.statvfs(self.home)
        _remount(self.home, (disk.f_blocks - disk.f_bfree) * disk.f_frsize)

    def free_disk(self) -> None:
        """There is room again."""
        self._need_disk_of_its_own()
        _remount(self.home, self._disk_bytes)

    def _need_disk_of_its_own(self) -> None:
        if not self._mounted:
            raise OSError("this machine's user may not mount: instances have no disks of their own")

    # What its metadata service says

    def _look(self, path: str) -> str | None:
        known = imds.identity(self.facts)
        if self._user_data:
            known["user-data"] = self._user_data
        if self.interruption is not None:
            known["meta-data/spot/instance-action"] = imds.instance_action(self.interruption)
            known["meta-data/spot/termination-time"] = self.interruption.strftime(
                "%Y-%m-%dT%H:%M:%SZ"
            )
        if path.startswith("meta-data/iam/security-credentials"):
            name = path.partition("security-credentials")[2].strip("/")
            if not self._role or name not in ("", self._role):
                return None
            found = self._credentials() if name else None
            return self._role if not name else (json.dumps(found) if found else None)
        if path in known:
            return known[path]
        below = {one[len(path) + 1 :].split("/")[0] for one in known if one.startswith(path + "/")}
        return "\n".join(sorted(below)) if below else None


def carries(process: int, mark: bytes) -> bool:
    """Whether a living process was given this variable, `NAME=value`."""
    try:
        folder = Path(f"/proc/{process}")
        state = (folder / "stat").read_bytes().rpartition(b")")[2].split()[0]
        return state not in (b"Z", b"X") and mark in (folder / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def end_leftovers(folder: Path) -> None:
    """Kill and unmount what a server that was killed has left of the instances below `folder`."""
    mark = f"{MARK}={folder.resolve()}/".encode()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        left = [one for one in _everybody() if _carries_prefix(one, mark)]
        if not left:
            break
        for process in left:
            _signal(process, signal.SIGKILL)
        time.sleep(0.01)
    for line in Path("/proc/mounts").read_text().splitlines():
        place = line.split()[1].encode().decode("unicode_escape")
        if place.startswith(f"{folder.resolve()}/"):
            _unmount(Path(place))


def _carries_prefix(process: int, mark: bytes) -> bool:
    try:
        folder = Path(f"/proc/{process}")
        state = (folder / "stat").read_bytes().rpartition(b")")[2].split()[0]
        variables = (folder / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return state not in (b"Z", b"X") and any(one.startswith(mark) for one in variables)


def _everybody() -> list[int]:
    own = os.getpid()
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != own]


def _signal(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def _mount(place: Path, size: int) -> bool:
    """A disk of its own at `place`, if this user may mount one."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "local-aws", str(place)]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0


def _remount(place: Path, size: int) -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    for more in range(0, 1000, 10):  # the kernel refuses a size below what is in use
        wanted = (size // page + 1 + more) * page
        command = ["mount", "-o", f"remount,size={wanted}", str(place)]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return
    raise OSError(f"{place} cannot be made smaller")


def _unmount(place: Path) -> None:
    subprocess.run(["umount", "-l", str(place)], capture_output=True, check=False)
