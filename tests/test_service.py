"""A service of this machine: how it starts and stops, and whose process it takes for its own."""

import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ops import service
from ops.service import Service
from tasks.problem import Problem
from tests.conftest import PROJECT, free_port

pytestmark = pytest.mark.usefixtures("without_proxy")

# Notes its start in a file, then answers every GET.
_TOY = """
import http.server, os, pathlib, signal, sys
with open("starts", "a") as starts:
    print(os.getpid(), file=starts)
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("index.html").write_text("here")
handler = http.server.SimpleHTTPRequestHandler
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), handler).serve_forever()
"""


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that is bound to happen; how long it takes proves nothing."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def make_toy(folder: Path, port: int, *arguments: str, path: str = "/") -> Service:
    return Service(
        name="toy",
        command=[sys.executable, "-c", _TOY, str(port), *arguments],
        port=port,
        port_setting="TOY_PORT",
        ready_url=f"http://127.0.0.1:{port}{path}",
        log_path=folder / "toy.log",
        pid_path=folder / "toy.pid",
    )


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[Service]:
    made = make_toy(tmp_path / "toy", free_port())
    yield made
    made.stop()


def pid_of(running: Service) -> int:
    return int(json.loads(running.pid_path.read_text())["pid"])


def starts_of(started: Service) -> list[str]:
    return (started.pid_path.parent / "starts").read_text().split()


def start_elsewhere(starting: Service, **environment: str) -> None:
    """Start a service in a process that ends at once."""
    subprocess.run(
        [sys.executable, "-c", "import pickle, sys; pickle.load(sys.stdin.buffer).start()"],
        input=pickle.dumps(starting),
        check=True,
        cwd=PROJECT,
        env={**os.environ, **environment},
    )


class TestService:
    def test_answers_once_it_is_started(self, toy: Service) -> None:
        assert not toy.is_running()
        toy.start()
        assert toy.is_running()
        assert urllib.request.urlopen(toy.ready_url).read() == b"here"

    def test_starting_what_runs_changes_nothing(self, toy: Service) -> None:
        toy.start()
        pid = pid_of(toy)
        toy.start()
        assert pid_of(toy) == pid
        assert len(starts_of(toy)) == 1

    def test_starts_at_once_start_one(self, toy: Service) -> None:
        with ThreadPoolExecutor(4) as threads:
            for start in [threads.submit(toy.start) for _ in range(4)]:
                start.result()
        assert starts_of(toy) == [str(pid_of(toy))]

    def test_outlives_whoever_started_it(self, toy: Service) -> None:
        start_elsewhere(toy)
        assert toy.is_running()
        assert os.getsid(pid_of(toy)) == pid_of(toy)

    def test_stopping_ends_it_and_leaves_no_pid_file(self, toy: Service) -> None:
        toy.start()
        pid = pid_of(toy)
        toy.stop()
        assert not toy.is_running()
        assert not toy.pid_path.exists()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    def test_stopping_what_does_not_run_is_no_error(self, toy: Service) -> None:
        toy.stop()
        assert not toy.pid_path.parent.exists(), "a stop should leave no folder behind"
        toy.start()
        toy.stop()
        toy.stop()

    def test_a_service_that_does_not_heed_is_killed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service, "_STOP_SECONDS", 0.5)
        deaf = make_toy(tmp_path, free_port(), "deaf")
        deaf.start()
        pid = pid_of(deaf)
        deaf.stop()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    def test_one_that_died_is_started_again(self, toy: Service) -> None:
        toy.start()
        pid = pid_of(toy)
        os.kill(pid, signal.SIGKILL)
        until(lambda: not toy.is_running())
        toy.start()
        assert toy.is_running()
        assert pid_of(toy) != pid

    @pytest.mark.parametrize("started", ["1", ""])
    def test_a_stranger_with_a_recycled_process_number_is_left_alone(
        self, toy: Service, started: str
    ) -> None:
        stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        try:
            toy.pid_path.parent.mkdir()
            note = {"pid": stranger.pid, "started": started, "port": toy.port}
            toy.pid_path.write_text(json.dumps(note))
            assert not toy.is_running()
            toy.stop()
            assert stranger.poll() is None
            assert not toy.pid_path.exists()
        finally:
            stranger.kill()
            stranger.communicate()

    @pytest.mark.parametrize("text", ["", "12 34", "[]", '{"pid": 1}'])
    def test_an_unreadable_pid_file_counts_as_none(self, toy: Service, text: str) -> None:
        toy.pid_path.parent.mkdir()
        toy.pid_path.write_text(text)
        toy.start()
        assert toy.is_running()

    def test_one_that_ends_at_once_shows_the_end_of_its_log(self, tmp_path: Path) -> None:
        broken = make_toy(tmp_path, free_port())
        broken.command[2] = (
            "print(*range(100), sep='\\n', flush=True); raise SystemExit('no such planet')"
        )
        with pytest.raises(Problem, match="ended while it started") as caught:
            broken.start()
        assert "no such planet" in str(caught.value)
        assert str(broken.log_path) in str(caught.value)
        assert "\n99\n" in str(caught.value)
        assert "\n50\n" not in str(caught.value)
        assert not broken.pid_path.exists()

    def test_one_that_never_answers_is_a_problem(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service, "_START_SECONDS", 0.5)
        mute = make_toy(tmp_path, free_port(), path="/missing")
        try:
            with pytest.raises(Problem, match="did not answer at http"):
                mute.start()
        finally:
            mute.stop()

    def test_a_taken_port_is_named_with_the_setting_that_changes_it(self, toy: Service) -> None:
        taken = f"Port {toy.port} .* TOY_PORT"
        with (
            socket.create_server(("127.0.0.1", toy.port)),
            pytest.raises(Problem, match=taken),
        ):
            toy.start()
        assert not toy.is_running()

    def test_one_that_runs_on_another_port_is_not_started_twice(self, toy: Service) -> None:
        toy.start()
        with pytest.raises(Problem, match=f"already runs on port {toy.port}"):
            make_toy(toy.pid_path.parent, free_port()).start()
        assert len(starts_of(toy)) == 1

    def test_a_proxy_in_the_environment_is_not_asked(self, toy: Service) -> None:
        start_elsewhere(toy, http_proxy=f"http://127.0.0.1:{free_port()}", no_proxy="")
        assert toy.is_running()

    def test_the_log_of_the_start_before_is_kept(self, toy: Service) -> None:
        toy.start()
        toy.stop()
        before = toy.log_path.read_text()
        toy.start()
        assert toy.log_path.with_name("toy.log.1").read_text() == before

    @pytest.mark.skipif(not shutil.which("ps"), reason="there is no ps here")
    def test_without_proc_ps_tells_processes_apart(self) -> None:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        started = service._start_time_ps(child.pid)
        assert started
        assert started == service._start_time_ps(child.pid)
        child.kill()
        until(lambda: service._start_time_ps(child.pid) is None)  # a zombie is not alive
        child.communicate()
        assert service._start_time_ps(child.pid) is None
