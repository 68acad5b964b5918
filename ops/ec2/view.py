"""What `status ON=ec2` has found out of a fleet, and how fast that fleet goes.

`View` holds one moment: stack, instances, their records, weeks, money. `Pace` draws rate and time
left from it. Whether an instance is alive is told by S3's clock, since it is S3 that notes when a
record was written. Asks nothing, and puts nothing into words: `ops.ec2.screen` does.
"""

import datetime as dt
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ops.ec2.board import Member, Run, Sighting
from ops.ec2.costs import Cost, Prices
from ops.ec2.record import RunRecord
from tasks.weeks import Week

if TYPE_CHECKING:
    from ops.ec2.fleet import Instance


@dataclass(frozen=True)
class View:
    """What `status` has found out. `now` is S3's time, or as near to it as can be had."""

    stack: str
    region: str
    destination: str
    now: dt.datetime
    stack_state: str = ""
    """CloudFormation's word for it, such as UPDATE_COMPLETE; empty where there is no stack."""
    looked_for: Sequence[str] = ("stack", "instance")
    """What `left_over` would name if it were there."""
    left_over: Sequence[str] = ()
    """What there is of a fleet without its stack, in words."""
    wanted: int = 0
    waiting: str = ""
    """Why there are fewer instances than wanted, as far as AWS says it."""
    instances: Sequence["Instance"] = ()
    sightings: Sequence[Sighting] = ()
    run: Run | None = None
    done: Sequence[Week] = ()
    left: Sequence[Week] = ()
    cost: Cost = field(default_factory=Cost)
    prices: Prices = field(default_factory=Prices)
    disk_gb: int = 20
    takeover_seconds: int = 60
    idle_minutes: int = 60
    last: RunRecord | None = None

    @property
    def is_running(self) -> bool:
        return self.run is not None and self.run.is_running

    @property
    def alive(self) -> list["Instance"]:
        """The instances that run, or are about to."""
        return [one for one in self.instances if one.state in ("pending", "running")]

    @property
    def members(self) -> list[Member]:
        """What those say of themselves that have said something."""
        shown = {one.id for one in self.alive}
        return [one.member for one in self.sightings if one.member.instance in shown]

    def age(self, instance: str) -> float | None:
        """Seconds since an instance's last sign of life."""
        found = [one.written for one in self.sightings if one.member.instance == instance]
        return max(0.0, self.now.timestamp() - found[0]) if found else None

    @functools.cached_property
    def silent(self) -> set[str]:
        """The instances that run, but have not given a sign of life for too long."""
        ages = {one.instance: self.age(one.instance) or 0.0 for one in self.members}
        return {instance for instance, age in ages.items() if age > self.takeover_seconds}

    @property
    def under_way(self) -> dict[str, str]:
        """The weeks that somebody is at, each with how far it is."""
        at_it = [one for one in self.members if one.instance not in self.silent]
        return {week: text for one in at_it for week, text in one.running.items()}

    def takes_part(self, member: Member) -> bool:
        return self.run is not None and member.run_id == self.run.run_id


class Pace:
    """How fast the run goes, by what each instance has done since it joined."""

    def __init__(self, view: View) -> None:
        self._view = view
        taking_part = [one.member for one in view.sightings if view.takes_part(one.member)]
        self.weeks_done = sum(len(one.weeks_done) for one in taking_part)
        """By this run, those included that have gone meanwhile."""
        read = sum(one.raw_bytes for one in taking_part)
        self._bytes_a_week = read / self.weeks_done if self.weeks_done else None
        at_it = [
            one for one in view.members if view.takes_part(one) and one.instance not in view.silent
        ]
        self.at_it = len(at_it)
        """How many instances are alive and take part."""
        self._left = max(0.0, len(view.left) - sum(_shares(one) for one in at_it))
        self._weeks_a_second = sum(self._weeks(one) / self._seconds(one) for one in at_it)

    @property
    def bytes_a_second(self) -> float | None:
        """Raw bytes that all convert in a second; None until a first week is done."""
        return None if self._bytes_a_week is None else self._weeks_a_second * self._bytes_a_week

    @property
    def seconds_left(self) -> float | None:
        """Until all weeks are done, as things go; None as long as nothing is known."""
        if not self._view.left:
            return 0.0
        return self._left / self._weeks_a_second if self._weeks_a_second else None

    def of(self, member: Member) -> float | None:
        """The same of one instance."""
        if self._bytes_a_week is None:
            return None
        read = member.raw_bytes + _shares(member) * self._bytes_a_week
        return read / self._seconds(member)

    def _weeks(self, member: Member) -> float:
        return len(member.weeks_done) + _shares(member)

    def _seconds(self, member: Member) -> float:
        assert self._view.run is not None
        since = time_of(self._view.run.started)
        if member.launched:
            since = max(since, time_of(member.launched))
        return max(1.0, (self._view.now - since).total_seconds())


def _shares(member: Member) -> float:
    """How much of the weeks under way is done: each sentence begins with it, such as ``45%``."""
    found = [re.match(r"\s*(\d+)%", sentence) for sentence in member.running.values()]
    return sum(int(match[1]) / 100 for match in found if match)


def time_of(text: str) -> dt.datetime:
    """A time as the board has it."""
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC)
