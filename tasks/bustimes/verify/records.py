"""Records that are kept as JSON below the destination: found, decoded, of the version known here.

Reads only, and knows nothing of what they say; what to do about a damaged one is the caller's.
"""

from typing import Protocol, TypeVar

import msgspec

from tasks.storage import Root


class Versioned(Protocol):
    """What each record has, whatever else it holds."""

    @property
    def version(self) -> int: ...


Record = TypeVar("Record", bound=Versioned)


def find_record(destination: Root, key: str, kind: type[Record], version: int) -> Record | None:
    """What is kept at a key; None where nothing is. Raises `ValueError`, saying why, for another
    kind or version."""
    if destination.find(key) is None:
        return None
    try:
        record = msgspec.json.decode(destination.read(key), type=kind)
    except RecursionError as error:
        raise ValueError(error) from None
    if record.version != version:
        raise ValueError(f"version {record.version}")
    return record
