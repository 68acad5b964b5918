"""What is searched for faults: a target takes any bytes, and promises something of each.

A target raises nothing where its promise holds. What it raises is a fault: `AssertionError` where a
result is wrong, any other exception where one came out of the code that should not.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from ops.fuzz.changes import LONGEST
from ops.fuzz.coverage import Counters, LinesOfPython
from tasks.problem import Problem
from tasks.settings import PROJECT


@dataclass(frozen=True)
class Target:
    """See above. `share` is how much of a search's time it gets, beside the others' shares."""

    name: str
    feed: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    scraps: tuple[bytes, ...]
    counters: Counters
    counting: Callable[[], AbstractContextManager[None]] = nullcontext
    share: int = 1
    longest: int = LONGEST


def in_python(
    name: str,
    feed: Callable[[bytes], object],
    seeds: Callable[[], list[bytes]],
    scraps: tuple[bytes, ...],
    files: tuple[str, ...],
    share: int = 1,
) -> Target:
    """A target whose code is Python, in `files` of this project."""
    lines = LinesOfPython([PROJECT / file for file in files])
    return Target(name, feed, seeds, scraps, lines.counters, lines.counting, share)


def text_of(data: bytes) -> str:
    """Any text, from any bytes: also such as no UTF-8 holds."""
    return data.decode("utf-8", "surrogateescape")


def must_be_a_sentence(problem: Problem) -> None:
    """What a person is told is told in words."""
    text = str(problem)
    assert text
    assert "Traceback" not in text
