"""All of a week that can be told without reading snapshots: file, manifest, raw listing, refusals.

The file's size and checksum, what the manifest says beside itself and the listing, whether raw
snapshots came, changed or went, and whether the bytes of those that could not be read are kept.
"""

from collections.abc import Iterator
from dataclasses import replace

from tasks import figures
from tasks.bustimes import archive as archives
from tasks.bustimes import inventory, seal
from tasks.bustimes import manifest as manifests
from tasks.bustimes.archive import Archive
from tasks.bustimes.listing import Listing, list_week
from tasks.bustimes.manifest import Manifest
from tasks.bustimes.seal import Finding
from tasks.bustimes.strays import ours
from tasks.bustimes.verify import claims, lateness, pruned, states
from tasks.bustimes.verify.readable_now import readable_now
from tasks.bustimes.verify.states import (
    ATTENTION,
    DAMAGED,
    GAP,
    GOOD,
    MISSING,
    PARTIAL,
    RAW_GONE,
    STALE,
    WeekCheck,
)
from tasks.problem import Problem
from tasks.storage import StoredObject
from tasks.weeks import Week


def check_week(
    archive: Archive, week: Week, will_be_read: bool = False, listing: Listing | None = None
) -> WeekCheck:
    """Everything about one week that can be told without reading snapshots.

    A file in a folder is read for its checksum, unless it `will_be_read` anyway. `listing` is that
    of the raw side, if somebody has just made it.
    """
    listing = listing or list_week(archive.source, week)
    check = _check_week(archive, week, will_be_read, listing)
    strays = ours(listing.strays, archive.settings.not_ours)
    return replace(check, strays=tuple(strays)) if strays else check


def _check_week(archive: Archive, week: Week, will_be_read: bool, listing: Listing) -> WeekCheck:
    stored = archive.weeks_written().get(week)
    if stored is None:
        return _without_file(archive, listing)
    data = archive.manifest_bytes(week)
    if data is None:
        return _without_manifest(archive, week, "the file has no manifest")
    try:
        name = archive.destination.address_of(manifests.key_of(week))
        manifest = manifests.from_bytes(data, name)
    except Problem as problem:
        return _without_manifest(archive, week, str(problem).rstrip("."))
    impossible = claims.impossible(manifest, week)
    if impossible:
        return _without_manifest(archive, week, f"its manifest {impossible}")
    sealed = seal.look(archive.destination, week, data, manifest)
    for name, why in _damages(archive, week, manifest, stored.size, will_be_read, sealed):
        gone = 0
        if listing.fingerprint != manifest.listing_sha256:
            gone = lateness.look(archive, manifest, listing, stored.written).gone
        if gone:
            why = f"{why}, and {_are_gone(gone, manifest)}"
            remedy = states.put_back(archive.destination.address_of(name))
            return WeekCheck(week, DAMAGED, why, remedy, manifest, can_be_converted=False)
        return WeekCheck(week, DAMAGED, why, states.convert_again(week), manifest)
    check = _beside_the_raw_side(archive, manifest, listing, stored)
    if check.state in (GOOD, PARTIAL) and manifest.refused:
        check = _with_readable(archive, check, manifest)
    return check if sealed is Finding.WHOLE else replace(check, is_sealed=False)


def _with_readable(archive: Archive, check: WeekCheck, manifest: Manifest) -> WeekCheck:
    keys = readable_now(archive, manifest)
    if not keys:
        return check
    count = figures.count(len(keys), "refused snapshot")
    what = f"{count} could be read now, such as {keys[0]}; {states.take_in(check.week)}"
    return replace(check, details=(*check.details, what), readable_now=tuple(keys))


def damaged_inside(archive: Archive, check: WeekCheck, faults: tuple[str, ...]) -> WeekCheck:
    """What to say of a week that looks as `check` says, and was found damaged by reading it."""
    file = archive.destination.address_of(manifests.file_of(check.week))
    why, remedy = faults[0], states.replace(file, check.week)
    if not check.can_be_converted:
        gone = check.why or "its raw snapshots are gone from the source"
        why, remedy = f"{why}, and {gone}", states.put_back(file)
    return replace(check, state=DAMAGED, why=why, remedy=remedy, details=faults[1:])


def _beside_the_raw_side(
    archive: Archive,
    manifest: Manifest,
    listing: Listing,
    stored: StoredObject,
) -> WeekCheck:
    """The state of a week whose file is as it should be."""
    week = listing.week
    if listing.fingerprint == manifest.listing_sha256:
        other = claims.other_than(manifest, listing)
        if other:
            why = f"its manifest {other}"
            return WeekCheck(week, DAMAGED, why, states.convert_again(week), manifest)
        setting = archive.settings.python_escapes
        if setting and manifest.python_escapes not in ("", setting):
            why = f"it was converted with python_escapes {manifest.python_escapes}, not {setting}"
            return WeekCheck(week, STALE, why, states.convert_again(week), manifest)
        if mostly_refused := _mostly_refused(archive, manifest):
            return mostly_refused
        if manifest.week_over:
            return WeekCheck(week, GOOD, manifest=manifest)
        if week.is_over(archives.now()):
            why = "it was converted before the week was over"
            return WeekCheck(week, STALE, why, states.convert_again(week), manifest)
        return WeekCheck(week, PARTIAL, manifest=manifest)
    found = pruned.look(archive, manifest, listing)
    if found is not None:
        return found
    changes = lateness.look(archive, manifest, listing, stored.written)
    if changes.gone:
        return WeekCheck(
            week,
            RAW_GONE,
            _are_gone(changes.gone, manifest),
            "The week file holds their records; keep it, and do not convert the week again.",
            manifest,
            can_be_converted=False,
            details=changes.details,
        )
    again = states.convert_again(week)
    return WeekCheck(week, STALE, changes.why, again, manifest, details=changes.details)


def _mostly_refused(archive: Archive, manifest: Manifest) -> WeekCheck | None:
    """What to say of a week of which hardly anything could be read."""
    share, refused = archive.settings.max_refused_share, manifest.refused
    if not manifests.is_mostly_refused(len(refused), manifest.snapshots, share):
        return None
    week = Week.parse(manifest.week)
    first = refused[0]
    return WeekCheck(
        week,
        ATTENTION,
        f"{len(refused):,} of its {figures.count(manifest.snapshots, 'snapshot')} could not be "
        f"read, such as {first.key}, because {first.reason}",
        "If nothing can be done about them, MAX_REFUSED_SHARE=1 takes the week as it is. If an "
        f"older version could not read them, this one may. {states.convert_again(week)}",
        manifest,
    )


def _without_file(archive: Archive, listing: Listing) -> WeekCheck:
    week = listing.week
    if pruned.is_on_record(archive, week):
        return _without_what_stands_for_it(archive, week, manifests.file_of(week), "it has no file")
    if listing.snapshots:
        count = figures.count(len(listing.snapshots), "raw snapshot")
        return WeekCheck(week, MISSING, f"{count} and no file", states.convert(week))
    if archive.destination.find(manifests.key_of(week)) is None:
        return WeekCheck(week, GAP)
    file = archive.destination.address_of(manifests.file_of(week))
    why = "it has a manifest, but neither a file nor raw snapshots"
    return WeekCheck(week, DAMAGED, why, states.put_back(file), can_be_converted=False)


def _without_manifest(archive: Archive, week: Week, why: str) -> WeekCheck:
    """Nobody knows what the file holds, so a person must say that the source has it all."""
    if pruned.is_on_record(archive, week):
        return _without_what_stands_for_it(archive, week, manifests.key_of(week), why)
    file = archive.destination.address_of(manifests.file_of(week))
    remedy = states.replace(file, week)
    remedy = f"If the source still has the whole week, {remedy[0].lower()}{remedy[1:]}"
    return WeekCheck(week, DAMAGED, why, remedy, can_be_converted=False)


def _without_what_stands_for_it(archive: Archive, week: Week, name: str, why: str) -> WeekCheck:
    """Of a week that was pruned: what is left of its raw snapshots must not pass for all."""
    why = f"{why}, and its raw snapshots were deleted by make prune"
    remedy = states.put_back(archive.destination.address_of(name))
    return WeekCheck(week, DAMAGED, why, remedy, can_be_converted=False)


def _are_gone(gone: int, manifest: Manifest) -> str:
    return f"{gone:,} of {manifest.snapshots:,} raw snapshots in it are gone from the source"


def _damages(
    archive: Archive,
    week: Week,
    manifest: Manifest,
    size: int,
    will_be_read: bool,
    sealed: Finding,
) -> Iterator[tuple[str, str]]:
    """What is not as it was written, by its key, and how."""
    key = manifests.file_of(week)
    if manifest.output.bytes != size:
        yield key, f"the file has {size:,} bytes, its manifest says {manifest.output.bytes:,}"
        return
    output = manifest.output
    may_read = not (archive.destination.keeps_checksums or will_be_read)  # S3's only by DEEP=1
    if not archive.is_as_written(key, output.sha256, output.s3_sha256, may_read):
        yield key, "the file's SHA-256 is not the one in its manifest"
    if manifest.inventory is not None:
        kept, key = manifest.inventory, inventory.key_of(week, manifest.listing_sha256)
        stored = archive.destination.find(key)
        if stored is None:
            yield key, f"its inventory, {key}, is gone"
        elif stored.size != kept.bytes or not archive.is_as_written(
            key, kept.sha256, kept.s3_sha256, may_read=True
        ):
            yield key, f"its inventory, {key}, is not the one in its manifest"
    for refused in manifest.refused:
        key = manifests.refused_key_of(week, refused.key)
        stored = archive.destination.find(key)
        if stored is None or stored.size != refused.bytes:
            yield key, f"the bytes of the unreadable {refused.key} are not kept under _refused/"
    if sealed is Finding.EDITED:
        yield manifests.key_of(week), "its manifest is not the one that was written with its file"
