"""Deleting objects from S3, each on the condition that it still is what was listed.

S3 itself holds the version tag against the object at the moment of deletion, so what somebody has
replaced meanwhile stays. Servers other than AWS's mostly delete by the name alone (MinIO does), so
there each object is looked at just before.
What S3 answers for single objects inside a successful answer is read: some errors are tried again,
others are a `Problem`.
"""

import itertools
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import ClientError

from tasks.problem import Problem
from tasks.storage.patience import Patience
from tasks.storage.refusal import remedy
from tasks.storage.s3 import S3Prefix
from tasks.storage.s3_errors import code_of, explained, message_of

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

MOST_AT_ONCE = 1000
"""S3 takes no more in one request."""

_PATIENCE = Patience(attempts=6)
_LOOKS_AT_ONCE = 16
_CHANGED = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey")
_PASSING = ("InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout", "OperationAborted")
_DENIED = ("AccessDenied", "403")


class Listed(Protocol):
    """An object as it was listed."""

    @property
    def key(self) -> str: ...
    @property
    def etag(self) -> str: ...


def delete(root: S3Prefix, objects: Iterable[Listed]) -> int:
    """Delete objects, `MOST_AT_ONCE` at most, each if it has still its version tag.

    Returns how many were left alone because they are others by now. One that is gone already is as
    good as deleted, or counts as left alone, as the server has it. Raises `Problem`.
    """
    listed = list(objects)
    others = set() if root.dialect.is_aws else _replaced(root, listed)
    left: list[ObjectIdentifierTypeDef] = [
        {"Key": root.key(one.key), "ETag": f'"{one.etag}"'}
        for one in listed
        if one.key not in others
    ]
    changed = len(others)
    for attempt in itertools.count(1):
        errors = _delete(root, left) if left else []
        changed += sum(error.get("Code") in _CHANGED for error in errors)
        errors = [error for error in errors if error.get("Code") not in _CHANGED]
        for error in errors:
            if error.get("Code") not in _PASSING or attempt == _PATIENCE.attempts:
                raise _problem(root, error)
        if not errors:
            return changed
        names = {error.get("Key") for error in errors}
        left = [one for one in left if one["Key"] in names]
        time.sleep(_PATIENCE.pause(attempt))
    raise AssertionError


def _replaced(root: S3Prefix, listed: list[Listed]) -> set[str]:
    """The keys of those that have another version tag by now."""
    with ThreadPoolExecutor(_LOOKS_AT_ONCE) as threads:
        found = threads.map(lambda one: root.find(one.key), listed)
        pairs = zip(listed, found, strict=True)
        return {one.key for one, now in pairs if now is not None and now.etag != one.etag}


def keeps_versions(root: S3Prefix) -> bool | None:
    """Whether the bucket keeps what is deleted as an older version; None where one may not ask."""
    try:
        with explained(f"Whether {root.url} keeps old versions cannot be found out"):
            answer = root.client.get_bucket_versioning(Bucket=root.bucket)
    except Problem:
        return None
    return "Status" in answer  # where it is suspended, those of before are kept


def _delete(root: S3Prefix, objects: "list[ObjectIdentifierTypeDef]") -> list[Any]:
    with explained(f"Objects below {root.url} cannot be deleted"):
        try:
            answer = root.client.delete_objects(
                Bucket=root.bucket, Delete={"Objects": objects, "Quiet": True}
            )
        except ClientError as error:
            if code_of(error) not in _DENIED:
                raise
            told = {"Code": "AccessDenied", "Key": objects[0]["Key"], "Message": message_of(error)}
            raise _problem(root, told) from None
    return list(answer.get("Errors", []))


def _problem(root: S3Prefix, error: Any) -> Problem:
    name, code = f"s3://{root.bucket}/{error.get('Key')}", error.get("Code", "")
    if code in _DENIED:
        return Problem(
            f"{name} cannot be deleted: access is denied ({error.get('Message') or 'Forbidden'}). "
            f"This needs s3:DeleteObject and s3:GetObject on arn:aws:s3:::{root.bucket}/"
            f"{root.prefix}*; the instances of EC2 get it by the stack's parameter AllowPrune, "
            "for which setup takes ALLOW_PRUNE=true."
        )
    return Problem(f"{name} cannot be deleted: {remedy(code, error.get('Message', ''))}.")
