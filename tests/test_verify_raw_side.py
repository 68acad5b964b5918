"""Verify and the raw side: what came late, what was replaced, what was deleted and by whom."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ops import __main__ as ops
from tasks import advice
from tasks.bustimes import archive as archives
from tasks.bustimes.archive import Archive, convert_week
from tasks.bustimes.listing import Listing
from tasks.bustimes.verify import deep, proof, pruned, verify
from tasks.problem import Problem
from tasks.storage import open_root
from tests.verified_archive import (
    UNREADABLE,
    WEEK,
    archive_in,
    bodies,
    change_manifest,
    check,
    inventory_key,
    manifest_of,
    refitted,
    remove,
    said,
    without_inventory,
    write,
)

LATE = "raw/bustimes__2021-11-09__00-00-05.json"
FIRST = "raw/bustimes__2021-11-08__00-00-05.json"


def again() -> str:
    """What converts the week again."""
    return f"Run {advice.make('full', WEEKS='2021-W45', REFRESH=1)}"


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """A converted 2021-W45 of two hours, with a refused snapshot."""
    return archive_in(str(tmp_path / "in"), str(tmp_path / "out"), tmp_path / "spool")


# Late, replaced, removed


def test_snapshots_that_came_late_make_a_week_stale(archive: Archive) -> None:
    archive.source.write(LATE, b"[]")
    found = check(archive)
    assert (found.state, found.why) == ("stale", "1 raw snapshot came after it was converted")
    assert found.remedy == again()
    assert found.details == (f"came: {LATE}",)
    assert check(archive, is_deep=True) == found
    assert check(archive, share=1.0) == found


def test_snapshots_that_were_replaced_make_a_week_stale(archive: Archive) -> None:
    archive.source.write(FIRST, b"[{}]")
    found = check(archive)
    assert found.state == "stale"
    assert found.why == "1 raw snapshot was replaced after it was converted"
    assert found.details == (f"replaced: {FIRST}",)
    assert found.can_be_converted


def test_snapshots_that_were_removed_are_named_and_the_week_is_to_be_kept(archive: Archive) -> None:
    remove(archive.source, FIRST)
    found = check(archive)
    assert (found.state, found.can_be_converted) == ("raw gone", False)
    assert found.why == "1 of 12 raw snapshots in it are gone from the source"
    assert found.details == (f"gone: {FIRST}",)
    assert "do not convert the week again" in found.remedy
    assert check(archive, is_deep=True) == found


def test_one_that_came_does_not_hide_one_that_went(archive: Archive) -> None:
    remove(archive.source, FIRST)
    instead = FIRST.replace("00-00-05", "00-00-06")
    write(archive.source.url, instead, b"[]")
    found = check(archive)
    assert found.state == "raw gone"
    assert found.details == (f"came: {instead}", f"gone: {FIRST}")


def test_all_changes_are_counted_and_the_first_named(archive: Archive) -> None:
    for minute in range(5):
        archive.source.write(f"raw/bustimes__2021-11-09__00-0{minute}-05.json", b"[]")
    for key in list(bodies())[:2]:
        archive.source.write(key, b"[]")
    found = check(archive)
    assert (
        found.why == "5 raw snapshots came and 2 raw snapshots were replaced after it was converted"
    )
    came, replaced = found.details
    assert came.startswith(f"came: {LATE}, ")
    assert came.endswith(" and 2 more")
    assert replaced == "replaced: " + ", ".join(list(bodies())[:2])


def test_without_an_inventory_the_hours_tell_what_can_be_told(archive: Archive) -> None:
    without_inventory(archive)
    archive.source.write(LATE, b"[]")
    archive.source.write(FIRST, b"[{}]")
    found = check(archive)
    assert found.why == "1 raw snapshot came after it was converted"
    hours = manifest_of(archive)["hours"]
    less = hours[0]["raw_bytes"] - len(bodies()[FIRST]) + len(b"[{}]")
    assert found.details == (
        f"2021-11-08T00: as many, but {less:,} bytes and not {hours[0]['raw_bytes']:,}",
        "2021-11-09T00: 1 more than the 0 that it had",
        f"written since the week file: {FIRST}, {LATE}",
    )


def test_without_an_inventory_missing_snapshots_are_counted_by_hour(archive: Archive) -> None:
    without_inventory(archive)
    remove(archive.source, FIRST)
    found = check(archive)
    assert found.state == "raw gone"
    assert found.details == ("2021-11-08T00: 1 fewer than the 6 that it had",)


def test_a_listing_that_is_other_for_no_reason_that_can_be_seen_is_stale_too(
    archive: Archive,
) -> None:
    without_inventory(archive)
    change_manifest(archive, listing_sha256="0" * 64)
    found = check(archive)
    assert (found.state, found.why) == (
        "stale",
        "raw snapshots have changed since it was converted",
    )
    assert found.details == ("no hour has another number of snapshots, or other bytes",)


def test_a_damaged_inventory_is_said_beside_what_the_hours_tell(archive: Archive) -> None:
    """Of a week whose manifest does not tell the inventory's checksum, and so does not miss it."""
    archive.destination.write(inventory_key(archive), b"damaged")
    change_manifest(archive, inventory=None)
    archive.source.write(LATE, b"[]")
    found = check(archive)
    assert found.state == "stale"
    assert "is no inventory of a week, or is damaged" in found.details[-1]


def test_a_refresh_makes_a_stale_week_good(archive: Archive) -> None:
    archive.source.write(LATE, b"[]")
    convert_week(
        archive, WEEK, archive.identity(WEEK), 1, lambda _listing: lambda _hour: None, print
    )
    archive.list_again()
    assert check(archive, share=1.0).state == "good"


def test_a_refresh_takes_in_what_was_replaced(archive: Archive) -> None:
    archive.source.write(FIRST, b'[{"vehicleID": 7}]')
    with pytest.raises(Problem, match="is left as it is: converted again it would hold"):
        convert_again(archive)  # nine records fewer: somebody has to look at that
    assert check(archive).state == "stale"
    body = bodies()[FIRST].replace(b"'delay': ", b"'delay': 1", 1)
    body = body.replace(b'"delay": ', b'"delay": 1', 1)
    assert body != bodies()[FIRST]
    archive.source.write(FIRST, body)
    convert_again(archive)
    assert check(archive, share=1.0).state == "good"


def convert_again(archive: Archive) -> None:
    """As a refresh does."""
    replaces = archive.identity(WEEK)
    convert_week(archive, WEEK, replaces, 1, lambda _listing: lambda _hour: None, print)
    archive.list_again()


def test_a_week_that_is_not_over_is_partial_and_stale_by_itself_once_it_is(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_manifest(archive, week_over=False)
    monkeypatch.setattr(archives, "now", lambda: WEEK.end - timedelta(seconds=1))
    found = check(archive, share=1.0)
    assert (found.state, found.is_fine) == ("partial", True)
    assert proof.read(archive, WEEK) is None
    monkeypatch.setattr(archives, "now", lambda: WEEK.end)
    found = check(archive)
    assert (found.state, found.why) == ("stale", "it was converted before the week was over")
    assert found.remedy == again()


@pytest.mark.parametrize(
    ("given", "weeks", "last"),
    [
        ((), None, "2021-W45"),
        (("--from", "2021-W40"), None, "2021-W45"),
        (("--from", "2021-W40", "--to", "2021-W44"), None, "2021-W44"),
        (("--weeks", "2021-W40"), "2021-W40,2021-W45", None),
    ],
)
def test_current_means_the_week_that_is_not_over_as_well(
    monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], weeks: str | None, last: str | None
) -> None:
    monkeypatch.setattr(archives, "now", lambda: WEEK.end - timedelta(seconds=1))
    for command in ("full", "refresh"):
        options = ops._parser().parse_args([command, "--current", *given])
        ops._add_the_current_week(options)
        assert (options.weeks, options.last) == (weeks, last)


def test_what_comes_while_a_week_is_read_makes_it_stale_and_not_damaged(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = deep.list_week

    def listed(*given: Any) -> Listing:
        archive.source.write(LATE, b"[]")
        return real(*given)

    monkeypatch.setattr(deep, "list_week", listed)
    assert check(archive, share=1.0).state == "stale"


def test_a_week_that_is_written_anew_while_it_is_read_is_read_again(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = deep.check_hour
    said: list[str] = []

    def checked(*given: Any) -> Any:
        if not said:
            said.append("once")
            archive.source.write(LATE, b"[]")
            replaces = archive.identity(WEEK)
            convert_week(archive, WEEK, replaces, 1, lambda _listing: lambda _hour: None, print)
        return real(*given)

    refitted(archive, lambda lines: lines[1:])
    monkeypatch.setattr(deep, "check_hour", checked)
    assert check(archive, share=1.0).state == "good"
    found = proof.read(archive, WEEK)
    assert found is not None
    assert (found.snapshots, found.records) == (13, 110)


def test_a_damaged_week_whose_raw_side_is_gone_is_not_to_be_converted_again(
    archive: Archive, tmp_path: Path
) -> None:
    archive.destination.write("2021-W45.jsonl.gz", b"damaged")
    (tmp_path / "empty").mkdir()
    emptied = Archive(archive.settings, open_root(str(tmp_path / "empty")), archive.destination)
    for is_deep in (False, True):
        found = check(emptied, is_deep)
        assert found.state == "damaged"
        assert "12 of 12 raw snapshots in it are gone" in found.why
        assert not found.can_be_converted
        assert "make full" not in found.remedy


def test_a_week_that_is_not_good_for_its_raw_side_is_read_through_all_the_same(
    archive: Archive,
) -> None:
    remove(archive.source, FIRST)
    refitted(archive, lambda lines: [lines[0], b"{}", *lines[2:]], with_counts=False)
    found = check(archive, is_deep=True)
    assert (found.state, found.can_be_converted) == ("damaged", False)
    assert "line 2 of the hour 2021-11-08T00" in found.why
    assert "1 of 12 raw snapshots in it are gone" in found.why
    assert found.remedy.startswith("Put back a good copy of ")


# Deleted raw snapshots


def prune(archive: Archive, left: int = 0, ended: bool = True, **values: Any) -> None:
    """Put the record of a deletion there, and delete all but so many."""
    manifest = manifest_of(archive)
    record = {
        "version": 1,
        "week": "2021-W45",
        "listing_sha256": manifest["listing_sha256"],
        "sha256": manifest["output"]["sha256"],
        "objects": 12,
        "bytes": manifest["raw_bytes"],
        "began": "2022-01-01T00:00:00+00:00",
        "ended": "2022-01-01T00:01:00+00:00" if ended else None,
    }
    archive.destination.write("_pruned/2021-W45.json", json.dumps(record | values).encode())
    remove(archive.source, *list(bodies())[left:])


def test_a_pruned_week_is_as_it_should_be_and_its_file_is_checked_on(archive: Archive) -> None:
    prune(archive)
    for is_deep in (False, True):
        found = check(archive, is_deep)
        assert (found.state, found.can_be_converted, found.details) == ("pruned", False, ())
    report = verify(archive, [WEEK], deep=True, share=1.0)
    text = "\n".join(report.lines())
    assert report.is_fine
    assert "weeks      2021-W45 (1): 1 pruned" in text
    assert "pruned     2021-W45: the week files stand for their raw snapshots" in text
    assert report.recorded == []
    assert proof.read(archive, WEEK) is None
    refitted(archive, lambda lines: [lines[0], b"{}", *lines[2:]], with_counts=False)
    prune(archive, left=12)
    found = check(archive, is_deep=True)
    assert found.state == "damaged"
    assert "line 2 of the hour 2021-11-08T00" in found.why
    assert found.remedy.startswith("Put back a good copy of ")


def test_a_deletion_that_was_broken_off_is_said_to_be(archive: Archive) -> None:
    prune(archive, left=3, ended=False)
    found = check(archive)
    assert found.state == "pruned"
    assert found.details == (
        "the deletion was broken off, 3 of 12 raw snapshots are left; "
        f"{advice.make('prune')} goes on",
    )


def test_deleted_snapshots_that_are_back_as_they_were_do_no_harm(archive: Archive) -> None:
    prune(archive, left=3)
    assert check(archive).details == ("3 raw snapshots of 12 are there although all were deleted",)
    prune_nothing = archive_in(archive.source.url, archive.destination.url, archive.settings.spool)
    assert check(prune_nothing).state == "good"


def test_a_snapshot_that_comes_after_its_week_was_pruned_is_late(archive: Archive) -> None:
    prune(archive)
    archive.source.write(LATE, b"[]")
    found = check(archive)
    assert (found.state, found.can_be_converted) == ("stale", False)
    assert found.why == "1 raw snapshot came after its raw snapshots were deleted"
    assert found.details == (f"came: {LATE}",)
    restoring = advice.make("restore", WEEK="2021-W45", TO=archive.source.url)
    assert f"put those back with {restoring} and then run make full " in found.remedy


def test_one_that_was_replaced_while_others_were_deleted_is_late(archive: Archive) -> None:
    prune(archive, left=3, ended=False)
    archive.source.write(FIRST, b"[{}]")
    assert check(archive).details == (f"came: {FIRST}",)


def test_a_restored_week_is_to_be_converted_again_and_then_is_a_week_like_any_other(
    archive: Archive,
) -> None:
    prune(archive)
    for key, body in bodies().items():
        archive.source.write(key, body)
    found = check(archive)
    assert (found.state, found.can_be_converted, found.remedy) == ("stale", True, again())
    replaces = archive.identity(WEEK)
    convert_week(archive, WEEK, replaces, 1, lambda _listing: lambda _hour: None, print)
    archive.list_again()
    assert check(archive, share=1.0).state == "good"


def test_a_record_of_another_file_says_nothing(archive: Archive) -> None:
    prune(archive, sha256="0" * 64)
    assert check(archive).state == "raw gone"


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"version": 2}', b"\xff", b"[" * 100_000, b'{"week": 1}']
)
def test_a_damaged_record_of_a_deletion_is_damage(archive: Archive, data: bytes) -> None:
    prune(archive, left=3)
    archive.destination.write("_pruned/2021-W45.json", data)
    found = check(archive)
    assert (found.state, found.can_be_converted) == ("damaged", False)
    assert "/_pruned/2021-W45.json is no record of a deletion" in found.why
    with pytest.raises(Problem):
        pruned.read(archive, WEEK)


def test_a_pruned_week_whose_inventory_is_lost_is_damaged(archive: Archive) -> None:
    """It can tell neither what is late nor what to restore."""
    prune(archive, left=3)
    archive.destination.write(key := inventory_key(archive), b"damaged")
    found = check(archive)
    assert (found.state, found.can_be_converted) == ("damaged", False)
    assert f"{key}, is not the one in its manifest, and 9 of 12 raw snapshots" in found.why
    assert found.remedy.startswith(f"Put back a good copy of {archive.destination.url}/{key}")
    remove(archive.destination, key)
    assert f"{key}, is gone, and 9 of 12 raw snapshots" in check(archive).why


def test_so_is_one_whose_manifest_does_not_tell_of_its_inventory(archive: Archive) -> None:
    prune(archive, left=3)
    archive.destination.write(key := inventory_key(archive), b"damaged")
    change_manifest(archive, inventory=None)
    assert "is no inventory of a week, or is damaged" in check(archive).why
    remove(archive.source, *list(bodies())[:3])
    found = check(archive, is_deep=True)
    assert found.state == "damaged"
    assert "is no inventory of a week, or is damaged" in said(found)
    remove(archive.destination, key)
    found = check(archive)
    assert found.state == "damaged"
    assert f"{key}, its inventory, is not there any more" in found.why


def test_what_is_left_of_a_pruned_week_does_not_pass_for_a_week(archive: Archive) -> None:
    prune(archive, left=3, ended=False)
    for name in ("_manifests/2021-W45.json", "2021-W45.jsonl.gz"):
        path = Path(archive.destination.url) / name
        data = path.read_bytes()
        path.unlink()
        archive.list_again()
        found = check(archive)
        assert (found.state, found.can_be_converted) == ("damaged", False)
        assert found.why.endswith("and its raw snapshots were deleted by make prune")
        assert found.remedy.startswith(f"Put back a good copy of {path}")
        path.write_bytes(data)
        archive.list_again()
    assert check(archive).state == "pruned"


def test_a_refused_copy_that_is_lost_after_pruning_is_what_is_to_be_put_back(
    archive: Archive,
) -> None:
    prune(archive)
    kept = Path(archive.destination.url) / f"_refused/2021-W45/{UNREADABLE}"
    kept.unlink()
    found = check(archive)
    assert (found.state, found.can_be_converted) == ("damaged", False)
    assert f"Put back a good copy of {kept}" in found.remedy
