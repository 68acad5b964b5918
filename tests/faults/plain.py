"""HTTP without any S3: the plainest client and server, to see what the proxy does on the wire."""

import contextlib
import http.client
import socket
import socketserver
import threading
from types import TracebackType
from urllib.parse import urlsplit

_SECONDS = 30.0


def connection_to(url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(url).netloc, timeout=_SECONDS)


def socket_to(url: str) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((address.hostname, address.port), timeout=_SECONDS)


class CannedServer:
    """Answers every request at once, always the same, and keeps the heads that it was sent."""

    def __init__(self) -> None:
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
        self.keeps_open = True
        self.open = 0
        self.heads: list[bytes] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.canned = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "CannedServer":
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: object, _where: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 256
    canned: CannedServer


class _Handler(socketserver.StreamRequestHandler):
    """Takes requests without a body only."""

    server: _Server
    disable_nagle_algorithm = True

    def handle(self) -> None:
        canned = self.server.canned
        canned.open += 1
        with contextlib.suppress(ConnectionError):
            head = b""
            while line := self.rfile.readline():
                head += line
                if line == b"\r\n":
                    canned.heads.append(head)
                    self.wfile.write(canned.answer)
                    if not canned.keeps_open:
                        break
                    head = b""

    def finish(self) -> None:
        super().finish()
        self.connection.close()
        self.server.canned.open -= 1
