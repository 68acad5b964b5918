"""Everything that verify found, and the lines to print."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tasks import figures
from tasks.bustimes.strays import Stray
from tasks.bustimes.strays import lines as stray_lines
from tasks.bustimes.verify.states import (
    ATTENTION,
    DAMAGED,
    GAP,
    GOOD,
    MISSING,
    PARTIAL,
    PRUNED,
    RAW_GONE,
    STALE,
    UNREAD,
    WeekCheck,
)
from tasks.weeks import Week, ranges

_DETAILS = 5


@dataclass
class Report:
    """Everything verify found, and `lines` to print.

    `share` is what was asked for of each week's raw snapshots, 0 where it was a few at random.
    """

    source: str
    destination: str
    checks: list[WeekCheck]
    deep: bool
    share: float = 0.0
    seed: int = 0
    spot_checked: int = 0
    spot_records: int = 0
    recorded: list[Week] = field(default_factory=list)
    """Weeks that are good with this share, and on record as such."""
    not_kept: str = ""
    """Why a record could not be written."""
    broken_off: str = ""
    """Why not all of it could be read; what was found by then is told."""
    archived: dict[Week, int] = field(default_factory=dict)
    """How many raw snapshots of a week S3 has archived: none of them was drawn at random."""
    elsewhere: list[Stray] = field(default_factory=list)
    """What looks like a snapshot, outside of the weeks."""

    @property
    def strays(self) -> list[Stray]:
        """All that looks like a snapshot and is not taken."""
        return [*(stray for check in self.checks for stray in check.strays), *self.elsewhere]

    @property
    def is_complete(self) -> bool:
        """Whether nothing looks like a snapshot that should be in the archive."""
        return all(stray.is_taken for stray in self.strays)

    @property
    def is_fine(self) -> bool:
        return (
            self.is_complete and not self.broken_off and all(check.is_fine for check in self.checks)
        )

    def of(self, state: str) -> list[Week]:
        return [check.week for check in self.checks if check.state == state]

    def lines(self) -> Iterator[str]:
        yield f"archive    {self.destination}, from {self.source}"
        yield f"weeks      {self._weeks()}"
        yield from self._figures()
        depth = "every byte and line" if self.deep else "listing, size and checksum"
        yield f"checked    {depth} of every week; {self._compared()}"
        if self.recorded and self.share == 1:
            weeks = ranges(self.recorded)
            yield f"proven     {weeks}, by every raw snapshot: recorded in _verified/"
        elif self.recorded:
            yield f"recorded   {ranges(self.recorded)}: in _verified/, with this share"
        if unsealed := [check.week for check in self.checks if not check.is_sealed]:
            yield (
                f"no seal    {ranges(unsealed)}: written before manifests were sealed; what "
                "their manifests say once only (why snapshots were refused) is taken as it stands"
            )
        if self.archived:
            count = figures.count(sum(self.archived.values()), "raw snapshot")
            yield f"archived   {count}: S3 must restore them before they can be compared"
        if self.broken_off:
            yield f"broken off {self.broken_off}"
        if self.not_kept:
            yield f"not kept   {self.not_kept}"
        gaps = self.of(GAP)
        if gaps:
            yield f"gaps       {ranges(gaps)}: no raw snapshots, so no file"
        if pruned := self.of(PRUNED):
            yield f"pruned     {ranges(pruned)}: the week files stand for their raw snapshots"
        for check in self.checks:
            if not check.is_fine:
                yield f"{check.state:10} {check.week}: {check.why}. {check.remedy}"
            elif check.details:
                yield f"{check.state:10} {check.week}:"
            yield from (f"{'':11}{detail}" for detail in check.details[:_DETAILS])
            if len(check.details) > _DETAILS:
                yield f"{'':11}and {len(check.details) - _DETAILS:,} more"
        yield from stray_lines(self.strays, 11)
        yield self._verdict()

    def _verdict(self) -> str:
        bad = sum(not check.is_fine for check in self.checks)
        if bad:
            due = len(self.checks) - len(self.of(GAP))
            return f"Not as it should be: {bad:,} of {figures.count(due, 'week')}."
        if not self.is_complete:
            return "Correct, but perhaps not complete: see what is not taken."
        return "Complete and correct."

    def _figures(self) -> Iterator[str]:
        written = [check.manifest for check in self.checks if check.manifest]
        if not written:
            return
        yield f"first      {written[0].week}, from {written[0].first_snapshot}"
        yield f"last       {written[-1].week}, to {written[-1].last_snapshot}"
        refused = sum(len(one.refused) for one in written)
        snapshots = sum(one.snapshots for one in written)
        aside = (
            f"{refused:,} of them unreadable and set aside" if refused else "all of them readable"
        )
        yield f"snapshots  {snapshots:,}, {aside}"
        yield f"records    {sum(one.records for one in written):,}"
        raw = sum(one.raw_bytes for one in written)
        converted = sum(one.output.bytes for one in written)
        sizes = f"{figures.size(raw)} raw, {figures.size(converted)} converted"
        yield f"size       {sizes} ({figures.ratio(raw, converted)})"

    def _compared(self) -> str:
        """How much of the raw side was compared with the week files."""
        if not self.spot_checked:
            are_gone = all(check.state in (GAP, PRUNED) for check in self.checks)
            why = ", for the raw snapshots are deleted" if are_gone else ""
            return f"nothing was compared with the raw side{why}"
        records = figures.count(self.spot_records, "record")
        count = f"{figures.count(self.spot_checked, 'snapshot')} ({records})"
        if not self.share:
            return f"{count}, drawn at random, against the raw side"
        if self.share == 1:
            return f"all {count} against the raw side"
        return f"{count}, {self.share:.4g} of each week by seed {self.seed}, against the raw side"

    def _weeks(self) -> str:
        states = (GOOD, PARTIAL, PRUNED, MISSING, STALE, DAMAGED, RAW_GONE, ATTENTION, UNREAD)
        counted = [f"{len(self.of(state)):,} {state}" for state in states if self.of(state)]
        gaps = len(self.of(GAP))
        if gaps:
            counted.append(figures.count(gaps, "gap"))
        weeks = [check.week for check in self.checks]
        return f"{ranges(weeks)} ({len(weeks):,}): {', '.join(counted)}"
