"""The front of an S3 server: it counts requests, does something at one of them, and can go down."""

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults import Control, Fault, FaultyS3, Request
from tests.faults.control import DEADLINE_SECONDS, Injection


@dataclass(frozen=True)
class Moment:
    """The how-manieth request of an S3 operation, from now on."""

    operation: str
    number: int
    is_done: bool
    """Once the server has done what it asks for, and before anybody knows; else as it comes."""

    def __str__(self) -> str:
        return f"{'after' if self.is_done else 'at'} {self.operation} {self.number}"


class _Moments(Control):
    """Calls what is to be called when a moment has come; the request waits meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._moment: Moment | None = None
        self._left = 0
        self._act: Callable[[Request], None] = lambda _request: None
        self._marked: Injection | None = None
        self._gathering: threading.Barrier | None = None
        self._to_gather = 0

    def gather(self, requests: int) -> None:
        """Let the first so many requests wait for each other."""
        self._gathering, self._to_gather = threading.Barrier(requests), requests

    def at(self, moment: Moment, act: Callable[[Request], None]) -> None:
        with self._lock:
            self._moment, self._left, self._act = moment, moment.number, act

    def call_off(self) -> bool:
        """Whether the moment had not come and now never will."""
        with self._lock:
            moment, self._moment = self._moment, None
            return moment is not None

    def meet(self, request: Request) -> Injection | None:
        injection = super().meet(request)
        with self._lock:
            is_gathered = self._to_gather > 0
            self._to_gather -= 1
        if is_gathered and self._gathering is not None:
            self._gathering.wait(DEADLINE_SECONDS)
        with self._lock:
            moment = self._moment
            if moment is None or request.operation != moment.operation:
                return injection
            self._left -= 1
            if self._left:
                return injection
            self._moment = None
            if moment.is_done:
                self._marked = Injection(Fault.ANSWER_LOST, 0, 0, threading.Event(), None)
                return self._marked
        self._act(request)
        return injection

    def note(self, request: Request, injection: Injection) -> None:
        super().note(request, injection)
        if injection is self._marked:
            self._act(request)


class Front(FaultyS3):
    """A server that is cut off and comes back at the same address, by a test's word."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.control: _Moments = _Moments()
        self._address = self._listener.getsockname()

    def go_down(self, seconds: float) -> None:
        """End every connection and refuse all others for so long."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        with self._changed:
            for conversation in self._open:
                conversation.end()
        self._coming_back = threading.Timer(seconds, self._come_back)
        self._coming_back.start()

    def wait_until_back(self) -> None:
        if self._coming_back is not None:
            self._coming_back.join()

    _coming_back: threading.Timer | None = None

    def _come_back(self) -> None:
        self._listener = socket.create_server(self._address, backlog=256)
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
