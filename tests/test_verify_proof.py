"""What verify compares record by record, and what it keeps on record of what it found."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tasks.bustimes.archive import Archive, convert_week
from tasks.bustimes.listing import Listing, list_week
from tasks.bustimes.manifest import Manifest
from tasks.bustimes.verify import proof, share, verify
from tasks.problem import Problem
from tasks.weeks import Week
from tests.verified_archive import (
    WEEK,
    archive_in,
    bodies,
    check,
    manifest_of,
    refitted,
    remove,
    write,
)

LATE = "raw/bustimes__2021-11-09__00-00-05.json"


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """A converted 2021-W45 of two hours, with a refused snapshot."""
    return archive_in(str(tmp_path / "in"), str(tmp_path / "out"), tmp_path / "spool")


# Which snapshots are compared


def listing_of(archive: Archive) -> Listing:
    return list_week(archive.source, WEEK)


@pytest.mark.parametrize(
    ("part", "count"), [(0.01, 1), (0.5, 6), (0.51, 7), (0.99, 12), (1.0, 12), (1e-9, 1)]
)
def test_a_share_is_drawn_by_a_seed_and_never_nothing(
    archive: Archive, part: float, count: int
) -> None:
    listing = listing_of(archive)
    drawn = share.draw(listing, part, seed=1)
    assert len(drawn) == count
    assert drawn == share.draw(listing, part, seed=1)
    assert drawn <= set(bodies())
    if count == 1:
        assert len({tuple(share.draw(listing, part, seed)) for seed in range(50)}) > 5


def test_snapshots_of_one_second_are_compared_together(archive: Archive) -> None:
    """The same name at the root and under raw/: both are of the archive."""
    week = Week(2021, 46)
    body = b'[{"vehicleID": 1, "a": 1}, {"vehicleID": 1, "a": 1}]'
    for prefix in ("raw/", ""):
        write(archive.source.url, f"{prefix}bustimes__2021-11-15__00-00-05.json", body)
    convert_week(archive, week, "", 1, lambda _listing: lambda _hour: None, print)
    archive.list_again()
    report = verify(archive, [week], False, share=0.01)
    assert report.is_fine
    assert (report.spot_checked, report.spot_records) == (2, 4)


# The record of what was proven


def manifest(archive: Archive) -> Manifest:
    found = archive.manifest(WEEK)
    assert found is not None
    return found


def test_a_proof_says_what_was_compared(archive: Archive) -> None:
    check(archive, share=1.0)
    found = proof.read(archive, WEEK)
    assert found is not None
    when = found.when
    assert found == proof.Proof(
        week="2021-W45",
        sha256=manifest_of(archive)["output"]["sha256"],
        listing_sha256=manifest_of(archive)["listing_sha256"],
        share=1.0,
        snapshots=12,
        records=110,
        when=when,
        readers=2,
    )
    assert when.endswith("+00:00")
    assert proof.is_valid(found, manifest(archive), listing_of(archive))


def test_a_week_that_is_not_good_or_not_over_is_not_proven(archive: Archive) -> None:
    refitted(archive, lambda lines: lines[1:])
    assert check(archive, share=1.0).state == "damaged"
    assert proof.read(archive, WEEK) is None
    archive.source.write(LATE, b"[]")
    assert check(archive, share=1.0).state == "stale"
    assert proof.read(archive, WEEK) is None


def test_a_proof_counts_only_for_what_it_is_of(archive: Archive) -> None:
    check(archive, share=1.0)
    found, now, listing = proof.read(archive, WEEK), manifest(archive), listing_of(archive)
    assert proof.is_valid(found, now, listing)
    assert not proof.is_valid(None, now, listing)
    assert not proof.is_valid(found, dataclasses.replace(now, listing_sha256="0"), listing)
    output = dataclasses.replace(now.output, sha256="0")
    assert not proof.is_valid(found, dataclasses.replace(now, output=output), listing)
    assert not proof.is_valid(found, now, Listing(WEEK, listing.snapshots[1:]))
    assert found is not None
    some = dataclasses.replace(found, share=0.5)
    assert not proof.is_valid(some, now, listing)
    assert proof.is_valid(some, now, listing, share=0.5)


def test_a_proof_by_the_readers_of_an_older_version_does_not_count(archive: Archive) -> None:
    """They took the bytes of Python 2's literals for Latin-1, both of them."""
    check(archive, share=1.0)
    values = json.loads(archive.destination.read(proof.key_of(WEEK)))
    assert values.pop("readers") == proof.READERS
    archive.destination.write(proof.key_of(WEEK), json.dumps(values).encode())
    old = proof.read(archive, WEEK)
    assert old is not None
    assert not proof.is_valid(old, manifest(archive), listing_of(archive))
    check(archive, share=0.5)  # less is more
    new = proof.read(archive, WEEK)
    assert proof.is_valid(new, manifest(archive), listing_of(archive), share=0.5)


def test_a_larger_share_stays_on_record_as_long_as_it_counts(archive: Archive) -> None:
    for part, kept in ((0.5, 0.5), (1.0, 1.0), (0.5, 1.0)):
        check(archive, share=part)
        found = proof.read(archive, WEEK)
        assert found is not None
        assert found.share == kept
    archive.source.write(LATE, b"[]")
    replaces = archive.identity(WEEK)
    convert_week(archive, WEEK, replaces, 1, lambda _listing: lambda _hour: None, print)
    check(archive, share=0.5)
    found = proof.read(archive, WEEK)
    assert found is not None
    assert found.share == 0.5


@pytest.mark.parametrize("data", [b"", b"[]", b'{"version": 1}', b"\xff", b"[" * 100_000])
def test_a_damaged_proof_is_none_and_is_replaced(archive: Archive, data: bytes) -> None:
    archive.destination.write(proof.key_of(WEEK), data)
    with pytest.raises(Problem, match=r"is no record of a verification .* Remove it, and run make"):
        proof.read(archive, WEEK)
    check(archive, share=1.0)
    assert proof.read(archive, WEEK) is not None


def test_an_archive_that_cannot_be_written_is_verified_and_that_is_said(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> None:
        raise Problem("The destination cannot be written: access is denied.")

    monkeypatch.setattr(archive.destination, "write", denied)
    report = verify(archive, [WEEK], False, share=1.0)
    assert report.is_fine
    assert report.recorded == []
    assert "not kept   The destination cannot be written" in "\n".join(report.lines())


def test_what_is_not_good_is_noted_for_the_report(archive: Archive) -> None:
    def noted() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(archive.destination.read("_verified/findings.json"))
        return found

    check(archive)
    assert noted()["weeks"] == {}
    archive.source.write(LATE, b"[]")
    verify(archive, [Week(2021, 44), WEEK], deep=False)
    assert noted()["weeks"] == {
        "2021-W44": {"state": "gap", "why": "", "listing_sha256": None},
        "2021-W45": {
            "state": "stale",
            "why": "1 raw snapshot came after it was converted",
            "listing_sha256": manifest_of(archive)["listing_sha256"],
        },
    }
    remove(archive.source, LATE)
    check(archive)
    assert list(noted()["weeks"]) == ["2021-W44"]
    archive.destination.write("_verified/findings.json", b"damaged")
    check(archive)
    assert noted()["weeks"] == {}
