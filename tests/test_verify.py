"""Verify: a good archive is good, what is wrong comes with what to run, and exit codes tell it.

What it finds of damaged files is in `test_verify_damage`, of edited manifests in
`test_verify_manifest`, of the raw side in `test_verify_raw_side`, what it proves in
`test_verify_proof`; how it reads hours and records in `test_verify_reading`.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks import advice
from tasks.bustimes.archive import Archive, convert_week
from tasks.bustimes.listing import Listing
from tasks.bustimes.verify import Report, WeekCheck, deep, surface, verify
from tasks.problem import Problem
from tasks.progress import RunProgress
from tasks.storage import Root, open_root
from tasks.weeks import Week, span
from tests.conftest import Run
from tests.verified_archive import FILE, WEEK, archive_at, archive_in, check, having, refitted, said

Make = Callable[..., list[Path]]


@pytest.fixture(params=["folder", "bucket"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    """A converted 2021-W45 of two hours, in a folder or in a bucket, with a refused snapshot."""
    return archive_at(request, tmp_path)


@pytest.fixture
def here(tmp_path: Path) -> Archive:
    """The same in a folder, where it is all one which it is."""
    return archive_in(str(tmp_path / "in"), str(tmp_path / "out"), tmp_path / "spool")


# A good archive


def test_a_good_archive_is_good(archive: Archive) -> None:
    report = verify(archive, list(span(Week(2021, 44), Week(2021, 46))), deep=True, seed=1)
    text = "\n".join(report.lines())
    assert report.is_fine, text
    assert "weeks      2021-W44 to 2021-W46 (3): 1 good, 2 gaps" in text
    assert "first      2021-W45, from 2021-11-08T00:00:05+00:00" in text
    assert "last       2021-W45, to 2021-11-08T01:50:05+00:00" in text
    assert "snapshots  12, 1 of them unreadable and set aside" in text
    assert "gaps       2021-W44, 2021-W46: no raw snapshots, so no file" in text
    compared = f"12 snapshots ({report.spot_records} records), drawn at random, against the raw"
    assert f"every byte and line of every week; {compared} side" in text
    assert report.spot_records > 0
    assert text.endswith("Complete and correct.")


def test_a_good_archive_is_proven_by_every_snapshot(archive: Archive) -> None:
    report = verify(archive, [WEEK], deep=False, share=1.0)
    text = "\n".join(report.lines())
    assert report.is_fine, text
    assert (report.spot_checked, report.spot_records) == (12, 110)
    assert "all 12 snapshots (110 records) against the raw side" in text
    assert "proven     2021-W45, by every raw snapshot: recorded in _verified/" in text


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_processes_of_their_own_find_the_same(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    monkeypatch.setattr(deep, "_FEW_BYTES", 0)
    archive = having(archive, processes=2)
    report = verify(archive, [WEEK], deep=True, seed=1, share=share)
    assert report.is_fine
    assert report.spot_checked == 12
    refitted(archive, lambda lines: [*lines[:7], lines[6], *lines[7:]], with_counts=False)
    archive = having(archive, spot_checks=0)
    again = verify(archive, [WEEK], deep=True, seed=1, share=share, progress=RunProgress)
    assert "line 8 is the one before it again" in again.checks[0].why


def test_several_weeks_are_read_at_a_time(
    here: Archive, make_snapshots: Make, tmp_path: Path
) -> None:
    for number in (46, 47, 48):
        make_snapshots(tmp_path / "in", f"2021-W{number}", hours=1)
        convert_week(here, Week(2021, number), "", 1, lambda _listing: lambda _hour: None, print)
    make_snapshots(tmp_path / "in", "2021-W47", hours=3)  # it is stale, and read all the same
    report = verify(here, list(span(WEEK, Week(2021, 48))), deep=False, share=0.5, seed=3)
    assert [one.state for one in report.checks] == ["good", "good", "stale", "good"]
    assert report.recorded == [WEEK, Week(2021, 46), Week(2021, 48)]
    text = "\n".join(report.lines())
    assert "0.5 of each week by seed 3, against the raw side" in text
    assert "recorded   2021-W45 to 2021-W46, 2021-W48: in _verified/, with this share" in text
    drawn = verify(here, [WEEK], deep=False, share=0.5, seed=3)
    assert verify(here, [WEEK], False, share=0.5, seed=3).spot_records == drawn.spot_records


# What stands beside it


def test_a_missing_file_is_missing(archive: Archive, tmp_path: Path) -> None:
    other = Archive(archive.settings, archive.source, open_root(str(tmp_path / "empty")))
    found = check(other)
    assert (found.state, found.why) == ("missing", "12 raw snapshots and no file")
    assert found.remedy == f"Run {advice.make('full', WEEKS='2021-W45')}"


def test_a_week_whose_file_and_raw_snapshots_are_gone_is_no_gap(
    here: Archive, tmp_path: Path
) -> None:
    (tmp_path / "out" / FILE).unlink()
    (tmp_path / "empty").mkdir()
    emptied = Archive(here.settings, open_root(str(tmp_path / "empty")), here.destination)
    found = check(emptied)
    assert found.state == "damaged"
    assert found.why == "it has a manifest, but neither a file nor raw snapshots"
    assert "Put back a good copy of" in found.remedy
    assert surface.check_week(emptied, WEEK) == found


def test_nothing_to_verify_is_not_called_correct(archive: Archive) -> None:
    with pytest.raises(Problem, match="nothing to verify"):
        verify(archive, [Week(2021, 44)], deep=False)


def test_weeks_without_snapshots_are_not_listed_one_by_one(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[Week] = []
    real = surface.list_week

    def counted(source: Root, week: Week) -> Listing:
        listed.append(week)
        return real(source, week)

    monkeypatch.setattr(surface, "list_week", counted)
    report = verify(archive, list(span(Week(2017, 1), Week(2024, 1))), deep=False)
    assert len(report.of("gap")) > 300
    assert set(listed) == {check.week for check in report.checks if check.state != "gap"}
    assert report.is_fine


# The random snapshots of every verify


def test_snapshots_at_random_find_records_that_are_not_those_of_the_snapshot(
    archive: Archive,
) -> None:
    for hour in (0, 1):
        refitted(
            archive, lambda lines: [one.replace(b'"delay":', b'"Delay":') for one in lines], hour
        )
    found = verify(archive, [WEEK], deep=False, seed=1).checks[0]
    assert found.state == "damaged"
    assert "records of 10 cannot be found in the file" in said(found)
    assert found.remedy.startswith("Remove ")


def test_the_comparison_is_by_other_means_than_the_conversion(
    here: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.bustimes import json_records, kernel, python_repr, snapshot

    def fail(*_: object) -> None:
        raise AssertionError("verify used the conversion's own parser")

    monkeypatch.setattr(snapshot, "read_records", fail)
    monkeypatch.setattr(kernel, "Kernel", fail)
    monkeypatch.setattr(python_repr, "to_json", fail)
    monkeypatch.setattr(json_records, "split", fail)
    # Whether the conversion would read today what it has refused, only its own reader can tell.
    monkeypatch.setattr(surface, "readable_now", lambda *_: [])
    assert check(here, share=1.0).state == "good"
    assert verify(here, [WEEK], deep=False, seed=1).is_fine


# The report and the command


def test_the_report_counts_every_week_and_ends_with_the_verdict() -> None:
    checks = [
        WeekCheck(Week(2021, 44), "gap"),
        WeekCheck(
            Week(2021, 45),
            "stale",
            "3 raw snapshots came",
            "Run make full.",
            details=tuple(f"detail {number}" for number in range(7)),
        ),
    ]
    lines = list(Report("s3://raw", "s3://v2", checks, deep=False).lines())
    assert lines[0] == "archive    s3://v2, from s3://raw"
    assert lines[1] == "weeks      2021-W44 to 2021-W45 (2): 1 stale, 1 gap"
    at = lines.index("stale      2021-W45: 3 raw snapshots came. Run make full.")
    assert lines[at + 1] == "           detail 0"
    assert lines[at + 6] == "           and 2 more"
    assert lines[-1] == "Not as it should be: 1 of 1 week."  # a gap is none of them


def test_make_verify_exits_with_the_truth(tmp_path: Path, make_snapshots: Make, ops: Run) -> None:
    make_snapshots(tmp_path / "in", "2021-W45")
    places = {
        "BUSTIMES_SOURCE": str(tmp_path / "in"),
        "BUSTIMES_DESTINATION": str(tmp_path / "out"),
    }
    missing = ops("verify", "--weeks", "2021-W45", **places)
    assert missing.returncode == 1
    assert "missing    2021-W45: 12 raw snapshots and no file." in missing.stdout
    assert ops("full", "--weeks", "2021-W45", "--local-scheduler", **places).returncode == 0
    good = ops("verify", "--weeks", "2021-W45", "--deep", **places)
    assert good.returncode == 0
    assert "every byte and line of every week" in good.stdout
    file = tmp_path / "out" / FILE
    os.truncate(file, file.stat().st_size - 1)
    assert ops("verify", "--weeks", "2021-W45", **places).returncode == 1
    mended = ops("full", "--weeks", "2021-W45", "--refresh", "--local-scheduler", **places)
    assert mended.returncode == 0
    assert ops("verify", "--weeks", "2021-W45", "--deep", **places).returncode == 0


def test_what_was_not_compared_is_not_said_to_be_nothing_of_many() -> None:
    def checked(report: Report) -> str:
        [line] = [line for line in report.lines() if line.startswith("checked")]
        return line.partition("; ")[2]

    pruned = [WeekCheck(Week(2021, 44), "pruned"), WeekCheck(Week(2021, 45), "gap")]
    deleted = "nothing was compared with the raw side, for the raw snapshots are deleted"
    assert checked(Report("s3://raw", "s3://v2", pruned, deep=False)) == deleted
    assert checked(Report("s3://raw", "s3://v2", pruned, deep=True, share=1.0)) == deleted
    good = [*pruned, WeekCheck(Week(2021, 46), "good")]
    none_drawn = Report("s3://raw", "s3://v2", good, deep=False)
    assert checked(none_drawn) == "nothing was compared with the raw side"
