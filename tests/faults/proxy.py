"""The proxy: passes requests and answers on as they are, and does what its control says.

A thread a client's connection, with one connection of its own to the server. Bodies stream in both
directions. When a client goes away in the middle of a request, the server sees a reset, never a
request that looks whole.
"""

import contextlib
import hashlib
import socket
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import format_datetime
from types import TracebackType
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.faults import answers
from tests.faults.control import DEADLINE_SECONDS, Control, Injection
from tests.faults.kinds import Fault
from tests.faults.request import Request
from tests.faults.wire import Head, Peer

_REFUSALS = {
    Fault.INTERNAL_ERROR,
    Fault.SLOW_DOWN,
    Fault.TOO_MANY_REQUESTS,
    Fault.CLOCK_SKEW,
    Fault.EXPIRED_TOKEN,
    Fault.COMPLETION_FAILED,
}
_ON_THE_WAY = {Fault.RESET, Fault.STALLED, Fault.SHORT_PAGE}
_DRIPS = 20
_KEYS_OF_A_SHORT_PAGE = 3


class FaultyS3:
    """The proxy, open from ``with`` to its end; `url` is what clients are told."""

    def __init__(self, upstream: str) -> None:
        """`upstream` is the URL of the server behind it."""
        server = urlsplit(upstream)
        self.control = Control()
        self._upstream = (server.hostname or "127.0.0.1", server.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._changed = threading.Condition()
        self._open: set[_Conversation] = set()

    def __enter__(self) -> "FaultyS3":
        self._accepting.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: object, _where: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        self.control.calm()
        with self._changed:
            for conversation in self._open:
                conversation.end()
            ended = self._changed.wait_for(lambda: not self._open, DEADLINE_SECONDS)
        assert ended, f"{len(self._open)} connections do not end"

    def connections(self) -> int:
        """How many clients' connections are open now."""
        with self._changed:
            return len(self._open)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # that it is shut is how it ends
            while True:
                client = Peer(self._listener.accept()[0])
                conversation = _Conversation(client, self._upstream, self.control)
                with self._changed:
                    self._open.add(conversation)
                threading.Thread(target=self._talk, args=(conversation,), daemon=True).start()

    def _talk(self, conversation: "_Conversation") -> None:
        try:
            conversation.run()
        finally:
            with self._changed:
                self._open.remove(conversation)
                self._changed.notify_all()


class _Conversation:
    """One client's connection from its first request to its end."""

    def __init__(self, client: Peer, upstream: tuple[str, int], control: Control) -> None:
        self._client = client
        self._upstream = upstream
        self._control = control
        self._server: Peer | None = None

    def end(self) -> None:
        """From another thread."""
        for peer in (self._client, self._server):
            with contextlib.suppress(OSError):
                if peer:
                    peer.shut()

    def run(self) -> None:
        try:
            while (head := self._client.head()) and self._exchange(head) and not head.closes:
                pass
        except OSError:  # where one side goes away in the middle, the other one sees the same
            for peer in (self._client, self._server):
                if peer:
                    peer.reset()
        finally:
            for peer in (self._client, self._server):
                if peer:
                    peer.close()

    def _exchange(self, head: Head) -> bool:
        """Answer a request; whether there can be another on this connection."""
        request = Request.of(head)
        injection = self._control.meet(request)
        if injection and _is_refusal(injection.fault, request):
            self._control.note(request, injection)
            return self._refuse(head, request, injection.fault)
        for lack in [] if injection else self._control.lacks(request):
            if lack.answer:
                closes = bool(head.get("expect"))
                return self._answer(head, answers.refusal(*lack.answer, request, closes))
            head = head.changed(without=lack.named)
        if head.get("expect"):
            self._client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body: Iterable[bytes] = self._client.body(head)
        if injection and injection.fault in _ON_THE_WAY:
            self._control.note(request, injection)
            if injection.fault is Fault.RESET:
                _drain(self._client.take(head.length // 2))
                raise ConnectionResetError
            if injection.fault is Fault.STALLED:
                body = list(body)  # all of it: what is not read hides that the client has gone
                if not self._waits_until(injection):
                    return False
            else:
                head = _asking_for_less(head)
            injection = None
        server = self._connected()
        answer = self._forward(head, body, server)
        if injection:
            if _is_possible(injection.fault, request, answer):
                self._control.note(request, injection)
                return self._spoil(request, server, answer, injection)
            self._control.miss(injection)
        self._send(answer, server.body(answer) if _has_body(request, answer) else ())
        return not answer.closes

    def _connected(self) -> Peer:
        """The connection to the server: a new one where it has ended the last."""
        if self._server and self._server.is_gone(within_seconds=0):
            self._server.close()
            self._server = None
        if self._server is None:
            self._server = Peer(socket.create_connection(self._upstream))
        return self._server

    def _forward(self, head: Head, body: Iterable[bytes], server: Peer) -> Head:
        """Pass a request on, and return the head of its answer."""
        pieces = iter(body)
        server.send(head.raw + next(pieces, b""))  # in one packet where it is small
        for piece in pieces:
            server.send(piece)
        while answer := server.head():
            if answer.status >= 200:  # the client has been told to continue
                return answer
        raise ConnectionResetError

    def _send(self, answer: Head, body: Iterable[bytes]) -> None:
        pieces = iter(body)
        self._client.send(answer.raw + next(pieces, b""))
        for piece in pieces:
            self._client.send(piece)

    def _refuse(self, head: Head, request: Request, fault: Fault) -> bool:
        """Answer with an error; a client that waits to be invited never sends its body."""
        closes = answers.closes(fault) or bool(head.get("expect"))
        self._answer(head, answers.error(fault, request, closes))
        return not closes

    def _answer(self, head: Head, answer: bytes) -> bool:
        """Answer in the server's place; whether there can be another request."""
        if not head.get("expect"):
            _drain(self._client.body(head))
        self._client.send(answer)
        return not head.get("expect")

    def _waits_until(self, injection: Injection) -> bool:
        """Whether the client is still there when it is released."""
        while not injection.released.is_set():
            if self._client.is_gone(within_seconds=0.02):
                return False
        return True

    def _spoil(self, request: Request, server: Peer, answer: Head, injection: Injection) -> bool:
        """Answer as the fault will have it, the server having done its part."""
        length = answer.length
        at = min(int(length * injection.at), length - 1)
        match injection.fault:
            case Fault.ANSWER_LOST:
                _drain(server.body(answer) if _has_body(request, answer) else ())
                raise ConnectionResetError
            case Fault.COMPLETION_UNSURE:
                _drain(server.body(answer))
                self._client.send(answers.error(injection.fault, request, close=False))
            case Fault.RESET_IN_BODY:
                self._send(answer, server.take(at))
                raise ConnectionResetError
            case Fault.TRUNCATED:
                self._send(answer, server.take(at))
                return False
            case Fault.SHORTENED:
                self._send(answer.changed(content_length=str(at)), server.take(at))
                _drain(server.take(length - at))
            case Fault.STALLED_IN_BODY:
                self._send(answer, server.take(at))
                if not self._waits_until(injection):
                    return False
                for piece in server.take(length - at):
                    self._client.send(piece)
            case Fault.DRIP:
                self._client.send(answer.raw)
                size = -(-length // _DRIPS)
                for start in range(0, length, size):
                    injection.released.wait(injection.seconds / _DRIPS)
                    for piece in server.take(min(size, length - start)):
                        self._client.send(piece)
            case Fault.FLIPPED_BYTE | Fault.REPLACED:
                body = bytearray(b"".join(server.take(length)))
                body[at] ^= 1
                if injection.fault is Fault.REPLACED:
                    answer = _of_another(answer, bytes(body))
                self._send(answer, [bytes(body)])
            case fault:
                raise AssertionError(f"{fault} is done before anything is answered, or not known")
        return not answer.closes


def _is_refusal(fault: Fault, request: Request) -> bool:
    """Whether it is an answer of the proxy's own."""
    return fault in _REFUSALS or (fault is Fault.REPLACED and bool(request.if_match))


def _is_possible(fault: Fault, request: Request, answer: Head) -> bool:
    """Whether it can happen to this answer."""
    if fault is Fault.ANSWER_LOST:
        return True
    if fault is Fault.COMPLETION_UNSURE:
        return answer.status == 200
    if fault is Fault.REPLACED and answer.status not in (200, 206):
        return False
    return _has_body(request, answer) and not answer.is_chunked and answer.length > 0


def _has_body(request: Request, answer: Head) -> bool:
    return request.method != "HEAD" and answer.status not in (204, 304)


def _asking_for_less(head: Head) -> Head:
    """A request for a page of a listing, for fewer keys than it was for.

    The one request that is not passed on as it came: a server that checks signatures refuses it.
    """
    method, target, version = head.first.split(" ")
    path, _, query_string = target.partition("?")
    query = parse_qs(query_string, keep_blank_values=True)
    asked = int(query.get("max-keys", ["1000"])[0])
    query["max-keys"] = [str(min(asked, _KEYS_OF_A_SHORT_PAGE))]
    return head.changed(first=f"{method} {path}?{urlencode(query, doseq=True)} {version}")


def _of_another(answer: Head, body: bytes) -> Head:
    """The head of an answer that holds an object which was written just now."""
    return answer.changed(
        without="x-amz-checksum-",
        etag=f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"',
        last_modified=format_datetime(datetime.now(UTC), usegmt=True),
    )


def _drain(body: Iterable[bytes]) -> None:
    for _ in body:
        pass
