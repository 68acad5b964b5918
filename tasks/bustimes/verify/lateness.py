"""How a week's raw snapshots differ from those it was converted from, as far as that can be told.

The week's inventory names every one, so that what came, was replaced or is gone can be named. A
week that was written before there were inventories has the hours of its manifest only, with how
many snapshots each had and how many bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tasks import figures
from tasks.bustimes import inventory
from tasks.bustimes import manifest as manifests
from tasks.bustimes.archive import Archive
from tasks.bustimes.inventory import Entry
from tasks.bustimes.listing import Listing
from tasks.bustimes.manifest import Manifest
from tasks.bustimes.verify.claims import by_hour
from tasks.problem import Problem
from tasks.weeks import Week

_NAMED = 3
_HOURS_NAMED = 5


@dataclass(frozen=True)
class Changes:
    """How many raw snapshots are gone, at the least; a sentence on the others, and lines on all."""

    gone: int
    why: str
    details: tuple[str, ...]


def look(archive: Archive, manifest: Manifest, listing: Listing, written: float) -> Changes:
    """What is other than it was; `written` is when the week file was, in seconds of the epoch."""
    try:
        entries = entries_of(archive, manifest)
    except Problem as problem:
        changes = _by_hours(manifest, listing, written)
        return Changes(changes.gone, changes.why, (*changes.details, str(problem)))
    if entries is None:
        return _by_hours(manifest, listing, written)
    return _by_keys(entries, listing)


def entries_of(archive: Archive, manifest: Manifest) -> list[Entry] | None:
    """A week's inventory; None where it has none. Raises `Problem` for a damaged one."""
    key = inventory.key_of(Week.parse(manifest.week), manifest.listing_sha256)
    if archive.destination.find(key) is None:
        return None
    name = archive.destination.address_of(key)
    return inventory.from_bytes(archive.destination.read(key), manifest.listing_sha256, name)


def _by_keys(entries: list[Entry], listing: Listing) -> Changes:
    then = {one.key: (one.size, one.etag) for one in entries}
    now = {one.stored.key: (one.stored.size, one.stored.etag) for one in listing.snapshots}
    came = [key for key in now if key not in then]
    replaced = [key for key in now if key in then and now[key] != then[key]]
    gone = [key for key in then if key not in now]
    said = [
        f"{figures.count(len(keys), 'raw snapshot')} {verb}"
        for keys, verb in (
            (came, "came"),
            (replaced, "was replaced" if len(replaced) == 1 else "were replaced"),
        )
        if keys
    ]
    details = [
        f"{word}: {named(keys)}"
        for word, keys in (("came", came), ("replaced", replaced), ("gone", gone))
        if keys
    ]
    return Changes(len(gone), f"{' and '.join(said)} after it was converted", tuple(details))


def _by_hours(manifest: Manifest, listing: Listing, written: float) -> Changes:
    more = len(listing.snapshots) - manifest.snapshots
    if more > 0:
        why = f"{figures.count(more, 'raw snapshot')} came after it was converted"
    else:
        why = "raw snapshots have changed since it was converted"
    hours = list(_hours(manifest, listing))
    details = hours[:_HOURS_NAMED]
    if len(hours) > _HOURS_NAMED:
        details.append(f"and {figures.count(len(hours) - _HOURS_NAMED, 'more hour')}")
    since = [one.stored.key for one in listing.snapshots if one.stored.written > written]
    if since:
        details.append(f"written since the week file: {named(since)}")
    if not details:
        details.append("no hour has another number of snapshots, or other bytes")
    return Changes(manifests.gone_from(manifest, listing), why, tuple(details))


def _hours(manifest: Manifest, listing: Listing) -> Iterator[str]:
    counts, sizes = by_hour(listing)
    then = {hour.hour: hour for hour in manifest.hours}
    for name in sorted({*counts, *then}):
        was = then.get(name)
        before, now = was.snapshots if was else 0, counts[name]
        raw_before = was.raw_bytes if was else 0
        if now != before:
            word = "more" if now > before else "fewer"
            yield f"{name}: {abs(now - before):,} {word} than the {before:,} that it had"
        elif raw_before not in (None, sizes[name]):
            yield f"{name}: as many, but {sizes[name]:,} bytes and not {raw_before:,}"


def named(keys: list[str]) -> str:
    """The first few of some keys."""
    rest = len(keys) - _NAMED
    return ", ".join(keys[:_NAMED]) + (f" and {rest:,} more" if rest > 0 else "")
