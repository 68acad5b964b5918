"""Whole runs in storms: S3 fails one request in a hundred, in twenty, in five, in every known way.

``make soak STORMS=300 PYTEST=tests/test_storms.py`` makes so many runs of each kind in place of a
few. Each storm has a seed, which is in its test's name, and the same seed fails the same requests
again. A run in one ends with exactly what a run without any fault leaves, or it says a clear
sentence and leaves nothing wrong; then the next run, in calm, completes it. Timeouts are short by
settings.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.bustimes import graph
from tasks.bustimes.graph import under_way
from tasks.storage import open_root
from tests.conftest import forget
from tests.crashes import world
from tests.crashes.world import OPS, Run, World
from tests.faults import Fault, FaultyS3

pytestmark = pytest.mark.soak

STORMS = int(os.environ.get("STORMS", "6"))
SHARES = (0.01, 0.05, 0.2)
FULL = ["-c", OPS, "full", "--local-scheduler", "--workers", "2", "--weeks", world.LABELS]
VERIFY = ["-c", OPS, "verify", "--deep", "--share", "1.0", "--weeks", world.LABELS]

ENDING = (Fault.REPLACED,)
"""An object that is another one than was listed ends its week, as it should."""
UNSEEN_IN_PARTS = (Fault.FLIPPED_BYTE,)
"""Found by S3's checksums of whole objects; in a part of one, by what the part is a part of."""
OPERATIONS = {
    "GetObject": "GET",
    "HeadBucket": "HEAD",
    "HeadObject": "HEAD",
    "ListObjectsV2": "LIST",
    "PutObject": "PUT",
}
PASSING = [fault for fault in Fault if fault not in (*ENDING, *UNSEEN_IN_PARTS)]

WITHOUT_EXPIRY = [fault for fault in PASSING if fault is not Fault.EXPIRED_TOKEN]
"""For those whose credentials are the same for good."""

IMPATIENT = {
    "BUSTIMES_CONNECT_SECONDS": "1",
    "BUSTIMES_STALL_SECONDS": "0.5",
    "BUSTIMES_REQUEST_SECONDS": "60",
    "BUSTIMES_PROCESSES": "1",
}
SENTENCES = re.compile(
    r"cannot be (listed|looked at|read|written)|was (listed but is gone|replaced)|is no manifest|"
    r"is not a manifest|did not arrive as it was sent|was written by somebody else|is damaged|"
    r"does not hold the records|is no inventory|is not the inventory"
)


@pytest.fixture(scope="module")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with world.server(tmp_path_factory.mktemp("storms")) as url:
        yield url


@pytest.fixture(scope="module")
def raw() -> dict[str, bytes]:
    return world.raw_snapshots()


@pytest.fixture(scope="module")
def calm(
    server_url: str, raw: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """What a run without any fault leaves."""
    place = World(server_url, server_url, tmp_path_factory.mktemp("calm"), "calm")
    place.fill(raw)
    run = place.start(FULL, place.folder / "said", **IMPATIENT)
    assert run.wait() == 0, run.said()
    return place.made()


@pytest.fixture
def s3(server_url: str) -> Iterator[FaultyS3]:
    with FaultyS3(server_url) as s3:
        yield s3


@pytest.fixture
def place(server_url: str, s3: FaultyS3, raw: dict[str, bytes], tmp_path: Path) -> World:
    """A bucket that only the proxy leads to, with credentials that a program has new ones of."""
    name = re.sub("[^a-z0-9]+", "-", tmp_path.name.lower()).strip("-")
    place = World(server_url, s3.url, tmp_path, name)
    place.fill(raw)
    program = tmp_path / "credentials"
    program.write_text(
        "#!/bin/sh\n"
        'echo "{\\"Version\\": 1, \\"AccessKeyId\\": \\"test\\", \\"SecretAccessKey\\": \\"test\\",'
        ' \\"SessionToken\\": \\"token-$$\\"}"\n'
    )
    program.chmod(0o755)
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {program}\n")
    place.environment |= {"AWS_CONFIG_FILE": str(tmp_path / "config"), **IMPATIENT}
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del place.environment[name]
    return place


def end(run: Run, s3: FaultyS3) -> bool:
    """Wait for a run in a storm, and end that; whether the run is complete, and not only told."""
    code = run.wait()
    told = f"{dict(s3.control.counts())}\n{run.said()}"
    s3.control.calm()
    assert "Traceback" not in run.said(), told
    if code:
        assert code in (1, 2), told
        assert SENTENCES.search(run.said()), told
    run.wait_until_nothing_is_left()
    return code == 0


def seeds(number: int) -> list[tuple[int, float]]:
    return [(seed, SHARES[seed % len(SHARES)]) for seed in range(number)]


@pytest.mark.parametrize(("seed", "share"), seeds(STORMS))
def test_what_passes_costs_a_run_nothing_but_time(
    place: World, s3: FaultyS3, calm: dict[str, bytes], seed: int, share: float
) -> None:
    s3.control.storm(seed, share, PASSING, seconds=0.1)
    run = place.start(FULL, place.folder / "said")
    is_complete = end(run, s3)
    assert is_complete, run.said()
    place.check(calm)
    assert share < 0.05 or s3.control.seen()


@pytest.mark.parametrize(("seed", "share"), seeds(STORMS))
def test_a_storm_of_all_that_can_go_wrong_leaves_nothing_wrong(
    place: World, s3: FaultyS3, calm: dict[str, bytes], seed: int, share: float
) -> None:
    s3.control.storm(1000 + seed, share, seconds=0.1)
    run = place.start(FULL, place.folder / "said")
    if not end(run, s3):
        weeks = [name for name in calm if name.endswith(".jsonl.gz")]
        made = place.made()
        assert all(made[name] == calm[name] for name in weeks if name in made)
        again = place.start(FULL, place.folder / "said-again")
        assert again.wait() == 0, again.said()
    place.check(calm)


@pytest.fixture(scope="module")
def archive(
    server_url: str, raw: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> World:
    """A bucket with the raw snapshots and the archive of them, for those who change neither."""
    archive = World(server_url, server_url, tmp_path_factory.mktemp("archive"), "archive")
    archive.fill(raw)
    archive.environment |= IMPATIENT
    run = archive.start(FULL, archive.folder / "said")
    assert run.wait() == 0, run.said()
    return archive


def said_in_storm_then_calm(
    archive: World, s3: FaultyS3, command: list[str], seed: int, faults: list[Fault]
) -> str:
    """Run a command in a storm of 20 % and, where that ends it, again in calm; its last words."""
    s3.control.storm(seed, 0.2, faults, seconds=0.1)
    run = archive.start(command, archive.folder / "said", AWS_ENDPOINT_URL_S3=s3.url)
    code = run.wait()
    told = f"{dict(s3.control.counts())}\n{run.said()}"
    assert s3.control.seen(), told
    assert "Traceback" not in run.said(), told
    assert code == 0 or faults != WITHOUT_EXPIRY, told
    s3.control.calm()
    if code:
        run = archive.start(command, archive.folder / "said", AWS_ENDPOINT_URL_S3=s3.url)
        assert run.wait() == 0, run.said()
    return run.said()


@pytest.mark.parametrize("seed", range(max(2, STORMS // 3)))
@pytest.mark.parametrize("faults", [WITHOUT_EXPIRY, list(Fault)], ids=["passing", "all"])
def test_verify_calls_nothing_damaged_for_good_that_is_not(
    archive: World, s3: FaultyS3, seed: int, faults: list[Fault]
) -> None:
    said = said_in_storm_then_calm(archive, s3, VERIFY, seed, faults)
    assert said.rstrip().endswith("Complete and correct."), said


@pytest.mark.parametrize("faults", [WITHOUT_EXPIRY, list(Fault)], ids=["passing", "all"])
def test_what_is_restored_in_a_storm_is_what_was_there(
    archive: World, s3: FaultyS3, faults: list[Fault]
) -> None:
    week = world.WEEKS[1]
    back = f"back-{len(faults)}"
    to = f"{archive.environment['BUSTIMES_SOURCE']}/{back}"
    command = ["-c", OPS, "restore", "--week", str(week), "--to", to]
    said_in_storm_then_calm(archive, s3, command, 7, faults)
    calmly = archive.start([*command[:-1], f"{to}-calmly"], archive.folder / "said")
    assert calmly.wait() == 0, calmly.said()
    made = archive.made()
    restored = {key.partition("/")[2]: body for key, body in made.items() if key.startswith(back)}
    assert restored
    for name in (f"{back}/", f"{back}-calmly/"):
        there = {key.removeprefix(name): made[key] for key in made if key.startswith(name)}
        assert there == restored


def test_an_s3_that_is_down_is_given_up_with_what_it_said_last(
    place: World, s3: FaultyS3, calm: dict[str, bytes]
) -> None:
    """After a while of it, that is; what a run did before is not done again."""
    s3.control.fail(Fault.SLOW_DOWN, times=None, operation="GetObject", after=20)
    run = place.start(FULL, place.folder / "said", BUSTIMES_REQUEST_SECONDS="4")
    assert run.wait() == 1
    why = (
        r"s3://\S+/raw/bustimes__\S+ cannot be read: S3 asks to slow down.* \(after \d+ tries in "
        r"\d\.\d s; the last answer was 503 SlowDown\)"
    )
    assert re.search(why, run.said()), run.said()
    s3.control.calm()
    again = place.start(FULL, place.folder / "said")
    assert again.wait() == 0, again.said()
    place.check(calm)


def test_a_budget_that_is_used_up_ends_the_run(place: World, s3: FaultyS3) -> None:
    s3.control.fail(Fault.INTERNAL_ERROR, times=None, operation="GetObject")
    run = place.start(FULL, place.folder / "said", BUSTIMES_RETRY_BUDGET="8")
    assert run.wait() == 1
    assert "and the retries of this run (retry_budget) are used up. Run it again" in run.said()
    assert "Traceback" not in run.said()
    tried_again = sum(one.key.startswith("raw/") for one in s3.control.requests())
    assert tried_again < 8 * len(world.WEEKS) + 200  # the weeks, and what each asks for at once


def test_every_request_is_counted_and_told_in_the_end(place: World, s3: FaultyS3) -> None:
    s3.control.storm(3, 0.1, [Fault.SLOW_DOWN])
    run = place.start(FULL, place.folder / "said")
    assert run.wait() == 0, run.said()
    came = Counter(OPERATIONS.get(one.operation, "multipart") for one in s3.control.requests())
    failed = Counter(
        OPERATIONS.get(one.operation, "multipart") for one in s3.control.requests() if one.fault
    )
    told = {}
    for line in run.said().splitlines():
        if found := re.match(r"  (\w+) +([\d,]+)  .* each(?:  (\d+) tried again)?", line):
            told[found[1]] = int(found[2]), int(found[3] or 0)
    assert {name: sum(one) for name, one in told.items()} == dict(came)
    assert {name: again for name, (_, again) in told.items() if again} == dict(failed)
    answered, again = came.total() - failed.total(), failed.total()
    assert f"S3: {answered} requests, {again} tried again (503 SlowDown " in run.said()


def test_a_manifest_tells_what_its_week_asked_for(
    place: World, s3: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    s3.control.storm(5, 0.1, [Fault.SLOW_DOWN])
    run = place.start([*FULL[:-1], str(world.WEEKS[1])], place.folder / "said")
    assert run.wait() == 0, run.said()
    s3.control.calm()
    key = f"_manifests/{world.WEEKS[1]}.json"
    manifest = json.loads(open_root(place.environment["BUSTIMES_DESTINATION"]).read(key))
    requests = manifest["conversion"]["requests"]
    raw = [
        one
        for one in s3.control.requests()
        if one.operation == "GetObject" and one.key.startswith("raw/")
    ]
    get = requests["GET"]
    assert get["requests"] == manifest["snapshots"]
    assert get["attempts"] == len(raw)
    assert get["retries"] == {"503 SlowDown": len([one for one in raw if one.fault])}
    assert 0 <= get["bytes"] - manifest["raw_bytes"] < 1000 * len(raw)  # errors have bodies, too
    assert requests.keys() == {"GET", "HEAD", "LIST"}
    assert requests["LIST"]["requests"] >= 7  # a day each
    assert all(one["seconds"] > 0 for one in requests.values())


def test_a_week_tells_luigid_what_it_asks_for_and_what_failed(
    place: World, s3: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    forget()
    monkeypatch.setattr(under_way, "run", under_way.UnderWay())
    s3.control.fail(Fault.SLOW_DOWN, times=3, operation="GetObject")
    task = graph.WeekTask(week=world.WEEKS[1])
    told: list[str] = []
    task.set_status_message = told.append
    task.run()
    assert re.search(r"\nS3: \d+ requests, 3 tried again \(503 SlowDown 3\)$", told[-1]), told
    assert "S3:" not in told[0]
