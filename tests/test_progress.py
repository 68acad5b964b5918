"""What a person sees of a run: bars in a terminal, plain lines elsewhere."""

import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks import progress
from tasks.progress import RunProgress
from tests.conftest import PROJECT, Run

WEEKS = ("2021-W44", "2021-W45", "2021-W46")
BAR = re.compile(r"(2021-W\d\d|weeks    ) {1,3}\d{1,3}% \|.{10,40}\| \S.*")


class Screen:
    """A terminal that understands what bars need: what stands on it after some output."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.columns, self.rows = columns, rows
        self.row = self.column = 0
        self.lines = [""]

    def feed(self, text: str) -> None:
        for part in re.findall(r"\x1b\[\d*[A-Z]|[\r\n]|[^\x1b\r\n]", text):
            if part == "\r":
                self.column = 0
            elif part == "\n":
                self._next_line()
            elif part.startswith("\x1b"):
                self._control(part[-1], int(part[2:-1] or 0))
            else:
                self._put(part)

    @property
    def bars(self) -> list[str]:
        return [line for line in self.lines if "% |" in line]

    def _put(self, character: str) -> None:
        if self.column == self.columns:
            self._next_line()
        line = self.lines[self.row].ljust(self.column)
        self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
        self.column += 1

    def _next_line(self) -> None:
        self.row, self.column = self.row + 1, 0
        if self.row == len(self.lines):
            self.lines.append("")

    def _control(self, kind: str, number: int) -> None:
        if kind == "A":
            self.row = max(len(self.lines) - self.rows, self.row - number, 0)
        elif kind == "K":
            self.lines[self.row] = self.lines[self.row][: self.column]
        elif kind == "J":
            self.lines[self.row] = self.lines[self.row][: self.column]
            del self.lines[self.row + 1 :]
        else:
            raise AssertionError(f"{kind} is more than bars need")


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def screen(self, columns: int = 80) -> Screen:
        screen = Screen(columns)
        screen.feed(self.getvalue())
        return screen


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    terminal = Terminal()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=terminal))
    monkeypatch.setattr(progress, "_DRAW_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(progress, "_on_screen", None)
    return terminal


@pytest.fixture
def folders(
    tmp_path: Path, make_snapshots: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> Path:
    for week in WEEKS:
        make_snapshots(tmp_path / "source", week, hours=3)
    monkeypatch.setenv("BUSTIMES_SOURCE", str(tmp_path / "source"))
    monkeypatch.setenv("BUSTIMES_DESTINATION", str(tmp_path / "destination"))
    monkeypatch.setenv("BUSTIMES_PROCESSES", "1")
    return tmp_path


def no_report(_share: float, _sentence: str) -> None:
    pass


def in_a_terminal(*arguments: str, columns: int = 80, rows: int = 24) -> tuple[str, int]:
    """All output of ``python -m ops …`` in a pseudo-terminal, and its exit code."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    run = subprocess.Popen(
        [sys.executable, "-m", "ops", *arguments],
        cwd=PROJECT,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    output = b""
    try:
        while data := os.read(ours, 1 << 16):
            output += data
    except OSError:
        pass  # how Linux says that nobody has the terminal open any more
    finally:
        os.close(ours)
    return output.decode(), run.wait(timeout=60)


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_terminal_shows_a_bar_for_each_week_under_way_above_one_for_the_whole_run(
    workers: str,
) -> None:
    output, code = in_a_terminal(
        "full", "--weeks", ",".join(WEEKS), "--workers", workers, "--local-scheduler"
    )
    assert code == 0, output
    screen, seen, standings = Screen(), set[str](), []
    for drawing in output.split("\x1b[J")[:-1]:
        screen.feed(drawing + "\x1b[J")
        for bar in screen.bars:
            assert BAR.fullmatch(bar), "nothing mixes into a bar"
            seen.add(bar[:9].strip())
        if screen.bars:
            below = screen.lines[-1 - len(screen.bars) : -1]
            assert below == screen.bars, "all bars are together, and nothing is below them"
            whole = screen.bars[-1]
            assert re.search(r"\| \d of 3 weeks, 00:\d\d so far, ETA (\?|00:\d\d)$", whole)
            standings.append(int(whole[9:12]))
    assert seen == {*WEEKS, "weeks"}
    assert standings == sorted(standings), "the whole run never goes back"
    screen.feed(output.rpartition("\x1b[J")[2])
    assert not screen.bars, "no bar is left behind"
    for week in WEEKS:
        assert sum(line.startswith(f"{week} converted in ") for line in screen.lines) == 1
    done = screen.lines.index("Done: every week that was asked for is there.")
    assert "".join(screen.lines[done + 1 :]).startswith("next       make verify SOURCE=")


def test_without_a_terminal_there_are_plain_lines_with_all_figures(folders: Path, ops: Run) -> None:
    done = ops("full", "--weeks", ",".join(WEEKS), "--workers", "2", "--local-scheduler")
    assert done.returncode == 0, done.stderr
    assert "\r" not in done.stderr
    assert "\x1b" not in done.stderr
    figures = re.findall(
        r"^(2021-W\d\d) converted in [\d.:]+ s: 18 snapshots, [\d,]+ records, "
        r"[\d.]+ [kM]B -> [\d.]+ kB \([\d.]+ to 1\)  \[(\d) of 3 weeks, ETA [\d.:]+(?: s)?\]$",
        done.stderr,
        re.MULTILINE,
    )
    assert sorted(week for week, _ in figures) == list(WEEKS)
    assert [number for _, number in figures] == ["1", "2", "3"]
    assert all(line in (folders / "state/log/full.log").read_text() for line in WEEKS)


def test_without_a_terminal_a_line_comes_even_while_the_work_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert progress._LINE_EVERY_SECONDS < 10
    lines: list[str] = []
    has_two = threading.Event()

    def say(line: str) -> None:
        lines.append(line)
        if len(lines) == 2:
            has_two.set()

    monkeypatch.setattr(progress, "_LINE_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(progress, "say", say)
    unit = RunProgress(2, "week").unit("2021-W45", 10, "snapshot", no_report)
    unit.advance(3, 1234, 5_000_000)
    assert has_two.wait(30)
    unit.close()
    told = len(lines)
    assert re.fullmatch(
        r"2021-W45   30%  3 of 10 snapshots, 1,234 records, [\d.,]+ [kMGT]B/s, ETA .+", lines[-1]
    )
    assert len(lines) == told, "none after the end"


def test_a_unit_reports_share_and_sentence() -> None:
    reports: list[tuple[float, str]] = []
    unit = RunProgress(1, "week").unit(
        "2021-W45", 4, "snapshot", lambda *report: reports.append(report)
    )
    unit.advance(4, 1, 1)
    unit.close()
    [(share, sentence)] = reports
    assert share == 1
    assert re.fullmatch(r"4 of 4 snapshots, 1 record, .+/s, finishing", sentence)


def test_units_under_way_count_in_the_whole_run_by_their_share(terminal: Terminal) -> None:
    run = RunProgress(2, "week")
    unit = run.unit("2021-W45", 10, "snapshot", no_report)
    unit.advance(5, 1, 1)
    assert [bar[9:13] for bar in terminal.screen().bars] == [" 50%", " 25%"]
    assert run.standing().startswith("0 of 2 weeks, ETA ")
    unit.finished("2021-W45 converted")
    assert [bar[9:13] for bar in terminal.screen().bars] == [" 50%"]
    assert run.standing().startswith("1 of 2 weeks, ETA ")


def test_nothing_is_100_percent_before_it_is_done(terminal: Terminal) -> None:
    run = RunProgress(1, "week")
    unit = run.unit("2021-W45", 1000, "snapshot", no_report)
    unit.advance(999, 1, 1)
    assert [bar[9:13] for bar in terminal.screen().bars] == [" 99%", " 99%"]
    unit.close()


@pytest.mark.parametrize("columns", [20, 40, 79, 80, 81, 120, 250])
def test_a_bar_never_is_wider_than_the_terminal(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setattr(progress, "_size_of_terminal", lambda: (columns, 24))
    run = RunProgress(481, "week")
    unit = run.unit("2021-W45", 10_080, "snapshot", no_report)
    unit.advance(10_079, 5_544_000, 1_900_000_000)
    bars = terminal.screen(columns).bars
    assert len(bars) == 2
    assert all(len(bar) < columns for bar in bars)
    assert ("records" in bars[0]) == (columns >= 120)
    if columns >= 80:
        assert re.search(r"/s, ETA 00:\d\d$", bars[0])
    unit.close()


def test_more_units_than_lines_leave_the_whole_run_in_sight(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_size_of_terminal", lambda: (80, 8))
    run = RunProgress(30, "week")
    units = [run.unit(f"2021-W{week:02}", 10, "snapshot", no_report) for week in range(1, 21)]
    run.draw()
    bars = terminal.screen().bars
    assert len(bars) < 8
    assert bars[-1].startswith("weeks")
    for unit in units:
        unit.close()


def test_what_is_said_stands_above_the_bars_and_breaks_between_words(terminal: Terminal) -> None:
    run = RunProgress(1, "week")
    unit = run.unit("2021-W45", 10, "snapshot", no_report)
    progress.say(
        "2021-W45: raw/bustimes__2021-11-09__04-00-05.json is set aside: " + "cut off " * 6
    )
    run.say("short")
    unit.advance(1, 1, 1)
    lines = terminal.screen().lines
    assert lines[0].startswith("2021-W45: raw/")
    assert re.fullmatch(r"  (cut off ?)+", lines[1])
    assert lines[2] == "short"
    assert lines[3].startswith("2021-W45  10%")
    assert lines[4].startswith("weeks     10%")
    unit.close()


def test_a_worker_that_was_killed_leaves_no_bar_and_no_lock(terminal: Terminal) -> None:
    run = RunProgress(2, "week")
    child = os.fork()
    if child == 0:
        run.unit("2021-W45", 10, "snapshot", no_report)
        with run._lock:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert run._state.slots[0].pid == child
    run.draw()
    assert len(terminal.screen().bars) == 1
    assert run._state.slots[0].pid == 0


def test_after_the_end_nothing_is_drawn(terminal: Terminal) -> None:
    run = RunProgress(2, "week")
    unit = run.unit("2021-W45", 10, "snapshot", no_report)
    run.close()
    unit.advance(1, 1, 1)
    progress.say("The end.")
    unit.close()
    assert terminal.screen().lines == ["The end.", ""]
