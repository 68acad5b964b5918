"""How far a run is: bars in a terminal, plain lines elsewhere, and a sentence for a web page.

One `RunProgress` is made before any worker is forked. What it counts lies in shared memory, so in a
terminal whoever has news draws all bars anew, in one write and under one lock: a block of lines at
the bottom, the units under way (weeks, say) and then the whole run, which what is said scrolls past
above. Knows nothing of what the units are; draws on stderr only, so that output can be piped.
"""

import ctypes
import logging
import math
import os
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import across_forks, figures, own_files, run_log, secrets
from tasks.processes import is_alive

if TYPE_CHECKING:
    from tqdm import tqdm

LOG_TIME = "%Y-%m-%d %H:%M:%S"
"""How a line of the log begins, in local time; two spaces follow."""
HEADING = "== "
"""What the line begins with, in the log, that says which command the next ones are of."""

_SLOTS = 256
_LINE_EVERY_SECONDS = 9.0
_REPORT_EVERY_SECONDS = 0.5
_DRAW_EVERY_SECONDS = 0.1
_CLOCK_SECONDS = 1.0  # between two drawings when there is no news

_NAME_WIDTH = 9
_PERCENT_WIDTH = 4
_TEXT_WIDTHS = (70, 50, 0)  # what a text takes, and what it does in fewer and in few words
_BAR_WIDTHS = (10, 40)

Report = Callable[[float, str], None]
"""Takes the share done, 0 to 1, and a sentence."""


class _Slot(ctypes.Structure):
    """A unit under way, in shared memory; `pid` is that of the process at it, 0 if none is."""

    _fields_ = (
        ("pid", ctypes.c_int64),
        ("name", ctypes.c_char * 64),
        ("noun", ctypes.c_char * 64),
        ("total", ctypes.c_int64),
        ("steps", ctypes.c_int64),
        ("records", ctypes.c_int64),
        ("bytes", ctypes.c_int64),
        ("started", ctypes.c_double),
    )


class _State(ctypes.Structure):
    """The whole run, in shared memory."""

    _fields_ = (
        ("finished", ctypes.c_int64),
        ("height", ctypes.c_int64),  # lines of the block, which is above the cursor
        ("drawn", ctypes.c_double),
        ("is_over", ctypes.c_bool),
        ("slots", _Slot * _SLOTS),
    )


class RunProgress:
    """The whole run: `total` units to do, of which some may be under way at the same time."""

    def __init__(self, total: int, noun: str) -> None:
        global _on_screen
        self.total = total
        self._noun = noun
        self._started = time.monotonic()
        self._state = across_forks.memory(_State)
        self._lock = across_forks.Lock()
        if in_terminal():
            if _on_screen is not None:
                _on_screen.close()
            _on_screen = self
            self._draw()

    def unit(self, name: str, total: int, noun: str, report: Report) -> "UnitProgress":
        """One unit of `total` steps called `noun`; `report` is called about twice a second."""
        with self._lock:
            slot = self._free_slot()
            slot.name, slot.noun = name.encode(), noun.encode()
            slot.total, slot.started = total, time.monotonic()
            slot.steps = slot.records = slot.bytes = 0
            slot.pid = os.getpid()
        return UnitProgress(self, slot, report)

    def finished(self, sentence: str) -> None:
        """A unit is done: say so, with where the whole run stands."""
        with self._lock:  # so that no two lines have the same number
            self._state.finished += 1
            say(f"{sentence}  [{self.standing()}]")

    def say(self, sentence: str) -> None:
        """One line of text, without disturbing the bars."""
        say(sentence)

    def standing(self) -> str:
        """Units done of all, and the time left at the pace so far."""
        left = self._seconds_left()
        eta = "unknown" if left is None else figures.duration(left)
        return f"{self._counted()}, ETA {eta}"

    def close(self) -> None:
        """Take the bars away: nothing is drawn from now on, by any process."""
        with self._lock:
            self._state.is_over = True
        self._draw()

    def draw(self) -> None:
        """Show what is new, unless it was done a moment ago."""
        if in_terminal() and time.monotonic() - self._state.drawn >= _DRAW_EVERY_SECONDS:
            self._draw()

    def show(self, sentence: str) -> None:
        """Write a sentence above the bars."""
        self._draw(sentence)

    def leave(self, slot: _Slot, sentence: str | None) -> None:
        """A unit is no longer under way; with a sentence, because it is finished."""
        with self._lock:  # as a whole, or the run would seem to go back
            slot.pid = 0
            if sentence is not None:
                self.finished(sentence)

    def _counted(self) -> str:
        return f"{self._state.finished:,} of {figures.count(self.total, self._noun)}"

    def _free_slot(self) -> _Slot:
        slots: list[_Slot] = list(self._state.slots)
        return next((slot for slot in slots if not slot.pid), slots[-1])

    def _under_way(self) -> Iterator[_Slot]:
        for slot in self._state.slots:
            if slot.pid and not is_alive(slot.pid):
                slot.pid = 0  # killed in the middle of it
            if slot.pid:
                yield slot

    def _done(self) -> float:
        return float(self._state.finished + sum(_share(slot) for slot in self._under_way()))

    def _seconds_left(self) -> float | None:
        done = self._done()
        if done <= 0:
            return None
        elapsed = time.monotonic() - self._started
        return max(0.0, elapsed * (self.total - done) / done)

    def _draw(self, sentence: str | None = None) -> None:
        """Write the block anew where it is, below the sentence if there is one."""
        if not in_terminal():
            return
        columns, rows = _size_of_terminal()
        with self._lock:
            block = self._block(columns, rows)
            said = [] if sentence is None else [sentence]
            if block and said:  # else the terminal breaks it: a command can be copied as one line
                said = _wrapped(said[0], columns)
            height = self._state.height
            up = f"\x1b[{height}A" if height else ""
            # Each line is cleared behind its text, never before it: so nothing flickers.
            text = "".join(f"{line}\x1b[K\n" for line in [*said, *block])
            self._state.height = len(block)
            self._state.drawn = time.monotonic()
            with suppress(OSError):  # the terminal is gone: the work goes on
                sys.stderr.write(f"\r{up}{text}\x1b[J")
                sys.stderr.flush()

    def _block(self, columns: int, rows: int) -> list[str]:
        if self._state.is_over or self._state.finished >= self.total:
            return []
        units = sorted(self._under_way(), key=lambda slot: bytes(slot.name))
        lines = [
            _bar(slot.name.decode(), _share(slot), _texts(slot), columns)
            for slot in units[: max(0, rows - 3)]
        ]
        elapsed = _interval(math.floor(time.monotonic() - self._started))
        eta = f"ETA {_eta(self._seconds_left())}"
        text = f"{self._counted()}, {elapsed} so far, {eta}"
        share = min(0.999, self._done() / self.total)  # a unit may still be finishing
        return [*lines, _bar(f"{self._noun}s", share, [text, text, eta], columns)]


class UnitProgress:
    """One unit under way."""

    def __init__(self, run: RunProgress, slot: _Slot, report: Report) -> None:
        self._run, self._slot, self._report = run, slot, report
        self._reported = time.monotonic()
        self._is_over = threading.Event()
        self._clock = threading.Thread(target=self._run_clock, daemon=True)
        self._clock.start()
        run._draw()  # at once: a short unit should be seen too

    def advance(self, steps: int, records: int, raw_bytes: int) -> None:
        """So much more is done."""
        self._slot.steps += steps
        self._slot.records += records
        self._slot.bytes += raw_bytes
        share = _share(self._slot)
        now = time.monotonic()
        if now - self._reported >= _REPORT_EVERY_SECONDS or share >= 1:
            self._reported = now
            self._report(share, self.sentence())
        self._run.draw()

    def sentence(self) -> str:
        """Steps and records done, MB/s and ETA."""
        left = _seconds_left(self._slot)
        return ", ".join(
            [
                *_figures(self._slot),
                "finishing"
                if left == 0
                else f"ETA {'unknown' if left is None else figures.duration(left)}",
            ]
        )

    @property
    def seconds(self) -> float:
        return float(time.monotonic() - self._slot.started)

    def finished(self, sentence: str) -> None:
        """The unit is done: say so, with where the whole run stands."""
        self._end(sentence)

    def close(self) -> None:
        """The unit is no longer under way, whether it is finished or not."""
        self._end(None)

    def _end(self, sentence: str | None) -> None:
        if not self._is_over.is_set():
            self._is_over.set()
            self._clock.join()
            self._run.leave(self._slot, sentence)

    def _run_clock(self) -> None:
        """What is shown goes on when the work says nothing for a while."""
        bars = in_terminal()
        while not self._is_over.wait(_CLOCK_SECONDS if bars else _LINE_EVERY_SECONDS):
            if bars:
                self._run.draw()
            else:
                name = self._slot.name.decode()
                self._run.say(f"{name}  {_percent(_share(self._slot))}  {self.sentence()}")


def say(sentence: str, level: int = logging.INFO) -> None:
    """One line on stderr, above the bars if there are any, and in the logs if there are any."""
    sentence = secrets.without(sentence)
    if _on_screen is not None and in_terminal():
        _on_screen.show(sentence)
    else:
        print(sentence, file=sys.stderr, flush=True)
    _keep(sentence, level)


def tell(line: str) -> None:
    """One line of what a command found, on stdout, and in the logs if there are any."""
    print(line, flush=True)
    _keep(line, logging.INFO)


def log_to(path: Path, heading: str = "") -> None:
    """Keep what is said from now on in a file as well, below a heading that tells whose it is."""
    global _log_path
    own_files.make_way(path, say)
    with suppress(OSError):  # a full disk, say: no reason for the run to fail
        path.parent.mkdir(parents=True, exist_ok=True)
    _log_path = path
    if heading:
        _keep(f"{HEADING}{heading}", logging.INFO)


def _keep(sentence: str, level: int) -> None:
    run_log.said(sentence, level)
    if _log_path is not None:
        run_log.append(_log_path, f"{time.strftime(LOG_TIME)}  {sentence}")


def in_terminal() -> bool:
    """Whether someone watches: bars then, lines otherwise."""
    return sys.stderr.isatty()


_on_screen: RunProgress | None = None
_log_path: Path | None = None


def _share(slot: _Slot) -> float:
    return min(1.0, float(slot.steps / slot.total)) if slot.total else 1.0


def _seconds_left(slot: _Slot) -> float | None:
    if not slot.steps:
        return None
    elapsed = time.monotonic() - slot.started
    return float(elapsed * max(0, slot.total - slot.steps) / slot.steps)


def _figures(slot: _Slot) -> list[str]:
    rate = slot.bytes / max(time.monotonic() - slot.started, 1e-9)
    return [
        f"{slot.steps:,} of {figures.count(slot.total, slot.noun.decode())}",
        figures.count(slot.records, "record"),
        f"{figures.size(rate)}/s",
    ]


def _texts(slot: _Slot) -> list[str]:
    """What is known of a unit, and the same in fewer words."""
    left = _seconds_left(slot)
    steps, records, rate = _figures(slot)
    eta = "finishing" if left == 0 else f"ETA {_eta(left)}"
    return [", ".join(parts) for parts in ([steps, records, rate, eta], [steps, rate, eta], [eta])]


def _bar(name: str, share: float, texts: list[str], columns: int) -> str:
    """One line that fits: the bars of all lines are as wide as each other, and stay so."""
    around = _NAME_WIDTH + _PERCENT_WIDTH + len(" || ")
    low, high = _BAR_WIDTHS
    width = max(low, min(high, columns - 1 - around - _TEXT_WIDTHS[0]))
    room = max(0, columns - 1 - around - width)
    text = next(text for text, needed in zip(texts, _TEXT_WIDTHS, strict=True) if needed <= room)
    bar = _tqdm().format_meter(
        n=share,
        total=1,
        elapsed=0,
        bar_format=f"{{bar:{width}}}",
        ascii=not (sys.stderr.encoding or "").lower().startswith("utf"),
    )
    return f"{name:{_NAME_WIDTH}}{_percent(share)} |{bar}| {text}"[: columns - 1]


def _percent(share: float) -> str:
    return f"{int(100 * share):3}%"  # 100% is all of it, not nearly


def _eta(seconds: float | None) -> str:
    return "?" if seconds is None else _interval(math.ceil(seconds))


def _interval(seconds: int) -> str:
    return str(_tqdm().format_interval(seconds))


def _tqdm() -> "type[tqdm[Any]]":
    from tqdm import tqdm  # here, since it takes a while to import and only bars need it

    return tqdm


def _wrapped(sentence: str, columns: int) -> list[str]:
    """The lines of a text that a terminal would break in the middle of words."""
    return [
        part
        for line in sentence.splitlines()
        for part in textwrap.wrap(
            line,
            columns,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        or [""]
    ]


def _size_of_terminal() -> tuple[int, int]:
    try:
        columns, rows = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        columns, rows = 0, 0
    return columns or 80, rows or 24
