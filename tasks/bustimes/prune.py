"""Deleting raw snapshots of weeks that were proven whole: guarded, logged, and never guessed.

`look` says of each week whether its raw snapshots may go, and if not, why not; `prune` deletes
those of one week, having looked again. A week may go when it is over and was converted after it
was, when every one of its raw snapshots has been compared with the week file record by record
(`SHARE=1.0`), and when week file, raw listing and kept bytes are still those. Before the first
deletion the record of it is written to `_pruned/{week}.json`; a deletion that was broken off goes
on from there. What is deleted is what the week's inventory names, byte for byte as it was: what is
other, or came later, stays. Nothing of the destination is ever deleted.
"""

import datetime as dt
import hashlib
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace

from tasks import advice, figures
from tasks.bustimes import archive as archives
from tasks.bustimes import manifest as manifests
from tasks.bustimes.archive import Archive
from tasks.bustimes.inventory import Entry
from tasks.bustimes.listing import Listing, list_week, weeks_with_snapshots
from tasks.bustimes.manifest import Manifest
from tasks.bustimes.verify import proof
from tasks.bustimes.verify.lateness import entries_of
from tasks.bustimes.verify.pruned import PruneRecord, read
from tasks.bustimes.verify.states import GOOD, PRUNED
from tasks.bustimes.verify.surface import check_week
from tasks.bustimes.verify.week_reader import refused_otherwise
from tasks.problem import Problem
from tasks.storage import StoredObject
from tasks.storage.deletion import delete
from tasks.storage.s3 import S3Prefix
from tasks.weeks import Week

_WEEKS_AT_ONCE = 4
_AT_ONCE = 250
"""Snapshots deleted by one request: fewer than S3 takes, so that the week file, which is looked at
before each, is looked at often."""


@dataclass(frozen=True)
class Candidate:
    """A week by what may be deleted of it: `why_not`, to follow "it is", is empty where it may go.

    `entries` are the raw snapshots that are there and were proven. `is_done` holds where nothing
    is left to do. `record` is that of a deletion of this week file that has begun.
    """

    week: Week
    why_not: str = ""
    entries: list[Entry] = field(default_factory=list)
    is_done: bool = False
    record: PruneRecord | None = None

    @property
    def may_go(self) -> bool:
        return not (self.why_not or self.is_done)

    @property
    def bytes(self) -> int:
        return sum(one.size for one in self.entries)

    @property
    def fingerprint(self) -> str:
        """Stands for the entries: their keys, sizes and ETags."""
        digest = hashlib.sha256()
        for one in sorted(self.entries, key=lambda entry: entry.key):
            digest.update(f"{one.key}\0{one.size}\0{one.etag}\n".encode())
        return digest.hexdigest()

    def shown_as(self, code: str) -> str:
        """What was shown of this week when the `code` was: what is there, or was when it began."""
        if self.record is not None and code and self.record.code == code:
            return self.record.shown
        return self.fingerprint if self.may_go else ""


def code_of(archive: Archive, candidates: list[Candidate], confirmed: str = "") -> str:
    """Stands for the weeks that may go, with each of their snapshots: 8 hexadecimal digits.

    Weeks whose deletion began when this code was `confirmed` count as they were then, so that what
    was broken off goes on with the same code.
    """
    shown = {one.week: one.shown_as(confirmed) for one in candidates}
    lines = [f"{week} {fingerprint}" for week, fingerprint in sorted(shown.items()) if fingerprint]
    text = "\n".join([archive.source.url, archive.destination.url, *lines])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Pruned:
    """What one call has deleted, and how many raw snapshots were replaced meanwhile and stay."""

    objects: int
    bytes: int
    late: int


def look_at_all(
    archive: Archive, weeks: list[Week], on_week: Callable[[], object] = lambda: None
) -> list[Candidate]:
    """`look` at those of the weeks that have a file or raw snapshots; changes nothing."""
    archive.source.check_readable()
    archive.list_again()
    missing = [week for week in weeks if week not in archive.weeks_written()]
    gaps = set(missing) - weeks_with_snapshots(archive.source, missing)

    def looked_at(week: Week) -> Candidate:
        found = look(archive, week)
        on_week()
        return found

    with ThreadPoolExecutor(_WEEKS_AT_ONCE) as threads:
        return list(threads.map(looked_at, [week for week in weeks if week not in gaps]))


def look(archive: Archive, week: Week) -> Candidate:
    """Whether a week's raw snapshots may be deleted; changes nothing. Raises `Problem`."""
    return _Look(archive, week).candidate


class _Look:
    """One look at a week; what it has read is there for who deletes."""

    manifest: Manifest
    file: StoredObject
    record: PruneRecord | None = None

    def __init__(self, archive: Archive, week: Week) -> None:
        self._archive, self._week = archive, week
        self.candidate = self._look()

    def _look(self) -> Candidate:
        archive, week = self._archive, self._week
        if week not in archive.weeks_written():
            return Candidate(week, f"not converted: {advice.make('full')} does that")
        try:
            return self._look_at_file()
        except Problem as problem:  # of this week; whatever hinders all of them comes again
            return Candidate(week, f"not as it should be: {str(problem).rstrip('.')}")

    def _look_at_file(self) -> Candidate:
        archive, week = self._archive, self._week
        file, manifest = archive.destination.find(manifests.file_of(week)), archive.manifest(week)
        if file is None or manifest is None:
            return Candidate(week, f"without its manifest: {advice.make('verify')} says what to do")
        self.file, self.manifest = file, manifest
        if not (manifest.week_over and week.is_over(archives.now())):
            again = advice.make("refresh")
            return Candidate(
                week, f"not over when it was converted: {again} converts it once it is"
            )
        known, proving = proof.read(archive, week), advice.make("verify", SHARE="1.0")
        if known is None or known.share < 1:
            return Candidate(week, f"not proven: {proving} does that")
        if not known.is_of(manifest):
            return Candidate(week, f"converted again since it was proven: {proving} proves it anew")
        listing = list_week(archive.source, week)
        check = check_week(archive, week, listing=listing)
        if check.state not in (GOOD, PRUNED):
            return Candidate(week, f"{check.state}: {check.why}")
        record = read(archive, week)
        if record is not None and record.is_of(manifest):  # else of an earlier file, then restored
            self.record = record
        elif known.readers < proof.READERS:
            by_older = "proven by an older version, which read some text of Python 2 wrongly"
            return Candidate(week, f"{by_older} and found it equal: {proving} proves it anew")
        return self._look_at_raw_side(listing)

    def _look_at_raw_side(self, listing: Listing) -> Candidate:
        archive, week = self._archive, self._week
        entries = as_proven(_inventory(archive, self.manifest), listing)
        if self.record is not None and self.record.ended is not None and not entries:
            return Candidate(week, is_done=True, record=self.record)
        if not _is_what_was_proven(archive, self.manifest):
            reading = advice.make("verify", DEEP=1)
            return Candidate(week, f"not the file that was proven: {reading} says more")
        for why in refused_otherwise(archive, self.manifest, {one.key for one in entries}):
            return Candidate(week, f"not kept whole: {why}")
        return Candidate(week, entries=entries, record=self.record)


def prune(
    archive: Archive,
    week: Week,
    on_deleted: Callable[[int], object] = int,
    shown: Candidate | None = None,
    code: str = "",
) -> Pruned:
    """Delete the raw snapshots of a week, if they still may go.

    `on_deleted` is called with the number of objects of each batch. Where the week was `shown`,
    with this `code`, nothing else than that is deleted. Raises `Problem`; what is deleted by then
    stays on record, and the next call goes on.
    """
    source = archive.source
    assert isinstance(source, S3Prefix)  # `must_be_allowed` has seen to it
    # So that no run of this machine converts the week meanwhile; one elsewhere finds the record.
    with archive.spool.lock(week, on_wait=lambda: None):
        found = _Look(archive, week)
        candidate = found.candidate
        if candidate.why_not:
            raise Problem(f"{week} is {candidate.why_not}. Nothing of it is deleted.")
        if candidate.is_done:
            return Pruned(0, 0, 0)
        if shown is not None and candidate.shown_as(code) != shown.shown_as(code):
            raise Problem(
                f"The raw snapshots of {week} are not those that were shown any more. Nothing of "
                f"it is deleted; {advice.make('prune', WEEKS=week)} shows them anew."
            )
        record = found.record
        if record is None or record.code != code:
            record = _begin(archive, found.manifest, record, code, candidate.fingerprint)
        changed = 0
        for start in range(0, len(candidate.entries), _AT_ONCE):
            _must_still_be_there(archive, week, found.file)
            batch = candidate.entries[start : start + _AT_ONCE]
            changed += delete(source, batch)
            on_deleted(len(batch))
        left = as_proven(candidate.entries, list_week(source, week))
        if left:
            raise Problem(
                f"{figures.count(len(left), 'raw snapshot')} of {week} are still there, such as "
                f"{left[0].key}, although S3 says otherwise. {advice.make('prune')} goes on."
            )
        ended = replace(record, ended=_time())
        archive.destination.write(manifests.prune_record_key_of(week), _to_bytes(ended))
        return Pruned(len(candidate.entries) - changed, candidate.bytes, changed)


def must_be_of_s3(archive: Archive) -> S3Prefix:
    """The source; raises `Problem` for a folder."""
    if not isinstance(archive.source, S3Prefix):
        raise Problem(
            f"{archive.source.url} is a folder: prune deletes from S3 only. Remove its files "
            f"yourself, once {advice.make('verify', SHARE='1.0')} has found their weeks good."
        )
    return archive.source


def must_be_allowed(archive: Archive, confirm: str) -> str:
    """The code of a confirmation ``bucket:code``, which `code_of` gives.

    Raises `Problem` unless the settings allow deleting, and the bucket is the source's.
    """
    source = must_be_of_s3(archive)
    if not archive.settings.allow_prune:
        raise Problem(
            "Deleting is switched off: set allow_prune = true in [bustimes] of luigi.cfg, or "
            "ALLOW_PRUNE=true for this run."
        )
    bucket, _, code = confirm.rpartition(":")
    if not bucket and confirm == source.bucket:
        raise Problem(
            f"CONFIRM={confirm} names the bucket, and not what is deleted from it: "
            f"{advice.make('prune')} shows that, and prints the command with its code."
        )
    if bucket != source.bucket or not re.fullmatch("[0-9a-f]{8}", code):
        raise Problem(
            f"CONFIRM={confirm} is not what prune has printed for s3://{source.bucket}: "
            f"{advice.make('prune')} shows what would be deleted; take the command that it prints."
        )
    return code


def as_proven(entries: list[Entry], listing: Listing) -> list[Entry]:
    """Those of the inventoried snapshots that are there as they were; all are of the week."""
    there = {(one.key, one.size, one.etag) for one, _ in listing.snapshots}
    return [one for one in entries if (one.key, one.size, one.etag) in there]


def _inventory(archive: Archive, manifest: Manifest) -> list[Entry]:
    """The week's inventory, if all can be restored by it; raises `Problem`."""
    entries = entries_of(archive, manifest)
    if entries is None:
        raise Problem(
            "it has no inventory, without which it cannot be restored: remove its week file, and "
            f"{advice.make('full')} makes both"
        )
    refused = {one.key for one in entries if one.records is None}
    if (
        sum(one.records or 0 for one in entries) != manifest.records
        or refused != {one.key for one in manifest.refused}
    ):  # fmt: skip
        raise Problem("its inventory has other records than its manifest")
    return entries


def _is_what_was_proven(archive: Archive, manifest: Manifest) -> bool:
    """Whether the week file has the checksum of the proof: S3's own, or else that of its bytes."""
    key = manifests.file_of(Week.parse(manifest.week))
    output = manifest.output
    return archive.is_as_written(key, output.sha256, output.s3_sha256, may_read=True)


def _must_still_be_there(archive: Archive, week: Week, file: StoredObject) -> None:
    now = archive.destination.find(manifests.file_of(week))
    if now is None or (now.size, now.etag) != (file.size, file.etag):
        raise Problem(
            f"The file of {week} has been replaced while its raw snapshots were being deleted; "
            f"the rest of them stay. {advice.make('verify', WEEKS=week)} says what it is now."
        )


def _begin(
    archive: Archive, manifest: Manifest, before: PruneRecord | None, code: str, shown: str
) -> PruneRecord:
    """Write the record of a deletion that begins now, or goes on with another code.

    Raises `Problem` if another one has.
    """
    week = Week.parse(manifest.week)
    record = PruneRecord(
        week=manifest.week,
        listing_sha256=manifest.listing_sha256,
        sha256=manifest.output.sha256,
        objects=manifest.snapshots,
        bytes=manifest.raw_bytes,
        began=before.began if before is not None else _time(),
        code=code,
        shown=shown,
    )
    earlier = archive.destination.find(manifests.prune_record_key_of(week))
    expected_etag = earlier.etag if earlier is not None else ""
    archive.destination.write(manifests.prune_record_key_of(week), _to_bytes(record), expected_etag)
    return record


def _to_bytes(record: PruneRecord) -> bytes:
    return json.dumps(asdict(record), indent=1).encode() + b"\n"


def _time() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
