"""What happens to a run, when and to whom: drawn from a seed by what an undisturbed run does."""

import contextlib
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from tests.crashes.moments import Front, Moment
from tests.crashes.world import Run, World

CONVERTING = ["a converter process", "the program that they are forks of"]
LONGEST_OUTAGE_SECONDS = 0.4


@dataclass(frozen=True)
class Blow:
    """Who is hit at a moment: the first in `order` that is there then."""

    moment: Moment
    order: list[str]
    share: float
    """From 0 to 1: which of several, or how long of the longest."""

    def strike(self, run: Run, front: Front, world: World) -> str:
        """Hit; returns whom."""
        victims: dict[str, Callable[[], list[int]]] = {
            "the run": lambda: [run.pid],
            "a converter process": run.converters,
            "the program that they are forks of": run.loaders,
            "a worker": run.workers,
            "luigid": world.luigid,
        }
        for name in self.order:
            if name == "the server":
                front.go_down(self.share * LONGEST_OUTAGE_SECONDS)
            elif name == "all at once":
                run.kill_all()
            elif pids := victims[name]():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(sorted(pids)[int(self.share * len(pids))], signal.SIGKILL)
            else:
                continue
            return name
        raise AssertionError("nobody is there")


def draw(chance: random.Random, requests: Counter[str]) -> Blow:
    """A blow at one of the requests that an undisturbed run makes: so many of each operation."""
    operation = chance.choice(sorted(requests))
    moment = Moment(operation, chance.randint(1, requests[operation]), chance.random() < 0.5)
    rare = ["a worker", "luigid", *CONVERTING]
    chance.shuffle(rare)
    if operation == "GetObject":  # they are there to fetch
        rare.sort(key=lambda name: name not in CONVERTING)
    often = ["the run", "all at once", "the server"]
    chance.shuffle(often)
    order = [*rare, *often] if chance.random() < 0.5 else often
    return Blow(moment, order, chance.random())
