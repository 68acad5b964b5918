"""What a converter process is told about a storage root: plain values that can be sent to it.

Kept apart from `tasks.storage.bulk`, which loads libcurl, so that the process that schedules can
make them without loading it.
"""

from dataclasses import dataclass
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
    """Where to read: a folder, or a bucket with a prefix; `endpoint` only where it is not AWS's."""

    url: str
    folder: Path | None = None
    bucket: str = ""
    prefix: str = ""
    region: str = ""
    endpoint: str | None = None
