"""luigid's page in a browser, and make status, while a real run stands still and after its end."""

import html
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from luigi.rpc import RemoteScheduler

from ops import luigid
from ops.service import Service
from tasks.bustimes import synthetic
from tasks.bustimes.graph.week_progress import for_page
from tasks.weeks import Week
from tests.browser import DEADLINE_SECONDS, Browser, ask, wait_for
from tests.conftest import PROJECT, Run, free_port

pytestmark = pytest.mark.soak

WEEK = Week(2021, 45)
SENTENCE = r"[\d,]+ of 1,008 snapshots, [\d,]+ records, [\d.]+ [kM]B/s, ETA [\d.:]+(?: s)?"


class RealRun:
    """``python -m ops full`` in a session of its own, and the luigid that it reports to."""

    def __init__(self, scheduler: Service, folder: Path, source: Path) -> None:
        self.port, self._folder = scheduler.port, folder
        self.destination = folder / "destination"
        self.source = source
        self.start()

    @property
    def page(self) -> str:
        return f"http://127.0.0.1:{self.port}/static/visualiser/index.html"

    def start(self) -> None:
        with (self._folder / "output").open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ops", "full", "--weeks", str(WEEK)],
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def under_way(self) -> dict[str, Any] | None:
        """What luigid knows of the week, if it is neither at its beginning nor at its end."""
        query = "data=%7B%22status%22%3A%22RUNNING%22%2C%22upstream_status%22%3A%22%22%7D"
        tasks = ask(f"http://127.0.0.1:{self.port}/api/task_list?{query}")["response"]
        for task in tasks.values():
            if task["name"] == "WeekTask" and 1 <= (task["progress_percentage"] or 0) <= 99:
                return dict(task)
        assert self._process.poll() is None, f"it ended without being seen: {self.output}"
        return None

    def freeze(self) -> None:
        """Stop it and its converters in the middle of the week."""
        wait_for(self.under_way)
        os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def wait(self) -> int:
        return self._process.wait(timeout=DEADLINE_SECONDS)

    @property
    def output(self) -> str:
        return (self._folder / "output").read_text()


@pytest.fixture
def disconnect_seconds() -> int:
    """After how long luigid takes a silent worker for dead; a frozen one should not be."""
    return 600


@pytest.fixture(scope="module")
def big_week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("big-week")
    synthetic.write_folder(folder, WEEK.start, WEEK.end, interval_seconds=600, vehicles=40)
    return folder


@pytest.fixture
def frozen_run(
    big_week: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disconnect_seconds: int
) -> Iterator[RealRun]:
    """A real run that stands still in the middle of a week."""
    config = tmp_path / "luigi.cfg"
    config.write_text(
        re.sub(
            r"(?m)^worker_disconnect_delay = .*$",
            f"worker_disconnect_delay = {disconnect_seconds}",
            (PROJECT / "luigi.cfg").read_text(),
        )
    )
    scheduler = luigid.make_service(tmp_path / "state", free_port(), config)
    for name, value in {
        "LUIGI_CONFIG_PATH": config,
        "LOCAL_LUIGID_PORT": scheduler.port,
        "BUSTIMES_SOURCE": big_week,
        "BUSTIMES_DESTINATION": tmp_path / "destination",
        "BUSTIMES_PROCESSES": 1,
        "BUSTIMES_COMPRESSION_LEVEL": 12,
    }.items():
        monkeypatch.setenv(name, str(value))
    scheduler.start()
    try:
        run = RealRun(scheduler, tmp_path, big_week)
        try:
            run.freeze()
            yield run
        finally:
            run.kill()
    finally:
        scheduler.stop()


Snapshots = Callable[..., list[Path]]


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Service]:
    made = luigid.make_service(tmp_path / "state", free_port(), PROJECT / "luigi.cfg")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def browser(chromedriver: str, tmp_path: Path) -> Iterator[Browser]:
    with Browser(chromedriver, tmp_path / "browser") as browser:
        yield browser


def week_row(browser: Browser, status: str) -> bool:
    rows = browser.text("#taskTable tbody")
    return bool(re.search(rf"{status}\s+WeekTask\s+week={WEEK}", rows))


def test_the_page_shows_how_far_a_week_is_and_keeps_it_when_the_run_is_over(
    browser: Browser, frozen_run: RealRun
) -> None:
    known = frozen_run.under_way()
    assert known is not None
    percent, [sentence, standing] = (
        known["progress_percentage"],
        known["status_message"].split("\n"),
    )
    assert re.fullmatch(SENTENCE, sentence)
    assert re.fullmatch(r"whole run: 0 of 1 week, ETA [\d.:]+(?: s)?", standing)

    browser.open(f"{frozen_run.page}#tab=workers")
    wait_for(lambda: f"week={WEEK}" in browser.text("#workerList"))
    wait_for(lambda: browser.text("#workerList .taskProgressBar") == f"{percent}%")

    browser.open(frozen_run.page)
    wait_for(lambda: week_row(browser, "RUNNING"))
    browser.click("#taskTable .statusMessage")
    wait_for(lambda: sentence in browser.text("#statusMessageModal pre"))
    assert standing in browser.text("#statusMessageModal pre")
    wait_for(lambda: f"{percent}%" in browser.text("#statusMessageModal .progress-bar"))

    frozen_run.thaw()
    assert frozen_run.wait() == 0, frozen_run.output
    browser.open(frozen_run.page)
    wait_for(lambda: week_row(browser, "DONE"))
    browser.click("#taskTable .statusMessage")
    wait_for(lambda: f"{WEEK} converted in " in browser.text("#statusMessageModal pre"))
    said = browser.text("#statusMessageModal pre")
    assert re.search(r"\n1,008 snapshots, [\d,]+ records, .+ -> .+ \([\d.]+ to 1\)$", said)
    wait_for(lambda: "100%" in browser.text("#statusMessageModal .progress-bar"))


@pytest.mark.parametrize(
    "path", ["static/visualiser/index.html", "tasklist", "tasklist/WeekTask", "history"]
)
def test_no_page_asks_anything_of_another_host(
    browser: Browser, scheduler: Service, path: str
) -> None:
    """Blocked as well: what the browser is told not to fetch is not on the page either."""
    browser.asked_for()  # for its own first page
    browser.open(f"http://127.0.0.1:{scheduler.port}/{path}")
    asked = [
        url for url in browser.asked_for() if not url.startswith(("data:", "about:", "chrome:"))
    ]
    assert f"http://127.0.0.1:{scheduler.port}/{path}" in asked
    outside = [url for url in asked if not url.startswith(f"http://127.0.0.1:{scheduler.port}/")]
    assert outside == []
    with urllib.request.urlopen(f"http://127.0.0.1:{scheduler.port}/{path}") as answer:
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        assert not re.search(r"(?:src|href)=.(?:https?:)?//", answer.read().decode())


def test_the_page_tells_archives_and_ranges_apart(
    browser: Browser, scheduler: Service, tmp_path: Path, make_snapshots: Snapshots, ops: Run
) -> None:
    make_snapshots(tmp_path / "raw", WEEK.label)
    given = {"BUSTIMES_SOURCE": str(tmp_path / "raw"), "LOCAL_LUIGID_PORT": str(scheduler.port)}
    for name in ("one", "two"):
        given["BUSTIMES_DESTINATION"] = str(tmp_path / name)
        for options in (("--weeks", WEEK.label), ("--from", "2021-W44", "--to", WEEK.label), ()):
            assert ops("full", *options, **given).returncode == 0
    browser.open(f"http://127.0.0.1:{scheduler.port}/static/visualiser/index.html")
    for name in ("one", "two"):
        for told in (
            f"WeekTask week={WEEK}, destination={tmp_path / name}",
            f"AllWeeks weeks={WEEK}, destination={tmp_path / name}",
            f"AllWeeks from=2021-W44, to={WEEK}, destination={tmp_path / name}",
        ):
            wait_for(lambda told=told: told in " ".join(rows(browser).split()))
    all_of_them = r"AllWeeks from=2016-W49, to=20\d\d-W\d\d, destination=\S+/(one|two)"
    assert len(re.findall(all_of_them, " ".join(rows(browser).split()))) == 2


def rows(browser: Browser) -> str:
    return browser.text("#taskTable tbody")


def test_status_says_how_far_a_run_is(frozen_run: RealRun, ops: Run) -> None:
    known = frozen_run.under_way()
    assert known is not None
    sentence, standing = known["status_message"].split("\n")
    asked = ops("status", "--weeks", str(WEEK))
    assert asked.returncode == 0, asked.stderr
    lines = asked.stdout.splitlines()
    assert lines[:5] == [
        f"weeks     0 of 1 done (0%) in {frozen_run.destination}, from {frozen_run.source}",
        f"to do     {WEEK}",
        f"running   {WEEK}: {known['progress_percentage']}%, {sentence}",
        f"          {standing}",
        "spool     nothing waits for upload",
    ]
    assert re.fullmatch(r"disk      [\d.]+ [MGT]B free of [\d.]+ [MGT]B", lines[5])
    assert lines[6].startswith("memory    ")
    assert lines[7] == f"service   Luigi scheduler: http://127.0.0.1:{frozen_run.port}"
    assert lines[8].startswith("log       ")
    assert any("1 week to convert, 0 weeks done already." in line for line in lines[9:])


@pytest.mark.parametrize("disconnect_seconds", [1])
def test_the_weeks_of_a_run_that_was_killed_are_done_by_the_next(frozen_run: RealRun) -> None:
    frozen_run.kill()
    frozen_run.start()
    assert frozen_run.wait() == 0, frozen_run.output
    assert (frozen_run.destination / f"{WEEK}.jsonl.gz").exists(), frozen_run.output
    assert "Done: " in frozen_run.output


def test_what_is_said_of_a_week_is_text_on_the_page_and_never_markup(
    browser: Browser, tmp_path: Path
) -> None:
    """The page takes what it is told for HTML; places and S3's own words may hold anything."""
    said = "s3://feed/<img src=x onerror=\"document.title='planted'\">&lt;b>#2 -> <b>x</b> &amp; y"
    scheduler = luigid.make_service(tmp_path / "state", free_port(), PROJECT / "luigi.cfg")
    scheduler.start()
    try:
        known = RemoteScheduler(f"http://{scheduler.address}")
        known.add_task(worker="w", task_id="week", family="WeekTask", params={}, status="PENDING")
        known.add_task(worker="w", task_id="week", status="RUNNING")
        known.set_task_status_message("week", for_page(said))
        browser.open(f"http://{scheduler.address}/static/visualiser/index.html")
        wait_for(lambda: "WeekTask" in browser.text("#taskTable tbody"))
        browser.click("#taskTable .statusMessage")
        wait_for(lambda: browser.text("#statusMessageModal pre") == said)
        assert "planted" not in browser.text("title")
        assert browser.text("#statusMessageModal pre b") == ""
    finally:
        scheduler.stop()
    assert html.unescape(for_page(said)) == said
