"""What the report makes of manifests: the states of weeks, days and holes, fields, figures."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from ops.report.days import Calendar, calendar
from ops.report.fields import Fields, fields_of
from ops.report.reading import read
from ops.report.states import states
from ops.report.text import about, percent, shown
from tasks.bustimes.archive import Archive
from tasks.figures import money
from tasks.weeks import Week, span
from tests import report_manifests as made_up
from tests.report_archive import NOW, WEEK, empty_archive, finding, keep_findings, states_of


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return empty_archive(tmp_path)


@pytest.fixture
def out(archive: Archive) -> Path:
    return Path(archive.destination.url)


def days_of(archive: Archive) -> Calendar:
    return calendar(states(read(archive), NOW))


def fields_in(archive: Archive) -> Fields:
    return fields_of(states(read(archive), NOW))


def test_states_as_far_as_the_destination_tells_them(archive: Archive, out: Path) -> None:
    weeks = list(span(Week(2021, 1), Week(2021, 9)))
    good, unfinished, cut, foreign, none, unreadable, lost, over, pruned = weeks
    for week in (good, over, pruned):
        made_up.write(out, made_up.manifest(week))
    made_up.write(out, made_up.manifest(unfinished), file=False)
    made_up.write(out, made_up.manifest(cut))
    (out / f"{cut}.jsonl.gz").write_bytes(b"short")
    made_up.write(out, made_up.manifest(foreign))
    (out / f"_manifests/{foreign}.json").write_text(json.dumps(made_up.manifest(good)))
    made_up.write(out, made_up.manifest(unreadable))
    (out / f"_manifests/{unreadable}.json").write_text("[" * 200_000)
    (out / f"{lost}.jsonl.gz").write_bytes(b"?")
    made_up.write(out, made_up.manifest(over) | {"week_over": False})
    current = Week.of(NOW)
    made_up.write(out, made_up.manifest(current) | {"week_over": False})
    made = made_up.manifest(pruned)
    record = {
        "version": 1,
        "week": str(pruned),
        "sha256": made["output"]["sha256"],
        "listing_sha256": made["listing_sha256"],
        "objects": 10,
        "bytes": 5,
        "began": "2026-11-16T10:00:00+00:00",
        "ended": None,
    }
    made_up.write_json(out / f"_pruned/{pruned}.json", record)
    made_up.write_json(out / f"_pruned/{good}.json", record | {"week": str(good)})
    found = states_of(archive)
    said = {label: (one.state, one.why) for label, one in found.items()}
    assert said[str(good)] == ("written", "")
    assert said[str(unfinished)][0] == "missing"
    assert said[str(cut)][0] == "damaged"
    assert "has 5 bytes" in said[str(cut)][1]
    assert said[str(foreign)] == ("damaged", "its manifest is that of 2021-W01")
    assert said[str(none)][0] == "no file"
    assert said[str(unreadable)] == ("damaged", "its manifest cannot be read: it is too deep")
    assert said[str(lost)] == ("damaged", "the file has no manifest")
    assert said[str(over)] == ("stale", "it was converted before the week was over")
    assert said[str(current)][0] == "partial"
    assert found[str(pruned)].prune is not None
    assert found[str(good)].prune is None  # of another file: the week was restored since
    assert found[str(unfinished)].described is None  # is in no sum


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"records": -1}, "Expected `int` >= 0"),
        ({"records": "many"}, "Expected `int`, got `str`"),
        ({"records": 10**30}, "Expected `int` <= "),
        ({"version": 4}, "Invalid enum value 4"),
        ({"first_snapshot": "yesterday"}, "Invalid RFC3339"),
        ({"fields": {"a": {"text": None}}}, "Expected `int`, got `null`"),
        ({"conversion": {"seconds": float("nan"), "requests": {}}}, "Expected `float`"),
        ({"hours": [{"hour": "2020-01-01T00", "snapshots": 1, "lines": 1}]}, "is not of the week"),
    ],
)
def test_a_manifest_that_is_none_is_named_and_not_shown(
    archive: Archive, out: Path, change: dict[str, Any], why: str
) -> None:
    made_up.write(out, made_up.manifest(WEEK) | change)
    found = states_of(archive)[str(WEEK)]
    assert found.state == "damaged"
    assert why in found.why


def test_days_and_the_hours_without_a_snapshot(archive: Archive, out: Path) -> None:
    made = made_up.manifest(WEEK)
    hours = {hour["hour"]: hour for hour in made["hours"]}
    for hour in range(24):
        hours.pop(f"2021-11-09T{hour:02}")
    hours["2021-11-10T00"]["snapshots"] = 0  # and so one hour more
    hours["2021-11-11T05"]["snapshots"] = 1
    hours.pop("2021-11-12T05")
    for hour in range(20):
        hours.pop(f"2021-11-13T{hour:02}")
    made["hours"] = list(hours.values())
    made_up.write(out, made)
    made_up.write(out, made_up.manifest(Week(2021, 47)))
    found = days_of(archive)
    assert found.a_day == 1440
    [year] = found.years
    first = (WEEK.monday - year.monday).days
    expected = [1440, 0, 1380, 1381, 1380, 240, 1440, *[None] * 7, *[1440] * 7]
    assert year.counts[first : first + 21] == expected
    assert year.empty_days == [dt.date(2021, 11, 9)]
    assert year.unknown_days == 7
    levels = {level: path.count("M") for level, path in year.cells.items()}
    assert levels == {"full": 9, "most": 3, "few": 1, "none": 1, "unknown": 7}
    assert [(f"{hole.first:%d %H}", hole.hours) for hole in found.holes] == [
        ("09 00", 25),
        ("13 00", 20),
        ("12 05", 1),
    ]
    assert percent(year.share) == percent((9 * 1440 + 1380 + 1381 + 1380 + 240) / (21 * 1440))


def test_a_gap_has_days_without_a_snapshot_and_the_last_day_is_due_until_its_last_hour(
    archive: Archive, out: Path
) -> None:
    made = made_up.manifest(WEEK)
    made_up.write(out, made)
    last = made_up.manifest(Week(2021, 47)) | {"week_over": False}
    made_up.write(out, last | {"hours": last["hours"][:30]})
    keep_findings(out, {"2021-W46": finding("gap")})
    days = days_of(archive)
    [year] = days.years
    assert (len(year.empty_days), year.unknown_days) == (7, 0)
    assert year.expected == 60 * (14 * 24 + 30)
    assert {level: path.count("M") for level, path in year.cells.items()} == {"full": 9, "none": 7}
    assert [hole.hours for hole in days.holes] == [7 * 24]


def test_years_are_those_of_iso_weeks(archive: Archive, out: Path) -> None:
    for week in span(Week(2020, 52), Week(2021, 1)):
        made_up.write(out, made_up.manifest(week))
    before, after = days_of(archive).years
    assert (before.year, before.columns, before.counts[-7:]) == (2020, 53, [1440] * 7)
    assert (after.year, after.columns, after.monday) == (2021, 52, dt.date(2021, 1, 4))
    assert [name for name, _ in after.months][:3] == ["Jan", "Feb", "Mar"]
    assert after.months[0][1] == 0


def test_fields_appear_change_and_vanish(archive: Archive, out: Path) -> None:
    def write(week: Week, **kinds: dict[str, int]) -> None:
        made_up.write(out, made_up.manifest(week) | {"records": 10, "fields": kinds})

    write(Week(2021, 1), a={"integer": 10}, b={"null": 10}, c={"text": 5})
    write(Week(2021, 2), a={"integer": 9, "number": 1}, b={"null": 9, "text": 1})
    made_up.write(out, made_up.manifest(Week(2021, 3), version=1))
    write(Week(2021, 4), a={"text": 5, "integer": 5}, c={"text": 10}, b={"text": 10})
    write(Week(2021, 5), c={"text": 10}, b={"text": 10}, d={"list": 10})
    found = fields_in(archive)
    assert [field.name for field in found.fields] == ["a", "b", "c", "d"]
    assert [(str(change.week)[5:], change.name, change.what) for change in found.changes] == [
        ("W02", "a", "was integer, is number"),
        ("W02", "b", "was only null, is text"),
        ("W02", "c", "vanishes"),
        ("W04", "a", "was number, is mixed"),
        ("W04", "c", "is back, text"),
        ("W05", "d", "appears, list"),
        ("W05", "a", "vanishes"),
    ]
    of_a, of_b, of_c, _ = found.fields
    assert [(span.first.number, span.last.number, span.kind) for span in of_c.spans] == [
        (1, 1, "text"),
        (4, 5, "text"),
    ]
    assert [span.kind for span in of_a.spans] == ["integer", "number", "mixed"]
    assert (of_b.null_share, of_b.share) == (19 / 40, 1.0)
    assert of_c.share == 25 / 30
    assert (found.weeks_that_tell, found.weeks_that_do_not) == (4, 1)


def test_figures_read_as_people_say_them() -> None:
    assert [about(value) for value in (999_999, 4_840_000, 1_331_000_000)] == [
        "999,999",
        "4.84 million",
        "1.33 billion",
    ]
    assert [percent(share) for share in (0, 0.0001, 0.99999, 1, 1.2)] == [
        "0 %",
        "0.0 %",
        "99.9 %",
        "100 %",
        "120 %",
    ]
    assert [money(dollars) for dollars in (0, 0.004, 19.196)] == ["$0.00", "<$0.01", "$19.20"]
    assert shown("a" * 400).endswith("a…")
    assert shown("tab\there\u2028") == "tab\\u0009here\\u2028"
