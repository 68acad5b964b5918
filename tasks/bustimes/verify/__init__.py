"""Is the archive complete and correct? Every week of a range, held against its raw snapshots.

A week is good when its file is there with the size and checksum of its manifest, the manifest's
fingerprint equals today's raw listing, and every refused snapshot's bytes are kept (`surface`).
`deep` reads every byte and line of every file; a `share` compares so many of each week's raw
snapshots with it, record by record, by other means than the conversion's (`second_reader`). Repairs
nothing: each finding says what to run. Writes what it has proven (`proof`) and what it did not call
good (`findings`).
"""

import contextlib
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from tasks.bustimes import manifest as manifests
from tasks.bustimes.archive import Archive
from tasks.bustimes.listing import weeks_with_snapshots
from tasks.bustimes.manifest import Manifest
from tasks.bustimes.other_names import none_found
from tasks.bustimes.verify import claims, findings, proof
from tasks.bustimes.verify.checker import check_hour
from tasks.bustimes.verify.deep import Progress, WeekRead, read_weeks
from tasks.bustimes.verify.report import Report
from tasks.bustimes.verify.spot import spot_check
from tasks.bustimes.verify.states import GAP, GOOD, WeekCheck, unread
from tasks.bustimes.verify.surface import check_week
from tasks.bustimes.verify.week_reader import WeekReader
from tasks.problem import Problem
from tasks.storage.listed import Unreadable
from tasks.weeks import Week

__all__ = ["Report", "WeekCheck", "check_week", "read_through", "verify"]

_WEEKS_AT_ONCE = 4
_FEW_GAPS = 10  # each takes 14 listings
_MANIFESTS = "_manifests/"
_SEEDS = 1_000_000


def verify(
    archive: Archive,
    weeks: list[Week],
    deep: bool,
    on_week: Callable[[WeekCheck], object] = lambda _: None,
    seed: int | None = None,
    share: float = 0.0,
    progress: Progress | None = None,
    everything: bool = False,
) -> Report:
    """Check every week; `on_week` is called with each, before any is read.

    A `share` (above 0, up to 1) of each week's raw snapshots is compared with its file, which then
    is read as with `deep`; 0 compares `spot_checks` random ones. `seed` chooses them; where none is
    given one is made up. `progress`, such as `RunProgress`, shows how far the reading is.
    `everything` looks through the rest of the source as well for what looks like snapshots.
    """
    archive.source.check_readable()
    archive.list_again()
    seed = random.randrange(_SEEDS) if seed is None else seed
    checks = _surface(archive, weeks, deep or share > 0, on_week, is_surveyed=everything)
    listed = {check.week for check in checks if check.state != GAP}
    elsewhere = archive.strays_elsewhere(listed, weeks) if everything else []
    if (
        not elsewhere
        and not any(check.strays for check in checks)
        and all(check.state == GAP for check in checks)
    ):
        raise Problem(
            f"There is nothing to verify: {archive.destination.url} has no week files, and "
            f"{none_found(archive.source, weeks)} Check SOURCE, DESTINATION and WEEKS."
        )
    places = {check.week: at for at, check in enumerate(checks)}
    report = Report(
        archive.source.url, archive.destination.url, checks, deep or share > 0, share, seed
    )
    report.elsewhere = elsewhere

    def note(read: WeekRead) -> None:
        checks[places[read.check.week]] = read.check
        report.spot_checked += read.snapshots
        report.spot_records += read.records
        if read.archived:
            report.archived[read.check.week] = read.archived

    left = {check.week for check in checks if report.deep and check.manifest is not None}
    try:
        if report.deep:
            to_read = [check for check in checks if check.manifest is not None]
            for read in read_weeks(archive, to_read, share, seed, progress):
                note(read)
                left.discard(read.check.week)
                if share:
                    _keep_proof(archive, report, read)
        if not share:
            for read in spot_check(archive, checks, archive.settings.spot_checks, seed):
                note(read)
    except Problem as problem:  # what was found by then is worth a word
        report.broken_off = str(problem)
        for at, check in enumerate(checks):
            if check.week in left and check.is_fine:
                checks[at] = unread(check, "the verification was broken off before it was read")
    with _noted(report):
        findings.keep(archive, checks)
    return report


def read_through(archive: Archive, week: Week, manifest: Manifest) -> str:
    """Read every byte and line of a week file; what is wrong with it, or nothing."""
    impossible = claims.impossible(manifest, week)
    if impossible:
        return f"its manifest {impossible}"
    reader = WeekReader(archive, manifest, None)
    for job in reader.jobs(lambda: None):
        reader.take(job.hour, check_hour(job, []))
    return next(iter(reader.faults()), "")


def _surface(
    archive: Archive,
    weeks: list[Week],
    will_be_read: bool,
    on_week: Callable[[WeekCheck], object],
    is_surveyed: bool,
) -> list[WeekCheck]:
    """What can be told without reading; gaps are listed if they are few and nobody looks there."""
    missing = {week for week in weeks if week not in archive.weeks_written()}
    gaps = missing - weeks_with_snapshots(archive.source, sorted(missing))  # no listing for each
    gaps -= _described(archive) if gaps else set()
    if not is_surveyed and len(gaps) <= _FEW_GAPS:
        gaps = set()

    def checked(week: Week) -> WeekCheck:
        try:
            return WeekCheck(week, GAP) if week in gaps else check_week(archive, week, will_be_read)
        except Unreadable as problem:  # of this week's own objects
            return unread(WeekCheck(week, GAP), str(problem))

    checks = []
    with ThreadPoolExecutor(_WEEKS_AT_ONCE) as threads:
        for check in threads.map(checked, weeks):
            checks.append(check)
            on_week(check)
    return checks


def _described(archive: Archive) -> set[Week]:
    """Weeks that have a manifest: they have been converted once."""
    labels = [
        stored.key.removeprefix(_MANIFESTS).removesuffix(".json")
        for stored in archive.destination.objects(_MANIFESTS)
    ]
    return {week for label in labels if (week := manifests.week_of(f"{label}.jsonl.gz"))}


def _keep_proof(archive: Archive, report: Report, read: WeekRead) -> None:
    manifest = read.check.manifest
    if read.check.state == GOOD and manifest is not None:
        with _noted(report):
            proof.keep(archive, manifest, report.share, read.snapshots, read.records)
            report.recorded.append(read.check.week)


@contextlib.contextmanager
def _noted(report: Report) -> Iterator[None]:
    """A record that cannot be written is worth a word, and no reason to find nothing."""
    try:
        yield
    except Problem as problem:
        report.not_kept = str(problem)
