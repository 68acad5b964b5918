"""The heartbeat of an instance: a thread that writes its record and reads what others have written.

All that may wait for S3 on a regular basis happens here, so that the member itself can always act:
stop a luigid whose lease has run out, or leave when AWS wants the instance back. What S3 refuses is
kept as a sentence, and the next beat tries again.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ops.ec2.board import Board, Lease, Member, Run, Sighting, now
from ops.ec2.lease import SchedulerLease
from tasks.problem import Problem


@dataclass(frozen=True)
class View:
    """The board as of the latest beat; what could not be read is as it was."""

    beats: int = 0
    """How many there were; a beat that failed counts as well."""
    run: Run | None = None
    run_reads: int = 0
    """How often the run could be read."""
    scheduler: Lease | None = None
    """Where luigid is; None where that is not known."""
    sightings: list[Sighting] = field(default_factory=list)
    """All records, as long as they are wanted."""
    listed: Member | None = None
    """This instance's own record as it was when the sightings were made."""
    turns: int = 0
    """How often the lease was to be taken, renewed or given back, whether or not it could be."""
    problem: str = ""


class Pulse(threading.Thread):
    """Set `status`, `wants_lease` and `wants_members` at any time; `view` is replaced whole."""

    def __init__(
        self,
        board: Board,
        lease: SchedulerLease,
        status: Member,
        vital: Callable[[Member], Member],
        every_seconds: float,
    ) -> None:
        """`vital` completes a record with how the machine is."""
        super().__init__(name="pulse", daemon=True)
        self.status = status
        self.wants_lease: bool | None = None  # not decided yet: it stays as it is
        self.wants_members = False
        self.view = View()
        self._board, self._lease = board, lease
        self._vital = vital
        self._every_seconds = every_seconds
        self._due = threading.Event()
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.is_set():
            self.beat()
            self._due.wait(self._every_seconds)
            self._due.clear()

    def soon(self) -> None:
        """Have the next beat at once: there is news."""
        self._due.set()

    def stop(self) -> None:
        """Have no more beats; returns when the one under way is over, or after some seconds."""
        self._end.set()
        self._due.set()
        if self.is_alive():
            self.join(self._every_seconds + 2)

    def beat(self) -> None:
        """Read the run, turn the lease, write the record, and read the others' if wanted."""
        problems: list[str] = []
        view = self.view
        try:
            view = replace(view, run=self._board.run(), run_reads=view.run_reads + 1)
        except Problem as problem:
            problems.append(str(problem))
        if self.wants_lease is not None:
            view = replace(view, turns=view.turns + 1)
            try:
                view = replace(view, scheduler=self._lease.turn(self.wants_lease))
            except Problem as problem:
                problems.append(str(problem))
        try:
            status = self.status
            self._board.write_member(replace(self._vital(status), seen=now()))
            sightings = self._board.members() if self.wants_members else []
            view = replace(view, sightings=sightings, listed=status if sightings else None)
        except Problem as problem:
            problems.append(str(problem))
        self.view = replace(view, beats=view.beats + 1, problem=" ".join(problems))
