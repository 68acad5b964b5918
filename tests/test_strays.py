"""What looks like a snapshot and is not taken: plan, full and verify say so, at little cost."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import boto3
import pytest

from tasks.bustimes import plan as planning
from tasks.bustimes.archive import Archive, convert_week
from tasks.bustimes.listing import FIRST_WEEK, list_week
from tasks.bustimes.verify import verify
from tasks.problem import Problem
from tasks.settings import load
from tasks.storage import Root, open_root, tally
from tasks.storage.bulk import BulkReader
from tasks.weeks import Week, span
from tests.conftest import Run
from tests.explained import assert_done, keys_in, text_of, upload
from tests.verified_archive import put

pytestmark = pytest.mark.soak

WEEK = Week(2021, 45)
DAY = "raw/bustimes__2021-11-10__"
AMONG_DATES = {
    f"{DAY}00-00-05.JSON": "is not written in small letters",
    f"{DAY}00-00-06.json.gz": "ends in '.json.gz' and not in .json",
    f"{DAY}00-00-07 (1).json": "ends in ' (1).json' and not in .json",
    f"{DAY}00-00-08.json.tmp": "ends in '.json.tmp' and not in .json",
    f"{DAY}00-00-09": "ends in '' and not in .json",
    f"{DAY}00-00-60.json": "is of a time that there is not",
    f"{DAY}24-00-00.json": "is of a time that there is not",
    "raw/bustimes__2021-11-10T00-00-05.json": "is not named bustimes__YYYY-MM-DD__HH-MM-SS.json",
    "raw/bustimes__2021-11-10__0-0-5.json": "is not named bustimes__YYYY-MM-DD__HH-MM-SS.json",
    "bustimes__2021-11-10__00-00-05.json~": "ends in '.json~' and not in .json",
}
"""What every listing of the week has in it."""

ELSEWHERE = {
    "raw/bustimes__2021-02-30__00-00-05.json": "is of a time that there is not",
    "raw/bustimes__2021-13-01__00-00-05.json": "is of a time that there is not",
    "bustimes__2021-11-31__00-00-05.json": "is of a time that there is not",
    "raw/.bustimes__2021-11-10__00-00-05.json": "is not named bustimes__YYYY-MM-DD__HH-MM-SS.json",
    "raw/bustimes_2021-11-10_00-00-05.json": "is not named bustimes__YYYY-MM-DD__HH-MM-SS.json",
    "raw/2021-11-10__00-00-05.json": "is not named bustimes__YYYY-MM-DD__HH-MM-SS.json",
    "RAW/bustimes__2021-11-10__00-00-05.json": "lies neither in raw/ nor at the root",
    "raw/2021/bustimes__2021-11-10__00-00-05.json": "lies neither in raw/ nor at the root",
    "raw/raw/bustimes__2021-11-10__00-00-05.json": "lies neither in raw/ nor at the root",
    "old/a/bustimes__2021-11-10__00-00-05.json.gz": "ends in '.json.gz' and not in .json",
    "raw/Bustimes__2021-11-10__00-00-05.json": "is not written in small letters",
    "raw/bustimes__1970-01-01__00-00-05.json": "is of a time before the first week, 2016-W49",
    "raw/bustimes__2121-01-01__00-00-05.json": "is of the future",
    "raw/bustimes__2021-10-20__00-00-05.json.part": "ends in '.json.part' and not in .json",
}
"""What none has, or that of a week without snapshots only."""

NOT_LIKE = (
    *("README.txt", "raw/README.txt", "raw/index.html", "2021-W45.jsonl.gz", "report/report.html"),
    *("_ops/x/bustimes-d4f6986b7b76a8f6.tar.gz", "logs/2021-11-10.json", "raw/x/2021-11-10.json"),
    *("data_test/bustimes__2021-11-10__00-00-05.json.gz", "every_minute/bustimes_1.json"),
)


@pytest.fixture(params=["folder", "bucket"])
def archive(request: pytest.FixtureRequest, raw_week: Path, tmp_path: Path) -> Archive:
    """A source with a week, and a destination below it."""
    url = str(raw_week)
    if request.param == "bucket":
        url = request.getfixturevalue("bucket")
        upload(raw_week, url)
    return archive_of(url, tmp_path / "spool")


def archive_of(url: str, spool: Path) -> Archive:
    settings = replace(load(), spool=spool, spot_checks=1)
    return Archive(settings, open_root(url), open_root(f"{url}/v2"))


def convert(archive: Archive) -> None:
    convert_week(archive, WEEK, "", 1, lambda _listing: lambda _hour: None, print)
    archive.list_again()


def fill(root: Root, *keys: str) -> None:
    for key in keys:
        put(root, key, b"[]")


def whys(archive: Archive, weeks: list[Week], everything: bool) -> dict[str, str]:
    report = verify(archive, weeks, False, seed=1, everything=everything)
    assert report.is_fine == (not report.strays)
    return {stray.key: stray.why for stray in report.strays}


def test_verify_names_each_and_calls_the_archive_complete_only_without_them(
    archive: Archive,
) -> None:
    convert(archive)
    weeks = [*span(Week(2021, 40), WEEK)]
    fill(archive.source, *NOT_LIKE)
    fill(archive.destination, f"_refused/{WEEK}/{DAY}00-00-05.json", f"back/{DAY}00-00-05.json")
    assert whys(archive, weeks, everything=True) == {}
    fill(archive.source, *AMONG_DATES, *ELSEWHERE)
    assert whys(archive, [WEEK], everything=False) == AMONG_DATES
    assert whys(archive, weeks, everything=True) == AMONG_DATES | ELSEWHERE
    report = verify(archive, weeks, False, seed=1, everything=True)
    text = "\n".join(report.lines())
    assert f"not taken  {len(report.strays)} objects that look like snapshots, of which" in text
    assert f"and {len(report.strays) - 5} more" in text
    assert "NOT_OURS=" in text
    assert text.endswith("Correct, but perhaps not complete: see what is not taken.")


def test_what_is_called_not_ours_is_not_counted(archive: Archive) -> None:
    convert(archive)
    fill(archive.source, *AMONG_DATES, *ELSEWHERE)
    patterns = ("raw/*", "*.json~", "old/*", "bustimes__2021-11-31*", "RAW/bustimes__????-*")
    kept = Archive(
        replace(archive.settings, not_ours=patterns), archive.source, archive.destination
    )
    report = verify(kept, [WEEK], False, seed=1, everything=True)
    assert (report.strays, report.is_fine) == ([], True)
    assert list_week(kept.source, WEEK).snapshots  # what is a snapshot is one nevertheless


def test_plan_counts_them(archive: Archive) -> None:
    fill(archive.source, *AMONG_DATES, *ELSEWHERE)
    made = planning.plan(archive, [WEEK], 1, None)
    assert {one.key for one in made.strays} == set(AMONG_DATES)
    weeks = [*span(Week(2021, 40), WEEK)]
    made = planning.plan(archive, weeks, 1, None, everything=True)
    assert {one.key: one.why for one in made.strays} == AMONG_DATES | ELSEWHERE
    text = "\n".join(made.lines())
    assert f"not taken    {len(made.strays)} objects that look like snapshots, of which" in text


def test_names_that_are_no_plain_text_are_shown_as_such(raw_week: Path) -> None:
    source = open_root(str(raw_week))
    assert list_week(source, WEEK).strays == []
    fill(source, f"{DAY}\x1b[31m.json")
    (stray,) = list_week(source, WEEK).strays
    assert str(stray).startswith(f"'{DAY}\\x1b[31m.json': it ")


def test_a_week_that_has_nothing_else_is_a_gap_and_says_so(archive: Archive) -> None:
    convert(archive)
    fill(archive.source, "raw/bustimes__2021-11-16__00-00-05.json.gz")
    for weeks, everything in (([WEEK.next], False), ([WEEK, WEEK.next], True)):
        report = verify(archive, weeks, False, seed=1, everything=everything)
        assert [check.state for check in report.checks][-1] == "gap"
        assert len(report.strays) == 1
        assert not report.is_fine


def test_commands_say_it_and_full_goes_on(ops: Run, raw_week: Path, tmp_path: Path) -> None:
    fill(open_root(str(raw_week)), *AMONG_DATES, *ELSEWHERE, *NOT_LIKE)
    places = {
        "BUSTIMES_SOURCE": str(raw_week),
        "BUSTIMES_DESTINATION": str(tmp_path / "out"),
        "BUSTIMES_SPOT_CHECKS": "1",
    }
    planned = ops("plan", **places)
    assert_done(planned)
    count = len(AMONG_DATES) + len(ELSEWHERE)
    assert f"not taken    {count} objects that look like snapshots" in planned.stdout
    made = ops("full", "--local-scheduler", **places)
    assert_done(made)
    said = f"{len(AMONG_DATES)} objects look like snapshots and are not taken, such as {DAY[:-2]}"
    assert f"2021-W45: {said}" in text_of(made)
    assert f"{len(ELSEWHERE)} objects look like snapshots and are not taken, such as " in text_of(
        made
    )
    checked = ops("verify", **places)
    assert checked.returncode == 1
    assert f"not taken  {count} objects that look like snapshots" in checked.stdout
    assert "Correct, but perhaps not complete" in checked.stdout
    again = ops("verify", **places, BUSTIMES_NOT_OURS="raw/*,RAW/*,old/*,bustimes__2021-11-*")
    assert again.returncode == 1  # the default is replaced, and what it named is there
    assert "not taken  2 objects" in again.stdout
    fine = "raw/*,RAW/*,old/*,bustimes__2021-11-*,data_test/*,every_minute/*"
    assert_done(ops("verify", **places, BUSTIMES_NOT_OURS=fine))


def test_nothing_is_listed_twice_and_a_month_costs_one_request(bucket: str, tmp_path: Path) -> None:
    """What a survey costs in S3, beside what listing the weeks does."""
    root = open_root(bucket)
    for month in range(1, 13):
        fill(root, *(f"raw/bustimes__2020-{month:02d}-{day}__00-00-05.json" for day in (10, 16)))
    archive = archive_of(bucket, tmp_path / "spool")
    weeks = [*span(FIRST_WEEK, Week(2021, 20))]
    tally.of_process.take()
    assert archive.strays_elsewhere(set(weeks), weeks) == []
    assert tally.of_process.take()["LIST"].requests == 12 + 1
    list_week(archive.source, weeks[0])
    assert tally.of_process.take()["LIST"].requests == 14


# What is no file


@pytest.fixture
def place(raw_week: Path, tmp_path: Path) -> dict[str, str]:
    return {
        "BUSTIMES_SOURCE": str(raw_week),
        "BUSTIMES_DESTINATION": str(tmp_path / "out"),
        "BUSTIMES_SPOT_CHECKS": "1",
    }


def make(path: Path, kind: str) -> None:
    if kind == "a link in a circle":
        path.symlink_to(path.name)
    elif kind == "a link to nowhere":
        path.symlink_to("nothing")
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)


WORDS = {
    "a link in a circle": "a link that leads in a circle",
    "a link to nowhere": "a link that leads nowhere",
    "a folder": "a folder",
    "a pipe": "a pipe",
}


@pytest.mark.parametrize("kind", WORDS)
@pytest.mark.parametrize("day", ["2021-11-10", "2021-11-17"], ids=["its week", "a week of its own"])
def test_a_snapshot_that_is_no_file_is_named_and_never_waited_for(
    ops: Run, place: dict[str, str], raw_week: Path, kind: str, day: str
) -> None:
    key = f"raw/bustimes__{day}__00-00-07.json"
    make(raw_week / key, kind)
    planned = ops("plan", **place)
    assert f"{key}: it is {WORDS[kind]}" in planned.stdout
    made = ops("full", "--local-scheduler", **place)
    assert_done(made)
    assert (
        f"1 object looks like a snapshot and is not taken, such as {key}: it is {WORDS[kind]}"
        in (text_of(made))
    )
    for more in ((), ("--share", "1.0")):
        checked = ops("verify", *more, **place)
        assert checked.returncode == 1, text_of(checked)
        assert "Traceback" not in text_of(checked)
        assert f"           {key}: it is {WORDS[kind]}" in checked.stdout


def test_a_folder_that_leads_to_itself_gives_each_snapshot_once(
    ops: Run, place: dict[str, str], raw_week: Path, tmp_path: Path
) -> None:
    flat = tmp_path / "flat"
    shutil.copytree(raw_week / "raw", flat)
    (flat / "raw").symlink_to(".")
    place["BUSTIMES_SOURCE"] = str(flat)
    count = len(list(flat.glob("*.json")))
    assert_done(ops("full", "--local-scheduler", **place))
    checked = ops("verify", "--share", "1.0", **place)
    assert_done(checked)
    assert f"snapshots  {count:,}" in checked.stdout
    assert (
        f"twice      {count:,} names of files that are taken under another name:" in checked.stdout
    )


def test_one_file_by_two_names_of_different_times_is_two_snapshots(raw_week: Path) -> None:
    """Tools that save space make one file of equal ones: so of all that say that nobody drove."""
    source = open_root(str(raw_week))
    (raw_week / f"{DAY}00-10-05.json").write_bytes(b"[]")
    before = len(list_week(source, WEEK).snapshots)
    os.link(raw_week / f"{DAY}00-10-05.json", raw_week / f"{DAY}00-11-05.json")
    os.link(raw_week / f"{DAY}00-10-05.json", raw_week / f"{DAY}00-10-05.json".removeprefix("raw/"))
    listing = list_week(source, WEEK)
    assert len(listing.snapshots) == before + 1
    assert [(one.key, one.is_taken) for one in listing.strays] == [(f"{DAY}00-10-05.json", True)]


@pytest.mark.parametrize("kind", ["a link in a circle", "a link to nowhere", "a pipe"])
def test_a_raw_folder_that_is_none_is_named(
    ops: Run, place: dict[str, str], tmp_path: Path, raw_week: Path, kind: str
) -> None:
    flat = tmp_path / "flat"
    shutil.copytree(raw_week / "raw", flat)
    make(flat / "raw", kind)
    planned = ops("plan", **(place | {"BUSTIMES_SOURCE": str(flat)}))
    assert "Traceback" not in text_of(planned)
    assert f"raw: it is {WORDS[kind]}" in text_of(planned)


def test_what_becomes_a_pipe_after_it_was_listed_is_not_waited_for(raw_week: Path) -> None:
    root = open_root(str(raw_week))
    first = list_week(root, WEEK).snapshots[0].stored
    (raw_week / first.key).unlink()
    os.mkfifo(raw_week / first.key)
    with pytest.raises(Problem, match="was listed but is gone now"):
        BulkReader(root.bulk_source(), 1).read([first], None)
    for use in (lambda: root.read(first.key), lambda: list(root.stream(first.key))):
        with pytest.raises(Problem, match="it is gone, or was never there"):
            use()


def test_a_bucket_has_no_links_and_keys_are_not_changed(bucket: str) -> None:
    client = boto3.client("s3")
    client.put_object(Bucket=bucket.removeprefix("s3://"), Key=f"{DAY}00-00-05.json/", Body=b"")
    (stray,) = list_week(open_root(bucket), WEEK).strays
    assert stray.why == "is not named bustimes__YYYY-MM-DD__HH-MM-SS.json"
    assert list(keys_in(bucket)) == [f"{DAY}00-00-05.json/"]
