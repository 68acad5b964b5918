"""Writes below an S3 prefix: whole or not at all, on condition, and confirmed by checksum.

What a server does not know (`tasks.storage.dialect`) is done another way: without checksums what
was sent is read back; without conditional writes an object is looked at just before. A server that
only ignores a condition is found out by asking it to write the same bytes again on a condition that
cannot hold. Raises what boto3 does, for `explained` to tell; knows nothing of what objects hold.
"""

import contextlib
import hashlib
import mimetypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from botocore import exceptions as aws

from tasks.problem import Problem
from tasks.settings import load
from tasks.storage import overtaken
from tasks.storage.checksum import PART_BYTES, base64_of, combine, parts_of
from tasks.storage.dialect import Feature, is_unclear, may_be_of_a_header
from tasks.storage.s3_attempts import GivenUp
from tasks.storage.s3_clients import impatient_client
from tasks.storage.s3_errors import answer_of
from tasks.storage.s3_upload import UploadInParts, begin_and_give_up

if TYPE_CHECKING:
    from tasks.storage.s3 import S3Prefix

_Answer = TypeVar("_Answer")
_PROBE = "_probe/write"
_NO_ETAG = '"00000000000000000000000000000000"'
_TRIES = 2  # what is refused once may pass


class Writer:
    """Writes objects of one root."""

    def __init__(self, root: "S3Prefix") -> None:
        self._root = root
        self._client = root.client
        self._dialect = root.dialect

    def check(self) -> None:
        """Ask to complete an upload that there is not: that needs the right to write.

        It leaves nothing behind, at whatever moment it is broken off. Where the answer is neither
        yes nor no, an upload is begun and given up; so it is where encryption is asked for, for
        only what begins an upload names it, and a bucket's policy or a KMS key may refuse then.
        """
        client = impatient_client(os.getpid())
        where: Any = {"Bucket": self._root.bucket, "Key": self._root.key(_PROBE)}
        is_encrypted = bool(load().s3_parameters.server_side_encryption)
        if not (is_encrypted or self._dialect.lacks(Feature.UPLOAD_OF_NONE)):
            try:
                client.complete_multipart_upload(
                    **where,
                    UploadId="of-no-upload",
                    MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": "none"}]},
                )
                why = "it answers that this is done"
                with contextlib.suppress(aws.ClientError):
                    client.delete_object(**where)  # if it has made one
            except client.exceptions.NoSuchUpload:
                return
            except (aws.ClientError, GivenUp) as error:
                status, code = answer_of(error)
                if not is_unclear(status, code):
                    raise
                why = f"it answers {status} {code}".rstrip()
            begin_and_give_up(client, where)
            self._dialect.missed(Feature.UPLOAD_OF_NONE, why)
        else:
            begin_and_give_up(client, where)

    def put(self, key: str, data: bytes, expected_etag: str | None) -> str:
        """Write a small object; returns its ETag, or raises `Overtaken`."""
        try:
            return self._on_condition(
                key,
                expected_etag,
                lambda condition: self._put(key, data, condition),
                may_be_asked_again=True,
            )
        except aws.ClientError as error:
            if not _is_refused_condition(error):
                raise
        # The first of two tries may have arrived although its answer did not.
        there = self._root.read_with_etag(key)
        if there is None or there[0] != data:
            raise overtaken(self._root.address_of(key))
        return there[1]

    def put_file(self, key: str, path: Path, expected_etag: str | None) -> None:
        """Upload a file, in parts where it is long, and confirm size and bytes with the server.

        The upload's id is kept in a file beside `path` until the end, so that the parts of an
        upload that was killed are given up (they cost money) by the next try.
        """
        size = path.stat().st_size
        try:
            if size <= PART_BYTES:
                data = path.read_bytes()
                sha256 = base64_of(hashlib.sha256(data).digest())
                self._on_condition(
                    key, expected_etag, lambda condition: self._put_once(key, data, condition)
                )
            else:
                where = {"Bucket": self._root.bucket, "Key": self._root.key(key)}
                upload = UploadInParts(self._client, where, path, self._dialect)
                sha256 = upload.run(
                    lambda complete: self._on_condition(key, expected_etag, complete)
                )
        except (aws.ClientError, GivenUp) as error:
            # Completed, perhaps, by a try whose answer was lost: what counts is what is there.
            is_refused = _is_refused_condition(error)
            if not (is_refused or (size > PART_BYTES and is_unclear(*answer_of(error)))):
                raise
            if self._holds(key, path):
                return
            if not is_refused:
                raise
            raise overtaken(self._root.address_of(key)) from None
        arrived = self._root.find(key)
        kept = self._root.stored_sha256(key) if arrived else None
        is_whole = arrived is not None and arrived.size == size
        if not is_whole or not (kept == sha256 or self._reads_as(key, path)):
            raise _not_as_sent(
                self._root.address_of(key),
                f"({size:,} bytes). It stays in {path}: the next run sends it again.",
            )

    def _put(self, key: str, data: bytes, condition: dict[str, Any]) -> str:
        """Write, and read it back where the server keeps no checksum of it; returns the ETag."""
        answer = self._put_once(key, data, condition)
        etag: str = answer["ETag"].strip('"')
        if not self._is_checked(key, answer):
            there = self._root.read_with_etag(key)
            if there is None or (there[0] != data and there[1] == etag):
                raise _not_as_sent(self._root.address_of(key), "Run it again.")
        return etag

    def _put_once(self, key: str, data: bytes, condition: dict[str, Any]) -> Any:
        return self._client.put_object(
            Bucket=self._root.bucket,
            Key=self._root.key(key),
            Body=data,
            ContentType=mimetypes.guess_type(key)[0] or "binary/octet-stream",
            ChecksumSHA256=base64_of(hashlib.sha256(data).digest()),
            **condition,
        )

    def _is_checked(self, key: str, answer: Any) -> bool:
        """Whether the server has held what arrived against its SHA-256, and keeps that."""
        lacks = self._dialect.lacks(Feature.CHECKSUMS)
        if lacks or self._dialect.is_aws or answer.get("ChecksumSHA256"):
            return not lacks
        if self._dialect.knows(Feature.CHECKSUMS):  # and does not say so with each
            return True
        if self._root.stored_sha256(key) is None:
            self._dialect.missed(Feature.CHECKSUMS, "it shows none of an object that has one")
            return False
        self._dialect.found(Feature.CHECKSUMS)
        return True

    def _on_condition(
        self,
        key: str,
        expected_etag: str | None,
        write: Callable[[dict[str, Any]], _Answer],
        may_be_asked_again: bool = False,
    ) -> _Answer:
        """Write only if an object has this ETag still, or is not there where that is empty.

        A server is trusted with it once it was seen to refuse; until then the object is looked at
        as well. Where `write` `may_be_asked_again`, the first write finds out.
        """
        if expected_etag is None:
            return write({})
        condition, never = _conditions(expected_etag)
        feature = Feature.IF_MATCH if expected_etag else Feature.IF_NONE_MATCH
        dialect = self._dialect
        if dialect.knows(feature):
            return write(condition)
        self._must_be(key, expected_etag)
        if dialect.lacks(feature):
            return write({})
        refused = ""
        for _ in range(_TRIES):
            try:
                answer = write(condition)
                break
            except aws.ClientError as error:
                if _is_refused_condition(error):
                    dialect.found(feature)
                status, code = answer_of(error)
                last, refused = refused, f"{status} {code}".rstrip()
                if not may_be_of_a_header(status, code) or last not in ("", refused):
                    raise
                refusal = error
        else:
            self._must_be(key, expected_etag)
            try:
                answer = write({})
            except aws.ClientError:
                raise refusal from None
            dialect.missed(feature, f"it answers {refused}")
            return answer
        if may_be_asked_again:
            try:
                answer = write(never)
                dialect.missed(feature, "it ignores it")
            except (aws.ClientError, GivenUp) as error:  # it has been written all the same
                if _is_refused_condition(error):
                    dialect.found(feature)
        return answer

    def _must_be(self, key: str, expected_etag: str) -> None:
        """Raises, as S3 does, unless an object has this ETag now, or is not there."""
        there = self._root.find(key)
        if (there.etag if there is not None else "") != expected_etag:
            raise aws.ClientError(
                {"Error": {"Code": "PreconditionFailed"}, "ResponseMetadata": _REFUSED}, "PutObject"
            )

    def _holds(self, key: str, path: Path) -> bool:
        """Whether the object is what the file is: written by another, or by a lost first try."""
        arrived = self._root.find(key)
        if arrived is None or arrived.size != path.stat().st_size:
            return False
        digests = [hashlib.sha256(part).digest() for part in parts_of(path)]
        sha256 = base64_of(digests[0]) if arrived.size <= PART_BYTES else combine(digests)
        return self._root.stored_sha256(key) == sha256 or self._reads_as(key, path)

    def _reads_as(self, key: str, path: Path) -> bool:
        """Whether an object, read back, has the bytes of a file."""
        there, ours = hashlib.sha256(), hashlib.sha256()
        for chunk in self._root.stream(key):
            there.update(chunk)
        for part in parts_of(path):
            ours.update(part)
        return there.digest() == ours.digest()


_REFUSED: Any = {"HTTPStatusCode": 412}


def _conditions(expected_etag: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What has S3 write only if an object is as expected; and the like that never holds for one
    that is there."""
    if expected_etag:
        return {"IfMatch": f'"{expected_etag}"'}, {"IfMatch": _NO_ETAG}
    return {"IfNoneMatch": "*"}, {"IfNoneMatch": "*"}


def _is_refused_condition(error: aws.ClientError | GivenUp) -> bool:
    """Whether the object was not as expected, or is being written by somebody else right now."""
    status, code = answer_of(error)
    return status == 412 or code in ("ConditionalRequestConflict", "NoSuchKey")


def _not_as_sent(place: str, more: str) -> Problem:
    return Problem(f"{place} did not arrive as it was sent {more}")
