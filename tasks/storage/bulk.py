"""Read objects by the thousand, many at once: what a converter process does all day.

S3 objects come through libcurl (`tasks.storage.gets`), at less than a tenth of boto3's CPU;
files are just read. Each read is held to the listing: an object that has been replaced or removed
since is a `Problem`, never other bytes. Each thread that reads has connections of its own, and the
process must not fork later. Credentials come from the parent process, fresh with every job, so that
every way boto3 knows to get them works here too; when they expire in the middle of a job,
`CredentialsExpired` tells.
"""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tasks import open_files
from tasks.storage import StoredObject
from tasks.storage.address import BulkSource, Credentials
from tasks.storage.folder import open_file
from tasks.storage.listed import Unreadable, changed, gone
from tasks.storage.patience import Patience
from tasks.storage.traffic import Traffic

if TYPE_CHECKING:
    from tasks.storage.gets import Gets

_CHUNK_BYTES = 1 << 20


class BulkReader:
    """Reads the bodies of listed objects, `at_once` at a time, for all threads together."""

    def __init__(
        self,
        source: BulkSource,
        at_once: int,
        patience: Patience | None = None,
        check_etag: bool = False,
    ) -> None:
        """`check_etag` computes the MD5 of every body that has a known one: twice the CPU.

        Each thread has the `patience` for itself, with all of its retries.
        """
        self._folder = source.folder
        # Each of two threads may keep as many connections open as there were at once.
        at_once = open_files.fitting(at_once, files_each=2)
        under_way = threading.Semaphore(at_once)
        self._arguments = (source, at_once, patience or Patience(), check_etag, under_way)
        self._of_thread = threading.local()

    def read(self, objects: list[StoredObject], credentials: Credentials | None) -> list[bytes]:
        """The bodies of the objects, in the same order; raises `Problem` as described above.

        Without credentials an S3 object is asked for as anybody may.
        """
        if self._folder is None:
            return self._gets.read(objects, credentials)
        bodies = []
        for one in objects:
            with _opened(self._folder, one) as file:
                bodies.append(file.read())
        return bodies

    def stream(self, stored: StoredObject, credentials: Credentials | None) -> Iterator[bytes]:
        """One body in chunks, for those too large for memory."""
        if self._folder is None:
            yield from self._gets.stream(stored, credentials)
            return
        with _opened(self._folder, stored) as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk

    def traffic(self) -> Traffic:
        """What this thread's GETs came to since it asked last; nothing for a folder."""
        return Traffic() if self._folder is not None else self._gets.traffic()

    @property
    def _gets(self) -> "Gets":
        if not hasattr(self._of_thread, "gets"):
            from tasks.storage.gets import Gets  # libcurl takes a while to load; folders need none

            self._of_thread.gets = Gets(*self._arguments)
        gets: Gets = self._of_thread.gets
        return gets


@contextlib.contextmanager
def _opened(folder: Path, stored: StoredObject) -> Iterator[BinaryIO]:
    """A file that is what was listed, before it is read and afterwards."""
    path = folder / stored.key
    try:
        file = open_file(path)
    except FileNotFoundError:
        raise gone(str(path)) from None
    except OSError as error:
        raise Unreadable(
            f"{path} cannot be read: {error.strerror}. Mend that and run it again."
        ) from None
    with file:
        _must_be_as_listed(path, stored, file)
        yield file
        _must_be_as_listed(path, stored, file)


def _must_be_as_listed(path: Path, stored: StoredObject, file: BinaryIO) -> None:
    now = os.fstat(file.fileno())
    if (now.st_size, str(now.st_mtime_ns)) != (stored.size, stored.etag):
        raise changed(str(path))
