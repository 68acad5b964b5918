"""Bodies as boto3 sends and reads them, held to a time, to their length, and counted."""

import re
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from botocore import exceptions as aws
from urllib3 import exceptions as urllib3

_READ_BYTES = 1 << 16
_ASKED = re.compile(r"bytes=(\d+)-(\d*)")
_COMES = re.compile(r"bytes (\d+)-(\d+)/\d+")


class NotTheRange(aws.IncompleteReadError):
    """An answer is not the part of an object that was asked for."""

    fmt = "{actual_bytes} bytes came that are not the part that was asked for"


def must_be_the_range(answer: Any, asked: str) -> None:
    """Raises `NotTheRange` unless an answer's headers are of the range ``bytes=first-last``.

    The range may end with the object; and where it begins with it, all of it may come, if that is
    no more than was asked for.
    """
    wanted, length = _ASKED.fullmatch(asked), answer["ContentLength"]
    assert wanted is not None
    first, last = int(wanted[1]), int(wanted[2]) if wanted[2] else None
    begins, ends = 0, length - 1
    if comes := _COMES.match(answer.get("ContentRange", "")):
        begins, ends = int(comes[1]), int(comes[2])
    is_too_long = last is not None and ends > last
    if begins != first or ends - begins + 1 != length or is_too_long:
        raise NotTheRange(actual_bytes=length, expected_bytes=0)


class Body:
    """In place of urllib3's answer, of which botocore wants `read` and `stream`.

    Raises what botocore does, and never anything of urllib3's: `IncompleteReadError` where it ends
    too early, `ReadTimeoutError` where nothing comes or reading took too long in all, whatever time
    there was between two reads.
    """

    def __init__(
        self,
        raw: Any,
        url: str,
        length: int | None,
        seconds: float,
        on_bytes: Callable[[int], None],
    ) -> None:
        """`length` in bytes, None where it is not told; `seconds` for all reading together."""
        self._raw = raw
        self._url = url
        self._length = length
        self._seconds_left = seconds
        self._on_bytes = on_bytes
        self._came = 0
        self._failure: aws.HTTPClientError | None = None

    def read(self, amt: int | None = None) -> bytes:
        """All that is left, or so many bytes; fewer at the end, and before what is raised then."""
        parts: list[bytes] = []
        left = amt
        began = time.monotonic()
        try:
            while left is None or left > 0:
                part = self._part(_READ_BYTES if left is None else min(left, _READ_BYTES))
                if not part:
                    break
                parts.append(part)
                if left is not None:
                    left -= len(part)
                if time.monotonic() - began > self._seconds_left:
                    self._raw.close()
                    raise aws.ReadTimeoutError(endpoint_url=self._url, error="too slow")
        except aws.HTTPClientError as error:
            if amt is None or not parts:
                raise
            self._failure = error  # what has come is not lost: it is raised when more is asked for
        self._seconds_left -= time.monotonic() - began
        return b"".join(parts)

    def stream(self, *_: object, **__: object) -> Iterator[bytes]:
        yield self.read()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def _part(self, most: int) -> bytes:
        if self._failure is not None:
            raise self._failure
        try:
            part = bytes(self._raw.read1(most))
        except urllib3.ReadTimeoutError as error:
            raise aws.ReadTimeoutError(endpoint_url=self._url, error=error) from None
        except (urllib3.HTTPError, OSError) as error:
            raise aws.ResponseStreamingError(error=error) from None
        self._came += len(part)
        self._on_bytes(len(part))
        if not part and self._length is not None and self._came < self._length:
            raise aws.IncompleteReadError(actual_bytes=self._came, expected_bytes=self._length)
        return part


class Sending:
    """In place of a file that is sent: it ends with what urllib3 raises once time is up."""

    def __init__(self, file: BinaryIO, url: str, seconds: float) -> None:
        self._file = file
        self._url = url
        self._until = time.monotonic() + seconds

    def read(self, amt: int = -1) -> bytes:
        if time.monotonic() > self._until:
            pool: Any = None
            raise urllib3.ReadTimeoutError(pool, self._url, "it went too slowly")
        return self._file.read(amt)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
