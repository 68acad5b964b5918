"""Luigid on an instance that holds the lease: a real one, which is made to hang."""

import os
import signal
from pathlib import Path

import pytest

from ops import luigid, service
from ops.ec2.board import Board, Lease, Member, Run
from ops.ec2.duty import Duty
from ops.ec2.lease import SchedulerLease
from ops.ec2.pulse import Pulse
from tasks.storage.s3 import S3Prefix
from tests.conftest import PROJECT, answers_at, free_port
from tests.ec2_members import wait_until

pytestmark = pytest.mark.soak

TAKEOVER_SECONDS = 2.0


def test_a_luigid_that_hangs_is_started_again(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_STOP_SECONDS", 0.5)
    port, said = free_port(), list[str]()
    board = Board(S3Prefix(f"{bucket}/v2"))
    board.write_run(Run("run-1", "running"), "")
    scheduler = luigid.make_service(tmp_path, port, PROJECT / "luigi.cfg")
    lease = SchedulerLease(board, Lease("i-1", "127.0.0.1", port), TAKEOVER_SECONDS)
    pulse = Pulse(board, lease, Member("i-1"), lambda member: member, TAKEOVER_SECONDS / 8)
    duty = Duty(scheduler, lease, TAKEOVER_SECONDS, said.append, said.append)

    def serves() -> bool:
        duty.tick(pulse.view, pulse, is_leaving=False, is_done=False)
        return answers_at("127.0.0.1", port)

    pulse.start()
    try:
        wait_until(serves, lambda: f"{said}")
        hanging = _process(scheduler)
        os.kill(hanging, signal.SIGSTOP)
        wait_until(lambda: serves() and _process(scheduler) != hanging, lambda: f"{said}")
        runs = f"runs luigid at 127.0.0.1:{port}"
        assert said == [runs, "luigid has not answered for long and is started again", runs]
    finally:
        pulse.stop()
        duty.end()


def _process(scheduler: service.Service) -> int:
    process = scheduler._running()
    return process.pid if process else 0
