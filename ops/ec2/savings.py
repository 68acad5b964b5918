"""Nothing costs money that nobody uses: when the fleet scales itself to zero.

Any instance may ask for it, as often as it likes: the Auto Scaling group then ends all instances,
the asking one among them, and starts no others. One that is still there long after, since somebody
wanted the fleet again and then left it alone, asks again.
"""

import datetime as dt
import time
from collections.abc import Callable

from ops.ec2.aws import Aws, explained
from ops.ec2.board import Run, last_alive
from ops.ec2.pulse import View
from tasks import figures

_AGAIN_SECONDS = 60.0
"""After so long what AWS has refused is asked for again."""


class Savings:
    """Asks for zero instances when a run has ended, or when there was none for long."""

    def __init__(
        self,
        aws: Aws,
        group: str,
        launched: str,
        idle_seconds: float,
        takeover_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`launched` is when this instance was, in ISO 8601."""
        self.sentence = ""
        """What was asked for and why; empty as long as nothing was."""
        self._aws, self._group = aws, group
        self._launched = dt.datetime.fromisoformat(launched)
        self._idle_seconds, self._takeover_seconds = idle_seconds, takeover_seconds
        self._clock = clock
        self._busy_at = clock()
        self._run_reads = 0
        self._asked_for = ""
        self._not_before = clock()

    @property
    def is_idle(self) -> bool:
        """Whether there was no run for long, as far as is known here."""
        return self._clock() - self._busy_at >= self._idle_seconds

    def tick(self, view: View) -> None:
        """Ask for zero instances if it is time; raises `Problem` if that is refused.

        Where there is no run for long, `view` must hold sightings: somebody may work by hand. Who
        cannot see the board waits for twice as long, and then asks without.
        """
        run, now = view.run, self._clock()
        is_running = run is not None and run.is_running
        if is_running and view.run_reads != self._run_reads:  # and not only nothing new to read
            self._busy_at = now
            self._asked_for = self.sentence = ""
        self._run_reads = view.run_reads
        why = ended = ""
        if run is not None and self._ends_the_fleet(run):
            why = ended = f"the run {run.run_id} is {run.state}"
        if why == self._asked_for:
            why = ""
        if not why and self._is_idle_everywhere(view):
            why = f"there was no run for {figures.duration(self._idle_seconds)}"
        if not why or now < self._not_before:
            return
        self._not_before = now + _AGAIN_SECONDS
        with explained(f"The fleet {self._group} cannot be scaled to zero"):
            self._aws.client("autoscaling").set_desired_capacity(
                AutoScalingGroupName=self._group, DesiredCapacity=0, HonorCooldown=False
            )
        self._asked_for, self._busy_at = ended, now  # and again if this is still there then
        self.sentence = f"{why}: the fleet scales to zero"

    def _is_idle_everywhere(self, view: View) -> bool:
        if not self.is_idle:
            return False
        if not view.sightings or view.problem:
            return self._clock() - self._busy_at >= 2 * self._idle_seconds
        alive = last_alive(view.sightings, self._takeover_seconds)
        if any(one.state == "working" for one in alive):
            self._busy_at = self._clock()
            return False
        return True

    def _ends_the_fleet(self, run: Run) -> bool:
        """Whether a run has ended, not to be followed by another, since this instance is there.

        One that ended before is no reason: the fleet may have been made for the next.
        """
        if run.state not in ("finished", "failed") or run.keep or not run.ended:
            return False
        return dt.datetime.fromisoformat(run.ended) >= self._launched
