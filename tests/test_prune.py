"""Prune deletes what is proven to be in its week file, goes on if broken off, and says so."""

import dataclasses
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ops.prune import Choice, delete, say_what_may_go
from ops.report import reading, states
from tasks import advice
from tasks.bustimes import archive as archives
from tasks.bustimes import graph, prune
from tasks.bustimes.archive import Archive, convert_week
from tasks.bustimes.inventory import Entry
from tasks.bustimes.prune import Candidate, look, look_at_all
from tasks.bustimes.restore import restore
from tasks.bustimes.verify import pruned, verify
from tasks.problem import Problem
from tasks.storage import deletion, open_root
from tasks.storage.patience import Patience
from tasks.weeks import Week, span
from tests.proven_archive import (
    FIRST,
    LATE,
    RECORD,
    confirmation_of,
    late,
    not_converted,
    proven_archive,
    raw,
    record,
    replaced,
    source_of,
    with_other_file,
)
from tests.s3_deletions import as_s3, refusing
from tests.verified_archive import FILE, WEEK, bodies, check, having, manifest_of

OF_OTHERS = (
    "raw/bustimes__2021-11-07__23-50-05.json",  # of the week before, and of the week behind
    "raw/bustimes__2021-11-15__00-00-05.json",
    "raw/bustimes__2021-11-08.txt",  # and none of the archive's
)


@pytest.fixture
def archive(bucket: str, tmp_path: Path) -> Archive:
    return proven_archive(bucket, tmp_path)


@pytest.fixture
def in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests of five objects each: a week takes three."""
    monkeypatch.setattr(prune, "_AT_ONCE", 5)


def convert(archive: Archive, replaces: str = "") -> None:
    convert_week(archive, WEEK, replaces, 1, lambda _listing: lambda _hour: None, print)
    archive.list_again()


# What goes, and what is then


def test_a_proven_week_is_deleted_and_nothing_else(archive: Archive) -> None:
    for key in OF_OTHERS:
        archive.source.write(key, b"[]")
    before = {one.key: one.etag for one in archive.destination.objects("")}
    assert len(look(archive, WEEK).entries) == 12
    batches: list[int] = []
    done = prune.prune(archive, WEEK, batches.append)
    size = sum(map(len, bodies().values()))
    assert (done.objects, done.bytes, done.late, batches) == (12, size, 0, [12])
    assert raw(archive) == set(OF_OTHERS)
    kept = {one.key: one.etag for one in archive.destination.objects("")}
    assert kept.pop(RECORD)
    assert kept == before
    written, manifest = record(archive), manifest_of(archive)
    assert written["began"] <= written["ended"]
    assert (written["objects"], written["bytes"]) == (12, size)
    assert written["sha256"] == manifest["output"]["sha256"]
    assert written["listing_sha256"] == manifest["listing_sha256"]
    assert look(archive, WEEK) == Candidate(WEEK, is_done=True, record=pruned.read(archive, WEEK))
    assert prune.prune(archive, WEEK).objects == 0


def test_a_pruned_week_is_done_and_goes_on_being_checked(archive: Archive) -> None:
    prune.prune(archive, WEEK)
    for deep, share in ((False, 0.0), (True, 0.0), (False, 1.0)):
        report = verify(archive, [WEEK], deep, share=share)
        assert report.is_fine
        assert report.of("pruned") == [WEEK]
    archive.list_again()
    assert [graph.tasks._replaces(archive, WEEK, refresh) for refresh in (False, True)] == ["", ""]
    [state] = states.states(reading.read(archive), archives.now())
    assert (state.state, state.prune and state.prune.objects) == ("written", 12)
    with_other_file(archive)
    found = check(archive, is_deep=True)
    assert (found.state, found.can_be_converted) == ("damaged", False)
    assert look(archive, WEEK).why_not.startswith("damaged: ")


def test_a_pruned_week_is_restored_and_gives_the_same_week_file(
    archive: Archive, tmp_path: Path
) -> None:
    prune.prune(archive, WEEK)
    back = tmp_path / "back"
    assert restore(archive, WEEK, open_root(str(back))).snapshots == 12
    settings = dataclasses.replace(archive.settings, spool=tmp_path / "own")
    again = Archive(settings, open_root(str(back)), open_root(str(tmp_path / "again")))
    convert(again)
    assert again.destination.read(FILE) == archive.destination.read(FILE)


def test_what_comes_after_pruning_is_told_kept_and_taken_in_with_all_others(
    archive: Archive,
) -> None:
    prune.prune(archive, WEEK)
    body = bodies()[FIRST]
    archive.source.write(LATE, body)
    found = check(archive)
    assert (found.state, found.can_be_converted) == ("stale", False)
    assert found.details == (f"came: {LATE}",)
    assert look(archive, WEEK).why_not.startswith("stale: 1 raw snapshot came after")
    with pytest.raises(Problem, match="is stale"):
        prune.prune(archive, WEEK)
    assert raw(archive) == {LATE}
    restore(archive, WEEK, archive.source)  # as verify says
    before = manifest_of(archive)["records"]
    convert(archive, archive.identity(WEEK))
    assert manifest_of(archive)["records"] > before
    assert look(archive, WEEK).why_not.startswith("converted again since it was proven")
    assert check(archive, share=1.0).state == "good"
    assert prune.prune(archive, WEEK).objects == 13
    assert raw(archive) == set()
    assert record(archive)["objects"] == 13
    assert check(archive).state == "pruned"


def test_what_is_left_of_a_week_whose_file_is_lost_is_not_converted_as_if_it_were_all(
    archive: Archive,
) -> None:
    prune.prune(archive, WEEK)
    late(archive)
    not_converted(archive)
    with pytest.raises(Problem, match=r"no file, and raw snapshots of it were deleted by make"):
        convert(archive)
    assert FILE not in {one.key for one in archive.destination.top_objects()}
    assert archive.manifest(WEEK) is not None


def test_a_week_that_was_restored_is_not_reported_as_pruned(archive: Archive) -> None:
    prune.prune(archive, WEEK)
    values = record(archive)
    archive.destination.write(RECORD, json.dumps(values | {"sha256": "0" * 64}).encode())
    [state] = states.states(reading.read(archive), archives.now())
    assert state.prune is None


# What happens on the way


def test_what_was_replaced_between_listing_and_deletion_stays(archive: Archive) -> None:
    with as_s3(source_of(archive), before=lambda: replaced(archive)):
        done = prune.prune(archive, WEEK)
    assert (done.objects, done.late) == (11, 1)
    assert archive.source.read(FIRST) == b"[{}]"
    assert record(archive)["ended"]
    found = check(archive)
    assert (found.state, found.details) == ("stale", (f"came: {FIRST}",))


@pytest.mark.usefixtures("in_batches")
def test_a_snapshot_that_comes_during_deletion_stays_and_is_told(archive: Archive) -> None:
    done = prune.prune(archive, WEEK, lambda _: late(archive))
    assert (done.objects, done.late, raw(archive)) == (12, 0, {LATE})
    assert check(archive).why == "1 raw snapshot came after its raw snapshots were deleted"


@pytest.mark.usefixtures("in_batches")
def test_a_deletion_that_was_broken_off_goes_on(archive: Archive) -> None:
    def deny_the_rest(keys: list[str]) -> dict[str, str]:
        return dict.fromkeys(keys, "AccessDenied") if FIRST not in keys else {}

    with (
        refusing(source_of(archive), deny_the_rest) as requests,
        pytest.raises(Problem, match=r"cannot be deleted: access is denied.* AllowPrune"),
    ):
        prune.prune(archive, WEEK)
    assert list(map(len, requests)) == [5, 5]
    began = record(archive)
    assert began["ended"] is None
    found = check(archive)
    assert found.state == "pruned"
    goes_on = f"7 of 12 raw snapshots are left; {advice.make('prune')} goes on"
    assert goes_on in found.details[0]
    left = look(archive, WEEK)
    assert (left.may_go, len(left.entries)) == (True, 7)
    assert prune.prune(archive, WEEK).objects == 7
    assert raw(archive) == set()
    ended = record(archive)
    assert ended.pop("ended") is not None
    assert ended == {key: value for key, value in began.items() if key != "ended"}


@pytest.mark.usefixtures("in_batches")
def test_one_that_was_broken_off_does_not_go_on_when_something_came_since(
    archive: Archive,
) -> None:
    """It waits for what verify says: restore what is gone beside what is left, convert anew."""

    class Broken(Exception):
        pass

    def break_off(_: int) -> None:
        raise Broken

    with pytest.raises(Broken):
        prune.prune(archive, WEEK, break_off)
    late(archive)
    left = raw(archive)
    assert len(left) == 8
    assert look(archive, WEEK).why_not.startswith("stale: ")
    assert raw(archive) == left
    restore(archive, WEEK, archive.source)
    assert raw(archive) == {*bodies(), LATE}
    assert all(archive.source.read(key) == bodies()[key] for key in left - {LATE})
    convert(archive, archive.identity(WEEK))
    assert check(archive, share=1.0).state == "good"
    assert prune.prune(archive, WEEK).objects == 13


@pytest.mark.usefixtures("in_batches")
def test_a_replaced_week_file_ends_it(archive: Archive) -> None:
    with pytest.raises(Problem, match=r"The file of 2021-W45 has been replaced while"):
        prune.prune(archive, WEEK, lambda _: with_other_file(archive))
    assert len(raw(archive)) == 7


def test_passing_errors_for_single_objects_are_tried_again(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "_PATIENCE", Patience(attempts=3, first_pause=0))
    seen: list[str] = []

    def slow_once(keys: list[str]) -> dict[str, str]:
        some = [] if seen else keys[:4]
        seen.extend(some)
        return dict.fromkeys(some, "SlowDown")

    with refusing(source_of(archive), slow_once) as requests:
        assert prune.prune(archive, WEEK).objects == 12
    assert list(map(len, requests)) == [12, 4]


def test_errors_that_last_end_it_and_it_stays_on_record(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "_PATIENCE", Patience(attempts=3, first_pause=0))
    with (
        refusing(source_of(archive), lambda keys: {keys[-1]: "InternalError"}) as requests,
        pytest.raises(Problem, match="cannot be deleted: the server answers InternalError"),
    ):
        prune.prune(archive, WEEK)
    assert list(map(len, requests)) == [12, 1, 1]
    assert record(archive)["ended"] is None


def test_a_request_that_is_denied_names_the_permission(archive: Archive) -> None:
    with (
        refusing(source_of(archive), lambda keys: dict.fromkeys(keys, "AccessDenied"), 403),
        pytest.raises(Problem) as raised,
    ):
        prune.prune(archive, WEEK)
    sentence = str(raised.value)
    assert f"s3:DeleteObject and s3:GetObject on arn:aws:s3:::{source_of(archive).bucket}/" in (
        sentence
    )
    assert "AllowPrune, for which setup takes ALLOW_PRUNE=true." in sentence


def test_what_is_said_to_be_deleted_must_be_gone(archive: Archive) -> None:
    """A server that says yes and does nothing is not believed."""
    with (
        refusing(source_of(archive), lambda keys: dict.fromkeys(keys, "NoSuchKey")),
        pytest.raises(Problem, match=r"12 raw snapshots of 2021-W45 are still there, such as"),
    ):
        prune.prune(archive, WEEK)
    assert record(archive)["ended"] is None


def test_two_at_once_on_one_machine_take_turns(archive: Archive) -> None:
    results: list[int] = []

    def run() -> None:
        results.append(prune.prune(archive, WEEK).objects)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [0, 12]


@pytest.mark.usefixtures("in_batches")
def test_two_at_once_on_two_machines_do_no_harm(archive: Archive, tmp_path: Path) -> None:
    other = having(archive, spool=tmp_path / "other")
    results: list[int] = []

    def meanwhile(_: int) -> None:
        if not results:
            results.append(prune.prune(other, WEEK).objects)

    prune.prune(archive, WEEK, meanwhile)
    assert results == [7]
    assert raw(archive) == set()
    assert record(archive)["ended"]
    assert check(archive, is_deep=True).state == "pruned"


def test_one_that_another_machine_has_just_begun_is_not_begun_again(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = prune.check_week

    def checked(*given: Any, **named: Any) -> Any:
        archive.destination.write(RECORD, b"{}")
        return real(*given, **named)

    monkeypatch.setattr(prune, "check_week", checked)
    monkeypatch.setattr(prune, "read", lambda *_: None)
    monkeypatch.setattr(archive.destination, "find", _finding_no_record(archive))
    with pytest.raises(Problem, match="was written by somebody else meanwhile"):
        prune.prune(archive, WEEK)
    assert len(raw(archive)) == 12


def _finding_no_record(archive: Archive) -> Callable[[str], Any]:
    real = archive.destination.find
    return lambda key: None if key == RECORD else real(key)


# What is said


def candidate(week: Week, count: int, size: int) -> Candidate:
    return Candidate(week, entries=[Entry("key", size, "etag", 1)] * count)


def test_weeks_are_told_in_ranges_with_what_they_save_and_why_others_stay(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    weeks = list(span(Week(2018, 1), Week(2018, 8)))
    candidates = [
        *(candidate(week, 10_080, 1_000_000) for week in weeks[:3]),
        *(Candidate(week, "not proven: …") for week in weeks[3:5]),
        candidate(weeks[5], 1, 10),
        Candidate(weeks[6], is_done=True),
        Candidate(weeks[7], "stale: …"),
    ]
    monkeypatch.setenv("BUSTIMES_SOURCE", archive.source.url)
    monkeypatch.setenv("BUSTIMES_DESTINATION", "")
    choice = Choice(weeks, {"WEEKS": "", "FROM": "2018-W01", "TO": ""})
    said = list(say_what_may_go(having(archive, allow_prune=False), choice, candidates))
    assert said[1:-2] == [
        "may go     2018-W01 to 2018-W03 (3 weeks): 30,240 raw snapshots, 30.2 GB; saves $0.70 a "
        "month, $8.35 a year",
        "may go     2018-W06 (1 week): 1 raw snapshot, 10 bytes; saves less than a cent a month, "
        "less than a cent a year",
        "in all     2018-W01 to 2018-W03, 2018-W06 (4 weeks): 30,241 raw snapshots, 30.2 GB; saves "
        "$0.70 a month, $8.35 a year",
        "pruned     2018-W07: deleted already",
        "stays      2018-W04 to 2018-W05: not proven: ….",
        "stays      2018-W08: stale: ….",
    ]
    bucket = source_of(archive).bucket
    assert said[-1] == (
        "  "
        + advice.make(
            "prune",
            FROM="2018-W01",
            ALLOW_PRUNE="true",
            CONFIRM=f"{bucket}:{prune.code_of(archive, candidates)}",
        )
    )


def test_old_versions_that_go_on_costing_are_told_before_and_after(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, bucket = source_of(archive).client, source_of(archive).bucket
    choice = Choice([WEEK], {"WEEKS": str(WEEK)})
    candidates = look_at_all(archive, [WEEK])
    assert "\nversions" not in "\n".join(say_what_may_go(archive, choice, candidates))
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    before = "\n".join(say_what_may_go(archive, choice, candidates))
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    monkeypatch.setattr("ops.prune.keeps_versions", lambda _: True)  # moto cannot remove any
    after: list[str] = []
    confirm = confirmation_of(archive)
    assert delete(archive, confirm, candidates, after.append, lambda *_: NoBar()) == 0
    for said in (before, "\n".join(after)):
        assert re.search("saves .* a month, .* a year, once old versions are gone", said)
        assert f"versions   {bucket} keeps old versions: what is deleted stays" in said


class NoBar:
    """Shows nothing."""

    def update(self, number: int = 1, /) -> None: ...
    def close(self) -> None: ...


def test_what_is_confirmed_is_what_was_shown_and_nothing_else(archive: Archive) -> None:
    """Another version of one snapshot, one fewer, another destination: each has another code."""
    shown = look_at_all(archive, [WEEK])
    code = prune.code_of(archive, shown)
    assert code == prune.code_of(archive, look_at_all(archive, [WEEK]))
    [one] = shown
    others = [
        [dataclasses.replace(one, entries=one.entries[1:])],
        [dataclasses.replace(one, entries=[one.entries[0]._replace(etag="x"), *one.entries[1:]])],
        [dataclasses.replace(one, week=WEEK.next)],
        [one, dataclasses.replace(one, week=WEEK.next)],
        [],
    ]
    assert code not in {prune.code_of(archive, other) for other in others}
    elsewhere = dataclasses.replace(archive, destination=archive.source)
    assert code != prune.code_of(elsewhere, shown)
    for other in others:
        with pytest.raises(Problem, match="stands for other weeks or snapshots than these"):
            delete(archive, f"{source_of(archive).bucket}:{code}", other, print, lambda *_: NoBar())
    assert len(raw(archive)) == 12


def test_a_week_that_has_changed_since_it_was_shown_stays(archive: Archive) -> None:
    """The look at all weeks, and then the deletion of each, are moments apart."""
    [shown] = look_at_all(archive, [WEEK])
    fewer = dataclasses.replace(shown, entries=shown.entries[1:])
    with pytest.raises(Problem, match=r"are not those that were shown any more\. Nothing of it"):
        prune.prune(archive, WEEK, shown=fewer, code="0123abcd")
    assert len(raw(archive)) == 12
    assert archive.destination.find(RECORD) is None


def test_the_record_is_what_verify_reads(archive: Archive) -> None:
    prune.prune(archive, WEEK)
    found, manifest = pruned.read(archive, WEEK), archive.manifest(WEEK)
    assert found is not None
    assert manifest is not None
    assert found.is_of(manifest)
