"""Two `make prune` at once with a `make verify` beside them: in the end as after one."""

import json
from pathlib import Path

import pytest

from tasks.bustimes.archive import Archive
from tasks.bustimes.verify import verify
from tasks.bustimes.verify.findings import KEY as FINDINGS
from tests.gate import Gate
from tests.processes_under_test import WEEK, Fill, Start
from tests.proven_archive import Proven, confirmation_of, proven_week

pytestmark = pytest.mark.soak

RECORD = f"_pruned/{WEEK}.json"


@pytest.fixture
def proven(request: pytest.FixtureRequest, fill: Fill, tmp_path: Path) -> Proven:
    """A week of so many small snapshots, converted and proven."""
    return proven_week(fill, tmp_path / "raw", request.param)


def etags(archive: Archive) -> dict[str, str]:
    """Of all that is at the destination, but for what verify says of itself."""
    found = {one.key: one.etag for one in archive.destination.objects("")}
    del found[FINDINGS]
    return found


MOMENTS = {
    "before the record": (20, ("PUT", r"/_pruned/", 0), 1, 20),
    "between two batches": (260, ("POST", r"\?delete", 1), 0, 10),
    "before it is said to be done": (20, ("PUT", r"/_pruned/", 2), 0, 0),
}
"""How many snapshots (250 are deleted by one request), what is held, how the first one ends, and
how many the second one deletes. The record is the first that is written on a condition, so it is
written twice: whether the server holds it to that is found out so."""


@pytest.mark.parametrize(
    ("proven", "held", "code", "of_second"), MOMENTS.values(), ids=MOMENTS, indirect=["proven"]
)
def test_two_and_a_verify_leave_what_one_leaves(
    proven: Proven,
    start: Start,
    gate: Gate,
    tmp_path: Path,
    held: tuple[str, str, int],
    code: int,
    of_second: int,
) -> None:
    place, archive = proven
    kept = etags(archive)
    command = ("prune", "--weeks", WEEK, "--confirm", confirmation_of(archive))
    allowed = {"BUSTIMES_ALLOW_PRUNE": "true"}
    hold = gate.hold(*held)
    first = start(place, *command, **allowed)
    hold.wait()
    elsewhere = place.with_spool(tmp_path / "elsewhere")  # else it would wait for its turn
    second = start(elsewhere, *command, **allowed)
    beside = start(place, "verify", "--weeks", WEEK)
    codes = {"second": second.wait(), "verify": beside.wait()}
    hold.release()
    codes["first"] = first.wait()
    said = "\n".join(one.said() for one in (first, second, beside))
    assert "Traceback" not in said
    assert codes == {"second": 0, "verify": 0, "first": code}, said
    if code:
        assert "was written by somebody else meanwhile" in first.said()
    if of_second:
        assert f"Deleted {of_second} raw snapshots, " in second.said()
    else:
        assert f"Of {WEEK} nothing was left to delete" in second.said()
    assert list(archive.source.objects("raw/")) == []
    there = etags(archive)
    assert there.pop(RECORD)
    assert there == kept
    assert json.loads(archive.destination.read(RECORD))["ended"]
    archive.list_again()
    [found] = verify(archive, [WEEK], True).checks
    assert (found.state, found.details) == ("pruned", ())


@pytest.mark.parametrize("proven", [3], indirect=True)
def test_what_is_deleted_while_verify_is_about_to_read_it_is_no_fault(
    proven: Proven, start: Start, gate: Gate
) -> None:
    place, archive = proven
    bucket = place.source.removeprefix("s3://")
    hold = gate.hold("GET", rf"/{bucket}/raw/[^?]+$")
    verifying = start(place, "verify", "--weeks", WEEK)
    hold.wait()
    pruning = start(
        place,
        "prune",
        "--weeks",
        WEEK,
        "--confirm",
        confirmation_of(archive),
        BUSTIMES_ALLOW_PRUNE="true",
    )
    assert pruning.wait() == 0, pruning.said()
    hold.release()
    assert verifying.wait() == 0, verifying.said()
    assert "pruned" in verifying.said()
    assert "Complete and correct." in verifying.said()
