"""A small HTTP server that answers GETs for one bucket as a test has scripted, down to the socket.

Without a script a key is answered as S3 answers. `Answer`s stand in a queue for each key; each is
a function that sends what it likes to an `Exchange` and says whether the connection stays open.
"""

import contextlib
import hashlib
import socket
import ssl
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

import pytest

from tasks.storage import StoredObject, s3_clients
from tasks.storage.address import BulkSource
from tasks.storage.patience import Patience

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REQUEST_ID = "4442587FB7D0A2F9"
_RESET = struct.pack("ii", 1, 0)  # closes with a reset


def client_of(url: str, patience: Patience) -> "S3Client":
    """Our client for a server of this machine; to be made once, for that takes longest."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {
            "AWS_ENDPOINT_URL_S3": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1",
        }.items():
            environment.setenv(name, value)
        s3_clients.forget()
        return s3_clients._make_client(patience)


@dataclass
class Request:
    """What came, with the names of its headers in lower case."""

    method: str
    target: str
    headers: dict[str, str]


class Exchange:
    """One request and the way to answer it."""

    def __init__(self, connection: socket.socket, request: Request, body: bytes) -> None:
        self.connection = connection
        self.request = request
        self.body = body

    @property
    def etag(self) -> str:
        return hashlib.md5(self.body).hexdigest()

    def head(self, status: str, length: int, **headers: str) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {length}"]
        lines.append(f"x-amz-request-id: {REQUEST_ID}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())

    def send(self, status: str, body: bytes, **headers: str) -> bool:
        self.head(status, len(body), **headers)
        self.connection.sendall(body)
        return True

    def begin(self, length: int | None = None, **headers: str) -> None:
        """What is above a body that is fine, and half of that."""
        length = len(self.body) if length is None else length
        self.head("200 OK", length, ETag=f'"{self.etag}"', **headers)
        self.connection.sendall(self.body[: len(self.body) // 2])


Answer = Callable[[Exchange], bool]


def fine(exchange: Exchange) -> bool:
    """The object, or the part of it that is asked for."""
    etag = f'"{exchange.etag}"'
    if exchange.request.headers.get("if-match", etag) != etag:
        return error("412 Precondition Failed", "PreconditionFailed")(exchange)
    if asked := exchange.request.headers.get("range"):
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        return exchange.send("206 Partial Content", exchange.body[start:], ETag=etag)
    return exchange.send("200 OK", exchange.body, ETag=etag)


def having(**headers: str) -> Answer:
    """The object with these headers too (``_`` for ``-``)."""

    def answer(exchange: Exchange) -> bool:
        etag = f'"{exchange.etag}"'
        return exchange.send("200 OK", exchange.body, **({"ETag": etag} | headers))

    return answer


def flipped(**headers: str) -> Answer:
    """The object with one bit turned over."""

    def answer(exchange: Exchange) -> bool:
        body = bytearray(exchange.body)
        body[len(body) // 2] ^= 1
        return exchange.send("200 OK", bytes(body), ETag=f'"{exchange.etag}"', **headers)

    return answer


def error(status: str, code: str = "", message: str = "So it is", **headers: str) -> Answer:
    """An error as S3 answers it; without a code, what a proxy might answer."""
    document = "<html>no</html>"
    if code:
        document = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return lambda exchange: exchange.send(status, document.encode(), **headers)


def reset(exchange: Exchange) -> bool:
    exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    return False


def reset_half_way(exchange: Exchange) -> bool:
    exchange.begin()
    return reset(exchange)


def close(_: Exchange) -> bool:
    return False


def cut_off(exchange: Exchange) -> bool:
    exchange.begin()
    return False


def shortened(exchange: Exchange) -> bool:
    """Half of the object, and a Content-Length that says that this is all."""
    exchange.begin(len(exchange.body) // 2)
    return True


def garbage(exchange: Exchange) -> bool:
    exchange.connection.sendall(b"SSH-2.0-OpenSSH_9.0\r\n" * 3)
    return False


@dataclass
class ScriptedS3:
    """The server, in a ``with`` block; `script` maps keys to the answers before all is fine."""

    objects: dict[str, bytes]
    script: defaultdict[str, deque[Answer]] = field(default_factory=lambda: defaultdict(deque))
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self.ended = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        scheme = "https" if self.tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._listening.getsockname()[1]}"

    @property
    def source(self) -> BulkSource:
        """How a reader finds it."""
        return BulkSource(
            "s3://bucket/deep",
            prefix="deep/",
            bucket_url=f"{self.url}/bucket/",
            region="eu-west-1",
        )

    def listed(self, *keys: str) -> list[StoredObject]:
        """The objects as a listing shows them; all of them, if no keys are given."""
        return [
            StoredObject(key, len(self.objects[key]), hashlib.md5(self.objects[key]).hexdigest(), 0)
            for key in keys or self.objects
        ]

    def answers(self, key: str, *answers: Answer) -> None:
        self.script[key].extend(answers)

    def stall(self, exchange: Exchange) -> bool:
        """An answer: half a body, and then nothing more."""
        exchange.begin()
        self.ended.wait()
        return False

    def drip(self, pause: float, pieces: int) -> Answer:
        """An answer in so many pieces, with as many pauses; the last is not sent."""

        def answer(exchange: Exchange) -> bool:
            exchange.head("200 OK", len(exchange.body), ETag=f'"{exchange.etag}"')
            size = -(-len(exchange.body) // pieces)
            for start in range(0, len(exchange.body), size):
                exchange.connection.sendall(exchange.body[start : start + size])
                if self.ended.wait(pause):
                    return False
            return True

        return answer

    def __enter__(self) -> "ScriptedS3":
        self._start(self._accept)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: object, _where: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self.ended.set()
        with self._lock:
            for one in (self._listening, *self._open):
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(one, socket.SHUT_RDWR)  # below TLS, where one reads
            self._listening.close()
            threads = list(self._threads)
        for thread in threads:
            thread.join()

    def _start(self, what: Callable[..., None], *given: object) -> None:
        thread = threading.Thread(target=what, args=given, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls:
                connection = self.tls.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                )
            with self._lock:
                self.connections += 1
                self._open.add(connection)
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection.makefile("rb") as lines:
            while (request := _read(lines.readline)) and self._answer(connection, request):
                pass
        with self._lock:
            self._open.discard(connection)
        connection.close()

    def _answer(self, connection: socket.socket, request: Request) -> bool:
        key = request.target.partition("/deep/")[2]
        with self._lock:
            self.requests.append(request)
            queue = self.script[key]
            answer = queue.popleft() if queue else fine
        return answer(Exchange(connection, request, self.objects.get(key, b"")))


def _read(line: Callable[[], bytes]) -> Request | None:
    first = line().decode().split(" ")
    if len(first) != 3:
        return None
    headers = {}
    while text := line().decode().strip():
        name, _, value = text.partition(":")
        headers[name.lower()] = value.strip()
    return Request(first[0], first[1], headers)
