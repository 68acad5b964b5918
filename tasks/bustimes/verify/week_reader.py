"""One week file read from beginning to end: its bytes in order, its hours as jobs, what came of it.

`jobs` streams the file once, computes its checksum on the way and cuts it into its hours, which
other processes read; `take` gets what they found, and `faults` says in the end what is not as the
manifest promises. Holds one hour at a time.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace

from tasks import figures
from tasks.bustimes import manifest as manifests
from tasks.bustimes.archive import Archive
from tasks.bustimes.listing import ListedSnapshot, Listing
from tasks.bustimes.manifest import HourOfFile, Manifest
from tasks.bustimes.snapshot import MISSING, VehicleKey, time_of
from tasks.bustimes.verify import line_fields
from tasks.bustimes.verify.checker import HourChecked, HourJob
from tasks.bustimes.verify.hour_reader import fields_of_hour, read_hour
from tasks.bustimes.verify.lateness import entries_of
from tasks.bustimes.verify.line_fields import Fields
from tasks.bustimes.verify.share import time_in_line
from tasks.compression import END_BYTES, HEADER, Joined
from tasks.problem import Problem
from tasks.settings import PYTHON_ESCAPES
from tasks.storage.address import Credentials
from tasks.storage.checksum import RunningChecksum
from tasks.storage.listed import Unreadable
from tasks.weeks import Week


class WeekReader:
    """Reads one week file; `compared` are the keys of raw snapshots to hold against it.

    `manifest` must be a possible one (`claims.impossible`), `listing` the one it is of, or None
    where the raw side is another by now.
    """

    def __init__(
        self,
        archive: Archive,
        manifest: Manifest,
        listing: Listing | None,
        compared: Collection[str] = (),
    ) -> None:
        self.manifest, self.listing = manifest, listing
        self.compared = compared
        self.snapshots = self.records = 0
        """How many were compared."""
        self.unread: list[str] = []
        """Why something could not be read: that says nothing of whether it is as it should be."""
        self._archive = archive
        self._file = manifests.file_of(Week.parse(manifest.week))
        self._readable = None if listing is None else readable_by_hour(listing, manifest)
        self._checksum = RunningChecksum()
        self._is_cut_short = False
        self._faults: list[str] = []
        self._lines = self._uncompressed_bytes = 0
        self._times: Counter[bytes] = Counter()
        self._vehicles: set[VehicleKey] = set()
        self._fields: Fields | None = {}

    def jobs(self, credentials: Callable[[], Credentials | None]) -> Iterator[HourJob]:
        """A job for each hour that has lines, or snapshots to compare; then the end of the file."""
        try:
            yield from self._jobs(credentials)
        except Unreadable as problem:
            self.unread.append(str(problem))
            self._is_cut_short = True

    def _jobs(self, credentials: Callable[[], Credentials | None]) -> Iterator[HourJob]:
        stream = _Stream(self._archive, self._file, self._checksum)
        is_joined = self.manifest.output.layout == manifests.SEGMENTS
        if is_joined and stream.take(len(HEADER)) != HEADER:
            self._faults.append("the file does not begin with the gzip header of a week file")
        for hour in self.manifest.hours:
            data = stream.take(hour.bytes)
            readable = None if self._readable is None else self._readable.get(hour.hour, [])
            job = job_of(self.manifest, hour, data, readable, self.compared)
            if job.compared:
                job = replace(job, credentials=credentials())
            if data or job.compared:
                yield job
            if len(data) < hour.bytes:
                self._faults.append(f"the file ends in the hour {hour.hour}")
                return
        if is_joined:
            self._check_end(stream.take(END_BYTES))
        elif not self.manifest.output.lines:
            self._check_empty(stream.take(self.manifest.output.bytes))
        if rest := stream.rest():
            self._faults.append(f"the file goes on for {rest:,} bytes behind its last hour")

    def _check_end(self, end: bytes) -> None:
        """What stands behind the last hour, by what the manifest says of all."""
        joined = Joined()
        for hour in self.manifest.hours:
            joined.add(hour.crc32 or 0, hour.uncompressed_bytes or 0)
        if end != joined.end():
            self._faults.append("the file does not end with the gzip trailer of its hours")

    def _check_empty(self, member: bytes) -> None:
        """The one member of a file without lines."""
        hour = HourOfFile(hour="", snapshots=0, lines=0, offset=0, bytes=len(member))
        if fault := read_hour(member, hour, self.manifest.order).fault:
            self._faults.append(f"the file, which has no lines, {fault}")

    def take(self, hour: HourOfFile, found: HourChecked) -> None:
        """What was found in an hour; in the order of the jobs."""
        read = found.read
        if found.unread:
            self.unread.append(found.unread)
        if read.fault:
            where = f"the hour {hour.hour}"
            if read.line:
                where = f"line {read.line:,} of {where} (the file's {self._lines + read.line:,})"
            self._faults.append(f"{where} {read.fault}")
        self._faults += [f"{fault} (hour {hour.hour})" for fault in found.comparison.faults]
        self._lines += hour.lines
        self._uncompressed_bytes += read.uncompressed_bytes
        self._times.update(read.times)
        self._vehicles |= read.vehicles
        if read.fields is None or self._fields is None:
            self._fields = None
        else:
            line_fields.add(self._fields, read.fields)
        self.snapshots += found.comparison.snapshots
        self.records += found.comparison.records

    def faults(self) -> tuple[str, ...]:
        """All that is wrong, when the jobs are at their end and all have been taken."""
        refused = [one for one in self.manifest.refused if one.key in self.compared]
        self.snapshots += len(refused)
        faults = [*self._faults, *self._refused_otherwise()]
        if self._is_cut_short:
            return tuple(faults)
        if not self._faults:
            faults += self._of_the_whole()
        if not faults and self.compared and self.listing is not None and not self.unread:
            chosen, compared = len(self.compared), self.snapshots
            if compared < chosen:
                faults.append(f"only {compared:,} of {chosen:,} raw snapshots could be compared")
        checksum, output = self._checksum.result(), self.manifest.output
        if checksum.sha256 != output.sha256:
            although = "" if faults else ", although every line can be read"
            faults.insert(0, f"the file's SHA-256 is not the one in its manifest{although}")
        elif checksum.s3_sha256 != output.s3_sha256:
            faults.insert(0, "its manifest has another checksum of S3's than the file")
        return tuple(faults)

    def _refused_otherwise(self) -> list[str]:
        try:
            return list(refused_otherwise(self._archive, self.manifest, self.compared))
        except Unreadable as problem:
            self.unread.append(str(problem))
            return []

    def _of_the_whole(self) -> Iterator[str]:
        manifest, said = self.manifest, "its manifest says"
        if self._uncompressed_bytes != manifest.output.uncompressed_bytes:
            size = manifest.output.uncompressed_bytes
            yield f"its lines have {self._uncompressed_bytes:,} bytes, {said} {size:,}"
        yield from self._beside_the_inventory()
        if manifest.vehicles is None:  # of a version that did not count them
            return
        vehicles = len(self._vehicles - {MISSING})
        if vehicles != manifest.vehicles:
            count = figures.count(vehicles, "vehicle")
            yield f"it is of {count}, {said} {manifest.vehicles}"
        if self._fields not in (None, manifest.fields):
            # Only now by reading every line for itself: see `line_fields`.
            counted = self._thoroughly_counted()
            if difference := line_fields.difference(counted, manifest.fields):
                yield difference

    def _beside_the_inventory(self) -> Iterator[str]:
        """The first snapshot of which the inventory says something else."""
        try:
            entries = entries_of(self._archive, self.manifest)
        except Problem as problem:
            yield str(problem).rstrip(".")
            return
        if entries is None:
            return
        refused = {one.key for one in self.manifest.refused}
        if other := {one.key for one in entries if one.records is None} ^ refused:
            yield f"only one of its manifest and its inventory says that {min(other)} was refused"
        said: Counter[str] = Counter()
        for one in entries:
            time = time_of(one.key)
            if time is not None and one.records:
                said[time.isoformat()] += one.records
        there = Counter({time.decode(): lines for time, lines in self._times.items()})
        for at in sorted({*said, *there}):
            if said[at] != there[at]:
                yield f"it has {there[at]:,} records of {at}, its inventory says {said[at]:,}"
                return

    def _thoroughly_counted(self) -> Fields:
        fields: Fields = {}
        stream = _Stream(self._archive, self._file, RunningChecksum())
        stream.take(self.manifest.hours[0].offset)
        for hour in self.manifest.hours:
            line_fields.add(fields, fields_of_hour(stream.take(hour.bytes), hour))
        return fields


def job_of(
    manifest: Manifest,
    hour: HourOfFile,
    data: bytes,
    readable: list[ListedSnapshot] | None,
    compared: Collection[str],
) -> HourJob:
    """What to do with an hour's bytes; `readable` are its snapshots, None where nobody knows."""
    if readable is None:
        return HourJob(hour, data, manifest.order, None)
    times = frozenset(map(time_in_line, readable))
    chosen = {one.time for one in readable if one.stored.key in compared}
    snapshots = [one for one in readable if one.time in chosen]
    escapes = manifest.python_escapes if manifest.python_escapes in PYTHON_ESCAPES else ""
    return HourJob(hour, data, manifest.order, times, snapshots, python_escapes=escapes)


def readable_by_hour(listing: Listing, manifest: Manifest) -> dict[str, list[ListedSnapshot]]:
    """The snapshots of each hour that could be read."""
    refused = {one.key for one in manifest.refused}
    found: dict[str, list[ListedSnapshot]] = {}
    for one in listing.snapshots:
        if one.stored.key not in refused:
            found.setdefault(one.time.strftime(manifests.HOUR_FORMAT), []).append(one)
    return found


def refused_otherwise(archive: Archive, manifest: Manifest, keys: Collection[str]) -> Iterator[str]:
    """A sentence for each refused snapshot among `keys` whose kept bytes are not the raw ones."""
    for one in manifest.refused:
        if one.key in keys:
            kept = manifests.refused_key_of(Week.parse(manifest.week), one.key)
            if _sha256(archive.destination.stream(kept)) != _sha256(archive.source.stream(one.key)):
                yield f"what is kept of {one.key} under _refused/ is not the raw snapshot"


def _sha256(chunks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


class _Stream:
    """A file's bytes in pieces of any size, each counted in its checksum."""

    def __init__(self, archive: Archive, file: str, checksum: RunningChecksum) -> None:
        self._chunks = archive.destination.stream(file)
        self._checksum = checksum
        self._left = b""

    def take(self, size: int) -> bytes:
        """The next bytes, fewer at the end of the file."""
        pieces = []
        while size:
            if not self._left:
                self._left = self._next()
                if not self._left:
                    break
            pieces.append(self._left[:size])
            self._left = self._left[size:]
            size -= len(pieces[-1])
        return b"".join(pieces)

    def rest(self) -> int:
        """How many bytes come now until the end."""
        size = len(self._left)
        while chunk := self._next():
            size += len(chunk)
        return size

    def _next(self) -> bytes:
        chunk = next(self._chunks, b"")
        self._checksum.update(chunk)
        return chunk
