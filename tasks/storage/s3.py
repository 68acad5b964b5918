"""S3 as a storage root, through boto3: list, look at, read and write objects below a prefix.

Credentials, region and endpoint come from where every AWS tool takes them (AWS_PROFILE,
AWS_REGION, AWS_ENDPOINT_URL_S3). Each process makes its own client, because connections do not
survive a fork. Uploads carry a SHA-256 that S3 checks on arrival and keeps. Reading snapshots by
the thousand is not done here but in `tasks.storage.bulk`.
"""

import contextlib
import functools
import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import botocore.session
from botocore import exceptions as aws
from botocore.config import Config

from tasks.problem import Problem
from tasks.storage import Overtaken, StoredObject, overtaken
from tasks.storage.address import BulkSource, Credentials
from tasks.storage.aws_models import load_quickly
from tasks.storage.checksum import PART_BYTES, base64_of, combine, parts_of
from tasks.storage.refusal import remedy
from tasks.storage.s3_listing import list_quickly, objects_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_UPLOAD_THREADS = 4
_CHUNK_BYTES = 1 << 20
_READ_ATTEMPTS = 6

_making_clients: dict[int, threading.Lock] = {}


class S3Prefix:
    """Objects below ``s3://bucket/prefix``; see `tasks.storage.Root` for the verbs."""

    keeps_checksums = True

    def __init__(self, url: str, make_client: "Callable[[int], S3Client] | None" = None) -> None:
        """`make_client` is another client than `client_of_process`, such as `hasty_client`."""
        self._make_client = make_client
        parts = urlsplit(url)
        self.url = url.rstrip("/")
        self.bucket = parts.netloc
        self.prefix = parts.path.strip("/")
        if self.prefix:
            self.prefix += "/"
        if not self.bucket:
            raise Problem(f"{url} names no bucket: write s3://bucket or s3://bucket/prefix.")

    @property
    def client(self) -> "S3Client":
        process = os.getpid()
        # By one thread at a time: a session bears no more, and one client is enough. A fork has a
        # lock of its own, since the thread that held this one is not in it.
        with _making_clients.setdefault(process, threading.Lock()):
            return (self._make_client or client_of_process)(process)

    def key(self, key: str) -> str:
        return self.prefix + key

    def check_readable(self) -> None:
        with explained(f"{self.url} cannot be listed"):
            _impatient_client(os.getpid()).list_objects_v2(
                Bucket=self.bucket, Prefix=self.prefix, MaxKeys=1
            )

    def check_writable(self) -> None:
        """Starts an upload and gives it up: that needs the right to write and leaves no object."""
        client, key = _impatient_client(os.getpid()), self.key("_probe/write")
        with explained(f"{self.url} cannot be written"):
            upload = client.create_multipart_upload(Bucket=self.bucket, Key=key)
            client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload["UploadId"])

    def make_bucket(self) -> None:
        """Create the bucket; one that is there already, and ours, stays as it is."""
        with explained(f"The bucket {self.bucket} cannot be made"):
            self.client.create_bucket(Bucket=self.bucket)

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        yield from self._list(Prefix=self.key(prefix))

    def top_objects(self) -> Iterator[StoredObject]:
        yield from self._list(Prefix=self.prefix, Delimiter="/")

    def _list(self, **where: Any) -> Iterator[StoredObject]:
        with explained(f"{self.url} cannot be listed"):
            while True:
                page = self._page(**where)
                yield from objects_of(page, self.prefix)
                if page.get("IsTruncated") is False:
                    return
                where["ContinuationToken"] = page["NextContinuationToken"]

    def _page(self, **where: Any) -> Any:
        """An answer that tells whether there is more, and where: an empty one is no listing."""
        page = self.client.list_objects_v2(Bucket=self.bucket, **where)
        nowhere = (None, where.get("ContinuationToken"))
        if page.get("IsTruncated") is not False and page.get("NextContinuationToken") in nowhere:
            raise Problem(f"{self.url} cannot be listed: the answer is no listing. Run it again.")
        return page

    def first_key(self, prefix: str, after: str) -> str | None:
        with explained(f"{self.url} cannot be listed"):
            page = self._page(Prefix=self.key(prefix), StartAfter=self.key(after), MaxKeys=1)
        found = next(objects_of(page, self.prefix), None)
        return found.key if found else None

    def find(self, key: str) -> StoredObject | None:
        with explained(f"{self.url}/{key} cannot be looked at"):
            try:
                head = self.client.head_object(Bucket=self.bucket, Key=self.key(key))
            except aws.ClientError as error:
                if _code(error) in ("404", "NoSuchKey", "NotFound"):
                    return None
                raise
        etag, written = head["ETag"].strip('"'), head["LastModified"].timestamp()
        return StoredObject(key, head["ContentLength"], etag, written)

    def stored_sha256(self, key: str, /) -> str | None:
        with explained(f"{self.url}/{key} cannot be looked at"):
            head = self.client.head_object(
                Bucket=self.bucket, Key=self.key(key), ChecksumMode="ENABLED"
            )
        return head.get("ChecksumSHA256")

    def read(self, key: str, offset: int = 0, size: int | None = None) -> bytes:
        return b"" if size == 0 else b"".join(self._chunks(key, offset, size))

    def stream(self, key: str) -> Iterator[bytes]:
        yield from self._chunks(key, 0, None)

    def _chunks(self, key: str, offset: int, size: int | None) -> Iterator[bytes]:
        """The bytes from `offset`; where a connection breaks, it goes on from there.

        boto3 repeats requests that fail, but not the reading of an answer that has begun.
        """
        last = "" if size is None else str(offset + size - 1)
        same_version: dict[str, Any] = {}
        with explained(f"{self.url}/{key} cannot be read"):
            for attempt in range(_READ_ATTEMPTS):
                part: dict[str, Any] = {"Range": f"bytes={offset}-{last}"} if offset or last else {}
                answer = self.client.get_object(
                    Bucket=self.bucket, Key=self.key(key), **part, **same_version
                )
                same_version = {"IfMatch": answer["ETag"]}
                try:
                    for chunk in answer["Body"].iter_chunks(_CHUNK_BYTES):
                        offset += len(chunk)
                        yield chunk
                    return
                except (aws.IncompleteReadError, aws.HTTPClientError):
                    if attempt == _READ_ATTEMPTS - 1:
                        raise
                    time.sleep(random.uniform(0, 0.2 * 2**attempt))

    def bulk_source(self) -> BulkSource:
        return BulkSource(
            self.url,
            bucket=self.bucket,
            prefix=self.prefix,
            region=self._region(),
            endpoint=_unless_aws(self.client.meta.endpoint_url),
        )

    def _region(self) -> str:
        """Where the bucket lies: boto3 finds that out as it goes, a converter must be told."""
        with explained(f"{self.url} cannot be read"):
            try:
                answer: Any = self.client.head_bucket(Bucket=self.bucket)
            except aws.ClientError as error:  # tells it even where it denies access
                answer = error.response
        headers: dict[str, str] = answer["ResponseMetadata"].get("HTTPHeaders", {})
        return headers.get("x-amz-bucket-region") or self.client.meta.region_name

    def credentials(self) -> Credentials | None:
        with explained(f"{self.url} cannot be read"):
            found = _session_of_process(os.getpid()).get_credentials()
            if found is None:
                raise aws.NoCredentialsError
            now = found.get_frozen_credentials()
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
        with explained(f"{self.url}/{key} cannot be read"):
            try:
                answer = self.client.get_object(Bucket=self.bucket, Key=self.key(key))
                return answer["Body"].read(), answer["ETag"].strip('"')
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
        with explained(f"{self.url}/{key} cannot be written"):
            try:
                answer = self.client.put_object(
                    Bucket=self.bucket,
                    Key=self.key(key),
                    Body=data,
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
            raise overtaken(f"{self.url}/{key}")
        return there[1]

    def write_file(self, key: str, path: Path, expected_etag: str | None = None) -> None:
        """Upload, in parts where it is long, and confirm size and checksum with S3.

        The upload's id is kept in a file beside `path` until the end, so that the parts of an
        upload that was killed are given up (they cost money) by the next try.
        """
        size = path.stat().st_size
        with explained(f"{self.url}/{key} cannot be written"):
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
                    sha256 = self._write_parts(self.key(key), path, _condition(expected_etag))
            except aws.ClientError as error:
                if not _is_refused_condition(error):
                    raise
                if not self._holds(key, path):
                    raise overtaken(f"{self.url}/{key}") from None
                return
        arrived = self.find(key)
        kept = self.stored_sha256(key) if arrived else None
        if arrived is None or arrived.size != size or kept not in (None, sha256):
            raise Problem(
                f"{self.url}/{key} did not arrive as it was sent ({size:,} bytes). It stays in "
                f"{path}; run it again, or make sync, to send it again."
            )

    def _holds(self, key: str, path: Path) -> bool:
        """Whether the object is what the file is: written by another, or by a lost first try."""
        arrived = self.find(key)
        if arrived is None or arrived.size != path.stat().st_size:
            return False
        digests = [hashlib.sha256(part).digest() for part in parts_of(path)]
        sha256 = base64_of(digests[0]) if arrived.size <= PART_BYTES else combine(digests)
        return self.stored_sha256(key) == sha256

    def _write_parts(self, key: str, path: Path, condition: dict[str, Any]) -> str:
        note = path.with_name(path.name + ".upload")
        self._give_up_earlier(key, note)
        upload_id = self.client.create_multipart_upload(
            Bucket=self.bucket, Key=key, ChecksumAlgorithm="SHA256", ContentType="application/gzip"
        )["UploadId"]
        try:
            note.write_text(upload_id)
            digests = self._send_parts(key, path, upload_id)
            self.client.complete_multipart_upload(
                Bucket=self.bucket,
                Key=key,
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
                self._give_up(key, upload_id)
                note.unlink(missing_ok=True)
            raise
        note.unlink(missing_ok=True)
        return combine([digest for _, _, digest in digests])

    def _send_parts(self, key: str, path: Path, upload_id: str) -> list[tuple[int, str, bytes]]:
        client = self.client

        def send(number: int, part: bytes) -> tuple[int, str, bytes]:
            digest = hashlib.sha256(part).digest()
            answer = client.upload_part(
                Bucket=self.bucket,
                Key=key,
                UploadId=upload_id,
                PartNumber=number,
                Body=part,
                ChecksumSHA256=base64_of(digest),
            )
            return number, answer["ETag"], digest

        sent: list[tuple[int, str, bytes]] = []
        with ThreadPoolExecutor(_UPLOAD_THREADS) as threads:
            waiting = []
            for number, part in enumerate(parts_of(path), 1):
                waiting.append(threads.submit(send, number, part))
                if len(waiting) == _UPLOAD_THREADS:  # so many parts in memory, and no more
                    sent.append(waiting.pop(0).result())
            sent += [part.result() for part in waiting]
        return sent

    def _give_up_earlier(self, key: str, note: Path) -> None:
        """Give up the upload that a note speaks of, if there is one."""
        if not note.exists():
            return
        if upload_id := note.read_text():  # empty: killed before it was written
            self._give_up(key, upload_id)
        note.unlink(missing_ok=True)

    def _give_up(self, key: str, upload_id: str) -> None:
        with contextlib.suppress(self.client.exceptions.NoSuchUpload):
            self.client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload_id)


@functools.lru_cache(maxsize=1)
def client_of_process(_pid: int) -> "S3Client":
    """The S3 client of this process, by its number so that a fork never shares connections."""
    return _make_client(max_attempts=8)


@functools.lru_cache(maxsize=1)
def _impatient_client(_pid: int) -> "S3Client":
    """For the first look at a place: a wrong address should not take a minute to find out."""
    return _make_client(max_attempts=2)


@functools.lru_cache(maxsize=1)
def hasty_client(_pid: int) -> "S3Client":
    """For small objects that are read and written all the time: the next try finds them, too."""
    return _make_client(max_attempts=2, connect_seconds=3, read_seconds=5)


@functools.lru_cache(maxsize=1)
def _session_of_process(_pid: int) -> botocore.session.Session:
    session = botocore.session.get_session()
    load_quickly(session)
    return session


def _make_client(
    max_attempts: int, connect_seconds: int = 10, read_seconds: int = 60
) -> "S3Client":
    with explained("S3 cannot be reached"):
        session = _session_of_process(os.getpid())
        endpoint = _endpoint_override(session)
        config = Config(
            retries={"mode": "standard", "total_max_attempts": max_attempts},
            connect_timeout=connect_seconds,
            read_timeout=read_seconds,
            max_pool_connections=32,
            s3={"addressing_style": "path"} if endpoint else None,
        )
        region = session.get_config_variable("region") or os.environ.get("AWS_REGION")
        region = region or "us-east-1"
        try:
            client: S3Client = session.create_client(  # type: ignore[assignment]
                "s3", region_name=region, config=config
            )
        except aws.InvalidRegionError:
            raise Problem(
                f"{region!r} is no region of AWS: correct AWS_REGION, such as us-east-1."
            ) from None
        list_quickly(client)
        return client


def _endpoint_override(session: botocore.session.Session) -> str | None:
    """The endpoint that the environment or the profile names in place of AWS's own."""
    try:
        url = session.create_client("s3", region_name="us-east-1").meta.endpoint_url
    except ValueError as error:
        raise Problem(
            f"{error}. Correct AWS_ENDPOINT_URL_S3 (or AWS_ENDPOINT_URL): it looks like "
            "http://127.0.0.1:5555. For AWS itself, unset it."
        ) from None
    return _unless_aws(url)


def _unless_aws(url: str) -> str | None:
    host = urlsplit(url).hostname or ""
    return None if host.endswith((".amazonaws.com", ".amazonaws.com.cn")) else url


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what boto3 raises into a `Problem` that starts with `what` and ends with the remedy."""
    try:
        yield
    except aws.ClientError as error:
        message = error.response.get("Error", {}).get("Message", "")
        raise Problem(f"{what}: {remedy(_code(error), message)}.") from None
    except aws.ProfileNotFound as error:
        raise Problem(f"{what}: {error}. Correct AWS_PROFILE, or unset it.") from None
    except aws.PartialCredentialsError as error:
        raise Problem(f"{what}: {error}. Set what is missing, or use AWS_PROFILE.") from None
    except aws.NoCredentialsError:
        raise Problem(
            f"{what}: there are no AWS credentials. Set AWS_PROFILE (aws configure list-profiles "
            "shows what there is), or run it where an instance role provides them."
        ) from None
    except (aws.CredentialRetrievalError, aws.SSOError, aws.UnauthorizedSSOTokenError) as error:
        raise Problem(f"{what}: {error}. Log in again (aws sso login).") from None
    except (
        aws.EndpointConnectionError,
        aws.ConnectTimeoutError,
        aws.ConnectionClosedError,
    ) as error:
        raise Problem(
            f"{what}: {_ended(error)} Check the network and AWS_ENDPOINT_URL_S3, then run it again."
        ) from None
    except aws.ParamValidationError as error:
        report = str(error).partition("\n")[2].strip()
        mistake = report.partition(": Bucket name must")[0]  # and not the pattern that it must
        raise Problem(f"{what}: {_ended(mistake)} Correct the address.") from None
    except (aws.ConfigParseError, aws.ConfigNotFound) as error:
        raise Problem(f"{what}: {_ended(error)} Correct that file of AWS's.") from None
    except (aws.BotoCoreError, aws.HTTPClientError) as error:
        raise Problem(f"{what}: {_ended(error)} Run it again when that is mended.") from None


def _ended(message: object) -> str:
    """A message of boto3's as a sentence: they end in a full stop or not."""
    return str(message).rstrip(" .") + "."


def _condition(expected_etag: str | None) -> dict[str, Any]:
    """What has S3 write only if an object is as expected."""
    if expected_etag is None:
        return {}
    return {"IfMatch": f'"{expected_etag}"'} if expected_etag else {"IfNoneMatch": "*"}


def _is_refused_condition(error: aws.ClientError) -> bool:
    """Whether the object was not as expected, or is being written by somebody else right now."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status == 412 or _code(error) in ("ConditionalRequestConflict", "NoSuchKey")


def _code(error: aws.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
