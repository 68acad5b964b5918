"""What a converter process is told about a storage root: plain values that can be sent to it.

Kept apart from `tasks.storage.bulk`, which loads libcurl, so that the process that schedules can
make them without loading it.
"""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Credentials:
    """AWS credentials as they are now; `token` only where they are temporary."""

    access_key: str
    secret_key: str
    token: str | None

    def __repr__(self) -> str:
        return "Credentials(...)"  # never in a log or a traceback


@dataclass(frozen=True)
class BulkSource:
    """Where to read: a folder, or below a prefix in a bucket, reached as boto3 would reach it."""

    url: str
    folder: Path | None = None
    prefix: str = ""
    bucket_url: str = ""
    """What the path of every object begins with; ends in ``/``."""
    region: str = ""
    """What is signed for."""
    proxy: str | None = field(default=None, repr=False)  # it may hold a password
    ca_bundle: str = ""
    """The file of the authorities to trust."""
