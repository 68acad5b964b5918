"""An address of its own for each simulated instance.

Two ways. `Namespaces` gives each a network namespace, joined by a bridge: its processes have their
own interface and nothing but that, the metadata service is at 169.254.169.254, and pulling the
cable is pulling a cable. It needs root. `Loopback` gives each one of the addresses 127.x.y.z: it
needs no rights, but nothing keeps processes apart, and only the AWS endpoint can be cut off.
"""

import contextlib
import ctypes
import itertools
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tasks.problem import Problem

METADATA_ADDRESS = "169.254.169.254"
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_BRIDGE = "awslab"
_CONNECT_SECONDS = 10
_LONGEST_OWNER = 200


class Port(Protocol):
    """Where one instance is on the network."""

    address: str
    command: tuple[str, ...]
    """What to put before a command line, so that it runs there."""
    metadata: socket.socket
    """The listening socket of its metadata service."""
    environment: dict[str, str]
    """What its processes must be told about the network."""

    def cut(self) -> None: ...
    def restore(self) -> None: ...
    def close(self) -> None: ...
    def holds(self, process: int) -> bool:
        """Whether a process is on this part of the network (False where there are no parts)."""
        ...

    def connect(self, host: str, port: int) -> socket.socket:
        """A connection from there."""
        ...


class Network(Protocol):
    """Where instances and the endpoint of AWS meet."""

    kind: str
    gateway: str
    """The address of the endpoint."""

    def attach(self) -> Port: ...
    def close(self) -> None: ...


def open_network(kind: str, owner: str) -> Network:
    """A network of that kind (auto, namespaces, loopback); `owner` says whose it is."""
    if kind == "loopback":
        return Loopback()
    try:
        return Namespaces(owner)
    except OSError as error:
        if kind == "namespaces":
            raise Problem(
                f"Network namespaces cannot be made here ({error}). They need root, and the "
                "commands ip and nsenter; NETWORK=loopback works without."
            ) from None
        return Loopback()


class _Numbers:
    """The last part of one address after another; 252 instances later the first comes again."""

    def __init__(self) -> None:
        self._numbers = itertools.cycle(range(3, 255))
        self._lock = threading.Lock()

    def next(self) -> int:
        with self._lock:
            return next(self._numbers)


class Loopback:
    """127.x.y.z, where x and y are this server's own."""

    kind = "loopback"
    gateway = "127.0.0.1"

    def __init__(self) -> None:
        self._claim = socket.socket()
        for number in range(256, 1 << 15):
            self._prefix = f"127.{number >> 8}.{number & 255}"
            with contextlib.suppress(OSError):
                self._claim.bind((f"{self._prefix}.1", 9009))
                break
        self._numbers = _Numbers()

    def attach(self) -> Port:
        address = f"{self._prefix}.{self._numbers.next()}"
        metadata = socket.create_server((address, 0))
        port = metadata.getsockname()[1]
        environment = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{address}:{port}"}
        return LoopbackPort(address, metadata, environment)

    def close(self) -> None:
        self._claim.close()


@dataclass
class LoopbackPort:
    address: str
    metadata: socket.socket
    environment: dict[str, str]
    command: tuple[str, ...] = ()

    def cut(self) -> None:
        """Nothing to pull here: the server stops answering instead."""

    def restore(self) -> None:
        """As `cut`."""

    def close(self) -> None:
        self.metadata.close()

    def holds(self, _process: int) -> bool:
        return False

    def connect(self, host: str, port: int) -> socket.socket:
        return socket.create_connection((host, port), _CONNECT_SECONDS)


class Namespaces:
    """10.213.n.0/24, where n is this server's own, on a bridge named for it."""

    kind = "namespaces"

    def __init__(self, owner: str) -> None:
        self._numbers = _Numbers()
        if shutil.which("nsenter") is None:
            raise OSError("there is no nsenter")
        for number in range(1, 255):
            self.bridge, self._prefix = f"{_BRIDGE}{number}", f"10.213.{number}"
            if _bridges().get(self.bridge) is None:
                with contextlib.suppress(FileExistsError):
                    # An address of its own: a bridge's would change with the instances on it, and
                    # all others would lose their way to AWS until they noticed.
                    _ip(f"link add {self.bridge} address 02:b5:00:00:00:{number:02x} type bridge")
                    break
        else:
            raise OSError("254 networks are in use")
        self.gateway = f"{self._prefix}.1"
        started = _started(os.getpid())
        known = owner if len(owner) < _LONGEST_OWNER else ""
        try:
            _ip(
                f"link set {self.bridge} alias {os.getpid()}:{started}:{known}",
                f"address add {self.gateway}/24 dev {self.bridge}",
                f"link set {self.bridge} up",
            )
            self.attach().close()  # proves that all the rest works as well
        except OSError:
            self.close()
            raise

    def attach(self) -> Port:
        while True:
            number = self._numbers.next()
            with contextlib.suppress(FileExistsError):
                return NamespacePort(self.bridge, number, f"{self._prefix}.{number}")

    def close(self) -> None:
        _remove(self.bridge)


class NamespacePort:
    """A namespace with one interface, whose other end is on the bridge."""

    def __init__(self, bridge: str, number: int, address: str) -> None:
        self.address = address
        self.environment: dict[str, str] = {}
        self._name, self._cable = f"{bridge}-{number}", f"{bridge}v{number}"
        self.command: tuple[str, ...] = ("nsenter", f"--net=/run/netns/{self._name}", "--")
        _ip(
            f"netns add {self._name}",
            f"link add {self._cable} type veth peer name eth0 netns {self._name}",
            f"link set {self._cable} master {bridge} up",
        )
        _ip(
            "link set lo up",
            f"address add {METADATA_ADDRESS}/32 dev lo",
            f"address add {address}/24 dev eth0",
            "link set eth0 up",
            namespace=self._name,
        )
        self._inode = os.stat(f"/run/netns/{self._name}").st_ino
        self.metadata = _inside(self._name, lambda: socket.create_server((METADATA_ADDRESS, 80)))

    def cut(self) -> None:
        _ip(f"link set {self._cable} down")

    def restore(self) -> None:
        _ip(f"link set {self._cable} up")

    def close(self) -> None:
        self.metadata.close()
        with contextlib.suppress(OSError):
            _ip(f"link delete {self._cable}")
        with contextlib.suppress(OSError):
            _ip(f"netns delete {self._name}")

    def holds(self, process: int) -> bool:
        try:
            return os.stat(f"/proc/{process}/ns/net").st_ino == self._inode
        except OSError:
            return False

    def connect(self, host: str, port: int) -> socket.socket:
        return _inside(self._name, lambda: socket.create_connection((host, port), _CONNECT_SECONDS))


def _inside(namespace: str, make: Callable[[], socket.socket]) -> socket.socket:
    """A socket of a namespace: it stays where it was made."""
    made: list[socket.socket | OSError] = []

    def go() -> None:  # in a thread of its own, which alone moves there, and ends
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{namespace}") as file:
            if libc.setns(file.fileno(), _NEW_NETWORK) != 0:
                error = ctypes.get_errno()
                made.append(OSError(error, os.strerror(error)))
                return
        try:
            made.append(make())
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]


def remove_orphans() -> list[str]:
    """Take away the networks whose server has ended without doing so; returns their owners."""
    owners = []
    for bridge, alias in _bridges().items():
        process, started, owner = (*alias.split(":", 2), "", "", "")[:3]
        if alias and _started(int(process)) != started:
            _remove(bridge)
            owners.append(owner)
    return owners


def _remove(bridge: str) -> None:
    for path in Path("/run/netns").glob(f"{bridge}-*"):
        with contextlib.suppress(OSError):
            _ip(f"netns delete {path.name}")
    with contextlib.suppress(OSError):
        _ip(f"link delete {bridge}")


def _bridges() -> dict[str, str]:
    """The bridges that are there, each with what it says about its server."""
    found = {}
    for path in Path("/sys/class/net").glob(f"{_BRIDGE}*"):
        if (path / "bridge").is_dir():
            with contextlib.suppress(OSError):
                found[path.name] = (path / "ifalias").read_text().strip()
    return found


def _started(process: int) -> str:
    """When a process was started, in the kernel's own ticks; empty if there is none."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _ip(*commands: str, namespace: str = "") -> None:
    """Run commands of `ip`, all in one go. Raises OSError where one is refused."""
    where = ["-n", namespace] if namespace else []
    done = subprocess.run(
        ["ip", *where, "-batch", "-"],
        input="\n".join(commands),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        kind = FileExistsError if "exists" in done.stderr else OSError
        raise kind(done.stderr.strip().splitlines()[0])
