"""Two complete runs that start at once for the same destination: all weeks are there, once.

With a luigid that both share each week is converted once in all, and without one as well where they
share a spool. Where they share nothing, both may convert a week, and one of them publishes it.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ops import luigid
from tests.conftest import PROJECT, free_port
from tests.crashes import world
from tests.crashes.moments import Front
from tests.crashes.world import World
from tests.faults import Request
from tests.gate import Gate
from tests.processes_under_test import FULL, Place, Start, complete

pytestmark = pytest.mark.soak


@dataclass
class Ground:
    url: str
    raw: dict[str, bytes]
    due: dict[str, bytes]
    shared: dict[str, str]
    """What has runs share a luigid."""


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("two-runs")
    port = free_port()
    service = luigid.make_service(folder / "state", port, PROJECT / "luigi.cfg")
    with world.server(folder) as url:
        undisturbed = World(url, url, folder, "undisturbed")
        raw = world.raw_snapshots()
        undisturbed.fill(raw)
        assert undisturbed.start(world.FULL, folder / "said").wait() == 0
        shared = {"LOCAL_STATE": str(folder / "state"), "LOCAL_LUIGID_PORT": str(port)}
        service.start()
        yield Ground(url, raw, undisturbed.made(), shared)
        service.stop()


@pytest.mark.parametrize("has_one_spool", [True, False], ids=["one spool", "two spools"])
@pytest.mark.parametrize("has_luigid", [True, False], ids=["luigid", "no luigid"])
def test_two_complete_runs_at_once_make_each_week_once(
    has_luigid: bool, has_one_spool: bool, ground: Ground, tmp_path: Path
) -> None:
    with Front(ground.url) as front:
        place = World(ground.url, front.url, tmp_path, f"two-{has_luigid}-{has_one_spool}".lower())
        place.fill(ground.raw)
        command = ["-c", world.OPS, "full", "--weeks", world.LABELS, "--workers", "2"]
        environment = dict(ground.shared) if has_luigid else {}
        if not has_luigid:
            command.append("--local-scheduler")
        front.control.gather(2)
        runs = []
        for number in range(2):
            if not has_one_spool:
                environment["BUSTIMES_SPOOL"] = str(place.spool / str(number))
            runs.append(place.start(command, tmp_path / f"said-{number}", **environment))
        said = [f"{run.wait()}: {run.said()}" for run in runs]
        for run in runs:
            run.wait_until_nothing_is_left()
        assert [one[:2] for one in said] == ["0:", "0:"], "\n".join(said)
        assert "Traceback" not in "".join(said)
        place.check(ground.due)
        check_once(front.control.requests(), ground, is_shared=has_luigid or has_one_spool)


def test_of_two_machines_that_write_a_manifest_at_once_none_fails(
    place: Place, start: Start, gate: Gate, tmp_path: Path
) -> None:
    """Their manifests differ: each says how long its own conversion took."""
    held = gate.hold("PUT", r"/_manifests/")
    first = start(place, *FULL)
    held.wait()
    assert start(place.with_spool(tmp_path / "other-spool"), *FULL).wait() == 0
    held.release()
    assert first.wait() == 0, first.said()
    complete(place, start)


def check_once(requests: list[Request], ground: Ground, is_shared: bool) -> None:
    """Nothing was done twice; where the runs share nothing, what must be is."""
    fetched = Counter(one.key for one in requests if one.operation == "GetObject")
    snapshots = {key: fetched[key] for key in ground.raw}
    published = Counter(
        one.key
        for one in requests
        if one.operation == "CompleteMultipartUpload" and one.key.endswith(".jsonl.gz")
    )
    assert set(published) == {f"v2/{week}.jsonl.gz" for week in world.WEEKS}
    most = 1 if is_shared else 2
    assert set(snapshots.values()) <= set(range(1, most + 1))
    assert max(published.values()) <= most
