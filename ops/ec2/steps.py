"""How a command that takes a while shows its steps: a line for each, and what happens meanwhile."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

INDENT = 21
"""Where the outcome of a step stands."""


@dataclass
class Step:
    outcome: str = ""


@contextmanager
def step(name: str) -> Iterator[Step]:
    """A step of a command: a line with its name, how long it took and what came of it."""
    made, started = Step(), time.monotonic()
    yield made
    print(f"{name:9} {time.monotonic() - started:6.1f} s   {made.outcome}", flush=True)


def event(sentence: str) -> None:
    """Something that happens in the middle of a step."""
    print(f"{'':{INDENT}}{sentence}", file=sys.stderr, flush=True)
