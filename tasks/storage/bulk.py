"""Read objects by the thousand, many at once: what a converter process does all day.

S3 objects come through obstore, at a tenth of boto3's CPU a request; files are just read. Each
read is held to the listing: an object that has been replaced or removed since is a `Problem`,
never other bytes. obstore must not be used in a process that forks later, so this module is for
converter processes only, which do not fork. Credentials come from the parent process, fresh with
every job, so that every way boto3 knows to get them works here too.
"""

import asyncio
import contextlib
import datetime as dt
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import obstore
from obstore import exceptions as failures
from obstore.store import S3Store

from tasks.problem import Problem
from tasks.storage import StoredObject
from tasks.storage.address import BulkSource, Credentials
from tasks.storage.refusal import remedy

if TYPE_CHECKING:
    from obstore.store import S3Credential

_CHUNK_BYTES = 1 << 20
_FAILURES = (failures.BaseError, FileNotFoundError)
"""What obstore raises: for a missing object Python's own error, for the rest its own."""

_ERROR_CODE = re.compile(r"<Code>(\w+)</Code>")
_ERROR_MESSAGE = re.compile(r"<Message>([^<]*)</Message>")
_CREDENTIALS_LAST = dt.timedelta(minutes=10)
_RETRY: Any = {
    "max_retries": 10,
    "retry_timeout": dt.timedelta(minutes=3),
    "backoff": {
        "base": 2,
        "init_backoff": dt.timedelta(milliseconds=100),
        "max_backoff": dt.timedelta(seconds=20),
    },
}


class BulkReader:
    """Reads the bodies of listed objects, `at_once` at a time."""

    def __init__(self, source: BulkSource, at_once: int) -> None:
        self._source = source
        self._at_once = at_once
        self._loop = asyncio.new_event_loop()
        self._credentials: Credentials | None = None
        self._store = None if source.folder else self._open_store()

    def read(self, objects: list[StoredObject], credentials: Credentials | None) -> list[bytes]:
        """The bodies of the objects, in the same order; raises `Problem` as described above."""
        if self._source.folder:
            return [self._read_file(one) for one in objects]
        self._credentials = credentials
        return self._loop.run_until_complete(self._read_objects(objects))

    def stream(self, stored: StoredObject, credentials: Credentials | None) -> Iterator[bytes]:
        """One body in chunks, for those too large for memory."""
        if self._source.folder:
            with self._opened(stored) as file:
                while chunk := file.read(_CHUNK_BYTES):
                    yield chunk
            return
        self._credentials = credentials
        assert self._store is not None
        try:
            answer = obstore.get(
                self._store, self._source.prefix + stored.key, options={"if_match": stored.etag}
            )
            for chunk in answer.stream(min_chunk_size=_CHUNK_BYTES):
                yield bytes(chunk)
        except _FAILURES as error:
            raise self._problem(stored, error) from None

    def _open_store(self) -> S3Store:
        source = self._source
        options: dict[str, Any] = {}
        if source.endpoint:
            options = {"endpoint": source.endpoint, "virtual_hosted_style_request": False}
        return S3Store(
            source.bucket,
            region=source.region,
            credential_provider=self._provide_credentials,
            client_options={
                "allow_http": bool(source.endpoint and source.endpoint.startswith("http://")),
                "connect_timeout": dt.timedelta(seconds=10),
                "timeout": dt.timedelta(minutes=2),
            },
            retry_config=_RETRY,
            **options,
        )

    def _provide_credentials(self) -> "S3Credential":
        now = self._credentials
        assert now is not None
        lasts_until = dt.datetime.now(dt.UTC) + _CREDENTIALS_LAST if now.token else None
        return {
            "access_key_id": now.access_key,
            "secret_access_key": now.secret_key,
            "token": now.token,
            "expires_at": lasts_until,
        }

    async def _read_objects(self, objects: list[StoredObject]) -> list[bytes]:
        turn = asyncio.Semaphore(self._at_once)
        store = self._store
        assert store is not None

        async def read_one(stored: StoredObject) -> bytes:
            async with turn:
                try:
                    answer = await obstore.get_async(
                        store,
                        self._source.prefix + stored.key,
                        options={"if_match": stored.etag},
                    )
                    body = bytes(await answer.bytes_async())
                except _FAILURES as error:
                    raise self._problem(stored, error) from None
            if len(body) != stored.size:
                raise self._changed(stored)
            return body

        bodies = await asyncio.gather(*map(read_one, objects), return_exceptions=True)
        for body in bodies:
            if isinstance(body, BaseException):
                raise body
        return [body for body in bodies if isinstance(body, bytes)]

    def _read_file(self, stored: StoredObject) -> bytes:
        with self._opened(stored) as file:
            return file.read()

    @contextlib.contextmanager
    def _opened(self, stored: StoredObject) -> Iterator[BinaryIO]:
        """A file that is what was listed, before it is read and afterwards."""
        assert self._source.folder is not None
        path = self._source.folder / stored.key
        try:
            file = path.open("rb")
        except FileNotFoundError:
            raise self._gone(stored) from None
        except OSError as error:
            raise Problem(
                f"{path} cannot be read: {error.strerror}. Mend that and run it again."
            ) from None
        with file:
            self._must_be_as_listed(stored, file)
            yield file
            self._must_be_as_listed(stored, file)

    def _must_be_as_listed(self, stored: StoredObject, file: BinaryIO) -> None:
        now = os.fstat(file.fileno())
        if (now.st_size, str(now.st_mtime_ns)) != (stored.size, stored.etag):
            raise self._changed(stored)

    def _gone(self, stored: StoredObject) -> Problem:
        return Problem(
            f"{self._source.url}/{stored.key} was listed but is gone now. Nothing was written for "
            "its week; run it again, and the week is listed afresh."
        )

    def _changed(self, stored: StoredObject) -> Problem:
        return Problem(
            f"{self._source.url}/{stored.key} was replaced while its week was converted. Nothing "
            "was written for its week; run it again, and the week is listed afresh."
        )

    def _problem(self, stored: StoredObject, error: Exception) -> Problem:
        if isinstance(error, FileNotFoundError) and "<Code>NoSuchBucket<" not in str(error):
            return self._gone(stored)
        if isinstance(error, failures.PreconditionError):
            return self._changed(stored)
        where = f"{self._source.url}/{stored.key} cannot be read"
        text = str(error)
        code, message = _ERROR_CODE.search(text), _ERROR_MESSAGE.search(text)
        if code:
            return Problem(f"{where}: {remedy(code[1], message[1] if message else '')}.")
        if "redirect without LOCATION" in text:
            return Problem(f"{where}: {remedy('PermanentRedirect', '')}.")
        if isinstance(error, failures.PermissionDeniedError | failures.UnauthenticatedError):
            return Problem(f"{where}: {remedy('AccessDenied', '')}.")
        first_line = text.strip().partition("\n")[0]
        return Problem(f"{where}, after several tries: {first_line}. Run it again later.")
