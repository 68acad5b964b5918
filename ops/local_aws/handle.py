"""A local AWS as others use it: start it, have its environment, make trouble, stop it.

The server is a process of its own, since it changes moto and the environment; it ends with the
process that started it, however that ends.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from tasks.problem import Problem
from tasks.settings import PROJECT

_START_SECONDS = 60
_STOP_SECONDS = 30


class LocalAws:
    """A server with its folder of state; a context manager that starts and stops it."""

    def __init__(self, state: Path, network: str = "auto", *options: str) -> None:
        self.state = state.resolve()
        self._arguments = ["--state", str(self.state), "--network", network, *options]
        self._process: subprocess.Popen[bytes] | None = None
        self._told: dict[str, Any] = {}
        self._clients: dict[tuple[str, str], Any] = {}

    def start(self) -> None:
        """Return once it answers. Raises `Problem` with its last words if it does not."""
        self.state.mkdir(parents=True, exist_ok=True)
        told = self.state / "server.json"
        told.unlink(missing_ok=True)
        log = self.state / "server.log"
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ops.local_aws", *self._arguments, "--ends-with-input"],
                cwd=PROJECT,
                env={**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._told:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                last = "\n".join(log.read_text().splitlines()[-15:])
                raise Problem(f"The local AWS does not start; {log} says:\n{last}")
            with contextlib.suppress(OSError, ValueError):
                self._told = json.loads(told.read_text())
            time.sleep(0.02)

    def stop(self) -> None:
        """End it, and all its instances with it."""
        if self._process is not None:
            assert self._process.stdin
            self._process.stdin.close()
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def __enter__(self) -> "LocalAws":
        self.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        return str(self._told["endpoint"])

    @property
    def network(self) -> str:
        """namespaces or loopback."""
        return str(self._told["network"])

    @property
    def process(self) -> int:
        """The number of the server's process."""
        return int(self._told["process"])

    def environment(self, user: str = "admin") -> dict[str, str]:
        """What a laptop's process needs to use it as admin, reader, stranger or expired."""
        host = self.endpoint.partition("//")[2].partition(":")[0]
        reached = {
            name: ",".join(filter(None, (os.environ.get(name, ""), host, "127.0.0.1", "localhost")))
            for name in ("NO_PROXY", "no_proxy")
        }
        return {
            **self._told["users"][user],
            **reached,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "PATH": f"{self.state / 'laptop-bin'}:{os.environ.get('PATH', os.defpath)}",
            "EC2_TAKEOVER_SECONDS": "4",
        }

    def client(self, service: str, user: str = "admin") -> Any:
        """A boto3 client of one of the users, whatever the environment says."""
        if (service, user) not in self._clients:  # they take long to make
            keys = self._told["users"][user]
            self._clients[service, user] = self.client_with(
                service,
                keys["AWS_ACCESS_KEY_ID"],
                keys["AWS_SECRET_ACCESS_KEY"],
                keys.get("AWS_SESSION_TOKEN"),
            )
        return self._clients[service, user]

    def client_with(self, service: str, key: str, secret: str, token: str | None = None) -> Any:
        """A boto3 client with any credentials; it repeats nothing that fails."""
        import boto3
        from botocore.config import Config

        session = boto3.Session(
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token,
            region_name="us-east-1",
        )
        config = Config(proxies={}, retries={"mode": "standard", "total_max_attempts": 1})
        return session.client(service, endpoint_url=self.endpoint, config=config)  # type: ignore[call-overload]

    def trouble(self, name: str, /, **what: Any) -> dict[str, Any]:
        """Make something go wrong; see `ops.local_aws.troubles`. Raises `Problem` if it cannot."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        body = json.dumps(what).encode()
        try:
            with opener.open(f"{self.endpoint}/_local/{name}", body, timeout=60) as answer:
                said: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            raise Problem(f"{name}: {json.load(error)['problem']}") from None
        return said

    def machines(self) -> dict[str, dict[str, Any]]:
        """Each simulated instance, by its id.

        address, folder, home (its BUSTIMES_HOME), group, processes, registered (with SSM), cut (off
        the network), ended (is shutting down) and disk (whether it has one that can be filled).
        """
        found: dict[str, dict[str, Any]] = self.trouble("state")["instances"]
        return found

    def machines_of(self, group: str, registered: bool = False) -> dict[str, dict[str, Any]]:
        """Those of an Auto Scaling group that have not ended; only what SSM knows, if asked."""
        return {
            one: it
            for one, it in self.machines().items()
            if it["group"] == group and not it["ended"] and (it["registered"] or not registered)
        }
