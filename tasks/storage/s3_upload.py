"""A long file's way to S3, in parts, a few at a time; each with a SHA-256 that S3 checks and keeps.

Parts that were sent cost money until they are put together or given up. So the upload's id is kept
in a file beside the one that is sent, and the next try gives up what was killed, or whose answer
never came.
"""

import contextlib
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore import exceptions as aws

from tasks.storage.checksum import base64_of, combine, parts_of
from tasks.storage.s3_clients import impatient_client
from tasks.storage.s3_errors import code_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_UPLOAD_THREADS = 4


class UploadInParts:
    """One file to one object; raises what boto3 does."""

    def __init__(self, client: "S3Client", bucket: str, key: str, path: Path) -> None:
        self._client = client
        self._where: Any = {"Bucket": bucket, "Key": key}
        self._path = path
        self._note = path.with_name(path.name + ".upload")

    def run(self, condition: dict[str, Any]) -> str:
        """Upload; returns what S3's checksum of it should be.

        `condition` has S3 put the parts together only where an object is as expected.
        """
        note = self._note
        self._give_up_earlier()
        note.touch()  # killed from here on, there may be an upload
        begun = self._client.create_multipart_upload(
            **self._where, ChecksumAlgorithm="SHA256", ContentType="application/gzip"
        )
        upload_id = begun["UploadId"]
        try:
            note.write_text(upload_id)
            if begun["ResponseMetadata"].get("RetryAttempts"):  # an answer may have been lost
                self._give_up_others(upload_id)
            digests = self._send_parts(upload_id)
            self._client.complete_multipart_upload(
                **self._where,
                UploadId=upload_id,
                MultipartUpload={
                    "Parts": [
                        {"PartNumber": number, "ETag": etag, "ChecksumSHA256": base64_of(digest)}
                        for number, etag, digest in digests
                    ]
                },
                **condition,
            )
        except BaseException:
            with contextlib.suppress(aws.BotoCoreError, aws.ClientError):
                self._give_up(upload_id, impatient_client(os.getpid()))
                note.unlink(missing_ok=True)
            raise
        note.unlink(missing_ok=True)
        return combine([digest for _, _, digest in digests])

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
            self._give_up(upload_id)
        else:  # killed before anybody knew its name
            self._give_up_others()
        note.unlink(missing_ok=True)

    def _give_up_others(self, upload_id: str = "") -> None:
        """Give up all uploads of an object but one, where it may be asked which there are."""
        try:
            pages = self._client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self._where["Bucket"], Prefix=self._where["Key"]):
                for one in page.get("Uploads", []):
                    if one["Key"] == self._where["Key"] and one["UploadId"] != upload_id:
                        self._give_up(one["UploadId"])
        except aws.ClientError as error:
            if code_of(error) != "AccessDenied":
                raise

    def _give_up(self, upload_id: str, client: "S3Client | None" = None) -> None:
        client = client or self._client
        with contextlib.suppress(client.exceptions.NoSuchUpload):
            client.abort_multipart_upload(**self._where, UploadId=upload_id)
