"""What S3 does with a DeleteObjects that the embedded server does not know, or never refuses.

`as_s3` has a client's requests answered as S3 does it: each object is held against its version tag
at that very moment. `refusing` has it answer with errors for single objects. The requests are those
that the client really makes, and it reads the answers as it reads S3's.
"""

import io
import xml.etree.ElementTree as xml
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError
from urllib3 import HTTPResponse

from tasks.storage.s3 import S3Prefix

Errors = Callable[[list[str]], dict[str, str]]
"""The error code for each of the keys that is not to be deleted."""

_NAMES = "{http://s3.amazonaws.com/doc/2006-03-01/}"


@contextmanager
def refusing(root: S3Prefix, errors: Errors, status: int = 200) -> Iterator[list[list[str]]]:
    """Answer with these errors, and delete the rest; gives the keys of each request."""
    requests: list[list[str]] = []

    def answer(objects: list[tuple[str, str]]) -> tuple[int, dict[str, str]]:
        keys = [key for key, _ in objects]
        requests.append(keys)
        return status, errors(keys)

    with _answered(root, answer):
        yield requests


@contextmanager
def as_s3(root: S3Prefix, before: Callable[[], object]) -> Iterator[None]:
    """Answer as S3 does, once something has happened between the listing and this request."""

    def answer(objects: list[tuple[str, str]]) -> tuple[int, dict[str, str]]:
        before()
        found = {key: _etag(root, key) for key, _ in objects}
        changed = {key for key, etag in objects if found[key] != etag}
        return 200, dict.fromkeys(changed, "PreconditionFailed")

    with _answered(root, answer):
        yield


def _etag(root: S3Prefix, key: str) -> str:
    try:
        return str(root.client.head_object(Bucket=root.bucket, Key=key)["ETag"])
    except ClientError:
        return ""


@contextmanager
def _answered(
    root: S3Prefix, answer: Callable[[list[tuple[str, str]]], tuple[int, dict[str, str]]]
) -> Iterator[None]:
    session: Any = root.client._endpoint.http_session  # type: ignore[attr-defined]
    send, other = session.send, boto3.client("s3", region_name="us-east-1")

    def answer_or_send(request: Any) -> Any:
        if request.method != "POST" or not request.url.endswith("?delete"):
            return send(request)
        wanted = [
            (one.findtext(f"{_NAMES}Key") or "", one.findtext(f"{_NAMES}ETag") or "")
            for one in xml.fromstring(request.body).iter(f"{_NAMES}Object")
        ]
        status, errors = answer(wanted)
        gone: list[Any] = [{"Key": key} for key, _ in wanted if key not in errors]
        if gone and status == 200:
            other.delete_objects(Bucket=root.bucket, Delete={"Objects": gone})
        document = _document(status, errors)
        raw = HTTPResponse(io.BytesIO(document), status=status, preload_content=False)
        return AWSResponse(request.url, status, {"Content-Length": str(len(document))}, raw)

    session.send = answer_or_send
    try:
        yield
    finally:
        session.send = send


def _document(status: int, errors: dict[str, str]) -> bytes:
    if status != 200:
        [code] = set(errors.values())
        return f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
    inside = "".join(
        f"<Error><Key>{key}</Key><Code>{code}</Code><Message>{code} it is</Message></Error>"
        for key, code in errors.items()
    )
    return f"<DeleteResult>{inside}</DeleteResult>".encode()
