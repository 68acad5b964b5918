"""Brings a port of an instance to this machine, through SSM: nothing has to be open to the world.

AWS's own program session-manager-plugin does the work, started as the AWS CLI starts it. The
session ends with whoever asked for it. Knows nothing of what is behind the port.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import IO, Any

from botocore import exceptions as aws_errors

from ops.ec2.aws import Aws, code_of, explained, pauses
from tasks.problem import Problem

_PLUGIN = "session-manager-plugin"
_GET_IT = (
    "https://docs.aws.amazon.com/systems-manager/latest/userguide/"
    "session-manager-working-with-install-plugin.html"
)
_READY_SECONDS = 60.0
_STOP_SECONDS = 5.0

_VARIABLE = "AWS_SSM_START_SESSION_RESPONSE"
_KNOWS_NO_VARIABLE = (1, 2, 497, 0)
"""The last version of the plugin that takes the session's token as an argument only."""


def forward(
    aws: Aws,
    instance: str,
    host: str,
    port: int,
    local_port: int,
    on_ready: Callable[[], None],
) -> None:
    """Have `local_port` of this machine lead to `host`:`port` as `instance` sees it.

    Returns when the session is over, by idling for 20 minutes or because the instance is gone, and
    ends it when interrupted. `on_ready` is called once the port is open. Raises `Problem` where the
    plugin is missing, the port taken or the instance out of reach.
    """
    plugin = shutil.which(_PLUGIN)
    if plugin is None:
        raise Problem(
            f"The program {_PLUGIN} is not installed, or not in PATH; only AWS's own plugin can "
            f"bring a port here. Get it from {_GET_IT}"
        )
    if _is_open(local_port):
        raise Problem(
            f"Port {local_port} of this machine is taken. Stop what listens there (teardown "
            "without ON=ec2 stops a luigid of this machine), or choose another: LUIGID_PORT=8083."
        )
    request = {
        "Target": instance,
        "DocumentName": "AWS-StartPortForwardingSessionToRemoteHost",
        "Parameters": {
            "host": [host],
            "portNumber": [str(port)],
            "localPortNumber": [str(local_port)],
        },
    }
    with _session(aws, request) as answer, tempfile.TemporaryFile() as said:
        process = _start(aws, plugin, request, answer, said)
        try:
            deadline = time.monotonic() + _READY_SECONDS
            waits = pauses()
            while not _is_open(local_port):
                if process.poll() is not None or time.monotonic() > deadline:
                    said.seek(0)
                    words = " ".join(said.read().decode(errors="replace").split())
                    raise Problem(
                        f"{_PLUGIN} has not brought port {port} of {instance} here. It said: "
                        f"{words or 'nothing'}. Run it alone to see whether it works."
                    )
                time.sleep(next(waits))
            on_ready()
            process.wait()
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def _session(aws: Aws, request: dict[str, Any]) -> Iterator[dict[str, str]]:
    """A session, by the names that the plugin has for its parts; ended whatever happens."""
    ssm = aws.client("ssm")
    with explained(f"No session with {request['Target']} can be started"):
        try:
            answer = ssm.start_session(**request)
        except aws_errors.ClientError as error:
            if code_of(error) != "TargetNotConnected":
                raise
            raise Problem(
                f"SSM does not hear from {request['Target']}, so nothing can be brought here from "
                "it. If it stays so, terminate it: the fleet puts another in its place."
            ) from None
    try:
        yield {name: answer[name] for name in ("SessionId", "TokenValue", "StreamUrl")}
    finally:
        with contextlib.suppress(Problem), explained("The session cannot be ended"):
            ssm.terminate_session(SessionId=answer["SessionId"])


def _start(
    aws: Aws, plugin: str, request: dict[str, Any], answer: dict[str, str], said: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start the plugin, which hears Ctrl-C itself, with the arguments that the AWS CLI gives it."""
    session, environment = json.dumps(answer), dict(os.environ)
    if _version(plugin) > _KNOWS_NO_VARIABLE:  # arguments are for everybody's eyes: no token there
        environment[_VARIABLE] = session
        session = _VARIABLE
    endpoint = aws.client("ssm").meta.endpoint_url
    profile = os.environ.get("AWS_PROFILE", "")
    return subprocess.Popen(
        [plugin, session, aws.region, "StartSession", profile, json.dumps(request), endpoint],
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=subprocess.STDOUT,
        env=environment,
    )


def _version(plugin: str) -> tuple[int, ...]:
    answer = subprocess.run([plugin, "--version"], capture_output=True, text=True, check=False)
    return tuple(int(part) for part in re.findall(r"\d+", answer.stdout)[:4])


def _is_open(port: int) -> bool:
    """Whether anything on this machine accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
