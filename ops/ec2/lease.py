"""Who of a fleet runs luigid: a lease on the board that one instance holds and keeps renewing.

Whoever finds it free, or unchanged for `takeover_seconds` by a clock of its own, may take it; that
only one succeeds, S3 sees to. A holder that cannot renew it, cut off from S3 say, knows so before
anybody else may take it: `is_held` is false by then, and its luigid must be stopped. Nothing
compares the clocks of two machines. Starts and stops nothing itself.
"""

import http.client
import math
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace

from ops.ec2.board import Board, Lease

_OWN_SHARE = 0.75
"""The part of `takeover_seconds` after which a holder gives up what it could not renew."""

_ANSWER_SECONDS = 2.0
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class SchedulerLease:
    """One instance's view of the lease. `turn` is for one thread, `is_held` for any."""

    def __init__(
        self,
        board: Board,
        offer: Lease,
        takeover_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`offer` names this instance, and the address and port of the luigid that it would run."""
        self._board = board
        self._offer = offer
        self._takeover_seconds = takeover_seconds
        self._clock = clock
        self._etag: str | None = None
        self._unchanged_since = clock()
        self._held_until = -math.inf

    @property
    def is_held(self) -> bool:
        """Whether this instance holds the lease, and nobody else can have taken it yet."""
        return self._clock() < self._held_until

    def turn(self, is_wanted: bool) -> Lease | None:
        """Take the lease if it may be had, renew it, or give it back where it is not wanted.

        Returns the lease as it is now; None where nobody has it, or somebody has just taken it of
        whom nothing is known yet. Raises `Problem` where S3 cannot be asked.
        """
        began = self._clock()
        found, etag = self._board.lease() or (Lease(), "")
        if etag != self._etag:
            self._etag, self._unchanged_since = etag, self._clock()
        is_mine = found.instance == self._offer.instance
        if not is_mine:
            self._held_until = -math.inf
            is_gone = self._clock() - self._unchanged_since >= self._takeover_seconds
            if not is_wanted or (found.instance and not is_gone):
                return found if found.instance else None
        if not is_wanted:
            self._held_until = -math.inf
        offered = replace(self._offer if is_wanted else Lease(), beat=found.beat + 1)
        self._etag = self._board.write_lease(offered, etag)
        self._unchanged_since = self._clock()
        if self._etag is None or not is_wanted:  # somebody else was first, or may be now
            self._held_until = -math.inf
            return None
        self._held_until = began + _OWN_SHARE * self._takeover_seconds
        return offered


def answers(lease: Lease) -> bool:
    """Whether the luigid that a lease speaks of can be used from here."""
    url = f"http://{lease.address}:{lease.port}/static/visualiser/index.html"
    try:
        with _direct.open(url, timeout=_ANSWER_SECONDS) as answer:
            return bool(answer.status == 200)
    except (OSError, http.client.HTTPException, ValueError):
        return False
