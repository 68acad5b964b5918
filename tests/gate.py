"""A gate in front of an S3 server: a test's way to know what a process is doing when it kills it.

Every request goes through as it came, and every answer back. A test can hold a request, wait until
it is held (the process is then known to wait for its answer), and let it go on or lose it, whether
or not the process still lives; have requests refused; and count them. Requests are named by method
and a regular expression on path and query. It knows nothing of S3.
"""

import contextlib
import http.client
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit

LOST, CUT = -1, -2
"""Verdicts on a request that are no status: it never arrives; its answer breaks off half way."""

DEADLINE_SECONDS = 30.0
"""How long anything may take here before the test counts as failed."""


class Gate:
    """The gate, open from ``with`` to its end; `url` is what clients are told."""

    def __init__(self, upstream: str) -> None:
        server = urlsplit(upstream)
        self.upstream = (server.hostname or "127.0.0.1", server.port or 80)
        self.changed = threading.Condition()
        self.answered = 0
        self._seen: list[tuple[str, str]] = []
        self._rules: list[Hold | Refusal] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.gate = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "Gate":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: object, _where: TracebackType | None
    ) -> None:
        with self.changed:
            for rule in self._rules:
                rule.end()
            self.changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def hold(self, method: str, pattern: str, after: int = 0) -> "Hold":
        """Hold the next request that matches, or the one after so many, before it goes on."""
        hold = Hold(self, method, pattern, after)
        self._add(hold)
        return hold

    def refuse(self, method: str, pattern: str, status: int, times: int | None = None) -> "Refusal":
        """Answer requests that match with a status: so many, or all until told to `end`."""
        refusal = Refusal(method, pattern, status, times)
        self._add(refusal)
        return refusal

    def count(self, method: str, pattern: str) -> int:
        """How many requests that match have come, held and refused ones included."""
        with self.changed:
            return sum(_matches(method, pattern, *request) for request in self._seen)

    def wait_until_answered(self, number: int) -> None:
        """Wait until so many requests have been answered, whether or not anyone heard it."""
        with self.changed:
            came = self.changed.wait_for(lambda: self.answered >= number, DEADLINE_SECONDS)
        assert came, f"{self.answered} answers, not {number}"

    def requests(self) -> str:
        """Every request that has come, for a test's message."""
        with self.changed:
            return "\n".join(f"{method} {path}" for method, path in self._seen)

    def _add(self, rule: "Hold | Refusal") -> None:
        with self.changed:
            self._rules.append(rule)

    def admit(self, method: str, path: str) -> int:
        """Wait until a request may go on: 0 then, or `LOST`, `CUT`, a status if it is refused."""
        with self.changed:
            self._seen.append((method, path))
            rule = next((one for one in self._rules if one.takes(method, path)), None)
            self.changed.notify_all()
            if rule is None:
                return 0
            self.changed.wait_for(lambda: rule.verdict is not None)
            assert rule.verdict is not None
            return rule.verdict


class Hold:
    """One request to hold."""

    def __init__(self, gate: Gate, method: str, pattern: str, after: int) -> None:
        self._gate, self._method, self._pattern = gate, method, pattern
        self._others = after
        self._is_held = False
        self.verdict: int | None = None

    def takes(self, method: str, path: str) -> bool:
        if self._is_held or self.verdict is not None:
            return False
        if not _matches(self._method, self._pattern, method, path):
            return False
        self._is_held = self._others == 0
        self._others -= 1
        return self._is_held

    def wait(self) -> None:
        """Wait until the request is being held."""
        with self._gate.changed:
            came = self._gate.changed.wait_for(lambda: self._is_held, DEADLINE_SECONDS)
        assert came, f"no {self._method} {self._pattern} came, but:\n{self._gate.requests()}"

    def release(self) -> None:
        """Let the request go on, even if whoever sent it has gone."""
        self._decide(0)

    def lose(self) -> None:
        """Have the request never arrive; a sender who is still there loses the connection."""
        self._decide(LOST)

    def end(self) -> None:
        if self.verdict is None:
            self.verdict = LOST

    def _decide(self, verdict: int) -> None:
        with self._gate.changed:
            self.verdict = verdict
            self._gate.changed.notify_all()


class Refusal:
    """Requests that are answered with a status by the gate itself."""

    def __init__(self, method: str, pattern: str, status: int, times: int | None) -> None:
        self._method, self._pattern = method, pattern
        self._times_left = times
        self.verdict: int | None = status
        self._is_over = False

    def takes(self, method: str, path: str) -> bool:
        if self._is_over or not _matches(self._method, self._pattern, method, path):
            return False
        if self._times_left is not None:
            self._times_left -= 1
            self._is_over = self._times_left == 0
        return True

    @property
    def is_over(self) -> bool:
        """Whether it has been met as often as it should be, or told to end."""
        return self._is_over

    def end(self) -> None:
        self._is_over = True


def _matches(wanted_method: str, pattern: str, method: str, path: str) -> bool:
    return method == wanted_method and re.search(pattern, path) is not None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    gate: Gate


class _Handler(BaseHTTPRequestHandler):
    """One client's connection, with one of its own to the server behind."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self._onward = http.client.HTTPConnection(*self.server.gate.upstream)

    def finish(self) -> None:
        self._onward.close()
        super().finish()

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # a client is killed: what this is for
            super().handle()

    def _pass_on(self) -> None:
        body = self._body()  # first: a sender that is killed now has sent all of it
        verdict = self.server.gate.admit(self.command, self.path)
        if verdict == LOST:
            self.close_connection = True
            return
        if verdict and verdict != CUT:
            self._answer(verdict, "Refused", [("Content-Length", "0")], b"")
            return
        self._onward.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            self._onward.putheader(name, value)
        self._onward.endheaders(body)
        answer = self._onward.getresponse()
        content = answer.read()
        with self.server.gate.changed:
            self.server.gate.answered += 1
            self.server.gate.changed.notify_all()
        if verdict == CUT:
            content = content[: len(content) // 2]
            self.close_connection = True
        self._answer(answer.status, answer.reason, answer.getheaders(), content)

    def _body(self) -> bytes:
        """The bytes behind the headers as they are on the wire, chunk framing included."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        framed = b""
        while True:
            size = self.rfile.readline()
            framed += size + self.rfile.read(int(size.partition(b";")[0], 16) + 2)
            if int(size.partition(b";")[0], 16) == 0:
                return framed

    def _answer(
        self, status: int, reason: str, headers: list[tuple[str, str]], body: bytes
    ) -> None:
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers)]
        self.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def log_message(self, format: str, *args: object) -> None:
        pass

    do_GET: Callable[["_Handler"], None] = _pass_on
    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET
