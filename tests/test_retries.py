"""Every S3 call is tried again when it fails for a moment: nothing of that shows in the archive."""

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.bustimes import manifest as manifests
from tasks.bustimes.archive import Archive, convert_week
from tasks.bustimes.listing import weeks_with_snapshots
from tasks.bustimes.snapshot import key_of
from tasks.bustimes.verify import verify
from tasks.settings import load
from tasks.storage import open_root
from tasks.storage.checksum import PART_BYTES
from tasks.weeks import Week
from tests.conftest import forget
from tests.gate import CUT, Gate

pytestmark = pytest.mark.soak

WEEK = Week(2021, 45)

CALLS = {
    "first key": ("GET", r"start-after="),
    "listing": ("GET", r"list-type=2.*prefix=raw%2Fbustimes__2021-11-09"),
    "snapshot": ("GET", r"/raw/bustimes__"),
    "large snapshot": ("GET", r"/raw/bustimes__2021-11-08__02"),
    "look": ("HEAD", r"W45"),
    "refused object": ("PUT", r"/_refused/"),
    "manifest": ("PUT", r"/_manifests/"),
    "upload": ("POST", r"\?uploads"),
    "part": ("PUT", r"partNumber=2"),
    "completion": ("POST", r"uploadId="),
}
BODIES = {
    "listing": CALLS["listing"],
    "snapshot": CALLS["snapshot"],
    "large snapshot": CALLS["large snapshot"],
    "manifest": ("GET", r"/_manifests/"),
    "week file": ("GET", r"W45\.jsonl\.gz"),
}


@pytest.fixture
def gate(
    s3_server: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Gate, Archive]]:
    """A gate, and an archive behind it of a week that goes up in parts, a snapshot refused."""
    noise = random.Random(0).randbytes(PART_BYTES + 1_000_000).hex()
    record = '[{"vehicleID": 1, "text": "%s"}]'
    for hour in range(2):
        half = noise[hour::2]
        open_root(bucket).write(key_of(WEEK.start.replace(hour=hour)), (record % half).encode())
    open_root(bucket).write(key_of(WEEK.start.replace(hour=2)), b"x" * (17 << 20))
    with Gate(s3_server) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", gate.url)
        forget()
        settings = dataclasses.replace(load(), max_snapshot_mb=16)
        yield gate, Archive(settings, open_root(bucket), open_root(f"{bucket}/v2"))
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server)


def everything(archive: Archive) -> bytes:
    """Find the week, convert it and verify it; returns the week file."""
    assert weeks_with_snapshots(archive.source, [WEEK]) == {WEEK}
    convert_week(archive, WEEK, "", 1, lambda _listing: lambda _hour: None, print)
    report = verify(archive, [WEEK], deep=True, seed=1)
    assert report.is_fine, list(report.lines())
    [refused] = report.checks[0].manifest.refused if report.checks[0].manifest else []
    assert "max_snapshot_mb is 16" in refused.reason
    return archive.destination.read(manifests.file_of(WEEK))


def test_each_call_is_tried_again_when_s3_asks_to_slow_down(
    gate: tuple[Gate, Archive], tmp_path: Path
) -> None:
    door, archive = gate
    undisturbed = everything(
        dataclasses.replace(archive, destination=open_root(str(tmp_path / "undisturbed")))
    )
    rules = {name: door.refuse(*call, 503, times=1) for name, call in CALLS.items()}
    assert everything(archive) == undisturbed
    assert [name for name, rule in rules.items() if not rule.is_over] == []


def test_an_answer_that_breaks_off_is_read_again(
    gate: tuple[Gate, Archive], tmp_path: Path
) -> None:
    door, archive = gate
    undisturbed = everything(
        dataclasses.replace(archive, destination=open_root(str(tmp_path / "undisturbed")))
    )
    rules = {name: door.refuse(*call, CUT, times=2) for name, call in BODIES.items()}
    assert everything(archive) == undisturbed
    assert [name for name, rule in rules.items() if not rule.is_over] == []
