"""SHA-256 of a file: of the whole, and of its parts as S3 adds them up for a multipart upload."""

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

from tasks.storage import FileChecksum

PART_BYTES = 8 * 1024 * 1024
"""Files longer than this go up in parts of this size. S3 takes 10,000 parts: 80 GB."""


class RunningChecksum:
    """SHA-256 of bytes as they come, whole and by parts of `PART_BYTES`."""

    def __init__(self) -> None:
        self._size = 0
        self._whole = hashlib.sha256()
        self._part = hashlib.sha256()
        self._part_digests: list[bytes] = []

    def update(self, data: bytes) -> None:
        view = memoryview(data)
        self._whole.update(view)
        while len(view):
            if self._size and self._size % PART_BYTES == 0:
                self._end_part()
            room = PART_BYTES - self._size % PART_BYTES
            self._part.update(view[:room])
            self._size += len(view[:room])
            view = view[room:]

    def result(self) -> FileChecksum:
        digests = [*self._part_digests, self._part.digest()]
        combined = base64_of(digests[0]) if len(digests) == 1 else combine(digests)
        return FileChecksum(self._size, self._whole.hexdigest(), combined)

    def _end_part(self) -> None:
        self._part_digests.append(self._part.digest())
        self._part = hashlib.sha256()


def combine(part_digests: list[bytes]) -> str:
    """S3's checksum of a multipart upload: the digest of the digests, and how many there are."""
    digest = hashlib.sha256(b"".join(part_digests)).digest()
    return f"{base64_of(digest)}-{len(part_digests)}"


def base64_of(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def parts_of(path: Path) -> Iterator[bytes]:
    """A file's bytes in parts of `PART_BYTES`; one empty part for an empty file."""
    with path.open("rb") as file:
        yield file.read(PART_BYTES)
        while part := file.read(PART_BYTES):
            yield part
