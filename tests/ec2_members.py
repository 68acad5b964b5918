"""Members of a fleet: each a real daemon with a home, an address and metadata of its own."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ops.local_aws.imds import MetadataService, identity, instance_action
from tests.conftest import PROJECT, answers_at
from tests.ec2_services import REGION
from tests.gate import DEADLINE_SECONDS, LOST, Gate, Refusal


def wait_until(condition: Callable[[], object], what: Callable[[], str]) -> None:
    """Wait for what others bring about; seldom enough not to keep them from it."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


class Instance:
    """One simulated instance: metadata and a gate to S3 from the start, the daemon once started."""

    def __init__(
        self, address: str, folder: Path, s3_url: str, environment: dict[str, str]
    ) -> None:
        self.id = "i-{:0>5}{:0>4}{:0>4}{:0>4}".format(*address.split("."))
        self.address = address
        self.home = folder / self.id
        self.gate = Gate(s3_url)
        self._noticed: datetime | None = None
        self._process: subprocess.Popen[bytes] | None = None
        listening = socket.create_server(("127.0.0.1", 0))
        facts = {
            "account": "123456789012",
            "architecture": "x86_64",
            "zone": f"{REGION}a",
            "image": "ami-1",
            "instance": self.id,
            "type": "c6i.large",
            "launched": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "address": self.address,
            "region": REGION,
            "lifecycle": "spot",
        }
        self._metadata = identity(facts)
        self._service = MetadataService(listening, self._look)
        self._environment = environment | {
            "AWS_ENDPOINT_URL_S3": self.gate.url,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{listening.getsockname()[1]}",
            "BUSTIMES_HOME": str(self.home),
            "BUSTIMES_SPOOL": str(self.home / "spool"),
            "LOCAL_STATE": str(self.home / "state"),
        }

    def start(self) -> None:
        """Start the daemon; where it has been killed, again."""
        self.home.mkdir(exist_ok=True)
        with (self.home / "member.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ops.ec2.member"],
                cwd=PROJECT,
                env=os.environ | self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def notice(self, seconds: float = 120) -> None:
        """AWS wants the instance back in so many seconds."""
        self._noticed = datetime.now(UTC) + timedelta(seconds=seconds)

    def cut_off(self) -> list[Refusal]:
        """Cut it off from S3 until each of what this returns is told to end."""
        return [self.gate.refuse(method, "", LOST) for method in ("GET", "PUT", "POST", "HEAD")]

    def kill_daemon(self) -> None:
        """kill -9 for the daemon, and for nothing that it has started."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def kill(self) -> None:
        """kill -9 for everything that runs on the instance."""
        for _ in range(2):  # a process may be starting another this very moment
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def terminate(self) -> int:
        """Tell the daemon to end; its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(30)

    def processes(self) -> dict[int, str]:
        """All that runs on the instance: process numbers with their command lines."""
        mark, found = f"BUSTIMES_HOME={self.home}\0".encode(), {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes():
                    line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found[int(folder.name)] = line
        return found

    def runs(self, what: str) -> bool:
        """Whether a command of the project runs there, such as `full`."""
        return any(re.search(rf"-m ops\S* {what}\b", line) for line in self.processes().values())

    def has_luigid(self, port: int) -> bool:
        return answers_at(self.address, port)

    def said(self) -> str:
        """All that the daemon and the commands it ran have said."""
        files = [self.home / "member.log", self.home / "log" / "run.log"]
        return "\n".join(file.read_text() for file in files if file.exists())

    def wait_until_said(self, words: str) -> None:
        wait_until(lambda: words in self.said(), lambda: f"never said {words!r}: {self.said()}")

    def end(self) -> None:
        self.kill()
        self._service.close()

    def _look(self, path: str) -> str | None:
        if path == "meta-data/spot/instance-action":
            return None if self._noticed is None else instance_action(self._noticed)
        return self._metadata.get(path)
