"""A week's file: converted into the spool folder, then published to the destination.

The spool is a folder on this machine, with a folder for each destination and in it one for each
week under way. `finish` leaves there a complete week file with its manifest beside it, which is
written last and so means "complete"; `publish` sends refused objects, the inventory, the seal, the
manifest and the week file, in this order, and clears the week's folder only when the destination
has confirmed them. A crash anywhere leaves either nothing that counts, or a finished week that the
next run publishes without converting again. A week is worked on under a lock, by one process of a
machine at a time.
"""

import contextlib
import hashlib
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tasks import figures, own_files
from tasks.bustimes import inventory, seal
from tasks.bustimes import manifest as manifests
from tasks.bustimes.conversion import convert_hours
from tasks.bustimes.converter import Setup
from tasks.bustimes.disk import explained
from tasks.bustimes.listing import Listing
from tasks.bustimes.manifest import (
    UNSET,
    Conversion,
    HourOfFile,
    InventoryFile,
    Manifest,
    OutputFile,
    RefusedSnapshot,
)
from tasks.bustimes.snapshot import MISSING, VehicleKey
from tasks.compression import HEADER, Joined
from tasks.file_lock import held
from tasks.problem import Problem
from tasks.progress import say
from tasks.settings import Settings
from tasks.storage import FileChecksum, Overtaken, Root, tally
from tasks.storage.checksum import RunningChecksum, parts_of
from tasks.storage.folder import sync_to_disk
from tasks.weeks import Week

if TYPE_CHECKING:
    from tasks.bustimes.hour import ConvertedHour

OnHour = Callable[["ConvertedHour"], None]
"""Called with each converted hour, in order; may raise `Problem` to end the conversion."""


@dataclass(frozen=True)
class Spool:
    """Where finished weeks wait on their way to one destination."""

    folder: Path
    destination: str

    @property
    def place(self) -> Path:
        """The folder of this destination: readable, and never the same for two of them."""
        readable = re.sub(r"[^A-Za-z0-9.]+", "_", self.destination).strip("_")[-60:]
        unique = hashlib.sha256(self.destination.encode(errors="surrogateescape")).hexdigest()[:8]
        return self.folder / f"{readable}-{unique}"

    def week(self, week: Week) -> "SpooledWeek":
        return SpooledWeek(self.place / week.label, week)

    def waiting(self) -> list["SpooledWeek"]:
        """The finished weeks that wait to be published, in order."""
        weeks = []
        for folder in sorted(self.place.glob("*-W*")) if self.place.is_dir() else []:
            with contextlib.suppress(Problem):
                spooled = self.week(Week.parse(folder.name))
                if spooled.is_finished():
                    weeks.append(spooled)
        return weeks

    @contextlib.contextmanager
    def lock(self, week: Week, on_wait: Callable[[], None]) -> Iterator[None]:
        """Hold the week against other processes of this machine; says so where it must wait."""
        with contextlib.ExitStack() as lock:
            with explained(self.place):
                self._make_way(week)
                self.place.mkdir(parents=True, exist_ok=True)
                lock.enter_context(held(self.place / f"{week}.lock", on_wait))
            yield

    def _make_way(self, week: Week) -> None:
        """Put aside what is where a folder, or the file of a lock, should be."""
        for folder in (self.place, self.place / week.label):
            if os.path.lexists(folder) and not folder.is_dir():
                say(own_files.put_aside(folder, "it is no folder"))
        if (lock := self.place / f"{week}.lock").is_dir():
            say(own_files.put_aside(lock, "it is a folder"))


@dataclass(frozen=True)
class SpooledWeek:
    """One week's folder in the spool."""

    folder: Path
    week: Week

    @property
    def file(self) -> Path:
        return self.folder / manifests.file_of(self.week)

    @property
    def manifest_file(self) -> Path:
        return self.folder / "manifest.json"

    @property
    def inventory_file(self) -> Path:
        return self.folder / "inventory.tsv.gz"

    @property
    def refused_folder(self) -> Path:
        return self.folder / "refused"

    def has_something(self) -> bool:
        """Whether a run is at the week, or was killed at it."""
        return os.path.exists(self.folder)

    def is_finished(self) -> bool:
        return self.manifest_file.exists()

    def bytes_held(self) -> int:
        """What its week file takes of the disk."""
        return self.file.stat().st_size if self.file.is_file() else 0

    def manifest(self) -> Manifest:
        return manifests.from_bytes(self.manifest_file.read_bytes(), str(self.manifest_file))

    def is_intact(self) -> bool:
        """Whether a finished week's file and inventory are still what its manifest says."""
        try:
            manifest = self.manifest()
            kept = manifest.inventory
            return _checksum_of(self.file).sha256 == manifest.output.sha256 and (
                kept is None or _checksum_of(self.inventory_file).sha256 == kept.sha256
            )
        except (Problem, OSError):
            return False

    def is_of(self, listing: Listing, week_over: bool, settings: Settings) -> bool:
        """Whether it is finished, and converting again would give the same, or less.

        Less, where raw snapshots are gone since: what the spool holds of them must not be lost.
        """
        if not self.is_finished():
            return False
        kept = self.manifest()
        if manifests.gone_from(kept, listing):
            return True
        if kept.python_escapes not in ("", settings.python_escapes or UNSET):
            return False
        return (kept.listing_sha256, kept.week_over, kept.order, kept.compression_level) == (
            listing.fingerprint,
            week_over,
            settings.order,
            settings.compression_level,
        )

    def put_aside(self) -> str:
        """Give what cannot be used another name, and begin anew; returns the sentence."""
        return own_files.put_aside(self.folder, "it is not what was converted")

    def clear(self) -> None:
        """Remove it all, the manifest first: half of it must not look finished."""
        self.manifest_file.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def _checksum_of(path: Path) -> FileChecksum:
    running = RunningChecksum()
    for part in parts_of(path):
        running.update(part)
    return running.result()


def finish(
    listing: Listing,
    week_over: bool,
    source: Root,
    spooled: SpooledWeek,
    settings: Settings,
    processes: int,
    on_hour: OnHour,
) -> Manifest:
    """Convert a week into the spool folder, and describe it; returns its manifest.

    `listing` must not be empty. Raises `Problem`; then nothing in the folder counts as finished.
    """
    began = time.monotonic()
    with explained(spooled.folder):
        spooled.clear()
        spooled.refused_folder.mkdir(parents=True)
        setup = Setup(
            source=source.bulk_source(),
            reads_at_once=settings.reads_at_once,
            max_snapshot_bytes=settings.max_snapshot_mb << 20,
            order=settings.order,
            level=settings.compression_level,
            refused_folder=spooled.refused_folder,
            python_escapes=settings.python_escapes,
            patience=settings.patience,
        )
        hours = listing.by_hour()
        converted = convert_hours(hours, setup, processes, source.credentials, source.credentials)
        names = [hour[0].time.strftime(manifests.HOUR_FORMAT) for hour in hours]
        writer = _WeekWriter(spooled.file)
        with contextlib.closing(converted), writer:
            for name, hour in zip(names, converted, strict=True):
                writer.write(name, hour)
                on_hour(hour)
                _must_not_be_mostly_refused(listing, writer.refused, settings.max_refused_share)
            writer.end()
        spooled.inventory_file.write_bytes(inventory.to_bytes(listing, writer.records))
        inventory_sum = _checksum_of(spooled.inventory_file)
        seconds = time.monotonic() - began
        manifest = _describe(listing, week_over, settings, writer, inventory_sum, seconds)
        hidden = spooled.manifest_file.with_suffix(".tmp")
        hidden.write_bytes(manifest.to_bytes())
        for path in (spooled.file, spooled.inventory_file, hidden):
            sync_to_disk(path)
        hidden.replace(spooled.manifest_file)
        sync_to_disk(spooled.folder)
    return manifest


class MostlyRefused(Problem):
    """Of a week more was unreadable than `max_refused_share` allows."""


def _must_not_be_mostly_refused(
    listing: Listing, refused: list[tuple[str, str]], share: float
) -> None:
    """A week of which hardly anything could be read is most likely of an unknown format."""
    count, total = len(refused), len(listing.snapshots)
    if not manifests.is_mostly_refused(count, total, share):
        return
    common = Counter(reason for _, reason in refused).most_common(1)[0][0]
    key = next(key for key, reason in refused if reason == common)
    raise MostlyRefused(
        f"{listing.week} is not written: {count:,} of its {figures.count(total, 'snapshot')} could "
        f"not be read, and max_refused_share allows a share of {share:g}; such as {key}, because "
        f"{common}. Look at that one. If a week of what is left is wanted all the same: "
        "MAX_REFUSED_SHARE=1."
    )


def publish(spooled: SpooledWeek, destination: Root, expected_etag: str) -> Manifest:
    """Send a finished week to the destination, then clear its folder; returns its manifest.

    `expected_etag` is that of the week file that it replaces, or nothing where there is none. What
    another machine has put there meanwhile is never overwritten: then `Overtaken` is raised, unless
    it is the same. Of several at it, the one whose week file is there sees to it that so is its
    manifest, and the others put back what they found.
    """
    with explained(spooled.folder):
        manifest, data = spooled.manifest(), spooled.manifest_file.read_bytes()
        for refused in manifest.refused:
            kept = spooled.refused_folder / refused.key
            destination.write_file(manifests.refused_key_of(spooled.week, refused.key), kept)
        if spooled.inventory_file.exists():  # none in what an older version left here
            inventory_key = inventory.key_of(spooled.week, manifest.listing_sha256)
            destination.write_file(inventory_key, spooled.inventory_file)
        seal.keep(destination, spooled.week, data, manifest)
        file, key = manifests.file_of(spooled.week), manifests.key_of(spooled.week)
        # Of the week file to replace, of a run that was killed, or of one that is at it as well.
        earlier, etag = _stored(destination, key)
        stored = destination.find(file)
        if (stored.etag if stored is not None else "") == expected_etag:
            try:
                destination.write(key, data, etag)
            except Overtaken:
                if not _says_the_same(_stored(destination, key)[0], data):
                    raise
        try:
            destination.write_file(file, spooled.file, expected_etag)
        except Overtaken:
            there, etag = _stored(destination, key)
            if earlier is not None and there == data:
                with contextlib.suppress(Overtaken):
                    destination.write(key, earlier, etag)
            raise
        while not _says_the_same((now := _stored(destination, key))[0], data):
            with contextlib.suppress(Overtaken):
                destination.write(key, data, now[1])
    spooled.clear()
    return manifest


def _stored(destination: Root, key: str) -> tuple[bytes | None, str]:
    """The bytes of an object and the ETag to replace them by; None and nothing without one."""
    found = destination.find(key)
    return (destination.read(key), found.etag) if found is not None else (None, "")


def _says_the_same(there: bytes | None, data: bytes) -> bool:
    """Whether a manifest differs in nothing but how long the conversion took whoever did it."""
    if there is None or there == data:
        return there == data
    with contextlib.suppress(Problem):
        one, other = manifests.from_bytes(there, ""), manifests.from_bytes(data, "")
        return replace(one, conversion=None) == replace(other, conversion=None)
    return False


class _WeekWriter:
    """The week file while it grows: segments, checksums and where each hour lies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._checksum = RunningChecksum()
        self._joined = Joined()
        self._offset = 0
        self.lines = 0
        self.uncompressed_bytes = 0
        self.tokenized = 0
        self.hours: list[HourOfFile] = []
        self.refused: list[tuple[str, str]] = []
        self.records: list[int | None] = []
        self.vehicles: set[VehicleKey] = set()
        self.fields: dict[str, dict[str, int]] = {}
        self.has_asked_setting = False

    def __enter__(self) -> "_WeekWriter":
        self._file = self._path.open("wb")
        self._append(HEADER)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, name: str, hour: "ConvertedHour") -> None:
        self.hours.append(
            HourOfFile(
                hour=name,
                snapshots=hour.snapshots,
                lines=hour.lines,
                offset=self._offset,
                bytes=len(hour.segment),
                raw_bytes=hour.raw_bytes,
                uncompressed_bytes=hour.uncompressed_bytes,
                crc32=hour.crc32,
            )
        )
        self._append(hour.segment)
        self._joined.add(hour.crc32, hour.uncompressed_bytes)
        self.lines += hour.lines
        self.uncompressed_bytes += hour.uncompressed_bytes
        self.tokenized += hour.tokenized
        self.refused += hour.refused
        self.records += hour.records
        self.vehicles.update(hour.vehicles)
        self.has_asked_setting |= hour.has_asked_setting
        for field, kinds in hour.fields.items():
            counts = self.fields.setdefault(field, {})
            for kind, times in kinds.items():
                counts[kind] = counts.get(kind, 0) + times

    def end(self) -> None:
        """Behind the last hour; even a week of empty snapshots only is a gzip file."""
        self._append(self._joined.end())

    def output(self) -> OutputFile:
        checksum = self._checksum.result()
        return OutputFile(
            file=self._path.name,
            bytes=checksum.size,
            uncompressed_bytes=self.uncompressed_bytes,
            lines=self.lines,
            sha256=checksum.sha256,
            s3_sha256=checksum.s3_sha256,
            layout=manifests.SEGMENTS,
        )

    def _append(self, data: bytes) -> None:
        self._file.write(data)
        self._checksum.update(data)
        self._offset += len(data)


def _describe(
    listing: Listing,
    week_over: bool,
    settings: Settings,
    writer: _WeekWriter,
    inventory_sum: FileChecksum,
    seconds: float,
) -> Manifest:
    size_of = {one.stored.key: one.stored.size for one in listing.snapshots}
    return Manifest(
        week=listing.week.label,
        week_over=week_over,
        order=settings.order,
        compression_level=settings.compression_level,
        snapshots=len(listing.snapshots),
        raw_bytes=listing.raw_bytes,
        records=writer.lines,
        tokenized=writer.tokenized,
        first_snapshot=listing.snapshots[0].time.isoformat(),
        last_snapshot=listing.snapshots[-1].time.isoformat(),
        listing_sha256=listing.fingerprint,
        refused=[RefusedSnapshot(key, size_of[key], reason) for key, reason in writer.refused],
        output=writer.output(),
        hours=writer.hours,
        vehicles=len(writer.vehicles - {MISSING}),
        fields=writer.fields,
        inventory=InventoryFile(inventory_sum.size, inventory_sum.sha256, inventory_sum.s3_sha256),
        python_escapes=(settings.python_escapes or UNSET) if writer.has_asked_setting else "",
        conversion=Conversion(round(seconds, 3), tally.of_process.counted()),
    )
