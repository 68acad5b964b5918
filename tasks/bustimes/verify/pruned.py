"""What it means that a week's raw snapshots were deleted, or are being: which may be missing.

`<destination>/_pruned/{week}.json` says of which week file and listing, and the inventory of that
listing which objects. A record counts for the week file that it names: a week that was restored and
converted again has another listing, and is a week like any other. Reads only.
"""

from dataclasses import dataclass

from tasks import advice, figures
from tasks.bustimes import inventory
from tasks.bustimes import manifest as manifests
from tasks.bustimes.archive import Archive
from tasks.bustimes.listing import Listing
from tasks.bustimes.manifest import Manifest
from tasks.bustimes.verify.lateness import entries_of, named
from tasks.bustimes.verify.records import find_record
from tasks.bustimes.verify.states import DAMAGED, PRUNED, STALE, WeekCheck, convert_again
from tasks.problem import Problem
from tasks.weeks import Week

VERSION = 1


@dataclass(frozen=True)
class PruneRecord:
    """Which objects of a week were deleted, and by which week file they are replaced.

    `listing_sha256` is the fingerprint of the listing, `sha256` the week file's; `objects` and
    `bytes` are all of the listing; times are ISO 8601, UTC, and `ended` is None while it is under
    way. `code` is what was confirmed, and `shown` stands for the objects that were shown with it.
    """

    week: str
    listing_sha256: str
    sha256: str
    objects: int
    bytes: int
    began: str
    ended: str | None = None
    code: str = ""
    shown: str = ""
    version: int = VERSION

    def is_of(self, manifest: Manifest) -> bool:
        """Whether this week file is what stands for the deleted objects."""
        return (self.week, self.listing_sha256, self.sha256) == (
            manifest.week,
            manifest.listing_sha256,
            manifest.output.sha256,
        )


class Damaged(Problem):
    """A record, or the inventory it needs, is not what was written."""


def read(archive: Archive, week: Week) -> PruneRecord | None:
    """A week's record; None where there is none. Raises `Damaged` for one that is none."""
    key = manifests.prune_record_key_of(week)
    try:
        return find_record(archive.destination, key, PruneRecord, VERSION)
    except ValueError as error:
        name = archive.destination.address_of(key)
        raise Damaged(f"{name} is no record of a deletion ({error})") from None


def is_on_record(archive: Archive, week: Week) -> bool:
    """Whether a week file that is not there, or not described, may be all that there was of it.

    Not where a manifest tells that the week was restored and converted again since.
    """
    if archive.destination.find(manifests.prune_record_key_of(week)) is None:
        return False
    try:
        record, manifest = read(archive, week), archive.manifest(week)
    except Problem:
        return True
    if manifest is None or manifest.week != week.label:  # which tells nothing of this one
        return record is not None
    return record is not None and record.is_of(manifest)


def look(archive: Archive, manifest: Manifest, listing: Listing) -> WeekCheck | None:
    """What today's raw listing means for a week whose file is as it should be, if it was pruned."""
    try:
        record = read(archive, listing.week)
        if record is None or not record.is_of(manifest):
            return None
        return _look(archive, manifest, listing, record)
    except Damaged as problem:
        return WeekCheck(
            listing.week,
            DAMAGED,
            str(problem).rstrip("."),
            "Put back a good copy of it: it says for which raw snapshots the week file stands.",
            manifest,
            can_be_converted=False,
        )


def _look(archive: Archive, manifest: Manifest, listing: Listing, record: PruneRecord) -> WeekCheck:
    week, left = listing.week, len(listing.snapshots)
    late = _late(archive, manifest, listing)
    if late:
        return _with_late(archive, manifest, listing, late)
    details: tuple[str, ...] = ()
    if record.ended is None:
        done = f"{left:,} of {record.objects:,} raw snapshots are left"
        details = (f"the deletion was broken off, {done}; {advice.make('prune')} goes on",)
    elif left:
        count = figures.count(left, "raw snapshot")
        details = (f"{count} of {record.objects:,} are there although all were deleted",)
    return WeekCheck(week, PRUNED, manifest=manifest, can_be_converted=False, details=details)


def _late(archive: Archive, manifest: Manifest, listing: Listing) -> list[str]:
    """Raw snapshots that are there, and are none of those that the week file stands for.

    The inventory is needed to restore the week as well: it must be there even if nothing else is.
    """
    key = inventory.key_of(listing.week, manifest.listing_sha256)
    if not listing.snapshots and archive.destination.find(key) is not None:
        return []
    try:
        entries = entries_of(archive, manifest)
    except Problem as problem:
        raise Damaged(str(problem)) from None
    if entries is None:
        raise Damaged(
            f"{archive.destination.address_of(key)}, its inventory, is not there any more"
        )
    proven = {(one.key, one.size, one.etag) for one in entries}
    there = [one.stored for one in listing.snapshots]
    return [one.key for one in there if (one.key, one.size, one.etag) not in proven]


def _with_late(
    archive: Archive, manifest: Manifest, listing: Listing, late: list[str]
) -> WeekCheck:
    week, is_whole = listing.week, not manifests.gone_from(manifest, listing)
    restoring = advice.make("restore", WEEK=week, TO=archive.source.url)
    converting = advice.make("full", WEEKS=week, REFRESH=1)
    back = (
        f"Keep the week file, which holds all others: put those back with {restoring} and then "
        f"run {converting}"
    )
    return WeekCheck(
        week,
        STALE,
        f"{figures.count(len(late), 'raw snapshot')} came after its raw snapshots were deleted",
        convert_again(week) if is_whole else back,
        manifest,
        can_be_converted=is_whole,
        details=(f"came: {named(late)}",),
    )
