"""An instance's share in a run, as its process behaves well and badly.

The process is a script here that stands for `python -m ops`, since it is to fail at will; whether
the real one does what is expected of it, test_ec2_member says.
"""

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ops.ec2 import share as share_module
from ops.ec2 import work as work_module
from ops.ec2.board import Lease, Member, Run
from ops.ec2.share import Share, Workplace
from ops.ec2.work import Work, end_leftover
from tasks.settings import load
from tests.conftest import free_port
from tests.ec2_members import wait_until
from tests.processes_under_test import WEEK, is_gone

RUN = Run("run-1", "running", weeks=WEEK.label, first="2021-W01", workers=3, refresh=True)

_SCRIPT = """
import json, os, pathlib, signal, subprocess, sys, time
command, state = sys.argv[1], pathlib.Path(os.environ["LOCAL_STATE"])
standing = state / "progress.json"
def stand(**what):
    (state / "draft").write_text(json.dumps(what))
    (state / "draft").replace(standing)
def forever():
    print("ready", flush=True)
    while True:
        time.sleep(9)
"""


@dataclass
class Stage:
    """A workplace whose commands are scripts, and luigids that answer, or do not."""

    folder: Path
    place: Workplace
    luigid: Lease
    said: list[str] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)

    def play(self, script: str) -> None:
        """What the next commands do; `command` is their name."""
        main = self.folder / "ops" / "__main__.py"
        draft = main.with_suffix(".new")
        draft.write_text(_SCRIPT + script)
        draft.replace(main)

    def spool(self, label: str = WEEK.label) -> Path:
        """Let a finished week wait in the spool."""
        path = self.place.settings.spool / "destination" / label / "manifest.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    def share(self, run: Run = RUN, before: Member | None = None) -> Share:
        return Share(run, self.place, before or Member())

    def tick_until(
        self, share: Share, condition: Callable[[], object], scheduler: Lease | None = None
    ) -> None:
        def look() -> object:
            share.tick(scheduler or self.luigid)
            return condition()

        wait_until(look, lambda: "\n".join([*self.said, *self.printed]))


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    (tmp_path / "ops").mkdir()
    (tmp_path / "ops" / "__init__.py").touch()
    monkeypatch.setattr(work_module, "PROJECT", tmp_path)
    state = tmp_path / "state"
    state.mkdir()
    with _Luigid() as luigid:
        said: list[str] = []
        printed: list[str] = []
        place = Workplace(load(), state, 0.8, printed.append, said.append)
        stage = Stage(tmp_path, place, luigid.lease, said, printed)
        stage.play("")
        yield stage
    end_leftover(place.lock)


class _Luigid:
    """Something that answers as luigid does."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.lease = Lease("i-1", "127.0.0.1", self._server.server_address[1])

    def __enter__(self) -> "_Luigid":
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_the_command_is_told_what_was_asked_and_set_for_the_run_and_no_more(stage: Stage) -> None:
    stage.play("print(json.dumps([sys.argv[1:], dict(os.environ)]))")
    given = {"BUSTIMES_ORDER": "snapshot", "BUSTIMES_HOME": "/elsewhere", "LD_PRELOAD": "/bad"}
    share = stage.share(replace(RUN, settings=given))
    stage.tick_until(share, lambda: share.is_over)
    arguments, environment = json.loads(stage.printed[0])
    where = f"127.0.0.1:{stage.luigid.port}"
    assert arguments == [
        *("full", "--scheduler", where, "--workers", "3"),
        *(f"--weeks={WEEK}", "--from=2021-W01", "--refresh"),
    ]
    assert environment["BUSTIMES_ORDER"] == "snapshot"
    assert environment["BUSTIMES_DESTINATION"] == stage.place.settings.destination
    assert environment.get("BUSTIMES_HOME") == os.environ.get("BUSTIMES_HOME")
    assert "LD_PRELOAD" not in environment


def test_it_has_finished_when_all_weeks_are_done_and_the_spool_is_empty(stage: Stage) -> None:
    waiting = stage.spool()
    stage.play(
        f"""
if command == "sync":
    pathlib.Path({str(waiting)!r}).unlink()
else:
    stand(weeks_done=["2021-W44"], running={{}}, raw_bytes=7, snapshots=2)
"""
    )
    share = stage.share()
    stage.tick_until(share, lambda: share.is_over)
    assert share.outcome == "finished"
    assert (share.standing.weeks_done, share.standing.raw_bytes) == (["2021-W44"], 7)
    assert [line.split()[1] for line in stage.said if line.startswith("starts")] == ["full", "sync"]


def test_what_cannot_be_uploaded_is_said(stage: Stage) -> None:
    stage.spool()
    stage.play("if command == 'sync': print('it will not be taken'); sys.exit(1)")
    share = stage.share()
    stage.tick_until(share, lambda: share.is_over)
    assert share.outcome == "finished"
    assert share.standing.errors == ["1 finished week could not be uploaded: it will not be taken"]


def test_three_failures_in_a_row_are_enough(stage: Stage) -> None:
    stage.play("print('bad luck'); sys.exit(1)")
    share = stage.share()
    stage.tick_until(share, lambda: share.is_over)
    assert (share.outcome, share.restarts) == ("failed", 2)
    assert share.standing.errors == ["bad luck"]
    assert share.sentence == "has failed: bad luck"


def test_a_run_that_has_set_aside_too_much_is_not_started_again(stage: Stage) -> None:
    stage.play(
        'stand(weeks_done=["2021-W44"], errors=["a", "b"], stopped="The run stops"); sys.exit(1)'
    )
    share = stage.share()
    stage.tick_until(share, lambda: share.is_over)
    assert (share.outcome, share.restarts) == ("failed", 0)
    assert share.sentence == "has failed: The run stops"


def test_failures_with_weeks_done_between_them_are_not_in_a_row(stage: Stage) -> None:
    stage.play(
        """
turns = state / "turns"
turn = len(turns.read_text()) if turns.exists() else 0
turns.write_text("x" * (turn + 1))
stand(weeks_done=[f"2021-W{turn // 2:02}"], snapshots=1, errors=[f"error {turn}"])
sys.exit(0 if turn == 7 else 1)
"""
    )
    share = stage.share()
    stage.tick_until(share, lambda: share.is_over)
    assert (share.outcome, share.restarts) == ("finished", 7)
    assert share.standing.weeks_done == [f"2021-W{number:02}" for number in range(4)]
    assert share.standing.errors == [f"error {number}" for number in range(3, 8)]


def test_it_follows_luigid_at_once_where_nothing_is_under_way(stage: Stage) -> None:
    stage.play("signal.signal(signal.SIGUSR1, signal.SIG_IGN); forever()")
    share = stage.share()
    stage.tick_until(share, lambda: "ready" in stage.printed)
    stage.play("")
    with _Luigid() as other:
        elsewhere = replace(other.lease, instance="i-2")
        stage.tick_until(share, lambda: share.is_over, elsewhere)
    assert (share.outcome, share.restarts) == ("finished", 1)
    assert stage.said[-1] == f"starts {' '.join(_full(elsewhere))}"


def test_it_follows_luigid_when_the_week_under_way_is_done(stage: Stage) -> None:
    stage.play(
        f"""
stand(running={{"{WEEK}": "half way"}})
def finish(*_):
    stand(weeks_done=["{WEEK}"])
signal.signal(signal.SIGUSR1, finish)
forever()
"""
    )
    share = stage.share()
    stage.tick_until(share, lambda: "ready" in stage.printed)
    stage.play("")
    with _Luigid() as other:
        elsewhere = replace(other.lease, instance="i-2")
        stage.tick_until(share, lambda: share.is_over, elsewhere)
    assert share.standing.weeks_done == [WEEK.label]
    assert share.restarts == 1


def _full(luigid: Lease) -> list[str]:
    where = f"{luigid.address}:{luigid.port}"
    weeks = [f"--weeks={WEEK}", "--from=2021-W01", "--refresh"]
    return ["full", "--scheduler", where, "--workers", "3", *weeks]


def test_a_luigid_that_is_nowhere_to_be_had_is_not_waited_for_for_ever(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(share_module, "_PATIENCE", 0.5)
    share = stage.share()
    nowhere = replace(stage.luigid, port=free_port())
    stage.tick_until(share, lambda: share.is_over, nowhere)
    assert share.outcome == "failed"
    assert share.sentence == f"has failed: no luigid can be reached at 127.0.0.1:{nowhere.port}"
    assert stage.printed == []


def test_a_luigid_that_is_lost_again_and_again_is_given_up(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = itertools.cycle([True, False])  # it answers before each start, and not after
    monkeypatch.setattr(share_module, "answers", lambda _lease: next(turns))
    monkeypatch.setattr(share_module, "_LOSSES", 2)
    share = stage.share()
    stage.play("sys.exit(1)")
    stage.tick_until(share, lambda: share.is_over)
    assert share.outcome == "failed"
    assert "luigid is lost" in share.sentence


def test_a_week_that_stands_still_is_begun_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(share_module, "_STALL", 0.1)
    stage.play(f'stand(running={{"{WEEK}": "stuck"}}); forever()')
    share = stage.share()
    stage.tick_until(share, lambda: share.standing.errors)
    assert share.standing.errors[0].startswith(f"{WEEK}: no progress for ")
    stage.play("")
    stage.tick_until(share, lambda: share.is_over)
    assert share.outcome == "finished"


def test_it_leaves_in_good_time_whatever_the_process_does(stage: Stage) -> None:
    waiting = stage.spool()
    stage.play(
        f"""
if command == "sync":
    pathlib.Path({str(waiting)!r}).unlink()
else:
    stand(running={{"{WEEK}": "half way"}})
    signal.signal(signal.SIGUSR1, lambda *_: print("no more weeks", flush=True))
    forever()
"""
    )
    share = stage.share()
    stage.tick_until(share, lambda: "ready" in stage.printed)
    share.leave(time.monotonic() + 3600)
    stage.tick_until(share, lambda: "no more weeks" in stage.printed)
    assert share.is_at_work
    share.leave(time.monotonic())
    stage.tick_until(share, lambda: share.is_over)
    assert share.outcome == ""
    assert share.sentence == "has left the run; what was finished is all uploaded"


def test_one_that_starts_again_knows_what_it_had_done_before(stage: Stage) -> None:
    before = Member(
        run_id="run-1", state="working", weeks_done=["2021-W44"], snapshots=3, restarts=1
    )
    stage.play('stand(weeks_done=["2021-W45", "2021-W44"], snapshots=2)')
    share = stage.share(before=before)
    stage.tick_until(share, lambda: share.is_over)
    assert share.standing.weeks_done == ["2021-W44", "2021-W45"]
    assert (share.standing.snapshots, share.restarts) == (5, 2)
    assert stage.share(replace(RUN, run_id="run-2"), before).standing.weeks_done == []


@pytest.mark.parametrize("state", ["finished", "failed"])
def test_one_that_starts_again_when_all_is_over_does_nothing(stage: Stage, state: str) -> None:
    share = stage.share(before=Member(run_id="run-1", state=state, sentence="as before"))
    share.tick(stage.luigid)
    share.stop()
    assert (share.is_over, share.outcome, share.sentence) == (True, state, "as before")
    assert stage.said == []


def work(stage: Stage, script: str) -> Work:
    """A process that has got so far that it says that it is ready."""
    stage.play(script)
    started = stage.place.start(RUN, "full")
    wait_until(lambda: "ready" in stage.printed, lambda: f"{stage.printed}")
    return started


def test_a_process_that_does_not_end_when_asked_is_killed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_module, "_GRACE_SECONDS", 0.2)
    started = work(stage, "signal.signal(signal.SIGTERM, signal.SIG_IGN); forever()")
    assert started.poll() is None
    started.terminate()
    wait_until(lambda: started.poll() is not None, lambda: "still there")
    assert started.poll() == -signal.SIGKILL


_FORK = """
if os.fork():
    {parent}
print(os.getpid(), flush=True)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
forever()
"""


def test_a_process_has_ended_when_what_it_has_forked_is_gone_too(stage: Stage) -> None:
    started = work(stage, _FORK.format(parent="sys.exit(3)"))
    wait_until(lambda: started.poll() is not None, lambda: "still there")
    assert started.poll() == 3
    wait_until(lambda: is_gone(int(stage.printed[0])), lambda: "still there")
    stage.place.start(RUN, "full").kill()


def test_what_a_killed_member_has_left_is_ended(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_module, "_GRACE_SECONDS", 0.2)
    lock = stage.place.lock
    assert not end_leftover(lock)
    started = work(stage, _FORK.format(parent="time.sleep(99)"))
    assert end_leftover(lock)
    assert not end_leftover(lock)
    wait_until(lambda: started.poll() is not None, lambda: "still there")
    wait_until(lambda: is_gone(int(stage.printed[0])), lambda: "still there")
