"""How a run ends: everybody is done, the archive is verified, the run is closed, a person is told.

For the instance that holds the lease; should it be lost in the middle of this, the next one begins
again. That a run is closed once, and so notified once, S3 sees to. What becomes of the fleet then,
`ops.ec2.savings` knows.
"""

import datetime as dt
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from ops.ec2.board import Board, Member, Run, last_alive, now
from ops.ec2.pulse import View
from ops.ec2.share import Workplace, range_of
from ops.ec2.work import Work
from tasks import advice, figures
from tasks.problem import Problem

_VERIFY_TRIES = 3
_PATIENCE = 10
"""So many times `takeover_seconds` the others are waited for: those at work when all weeks are
done, and those that do nothing when this instance has failed."""
_AT_WORK = ("working", "phasing out")
_HARMLESS = ("finished", "failed", "interrupted")


@dataclass(frozen=True)
class _Verdict:
    state: str
    report: list[str]

    @property
    def last_word(self) -> str:
        return self.report[-1] if self.report else "verify said nothing."


class Ending:
    """The end of a run, as far as this instance brings it about."""

    def __init__(
        self, board: Board, place: Workplace, instance: str, tell: Callable[[str, str], None]
    ) -> None:
        """`tell` sends a notification: its text, and a subject."""
        self.closed: Run | None = None
        """The run that this instance has closed."""
        self._board, self._place, self._instance = board, place, instance
        self._tell = tell
        self._run: Run | None = None
        self._since = 0.0
        self._verify: Work | None = None
        self._failures = 0
        self._verdict: _Verdict | None = None
        self._over = ""
        """The run that has been closed, by this instance or another."""

    @property
    def is_verifying(self) -> bool:
        return self._verify is not None

    def tick(self, run: Run | None, view: View) -> None:
        """Do what is due for a run whose end is this instance's business; None if none is.

        Raises `Problem` where something went wrong that the next tick tries again.
        """
        if self._run is None or run is None or self._run.run_id != run.run_id:
            self.stop()
            if self._verify is not None and self._verify.poll() is None:
                return
            self._run, self._since = run, time.monotonic()
            self._verify, self._verdict, self._failures = None, None, 0
        if run is None or run.run_id == self._over:
            return
        if self._verify is not None:
            self._look_at(self._verify)
        elif self._verdict is not None:
            if self._verdict.state == "failed" and not self._is_due(run, view):
                self._verdict = None  # somebody has come meanwhile who may do what is missing
                return
            self._close(run, [one.member for one in view.sightings], self._verdict)
        elif self._is_due(run, view):
            self._place.say("everybody is done: verifies the archive")
            self._verify = self._place.start(run, "verify", *range_of(run))

    def stop(self) -> None:
        """Let go of what has begun."""
        if self._verify is not None:
            self._verify.terminate()

    def _is_due(self, run: Run, view: View) -> bool:
        me = view.listed
        if me is None or me.run_id != run.run_id or me.state not in ("finished", "failed"):
            return False  # what was listed is older than that this instance is done
        alive = last_alive(view.sightings, self._place.takeover_seconds)
        if is_due(run, me, [one for one in alive if one.instance != self._instance]):
            return True
        if me.state == "failed" and any(one.state in _AT_WORK for one in alive):
            self._since = time.monotonic()
        return time.monotonic() - self._since > _PATIENCE * self._place.takeover_seconds

    def _look_at(self, verify: Work) -> None:
        code = verify.poll()
        if code is None:
            return
        self._verify = None
        verdict = _Verdict("finished" if code == 0 else "failed", verify.report())
        self._failures += 1
        if code > 1 or code < 0:  # it has not come to an end
            problem = f"verify ended with {code}: {verdict.last_word}"
            if self._failures < _VERIFY_TRIES:
                raise Problem(problem)
            verdict = _Verdict("failed", [problem])
        self._verdict = verdict

    def _close(self, run: Run, members: list[Member], verdict: _Verdict) -> None:
        words = sentence(run, members, verdict.last_word)
        closed = close(self._board, run, verdict.state, words)
        self._over = run.run_id
        if closed is None:
            return
        self.closed = closed
        self._place.say(f"the run {run.run_id} is {closed.state}: {closed.sentence}")
        destination = self._place.settings.destination
        self._tell(
            message(closed, destination, members, verdict.report), f"run {closed.state}: {words}"
        )


def is_due(run: Run, me: Member, others: Iterable[Member]) -> bool:
    """Whether the run may be brought to its end, by an instance that has finished or failed.

    `others` are those that have given a sign of life lately. Where one has finished, all weeks are
    done, and only those still at work are waited for. Where all that are done have failed, the run
    is lost only if there is nobody left who might do it.
    """
    of_run = [one for one in (me, *others) if one.run_id == run.run_id]
    if any(one.state in _AT_WORK for one in of_run):
        return False
    if any(one.state == "finished" for one in of_run):
        return True
    return all(one.state in _HARMLESS and one.run_id == run.run_id for one in others)


def close(board: Board, run: Run, state: str, sentence: str) -> Run | None:
    """Write down that the run has ended; None if that has been done, or there is another run."""
    found = board.run_with_etag()
    if found is None or found[0].run_id != run.run_id or not found[0].is_running:
        return None
    ended = replace(found[0], state=state, ended=now(), sentence=sentence)
    return ended if board.write_run(ended, found[1]) is not None else None


def sentence(run: Run, members: list[Member], verdict: str) -> str:
    """What the run came to, in one line; `verdict` is verify's last word."""
    took_part = [one for one in members if one.run_id == run.run_id and one.weeks_done]
    weeks = {week for one in took_part for week in one.weeks_done}
    started = dt.datetime.fromisoformat(run.started) if run.started else dt.datetime.now(dt.UTC)
    seconds = (dt.datetime.now(dt.UTC) - started).total_seconds()
    by = f" by {figures.count(len(took_part), 'instance')}" if took_part else ""
    return (
        f"{figures.count(len(weeks), 'week')} converted{by} in "
        f"{figures.duration(max(0.0, seconds))}. {verdict}"
    )


def message(run: Run, destination: str, members: list[Member], report: list[str]) -> str:
    """The notification: what happened, and what to run next."""
    lines = [
        f"The run {run.run_id} of {destination} "
        + ("is complete and verified." if run.state == "finished" else "has failed."),
        run.sentence,
    ]
    if run.state == "finished":
        lines += report
    else:
        failed = [one for one in members if one.run_id == run.run_id and one.errors]
        lines += [f"{one.instance}: {one.errors[-1]}" for one in failed]
        lines += report[-5:]
        lines += [
            f"Next: {advice.make('logs', ON='ec2')} shows what went wrong. When that is mended, "
            "this goes on from where it stopped:",
            f"  {next_command(run)}",
        ]
    lines += [
        f"The fleet stays, and costs money, until {advice.make('teardown', ON='ec2')}"
        if run.keep
        else f"The fleet scales itself to zero; {advice.make('status', ON='ec2')} shows what it "
        "cost."
    ]
    return "\n".join(lines)


def next_command(run: Run) -> str:
    """What to type to go on with a run."""
    given = {"WEEKS": run.weeks, "FROM": run.first, "TO": run.last}
    given |= {"WORKERS": str(run.workers) if run.workers != 1 else ""}
    given |= {"REFRESH": "1" if run.refresh else "", "KEEP": "1" if run.keep else ""}
    given |= {name.removeprefix("BUSTIMES_"): value for name, value in run.settings.items()}
    return advice.make("full", ON="ec2", **given)
