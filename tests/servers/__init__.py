"""Two S3 servers that others wrote, for tests: MinIO, and s3rver, whose dialect is the oddest.

MinIO is built from its Go module, s3rver installed from npm, both at the versions and with the
checksums that are pinned here. `make soak` does that once, into `.venv/servers`; where Go or npm is
missing the tests are skipped with a sentence. Each server runs once a test process, on a port and
with a folder of its own.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PLACE = Path(sys.prefix) / "servers"
_MINIO = "github.com/minio/minio"


@dataclass(frozen=True)
class Kind:
    """A server: what it is made with, from which pinned files, and how it is started."""

    name: str
    tool: str
    pins: tuple[str, ...]
    make: Callable[[Path], list[str]]
    start: Callable[[Path, Path, int], list[str]]
    environment: dict[str, str]
    keys: tuple[str, str]
    """Access key and secret key."""

    @property
    def place(self) -> Path:
        """Where it is once it is made: another folder for other pins."""
        pinned = b"".join((HERE / self.name / one).read_bytes() for one in self.pins)
        return PLACE / f"{self.name}-{hashlib.sha256(pinned).hexdigest()[:12]}"

    def why_not(self) -> str:
        """Why it cannot be used, in a sentence; empty if it can."""
        if self.place.is_dir():
            return ""
        if shutil.which(self.tool) is None:
            return f"{self.name} cannot be made: {self.tool} is missing, install it"
        return f"{self.name} is not there: make soak makes it, and has said why it could not"


def _make_minio(place: Path) -> list[str]:
    return [
        *("go", "build", "-C", str(HERE / "minio"), "-mod=readonly", "-trimpath", "-p", "2"),
        *("-ldflags", "-s -w", "-o", str(place / "minio"), _MINIO),
    ]


def _make_s3rver(place: Path) -> list[str]:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / "s3rver" / name, place)
    return ["npm", "ci", "--prefix", str(place), "--ignore-scripts", "--no-audit", "--no-fund"]


KINDS = (
    Kind(
        "minio",
        "go",
        ("go.mod", "go.sum"),
        _make_minio,
        lambda place, data, port: [
            *(str(place / "minio"), "server", "--quiet", "--address", f"127.0.0.1:{port}"),
            *("--console-address", "127.0.0.1:0", str(data)),
        ],
        {"MINIO_ROOT_USER": "testtest", "MINIO_ROOT_PASSWORD": "testtest", "MINIO_BROWSER": "off"},
        ("testtest", "testtest"),
    ),
    Kind(
        "s3rver",
        "npm",
        ("package.json", "package-lock.json"),
        _make_s3rver,
        lambda place, data, port: [
            *("node", str(place / "node_modules/s3rver/bin/s3rver.js"), "--silent"),
            *("--directory", str(data), "--address", "127.0.0.1", "--port", str(port)),
        ],
        {"NODE_OPTIONS": "--openssl-legacy-provider"},
        ("S3RVER", "S3RVER"),
    ),
)


def make(kind: Kind) -> None:
    """Make a server, or say why that cannot be; whole or not at all."""
    if kind.place.is_dir():
        return
    if shutil.which(kind.tool) is None:
        print(f"{kind.why_not()}; its tests are skipped.", file=sys.stderr)
        return
    print(f"Making {kind.name}, an S3 server for tests (once; a few minutes) …", flush=True)
    unfinished = kind.place.with_suffix(f".{os.getpid()}")
    unfinished.mkdir(parents=True)
    try:
        done = subprocess.run(
            kind.make(unfinished), capture_output=True, text=True, check=False, timeout=1800
        )
        if done.returncode:
            told = done.stderr.strip()[-2000:]
            print(f"{kind.name} cannot be made, its tests are skipped: {told}", file=sys.stderr)
            return
        with contextlib.suppress(OSError):  # another process has made it meanwhile
            unfinished.rename(kind.place)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextlib.contextmanager
def running(kind: Kind, folder: Path, port: int) -> Iterator[str]:
    """The server, with an empty folder of its own; gives its address."""
    data = folder / "data"
    data.mkdir(parents=True)
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            kind.start(kind.place, data, port),
            env=os.environ | kind.environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
