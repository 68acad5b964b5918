"""HTTP/1.1 as it is on the wire: heads that keep their bytes, bodies by piece, and hard endings.

It knows nothing of S3 or of faults. Where the other side goes away in the middle of anything, it
raises `OSError`. A body has a Content-Length or is chunked; there is no third way here.
"""

import io
import select
import socket
import struct
from collections.abc import Iterator
from typing import cast

_PIECE_BYTES = 1 << 16


class Head:
    """The first line and the headers of a request or an answer; `raw` is all of it as it came."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.first, *self._lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        self._values: dict[str, str] = {}
        for line in self._lines:
            name, _, value = line.partition(":")
            self._values[name.strip().lower()] = value.strip()

    def get(self, name: str) -> str:
        """A header by its name in lower case; empty if there is none."""
        return self._values.get(name, "")

    def has(self, beginning: str) -> bool:
        """Whether there is a header whose name begins so, in lower case."""
        return any(name.startswith(beginning) for name in self._values)

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self.first.split(" ", 2)[1])

    @property
    def is_chunked(self) -> bool:
        return "chunked" in self.get("transfer-encoding").lower()

    @property
    def length(self) -> int:
        """Of the body, in bytes, unless it is chunked."""
        return int(self.get("content-length") or 0)

    @property
    def closes(self) -> bool:
        """Whether no other request follows on this connection."""
        return self.get("connection").lower() == "close"

    def changed(self, first: str = "", without: str = "", **values: str) -> "Head":
        """With other values for headers (``_`` for ``-``), and without those that start so."""
        new = {name.replace("_", "-"): value for name, value in values.items()}
        gone = (*(f"{name}:" for name in new), *([without] if without else []))
        kept = [line for line in self._lines if not line.lower().startswith(gone)]
        added = [f"{name}: {value}" for name, value in new.items()]
        return Head("\r\n".join([first or self.first, *kept, *added, "", ""]).encode("latin-1"))


class Peer:
    """The other side of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connection
        self._file = cast(io.BufferedReader, connection.makefile("rb", _PIECE_BYTES))

    def head(self) -> Head | None:
        """The next head; None where the other side has ended the connection instead."""
        raw = b""
        while not raw.endswith(b"\r\n\r\n"):
            line = self._file.readline()
            if not line and not raw:
                return None
            if not line.endswith(b"\n"):
                raise ConnectionError("the connection ended in a head")
            raw += line
        return Head(raw)

    def body(self, head: Head) -> Iterator[bytes]:
        """The body that follows a head, as it is on the wire, chunk framing included."""
        return self._chunks() if head.is_chunked else self.take(head.length)

    def take(self, count: int) -> Iterator[bytes]:
        """So many bytes of the body, in pieces as they come."""
        while count:
            piece = self._file.read1(min(count, _PIECE_BYTES))
            if not piece:
                raise ConnectionError("the connection ended in a body")
            count -= len(piece)
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        size = -1
        while size:
            line = self._file.readline()
            size = int(line.partition(b";")[0], 16)
            yield line
            yield from self.take(size)
            while (line := self._file.readline()) != b"\r\n":  # trailers, after the last chunk
                if not line.endswith(b"\n"):
                    raise ConnectionError("the connection ended in a body")
                yield line
            yield line

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def is_gone(self, within_seconds: float) -> bool:
        """Whether the other side ends the connection within so long."""
        poll = select.poll()
        poll.register(self._socket, select.POLLRDHUP)
        return bool(poll.poll(within_seconds * 1000))

    def shut(self) -> None:
        """End the connection from another thread: whoever waits for the other side wakes up."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def reset(self) -> None:
        """End the connection as a crash does: what the other side does next on it fails."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()
