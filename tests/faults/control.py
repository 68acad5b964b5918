"""Which requests meet a fault, by rule or by a storm from a seed, and which have."""

import collections
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from urllib.parse import parse_qs

from tests.faults.kinds import Fault, Lack
from tests.faults.request import Request

DEADLINE_SECONDS = 30.0
"""How long anything may take here before the test counts as failed."""


@dataclass(frozen=True)
class Which:
    """Which requests: any, or those of a method, an S3 operation, a key (``*`` and ``?`` in it)."""

    method: str | None = None
    key: str | None = None
    operation: str | None = None

    def holds(self, request: Request) -> bool:
        return (
            self.method in (None, request.method)
            and self.operation in (None, request.operation)
            and (self.key is None or fnmatchcase(request.key, self.key))
        )


@dataclass
class Injection:
    """A fault that a request is to meet."""

    fault: Fault
    seconds: float
    """How long a slow answer takes in all."""

    at: float
    """Where in a body it happens: a share of the length, from 0 to below 1."""

    released: threading.Event
    """Set when a stalled or slow answer is to go on at full speed."""

    rule: "Rule | None"


@dataclass
class Rule:
    """A fault for the next so many requests (None: for all) that are meant and can meet it."""

    fault: Fault
    which: Which
    after: int
    times_left: int | None
    seconds: float

    @property
    def is_over(self) -> bool:
        return self.times_left == 0

    def takes(self, request: Request) -> bool:
        if self.is_over or not (self.which.holds(request) and request.can_meet(self.fault)):
            return False
        if self.after:
            self.after -= 1
            return False
        if self.times_left is not None:
            self.times_left -= 1
        return True

    def give_back(self) -> None:
        """Take one time more: a request that was taken could not meet the fault after all."""
        if self.times_left is not None:
            self.times_left += 1


@dataclass
class Storm:
    """A share of all requests that are meant, each with a fault drawn for it.

    The draw is from the seed, what is asked for, and how many times that has been asked for in this
    storm: it is the same however threads and processes take turns. Upload ids and buckets, which
    differ from run to run, do not count.
    """

    seed: int
    share: float
    faults: Sequence[Fault]
    which: Which
    seconds: float
    _asked: "collections.Counter[tuple[str, ...]]" = field(default_factory=collections.Counter)

    def draw(self, request: Request) -> tuple[Fault, float] | None:
        """The fault and the point in the body, if any."""
        if not self.which.holds(request):
            return None
        asked = (request.operation, request.key, request.detail)
        self._asked[asked] += 1
        drawn = random.Random(repr((self.seed, asked, self._asked[asked])))
        if drawn.random() >= self.share:
            return None
        possible = [fault for fault in self.faults if request.can_meet(fault)]
        return (drawn.choice(possible), drawn.random()) if possible else None


class Control:
    """What a test says is to fail, and what it is told of what came. Safe for threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._rules: list[Rule] = []
        self._storms: list[Storm] = []
        self._lacks: list[Lack] = []
        self._expired: set[tuple[str, str]] = set()
        self._requests: list[Request] = []
        self._release = threading.Event()

    def fail(
        self,
        fault: Fault,
        times: int | None = 1,
        method: str | None = None,
        key: str | None = None,
        operation: str | None = None,
        after: int = 0,
        seconds: float = 0.5,
    ) -> Rule:
        """The next requests that match, `after` so many of them, meet a fault.

        Only requests that can meet it count. A request meets the first rule that fits; storms come
        last. `seconds` is how long a drip takes.
        """
        rule = Rule(fault, Which(method, key, operation), after, times, seconds)
        with self._changed:
            self._rules.append(rule)
        return rule

    def lack(
        self,
        named: str,
        status: str = "",
        code: str = "",
        message: str = "So it is",
        operation: str | None = None,
        key: str = "*",
        times: int | None = None,
    ) -> None:
        """From now on the server does not know something; without a status, it ignores it."""
        answer = (status, code, message) if status else None
        with self._changed:
            self._lacks.append(Lack(named, answer, operation, key, times))

    def storm(
        self,
        seed: int,
        share: float,
        faults: Sequence[Fault] = tuple(Fault),
        method: str | None = None,
        key: str | None = None,
        operation: str | None = None,
        seconds: float = 0.5,
    ) -> Storm:
        """Have this share (0 to 1) of matching requests meet one of the faults that they can."""
        storm = Storm(seed, share, faults, Which(method, key, operation), seconds)
        with self._changed:
            self._storms.append(storm)
        return storm

    def calm(self) -> None:
        """End all rules and storms, make credentials good again, and release what is held."""
        with self._changed:
            self._lacks.clear()
            self._rules.clear()
            self._storms.clear()
            self._expired.clear()
        self.release()

    def release(self) -> None:
        """Let every answer that is stalled or slow go on; those to come are stalled again."""
        with self._changed:
            released, self._release = self._release, threading.Event()
        released.set()

    def requests(self) -> list[Request]:
        """Every request that came, in order."""
        with self._changed:
            return list(self._requests)

    def seen(self) -> list[tuple[Fault, str, str]]:
        """Every fault that happened, with the method and key of the request that met it."""
        return [(one.fault, one.method, one.key) for one in self.requests() if one.fault]

    def counts(self) -> "collections.Counter[Fault]":
        """How many times each fault has happened."""
        return collections.Counter(fault for fault, _, _ in self.seen())

    def wait_for(self, fault: Fault, times: int = 1) -> None:
        """Wait until a fault has happened so many times."""
        with self._changed:
            came = self._changed.wait_for(
                lambda: sum(one.fault is fault for one in self._requests) >= times,
                DEADLINE_SECONDS,
            )
        assert came, f"no {fault} (times {times}), but: {self.counts()}"

    def meet(self, request: Request) -> Injection | None:
        """For the proxy: what a request that has just come is to meet."""
        with self._changed:
            self._requests.append(request)
            injection = self._injection(request)
            if injection and injection.fault is Fault.EXPIRED_TOKEN and request.credentials:
                self._expired.add(request.credentials)
        return injection

    def lacks(self, request: Request) -> list[Lack]:
        """For the proxy: what in a request the server does not know."""
        with self._changed:
            found = [one for one in self._lacks if one.times_left != 0 and _is_in(one, request)]
            for one in found:
                if one.times_left is not None:
                    one.times_left -= 1
            return found

    def note(self, request: Request, injection: Injection) -> None:
        """For the proxy: it is happening now."""
        with self._changed:
            request.fault = injection.fault
            self._changed.notify_all()

    def miss(self, injection: Injection) -> None:
        """For the proxy: it could not happen, because the answer has no body of a known length."""
        with self._changed:
            if injection.rule:
                injection.rule.give_back()

    def _injection(self, request: Request) -> Injection | None:
        if request.credentials in self._expired:
            return Injection(Fault.EXPIRED_TOKEN, 0, 0, self._release, None)
        for rule in self._rules:
            if rule.takes(request):
                return Injection(rule.fault, rule.seconds, 0.5, self._release, rule)
        for storm in self._storms:
            if drawn := storm.draw(request):
                return Injection(drawn[0], storm.seconds, drawn[1], self._release, None)
        return None


def _is_in(lack: Lack, request: Request) -> bool:
    if lack.operation not in (None, request.operation) or not fnmatchcase(request.key, lack.key):
        return False
    query = request.head.first.split(" ")[1].partition("?")[2]
    return request.head.has(lack.named) or lack.named in parse_qs(query, keep_blank_values=True)
