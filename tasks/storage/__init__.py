"""Where objects are: an S3 bucket (or a prefix in one) or a folder, behind one set of verbs.

`open_root` turns an address into a `Root`. Keys are relative to the root and use ``/``. A write
appears whole or not at all; every S3 call is retried with backoff; what still fails is raised as a
`Problem` that names the place and the remedy. Only this package talks to S3. It knows nothing of
what the objects hold.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tasks.problem import Problem
from tasks.storage.address import place_of

if TYPE_CHECKING:
    from tasks.storage.address import BulkSource, Credentials


class StoredObject(NamedTuple):
    """One object of a listing: its key below the root, size in bytes, and version tag.

    The tag is S3's ETag; in a folder it is the time of the last change, in nanoseconds. `written`
    is when the object was last written, in seconds since the epoch. `no_file` says what stands in a
    folder under this name if it is no file, such as "a link that leads nowhere"; only
    `Root.entries` gives such. `archived` is the storage class of an object that cannot be read
    until S3 has restored it, as far as a listing tells: "GLACIER", "DEEP_ARCHIVE, being restored".
    """

    key: str
    size: int
    etag: str
    written: float
    no_file: str = ""
    archived: str = ""


@dataclass(frozen=True, slots=True)
class FileChecksum:
    """What `Root.write_file` computes on the way: SHA-256 of the whole, as S3 writes it down too.

    `s3_sha256` is base64, and for a file sent in parts the checksum of the parts' checksums with
    their number behind a dash; S3 computes and keeps the same value.
    """

    size: int
    sha256: str
    s3_sha256: str


class Overtaken(Problem):
    """An object that was to be written has been written, otherwise, by somebody else."""


def overtaken(place: str) -> Overtaken:
    """What to say of an object that somebody else was first to write."""
    return Overtaken(
        f"{place} was written by somebody else meanwhile, and is left as that. Run it again: it "
        "goes by what is there now."
    )


class Root(Protocol):
    """A bucket, a prefix in a bucket, or a folder."""

    url: str
    """The address that means this root and no other."""
    keeps_checksums: bool
    """Whether `stored_sha256` can tell; where not, reading an object is cheap."""
    lists_at_once: int
    """How many listings at the same time are quicker than one after the other."""

    def address_of(self, key: str) -> str:
        """The full address of an object, to be shown: never ``url`` and a slash and the key."""

    def check_readable(self) -> None:
        """Raises `Problem` unless the root exists and may be listed."""

    def check_writable(self) -> None:
        """Raises `Problem` unless an object can be written below the root."""

    def remove_leftovers(self, prefix: str) -> None:
        """Remove what killed processes left of writes to keys that start with `prefix`."""

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """Every object whose key starts with `prefix`, in key order."""

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        """As `objects`, and in a folder also what is no file (`StoredObject.no_file`).

        Of archived objects of S3 it finds out which are restored, by a second listing.
        """

    def survey(self, skip: Callable[[str], str]) -> Iterator[StoredObject]:
        """All entries below the root in key order, but for those that `skip` passes over.

        It gets a key, and returns how far to go on without a look, or nothing for a key that is
        wanted. In S3 each such jump costs one request; in a folder only `raw` may be a link.
        """

    def is_same(self, key: str, other: str) -> bool:
        """Whether two keys mean one and the same object, as links in a folder may."""

    def top_objects(self) -> Iterator[StoredObject]:
        """Every object directly below the root, in key order; none where there is no root yet."""

    def first_key(self, prefix: str, after: str) -> str | None:
        """The first key that starts with `prefix` and sorts behind `after`."""

    def find(self, key: str) -> StoredObject | None:
        """One object, or None where there is none."""

    def stored_sha256(self, key: str, /) -> str | None:
        """The checksum the store itself keeps of an object (as in `FileChecksum.s3_sha256`)."""

    def read(self, key: str, offset: int = 0, size: int | None = None) -> bytes:
        """The bytes of an object, or `size` of them from `offset`; raises `Problem` if missing."""

    def stream(self, key: str) -> Iterator[bytes]:
        """The bytes of an object in chunks; raises `Problem` if missing."""

    def bulk_source(self) -> "BulkSource":
        """How converter processes find this root."""

    def credentials(self, expired: "Credentials | None" = None, /) -> "Credentials | None":
        """AWS credentials as of now, for converter processes; None for a folder.

        Those that S3 calls expired are looked up afresh: others come where there are any.
        """

    def write(self, key: str, data: bytes, expected_etag: str | None = None) -> None:
        """Write a small object, whole or not at all.

        `expected_etag` is the version tag that the object must still have, or ``""`` where there
        must be none yet: if it is not so, and what is there is not `data` already, `Overtaken` is
        raised and the object stays as it is. None writes whatever is there. In a folder nothing is
        written through a link, and nothing that is no file is replaced where there must be none.
        """

    def write_file(self, key: str, path: Path, expected_etag: str | None = None) -> None:
        """Write a file's bytes, whole or not at all, and confirm what arrived.

        `expected_etag` as for `write`.
        """


def open_root(url: str) -> Root:
    """The root at ``s3://bucket``, ``s3://bucket/prefix`` or a folder's path."""
    place = place_of(url)
    if isinstance(place, Path):
        from tasks.storage.folder import Folder

        return Folder(str(place))
    from tasks.storage.s3 import S3Prefix  # boto3 takes a while to import

    return S3Prefix(place.url)
