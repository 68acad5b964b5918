"""What verify did not call good when it ran last, kept for those who cannot list the raw side.

`<destination>/_verified/findings.json`: for `make report`, which reads the destination only. Weeks
that were not looked at this time keep what was found of them before.
"""

import datetime as dt
import json

import msgspec

from tasks.bustimes.archive import Archive
from tasks.bustimes.verify.records import find_record
from tasks.bustimes.verify.states import GOOD, PRUNED, WeekCheck

KEY = "_verified/findings.json"
VERSION = 1


class Finding(msgspec.Struct, frozen=True):
    """A week's state and why; `listing_sha256` is its manifest's, if it has one."""

    state: str
    why: str = ""
    listing_sha256: str | None = None


class Findings(msgspec.Struct, frozen=True):
    """By week, those that were not good; `when` it was (ISO 8601, UTC)."""

    version: int
    when: str
    weeks: dict[str, Finding]


def keep(archive: Archive, checks: list[WeekCheck]) -> None:
    """Write down what was found; raises `Problem` where the destination cannot be written."""
    weeks = _known(archive)
    for check in checks:
        weeks.pop(check.week.label, None)
        if check.state not in (GOOD, PRUNED):
            sha256 = check.manifest.listing_sha256 if check.manifest else None
            weeks[check.week.label] = Finding(check.state, check.why, sha256)
    when = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    found = Findings(VERSION, when, dict(sorted(weeks.items())))
    text = json.dumps(msgspec.to_builtins(found), indent=1, ensure_ascii=False)
    archive.destination.write(KEY, text.encode() + b"\n")


def _known(archive: Archive) -> dict[str, Finding]:
    try:
        known = find_record(archive.destination, KEY, Findings, VERSION)
    except ValueError:
        return {}  # damaged: it is only a note
    return known.weeks if known is not None else {}
