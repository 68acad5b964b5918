"""What was refused and could be read today: verify says so, refresh takes it in, and only once."""

import json
from pathlib import Path

import pytest

from tasks.bustimes.manifest import Manifest, from_bytes
from tests.conftest import Run
from tests.explained import assert_done, text_of

pytestmark = pytest.mark.soak

WEEK = "2021-W45"
LARGE = "raw/bustimes__2021-11-09__00-00-07.json"
UNCLEAR = "raw/bustimes__2021-11-09__00-01-07.json"


@pytest.fixture
def out(raw_week: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two hours of a week, with nothing else that is refused."""
    for path in (raw_week / "raw").iterdir():
        if not path.name.startswith("bustimes__2021-11-12__0"):
            path.unlink()
    monkeypatch.setenv("BUSTIMES_SOURCE", str(raw_week))
    monkeypatch.setenv("BUSTIMES_DESTINATION", str(tmp_path / "out"))
    return tmp_path / "out"


def manifest(out: Path) -> Manifest:
    return from_bytes((out / f"_manifests/{WEEK}.json").read_bytes(), "")


def full(ops: Run, *more: str, **environment: str) -> str:
    ran = ops("full", "--local-scheduler", "--weeks", WEEK, *more, **environment)
    assert_done(ran)
    return text_of(ran)


def test_what_was_too_long_is_taken_in_by_a_refresh_with_room_for_it(
    ops: Run, raw_week: Path, out: Path
) -> None:
    record = {"vehicleID": 1, "signMessage": "x" * 2_000_000}
    (raw_week / LARGE).write_text(json.dumps([record]))
    assert f"{LARGE} is set aside: it is 1.9 MB long" in full(ops, BUSTIMES_MAX_SNAPSHOT_MB="1")
    records = manifest(out).records
    small = ops("verify", "--weeks", WEEK, BUSTIMES_MAX_SNAPSHOT_MB="1")
    assert_done(small)
    assert "could be read now" not in small.stdout
    assert "0 weeks to convert" in full(ops, "--refresh", BUSTIMES_MAX_SNAPSHOT_MB="1")
    checked = ops("verify", "--weeks", WEEK)
    assert_done(checked)
    assert (
        f"1 refused snapshot could be read now, such as {LARGE}; to take them in, run make full "
        in checked.stdout
    )
    assert f" WEEKS={WEEK} REFRESH=1\n" in checked.stdout
    assert "0 weeks to convert" in full(ops)  # nobody has asked for it
    assert "1 week to convert" in full(ops, "--refresh")
    assert (manifest(out).refused, manifest(out).records) == ([], records + 1)
    assert "0 weeks to convert" in full(ops, "--refresh")


def test_what_is_unreadable_for_another_reason_as_well_is_tried_once(
    ops: Run, raw_week: Path, out: Path
) -> None:
    (raw_week / LARGE).write_bytes(b"[" + b" " * 2_000_000)
    full(ops, BUSTIMES_MAX_SNAPSHOT_MB="1")
    assert "1 week to convert" in full(ops, "--refresh")
    (refused,) = manifest(out).refused
    assert "max_snapshot_mb" not in refused.reason
    assert "0 weeks to convert" in full(ops, "--refresh")


def test_what_another_setting_reads_is_taken_in_too(ops: Run, raw_week: Path, out: Path) -> None:
    (raw_week / UNCLEAR).write_bytes(rb"[{'vehicleID': 1, 's': 'Caf\xc3\xa9'}]")
    assert f"{UNCLEAR} is set aside" in full(ops)
    assert "0 weeks to convert" in full(ops, "--refresh")
    assert "1 week to convert" in full(ops, "--refresh", BUSTIMES_PYTHON_ESCAPES="utf-8")
    assert manifest(out).refused == []


def test_what_an_older_program_could_not_read_is_named_as_well(
    ops: Run, raw_week: Path, out: Path
) -> None:
    """Here: the kept bytes of one that is refused are fine, as if it had been refused in error."""
    (raw_week / UNCLEAR).write_bytes(b"<html>")
    full(ops)
    assert "could be read now" not in ops("verify", "--weeks", WEEK).stdout
    (out / f"_refused/{WEEK}/{UNCLEAR}").write_bytes(b"[{}]  ")
    assert f"such as {UNCLEAR}; to take them in, run" in ops("verify", "--weeks", WEEK).stdout
