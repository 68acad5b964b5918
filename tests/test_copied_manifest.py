"""A manifest that somebody has copied over another week's: said, mended, and never mixed up."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ops.report import reading, states
from tasks import advice
from tasks.bustimes import archive as archives
from tasks.bustimes import manifest as manifests
from tasks.bustimes.archive import Archive
from tasks.bustimes.restore import restore
from tasks.bustimes.verify.findings import KEY as FINDINGS
from tasks.problem import Problem
from tasks.storage import open_root
from tasks.weeks import Week
from tests.archives import archive_in

FIRST, SECOND = WEEKS = Week(2021, 45), Week(2021, 46)
Run = Callable[..., Any]


@pytest.fixture
def place(tmp_path: Path, ops: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two converted weeks, the first with more snapshots."""
    source = tmp_path / "in"
    (source / "raw").mkdir(parents=True)
    for week, count in ((FIRST, 9), (SECOND, 4)):
        for number in range(count):
            time = week.start + timedelta(minutes=20 * number)
            name = f"raw/bustimes__{time:%Y-%m-%d__%H-%M-%S}.json"
            (source / name).write_text(json.dumps([{"vehicleID": number}]))
    monkeypatch.setenv("BUSTIMES_SOURCE", str(source))
    monkeypatch.setenv("BUSTIMES_DESTINATION", str(tmp_path / "out"))
    ran = ops("full", "--local-scheduler", "--weeks", f"{FIRST},{SECOND}")
    assert ran.returncode == 0, ran.stderr
    return tmp_path


def made(out: Path) -> dict[str, bytes]:
    """All that converting has made."""
    found = archive_in(out)
    found.pop(FINDINGS, None)
    return found


@pytest.mark.parametrize(("copied", "over"), [WEEKS, WEEKS[::-1]], ids=["larger", "smaller"])
def test_it_is_said_nowhere_believed_and_mended_as_is_said(
    place: Path, ops: Run, copied: Week, over: Week
) -> None:
    out, both = place / "out", ("--weeks", f"{FIRST},{SECOND}")
    due = made(out)
    (out / manifests.key_of(over)).write_bytes((out / manifests.key_of(copied)).read_bytes())
    why, file = f"its manifest is that of {copied}", out / manifests.file_of(over)

    verified = ops("verify", *both)
    assert verified.returncode == 1
    assert f"damaged    {over}: {why}. If the source still has the whole" in verified.stdout
    assert f"remove {file} and run {advice.make('full', WEEKS=over)}\n" in verified.stdout

    archive = Archive.open()
    shown = {one.week: one for one in states.states(reading.read(archive), archives.now())}
    assert (shown[over].state, shown[over].why) == ("damaged", why)
    assert shown[over].described is None
    assert shown[copied].state == "written"
    assert (found := shown[copied].described) is not None
    assert found.snapshots == {FIRST: 9, SECOND: 4}[copied]

    back = open_root(str(place / "back"))
    with pytest.raises(
        Problem, match=rf"_manifests/{over}\.json is the manifest of {copied}\. make"
    ):
        restore(archive, over, back)
    assert not (place / "back").exists()
    assert restore(archive, copied, back).snapshots == found.snapshots

    kept = made(out)
    refreshed = ops("full", "--local-scheduler", "--refresh", *both)
    assert refreshed.returncode == 0
    assert f"{over} is left as it is: {why}." in refreshed.stderr
    assert made(out) == kept  # nobody knows what is in the file: a person must say so

    file.unlink()
    mended = ops("full", "--local-scheduler", *both)
    assert mended.returncode == 0, mended.stderr
    assert made(out) == due
    assert ops("verify", *both).returncode == 0
