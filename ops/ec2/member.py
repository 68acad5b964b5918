"""The daemon of an instance: takes part in whatever run the fleet has. ``python -m ops.ec2.member``

Several times in `takeover_seconds` it says on the board how it is and looks what there is to do.
One instance holds the lease of luigid and runs it; each does its share of the weeks under it. When
AWS wants the instance back, it takes no more weeks and uploads what is finished. When everybody is
done, the holder of the lease has the archive verified, closes the run, tells who wants to know, and
scales the fleet to zero; so does any instance that has had no run for long. It ends with exit code
0 when told to (SIGTERM); whoever starts it starts it again when it fails.
"""

import collections
import datetime as dt
import math
import os
import signal
import sys
import threading
import time
from dataclasses import asdict, replace

from ops import luigid
from ops.ec2 import vitals
from ops.ec2.aws import Aws
from ops.ec2.board import Board, Lease, Member, Run
from ops.ec2.duty import Duty
from ops.ec2.ending import Ending
from ops.ec2.journal import Journal, path_on_instance
from ops.ec2.lease import SchedulerLease
from ops.ec2.metadata import Identity, Interruption, Metadata
from ops.ec2.notify import notify, on_instance
from ops.ec2.pulse import Pulse, View
from ops.ec2.savings import Savings
from ops.ec2.share import Share, Workplace
from ops.ec2.work import end_leftover
from tasks import advice
from tasks.problem import Problem
from tasks.settings import (
    Ec2Settings,
    LocalSettings,
    Settings,
    config_path,
    load,
    load_ec2,
    load_local,
    load_notify,
)
from tasks.storage.address import is_s3
from tasks.storage.s3 import S3Prefix, hasty_client

_BEATS = 4
"""So many heartbeats in `takeover_seconds`."""
_NOTICE_SECONDS = 5.0
"""So often AWS is asked whether it wants the instance back, as AWS advises."""
_LAST_WORDS_SECONDS = 45.0
"""So long before it does, whatever is not finished is given up."""
_LEAVE_SECONDS = 30.0
_ERRORS = 5


class Daemon:
    """See above; `tick` is one look at everything, and never waits for S3."""

    def __init__(
        self,
        identity: Identity,
        metadata: Metadata,
        settings: Settings,
        local: LocalSettings,
        ec2: Ec2Settings,
    ) -> None:
        self._identity, self._metadata, self._ec2 = identity, metadata, ec2
        self._aws = Aws(identity.region)
        self._journal = Journal(
            path_on_instance(), f"/{ec2.stack}", identity.instance, identity.region
        )
        self._settings = settings
        self._board = Board(S3Prefix(settings.destination, hasty_client))
        self._place = Workplace(
            settings, local.state, ec2.takeover_seconds, self._journal.line, self._say
        )
        offer = Lease(identity.instance, identity.address, local.luigid_port)
        lease = SchedulerLease(self._board, offer, ec2.takeover_seconds)
        service = luigid.make_service(
            local.state, local.luigid_port, config_path(), host=identity.address
        )
        self._duty = Duty(service, lease, ec2.takeover_seconds, self._say, self._error)
        self._pulse = Pulse(
            self._board,
            lease,
            self._myself(),
            lambda member: replace(member, **asdict(vitals.read(settings.spool))),
            ec2.takeover_seconds / _BEATS,
        )
        self._told_to_end = threading.Event()
        self._errors: collections.deque[str] = collections.deque(maxlen=_ERRORS)
        self._said_of_board = ""
        self._before = Member()
        self._share: Share | None = None
        self._notice: Interruption | None = None
        self._notice_asked = self._looked_around = -math.inf
        self._by_hand: list[str] = []
        self._ending = Ending(self._board, self._place, identity.instance, self._notify)
        self._savings = Savings(
            self._aws,
            ec2.stack,
            identity.launched,
            idle_seconds=ec2.idle_minutes * 60,
            takeover_seconds=ec2.takeover_seconds,
        )

    def run(self) -> int:
        """Take part until told to end; the exit code."""
        self._say(f"takes part in the fleet {self._ec2.stack}, by {self._board.url}")
        if end_leftover(self._place.lock):
            self._say("ended what an earlier member had left running")
        if not self._recall():
            return 0
        self._pulse.start()
        while not self._told_to_end.wait(min(1.0, self._ec2.takeover_seconds / _BEATS / 4)):
            if not self._pulse.is_alive():
                return 1  # by a fault that it has printed; a new start mends what can be mended
            self.tick()
        self._leave()
        return 0

    def _recall(self) -> bool:
        """Read what this instance last said of itself; False if told to end before that was read.

        Stays where S3 refuses: a new start would forget for how long it has cost money in vain.
        """
        while True:
            try:
                self._before = self._board.member(self._identity.instance) or Member()
                return True
            except Problem as problem:
                self._duty.end()  # who cannot see the board must not run luigid
                self._error(str(problem))
            try:
                self._save_money(View(problem="The board cannot be read."))
            except Problem as problem:
                self._error(str(problem))
            if self._told_to_end.wait(self._ec2.takeover_seconds / _BEATS):
                self._journal.close()
                return False

    def end(self) -> None:
        """Have `run` return; may be called by a signal's handler."""
        self._told_to_end.set()

    def tick(self) -> None:
        """Look at everything, and do what is due."""
        view = self._pulse.view
        if view.problem != self._said_of_board:
            self._said_of_board = view.problem
            self._say(view.problem or "The board can be read and written again.")
        self._heed_notice()
        self._take_part(view)
        self._duty.tick(view, self._pulse, self._is_leaving, bool(self._outcome))
        self._look_around(view)
        try:
            run = self._to_be_ended(view)
            self._pulse.wants_members = run is not None or self._savings.is_idle
            self._ending.tick(run, view)
            self._save_money(view)
        except Problem as problem:
            self._error(str(problem))
        self._tell(view)

    def _heed_notice(self) -> None:
        every_seconds = min(_NOTICE_SECONDS, self._ec2.takeover_seconds / _BEATS)
        if self._notice is not None or time.monotonic() - self._notice_asked < every_seconds:
            return
        self._notice_asked = time.monotonic()
        self._notice = self._metadata.interruption()
        if self._notice is not None:
            self._say(
                f"AWS takes this instance back at {self._notice.at:%H:%M:%S} UTC "
                f"({self._notice.action}): no more weeks are taken"
            )

    def _take_part(self, view: View) -> None:
        run, share = view.run, self._share
        if share is not None:
            is_of_today = run is not None and run.run_id == share.run.run_id and run.is_running
            if not is_of_today:
                share.stop()
            elif self._notice is not None:
                left = (self._notice.at - dt.datetime.now(dt.UTC)).total_seconds()
                share.leave(time.monotonic() + left - _LAST_WORDS_SECONDS)
            share.tick(view.scheduler)
            if not share.is_over:
                return
        if run is None or not run.is_running or self._notice is not None:
            return
        if share is None or share.run.run_id != run.run_id:
            self._say(f"takes part in the run {run.run_id}")
            self._errors.clear()
            self._share = Share(run, self._place, self._before)

    @property
    def _outcome(self) -> str:
        return self._share.outcome if self._share is not None else ""

    @property
    def _is_leaving(self) -> bool:
        """Whether AWS wants the instance back, and all is done that can be until then."""
        return self._notice is not None and (self._share is None or self._share.is_over)

    def _to_be_ended(self, view: View) -> Run | None:
        """The run, if this instance has done its share and is the one to bring it to its end."""
        run, share = view.run, self._share
        if run is None or not run.is_running or self._notice is not None:
            return None
        if share is None or share.run.run_id != run.run_id or not share.outcome:
            return None
        return run if self._duty.is_held else None

    def _notify(self, text: str, subject: str) -> None:
        settings = on_instance(load_notify(), self._ec2.stack, self._identity.region, self._say)
        notify(text, settings, self._say, subject)
        self._pulse.soon()

    def _save_money(self, view: View) -> None:
        said = self._savings.sentence
        try:
            self._savings.tick(view)
        except Problem as problem:
            if self._ending.closed is not None:  # once, by the one who has told of the end
                self._ending.closed = None
                self._notify(
                    f"{problem} Its instances go on costing money: "
                    f"{advice.make('teardown', ON='ec2')} ends that.",
                    f"{self._ec2.stack} still costs money",
                )
            raise
        if self._savings.sentence not in ("", said):
            self._say(self._savings.sentence)

    def _look_around(self, view: View) -> None:
        """See whether somebody works here besides a run: that keeps the fleet as a run does."""
        if time.monotonic() - self._looked_around < self._ec2.takeover_seconds / _BEATS:
            return
        self._looked_around = time.monotonic()
        is_running = view.run is not None and view.run.is_running
        is_over = self._share is None or self._share.is_over
        home = os.environ.get("BUSTIMES_HOME", "")
        self._by_hand = vitals.commands(home) if is_over and not is_running else []

    def _tell(self, view: View) -> None:
        status = self._myself(view)
        before = self._pulse.status
        self._pulse.status = status
        if (status.state, status.scheduler) != (before.state, before.scheduler):
            self._pulse.soon()

    def _myself(self, view: View | None = None) -> Member:
        identity, share = self._identity, getattr(self, "_share", None)
        me = Member(
            instance=identity.instance,
            type=identity.type,
            zone=identity.zone,
            address=identity.address,
            launched=identity.launched,
            code=os.environ.get("BUSTIMES_CODE", ""),
        )
        if view is None:
            return me
        errors = [*(share.standing.errors if share else []), *self._errors]
        if view.problem:
            errors.append(view.problem)
        me = replace(
            me,
            state="idle",
            sentence=self._savings.sentence or "there is no run",
            notice=self._notice.at.isoformat(timespec="seconds") if self._notice else "",
            errors=errors[-_ERRORS:],
            scheduler=self._duty.is_running,
        )
        if share is not None:
            state = "working" if share.is_at_work else share.outcome or "idle"
            sentence = "verifies the archive" if self._ending.is_verifying else share.sentence
            me = replace(
                me,
                state=state,
                sentence=self._savings.sentence or sentence,
                run_id=share.run.run_id,
                weeks_done=share.standing.weeks_done,
                running=share.standing.running,
                raw_bytes=share.standing.raw_bytes,
                snapshots=share.standing.snapshots,
                restarts=share.restarts,
            )
        if self._by_hand and me.state != "working":
            words = f"{', '.join(self._by_hand)} was started here by hand"
            me = replace(me, state="working", sentence=words)
        if self._notice is not None:
            is_gone = self._is_leaving and not self._duty.is_held
            state = "interrupted" if is_gone else "phasing out"
            me = replace(me, state=state, sentence=f"AWS takes the instance back: {me.sentence}")
        return me

    def _leave(self) -> None:
        """End all that runs here, and say so."""
        self._say("is told to end")
        was_at_work = self._share is not None and not self._share.is_over
        self._ending.stop()
        if self._share is not None:
            self._share.stop()
        deadline = time.monotonic() + _LEAVE_SECONDS
        while self._share is not None and not self._share.is_over and time.monotonic() < deadline:
            self._share.tick(None)
            time.sleep(0.05)
        self._pulse.wants_lease = False
        self._duty.end()
        status = replace(self._myself(self._pulse.view), sentence="was told to end")
        self._pulse.status = replace(status, state="interrupted") if was_at_work else status
        self._pulse.stop()
        if not self._pulse.is_alive():
            self._pulse.beat()
        self._journal.close()

    def _say(self, sentence: str) -> None:
        self._journal.say(sentence)

    def _error(self, sentence: str) -> None:
        if sentence not in self._errors:
            self._say(sentence)
            self._errors.append(sentence)


def main() -> int:
    """Run the daemon on this instance; returns its exit code."""
    try:
        settings, local, ec2 = load(), load_local(), load_ec2()
        if not is_s3(settings.destination):
            raise Problem(
                f"The destination is {settings.destination}: a fleet needs one in S3, which "
                "its setup takes as DESTINATION=s3://bucket/prefix."
            )
        metadata = Metadata()
        identity = metadata.identity()
        os.environ.setdefault("AWS_REGION", identity.region)
        daemon = Daemon(identity, metadata, settings, local, ec2)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: daemon.end())
        return daemon.run()
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
