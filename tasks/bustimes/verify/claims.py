"""Whether what a manifest says can be true: by itself, and beside the raw listing it is of.

Whoever edits a manifest, or loses a part of it, leaves it at odds with itself nearly everywhere:
hours that do not follow each other in the file, sums that are none. What is written down once only
(`tokenized`, `compression_level`, the reasons of refusals) its seal tells (`seal`), if it has one,
and of `conversion` nothing.
"""

from collections import Counter
from collections.abc import Iterator

from tasks.bustimes import manifest as manifests
from tasks.bustimes.listing import Listing
from tasks.bustimes.manifest import HourOfFile, Manifest
from tasks.bustimes.snapshot import time_of
from tasks.compression import END_BYTES, HEADER
from tasks.settings import ORDERS, PYTHON_ESCAPES
from tasks.weeks import Week

_EMPTY_BYTES = 100
"""More than an empty gzip member takes."""


def impossible(manifest: Manifest, week: Week) -> str:
    """What a manifest says that cannot be so, to follow "its manifest"; nothing where all can."""
    if manifest.week != week.label:
        return f"is that of {manifest.week}"
    return next(_at_odds(manifest, week), "")


def _at_odds(manifest: Manifest, week: Week) -> Iterator[str]:
    output, hours = manifest.output, manifest.hours
    if output.file != manifests.file_of(week):
        yield f"is of a file {output.file!r}"
    if manifest.order not in ORDERS:
        yield f"knows an order {manifest.order!r}"
    if manifest.python_escapes not in ("", manifests.UNSET, *PYTHON_ESCAPES):
        yield f"has python_escapes {manifest.python_escapes!r}"
    if not hours:
        yield "has no hours"
    if output.layout not in manifests.LAYOUTS:
        yield f"knows a layout {output.layout!r}"
    is_joined = output.layout == manifests.SEGMENTS
    yield from _of_hours(hours, week, len(HEADER) if is_joined else 0)
    for name, total in (("lines", output.lines), ("snapshots", manifest.snapshots)):
        counted = sum(getattr(hour, name) for hour in hours)
        if counted != total:
            yield f"says {total:,} {name}, and its hours have {counted:,}"
    if output.lines != manifest.records:
        yield f"says {manifest.records:,} records in {output.lines:,} lines"
    yield from _of_segments(manifest) if is_joined else _of_members(manifest)
    raw = [hour.raw_bytes for hour in hours if hour.raw_bytes is not None]
    if len(raw) == len(hours) and sum(raw) != manifest.raw_bytes:
        yield f"says {manifest.raw_bytes:,} raw bytes, and its hours have {sum(raw):,}"
    for at, time in ((0, manifest.first_snapshot), (-1, manifest.last_snapshot)):
        if hours and not time.startswith(hours[at].hour):
            yield f"has a {('first', 'last')[at]} snapshot of {time}, outside its hours"
    yield from _of_refused(manifest, week)
    for name, kinds in manifest.fields.items():
        if sum(kinds.values()) > manifest.records:
            yield f"has the field {name} in more records than there are"


def _of_segments(manifest: Manifest) -> Iterator[str]:
    output, hours = manifest.output, manifest.hours
    sized = len(HEADER) + sum(hour.bytes for hour in hours) + END_BYTES
    if sized != output.bytes:
        yield f"says {output.bytes:,} bytes, and its hours have {sized:,}, with gzip's own"
    unpacked = 0
    for hour in hours:
        if hour.uncompressed_bytes is None or hour.crc32 is None:
            yield f"does not say which size and CRC-32 the lines of the hour {hour.hour} have"
        size = hour.uncompressed_bytes or 0
        if size < 0 or (size > 0) != (hour.lines > 0):
            yield f"says of the hour {hour.hour} that {hour.lines:,} lines have {size:,} bytes"
        unpacked += size
    if unpacked != output.uncompressed_bytes:
        yield (
            f"says {output.uncompressed_bytes:,} bytes unpacked, and its hours have {unpacked:,}"
        )


def _of_members(manifest: Manifest) -> Iterator[str]:
    output, hours = manifest.output, manifest.hours
    sized = sum(hour.bytes for hour in hours)
    if output.lines and sized != output.bytes:
        yield f"says {output.bytes:,} bytes, and its hours have {sized:,}"
    if not output.lines and output.bytes > _EMPTY_BYTES:
        yield f"says {output.bytes:,} bytes for no lines"
    for hour in hours:
        if hour.uncompressed_bytes is not None or hour.crc32 is not None:
            yield f"says of the hour {hour.hour} what a gzip member says itself"


def _of_hours(hours: list[HourOfFile], week: Week, offset: int) -> Iterator[str]:
    """Of hours of which the first lies at this byte of the file."""
    before = ""
    first = week.start.strftime(manifests.HOUR_FORMAT)
    end = week.end.strftime(manifests.HOUR_FORMAT)
    for hour in hours:
        if not first <= hour.hour < end:
            yield f"has an hour {hour.hour!r}, which is not of the week"
        if hour.hour <= before:
            yield f"has the hour {hour.hour} behind {before}"
        if hour.offset != offset:
            yield f"has the hour {hour.hour} at byte {hour.offset:,}, and not at {offset:,}"
        if hour.snapshots < 1 or hour.lines < 0 or (hour.bytes > 0) != (hour.lines > 0):
            yield (
                f"says of the hour {hour.hour} that {hour.snapshots:,} snapshots are "
                f"{hour.lines:,} lines in {hour.bytes:,} bytes"
            )
        offset, before = offset + hour.bytes, hour.hour


def _of_refused(manifest: Manifest, week: Week) -> Iterator[str]:
    seen = set()
    for one in manifest.refused:
        time = time_of(one.key)
        if time is None or not week.start <= time < week.end:
            yield f"has refused {one.key!r}, which is no snapshot of the week"
        if one.key in seen:
            yield f"has refused {one.key} twice"
        seen.add(one.key)


def other_than(manifest: Manifest, listing: Listing) -> str:
    """What a manifest says otherwise than the listing it is of, to follow "its manifest"."""
    return next(_other_than(manifest, listing), "")


def _other_than(manifest: Manifest, listing: Listing) -> Iterator[str]:
    snapshots = listing.snapshots
    counts, sizes = by_hour(listing)
    for hour in manifest.hours:
        name, count, size = hour.hour, counts[hour.hour], sizes[hour.hour]
        if hour.snapshots != count:
            yield f"says {hour.snapshots:,} snapshots in {name}, and there are {count:,}"
        if hour.raw_bytes not in (None, size):
            yield f"says {hour.raw_bytes:,} raw bytes in {name}, and there are {size:,}"
    if len(snapshots) != manifest.snapshots or listing.raw_bytes != manifest.raw_bytes:
        yield (
            f"says {manifest.snapshots:,} snapshots of {manifest.raw_bytes:,} bytes, and there are "
            f"{len(snapshots):,} of {listing.raw_bytes:,}"
        )
    first, last = snapshots[0].time.isoformat(), snapshots[-1].time.isoformat()
    if (first, last) != (manifest.first_snapshot, manifest.last_snapshot):
        yield (
            f"says {manifest.first_snapshot} to {manifest.last_snapshot}, and the snapshots are "
            f"of {first} to {last}"
        )
    size_of = {one.stored.key: one.stored.size for one in snapshots}
    for refused in manifest.refused:
        if size_of.get(refused.key) != refused.bytes:
            yield f"says that {refused.key} has {refused.bytes:,} bytes, and it has not"


def by_hour(listing: Listing) -> tuple[Counter[str], Counter[str]]:
    """How many snapshots each hour has, and how many bytes."""
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for one in listing.snapshots:
        hour = one.time.strftime(manifests.HOUR_FORMAT)
        counts[hour] += 1
        sizes[hour] += one.stored.size
    return counts, sizes
