"""gzip and zstd, told by their first bytes: what is in them, as a whole and within bounds.

`inflated` promises every byte of every member (gzip) or frame (zstd), or raises: for what is cut
off, damaged, or not all gzip or zstd, and before it has unpacked more than it may. What it takes of
time and memory is bounded by the length of what comes in and by `most`. Pure functions over bytes.
"""

import re
import sys
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import Protocol

from tasks import figures

GZIP, ZSTD = "gzip", "zstd"
_BEGINNINGS = {GZIP: re.compile(rb"\x1f\x8b\x08"), ZSTD: re.compile(rb"[(]\xb5/\xfd|[P-_]\*M\x18")}
"""The latter is a frame that is to be skipped, as pzstd writes them."""

_FIRST_BYTES, _MOST_AT_ONCE = 1 << 10, 1 << 20


class Damaged(ValueError):
    """Not all of it can be unpacked; ``str()`` says why, to follow "it is gzip"."""


class TooLarge(ValueError):
    """More comes out than may."""


class _Member(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def zstd() -> ModuleType:
    """Python's module for zstd; most processes never need it."""
    if sys.version_info >= (3, 14):
        from compression import zstd as module
    else:
        from backports import zstd as module
    return module


def format_of(data: bytes) -> str:
    """`GZIP` or `ZSTD`, or nothing where the bytes begin as neither."""
    for name, beginning in _BEGINNINGS.items():
        if beginning.match(data):
            return name
    return ""


def inflated(data: bytes, name: str, most: int) -> bytes:
    """What is in all members of `data`, which begins as format `name` does.

    Raises `Damaged`; and `TooLarge` where more than `most` bytes come out.
    """
    new: Callable[[], _Member] = _new_gzip
    errors: tuple[type[Exception], ...] = (zlib.error,)
    if name == ZSTD:
        new, errors = zstd().ZstdDecompressor, (zstd().ZstdError,)
    parts, at = [], 0
    try:
        while at < len(data):
            if not _BEGINNINGS[name].match(data, at):
                if name == GZIP and not data[at:].strip(b"\0"):
                    break  # what fills up a block of a tape or a disk
                count = figures.count(len(data) - at, "byte")
                raise Damaged(f"with {count} behind its end that cannot be unpacked")
            member, length = new(), _FIRST_BYTES
            while not member.eof:
                piece = data[at : at + length]
                if not piece:
                    raise Damaged("that ends in the middle (cut off)")
                # Short ones first: what is behind a member's end is copied, and there may be many.
                at, length = at + len(piece), min(4 * length, _MOST_AT_ONCE)
                parts.append(member.decompress(piece, most + 1))
                most -= len(parts[-1])
                if most < 0:
                    raise TooLarge
            at -= len(member.unused_data)
    except errors as error:
        raise Damaged(f"that is damaged ({error})") from None
    return b"".join(parts)


def _new_gzip() -> _Member:
    return zlib.decompressobj(wbits=31)
