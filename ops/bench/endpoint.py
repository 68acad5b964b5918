"""An S3 endpoint for measuring: sends what `buckets` says, as fast as one core can.

It listens on 127.0.0.1, for any credentials. It can also answer as S3 over a network does: each
request some milliseconds late, and all bytes together at no more than so many a second, so that a
client shows whether it works while it waits. `serving` starts one in a process of its own, which
ends with the one that started it.
"""

import argparse
import contextlib
import heapq
import json
import os
import selectors
import socket
import subprocess
import sys
import time
import urllib.request
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ops.bench.buckets import USED, Answer, Buckets
from tasks.settings import PROJECT

_LARGEST_REQUEST = 1 << 16
_SEND_BUFFER_BYTES = 1 << 19
_WHOLE = 1 << 30
_TURN_BYTES = 1 << 16
_BURST_SECONDS = 0.005
_SHORTEST_WAIT_SECONDS = 0.001  # what epoll can wait

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Used:
    """Requests so far, and the CPU seconds of the endpoint's own process."""

    requests: int
    cpu_seconds: float


@dataclass(frozen=True)
class Endpoint:
    """One that runs."""

    address: str

    @property
    def environment(self) -> dict[str, str]:
        """What has AWS's tools use it."""
        return {
            "AWS_ENDPOINT_URL_S3": self.address,
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def used(self) -> Used:
        """What has come so far, and what it took."""
        with _direct.open(self.address + USED, timeout=10) as answer:
            return Used(**json.load(answer))


@contextlib.contextmanager
def serving(
    folders: Mapping[str, Path], delay_ms: float = 0, mbit: float = 0
) -> Iterator[Endpoint]:
    """Serve the folders as buckets of these names."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        port = listener.getsockname()[1]
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "ops.bench.endpoint"),
                *("--socket", str(listener.fileno())),
                *("--delay-ms", str(delay_ms), "--mbit", str(mbit)),
                *(f"{name}={folder}" for name, folder in folders.items()),
            ],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
        )
    try:
        yield Endpoint(f"http://127.0.0.1:{port}")
    finally:
        process.communicate()  # its input ends, and so does it


@dataclass
class _Connection:
    socket: socket.socket
    inbox: bytearray = field(default_factory=bytearray)
    answer: Answer | None = None
    waits_for_room: bool = False


class Server:
    """Serves until standard input ends; `delay` in seconds, `rate` in bytes a second, 0 for any."""

    def __init__(
        self, listener: socket.socket, buckets: Buckets, delay: float, rate: float
    ) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._buckets = buckets
        self._delay = delay
        self._rate = rate
        self._selector = selectors.DefaultSelector()
        self._late: list[tuple[float, int, _Connection]] = []  # a heap: when to begin to answer
        self._order = 0
        self._sending: deque[_Connection] = deque()  # each gets its turn
        self._allowed = 0.0
        self._allowed_at = time.monotonic()

    def serve(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ, "end")
        while True:
            for event, _ in self._selector.select(self._seconds_to_wait()):
                if event.data == "end":
                    return
                if event.data is None:
                    self._accept()
                elif event.data.waits_for_room:
                    self._go_on(event.data)
                else:
                    self._receive(event.data)
            now = time.monotonic()
            while self._late and self._late[0][0] <= now:
                self._sending.append(heapq.heappop(self._late)[2])
            self._send_in_turn(now)

    def _seconds_to_wait(self) -> float | None:
        if self._sending:  # more than the rate allows
            return _SHORTEST_WAIT_SECONDS
        if self._late:
            return max(0.0, self._late[0][0] - time.monotonic())
        return None

    def _accept(self) -> None:
        connected, _ = self._listener.accept()
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self._selector.register(connected, selectors.EVENT_READ, _Connection(connected))

    def _receive(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(_LARGEST_REQUEST)
        except ConnectionError:
            data = b""
        connection.inbox += data
        if not data or len(connection.inbox) > _LARGEST_REQUEST:
            self._close(connection)
        elif connection.answer is None:
            self._begin(connection)

    def _begin(self, connection: _Connection) -> None:
        """Answer the next request, if all of its head is there."""
        end = connection.inbox.find(b"\r\n\r\n")
        if end < 0:
            return
        first, *lines = bytes(connection.inbox[:end]).decode("latin-1").split("\r\n")
        del connection.inbox[: end + 4]
        named = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in named}
        method, target, _ = first.split(" ", 2)
        connection.answer = self._buckets.answer(method, target, headers)
        if self._delay:
            self._order += 1
            begin_at = time.monotonic() + self._delay
            heapq.heappush(self._late, (begin_at, self._order, connection))
        else:
            self._sending.append(connection)

    def _send_in_turn(self, now: float) -> None:
        if self._rate:
            more = self._rate * (now - self._allowed_at)
            self._allowed = min(self._rate * _BURST_SECONDS, self._allowed + more)
            self._allowed_at = now
        while self._sending and (not self._rate or self._allowed > 0):
            connection = self._sending.popleft()
            try:
                self._allowed -= _send(connection, _TURN_BYTES if self._rate else _WHOLE)
            except BlockingIOError:
                connection.waits_for_room = True
                self._selector.modify(connection.socket, selectors.EVENT_WRITE, connection)
                continue
            except ConnectionError:
                self._close(connection)
                continue
            if connection.answer is None:
                self._begin(connection)  # what came meanwhile
            else:
                self._sending.append(connection)

    def _go_on(self, connection: _Connection) -> None:
        connection.waits_for_room = False
        self._selector.modify(connection.socket, selectors.EVENT_READ, connection)
        self._sending.append(connection)

    def _close(self, connection: _Connection) -> None:
        if connection.answer is not None:
            connection.answer.close()
        self._late = [late for late in self._late if late[2] is not connection]
        heapq.heapify(self._late)
        with contextlib.suppress(ValueError):
            self._sending.remove(connection)
        self._selector.unregister(connection.socket)
        connection.socket.close()


def _send(connection: _Connection, largest: int) -> int:
    """Send some of the answer, which is None afterwards if that was all of it."""
    answer = connection.answer
    assert answer is not None
    sent = 0
    if answer.head:
        sent = connection.socket.send(answer.head, socket.MSG_MORE if answer.left else 0)
        answer.head = answer.head[sent:]
    if answer.left and not answer.head:
        assert answer.file is not None
        size = min(largest, answer.left)
        part = os.sendfile(connection.socket.fileno(), answer.file, answer.offset, size)
        answer.offset += part
        answer.left -= part
        sent += part
    if not answer.head and not answer.left:
        answer.close()
        connection.answer = None
    return sent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ops.bench.endpoint", description=__doc__)
    parser.add_argument("bucket", nargs="+", metavar="NAME=FOLDER", help="what to serve")
    parser.add_argument("--socket", type=int, required=True, metavar="FD", help="one that listens")
    parser.add_argument("--delay-ms", type=float, default=0, help="until an answer begins")
    parser.add_argument("--mbit", type=float, default=0, help="a second, of all answers together")
    given = parser.parse_args()
    named = (one.partition("=") for one in given.bucket)
    buckets = Buckets({name: Path(folder) for name, _, folder in named})
    listener = socket.socket(fileno=given.socket)
    Server(listener, buckets, given.delay_ms / 1e3, given.mbit * 1e6 / 8).serve()


if __name__ == "__main__":
    main()
