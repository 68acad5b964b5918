"""In which state each week is, as far as the destination can tell, and how far it is proven.

Whether raw snapshots came or changed since a week was written is not known here: that takes a
listing of the raw side, which is `make verify`'s. What verify left of its last findings counts as
long as the week is still the one it spoke of.
"""

import datetime as dt
from dataclasses import dataclass, replace

from ops.report.reading import Described, Holdings, Proof, Prune
from tasks.bustimes.verify.findings import Finding
from tasks.bustimes.verify.states import ATTENTION, DAMAGED, GAP, MISSING, PARTIAL, RAW_GONE, STALE
from tasks.weeks import Week, span

WRITTEN, NO_FILE = "written", "no file"
"""What verify does not say: as good as can be told from here, and a file or a gap is missing."""
FINE = (WRITTEN, PARTIAL, GAP)

REMEDIES = {
    MISSING: "full",
    NO_FILE: "verify",
    STALE: "refresh",
    ATTENTION: "refresh",
    DAMAGED: "verify",
    RAW_GONE: "verify",
}
"""The command that mends it, or says how to."""

_EARLIEST = Week(1970, 1)
"""Before it nobody kept snapshots in S3; a name from then is a mistake, and no gap of decades."""


@dataclass(frozen=True)
class WeekState:
    """One week: its state and why, and its manifest where there is a file as well.

    `proof` is there only while it is of this very file.
    """

    week: Week
    state: str
    why: str = ""
    described: Described | None = None
    proof: Proof | None = None
    was_proven: bool = False
    """Whether there is a proof, but of an earlier file."""
    prune: Prune | None = None

    @property
    def is_fine(self) -> bool:
        return self.state in FINE


def states(holdings: Holdings, now: dt.datetime) -> list[WeekState]:
    """Every week from the first to the last that anything is known of; none where nothing is."""
    known = {week for week in _named(holdings) if _can_be(week, now)}
    if not known:
        return []
    return [_of(week, holdings, now) for week in span(min(known), max(known))]


def strange_weeks(holdings: Holdings, now: dt.datetime) -> list[Week]:
    """Weeks that something at the destination is named after, and that cannot be."""
    return sorted(week for week in _named(holdings) if not _can_be(week, now))


def _named(holdings: Holdings) -> set[Week]:
    missing = {week for week, one in holdings.findings.items() if one.state == MISSING}
    return missing | {*holdings.files, *holdings.manifests, *holdings.prunes}


def _can_be(week: Week, now: dt.datetime) -> bool:
    return _EARLIEST <= week <= Week.of(now)


def _of(week: Week, holdings: Holdings, now: dt.datetime) -> WeekState:
    described = holdings.manifests.get(week)
    finding = _finding(week, holdings)
    state, why = _state(week, holdings, finding, now)
    prune = holdings.prunes.get(week)
    if prune is not None and isinstance(described, Described) and not prune.is_of(described):
        prune = None
    found = WeekState(week, state, why, prune=prune)
    if not isinstance(described, Described) or week not in holdings.files:
        return found
    proof = holdings.proofs.get(week)
    is_of_it = proof is not None and proof.is_of(described)
    return replace(
        found,
        described=described,
        proof=proof if is_of_it and state in FINE else None,
        was_proven=proof is not None and not is_of_it,
    )


def _finding(week: Week, holdings: Holdings) -> Finding | None:
    """What verify found, unless the week has been written since, or is not there any more."""
    finding, described = holdings.findings.get(week), holdings.manifests.get(week)
    if finding is None:
        return None
    if week not in holdings.files:
        return finding if described is None and finding.state in (GAP, MISSING) else None
    if not isinstance(described, Described):
        return None
    return finding if finding.listing_sha256 == described.listing_sha256 else None


def _state(
    week: Week, holdings: Holdings, finding: Finding | None, now: dt.datetime
) -> tuple[str, str]:
    file, described = holdings.files.get(week), holdings.manifests.get(week)
    if file is None:
        if described is not None:
            return MISSING, "it has a manifest and no file: a run was broken off, or it was removed"
        if finding is not None:
            return finding.state, finding.why
        return NO_FILE, "no file: either there are no raw snapshots, or it was not converted"
    if described is None:
        return DAMAGED, "the file has no manifest"
    if isinstance(described, str):
        return DAMAGED, described
    if described.output.bytes != file.size:
        return DAMAGED, (
            f"the file has {file.size:,} bytes, its manifest says {described.output.bytes:,}"
        )
    if finding is not None and finding.state in (STALE, DAMAGED, RAW_GONE, ATTENTION):
        return finding.state, finding.why
    if not described.week_over:
        if week.is_over(now):
            return STALE, "it was converted before the week was over"
        return PARTIAL, "the week is not over yet"
    return WRITTEN, ""
