"""A long file's way to S3, in parts, a few at a time; each with a SHA-256 that S3 checks and keeps.

Parts that were sent cost money until they are put together or given up. So the upload's id is kept
in a file beside the one that is sent, and the next try gives up what was killed, or whose answer
never came. A server that keeps no checksums is sent none (`tasks.storage.dialect`).
"""

import contextlib
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore import exceptions as aws

from tasks.storage.checksum import base64_of, combine, parts_of
from tasks.storage.dialect import Dialect, Feature, is_unclear
from tasks.storage.s3_attempts import GivenUp
from tasks.storage.s3_clients import impatient_client
from tasks.storage.s3_errors import answer_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

OnCondition = Callable[[Callable[[dict[str, Any]], Any]], Any]
"""Calls what it is given with the parameters of a condition, as often as it takes."""

_UPLOAD_THREADS = 4


class UploadInParts:
    """One file to one object; raises what boto3 does."""

    def __init__(
        self, client: "S3Client", where: dict[str, str], path: Path, dialect: Dialect
    ) -> None:
        """`where` is the Bucket and the Key."""
        self._client = client
        self._where: Any = where
        self._path = path
        self._dialect = dialect
        self._note = path.with_name(path.name + ".upload")

    def run(self, on_condition: OnCondition) -> str:
        """Upload; returns what S3's checksum of it should be.

        `on_condition` has S3 put the parts together only where an object is as expected.
        """
        while True:
            lacks = self._dialect.lacks(Feature.CHECKSUMS)
            try:
                return self._run(on_condition, not lacks)
            except aws.ClientError:
                # Found out half way: an upload is with checksums from its beginning, or without.
                if lacks or not self._dialect.lacks(Feature.CHECKSUMS):
                    raise

    def _run(self, on_condition: OnCondition, with_checksums: bool) -> str:
        note = self._note
        self._give_up_earlier()
        note.touch()  # killed from here on, there may be an upload
        algorithm: Any = {"ChecksumAlgorithm": "SHA256"} if with_checksums else {}
        begun = self._client.create_multipart_upload(
            **self._where, ContentType="application/gzip", **algorithm
        )
        upload_id = begun["UploadId"]
        try:
            note.write_text(upload_id)
            if begun["ResponseMetadata"].get("RetryAttempts"):  # an answer may have been lost
                self._give_up_others(upload_id)
            sent = self._send_parts(upload_id)
            lacks = self._dialect.lacks(Feature.CHECKSUMS)
            parts: Any = [
                {"PartNumber": number, "ETag": etag}
                | ({} if lacks else {"ChecksumSHA256": base64_of(digest)})
                for number, etag, digest in sent
            ]
            on_condition(
                lambda condition: self._client.complete_multipart_upload(
                    **self._where,
                    UploadId=upload_id,
                    MultipartUpload={"Parts": parts},
                    **condition,
                )
            )
        except BaseException:
            with contextlib.suppress(aws.BotoCoreError, aws.ClientError):
                give_up(impatient_client(os.getpid()), self._where, upload_id)
                note.unlink(missing_ok=True)
            raise
        note.unlink(missing_ok=True)
        return combine([digest for _, _, digest in sent])

    def _send_parts(self, upload_id: str) -> list[tuple[int, str, bytes]]:
        client = self._client

        def send(number: int, part: bytes) -> tuple[int, str, bytes]:
            digest = hashlib.sha256(part).digest()
            answer = client.upload_part(
                **self._where,
                UploadId=upload_id,
                PartNumber=number,
                Body=part,
                ChecksumSHA256=base64_of(digest),
            )
            return number, answer["ETag"], digest

        sent: list[tuple[int, str, bytes]] = []
        with ThreadPoolExecutor(_UPLOAD_THREADS) as threads:
            waiting = []
            for number, part in enumerate(parts_of(self._path), 1):
                waiting.append(threads.submit(send, number, part))
                if len(waiting) == _UPLOAD_THREADS:  # so many parts in memory, and no more
                    sent.append(waiting.pop(0).result())
            sent += [part.result() for part in waiting]
        return sent

    def _give_up_earlier(self) -> None:
        """Give up the upload that a note speaks of, if there is one."""
        note = self._note
        if not note.exists():
            return
        if upload_id := note.read_text():
            give_up(self._client, self._where, upload_id)
        else:  # killed before anybody knew its name
            self._give_up_others()
        note.unlink(missing_ok=True)

    def _give_up_others(self, but: str = "") -> None:
        give_up_all(self._client, self._where, but)


def begin_and_give_up(client: "S3Client", where: Any) -> None:
    """Begin an upload, which takes the right to write, and give it up; raises what boto3 does.

    Those of the same key that earlier calls have left go as well.
    """
    begun = client.create_multipart_upload(**where)
    with contextlib.suppress(aws.ClientError, GivenUp):  # the right to write is shown already
        give_up_all(client, where, but=begun["UploadId"])
        give_up(client, where, begun["UploadId"])


def give_up_all(client: "S3Client", where: Any, but: str) -> None:
    """Give up all uploads of an object but one, where it may be asked which there are."""
    try:
        pages = client.get_paginator("list_multipart_uploads")
        for page in pages.paginate(Bucket=where["Bucket"], Prefix=where["Key"]):
            for one in page.get("Uploads", []):
                if one["Key"] == where["Key"] and one["UploadId"] != but:
                    give_up(client, where, one["UploadId"])
    except aws.ClientError as error:
        status, code = answer_of(error)
        if code != "AccessDenied" and not is_unclear(status, code):
            raise


def give_up(client: "S3Client", where: Any, upload_id: str) -> None:
    """Give up an upload, if it is there: servers say in many ways that it is not."""
    try:
        client.abort_multipart_upload(**where, UploadId=upload_id)
    except aws.ClientError as error:
        if not is_unclear(*answer_of(error)):
            raise
