"""What prune may not delete: whatever is not as it was proven, and whatever nobody confirmed."""

import dataclasses
import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest

from tasks.bustimes import archive as archives
from tasks.bustimes import prune
from tasks.bustimes.archive import Archive, convert_week
from tasks.bustimes.prune import look, must_be_allowed, must_be_of_s3
from tasks.bustimes.verify import proof
from tasks.problem import Problem
from tasks.storage import Root, open_root
from tasks.storage.s3 import S3Prefix
from tests.proven_archive import (
    FIRST,
    RECORD,
    late,
    not_converted,
    prove,
    proven_archive,
    raw,
    replaced,
    source_of,
    with_other_file,
)
from tests.verified_archive import (
    FILE,
    MANIFEST,
    UNREADABLE,
    WEEK,
    change_manifest,
    check,
    flipped,
    having,
    inventory_key,
    remove,
    without_inventory,
    write_inventory,
)


@pytest.fixture
def archive(bucket: str, tmp_path: Path) -> Archive:
    return proven_archive(bucket, tmp_path)


def removed(archive: Archive) -> None:
    source_of(archive).remove([FIRST])


def not_over(archive: Archive) -> None:
    change_manifest(archive, week_over=False)


def proven_by_half(archive: Archive) -> None:
    without_proof(archive)
    prove(archive, 0.5)


def without_proof(archive: Archive) -> None:
    remove(archive.destination, proof.key_of(WEEK))


def with_damaged_proof(archive: Archive) -> None:
    archive.destination.write(proof.key_of(WEEK), b"{}")


def with_proof_of_other_file(archive: Archive) -> None:
    values = json.loads(archive.destination.read(proof.key_of(WEEK)))
    data = json.dumps(values | {"sha256": "0" * 64})
    archive.destination.write(proof.key_of(WEEK), data.encode())


def with_proof_of_an_older_version(archive: Archive) -> None:
    values = json.loads(archive.destination.read(proof.key_of(WEEK)))
    del values["readers"]
    archive.destination.write(proof.key_of(WEEK), json.dumps(values).encode())


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
    remove(archive.destination, f"_refused/{WEEK}/{UNREADABLE}")


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
    "old proof": (with_proof_of_an_older_version, "proven by an older version"),
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
    bucket = source_of(archive).bucket
    assert must_be_allowed(archive, f"{bucket}:0123abcd") == "0123abcd"
    with pytest.raises(Problem, match=r"switched off: set allow_prune = true .* ALLOW_PRUNE=true"):
        must_be_allowed(having(archive, allow_prune=False), f"{bucket}:0123abcd")
    with pytest.raises(Problem, match="names the bucket, and not what is deleted from it"):
        must_be_allowed(archive, bucket)
    others = ("", "bucket", archive.source.url, f"{bucket}:", f"{bucket}:0123ABCD", "x:0123abcd")
    for other in others:
        with pytest.raises(Problem, match="is not what prune has printed"):
            must_be_allowed(archive, other)
    folder = dataclasses.replace(archive, source=open_root(str(tmp_path / "in")))
    with pytest.raises(Problem, match="is a folder: prune deletes from S3 only"):
        must_be_of_s3(folder)


def test_another_weeks_manifest_does_not_tell_that_a_week_was_restored(
    bucket: str, tmp_path: Path
) -> None:
    archive = proven_archive(bucket, tmp_path)
    prune.prune(archive, WEEK)
    late(archive)
    change_manifest(archive, week="2021-W44", listing_sha256="0" * 64)
    archive.list_again()
    found = check(archive)
    assert found.why == (
        "its manifest is that of 2021-W44, and its raw snapshots were deleted by make prune"
    )
    assert not found.can_be_converted
    remove(archive.destination, FILE)
    archive.list_again()
    with pytest.raises(Problem, match="what is left is not the week"):
        convert_week(archive, WEEK, "", 1, lambda _listing: lambda _hour: None, print)
