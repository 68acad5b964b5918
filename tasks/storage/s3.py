"""S3 as a storage root, through boto3: list, look at, read and write objects below a prefix.

Credentials, region and endpoint come from where every AWS tool takes them (AWS_PROFILE,
AWS_REGION, AWS_ENDPOINT_URL_S3). Each process makes its own client, because connections do not
survive a fork. Uploads carry a SHA-256 that S3 checks on arrival and keeps. Reading snapshots by
the thousand is not done here but in `tasks.storage.bulk`.
"""

import contextlib
import hashlib
import mimetypes
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore import exceptions as aws

from tasks.problem import Problem
from tasks.storage import Overtaken, StoredObject, overtaken
from tasks.storage.address import BulkSource, Credentials, s3_place
from tasks.storage.checksum import PART_BYTES, base64_of, combine, parts_of
from tasks.storage.refusal import remedy
from tasks.storage.s3_attempts import BODY_FAILS, Attempts, Call
from tasks.storage.s3_body import must_be_the_range
from tasks.storage.s3_clients import (
    attempts_of,
    client_of_process,
    hasty_client,
    impatient_client,
)
from tasks.storage.s3_credentials import current_credentials, making_clients, renew_credentials
from tasks.storage.s3_errors import code_of, explained
from tasks.storage.s3_listing import all_objects, no_listing
from tasks.storage.s3_regions import is_sure_of
from tasks.storage.s3_resolution import resolved
from tasks.storage.s3_upload import UploadInParts

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

    def check_readable(self) -> None:
        with explained(f"{self.url} cannot be listed"):
            impatient_client(os.getpid()).list_objects_v2(
                Bucket=self.bucket, Prefix=self.prefix, MaxKeys=1
            )

    def check_writable(self) -> None:
        """Asks to complete an upload that there is not: that needs the right to write.

        It leaves nothing behind, at whatever moment it is broken off.
        """
        client = impatient_client(os.getpid())
        with (
            explained(f"{self.url} cannot be written"),
            contextlib.suppress(client.exceptions.NoSuchUpload),
        ):
            client.complete_multipart_upload(
                Bucket=self.bucket,
                Key=self.key("_probe/write"),
                UploadId="of-no-upload",
                MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": "none"}]},
            )

    def remove_leftovers(self, prefix: str) -> None:
        """A write to S3 leaves nothing that would have a name."""

    def make_bucket(self) -> None:
        """Create the bucket; one that is there already, and ours, stays as it is."""
        with explained(f"The bucket {self.bucket} cannot be made"):
            self.client.create_bucket(Bucket=self.bucket)

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        yield from self._list(Prefix=self.key(prefix))

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        return self.objects(prefix)

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

    def _list(self, **where: Any) -> Iterator[StoredObject]:
        def ask(token: str) -> Any:
            return self._page(**where, **({"ContinuationToken": token} if token else {}))

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
        found = next(self._list(**where, MaxKeys=1), None)
        if found is not None and not (found.key > after and found.key.startswith(prefix)):
            raise no_listing(self.url, "the answer is to another question")
        return found.key if found else None

    def find(self, key: str) -> StoredObject | None:
        with explained(f"{self.address_of(key)} cannot be looked at"):
            try:
                head = self.client.head_object(Bucket=self.bucket, Key=self.key(key))
            except aws.ClientError as error:
                if code_of(error) in ("404", "NoSuchKey", "NotFound"):
                    return None
                raise
            etag, written = head["ETag"].strip('"'), head["LastModified"].timestamp()
            return StoredObject(key, head["ContentLength"], etag, written)

    def stored_sha256(self, key: str, /) -> str | None:
        with explained(f"{self.address_of(key)} cannot be looked at"):
            head = self.client.head_object(
                Bucket=self.bucket, Key=self.key(key), ChecksumMode="ENABLED"
            )
        return head.get("ChecksumSHA256")

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
        answer = self.client.get_object(Bucket=self.bucket, Key=self.key(key), **more)
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
                    self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix, MaxKeys=1)
            way = resolved(self.client, self.bucket)
        return BulkSource(
            self.url,
            prefix=self.prefix,
            bucket_url=way.bucket_url,
            region=way.region,
            proxy=way.proxy,
            ca_bundle=way.ca_bundle,
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
        self._put(key, data, expected_etag)

    def write_if(self, key: str, data: bytes, expected_etag: str) -> str | None:
        """Write as `write` does; returns the new ETag, or None if somebody else was first."""
        try:
            return self._put(key, data, expected_etag)
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

    def _put(self, key: str, data: bytes, expected_etag: str | None) -> str:
        with explained(f"{self.address_of(key)} cannot be written"):
            try:
                answer = self.client.put_object(
                    Bucket=self.bucket,
                    Key=self.key(key),
                    Body=data,
                    ContentType=mimetypes.guess_type(key)[0] or "binary/octet-stream",
                    ChecksumSHA256=base64_of(hashlib.sha256(data).digest()),
                    **_condition(expected_etag),
                )
                return answer["ETag"].strip('"')
            except aws.ClientError as error:
                if not _is_refused_condition(error):
                    raise
        # The first of two tries may have arrived although its answer did not.
        there = self.read_with_etag(key)
        if there is None or there[0] != data:
            raise overtaken(self.address_of(key))
        return there[1]

    def write_file(self, key: str, path: Path, expected_etag: str | None = None) -> None:
        """Upload, in parts where it is long, and confirm size and checksum with S3.

        The upload's id is kept in a file beside `path` until the end, so that the parts of an
        upload that was killed are given up (they cost money) by the next try.
        """
        size = path.stat().st_size
        with explained(f"{self.address_of(key)} cannot be written"):
            try:
                if size <= PART_BYTES:
                    data = path.read_bytes()
                    sha256 = base64_of(hashlib.sha256(data).digest())
                    self.client.put_object(
                        Bucket=self.bucket,
                        Key=self.key(key),
                        Body=data,
                        ChecksumSHA256=sha256,
                        **_condition(expected_etag),
                    )
                else:
                    upload = UploadInParts(self.client, self.bucket, self.key(key), path)
                    sha256 = upload.run(_condition(expected_etag))
            except aws.ClientError as error:
                is_unknown = code_of(error) == "NoSuchUpload"  # completed by a try without answer?
                if not (is_unknown or _is_refused_condition(error)):
                    raise
                if not self._holds(key, path):
                    if is_unknown:
                        raise
                    raise overtaken(self.address_of(key)) from None
                return
        arrived = self.find(key)
        kept = self.stored_sha256(key) if arrived else None
        if arrived is None or arrived.size != size or kept not in (None, sha256):
            raise Problem(
                f"{self.address_of(key)} did not arrive as it was sent ({size:,} bytes). It stays "
                f"in {path}; run it again, or make sync, to send it again."
            )

    def _holds(self, key: str, path: Path) -> bool:
        """Whether the object is what the file is: written by another, or by a lost first try."""
        arrived = self.find(key)
        if arrived is None or arrived.size != path.stat().st_size:
            return False
        digests = [hashlib.sha256(part).digest() for part in parts_of(path)]
        sha256 = base64_of(digests[0]) if arrived.size <= PART_BYTES else combine(digests)
        return self.stored_sha256(key) == sha256


def _condition(expected_etag: str | None) -> dict[str, Any]:
    """What has S3 write only if an object is as expected."""
    if expected_etag is None:
        return {}
    return {"IfMatch": f'"{expected_etag}"'} if expected_etag else {"IfNoneMatch": "*"}


def _is_refused_condition(error: aws.ClientError) -> bool:
    """Whether the object was not as expected, or is being written by somebody else right now."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status == 412 or code_of(error) in ("ConditionalRequestConflict", "NoSuchKey")
