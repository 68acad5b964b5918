"""One archive: where its raw snapshots come from, where its weeks go, and which weeks are there.

`Archive.open` reads the settings and opens both roots; `weeks_written` is the destination's one
listing, taken again only on request, so that asking for 481 weeks costs what asking for one does.
`convert_week` is the whole way of one week, from listing to published file. No luigi here: the
tasks of `graph` call this, and so may a notebook.
"""

import datetime as dt
import functools
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tasks import advice, figures
from tasks.bustimes import manifest as manifests
from tasks.bustimes import weekfile
from tasks.bustimes.listing import FIRST_WEEK, Listing, list_week
from tasks.bustimes.manifest import Manifest
from tasks.bustimes.strays import Stray, survey
from tasks.problem import Problem
from tasks.settings import Settings, load
from tasks.storage import Overtaken, Root, StoredObject, open_root
from tasks.storage.archived import must_be_readable
from tasks.weeks import Week, chosen

if TYPE_CHECKING:
    from tasks.bustimes.hour import ConvertedHour


@dataclass
class Archive:
    """Raw snapshots at `source`, week files at `destination`."""

    settings: Settings
    source: Root
    destination: Root
    _written: dict[Week, StoredObject] | None = field(default=None, repr=False)

    @classmethod
    def open(cls) -> "Archive":
        """The archive of the settings; one for each process."""
        return _open(os.getpid())

    @property
    def short_name(self) -> str:
        """Tells this archive from every other, by its two places."""
        places = f"{self.source.url}\n{self.destination.url}"
        return hashlib.sha256(places.encode(errors="surrogateescape")).hexdigest()[:8]

    @property
    def spool(self) -> weekfile.Spool:
        return weekfile.Spool(self.settings.spool, self.destination.url)

    def weeks_written(self) -> dict[Week, StoredObject]:
        """The week files at the destination, as last listed."""
        if self._written is None:
            self.list_again()
        assert self._written is not None
        return self._written

    def list_again(self) -> None:
        """List the destination anew."""
        written = {}
        for stored in self.destination.top_objects():
            week = manifests.week_of(stored.key)
            if week is not None:
                written[week] = stored
        self._written = written

    def is_as_written(self, key: str, sha256: str, s3_sha256: str, may_read: bool) -> bool:
        """Whether an object of the destination has these checksums, as `OutputFile` has them.

        S3 keeps them itself. Where it does not, in a folder or of an object that another tool
        wrote, the bytes are read; if they `may` not be, all is taken to be well.
        """
        kept = self.destination.stored_sha256(key)
        if kept is not None:
            return kept == s3_sha256
        if not may_read:
            return True
        digest = hashlib.sha256()
        for chunk in self.destination.stream(key):
            digest.update(chunk)
        return digest.hexdigest() == sha256

    def manifest_bytes(self, week: Week) -> bytes | None:
        """A week's manifest as it stands at the destination, or None where there is none."""
        key = manifests.key_of(week)
        return self.destination.read(key) if self.destination.find(key) else None

    def manifest(self, week: Week) -> Manifest | None:
        data = self.manifest_bytes(week)
        name = self.destination.address_of(manifests.key_of(week))
        return None if data is None else manifests.from_bytes(data, name)

    def has(self, week: Week, replaces: str) -> bool:
        """Whether a week is written, by the last listing; see `WeekTask.replaces`.

        One that has something in the spool is not: a run was killed before it had cleared it.
        """
        if week not in self.weeks_written() or self.spool.week(week).has_something():
            return False
        return not replaces or self.identity(week) != replaces

    def identity(self, week: Week) -> str:
        """A short name for a week's file as it stands, which changes when it is written again.

        Not of its manifest: that is written before it, perhaps by a machine that is gone by now.
        """
        stored = self.weeks_written()[week]
        of_file = f"{stored.size} {stored.etag} {stored.written}"
        return hashlib.sha256(of_file.encode()).hexdigest()[:12]

    def strays_elsewhere(self, listed: set[Week], asked: list[Week]) -> list[Stray]:
        """What looks like a snapshot outside of the weeks that somebody lists; see `survey`."""
        not_ours = self.settings.not_ours
        return survey(self.source, self.destination, listed, asked, now(), not_ours)

    def chosen_weeks(self, labels: str, first: str, last: str) -> list[Week]:
        """The weeks that `weeks` (comma-separated), `from` and `to` ask for."""
        given = labels.replace(",", " ").split()
        if labels.strip() and not given:
            raise Problem(f"{labels!r} names no week: write WEEKS=2018-W25,2021-W45, or leave it.")
        return chosen(given, first, last, now(), FIRST_WEEK)


_BY_ANOTHER = "was finished by another run"
_FROM_SPOOL = "uploaded from the spool, where an earlier run had left it"


@dataclass(frozen=True)
class WeekResult:
    """What became of a week: `manifest` is None where there were no snapshots."""

    manifest: Manifest | None
    how: str

    @property
    def is_by_another(self) -> bool:
        """Whether another run was quicker."""
        return self.how == _BY_ANOTHER


def convert_week(
    archive: Archive,
    week: Week,
    replaces: str,
    processes: int,
    on_listing: "Callable[[Listing], Callable[[ConvertedHour], None]]",
    say: Callable[[str], None],
) -> WeekResult:
    """List, convert and publish a week; goes on where an earlier run stopped.

    `on_listing` is told what will be converted and returns what to call with each hour. Raises
    `Problem`; then the destination is as it was.
    """
    with archive.spool.lock(week, on_wait=lambda: say(f"{week}: another run is at it; waiting.")):
        spooled = archive.spool.week(week)
        if spooled.is_finished() and not spooled.is_intact():
            say(f"{week}: what waited in the spool is damaged. {spooled.put_aside()}")
        if replaces:
            archive.list_again()
            stored = archive.weeks_written().get(week)
            is_wanted = stored is None or archive.identity(week) == replaces
        else:
            stored = archive.destination.find(manifests.file_of(week))
            is_wanted = stored is None
        if not is_wanted and not spooled.is_finished():
            spooled.clear()
            return WeekResult(archive.manifest(week), _BY_ANOTHER)
        listing = list_week(archive.source, week)
        over = week.is_over(now())
        if spooled.is_of(listing, over, archive.settings):  # killed before, or while, it published
            return WeekResult(_publish(spooled, archive, stored), _FROM_SPOOL)
        if not is_wanted:
            spooled.clear()
            return WeekResult(archive.manifest(week), _BY_ANOTHER)
        if not listing.snapshots:
            return WeekResult(None, "has no raw snapshots")
        if stored is None:
            _must_not_pass_for_all(archive, week)
        _must_be_readable(archive, listing)
        on_hour = on_listing(listing)
        try:
            manifest = weekfile.finish(
                listing, over, archive.source, spooled, archive.settings, processes, on_hour
            )
        except weekfile.MostlyRefused:
            spooled.clear()  # the bytes of all that was set aside are as they were at the source
            raise
        if stored is not None:
            _must_not_be_less(archive, spooled, manifest)
        return WeekResult(_publish(spooled, archive, stored), "converted")


def _must_be_readable(archive: Archive, listing: Listing) -> None:
    """Nothing of a week is fetched that S3 has archived: each GET would be paid for and refused."""
    objects = [one.stored for one in listing.snapshots]
    if any(one.archived for one in objects):
        must_be_readable(listing.week.label, archive.source.url, objects)


def _must_not_pass_for_all(archive: Archive, week: Week) -> None:
    """A week whose file is gone is not made of what a deletion has left of its raw side."""
    if archive.destination.find(manifests.prune_record_key_of(week)) is None:
        return
    from tasks.bustimes.verify import pruned  # it goes by this module

    if pruned.is_on_record(archive, week):
        address_of = archive.destination.address_of
        raise Problem(
            f"{week} has no file, and raw snapshots of it were deleted by make prune: what is left "
            f"is not the week. Put back a good copy of {address_of(manifests.file_of(week))}; or, "
            "if the source has the whole week again, remove "
            f"{address_of(manifests.prune_record_key_of(week))}."
        )


def _must_not_be_less(archive: Archive, spooled: weekfile.SpooledWeek, manifest: Manifest) -> None:
    """A week that is there is not replaced by one with fewer records."""
    before = archive.manifest(spooled.week)
    if before is not None and manifest.records < before.records:
        spooled.clear()
        file = archive.destination.address_of(manifests.file_of(spooled.week))
        refused = "".join(f" {one.key}: {one.reason}." for one in manifest.refused[:1])
        raise Problem(
            f"{spooled.week} is left as it is: converted again it would hold "
            f"{manifest.records:,} records in place of {before.records:,}.{refused} Look at what "
            f"has become of its raw snapshots. If it is right so, remove {file} and run "
            f"{advice.make('full', WEEKS=spooled.week)}"
        )


def publish_waiting(archive: Archive, spooled: weekfile.SpooledWeek) -> str:
    """Publish a finished week that waits in the spool; says what became of it.

    Raises `Problem` for one that is not what was converted.

    One that the archive has got meanwhile, and that is not what the source holds today, goes: it
    could only put an older week in place of a newer one.
    """
    week = spooled.week
    with archive.spool.lock(week, on_wait=lambda: None):
        if not spooled.is_finished():
            return _BY_ANOTHER
        if not spooled.is_intact():
            raise Problem(
                f"{week} was damaged in the spool and is not published. {spooled.put_aside()} "
                f"{advice.make('full', WEEKS=week)} converts it again."
            )
        stored = archive.destination.find(manifests.file_of(week))
        if stored is not None:
            listing = list_week(archive.source, week)
            if not spooled.is_of(listing, week.is_over(now()), archive.settings):
                spooled.clear()
                return "is in the archive already, and the older one in the spool was removed"
        size = _publish(spooled, archive, stored).output.bytes
        return f"uploaded and confirmed: {figures.size(size)} of disk are free again"


def _publish(
    spooled: weekfile.SpooledWeek, archive: Archive, replaced: StoredObject | None
) -> Manifest:
    try:
        expected_etag = replaced.etag if replaced is not None else ""
        return weekfile.publish(spooled, archive.destination, expected_etag)
    except Overtaken:
        spooled.clear()
        raise
    except Problem as problem:
        raise Problem(
            f"{problem} {spooled.week} is finished and waits in {spooled.folder}: "
            f"{advice.make('sync')} or the next run uploads it without converting it again."
        ) from None


def now() -> dt.datetime:
    """The time by which weeks are over."""
    return dt.datetime.now(dt.UTC)


@functools.lru_cache(maxsize=1)
def _open(_pid: int) -> Archive:
    settings = load()
    return Archive(settings, open_root(settings.source), open_root(settings.destination))
