"""Whether bytes are what S3 keeps: its own checksums of an object, as it sends them with it.

S3 sends the checksum that an object was written with (asked by ``x-amz-checksum-mode``). CRC32,
SHA-256 and SHA-1 are checked; CRC32C and CRC64NVME are not, for want of a quick way to compute
them, nor are the checksums of objects that were written in parts. On request a plain ETag is
checked too, which is the MD5 of all objects that were written in one piece and not encrypted with
a key of KMS's or of the customer's: that costs more than fetching the bytes, so it is for those
who want proof. Pure functions over headers and bytes.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Protocol

import deflate

_MD5 = re.compile(r"[0-9a-f]{32}")


class Running(Protocol):
    """A checksum of the bytes so far."""

    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes) -> None:
        self._value = deflate.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


class Check:
    """A checksum that S3 keeps, and that of the bytes that came; `name` is what S3 calls it."""

    def __init__(self, name: str, kept: bytes, running: Running) -> None:
        self.name = name
        self._kept = kept
        self._running = running

    def update(self, data: bytes) -> None:
        """Count in the next bytes."""
        self._running.update(data)

    def is_met(self) -> bool:
        """Whether all bytes together have the checksum that S3 keeps."""
        return self._running.digest() == self._kept


def checks_of(headers: Mapping[str, str], etag: str | None) -> list[Check]:
    """What to check of an object that came with these headers (names in lower case).

    `etag` is given where it is to be checked too, if it is an MD5.
    """
    checks = []
    if headers.get("x-amz-checksum-type", "FULL_OBJECT").upper() == "FULL_OBJECT":
        for name, algorithm in (("crc32", _Crc32), ("sha256", hashlib.sha256), ("sha1", _sha1)):
            kept = _digest(headers.get(f"x-amz-checksum-{name}"))
            if kept is not None:
                checks.append(Check(name.upper(), kept, algorithm()))
    if etag is not None and _is_md5(etag, headers):
        checks.append(Check("MD5", bytes.fromhex(etag), hashlib.md5(usedforsecurity=False)))
    return checks


def _sha1() -> Running:
    return hashlib.sha1(usedforsecurity=False)


def _digest(base64_text: str | None) -> bytes | None:
    """None for what is no plain digest, such as one of parts (with a dash and their number)."""
    try:
        return base64.b64decode(base64_text, validate=True) if base64_text else None
    except ValueError:
        return None


def _is_md5(etag: str, headers: Mapping[str, str]) -> bool:
    encrypted_elsewhere = (
        headers.get("x-amz-server-side-encryption", "").startswith("aws:kms")
        or "x-amz-server-side-encryption-customer-algorithm" in headers
    )
    return _MD5.fullmatch(etag) is not None and not encrypted_elsewhere
