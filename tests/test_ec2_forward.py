"""A port of a simulated instance that comes to this machine, and what keeps it from coming."""

import os
import signal
import socket
import urllib.request
from pathlib import Path

import pytest

from ops.ec2 import forward, remote
from tasks.problem import Problem
from tests.conftest import answers_at, free_port
from tests.ec2_crew import STACK, Crew, Heard

pytestmark = pytest.mark.soak

SERVE = """
set -euo pipefail
dnf install -y python3.11 >/dev/null
mkdir -p "$BUSTIMES_HOME/page"
echo "the page" >"$BUSTIMES_HOME/page/index.html"
cd "$BUSTIMES_HOME/page"
setsid python3.11 -m http.server --bind "$1" 8082 </dev/null >/dev/null 2>&1 &
until (: <"/dev/tcp/$1/8082") 2>/dev/null; do sleep 0.05; done
"""


def page_at(port: int) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        return str(answer.read().decode())


def test_a_port_of_an_instance_comes_here_and_goes_again(crew: Crew, script: Path) -> None:
    script.write_text(SERVE)
    one, port = crew.instances[0], free_port()
    address = str(crew.aws.machines()[one]["address"])
    aws = crew.caller
    assert remote.run(aws, STACK, script, [address], instances=[one], on_line=Heard()) == {one: 0}
    seen: list[str] = []

    def on_ready() -> None:
        seen.append(page_at(port))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        forward.forward(aws, one, address, 8082, port, on_ready)
    assert seen == ["the page\n"]
    assert not answers_at("127.0.0.1", port)
    assert crew.aws.client("ssm").describe_sessions(State="Active")["Sessions"] == []

    def end_session() -> None:  # it ends when the instance is gone, say
        [active] = crew.aws.client("ssm").describe_sessions(State="Active")["Sessions"]
        crew.aws.client("ssm").terminate_session(SessionId=active["SessionId"])

    forward.forward(aws, one, address, 8082, port, end_session)
    for process in crew.processes(one):
        os.kill(process, signal.SIGKILL)


def test_what_keeps_a_port_from_coming_is_said(
    crew: Crew, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    aws, one = crew.caller, crew.instances[0]

    def refused(port: int) -> str:
        with pytest.raises(Problem) as problem:
            forward.forward(aws, one, "10.0.0.1", 8082, port, lambda: None)
        assert crew.aws.client("ssm").describe_sessions(State="Active")["Sessions"] == []
        return str(problem.value)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"Port {port} of this machine is taken" in refused(port)
    crew.aws.trouble("ssm", lost=[one])
    assert f"SSM does not hear from {one}" in refused(free_port())
    crew.aws.trouble("ssm", lost=[])

    plugin = tmp_path / "session-manager-plugin"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for version, has_variable in (("1.2.497.0", False), ("1.2.764.0", True)):
        plugin.write_text(
            f'#!/bin/sh\nif [ "$1" = --version ]; then echo {version}; exit; fi\n'
            f'echo "$@" >{tmp_path}/given\n'
            f'echo "$AWS_SSM_START_SESSION_RESPONSE" >{tmp_path}/token\n'
            "echo 'no data channel'\n"
        )
        plugin.chmod(0o755)
        assert "has not brought port 8082" in (said := refused(free_port()))
        assert "It said: no data channel." in said
        given = (tmp_path / "given").read_text()
        assert ("TokenValue" in given) != has_variable  # everybody may read arguments
        assert ("TokenValue" in (tmp_path / "token").read_text()) == has_variable
        assert "us-east-1 StartSession" in given
    plugin.unlink()
    said = refused(free_port())
    assert "The program session-manager-plugin is not installed" in said
    assert "https://docs.aws.amazon.com/systems-manager/" in said
