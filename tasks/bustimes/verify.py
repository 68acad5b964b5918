"""Is the archive complete and correct? Every week of a range, held against its raw snapshots.

A week is good when its file is there with the size and checksum of its manifest, the manifest's
fingerprint equals today's raw listing, and every refused snapshot's bytes are kept. Some random
raw snapshots are read by other means than the conversion's (``json``, ``ast.literal_eval``) and
compared with the week file record by record; `deep` reads every byte of every file. Reads only:
nothing is repaired here, each finding says what to run.
"""

import ast
import hashlib
import json
import random
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import orjson

from tasks import figures
from tasks.bustimes import manifest as manifests
from tasks.bustimes import python_repr
from tasks.bustimes.archive import Archive, now
from tasks.bustimes.hour import line_end
from tasks.bustimes.listing import ListedSnapshot, Listing, list_week, weeks_with_snapshots
from tasks.bustimes.manifest import Manifest
from tasks.compression import gunzip
from tasks.problem import Problem
from tasks.weeks import Week, ranges

GOOD, PARTIAL, GAP = "good", "partial", "gap"
MISSING, STALE, DAMAGED, RAW_GONE = "missing", "stale", "damaged", "raw gone"
_FINE = (GOOD, PARTIAL, GAP)

_WEEKS_AT_ONCE = 4


@dataclass(frozen=True)
class WeekCheck:
    """What was found of one week: a state from above, why, and what to run.

    `can_be_converted` is False where converting the week again would lose snapshots, because the
    source does not have them any more.
    """

    week: Week
    state: str
    why: str = ""
    remedy: str = ""
    manifest: Manifest | None = None
    can_be_converted: bool = True

    @property
    def is_fine(self) -> bool:
        return self.state in _FINE


@dataclass
class Report:
    """Everything verify found, and `lines` to print."""

    source: str
    destination: str
    checks: list[WeekCheck]
    deep: bool
    spot_checked: int = 0
    spot_records: int = 0

    @property
    def is_fine(self) -> bool:
        return all(check.is_fine for check in self.checks)

    def of(self, state: str) -> list[Week]:
        return [check.week for check in self.checks if check.state == state]

    def lines(self) -> Iterator[str]:
        written = [check.manifest for check in self.checks if check.manifest]
        yield f"archive    {self.destination}, from {self.source}"
        yield f"weeks      {self._weeks()}"
        if written:
            yield f"first      {written[0].week}, from {written[0].first_snapshot}"
            yield f"last       {written[-1].week}, to {written[-1].last_snapshot}"
            refused = sum(len(one.refused) for one in written)
            snapshots = sum(one.snapshots for one in written)
            records = sum(one.records for one in written)
            yield f"snapshots  {snapshots:,}, of which {refused:,} unreadable ones set aside"
            yield f"records    {records:,}"
            raw = sum(one.raw_bytes for one in written)
            converted = sum(one.output.bytes for one in written)
            yield (
                f"size       {figures.size(raw)} raw, {figures.size(converted)} converted "
                f"({figures.ratio(raw, converted)})"
            )
        depth = "every byte and line" if self.deep else "listing, size and checksum"
        yield (
            f"checked    {depth} of every week; {figures.count(self.spot_checked, 'snapshot')} "
            f"at random ({figures.count(self.spot_records, 'record')}) against the raw side"
        )
        gaps = self.of(GAP)
        if gaps:
            yield f"gaps       {ranges(gaps)}: no raw snapshots, so no file"
        for check in self.checks:
            if not check.is_fine:
                yield f"{check.state:10} {check.week}: {check.why}. {check.remedy}"
        bad = sum(not check.is_fine for check in self.checks)
        yield (
            "Complete and correct."
            if not bad
            else f"Not as it should be: {bad:,} of {figures.count(len(self.checks), 'week')}."
        )

    def _weeks(self) -> str:
        states = (GOOD, PARTIAL, MISSING, STALE, DAMAGED, RAW_GONE)
        counted = [f"{len(self.of(state)):,} {state}" for state in states if self.of(state)]
        gaps = len(self.of(GAP))
        if gaps:
            counted.append(figures.count(gaps, "gap"))
        weeks = [check.week for check in self.checks]
        return f"{ranges(weeks)} ({len(weeks):,}): {', '.join(counted)}"


def verify(
    archive: Archive,
    weeks: list[Week],
    deep: bool,
    on_week: Callable[[WeekCheck], object] = lambda _: None,
    seed: int | None = None,
) -> Report:
    """Check every week; `on_week` is called with each result, `seed` fixes the spot check."""
    archive.source.check_readable()
    archive.list_again()
    checks: list[WeekCheck] = []
    missing = [week for week in weeks if week not in archive.weeks_written()]
    gaps = set(missing) - weeks_with_snapshots(archive.source, missing)  # needs no listing each

    def checked(week: Week) -> WeekCheck:
        return WeekCheck(week, GAP) if week in gaps else check_week(archive, week)

    with ThreadPoolExecutor(_WEEKS_AT_ONCE) as threads:
        for check in threads.map(checked, weeks):
            if deep and check.state in (GOOD, PARTIAL) and check.manifest:
                check = _read_deep(archive, check, check.manifest)
            checks.append(check)
            on_week(check)
    report = Report(archive.source.url, archive.destination.url, checks, deep)
    if all(check.state == GAP for check in checks):
        raise Problem(
            f"There is nothing to verify: {archive.source.url} has no raw snapshots in "
            f"{ranges(weeks)}, and {archive.destination.url} no week files. Check SOURCE, "
            "DESTINATION and WEEKS."
        )
    _spot_check(archive, report, random.Random(seed))
    return report


def check_week(archive: Archive, week: Week) -> WeekCheck:
    """Everything about one week that can be told without reading snapshots."""
    listing = list_week(archive.source, week)
    stored = archive.weeks_written().get(week)
    convert = f"Run make full WEEKS={week}."
    again = f"Run make full WEEKS={week} REFRESH=1."
    if stored is None:
        if not listing.snapshots:
            return WeekCheck(week, GAP)
        count = figures.count(len(listing.snapshots), "raw snapshot")
        return WeekCheck(week, MISSING, f"{count} and no file", convert)
    try:
        manifest = archive.manifest(week)
    except Problem as problem:
        return _without_manifest(archive, week, str(problem).rstrip("."))
    if manifest is None:
        return _without_manifest(archive, week, "the file has no manifest")
    gone = manifests.gone_from(manifest, listing)
    are_gone = f"{gone:,} of {manifest.snapshots:,} raw snapshots in it are gone from the source"
    for why in _damages(archive, week, manifest, stored.size):
        if gone > 0:
            why, remedy = f"{why}, and {are_gone}", "Put back a good copy of the file."
            return WeekCheck(week, DAMAGED, why, remedy, manifest, can_be_converted=False)
        return WeekCheck(week, DAMAGED, why, again, manifest)
    if gone > 0:
        remedy = "The week file holds their records; keep it, and do not convert the week again."
        return WeekCheck(week, RAW_GONE, are_gone, remedy, manifest, can_be_converted=False)
    if listing.fingerprint != manifest.listing_sha256:
        return WeekCheck(week, STALE, _what_came(manifest, listing), again, manifest)
    if not manifest.week_over:
        if week.is_over(now()):
            why = "it was converted before the week was over"
            return WeekCheck(week, STALE, why, again, manifest)
        return WeekCheck(week, PARTIAL, manifest=manifest)
    return WeekCheck(week, GOOD, manifest=manifest)


def _without_manifest(archive: Archive, week: Week, why: str) -> WeekCheck:
    """Nobody knows what the file holds, so a person must say that the source has it all."""
    remedy = f"If the source still has the whole week: {_replace(archive, week)}"
    return WeekCheck(week, DAMAGED, why, remedy, can_be_converted=False)


def _damages(archive: Archive, week: Week, manifest: Manifest, size: int) -> Iterator[str]:
    if manifest.week != week.label:
        yield f"its manifest is that of {manifest.week}"
        return
    if manifest.output.bytes != size:
        yield f"the file has {size:,} bytes, its manifest says {manifest.output.bytes:,}"
        return
    key = manifests.file_of(week)
    kept = archive.destination.stored_sha256(key)
    if kept is None:
        if archive.destination.keeps_checksums:
            return  # written by another tool: only DEEP=1 can tell
        digest = hashlib.sha256()
        for chunk in archive.destination.stream(key):
            digest.update(chunk)
        matches = digest.hexdigest() == manifest.output.sha256
    else:
        matches = kept == manifest.output.s3_sha256
    if not matches:
        yield "the file's SHA-256 is not the one in its manifest"
    for refused in manifest.refused:
        stored = archive.destination.find(manifests.refused_key_of(week, refused.key))
        if stored is None or stored.size != refused.bytes:
            yield f"the bytes of the unreadable {refused.key} are not kept under _refused/"


def _what_came(manifest: Manifest, listing: Listing) -> str:
    more = len(listing.snapshots) - manifest.snapshots
    if more:
        return f"{figures.count(more, 'raw snapshot')} came after it was converted"
    return "raw snapshots have changed since it was converted"


def _read_deep(archive: Archive, check: WeekCheck, manifest: Manifest) -> WeekCheck:
    why = read_through(archive, check.week, manifest)
    if not why:
        return check
    return WeekCheck(check.week, DAMAGED, why, _replace(archive, check.week), manifest)


def _replace(archive: Archive, week: Week) -> str:
    file = f"{archive.destination.url}/{manifests.file_of(week)}"
    return f"Remove {file} and run make full WEEKS={week}."


def read_through(archive: Archive, week: Week, manifest: Manifest) -> str:
    """Read every byte and line of a week file; what is wrong with it, or nothing."""
    digest = hashlib.sha256()

    def chunks() -> Iterator[bytes]:
        for chunk in archive.destination.stream(manifests.file_of(week)):
            digest.update(chunk)
            yield chunk

    lines = uncompressed = 0
    first = week.start.isoformat()
    end = week.end.isoformat()
    try:
        for line in _lines(gunzip(chunks())):
            lines += 1
            uncompressed += len(line) + 1
            record = _read_line(line)
            name, time = next(reversed(record.items())) if isinstance(record, dict) else ("", "")
            if name != "snapshot_time" or not isinstance(time, str):
                return f"line {lines:,} is no record with its snapshot_time last"
            if not first <= time < end:
                return f"line {lines:,} is of {time}, which is outside the week"
    except (zlib.error, ValueError) as error:
        return f"behind line {lines:,} it cannot be read ({error})"
    if (lines, uncompressed) != (manifest.output.lines, manifest.output.uncompressed_bytes):
        return f"it has {lines:,} lines, its manifest says {manifest.output.lines:,}"
    if digest.hexdigest() != manifest.output.sha256:
        return "the file's SHA-256 is not the one in its manifest"
    return ""


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        raise ValueError("the last line does not end")


def _read_line(line: bytes) -> object:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return json.loads(line)  # halves of surrogate pairs, which orjson refuses


def _spot_check(archive: Archive, report: Report, choice: random.Random) -> None:
    """Compare some random raw snapshots with the week files; bad ones change their week's check."""
    places = [
        (at, check.manifest)
        for at, check in enumerate(report.checks)
        if check.state in (GOOD, PARTIAL) and check.manifest
    ]
    for _ in range(archive.settings.spot_checks if places else 0):
        at, manifest = choice.choice(places)
        listing = list_week(archive.source, report.checks[at].week)
        snapshot = choice.choice(listing.snapshots)
        why, records = _compare(archive, manifest, listing, snapshot)
        report.spot_checked += 1
        report.spot_records += records
        if why:
            week = report.checks[at].week
            remedy = _replace(archive, week)
            report.checks[at] = WeekCheck(week, DAMAGED, why, remedy, manifest)


def _compare(
    archive: Archive, manifest: Manifest, listing: Listing, snapshot: ListedSnapshot
) -> tuple[str, int]:
    """Whether a raw snapshot's records stand in the week file, and how many there are."""
    refused = {one.key for one in manifest.refused}
    raw: list[str] = []
    for one in listing.snapshots:
        if one.time == snapshot.time and one.stored.key not in refused:
            body = archive.source.read(one.stored.key)
            raw += [json.dumps(record) for record in _read_independently(body)]
    name = snapshot.time.strftime(manifests.HOUR_FORMAT)
    hour = next((one for one in manifest.hours if one.hour == name), None)
    if hour is None:
        return f"its manifest does not know the hour {name}", len(raw)
    file = manifests.file_of(listing.week)
    ending = line_end(snapshot.time).rstrip(b"\n")
    kept = []
    try:
        for line in _lines(gunzip([archive.destination.read(file, hour.offset, hour.bytes)])):
            if line.endswith((ending, b"{" + ending[1:])):
                record = json.loads(line)
                del record["snapshot_time"]
                kept.append(json.dumps(record))
    except (zlib.error, ValueError) as error:
        return f"the hour {name} cannot be read ({error})", len(raw)
    if sorted(raw) != sorted(kept):
        return f"the records of {snapshot.stored.key} are not those in the file", len(raw)
    return "", len(raw)


def _read_independently(body: bytes) -> list[dict[str, object]]:
    """A snapshot's records, by the standard library and not by the conversion."""
    text = body.decode("utf-8-sig").strip()
    try:
        records = json.loads(text)
    except ValueError:
        try:
            records = ast.literal_eval(text)
        except (ValueError, SyntaxError):  # longs, which Python 3 does not know
            records = json.loads(python_repr.to_json(text.encode()))
    return list(records)
