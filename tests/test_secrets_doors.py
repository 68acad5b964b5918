"""No door to the outside: whatever serves on this machine listens on 127.0.0.1 only.

What listens is read from the system, so that nothing is missed that a connection would not find;
and a connection to another address of this machine is tried as well.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from aws_refusals import RefusingS3
from scripted_s3 import ScriptedS3

from tests.conftest import Run, answers_at, free_port
from tests.ec2_services import Webhook
from tests.explained import assert_done
from tests.faults import FaultyS3
from tests.gate import Gate

LISTENING = "0A"


def listening(pids: set[int]) -> set[tuple[str, int]]:
    """Address and port of every TCP socket that any of these processes listens on."""
    inodes = set()
    for pid in pids:
        numbers: list[str] = []
        with contextlib.suppress(OSError):  # it has ended
            numbers = os.listdir(f"/proc/{pid}/fd")
        for number in numbers:
            with contextlib.suppress(OSError):  # closed meanwhile
                inodes.add(os.readlink(f"/proc/{pid}/fd/{number}"))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == LISTENING and f"socket:[{rest[5]}]" in inodes:
                address, port = local.split(":")
                found.add((_address(address), int(port, 16)))
    return found


def _address(digits: str) -> str:
    words = [bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8)]
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, b"".join(words))


def with_children(pids: set[int]) -> set[int]:
    """The processes, and those that they have started."""
    found = set(pids)
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent in found:
                found.add(int(folder.name))
    return found


def own_addresses() -> set[str]:
    """Addresses of this machine beside 127.0.0.1."""
    found = {"127.0.0.2", "::1"}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # sends nothing, but tells where it would go out
        found.add(probe.getsockname()[0])
    return found - {"127.0.0.1"}


def is_reached(address: str, port: int) -> bool:
    if ":" not in address:
        return answers_at(address, port)
    with socket.socket(socket.AF_INET6) as probe:
        probe.settimeout(2)
        return probe.connect_ex((address, port)) == 0


def assert_only_from_here(doors: set[tuple[str, int]], count: int) -> None:
    assert len(doors) >= count
    assert {address for address, _ in doors} == {"127.0.0.1"}
    for _, port in doors:
        assert answers_at("127.0.0.1", port)
        for address in own_addresses():
            assert not is_reached(address, port), (address, port)


def test_the_services_of_this_machine_listen_for_it_alone(ops: Run, tmp_path: Path) -> None:
    ports = {"LOCAL_S3_PORT": str(free_port()), "LOCAL_LUIGID_PORT": str(free_port())}
    try:
        assert_done(ops("setup", **ports))
        pids = {
            int((tmp_path / f"state/{name}.pid").read_text().split('"pid": ')[1].split(",")[0])
            for name in ("s3/s3", "luigid/luigid")
        }
        doors = listening(with_children(pids))
        assert {str(port) for _, port in doors} == set(ports.values())
        assert_only_from_here(doors, 2)
    finally:
        assert_done(ops("teardown", **ports))


@pytest.fixture
def stand_ins(s3_server: str) -> Iterator[int]:
    """Every server that tests put in the place of S3 or of a webhook; gives how many."""
    with contextlib.ExitStack() as all_of_them:
        all_of_them.enter_context(FaultyS3(s3_server))
        all_of_them.enter_context(Gate(s3_server))
        all_of_them.enter_context(RefusingS3("AccessDenied"))
        all_of_them.enter_context(ScriptedS3({}))
        all_of_them.enter_context(Webhook())
        yield 5


def test_the_stand_ins_of_the_tests_listen_for_this_machine_alone(stand_ins: int) -> None:
    assert_only_from_here(listening({os.getpid()}), stand_ins)


def test_a_door_to_everybody_would_be_noticed() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        assert ("0.0.0.0", port) in listening({os.getpid()})
        with pytest.raises(AssertionError):
            assert_only_from_here({("127.0.0.1", port)}, 1)
    if socket.has_dualstack_ipv6():
        with socket.create_server(("::", 0), family=socket.AF_INET6) as server:
            assert ("::", server.getsockname()[1]) in listening({os.getpid()})
