"""`make prune` as people run it, killed in the middle, and what the other commands say then."""

import json
import os
from pathlib import Path

import pytest

from tasks import advice
from tasks.bustimes.archive import Archive
from tasks.bustimes.verify import verify
from tests.gate import Gate
from tests.processes_under_test import WEEK, Fill, Start
from tests.proven_archive import Proven, confirmation_in, proven_week

pytestmark = pytest.mark.soak

SNAPSHOTS = 260
"""More than are deleted by one request."""


@pytest.fixture
def proven(fill: Fill, tmp_path: Path) -> Proven:
    """A week of many small snapshots, converted and proven."""
    return proven_week(fill, tmp_path / "raw", SNAPSHOTS)


def raw(archive: Archive) -> int:
    return sum(1 for _ in archive.source.objects("raw/"))


def record(archive: Archive) -> dict[str, object]:
    found: dict[str, object] = json.loads(archive.destination.read(f"_pruned/{WEEK}.json"))
    return found


def test_it_says_what_it_would_do_is_killed_in_the_middle_and_is_done_by_the_next(
    proven: Proven, start: Start, gate: Gate
) -> None:
    place, archive = proven
    bucket = place.source.removeprefix("s3://")

    def said(*arguments: object, code: int = 0, **environment: str) -> str:
        run = start(place, *arguments, **environment)
        assert run.wait() == code, run.said()
        assert "Traceback" not in run.said()
        return run.said()

    looked = said("prune", "--weeks", WEEK)
    assert f"may go     {WEEK} (1 week): 260 raw snapshots, " in looked
    confirm = confirmation_in(looked)
    given = {"WEEKS": WEEK, "ALLOW_PRUNE": "true", "CONFIRM": confirm}
    command = f"  {advice.make('prune', os.environ | place.environment, **given)}\n"
    assert looked.endswith(command)
    assert confirm.startswith(f"{bucket}:")
    assert "Deleting is switched off" in said("prune", "--confirm", confirm, code=2)
    allowed = {"BUSTIMES_ALLOW_PRUNE": "true"}
    for other, why in (
        (bucket, "names the bucket, and not what is deleted from it"),
        ("bustimes-data:" + confirm[-8:], "is not what prune has printed"),
        (f"{bucket}:{'0' * 8}", "stands for other weeks or snapshots than these"),
    ):
        assert why in said("prune", "--weeks", WEEK, "--confirm", other, code=2, **allowed)
    assert raw(archive) == SNAPSHOTS

    hold = gate.hold("POST", r"\?delete", after=1)
    killed = start(place, "prune", "--weeks", WEEK, "--confirm", confirm, **allowed)
    hold.wait()
    killed.kill()
    hold.lose()
    assert raw(archive) == 10
    began = record(archive)
    assert began["ended"] is None
    archive.list_again()
    [found] = verify(archive, [WEEK], True).checks
    assert found.state == "pruned"
    assert "10 of 260 raw snapshots are left; make prune " in found.details[0]
    left = said("prune", "--weeks", WEEK)
    assert f"may go     {WEEK} (1 week): 10 raw snapshots, " in left
    assert confirmation_in(left) != confirm  # another set; the first one goes on all the same

    done = said("prune", "--weeks", WEEK, "--confirm", confirm, **allowed)
    assert "Deleted 10 raw snapshots, " in done
    assert raw(archive) == 0
    assert record(archive) == began | {"ended": record(archive)["ended"]}
    assert record(archive)["ended"]
    again = said("prune", "--weeks", WEEK, "--confirm", confirm, **allowed)
    assert "Nothing is left to delete." in again

    kept = place.week_file()
    chosen = ("--weeks", WEEK)
    for command in ("full", "refresh"):
        ran = said(command, "--local-scheduler", *chosen)
        assert "0 weeks to convert, 1 week done already." in ran
    assert "to do        nothing" in said("plan", *chosen)
    assert "1 of 1 done (100%)" in said("status", *chosen)
    assert f"pruned     {WEEK}: the week files stand for" in said("verify", *chosen)
    assert place.week_file() == kept
