"""gzip: several members make one file, and equal input makes equal bytes.

Each call of `gzip_member` makes one complete member with no optional header field and no time in
it, so that members may be written one after the other and every reader takes them as one file.
libdeflate is fast and gives the same bytes on every processor, which zlib's rivals do not promise.
"""

import math
import zlib
from collections.abc import Iterable, Iterator

import deflate

_HEADER_BYTES, _TRAILER_BYTES = 10, 8
_PIECE_BYTES = 1 << 16
_MOST_AT_ONCE = 1 << 22

LEVELS = range(1, 13)
"""libdeflate's."""


def gzip_member(data: bytes, level: int) -> bytes:
    """`data` as one gzip member; `level` is 1 (fast) to 12 (small)."""
    return bytes(deflate.gzip_compress(data, level))


def checked_member(member: bytes, size: int, adler32: int) -> bytes:
    """A gzip member that somebody else's code made, with its CRC put in, once it has been read.

    Raises `RuntimeError` unless libdeflate reads it and gets so many bytes with this Adler-32.
    """
    try:
        text = deflate.deflate_decompress(memoryview(member)[_HEADER_BYTES:-_TRAILER_BYTES], size)
    except (ValueError, deflate.DeflateError) as error:
        raise RuntimeError(f"a gzip member that was just made cannot be read ({error})") from None
    if (len(text), deflate.adler32(text)) != (size, adler32):
        raise RuntimeError("a gzip member that was just made does not hold what went into it")
    trailer = deflate.crc32(text).to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")
    return member[:-_TRAILER_BYTES] + trailer


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
