"""What verify finds of a week: its state, why, and what to run."""

import dataclasses
from dataclasses import dataclass

from tasks import advice
from tasks.bustimes.manifest import Manifest
from tasks.bustimes.strays import Stray
from tasks.weeks import Week

GOOD, PARTIAL, GAP, PRUNED = "good", "partial", "gap", "pruned"
MISSING, STALE, DAMAGED, RAW_GONE = "missing", "stale", "damaged", "raw gone"
UNREAD = "not read"
ATTENTION = "needs attention"
FINE = (GOOD, PARTIAL, GAP, PRUNED)


@dataclass(frozen=True)
class WeekCheck:
    """What was found of one week: a state from above, why, and what to run.

    `details` says more of the why, a line each. `can_be_converted` is False where converting the
    week again would lose snapshots, because the source does not have them any more. `strays` look
    like snapshots of the week and are none. `is_sealed` is False where no seal vouches for the
    manifest. `readable_now` are refused snapshots that converting again would take in.
    """

    week: Week
    state: str
    why: str = ""
    remedy: str = ""
    manifest: Manifest | None = None
    can_be_converted: bool = True
    details: tuple[str, ...] = ()
    strays: tuple[Stray, ...] = ()
    is_sealed: bool = True
    readable_now: tuple[str, ...] = ()

    @property
    def is_fine(self) -> bool:
        return self.state in FINE


def unread(check: WeekCheck, why: str) -> WeekCheck:
    """A week that is as it should be, as far as was looked, but not all of it could be."""
    remedy = f"When that is mended, run {advice.make('verify', WEEKS=check.week)}"
    return dataclasses.replace(check, state=UNREAD, why=why.rstrip("."), remedy=remedy)


def convert(week: Week) -> str:
    """The remedy for a week that is not there."""
    return f"Run {advice.make('full', WEEKS=week)}"


def convert_again(week: Week) -> str:
    """The remedy for a week that a refresh finds out by itself."""
    return f"Run {advice.make('full', WEEKS=week, REFRESH=1)}"


def take_in(week: Week) -> str:
    """The remedy for a week whose refused snapshots could be read, to follow a semicolon."""
    return f"to take them in, run {advice.make('full', WEEKS=week, REFRESH=1)}"


def replace(file: str, week: Week) -> str:
    """The remedy for a week that looks right until it is read."""
    return f"Remove {file} and run {advice.make('full', WEEKS=week)}"


def put_back(file: str) -> str:
    """The remedy where the source does not have the week any more."""
    return f"Put back a good copy of {file}: the source does not have all of the week any more."
