"""luigid as this machine runs it: what its page shows, for how long, and to whom."""

import json
import os
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from ops import luigid
from ops.service import Service
from tests.conftest import answers_at, free_port

pytestmark = pytest.mark.usefixtures("without_proxy")

_LUIGI_CFG = """
[scheduler]
record_task_history = true
remove_delay = 604800
worker_disconnect_delay = 0
"""
_LUIGI_TASKS = """
import luigi

class Convert(luigi.Task):
    week = luigi.Parameter()

    def output(self):
        return luigi.LocalTarget(f"{self.week}.done")

    def run(self):
        self.output().open("w").close()
"""


class Scheduler:
    """luigid as its web page and its workers see it."""

    def __init__(self, running: Service) -> None:
        self._port = running.port

    def page(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}") as answer:
            return str(answer.read().decode())

    def call(self, method: str, **arguments: str) -> Any:
        data = urllib.parse.quote(json.dumps(arguments))
        return json.loads(self.page(f"/api/{method}?data={data}"))["response"]

    def done(self) -> list[str]:
        tasks = self.call("task_list", status="DONE", upstream_status="")
        return [task["display_name"] for task in tasks.values()]


def run_worker(folder: Path, port: int) -> None:
    """A worker that does one week and goes."""
    (folder / "weekly.py").write_text(_LUIGI_TASKS)
    subprocess.run(
        [
            *(sys.executable, "-m", "luigi", "--module", "weekly", "Convert"),
            *("--week", "2018-W25", "--scheduler-host", "127.0.0.1"),
            *("--scheduler-port", str(port), "--lock-pid-dir", str(folder)),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        check=True,
        capture_output=True,
    )


class TestLuigid:
    def test_finished_tasks_stay_visible_when_the_worker_is_gone_and_after_a_restart(
        self, tmp_path: Path
    ) -> None:
        config = tmp_path / "luigi.cfg"
        config.write_text(_LUIGI_CFG)
        state = tmp_path / "a folder with 100% spaces"
        scheduler = luigid.make_service(state, free_port(), config)
        seen = Scheduler(scheduler)
        scheduler.start()
        try:
            run_worker(tmp_path, scheduler.port)
            seen.call("prune")  # what luigid does every minute: the worker is forgotten
            seen.call("prune")  # its tasks would be, if they were due
            assert seen.call("worker_list") == []
            assert seen.done() == ["Convert(week=2018-W25)"]
            scheduler.stop()
            scheduler.start()
            assert seen.done() == ["Convert(week=2018-W25)"]
            for path in ("/history", "/history/by_name/Convert", "/history/by_id/1"):
                assert "2018-W25" in seen.page(path)
            assert "Convert" in seen.page("/tasklist")
        finally:
            scheduler.stop()
        assert {path.name for path in state.iterdir()} == {"luigid"}, "it has one folder"
        assert {"history.db", "state.pickle"} <= {p.name for p in (state / "luigid").iterdir()}

    def test_listens_on_loopback_only_and_needs_no_settings(self, tmp_path: Path) -> None:
        scheduler = luigid.make_service(tmp_path, free_port(), tmp_path / "missing.cfg")
        scheduler.start()
        try:
            assert not answers_at("127.0.0.2", scheduler.port)
            assert not (tmp_path / "luigid" / "history.db").exists()
        finally:
            scheduler.stop()
