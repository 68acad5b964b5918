"""Whether a body comes as it is stored: some servers compress or inflate what they send.

Google's Cloud Storage inflates what was stored with Content-Encoding gzip, and then knows no
ranges, unless it is asked for gzip; Cloudflare compresses what was not, unless it is not. So a body
is asked for as gzip first, and as itself where something else came than is stored. Whatever comes
is never unpacked on the way: an archive keeps the bytes that are stored. Pure functions.
"""

import zlib
from collections.abc import Mapping

GZIP, IDENTITY = "gzip", "identity"
"""Values of Accept-Encoding."""

_LONGEST_ERROR_BYTES = 1 << 16


def other(accepted: str) -> str:
    """What to ask for next, where this brought something else than is stored."""
    return IDENTITY if accepted == GZIP else GZIP


def is_encoded(headers: Mapping[str, str]) -> bool:
    """Whether an answer's headers (names in lower case) speak of gzip or the like at all."""
    encoding = headers.get("content-encoding", "").lower()
    stored = headers.get("x-goog-stored-content-encoding", IDENTITY).lower()
    return encoding not in ("", IDENTITY, "aws-chunked") or stored != IDENTITY


def is_recoded(headers: Mapping[str, str]) -> bool:
    """Whether the headers of an answer say that its body was made on the way.

    Who compresses an answer cannot know its length before, and must weaken its ETag.
    """
    if "content-encoding" in headers:
        is_weak = headers.get("etag", "").startswith("W/")
        return is_encoded(headers) and (is_weak or "content-length" not in headers)
    return is_encoded(headers)  # stored as gzip, and not sent as that


def plain(document: bytes, headers: Mapping[str, str]) -> bytes:
    """The beginning of an error document, unpacked where it came as gzip."""
    if headers.get("content-encoding", "").lower() != GZIP:
        return document[:_LONGEST_ERROR_BYTES]
    try:
        return zlib.decompressobj(31).decompress(document, _LONGEST_ERROR_BYTES)
    except zlib.error:
        return b""


SENT_OTHERWISE = (
    "the store, or a proxy on the way, sends it in another form than it keeps it (inflated or "
    "compressed), however it is asked. Store it again without Content-Encoding, or with "
    "Cache-Control no-transform"
)
"""The end of a sentence about a body that is not what is stored."""
