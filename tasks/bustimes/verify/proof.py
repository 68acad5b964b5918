"""The record of a week that was found good with a share of its raw snapshots compared.

`<destination>/_verified/{week}.json`. It counts only as long as week file, manifest and raw listing
are those of then: `is_valid` tells, and whoever relies on a proof (prune deletes by it) must ask.
"""

import datetime as dt
import json
from dataclasses import asdict, dataclass

from tasks import advice
from tasks.bustimes.archive import Archive
from tasks.bustimes.listing import Listing
from tasks.bustimes.manifest import Manifest
from tasks.bustimes.verify.records import find_record
from tasks.problem import Problem
from tasks.weeks import Week

VERSION = 1
READERS = 2
"""Which readers compared. 1 is that of versions in which both took Python 2's bytes for Latin-1."""


@dataclass(frozen=True)
class Proof:
    """What was compared and found equal, and of which files.

    `sha256` is the week file's as it was read then, `listing_sha256` the fingerprint of the raw
    listing of then; `share` goes up to 1.0, which is all; `when` is ISO 8601, UTC; `readers` is
    `READERS` as it was then.
    """

    week: str
    sha256: str
    listing_sha256: str
    share: float
    snapshots: int
    records: int
    when: str
    readers: int = 1
    version: int = VERSION

    def is_of(self, manifest: Manifest) -> bool:
        """Whether it speaks of this week file, and of the raw listing that it was made from."""
        return (self.week, self.sha256, self.listing_sha256) == (
            manifest.week,
            manifest.output.sha256,
            manifest.listing_sha256,
        )


def key_of(week: Week) -> str:
    """Where a week's proof lies below the destination."""
    return f"_verified/{week}.json"


def read(archive: Archive, week: Week) -> Proof | None:
    """A week's proof; None where there is none. Raises `Problem` for one that is damaged."""
    key = key_of(week)
    try:
        return find_record(archive.destination, key, Proof, VERSION)
    except ValueError as error:
        raise Problem(
            f"{archive.destination.address_of(key)} is no record of a verification ({error}). "
            f"Remove it, and run {advice.make('verify', WEEKS=week, SHARE='1.0')}"
        ) from None


def is_valid(proof: Proof | None, manifest: Manifest, listing: Listing, share: float = 1.0) -> bool:
    """Whether so much of a week is proven, and the week still is what it was then.

    `manifest` and `listing` must be read now, and the week file's size and checksum be held against
    the manifest now, which `verify.check_week` does: its state must be "good".
    """
    return (
        proof is not None
        and proof.share >= share
        and proof.readers >= READERS
        and proof.is_of(manifest)
        and listing.fingerprint == proof.listing_sha256
    )


def keep(archive: Archive, manifest: Manifest, share: float, snapshots: int, records: int) -> None:
    """Record a week, just found good, unless more of the same is proven already."""
    week = Week.parse(manifest.week)
    new = Proof(
        week=manifest.week,
        sha256=manifest.output.sha256,
        listing_sha256=manifest.listing_sha256,
        share=share,
        snapshots=snapshots,
        records=records,
        when=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        readers=READERS,
    )
    try:
        old = read(archive, week)
    except Problem:
        old = None  # damaged: this one takes its place
    if old is not None and old.share > share and old.is_of(manifest) and old.readers >= READERS:
        return
    archive.destination.write(key_of(week), json.dumps(asdict(new), indent=1).encode() + b"\n")
