"""Raw snapshots that are archived, denied or deleted: their week says so, and no other suffers."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from tasks.bustimes import plan as planning
from tasks.bustimes.archive import Archive, convert_week
from tasks.bustimes.listing import list_week
from tasks.bustimes.snapshot import key_of
from tasks.bustimes.verify import Report, deep, proof, verify
from tasks.problem import Problem
from tasks.settings import load
from tasks.storage import open_root, tally
from tasks.storage.archived import WAYS, command, counted
from tasks.storage.bulk import BulkReader
from tasks.storage.listed import Unreadable
from tasks.storage.patience import Patience
from tasks.weeks import Week
from tests.conftest import forget
from tests.gate import Gate
from tests.processes_under_test import Fill, Place, Start
from tests.scripted_s3 import ScriptedS3, error

pytestmark = pytest.mark.soak

WEEKS = [Week(2021, 45), Week(2021, 46), Week(2021, 47)]
LABELS = ",".join(map(str, WEEKS))
COUNT = 6


@pytest.fixture
def filled(fill: Fill, tmp_path: Path) -> Place:
    """Three weeks of six small snapshots, in a bucket behind the gate."""
    folder = tmp_path / "raw"
    (folder / "raw").mkdir(parents=True)
    for week in WEEKS:
        for number in range(COUNT):
            body = json.dumps([{"vehicleID": number, "delay": week.number}])
            (folder / key_of(week.start + timedelta(minutes=30 * number))).write_text(body)
    return fill(folder)


@pytest.fixture
def archive(filled: Place, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """The same for this process, through the gate as well."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", gate.url)
    forget()
    return Archive(load(), open_root(filled.source), open_root(filled.destination))


def convert_all(archive: Archive) -> None:
    for week in WEEKS:
        convert_week(archive, week, "", 1, lambda _listing: lambda _hour: None, print)
    archive.list_again()


def keys_of(archive: Archive, week: Week) -> list[str]:
    return [one.stored.key for one in list_week(archive.source, week).snapshots]


def move(archive: Archive, storage_class: str, *keys: str) -> None:
    """As a lifecycle rule does: the same object, with the same ETag, in another class."""
    client: Any = boto3.client("s3")
    bucket = archive.source.url.removeprefix("s3://")
    for key in keys:
        body = client.get_object(Bucket=bucket, Key=key)["Body"].read()
        client.put_object(Bucket=bucket, Key=key, Body=body, StorageClass=storage_class)


def restore(archive: Archive, *keys: str) -> None:
    client: Any = boto3.client("s3")
    for key in keys:
        request = {"Days": 7, "GlacierJobParameters": {"Tier": "Bulk"}}
        bucket = archive.source.url.removeprefix("s3://")
        client.restore_object(Bucket=bucket, Key=key, RestoreRequest=request)


def states(report: Report) -> list[str]:
    return [check.state for check in report.checks]


# Converting, and what it takes to


def test_plan_counts_what_is_archived_and_says_what_restoring_costs_and_takes(
    archive: Archive,
) -> None:
    move(archive, "DEEP_ARCHIVE", *keys_of(archive, WEEKS[0]))
    move(archive, "GLACIER", *keys_of(archive, WEEKS[1])[:2])
    move(archive, "STANDARD_IA", *keys_of(archive, WEEKS[2]))
    text = "\n".join(planning.plan(archive, WEEKS, 1, None).lines())
    assert f"archived     {COUNT} objects in DEEP_ARCHIVE, " in text
    assert "restored by Bulk: up to 48 hours, $0.00 (prices of 2025)" in text
    assert "             2 objects in GLACIER, " in text
    assert "restored by Bulk: 5 to 12 hours, nothing (prices of 2025)" in text


def test_all_of_the_real_archive_would_cost_what_aws_asks() -> None:
    bulk, standard = WAYS["DEEP_ARCHIVE"]
    assert bulk.cost(4_840_000, 909 * 10**9) == pytest.approx(121 + 2.2725)
    assert standard.cost(4_840_000, 909 * 10**9) == pytest.approx(484 + 18.18)
    bulk, standard = WAYS["GLACIER"]
    assert bulk.cost(4_840_000, 909 * 10**9) == 0
    assert standard.cost(15_000_000, 102_400 * 10**9) == pytest.approx(750 + 1024)


def test_full_converts_the_other_weeks_and_says_how_to_restore_and_then_the_rest(
    filled: Place, archive: Archive, start: Start
) -> None:
    keys = keys_of(archive, WEEKS[1])
    move(archive, "DEEP_ARCHIVE", *keys)
    made = start(filled, "full", "--local-scheduler", "--weeks", LABELS)
    assert made.wait() == 1, made.said()
    assert f"{WEEKS[1]}: {COUNT} of {COUNT} objects are archived (DEEP_ARCHIVE)" in made.said()
    assert command(archive.source.url, keys[0]) in made.said()
    assert "Traceback" not in made.said()
    archive.list_again()
    assert sorted(archive.weeks_written()) == [WEEKS[0], WEEKS[2]]
    restore(archive, *keys)
    assert [one.stored.archived for one in list_week(archive.source, WEEKS[1]).snapshots] == (
        [""] * COUNT
    )
    again = start(filled, "full", "--local-scheduler", "--weeks", LABELS)
    assert again.wait() == 0, again.said()
    archive.list_again()
    assert sorted(archive.weeks_written()) == WEEKS


def test_nothing_is_fetched_of_a_week_that_is_archived(archive: Archive) -> None:
    keys = keys_of(archive, WEEKS[0])
    move(archive, "GLACIER", keys[-1])
    tally.of_process.take()
    with pytest.raises(Problem, match=r"2021-W45: 1 of 6 objects are archived \(GLACIER\)"):
        convert_week(archive, WEEKS[0], "", 1, lambda _listing: lambda _hour: None, print)
    assert "GET" not in tally.of_process.take()


def test_the_command_names_the_object_whatever_its_name() -> None:
    assert command("s3://feed/deep", "raw/it's") == (
        "aws s3api restore-object --bucket feed --key 'deep/raw/it'\"'\"'s' --restore-request "
        "'Days=7,GlacierJobParameters={Tier=Bulk}'"
    )
    assert "--key raw/a " in command("s3://feed", "raw/a")


# What S3 answers


@pytest.fixture
def s3() -> Iterator[ScriptedS3]:
    with ScriptedS3({"a": b"body", "b": b"body"}) as server:
        yield server


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        ("403 Forbidden", "InvalidObjectState", "S3 has archived the object, and must restore it"),
        ("403 Forbidden", "AccessDenied", "access is denied"),
        ("404 Not Found", "NoSuchKey", "was listed but is gone now"),
    ],
)
def test_an_object_that_is_not_to_be_had_is_asked_for_once(
    s3: ScriptedS3, status: str, code: str, words: str
) -> None:
    s3.answers("a", *[error(status, code)] * 20)
    reader = BulkReader(s3.source, 2, Patience(first_pause=0.001))
    with pytest.raises(Unreadable, match=words):
        reader.read(s3.listed(), None)
    assert sum(one.target.endswith("/a") for one in s3.requests) == 1


# Verifying


@pytest.fixture(params=["here", "elsewhere"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A little is read in this process, and more in others."""
    if request.param == "elsewhere":
        monkeypatch.setattr(deep, "_FEW_BYTES", 0)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("why", ["archived", "denied", "file denied"])
def test_one_that_cannot_be_read_leaves_its_week_unproven_and_proves_the_others(
    archive: Archive, gate: Gate, why: str
) -> None:
    convert_all(archive)
    key = keys_of(archive, WEEKS[1])[2]
    if why == "archived":
        move(archive, "GLACIER", key)
        words = "1 raw snapshot of it cannot be compared until S3 has restored them (GLACIER)"
    elif (
        why == "archived unseen" or why == "denied"
    ):  # as in the archive tiers of INTELLIGENT_TIERING
        gate.refuse("GET", rf"/{key}$", 403)
        words = f"{key} cannot be read: access is denied"
    else:
        gate.refuse("GET", rf"/{WEEKS[1]}\.jsonl\.gz$", 403)
        words = f"{WEEKS[1]}.jsonl.gz cannot be read: access is denied"
    report = verify(archive, WEEKS, False, seed=1, share=1.0)
    assert states(report) == ["good", "not read", "good"]
    assert words in report.checks[1].why
    assert not report.is_fine
    assert report.recorded == [WEEKS[0], WEEKS[2]]
    assert [proof.read(archive, week) is not None for week in WEEKS] == [True, False, True]
    text = "\n".join(report.lines())
    assert f"not read   {WEEKS[1]}: " in text
    assert "proven     2021-W45, 2021-W47, by every raw snapshot" in text
    assert text.endswith("Not as it should be: 1 of 3 weeks.")


@pytest.mark.usefixtures("way")
def test_one_that_is_deleted_meanwhile_is_said_to_be_gone(archive: Archive, gate: Gate) -> None:
    convert_all(archive)
    key = keys_of(archive, WEEKS[1])[2]
    hold = gate.hold("GET", rf"/{key}$")
    found: list[Report] = []
    verifying = threading.Thread(
        target=lambda: found.append(verify(archive, WEEKS, False, seed=1, share=1.0))
    )
    verifying.start()
    hold.wait()
    boto3.client("s3").delete_object(Bucket=archive.source.url.removeprefix("s3://"), Key=key)
    hold.release()
    verifying.join()
    assert states(found[0]) == ["good", "raw gone", "good"]
    assert found[0].recorded == [WEEKS[0], WEEKS[2]]


def test_what_ends_all_of_it_leaves_what_was_found(archive: Archive, gate: Gate) -> None:
    """Here: S3 fails for good after the first week."""
    convert_all(archive)
    hasty = Archive(
        replace(archive.settings, request_seconds=0.1), archive.source, archive.destination
    )
    gate.refuse("GET", rf"/{keys_of(archive, WEEKS[2])[0]}$", 503)
    report = verify(hasty, WEEKS, False, seed=1, share=1.0)
    assert not report.is_fine
    assert states(report)[2] == "not read"
    assert "broken off " in "\n".join(report.lines())
    assert {"good", "not read"} >= set(states(report))


@pytest.mark.parametrize("count", [COUNT, 1])
def test_an_archive_whose_raw_side_is_archived_is_complete_and_says_what_was_not_compared(
    archive: Archive, count: int
) -> None:
    convert_all(archive)
    for week in WEEKS:
        move(archive, "DEEP_ARCHIVE", *keys_of(archive, week)[:count])
    report = verify(archive, WEEKS[:1], False, seed=1)
    assert report.is_fine
    text = "\n".join(report.lines())
    assert f"{count} raw snapshot" in text.partition("archived   ")[2].partition("\n")[0]
    assert (report.spot_checked == 0) == (count == COUNT)


def test_the_command_ends_with_1_and_says_all(
    filled: Place, archive: Archive, start: Start
) -> None:
    convert_all(archive)
    move(archive, "GLACIER", keys_of(archive, WEEKS[0])[0])
    run = start(filled, "verify", "--weeks", LABELS, "--share", "1.0")
    assert run.wait() == 1, run.said()
    assert "Traceback" not in run.said()
    assert "weeks      2021-W45 to 2021-W47 (3): 2 good, 1 not read" in run.said()


def test_classes_are_counted_apart(archive: Archive) -> None:
    keys = keys_of(archive, WEEKS[0])
    move(archive, "GLACIER", *keys[:2])
    move(archive, "DEEP_ARCHIVE", *keys[2:3])
    found = counted(one.stored for one in list_week(archive.source, WEEKS[0]).snapshots)
    assert [(one.storage_class, one.objects) for one in found] == [
        ("DEEP_ARCHIVE", 1),
        ("GLACIER", 2),
    ]
