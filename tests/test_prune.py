"""Prune deletes what is proven to be in its week file, and nothing else, whatever happens."""

import dataclasses
import datetime as dt
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest

from ops.prune import Choice, say_what_may_go
from ops.report import reading, states
from tasks.bustimes import archive as archives
from tasks.bustimes import graph, prune
from tasks.bustimes.archive import Archive, convert_week
from tasks.bustimes.inventory import Entry
from tasks.bustimes.prune import Candidate, look, must_be_allowed, must_be_of_s3
from tasks.bustimes.restore import restore
from tasks.bustimes.verify import proof, pruned, verify
from tasks.problem import Problem
from tasks.storage import Root, deletion, open_root
from tasks.storage.patience import Patience
from tasks.storage.s3 import S3Prefix
from tasks.weeks import Week, span
from tests.s3_deletions import as_s3, refusing
from tests.verified_archive import (
    FILE,
    MANIFEST,
    UNREADABLE,
    WEEK,
    archive_in,
    bodies,
    change_manifest,
    check,
    flipped,
    having,
    inventory_key,
    manifest_of,
    remove,
    without_inventory,
    write_inventory,
)

LATE = "raw/bustimes__2021-11-09__00-00-05.json"
FIRST = "raw/bustimes__2021-11-08__00-00-05.json"
RECORD = f"_pruned/{WEEK}.json"
OF_OTHERS = (
    "raw/bustimes__2021-11-07__23-50-05.json",  # of the week before, and of the week behind
    "raw/bustimes__2021-11-15__00-00-05.json",
    "raw/bustimes__2021-11-08.txt",  # and none of the archive's
)


@pytest.fixture
def archive(bucket: str, tmp_path: Path) -> Archive:
    """A converted 2021-W45 of twelve snapshots in a bucket, proven, where deleting is allowed."""
    archive = archive_in(bucket, f"{bucket}/v2", tmp_path / "spool", allow_prune=True)
    prove(archive)
    return archive


@pytest.fixture
def in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests of five objects each: a week takes three."""
    monkeypatch.setattr(prune, "_AT_ONCE", 5)


def prove(archive: Archive, share: float = 1.0) -> None:
    """As `make verify SHARE=` does that has compared all and found it good."""
    manifest = archive.manifest(WEEK)
    assert manifest is not None
    proof.keep(archive, manifest, share, manifest.snapshots, manifest.records)


def source_of(archive: Archive) -> S3Prefix:
    assert isinstance(archive.source, S3Prefix)
    return archive.source


def raw(archive: Archive) -> set[str]:
    return {one.key for one in archive.source.objects("raw/")}


def record(archive: Archive) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(archive.destination.read(RECORD))
    return values


def convert(archive: Archive, replaces: str = "") -> None:
    convert_week(archive, WEEK, replaces, 1, lambda _listing: lambda _hour: None, print)
    archive.list_again()


def elsewhere(archive: Archive, url: str) -> Archive:
    """The same archive with another raw side."""
    return dataclasses.replace(archive, source=open_root(url))


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
    assert look(archive, WEEK) == Candidate(WEEK, is_done=True)
    assert prune.prune(archive, WEEK).objects == 0


def test_a_pruned_week_is_done_and_goes_on_being_checked(archive: Archive) -> None:
    prune.prune(archive, WEEK)
    for deep, share in ((False, 0.0), (True, 0.0), (False, 1.0)):
        report = verify(archive, [WEEK], deep, share=share)
        assert report.is_fine
        assert report.of("pruned") == [WEEK]
    archive.list_again()
    assert [graph._replaces(archive, WEEK, refresh) for refresh in (False, True)] == ["", ""]
    [state] = states.states(reading.read(archive), archives.now())
    assert (state.state, state.prune and state.prune.objects) == ("written", 12)
    data = archive.destination.read(FILE)
    archive.destination.write(FILE, flipped(data, len(data) // 2))
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


# What may not go


def late(archive: Archive) -> None:
    archive.source.write(LATE, b"[]")


def replaced(archive: Archive) -> None:
    archive.source.write(FIRST, b"[{}]")


def removed(archive: Archive) -> None:
    source_of(archive).remove([FIRST])


def not_over(archive: Archive) -> None:
    change_manifest(archive, week_over=False)


def not_converted(archive: Archive) -> None:
    destination = archive.destination
    assert isinstance(destination, S3Prefix)
    destination.remove([FILE])
    archive.list_again()


def proven_by_half(archive: Archive) -> None:
    destination = archive.destination
    assert isinstance(destination, S3Prefix)
    destination.remove([proof.key_of(WEEK)])
    prove(archive, 0.5)


def without_proof(archive: Archive) -> None:
    destination = archive.destination
    assert isinstance(destination, S3Prefix)
    destination.remove([proof.key_of(WEEK)])


def with_damaged_proof(archive: Archive) -> None:
    archive.destination.write(proof.key_of(WEEK), b"{}")


def with_proof_of_other_file(archive: Archive) -> None:
    values = json.loads(archive.destination.read(proof.key_of(WEEK)))
    data = json.dumps(values | {"sha256": "0" * 64})
    archive.destination.write(proof.key_of(WEEK), data.encode())


def with_other_file(archive: Archive) -> None:
    data = archive.destination.read(FILE)
    archive.destination.write(FILE, flipped(data, len(data) // 2))


def with_other_file_by_another_tool(archive: Archive) -> None:
    """Of the same size and without a checksum: only its bytes tell."""
    data, destination = archive.destination.read(FILE), archive.destination
    assert isinstance(destination, S3Prefix)
    config = boto3.session.Config(request_checksum_calculation="when_required")
    client = boto3.client("s3", region_name="us-east-1", config=config)
    client.put_object(
        Bucket=destination.bucket, Key=f"v2/{FILE}", Body=flipped(data, len(data) // 2)
    )


def without_refused(archive: Archive) -> None:
    destination = archive.destination
    assert isinstance(destination, S3Prefix)
    destination.remove([f"_refused/{WEEK}/{UNREADABLE}"])


def with_other_refused(archive: Archive) -> None:
    key = f"_refused/{WEEK}/{UNREADABLE}"
    archive.destination.write(key, flipped(archive.destination.read(key), 7))


def with_lost_inventory(archive: Archive) -> None:
    remove(archive.destination, inventory_key(archive))


def with_damaged_inventory(archive: Archive) -> None:
    archive.destination.write(inventory_key(archive), b"damaged")


def with_other_inventory(archive: Archive) -> None:
    """Of the right objects, but with other numbers of records."""
    write_inventory(archive, [9] * 12)


def without_manifest(archive: Archive) -> None:
    remove(archive.destination, MANIFEST)


def with_damaged_record(archive: Archive) -> None:
    archive.destination.write(RECORD, b"[]")


GUARDS: dict[str, tuple[Callable[[Archive], None], str]] = {
    "stale: late": (late, "stale: 1 raw snapshot came after it was converted"),
    "stale: replaced": (replaced, "stale: 1 raw snapshot was replaced after"),
    "raw gone": (removed, "raw gone: 1 of 12 raw snapshots in it are gone"),
    "partial": (not_over, "not over when it was converted"),
    "missing": (not_converted, "not converted"),
    "share": (proven_by_half, "not proven"),
    "never": (without_proof, "not proven"),
    "proof": (with_damaged_proof, "is no record of a verification"),
    "other proof": (with_proof_of_other_file, "converted again since it was proven"),
    "other file": (with_other_file, "damaged: the file's SHA-256 is not"),
    "other tool": (with_other_file_by_another_tool, "not the file that was proven"),
    "refused": (without_refused, "damaged: the bytes of the unreadable"),
    "other refused": (with_other_refused, f"not kept whole: what is kept of {UNREADABLE}"),
    "inventory": (without_inventory, "it has no inventory"),
    "lost inventory": (with_lost_inventory, "damaged: its inventory, _inventories/"),
    "damaged inventory": (with_damaged_inventory, "is not the one in its manifest"),
    "other inventory": (with_other_inventory, "its inventory has other records"),
    "manifest": (without_manifest, "without its manifest"),
    "record": (with_damaged_record, "is no record of a deletion"),
}


def test_what_is_not_as_it_was_proven_stays(archive: Archive) -> None:
    before = {root: contents(root) for root in (archive.source, archive.destination)}
    for name, (spoil, why) in GUARDS.items():
        spoil(archive)
        there, written = raw(archive), archive.destination.find(RECORD)
        with pytest.raises(Problem, match="Nothing of it is deleted") as raised:
            prune.prune(archive, WEEK)
        assert why in str(raised.value), name
        assert raw(archive) == there, name
        assert archive.destination.find(RECORD) == written, name
        for root, objects in before.items():
            put_back(root, objects)
        archive.list_again()
    assert look(archive, WEEK).may_go


def contents(root: Root) -> dict[str, tuple[str, bytes]]:
    """Every object with its tag, those of the destination only there."""
    keys = [one for one in root.objects("") if not one.key.startswith("v2/")]
    return {one.key: (one.etag, root.read(one.key)) for one in keys}


def put_back(root: Root, objects: dict[str, tuple[str, bytes]]) -> None:
    assert isinstance(root, S3Prefix)
    now = {one.key: one.etag for one in root.objects("") if not one.key.startswith("v2/")}
    for key, (etag, data) in objects.items():
        if now.pop(key, "") != etag:
            root.write(key, data)
    root.remove(now)


def test_the_current_week_stays_whatever_its_manifest_says(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "now", lambda: WEEK.end - dt.timedelta(seconds=1))
    assert look(archive, WEEK).why_not.startswith("not over")


def test_nothing_is_deleted_unless_it_is_allowed_and_the_bucket_is_named(
    archive: Archive, tmp_path: Path
) -> None:
    must_be_allowed(archive, source_of(archive).bucket)
    with pytest.raises(Problem, match=r"switched off: set allow_prune = true .* ALLOW_PRUNE=true"):
        must_be_allowed(having(archive, allow_prune=False), source_of(archive).bucket)
    for other in ("bucket", archive.source.url, ""):
        with pytest.raises(Problem, match=f"CONFIRM={source_of(archive).bucket} is"):
            must_be_allowed(archive, other)
    folder = elsewhere(archive, str(tmp_path / "in"))
    with pytest.raises(Problem, match="is a folder: prune deletes from S3 only"):
        must_be_of_s3(folder)


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
    assert "7 of 12 raw snapshots are left; make prune goes on" in found.details[0]
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
    assert "AllowPrune: make setup ON=ec2 ALLOW_PRUNE=true" in sentence


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
        f"  make prune FROM=2018-W01 SOURCE=s3://{bucket} ALLOW_PRUNE=true CONFIRM={bucket}"
    )


def test_old_versions_that_go_on_costing_are_told(archive: Archive) -> None:
    client, bucket = source_of(archive).client, source_of(archive).bucket
    choice = Choice([WEEK], {"WEEKS": str(WEEK)})
    candidates = [candidate(WEEK, 1, 1)]
    assert "versions" not in "\n".join(say_what_may_go(archive, choice, candidates))
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert f"versions   {bucket} keeps old versions: what is deleted stays" in "\n".join(
        say_what_may_go(archive, choice, candidates)
    )
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})


def test_the_record_is_what_verify_reads(archive: Archive) -> None:
    prune.prune(archive, WEEK)
    found, manifest = pruned.read(archive, WEEK), archive.manifest(WEEK)
    assert found is not None
    assert manifest is not None
    assert found.is_of(manifest)
