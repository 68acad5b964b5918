"""What stays of a run when its fleet is gone: who did what, what it cost, whether it was verified.

One small JSON object each, at `<destination>/_runs/<run id>.json`, which teardown leaves and
nothing removes: `make status ON=ec2` tells from it what the last run cost. Knows nothing of AWS.
"""

from dataclasses import dataclass, field

import msgspec

from ops.ec2.board import Member, Run
from ops.ec2.costs import Cost
from tasks.problem import Problem
from tasks.storage import Root

_FOLDER = "_runs/"


@dataclass(frozen=True)
class RunRecord:
    """A run, the instances that took part in it, and its cost in US dollars."""

    run: Run = field(default_factory=Run)
    """Without a `run_id` where the fleet was taken away before it had a run."""
    members: list[Member] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)
    verified: str = ""
    """What verify said in the end; empty where it was not asked."""
    removed: str = ""
    """When the fleet was taken away, as times are on the board."""

    @property
    def weeks(self) -> int:
        """How many weeks the run converted."""
        return len({week for member in self.members for week in member.weeks_done})


def write(root: Root, record: RunRecord) -> str:
    """Keep a record below a destination; returns its key."""
    name = record.run.run_id or record.removed.replace(":", "-")
    key = f"{_FOLDER}{name}.json"
    root.write(key, msgspec.json.format(msgspec.json.encode(record), indent=1))
    return key


def last(root: Root) -> RunRecord | None:
    """The latest record below a destination, or None where no fleet was ever taken away."""
    found = list(root.objects(_FOLDER))
    if not found:
        return None
    key = max(found, key=lambda one: (one.written, one.key)).key
    try:  # fields that another version of the code has besides are left alone
        return msgspec.json.decode(root.read(key), type=RunRecord)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(
            f"{root.address_of(key)} is no record of a run: {error}. Remove that object; nothing "
            "but status reads it."
        ) from None
