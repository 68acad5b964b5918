r"""A week whose snapshots hold ``'Caf\xc3\xa9'``: read as its writer meant it, or set aside."""

import dataclasses
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tasks.bustimes import manifest as manifests
from tasks.bustimes.archive import Archive, convert_week
from tasks.bustimes.listing import list_week
from tasks.bustimes.manifest import Manifest
from tasks.bustimes.verify import WeekCheck, verify
from tasks.bustimes.verify.states import convert_again
from tasks.bustimes.weekfile import finish
from tasks.settings import load
from tasks.storage import open_root
from tasks.weeks import Week
from tests.conftest import Run
from tests.explained import FULL, assert_done
from tests.verified_archive import FILE, WEEK, change_manifest, write_hours

OF_PYTHON_2 = rb"[{'s': 'Caf\xc3\xa9', u't': u'Caf\xe9'}]"
OF_PYTHON_3 = rb"[{'s': 'Caf\xc3\xa9', 't': '\u2019'}]"
OF_EITHER = rb"[{'s': 'Caf\xc3\xa9'}]"
PLAIN = rb"[{'s': 'Caf'}]"


def archive_of(folder: Path, *bodies: bytes, python_escapes: str = "") -> Archive:
    """An archive of one hour of these snapshots, nothing of it converted yet."""
    raw = folder / "in/raw"
    raw.mkdir(parents=True, exist_ok=True)
    for minute, body in enumerate(bodies):
        (raw / f"bustimes__2021-11-08__00-{minute:02}-05.json").write_bytes(body)
    (folder / "out").mkdir(exist_ok=True)
    settings = dataclasses.replace(
        load(), spool=folder / "spool", python_escapes=python_escapes, spot_checks=0
    )
    return Archive(settings, open_root(str(folder / "in")), open_root(str(folder / "out")))


def with_setting(archive: Archive, python_escapes: str) -> Archive:
    settings = dataclasses.replace(archive.settings, python_escapes=python_escapes)
    return Archive(settings, archive.source, archive.destination)


def convert(archive: Archive, replaces: str = "") -> Manifest:
    made = convert_week(archive, WEEK, replaces, 1, lambda _listing: lambda _hour: None, print)
    archive.list_again()
    assert made.manifest is not None
    return made.manifest


def words(archive: Archive) -> list[str]:
    lines = gzip.decompress(archive.destination.read(f"{WEEK}.jsonl.gz")).splitlines()
    return [json.loads(line)["s"] for line in lines]


def check(archive: Archive) -> WeekCheck:
    archive.list_again()
    return verify(archive, [WEEK], False, share=1.0).checks[0]


@pytest.mark.parametrize(
    ("bodies", "setting", "expected", "kept"),
    [
        ([OF_PYTHON_2, PLAIN], "", ["Café", "Caf"], ""),
        ([OF_PYTHON_2, OF_PYTHON_3], "utf-8", ["Café", "CafÃ©"], ""),
        ([OF_PYTHON_2, OF_PYTHON_3], "code-points", ["Café", "CafÃ©"], ""),
        ([OF_PYTHON_2, OF_EITHER, OF_PYTHON_3], "utf-8", ["Café", "Café", "CafÃ©"], "utf-8"),
        ([OF_PYTHON_2, OF_EITHER], "code-points", ["Café", "CafÃ©"], "code-points"),
        ([PLAIN, OF_EITHER], "", ["Caf"], "unset"),
    ],
)
def test_a_week_is_read_as_was_meant_and_proven_by_the_second_reader(
    tmp_path: Path, bodies: list[bytes], setting: str, expected: list[str], kept: str
) -> None:
    archive = archive_of(tmp_path, *bodies, python_escapes=setting)
    manifest = convert(archive)
    assert words(archive) == expected
    assert manifest.python_escapes == kept
    assert len(manifest.refused) == len(bodies) - len(expected)
    assert check(archive).state == "good"
    # By what its manifest says, whatever the setting is by then.
    assert check(with_setting(archive, "")).state == "good"


def test_a_week_that_an_older_version_read_by_python_3_s_rules_is_not_proven(
    tmp_path: Path,
) -> None:
    archive = archive_of(tmp_path, PLAIN, OF_PYTHON_2)
    convert(archive)
    text = gzip.decompress(archive.destination.read(FILE))
    wrong = text.replace(rb'"s":"Caf\u00e9"', rb'"s":"Caf\u00c3\u00a9"')
    write_hours(archive, [wrong])
    assert words(archive) == ["Caf", "CafÃ©"]
    found = check(archive)
    assert found.state == "damaged"
    assert "1 record of 1 cannot be found in the file" in found.why


def test_a_week_that_an_older_version_read_though_nobody_can_tell_is_not_proven(
    tmp_path: Path,
) -> None:
    archive = archive_of(tmp_path, PLAIN, OF_EITHER, python_escapes="code-points")
    convert(archive)
    shutil.rmtree(tmp_path / "out/_seals")
    change_manifest(archive, python_escapes="")
    found = check(archive)
    assert found.state == "damaged"
    assert "was not refused, although it is no list of records" in found.why


def test_what_is_refused_for_want_of_the_setting_is_read_once_it_is_set(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, PLAIN, OF_EITHER)
    manifest = convert(archive)
    assert "set python_escapes" in manifest.refused[0].reason
    for setting, word in (("utf-8", "Café"), ("code-points", "CafÃ©")):
        archive = with_setting(archive, setting)
        found = check(archive)
        assert (found.state, found.remedy) == ("stale", convert_again(WEEK))
        assert f"it was converted with python_escapes {manifest.python_escapes}, not" in found.why
        manifest = convert(archive, replaces=archive.identity(WEEK))
        assert words(archive) == ["Caf", word]
        assert check(archive).state == "good"


def test_the_setting_makes_no_week_stale_that_never_needed_it(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, PLAIN, OF_PYTHON_2, OF_PYTHON_3)
    convert(archive)
    for setting in ("utf-8", "code-points"):
        assert check(with_setting(archive, setting)).state == "good"


@pytest.mark.parametrize(("body", "is_kept"), [(OF_EITHER, False), (OF_PYTHON_2, True)])
def test_what_waits_in_the_spool_is_converted_again_if_the_setting_would_change_it(
    tmp_path: Path, body: bytes, is_kept: bool
) -> None:
    archive = archive_of(tmp_path, PLAIN, body)
    listing = list_week(archive.source, WEEK)
    spooled = archive.spool.week(WEEK)
    finish(listing, True, archive.source, spooled, archive.settings, 1, lambda _hour: None)
    assert spooled.is_of(listing, True, archive.settings)
    other = with_setting(archive, "utf-8")
    assert spooled.is_of(listing, True, other.settings) is is_kept
    convert(other)
    assert words(other) == ["Caf", "Café"]


def test_a_manifest_with_a_setting_that_does_not_exist_is_damaged(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, PLAIN)
    convert(archive)
    values: dict[str, Any] = json.loads(archive.destination.read(manifests.key_of(WEEK)))
    assert values["python_escapes"] == ""
    values["python_escapes"] = "latin-1"
    (tmp_path / "out" / manifests.key_of(WEEK)).write_text(json.dumps(values))
    assert check(archive).why == "its manifest has python_escapes 'latin-1'"


def test_a_manifest_of_an_older_version_says_nothing_of_it(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, OF_PYTHON_2)
    convert(archive)
    values: dict[str, Any] = json.loads(archive.destination.read(manifests.key_of(WEEK)))
    del values["python_escapes"]
    shutil.rmtree(tmp_path / "out/_seals")
    (tmp_path / "out" / manifests.key_of(WEEK)).write_text(json.dumps(values))
    assert check(with_setting(archive, "utf-8")).state == "good"


@pytest.mark.usefixtures("destination")
def test_the_commands_say_what_to_set_and_take_it(
    ops: Run, source: Path, destination: Path
) -> None:
    name = "raw/bustimes__2021-11-15__05-00-00.json"
    (source / name).write_bytes(OF_EITHER)
    week = Week(2021, 46)
    ran = ops(*FULL, "--weeks", week)
    assert_done(ran)
    reason = r"its literal 'Caf\xc3\xa9' holds bytes if Python 2 wrote it and characters if"
    assert f"{name} is set aside: {reason}" in ran.stderr
    assert "set python_escapes" in ran.stderr
    again = ops(*FULL, "--weeks", week, "--refresh", BUSTIMES_PYTHON_ESCAPES="utf-8")
    assert_done(again)
    with gzip.open(destination / f"{week}.jsonl.gz", "rt", encoding="utf-8") as file:
        assert "Café" in {json.loads(line).get("s") for line in file}
    proven = ops("verify", "--weeks", week, "--share", "1.0")
    assert_done(proven)
    assert "Complete and correct." in proven.stdout
