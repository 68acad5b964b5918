"""An archive for the tests of the report: an empty folder, to be filled with what is made up."""

import datetime as dt
from pathlib import Path
from typing import Any

from ops.report.reading import read
from ops.report.states import WeekState, states
from tasks.bustimes.archive import Archive
from tasks.settings import load
from tasks.storage import open_root
from tasks.weeks import Week
from tests.report_manifests import write_json

WEEK = Week(2021, 45)
NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)


def empty_archive(tmp_path: Path) -> Archive:
    """An archive that is an empty folder; nothing is where its raw snapshots should be."""
    folder = tmp_path / "out"
    folder.mkdir()
    return Archive(load(), open_root(str(tmp_path / "nowhere")), open_root(str(folder)))


def states_of(archive: Archive) -> dict[str, WeekState]:
    """What the report finds of each week, by its label."""
    return {str(one.week): one for one in states(read(archive), NOW)}


def finding(state: str, why: str = "", listing: str | None = None) -> Any:
    """What verify leaves of a week."""
    return {"state": state, "why": why, "listing_sha256": listing}


def keep_findings(out: Path, weeks: dict[str, Any]) -> None:
    """Put there what verify leaves of these weeks."""
    found = {"version": 1, "when": "2026-11-20T10:00:00+00:00", "weeks": weeks}
    write_json(out / "_verified/findings.json", found)
