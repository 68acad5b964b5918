"""One instance's share in one run: `full` under whichever luigid the fleet has, until all is done.

Starts the process, follows it to another luigid when that moves, starts it again when it fails,
and gives up after several failures without a week between them, or at once where the process says
that another start is of no use. Before it is over it uploads what waits in the spool. Knows nothing
of AWS or of other instances; a `tick` never waits for long.
"""

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from ops.__main__ import STANDING_FILE
from ops.ec2 import vitals
from ops.ec2.board import Lease, Member, Run
from ops.ec2.lease import answers
from ops.ec2.work import Work
from tasks import figures
from tasks.bustimes import standing
from tasks.problem import Problem
from tasks.settings import Settings, variable_of

_FAILURES = 3
"""So many in a row, without a week done between them, and the share has failed."""
_LOSSES = 10
"""The same for a luigid that was lost."""
_LAST_ERRORS = 5
_PATIENCE = 5
"""So many times `takeover_seconds` a share waits for a luigid, and a week for its last hours."""
_STALL = 30
"""So many times `takeover_seconds` a week may stand still."""


@dataclass(frozen=True)
class Workplace:
    """What it takes to start a command of the project here."""

    settings: Settings
    state: Path
    """Folder of this machine's own files."""
    takeover_seconds: float
    on_line: Callable[[str], None]
    """Takes what the commands print."""
    say: Callable[[str], None]
    """Takes what is to be said of them."""

    @property
    def lock(self) -> Path:
        return self.state / "member" / "work.lock"

    def start(self, run: Run, *arguments: str) -> Work:
        """Start ``python -m ops …`` with what was set for the run; raises `Problem`."""
        environment = {
            **os.environ,
            # Said even where they are as the project ships: that would mean the embedded server.
            "BUSTIMES_SOURCE": self.settings.source,
            "BUSTIMES_DESTINATION": self.settings.destination,
            "LOCAL_STATE": str(self.state),
            **_settings_of(run),
        }
        try:
            return Work(arguments, environment, self.lock, self.on_line)
        except OSError as error:  # no memory for a process, say
            raise Problem(
                f"{arguments[0]} cannot be started on this instance: {error.strerror}. Larger "
                "ones (TYPE=…), or more disk (disk_gb in [ec2] of luigi.cfg), may be what it takes."
            ) from None

    def spooled(self) -> int:
        return vitals.read(self.settings.spool).spooled


def range_of(run: Run) -> list[str]:
    """The options that choose the run's weeks."""
    given = {"--weeks": run.weeks, "--from": run.first, "--to": run.last}
    return [f"{name}={value}" for name, value in given.items() if value]


class Share:
    """See above. `is_over` once nothing of it runs and nothing will; `outcome` says how it went."""

    def __init__(self, run: Run, place: Workplace, before: Member) -> None:
        """`before` is what this instance last said of itself: it may have been at this run."""
        self.run = run
        self.outcome = ""
        """`finished`, `failed`, or empty: not over, or stopped before it came to an end."""
        self.is_over = False
        self.is_at_work = False
        """Whether a process runs."""
        self.sentence = ""
        self.standing = standing.Standing()
        self.restarts = 0
        self._place = place
        self._standing_file = place.state / STANDING_FILE
        self._work: Work | None = None
        self._step = "full"
        self._wish = "work"  # or: "move" to another luigid, "leave" in good time, "stop" at once
        self._wished_at = self._waits_since = time.monotonic()
        self._leave_at = math.inf
        self._not_before = -math.inf
        self._scheduler = Lease()
        self._in_a_row: Counter[int] = Counter()  # by their limit
        self._weeks_at_failure = 0
        self._moved_at = time.monotonic()
        self._outcome = ""  # as it will be once the spool is empty
        self._earlier = standing.Standing()  # by processes before the present one
        if before.run_id == run.run_id:
            self._earlier = standing.Standing(
                weeks_done=before.weeks_done,
                snapshots=before.snapshots,
                raw_bytes=before.raw_bytes,
                errors=before.errors,
            )
            self.restarts = before.restarts + 1
            if before.state in ("finished", "failed"):
                self.is_over, self.outcome = True, before.state
                self.sentence = before.sentence
        self._look()

    def tick(self, scheduler: Lease | None) -> None:
        """Do what is due; `scheduler` is where luigid is, None where that is not known."""
        if self.is_over:
            return
        self._look()
        if self._work is None:
            self._begin(scheduler)
            return
        code = self._work.poll()
        if code is None:
            self._urge(self._work, scheduler)
        else:
            self._settle(self._work, code, scheduler)

    def leave(self, at: float) -> None:
        """Take no more weeks, and be over by a time of the monotonic clock or soon after."""
        self._leave_at = at
        if not self.is_over and self._wish in ("work", "move"):
            self._want("leave")

    def stop(self) -> None:
        """Be over as soon as can be."""
        if not self.is_over and self._wish != "stop":
            self._want("stop")

    def _want(self, wish: str) -> None:
        self._wish, self._wished_at = wish, time.monotonic()
        if self._work is None:
            if wish == "stop":
                self._over()
            elif wish == "leave":
                self._step = "sync"
        elif wish == "stop":
            self._work.terminate()
        elif self._step == "full":
            self._work.stop_taking_weeks()

    def _begin(self, scheduler: Lease | None) -> None:
        if self._step == "sync":
            if self._place.spooled():
                self.sentence = "uploads what waits in the spool"
                self._start("sync")
            else:
                self._over()
        elif time.monotonic() < self._not_before:
            return
        elif scheduler is not None and answers(scheduler):
            self._standing_file.unlink(missing_ok=True)
            self._scheduler = scheduler
            where = f"{scheduler.address}:{scheduler.port}"
            self.sentence = f"works under the luigid at {where}"
            refresh = ["--refresh"] if self.run.refresh else []
            workers = str(self.run.workers)
            options = ["--scheduler", where, "--workers", workers, *range_of(self.run), *refresh]
            self._start("full", *options)
        elif time.monotonic() - self._waits_since > _PATIENCE * self._place.takeover_seconds:
            self._fail(f"no luigid can be reached{_at(scheduler)}")
        else:
            self.sentence = f"waits for a luigid{_at(scheduler)}"

    def _start(self, *arguments: str) -> None:
        self._place.say(f"starts {' '.join(arguments)}")
        try:
            self._work = self._place.start(self.run, *arguments)
            self.is_at_work = True
        except Problem as problem:
            self._count_failure(str(problem))

    def _urge(self, work: Work, scheduler: Lease | None) -> None:
        """See that a process that runs does not do so for longer than it should."""
        now = time.monotonic()
        if self._wish == "leave" and now >= self._leave_at and self._step == "full":
            work.terminate()
        elif self._wish == "work" and self._step == "full" and self._has_moved(scheduler):
            self._place.say(
                f"luigid is now{_at(scheduler)}: follows it when the present weeks are done"
            )
            self._want("move")
        elif self._wish == "work" and self._stands_still():
            minutes = _STALL * self._place.takeover_seconds / 60
            self._error(f"{', '.join(self.standing.running)}: no progress for {minutes:.0f} min")
            self._moved_at = now
            work.terminate()
        elif self._wish == "move":
            if not self.standing.running:
                work.kill()  # nothing is under way, and it may long wait for a luigid that is gone
            elif now - self._wished_at > _PATIENCE * self._place.takeover_seconds:
                work.terminate()

    def _settle(self, work: Work, code: int, scheduler: Lease | None) -> None:
        """A process has ended."""
        self._look()
        self._work, self.is_at_work = None, False
        self._waits_since = time.monotonic()
        if self._wish == "stop":
            self._over()
        elif self._step == "sync":
            if code != 0:
                weeks = figures.count(self._place.spooled(), "finished week")
                self._error(f"{weeks} could not be uploaded: {_last(work)}")
            self._over()
        else:
            told = standing.read(self._standing_file)
            self._earlier, self.standing.running = self.standing, {}
            self._standing_file.unlink(missing_ok=True)
            if code == 0:
                self._outcome, self._step = "finished", "sync"
                self.sentence = "every week of the run is done"
            elif self._wish == "leave":
                self._step = "sync"
            elif told.stopped:
                self._fail(told.stopped)
            elif self._wish == "move" or self._has_moved(scheduler):
                self._again("follows luigid")
            elif not answers(self._scheduler):
                self._count_failure(f"luigid is lost{_at(self._scheduler)}", _LOSSES)
            else:
                self._count_failure(told.errors[-1] if told.errors else _last(work))

    def _again(self, why: str) -> None:
        self._place.say(f"{why}: the run is started again here")
        self._wish = "work"
        self.restarts += 1

    def _count_failure(self, why: str, limit: int = _FAILURES) -> None:
        done = len(self.standing.weeks_done)
        if done > self._weeks_at_failure:
            self._in_a_row.clear()
        self._weeks_at_failure = done
        self._in_a_row[limit] += 1
        count = self._in_a_row[limit]
        if self._step == "sync":
            self._error(why)
            self._over()
        elif count >= limit:
            self._fail(why)
        else:
            self._error(why)
            self._not_before = time.monotonic() + count * self._place.takeover_seconds / 8
            self._again("that was not everything")

    def _fail(self, why: str) -> None:
        self._error(why)
        self._outcome, self._step = "failed", "sync"
        self.sentence = f"has failed: {why}"

    def _over(self) -> None:
        self.is_over, self.outcome = True, self._outcome
        if not self.outcome:
            waiting = self._place.spooled()
            left = f"{figures.count(waiting, 'finished week')} not" if waiting else "all"
            self.sentence = f"has left the run; what was finished is {left} uploaded"
            self._place.say(self.sentence)

    def _error(self, sentence: str) -> None:
        self._place.say(sentence)
        if sentence not in self._earlier.errors[-1:]:
            self._earlier.errors = [*self._earlier.errors, sentence]
        self._look()

    def _has_moved(self, scheduler: Lease | None) -> bool:
        """Whether another luigid is to be used now. Only of what is known can that be said."""
        if scheduler is None:
            return False
        now, then = scheduler, self._scheduler
        return (now.instance, now.address, now.port) != (then.instance, then.address, then.port)

    def _stands_still(self) -> bool:
        """Whether weeks are under way and nothing of them has moved for long."""
        still = time.monotonic() - self._moved_at
        return bool(self.standing.running) and still > _STALL * self._place.takeover_seconds

    def _look(self) -> None:
        """Where the share stands: all that its processes have done so far."""
        before = self.standing
        now, earlier = standing.read(self._standing_file), self._earlier
        if self._step != "full" or self._work is None:
            now = standing.Standing()
        self.standing = standing.Standing(
            to_do=now.to_do,
            weeks_done=list(dict.fromkeys([*earlier.weeks_done, *now.weeks_done])),
            running=now.running,
            snapshots=earlier.snapshots + now.snapshots,
            raw_bytes=earlier.raw_bytes + now.raw_bytes,
            errors=[*earlier.errors, *now.errors][-_LAST_ERRORS:],
        )
        if self.standing != before:
            self._moved_at = time.monotonic()


def _settings_of(run: Run) -> Mapping[str, str]:
    """The settings of the run, and no other variable that its record might hold."""
    known = {variable_of("bustimes", one.name) for one in fields(Settings)}
    return {name: value for name, value in run.settings.items() if name in known}


def _last(work: Work) -> str:
    return next(reversed(work.report()), "it said nothing")


def _at(scheduler: Lease | None) -> str:
    return f" at {scheduler.address}:{scheduler.port}" if scheduler else ""
