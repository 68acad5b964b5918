"""How far a run is: bars in a terminal, plain lines elsewhere, and a sentence for a web page.

One `RunProgress` is made before any worker is forked and shared by all of them through shared
memory: its own bar counts units (weeks, say) with an ETA, and every unit under way has a bar of
its own below. Knows nothing of what the units are; draws on stderr only, so that output can be
piped.
"""

import multiprocessing
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tasks import figures

_SLOTS = 64
_LINE_EVERY_SECONDS = 10.0
_REPORT_EVERY_SECONDS = 0.5

Report = Callable[[float, str], None]
"""Takes the share done, 0 to 1, and a sentence."""


class RunProgress:
    """The whole run: `total` units to do, of which some may be under way at the same time."""

    def __init__(self, total: int, noun: str) -> None:
        self.total = total
        self._noun = noun
        self._started = time.monotonic()
        self._finished = multiprocessing.Value("q", 0)
        self._shares = multiprocessing.Array("d", _SLOTS)  # -1 is a free slot
        self._shares[:] = [-1.0] * _SLOTS
        self._bar: tqdm[Any] | None = None
        if in_terminal() and total:
            tqdm.set_lock(multiprocessing.RLock())
            self._bar = tqdm(
                total=total,
                desc=f"{noun}s",
                bar_format="{desc:10} {percentage:3.0f}% |{bar}| {n:.1f} of {total} "
                "[{elapsed}, ETA {remaining}]",
                dynamic_ncols=True,
                leave=False,
            )

    def unit(self, name: str, total: int, noun: str, report: Report) -> "UnitProgress":
        """One unit of `total` steps called `noun`; `report` is called about twice a second."""
        return UnitProgress(self, name, total, noun, self._take_slot(), report)

    def finished(self, sentence: str) -> None:
        """A unit is done: say so, with where the whole run stands."""
        with self._finished.get_lock():
            self._finished.value += 1
        self.redraw()
        done = self._finished.value
        standing = f"{done:,} of {figures.count(self.total, self._noun)}"
        self.say(f"{sentence}  [{standing}, ETA {self.eta()}]")

    def say(self, sentence: str) -> None:
        """One line of text, without disturbing the bars."""
        say(sentence)

    def eta(self) -> str:
        """The time left at the pace so far."""
        done = self._done()
        if done <= 0:
            return "unknown"
        elapsed = time.monotonic() - self._started
        return figures.duration(max(0.0, elapsed * (self.total - done) / done))

    def redraw(self) -> None:
        if self._bar is not None:
            self._bar.n = min(self._done(), self.total)
            self._bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def set_share(self, slot: int, share: float) -> None:
        self._shares[slot] = share

    def free_slot(self, slot: int) -> None:
        self._shares[slot] = -1.0

    def _done(self) -> float:
        return float(self._finished.value + sum(max(share, 0.0) for share in self._shares[:]))

    def _take_slot(self) -> int:
        with self._shares.get_lock():
            free = [slot for slot in range(_SLOTS) if self._shares[slot] < 0]
            slot = free[0] if free else _SLOTS - 1
            self._shares[slot] = 0.0
        return slot


class UnitProgress:
    """One unit under way."""

    def __init__(
        self, run: RunProgress, name: str, total: int, noun: str, slot: int, report: Report
    ) -> None:
        self._run, self._name, self._total, self._noun = run, name, total, noun
        self._slot, self._report = slot, report
        self._started = self._reported = self._printed = time.monotonic()
        self._steps = self._records = self._bytes = 0
        self._bar: tqdm[Any] | None = None
        if in_terminal():
            self._bar = tqdm(
                total=total,
                desc=name,
                position=slot + 1,
                leave=False,
                bar_format="{desc:10} {percentage:3.0f}% |{bar}| {postfix} [ETA {remaining}]",
                dynamic_ncols=True,
            )

    def advance(self, steps: int, records: int, raw_bytes: int) -> None:
        """So much more is done."""
        self._steps += steps
        self._records += records
        self._bytes += raw_bytes
        share = self._steps / self._total if self._total else 1.0
        self._run.set_share(self._slot, share)
        now = time.monotonic()
        if now - self._reported >= _REPORT_EVERY_SECONDS or share >= 1:
            self._reported = now
            self._report(share, self.sentence())
        if self._bar is not None:
            self._bar.n = self._steps
            self._bar.set_postfix_str(self._figures(), refresh=True)
            self._run.redraw()
        elif now - self._printed >= _LINE_EVERY_SECONDS:
            self._printed = now
            self._run.say(f"{self._name}  {share:4.0%}  {self.sentence()}")

    def sentence(self) -> str:
        """Steps and records done, MB/s and ETA."""
        return f"{self._figures()}, ETA {self._eta()}"

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def close(self) -> None:
        self._run.free_slot(self._slot)
        if self._bar is not None:
            self._bar.close()

    def _figures(self) -> str:
        rate = self._bytes / max(self.seconds, 1e-9)
        return (
            f"{self._steps:,} of {figures.count(self._total, self._noun)}, "
            f"{figures.count(self._records, 'record')}, {figures.size(rate)}/s"
        )

    def _eta(self) -> str:
        if not self._steps:
            return "unknown"
        return figures.duration(self.seconds * (self._total - self._steps) / self._steps)


def say(sentence: str) -> None:
    """One line on stderr, above the bars if there are any, and in the log if there is one."""
    if in_terminal():
        tqdm.write(sentence, file=sys.stderr)
    else:
        print(sentence, file=sys.stderr, flush=True)
    if _log_path is not None:
        with _log_path.open("a") as log:
            print(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {sentence}", file=log)


def log_to(path: Path) -> None:
    """Keep what is said from now on in a file as well."""
    global _log_path
    path.parent.mkdir(parents=True, exist_ok=True)
    _log_path = path


_log_path: Path | None = None


def in_terminal() -> bool:
    """Whether someone watches: bars then, lines otherwise."""
    return sys.stderr.isatty()
