"""S3 as a storage root, through boto3: list, look at, read and write objects below a prefix.

Credentials, region and endpoint come from where every AWS tool takes them (AWS_PROFILE,
AWS_REGION, AWS_ENDPOINT_URL_S3). Each process makes its own client, because connections do not
survive a fork. Writing is done in `tasks.storage.s3_writing`, and reading snapshots by the thousand
in `tasks.storage.bulk`.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore import exceptions as aws

from tasks.problem import Problem
from tasks.settings import load
from tasks.storage import Overtaken, StoredObject
from tasks.storage import dialect as dialects
from tasks.storage.address import BulkSource, Credentials, s3_place
from tasks.storage.dialect import Feature, is_unclear
from tasks.storage.encodings import GZIP, IDENTITY, SENT_OTHERWISE, is_recoded
from tasks.storage.refusal import remedy
from tasks.storage.s3_attempts import BODY_FAILS, Attempts, Call, GivenUp
from tasks.storage.s3_body import must_be_the_range
from tasks.storage.s3_clients import (
    attempts_of,
    client_of_process,
    hasty_client,
    impatient_client,
)
from tasks.storage.s3_credentials import current_credentials, making_clients, renew_credentials
from tasks.storage.s3_errors import answer_of, code_of, explained
from tasks.storage.s3_listing import all_objects, no_listing
from tasks.storage.s3_regions import is_sure_of
from tasks.storage.s3_resolution import resolved
from tasks.storage.s3_writing import Writer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["S3Prefix", "explained", "hasty_client"]

_CHUNK_BYTES = 1 << 20
_SURVEYED_AT_ONCE = 100
"""Keys of a page: most pages of a survey are left at the first or second one."""


class S3Prefix:
    """Objects below ``s3://bucket/prefix``; see `tasks.storage.Root` for the verbs."""

    keeps_checksums = True
    lists_at_once = 16

    def __init__(self, url: str, make_client: "Callable[[int], S3Client] | None" = None) -> None:
        """`make_client` is another client than `client_of_process`, such as `hasty_client`."""
        self._make_client = make_client
        self._place = s3_place(url)
        self.url = self._place.url
        self.bucket, self.prefix = self._place.bucket, self._place.prefix

    @property
    def client(self) -> "S3Client":
        process = os.getpid()
        with making_clients.setdefault(process, threading.Lock()):
            return (self._make_client or client_of_process)(process)

    def key(self, key: str) -> str:
        return self.prefix + key

    def address_of(self, key: str) -> str:
        return self._place.address_of(key)

    @property
    def dialect(self) -> dialects.Dialect:
        """What is known of the server."""
        return dialects.of(self.client.meta.endpoint_url)

    def check_readable(self) -> None:
        client = impatient_client(os.getpid())
        with explained(f"{self.url} cannot be listed"):
            self._at_least_one(client.list_objects_v2, Bucket=self.bucket, Prefix=self.prefix)

    def check_writable(self) -> None:
        with explained(f"{self.url} cannot be written"):
            Writer(self).check()

    def remove_leftovers(self, prefix: str) -> None:
        """A write to S3 leaves nothing that would have a name."""

    def make_bucket(self) -> None:
        """Create the bucket; one that is there already, and ours, stays as it is."""
        with explained(f"The bucket {self.bucket} cannot be made"):
            self.client.create_bucket(Bucket=self.bucket)

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        yield from self._list(Prefix=self.key(prefix))

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        found = list(self.objects(prefix))
        if any(one.archived for one in found):
            found = self._with_restored(prefix, found)
        return iter(found)

    def _with_restored(self, prefix: str, found: list[StoredObject]) -> list[StoredObject]:
        """The same as S3 has them by now: of a restored object a plain listing does not say it.

        A store that tells it in no listing is asked for one object, and if that is restored, for
        each.
        """
        with contextlib.suppress(Problem):  # of a store that does not know what it is asked for
            told = self._list(Prefix=self.key(prefix), OptionalObjectAttributes=["RestoreStatus"])
            now = {one.key: one for one in told}
            if any(one.archived != now.get(one.key, one).archived for one in found):
                return [now.get(one.key, one) for one in found]
        first = next(one for one in found if one.archived)
        if self._restored(first) == first:
            return found
        return [self._restored(one) if one.archived else one for one in found]

    def _restored(self, stored: StoredObject) -> StoredObject:
        with explained(f"{self.url}/{stored.key} cannot be looked at"):
            head = self.client.head_object(Bucket=self.bucket, Key=self.key(stored.key))
        told = head.get("Restore", "")
        if 'ongoing-request="false"' in told:
            return stored._replace(archived="")
        being = ", being restored" if "ongoing-request" in told else ""
        return stored._replace(archived=f"{stored.archived.partition(',')[0]}{being}")

    def survey(self, skip: Callable[[str], str]) -> Iterator[StoredObject]:
        where: dict[str, Any] = {"Prefix": self.prefix, "MaxKeys": _SURVEYED_AT_ONCE}
        while True:
            for one in self._list(**where):
                if reached := skip(one.key):
                    where["StartAfter"] = self.key(max(reached, one.key))
                    break
                yield one
            else:
                return

    def is_same(self, key: str, other: str) -> bool:
        return key == other

    def top_objects(self) -> Iterator[StoredObject]:
        yield from self._list(Prefix=self.prefix, Delimiter="/")

    def _list(self, page: Callable[..., Any] | None = None, **where: Any) -> Iterator[StoredObject]:
        """The objects of all pages, each of which is asked for with `page`."""
        page = page or self._page

        def ask(token: str) -> Any:
            return page(**where, **({"ContinuationToken": token} if token else {}))

        with explained(f"{self.url} cannot be listed"):
            yield from all_objects(ask, self.prefix, self.url)

    def _page(self, **where: Any) -> Any:
        """An answer that tells whether there is more, and where: an empty one is no listing."""
        page = self.client.list_objects_v2(Bucket=self.bucket, **where)
        if page.get("IsTruncated") is not False and not page.get("NextContinuationToken"):
            raise no_listing(self.url, "the answer is no listing")
        return page

    def first_key(self, prefix: str, after: str) -> str | None:
        where = {"Prefix": self.key(prefix), "StartAfter": self.key(after)}
        found = next(self._list(self._first_page, **where), None)
        if found is not None and not (found.key > after and found.key.startswith(prefix)):
            raise no_listing(self.url, "the answer is to another question")
        return found.key if found else None

    def _first_page(self, **where: Any) -> Any:
        return self._at_least_one(self._page, **where)

    def _at_least_one(self, ask: Callable[..., Any], **where: Any) -> Any:
        """A page of one object, or a usual one where the server cannot list just one."""
        if self.dialect.lacks(Feature.MAX_KEYS):
            return ask(**where)
        try:
            return ask(**where, MaxKeys=1)
        except (aws.ClientError, GivenUp) as error:
            status, code = answer_of(error)
            if self.dialect.is_aws or not is_unclear(status, code):
                raise
        page = ask(**where)
        self.dialect.missed(Feature.MAX_KEYS, f"it answers {status} {code}".rstrip())
        return page

    def find(self, key: str) -> StoredObject | None:
        with explained(f"{self.address_of(key)} cannot be looked at"):
            try:
                head = self._head(key)
            except aws.ClientError as error:
                if code_of(error) in ("404", "NoSuchKey", "NotFound"):
                    return None
                raise
            etag, written = head["ETag"].strip('"'), head["LastModified"].timestamp()
            return StoredObject(key, head["ContentLength"], etag, written)

    def _head(self, key: str, **more: Any) -> Any:
        """What a HEAD tells; Google names the length as it is stored in a header of its own."""
        for encoding in (IDENTITY, GZIP):
            with self._attempts.accepting(encoding):
                head = self.client.head_object(Bucket=self.bucket, Key=self.key(key), **more)
            stored = _headers_of(head).get("x-goog-stored-content-length", "")
            if stored.isdecimal():
                return {**head, "ContentLength": int(stored)}
            if "ContentLength" in head:
                return head
        raise GivenUp(sentence="the store does not tell how long it is.", status=200)

    def stored_sha256(self, key: str, /) -> str | None:
        with explained(f"{self.address_of(key)} cannot be looked at"):
            head = self._head(key, ChecksumMode="ENABLED")
        kept: str | None = head.get("ChecksumSHA256")
        return kept

    def read(self, key: str, offset: int = 0, size: int | None = None) -> bytes:
        if size == 0:
            return b""
        last = "" if size is None else offset + size - 1
        part: dict[str, Any] = {"Range": f"bytes={offset}-{last}"} if offset or size else {}
        with explained(f"{self.address_of(key)} cannot be read"):
            return self._whole(key, **part)[0]

    def stream(self, key: str) -> Iterator[bytes]:
        """A connection that breaks costs nothing of what has come: it goes on from there."""
        offset, since = 0, -1
        version: dict[str, Any] = {}
        with explained(f"{self.address_of(key)} cannot be read"):
            while True:
                if offset != since:  # something came: that has all the patience again
                    reading, since = Call("GET", self.key(key), time.monotonic()), offset
                try:
                    # Always by range, for the answer to that tells how long the object is.
                    answer = self._get(key, Range=f"bytes={offset}-", **version)
                    if not offset and answer["ContentLength"] <= 1 and self._is_empty(key):
                        answer["Body"].close()
                        return
                    version = {"IfMatch": answer["ETag"]}
                    for chunk in answer["Body"].iter_chunks(_CHUNK_BYTES):
                        offset += len(chunk)
                        yield chunk
                    return
                except BODY_FAILS as error:
                    if isinstance(error, aws.FlexibleChecksumError):
                        raise  # too late: the bytes have been given away
                    time.sleep(self._attempts.pause_after_body(reading, error))
                except aws.ClientError as error:
                    if code_of(error) != "InvalidRange" or offset:
                        raise
                    return  # there is nothing in it

    def _is_empty(self, key: str) -> bool:
        """Whether there is nothing in an object, of which one server yet sends one byte."""
        found = self.find(key)
        return found is not None and found.size == 0

    def _whole(self, key: str, **part: Any) -> tuple[bytes, str]:
        """The bytes of one answer, never of two, so that S3's checksum holds; and the ETag."""
        reading = Call("GET", self.key(key), time.monotonic())
        while True:
            try:
                answer = self._get(key, **part)
                return answer["Body"].read(), answer["ETag"].strip('"')
            except BODY_FAILS as error:
                time.sleep(self._attempts.pause_after_body(reading, error))

    def _get(self, key: str, **more: Any) -> Any:
        """An object or a range of it; raises where the answer is other than the range."""
        for encoding in (GZIP, IDENTITY):
            with self._attempts.accepting(encoding):
                answer = self.client.get_object(Bucket=self.bucket, Key=self.key(key), **more)
            if not is_recoded(_headers_of(answer)):
                break
            answer["Body"].close()
        else:
            raise GivenUp(sentence=f"{SENT_OTHERWISE}.", status=200)
        if "Range" in more:
            try:
                must_be_the_range(answer, more["Range"])
            except aws.IncompleteReadError:
                answer["Body"].close()
                raise
        return answer

    @property
    def _attempts(self) -> Attempts:
        return attempts_of(self.client)

    def bulk_source(self) -> BulkSource:
        with explained(f"{self.url} cannot be read"):
            if not is_sure_of(self.bucket):
                with contextlib.suppress(aws.ClientError):  # its region is told to everybody
                    self._at_least_one(
                        self.client.list_objects_v2, Bucket=self.bucket, Prefix=self.prefix
                    )
            way = resolved(self.client, self.bucket)
        return BulkSource(
            self.url,
            prefix=self.prefix,
            bucket_url=way.bucket_url,
            region=way.region,
            proxy=way.proxy,
            ca_bundle=way.ca_bundle,
            endpoint=self.client.meta.endpoint_url,
            asks_for_checksums=not self.dialect.lacks(Feature.CHECKSUMS),
            headers=load().s3_parameters.of_get,
        )

    def credentials(self, expired: Credentials | None = None, /) -> Credentials | None:
        with explained(f"{self.url} cannot be read"):
            if expired is not None:
                renew_credentials(expired.token or "")
            now = current_credentials()
            if now is None:
                raise aws.NoCredentialsError
        return Credentials(now.access_key or "", now.secret_key or "", now.token)

    def write(self, key: str, data: bytes, expected_etag: str | None = None) -> None:
        with explained(f"{self.address_of(key)} cannot be written"):
            Writer(self).put(key, data, expected_etag)

    def write_file(self, key: str, path: Path, expected_etag: str | None = None) -> None:
        with explained(f"{self.address_of(key)} cannot be written"):
            Writer(self).put_file(key, path, expected_etag)

    def write_if(self, key: str, data: bytes, expected_etag: str) -> str | None:
        """Write as `write` does; returns the new ETag, or None if somebody else was first."""
        with explained(f"{self.address_of(key)} cannot be written"):
            try:
                return Writer(self).put(key, data, expected_etag)
            except Overtaken:
                return None

    def read_with_etag(self, key: str) -> tuple[bytes, str] | None:
        """The bytes of a small object and their ETag; None where there is no object."""
        with explained(f"{self.address_of(key)} cannot be read"):
            try:
                return self._whole(key)
            except self.client.exceptions.NoSuchKey:
                return None

    def remove(self, keys: Iterable[str]) -> None:
        """Remove objects; one that is not there is no error."""
        names: list[Any] = [{"Key": self.key(key)} for key in keys]
        for start in range(0, len(names), 1000):  # S3 takes no more in one request
            with explained(f"Objects below {self.url} cannot be removed"):
                answer = self.client.delete_objects(
                    Bucket=self.bucket,
                    Delete={"Objects": names[start : start + 1000], "Quiet": True},
                )
            for error in answer.get("Errors", []):
                why = remedy(error.get("Code", ""), error.get("Message", ""))
                raise Problem(f"s3://{self.bucket}/{error.get('Key')} cannot be removed: {why}.")


def _headers_of(answer: Any) -> dict[str, str]:
    """By their names in lower case."""
    headers: dict[str, str] = answer["ResponseMetadata"].get("HTTPHeaders", {})
    return headers
