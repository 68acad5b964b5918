"""Luigid on this instance: it runs as long as the lease is held, and not a moment longer.

Goes by what the heartbeat knows of the lease, and asks S3 nothing itself: so luigid is stopped in
time even where S3 cannot be reached.
"""

import math
import time
from collections.abc import Callable

from ops.ec2.board import Lease
from ops.ec2.lease import SchedulerLease, answers
from ops.ec2.pulse import Pulse, View
from ops.service import Service
from tasks.problem import Problem


class Duty:
    """Wants the lease when there is a run, and sees to luigid accordingly."""

    def __init__(
        self,
        luigid: Service,
        lease: SchedulerLease,
        takeover_seconds: float,
        say: Callable[[str], None],
        complain: Callable[[str], None],
    ) -> None:
        """`say` is told what happens, `complain` what goes wrong."""
        self._luigid, self._lease = luigid, lease
        self._takeover_seconds = takeover_seconds
        self._say, self._complain = say, complain
        self._since = time.monotonic()
        self._not_before = self._since
        self._asked = self._answered = -math.inf

    @property
    def is_held(self) -> bool:
        """Whether this instance is the one that sees to luigid, and to the end of the run."""
        return self._lease.is_held

    @property
    def is_running(self) -> bool:
        """Whether luigid runs here, by right."""
        return self._lease.is_held and self._luigid.is_running()

    def tick(self, view: View, pulse: Pulse, is_leaving: bool, is_done: bool) -> None:
        """Do what is due. `is_done` says that this instance has done its share of the run."""
        if view.beats == 0:
            return  # nothing is known yet
        is_wanted = view.run is not None and view.run.is_running and not is_leaving
        may_start = time.monotonic() >= self._not_before
        if not may_start and not is_done:
            is_wanted = False  # let another instance try, unless only the end is to be seen to
        if is_wanted != pulse.wants_lease:
            pulse.wants_lease = is_wanted
            pulse.soon()
        is_new = time.monotonic() - self._since < self._takeover_seconds / 2
        if view.turns == 0 and is_new:
            return  # the luigid that runs here may be by right: an earlier member's
        try:
            is_running = self._luigid.is_running()
            if is_running and not self._lease.is_held:
                self._luigid.stop()
                self._say("luigid is stopped here")
            elif self._lease.is_held and is_wanted and may_start and not is_running:
                self._luigid.start()
                self._answered = time.monotonic()
                self._say(f"runs luigid at {self._luigid.address}")
            elif is_running and self._hangs():
                self._luigid.stop()  # and the next tick starts it
                self._say("luigid has not answered for long and is started again")
        except (Problem, OSError) as problem:  # OSError: the disk is full, say
            self._complain(str(problem))
            self._not_before = time.monotonic() + 2 * self._takeover_seconds

    def _hangs(self) -> bool:
        """Whether luigid has answered nobody for long, although it runs."""
        now = time.monotonic()
        if now - self._asked >= self._takeover_seconds / 4:
            if self._asked == -math.inf or self._luigid_answers():
                self._answered = time.monotonic()
            self._asked = time.monotonic()
        return now - self._answered >= self._takeover_seconds

    def _luigid_answers(self) -> bool:
        return answers(Lease(address=self._luigid.host, port=self._luigid.port))

    def end(self) -> None:
        """Stop luigid, whoever holds the lease."""
        try:
            self._luigid.stop()
        except Problem as problem:
            self._complain(str(problem))
