"""What a manifest was when its week was converted: `_seals/{week}/{digest}.json`.

The digest is the SHA-256 of all that the manifest says but for `conversion`, which tells how long
the work took and is another with every run: so the same input gives the same seal, whoever writes
it. A seal is written before its manifest and is never changed or removed. A manifest that has none,
although its week file has one, was edited. Weeks that an older version wrote have none: of them it
is only said. A seal finds accidents and slips; whoever may write may forge one as well.
"""

import hashlib
import json
from enum import Enum
from typing import Any

import msgspec

from tasks.bustimes.manifest import Manifest
from tasks.storage import Root
from tasks.weeks import Week

VERSION = 1
_FOLDER = "_seals"
_NAME_DIGITS = 16


class Seal(msgspec.Struct, frozen=True):
    """The digest of a manifest, and the SHA-256 of the week file that it describes."""

    version: int
    week: str
    manifest_sha256: str
    sha256: str


class Finding(Enum):
    """What a manifest's seal tells of it."""

    WHOLE = "it is what was written"
    EDITED = "it is not what was written with its week file"
    NONE = "nobody has sealed it"


def digest_of(manifest: bytes) -> str:
    """The digest of a manifest, however its JSON is laid out. Raises `ValueError` for no JSON."""
    values: dict[str, Any] = msgspec.json.decode(manifest)
    values.pop("conversion", None)
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def key_of(week: Week, digest: str) -> str:
    """Where the seal of a manifest lies below the destination."""
    return f"{_FOLDER}/{week}/{digest[:_NAME_DIGITS]}.json"


def keep(destination: Root, week: Week, data: bytes, manifest: Manifest) -> None:
    """Seal a manifest, of these bytes, that is about to be written."""
    digest = digest_of(data)
    seal = Seal(VERSION, week.label, digest, manifest.output.sha256)
    text = json.dumps(msgspec.to_builtins(seal), indent=1)
    destination.write(key_of(week, digest), text.encode() + b"\n")


def look(destination: Root, week: Week, data: bytes, manifest: Manifest) -> Finding:
    """What the seals of a week say of its manifest as it stands."""
    if destination.find(key_of(week, digest_of(data))) is not None:
        return Finding.WHOLE
    for stored in destination.objects(f"{_FOLDER}/{week}/"):
        try:
            seal = msgspec.json.decode(destination.read(stored.key), type=Seal)
        except (ValueError, RecursionError):
            continue  # damaged: it tells nothing
        if seal.sha256 == manifest.output.sha256:
            return Finding.EDITED
    return Finding.NONE
