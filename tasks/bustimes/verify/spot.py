"""A few random raw snapshots of an archive, held against its week files: what every verify does.

Reads an hour of a week file and one snapshot for each, in this process.
"""

import random
from collections.abc import Iterator

from tasks.bustimes import manifest as manifests
from tasks.bustimes.archive import Archive
from tasks.bustimes.listing import Listing, list_week
from tasks.bustimes.manifest import Manifest
from tasks.bustimes.verify.checker import check_hour
from tasks.bustimes.verify.deep import WeekRead
from tasks.bustimes.verify.states import GOOD, PARTIAL, WeekCheck, unread
from tasks.bustimes.verify.surface import check_week, damaged_inside
from tasks.bustimes.verify.week_reader import job_of, readable_by_hour, refused_otherwise
from tasks.problem import Problem
from tasks.storage.listed import Unreadable


def spot_check(
    archive: Archive, checks: list[WeekCheck], count: int, seed: int
) -> Iterator[WeekRead]:
    """Compare so many random snapshots of those weeks that are as they should be."""
    choice = random.Random(seed)
    weeks = [check for check in checks if check.state in (GOOD, PARTIAL)]
    for _ in range(count if weeks else 0):
        yield _compare_one(archive, choice.choice(weeks), choice)


def _compare_one(archive: Archive, check: WeekCheck, choice: random.Random) -> WeekRead:
    """What is said of a week whose snapshots come or go this very moment is what is there now."""
    assert check.manifest is not None
    listing = list_week(archive.source, check.week)
    if listing.fingerprint == check.manifest.listing_sha256:
        try:
            return _compare(archive, check, check.manifest, listing, choice)
        except Problem as problem:
            listing = list_week(archive.source, check.week)
            if listing.fingerprint == check.manifest.listing_sha256:
                if isinstance(problem, Unreadable):
                    return WeekRead(unread(check, str(problem)), 0, 0)
                raise
    archive.list_again()
    return WeekRead(check_week(archive, check.week, listing=listing), 0, 0)


def _compare(
    archive: Archive,
    check: WeekCheck,
    manifest: Manifest,
    listing: Listing,
    choice: random.Random,
) -> WeekRead:
    readable = [one for one in listing.snapshots if not one.stored.archived]
    archived = len(listing.snapshots) - len(readable)
    if not readable:
        return WeekRead(check, 0, 0, archived)
    snapshot = choice.choice(readable)
    key = snapshot.stored.key
    faults = list(refused_otherwise(archive, manifest, {key}))
    snapshots, records = 1, 0
    if all(one.key != key for one in manifest.refused):
        name = snapshot.time.strftime(manifests.HOUR_FORMAT)
        hour = next(one for one in manifest.hours if one.hour == name)
        file = manifests.file_of(check.week)
        data = archive.destination.read(file, hour.offset, hour.bytes)
        of_hour = readable_by_hour(listing, manifest)[name]
        job = job_of(manifest, hour, data, of_hour, {key})
        bodies = [archive.source.read(one.stored.key) for one in job.compared]
        found = check_hour(job, bodies)
        snapshots, records = len(bodies), found.comparison.records
        if found.read.fault:
            line = f"line {found.read.line:,} of " if found.read.line else ""
            faults.append(f"{line}the hour {name} {found.read.fault}")
        faults += found.comparison.faults
    if faults:
        check = damaged_inside(archive, check, tuple(faults))
    return WeekRead(check, snapshots, records, archived)
