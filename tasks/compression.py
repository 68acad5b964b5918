"""gzip: many pieces make one file that every reader takes for one, and equal input equal bytes.

A file is one gzip member, because some readers stop, without a word, where the first of several
ends. Its deflate stream is made of *segments*, as pigz makes it: each begins and ends at a byte,
refers to nothing before it and has no last block. So they can be made apart, written one after the
other, and read each by itself, as raw deflate. `Joined` knows what comes behind the last one. There
is no optional header field and no time in it. libdeflate is fast and gives the same bytes on every
processor, which zlib's rivals do not promise.

Files of older versions have a gzip member in place of each segment, and are read as before.
"""

import functools
import math
import zlib
from collections.abc import Iterable, Iterator

import deflate

HEADER = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
"""What stands before the first segment: no optional fields, no time, no system."""

NO_MORE = b"\x03\x00"
"""A last block with nothing in it; behind a segment, it makes a whole deflate stream of it."""

END_BYTES = len(NO_MORE) + 8
"""How long what stands behind the last segment is."""

LEVELS = range(1, 13)
"""libdeflate's."""

_GZIP = HEADER[:3]
_PIECE_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 20
_MOST_AT_ONCE = 1 << 22


class Damaged(ValueError):
    """What is wrong with compressed bytes, to follow the name of what they are of."""


class Joined:
    """The segments of one gzip member, as they are written one after the other."""

    def __init__(self) -> None:
        self._crc32 = self._size = 0

    def add(self, crc32: int, size: int) -> None:
        """The next segment: the CRC-32 of its text, and how many bytes that has."""
        self._crc32 = joined_crc32(self._crc32, crc32, size)
        self._size += size

    def end(self) -> bytes:
        """What stands behind the last segment; the size in it is modulo 2^32, as gzip has it."""
        size = self._size & 0xFFFFFFFF
        return NO_MORE + self._crc32.to_bytes(4, "little") + size.to_bytes(4, "little")


def gzip_member(data: bytes, level: int) -> bytes:
    """`data` as a whole gzip file; `level` is 1 (fast) to 12 (small)."""
    return bytes(deflate.gzip_compress(data, level))


def deflate_stream(data: bytes, level: int) -> bytes:
    """`data` as a whole deflate stream; `level` as for `gzip_member`."""
    return bytes(deflate.deflate_compress(data, level))


def text_crc32(text: bytes | bytearray) -> int:
    return int(deflate.crc32(text))


def checked_segment(segment: bytes, size: int, adler32: int) -> int:
    """The CRC-32 of the text of a segment that was just made, by reading it.

    Raises `RuntimeError` unless libdeflate reads it and gets so many bytes with this Adler-32.
    """
    try:
        text = deflate.deflate_decompress(segment + NO_MORE, size)
    except (ValueError, deflate.DeflateError) as error:
        raise RuntimeError(f"a segment that was just made cannot be read ({error})") from None
    if (len(text), deflate.adler32(text)) != (size, adler32):
        raise RuntimeError("a segment that was just made does not hold what went into it")
    return text_crc32(text)


def joined_crc32(first: int, second: int, size: int) -> int:
    """The CRC-32 of two texts, one after the other, from both; the second has `size` bytes.

    CRCs are linear: it is what so many bytes of zero would make of the first, plus the second.
    """
    for power in range(size.bit_length()):
        if size >> power & 1:
            first = _image(_zeros(power), first)
    return first ^ second


@functools.cache
def _zeros(power: int) -> list[int]:
    """What 2^power bytes of zero make of each bit of a CRC-32, the lowest first."""
    if power == 0:
        return [zlib.crc32(b"\0", 1 << bit) ^ zlib.crc32(b"\0") for bit in range(32)]
    half = _zeros(power - 1)
    return [_image(half, column) for column in half]


def _image(columns: list[int], value: int) -> int:
    image = 0
    for column in columns:
        if value & 1:
            image ^= column
        value >>= 1
    return image


def unpack_segment(segment: bytes, size: int, crc32: int) -> Iterator[bytes]:
    """The text of a segment, in chunks: so many bytes with this CRC-32. Raises `Damaged`."""
    stream = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    unpacked = found = 0
    try:
        for chunk in _inflated(stream, segment):
            unpacked += len(chunk)
            found = zlib.crc32(chunk, found)
            if unpacked > size:
                raise Damaged(f"is damaged: it unpacks to more than the {size:,} bytes {_SAID}")
            yield chunk
    except zlib.error as error:
        raise Damaged(f"is damaged: its deflate data cannot be read ({_reason(error)})") from None
    if stream.eof:
        raise Damaged("has a last deflate block, where readers of the file would stop")
    if not _can_end(stream):
        raise Damaged("ends in the middle of a deflate block")
    if unpacked != size:
        raise Damaged(f"is damaged: it unpacks to {unpacked:,} and not the {size:,} bytes {_SAID}")
    if found != crc32:
        raise Damaged("is damaged: its checksum (CRC-32) is not the one in its manifest")


_SAID = "that its manifest says"


def _can_end(stream: "zlib._Decompress") -> bool:
    """Whether a stream is where a segment may end: at a byte, between two blocks.

    Only there do the bits of `NO_MORE` mean a last block, and no bytes.
    """
    try:
        return not any(_inflated(stream, NO_MORE)) and stream.eof
    except zlib.error:
        return False


def unpack_member(member: bytes) -> Iterator[bytes]:
    """The text of what must be one whole gzip member without optional fields, in chunks.

    Raises `Damaged`.
    """
    if not member.startswith(_GZIP):
        raise Damaged("does not begin as gzip does" if member else "has no bytes")
    if member[3:4] != b"\0":
        raise Damaged("is gzip of another tool, with optional header fields")
    stream = zlib.decompressobj(wbits=31)
    try:
        yield from _inflated(stream, member)
    except zlib.error as error:
        raise Damaged(f"is damaged: {_reason_of_member(error)}") from None
    if not stream.eof:
        raise Damaged("ends in the middle of its gzip member")
    if stream.unused_data:
        raise Damaged("goes on behind the end of its gzip member")


def _inflated(stream: "zlib._Decompress", data: bytes) -> Iterator[bytes]:
    """What comes out of bytes, in chunks; memory does not grow with what they claim to hold."""
    while not stream.eof:
        chunk = stream.decompress(data, _CHUNK_BYTES)
        data = stream.unconsumed_tail
        if chunk:
            yield chunk
        elif not data:
            return


def _reason_of_member(error: zlib.error) -> str:
    text = str(error)
    if "data check" in text:
        return "the checksum (CRC) of its gzip member does not fit"
    if "length check" in text:
        return "the length in its gzip member does not fit"
    return f"its gzip member cannot be read ({_reason(error)})"


def _reason(error: zlib.error) -> str:
    return str(error).rpartition(": ")[2]


def gunzip(chunks: Iterable[bytes], most: int | None = None) -> Iterator[bytes]:
    """Decompress a gzip file of any number of members, bounded in memory.

    Raises `zlib.error` where the bytes are no gzip, fail their checksum or end too early; and,
    before more is unpacked, where more than `most` bytes come out.
    """
    left = math.inf if most is None else most
    member = None
    for piece in _pieces(chunks):
        while piece:
            if member is None:
                member = zlib.decompressobj(wbits=31)
            data = member.decompress(piece, int(min(left + 1, _MOST_AT_ONCE)))
            left -= len(data)
            if left < 0:
                raise zlib.error(f"more than {most:,} bytes come out of it")
            if data:
                yield data
            piece = member.unused_data if member.eof else member.unconsumed_tail
            if member.eof:
                member = None
    if member is not None:
        raise zlib.error("the file ends in the middle of a gzip member")


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Short ones: zlib copies what is left of one at every member's end, and there may be many."""
    for chunk in chunks:
        for start in range(0, len(chunk), _PIECE_BYTES):
            yield chunk[start : start + _PIECE_BYTES]
