"""A manifest that is edited is found by its seal, whatever it says; one without a seal is said."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.bustimes import manifest as manifests
from tasks.bustimes import prune, seal
from tasks.bustimes.archive import Archive, convert_week
from tasks.bustimes.snapshot import key_of
from tasks.bustimes.verify import proof, verify
from tasks.settings import load
from tasks.storage import open_root
from tests.explained import upload
from tests.verified_archive import FILE, MANIFEST, WEEK, manifest_of, put, remove

pytestmark = pytest.mark.soak

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture(params=["folder", "bucket"])
def archive(request: pytest.FixtureRequest, raw_week: Path, tmp_path: Path) -> Archive:
    """A week as it is converted, with an unreadable snapshot."""
    source, destination = str(raw_week), str(tmp_path / "out")
    if request.param == "bucket":
        source = request.getfixturevalue("bucket")
        destination = f"{source}/v2"
        upload(raw_week, source)
    archive = Archive(load(), open_root(source), open_root(destination))
    convert(archive)
    return archive


def convert(archive: Archive) -> None:
    archive.list_again()
    replaces = archive.identity(WEEK) if WEEK in archive.weeks_written() else ""
    convert_week(archive, WEEK, replaces, 1, lambda _listing: lambda _hour: None, print)
    archive.list_again()


def edit(archive: Archive, change: Edit) -> None:
    values = manifest_of(archive)
    change(values)
    put(archive.destination, MANIFEST, json.dumps(values).encode())


def seals(archive: Archive) -> dict[str, bytes]:
    found = archive.destination.objects(f"_seals/{WEEK}/")
    return {one.key: archive.destination.read(one.key) for one in found}


def state(archive: Archive) -> tuple[str, str]:
    (found,) = verify(archive, [WEEK], False, seed=1).checks
    return found.state, found.why


EDITS: dict[str, Edit] = {
    "reason": lambda values: values["refused"][0].update(reason="it is empty"),
    "tokenized": lambda values: values.update(tokenized=values["tokenized"] + 1),
    "compression_level": lambda values: values.update(compression_level=7),
    "something more": lambda values: values.update(comment="checked by hand"),
    "vehicles": lambda values: values.update(vehicles=1),
}


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_is_found_without_reading_a_line_and_a_refresh_mends_it(
    archive: Archive, what: str
) -> None:
    due = manifests.from_bytes(archive.destination.read(MANIFEST), "")
    assert state(archive) == ("good", "")
    edit(archive, EDITS[what])
    assert state(archive) == (
        "damaged",
        "its manifest is not the one that was written with its file",
    )
    (found,) = verify(archive, [WEEK], False).checks
    assert found.remedy.startswith("Run make full ")
    assert found.remedy.endswith(f" WEEKS={WEEK} REFRESH=1")
    convert(archive)
    assert state(archive) == ("good", "")
    mended = manifests.from_bytes(archive.destination.read(MANIFEST), "")
    assert (mended.refused, mended.tokenized) == (due.refused, due.tokenized)


def test_where_the_raw_side_is_gone_an_edit_is_not_to_be_mended_by_converting(
    archive: Archive,
) -> None:
    edit(archive, EDITS["reason"])
    remove(archive.source, next(one.key for one in archive.source.objects("raw/")))
    (found,) = verify(archive, [WEEK], False).checks
    assert (found.state, found.can_be_converted) == ("damaged", False)
    assert found.remedy.startswith(f"Put back a good copy of {archive.destination.url}/{MANIFEST}")


def test_how_it_is_laid_out_and_how_long_it_took_are_no_edit(archive: Archive) -> None:
    edit(archive, lambda values: values["conversion"].update(seconds=99.0))
    assert state(archive) == ("good", "")


def test_a_week_that_was_written_before_there_were_seals_is_good_and_said_to_have_none(
    archive: Archive,
) -> None:
    remove(archive.destination, *seals(archive))
    edit(archive, EDITS["reason"])  # which nobody can tell
    report = verify(archive, [WEEK], True, share=1.0)
    assert report.is_fine
    assert report.recorded == [WEEK]
    assert f"no seal    {WEEK}: written before manifests were sealed" in "\n".join(report.lines())


def test_a_week_with_its_seal_is_not_said_to_have_none(archive: Archive) -> None:
    assert "no seal" not in "\n".join(verify(archive, [WEEK], False).lines())


def test_the_same_snapshots_make_the_same_seal(archive: Archive, tmp_path: Path) -> None:
    if not archive.destination.keeps_checksums:
        again = Archive(archive.settings, archive.source, open_root(str(tmp_path / "again")))
        convert(again)
        assert seals(again) == seals(archive)
    before = seals(archive)
    edit(archive, EDITS["reason"])
    convert(archive)
    assert seals(archive) == before


def test_a_refresh_seals_anew_and_an_earlier_manifest_does_not_pass(archive: Archive) -> None:
    earlier = archive.destination.read(MANIFEST)
    time = WEEK.start.replace(minute=7)
    put(archive.source, key_of(time), b'[{"vehicleID": 5}]')
    convert(archive)
    assert state(archive) == ("good", "")
    assert len(seals(archive)) == 2
    put(archive.destination, MANIFEST, earlier)
    assert state(archive)[0] == "damaged"


def test_a_crash_between_seal_and_manifest_makes_no_false_alarm(archive: Archive) -> None:
    """Of a week without a seal, at any moment of a refresh."""
    remove(archive.destination, *seals(archive))
    kept = {key: archive.destination.read(key) for key in (FILE, MANIFEST)}
    put(archive.source, key_of(WEEK.start.replace(minute=7)), b'[{"vehicleID": 5}]')
    convert(archive)
    for key, data in kept.items():
        put(archive.destination, key, data)
    archive.list_again()
    (found,) = verify(archive, [WEEK], False).checks
    assert (found.state, found.is_sealed) == ("stale", False)


def test_a_damaged_seal_says_nothing_of_others(archive: Archive) -> None:
    put(archive.destination, f"_seals/{WEEK}/0000.json", b"{")
    assert state(archive) == ("good", "")
    (key,) = [key for key in seals(archive) if "0000" not in key]
    remove(archive.destination, key)
    (found,) = verify(archive, [WEEK], False).checks
    assert (found.state, found.is_sealed) == ("good", False)


def test_what_was_proven_before_an_edit_is_not_pruned_after_it(archive: Archive) -> None:
    verify(archive, [WEEK], False, share=1.0)
    assert proof.read(archive, WEEK) is not None
    assert prune.look(archive, WEEK).may_go
    edit(archive, EDITS["reason"])
    assert "its manifest is not the one that was written" in prune.look(archive, WEEK).why_not


def test_the_digest_covers_all_but_how_the_conversion_went(archive: Archive) -> None:
    data = archive.destination.read(MANIFEST)
    values = json.loads(data)
    digest = seal.digest_of(data)
    assert seal.digest_of(json.dumps(dict(reversed(values.items())), indent=3).encode()) == digest
    for name in values:
        changed = seal.digest_of(json.dumps(values | {name: "other"}).encode())
        assert (changed == digest) == (name == "conversion")
    assert seal.key_of(WEEK, digest) in seals(archive)
