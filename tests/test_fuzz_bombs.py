"""Bodies that are small to describe and dear to read cost no more than their length allows.

Time is held to by the system: a process that takes fifty times as long as usual is ended. Memory is
measured against the bound that `max_snapshot_mb` sets: no longer body is read at all.
"""

import subprocess
import sys

import pytest

from ops.fuzz.__main__ import MOST_MEMORY, SOME_MEMORY
from ops.fuzz.bombs import BOMBS, measured
from tests.conftest import PROJECT

pytestmark = pytest.mark.soak


@pytest.mark.parametrize("is_for_python", [False, True], ids=["kernel", "python"])
def test_no_body_takes_longer_than_its_length_allows(is_for_python: bool) -> None:
    """A body of half a megabyte that took a step for every pair of its bytes would take minutes."""
    names = [name for name, bomb in BOMBS.items() if bomb.is_for_python == is_for_python]
    megabytes = "0.05" if is_for_python else "0.5"
    ended = subprocess.run(
        [sys.executable, "-m", "ops.fuzz.bombs", megabytes, *names],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    done = [line.split("\t")[0] for line in ended.stdout.splitlines()]
    assert ended.returncode == 0, f"ended at {done[-1]!r}: {ended.stderr}"
    assert done == names


DEAR = {
    "gzip": 0.5,  # of a thousand times as much
    "zstd": 0.05,
    "empty members of gzip": 0.5,
    "empty frames of zstd": 0.5,
    "UTF-32": 4,
    "one text": 60,
    "empty records": 4,
    "many vehicles that are texts": 0.5,
    "one record of many fields": 4,
    "octal escapes": 2,
    "lists in an odd record": 2,
    "open objects": 2,
    "apostrophes": 2,
}


@pytest.mark.parametrize(("name", "megabytes"), DEAR.items(), ids=DEAR)
def test_memory_stays_within_a_multiple_of_the_body(name: str, megabytes: float) -> None:
    burst = measured(name, int(megabytes * 1e6))
    assert burst is not None
    unpacked = 64 << 20 if name in ("gzip", "zstd") else burst.size
    assert burst.peak < SOME_MEMORY + MOST_MEMORY * burst.size + 3 * (unpacked - burst.size), burst
    if name in ("gzip", "zstd"):
        assert burst.outcome == f"it is {name} of more than 64 MB, and max_snapshot_mb is 64"
    if name == "one text":
        assert burst.peak < SOME_MEMORY + 5 * burst.size


def test_many_small_records_in_one_hour_are_an_hour_too_large_and_no_crash() -> None:
    """As many as do not fit: here by a limit, for four gigabytes would take too long."""
    import datetime as dt

    from tasks.bustimes.hour import convert
    from tasks.bustimes.kernel import Kernel, OutOfMemory

    kernel = Kernel()
    kernel._store.set_limits(memory_size=16 << 20)
    body = BOMBS["empty records"].make(300_000)
    time = dt.datetime(2021, 11, 8, tzinfo=dt.UTC)
    hour = [(f"key {number}", time, body) for number in range(20)]
    with pytest.raises(OutOfMemory):
        convert(hour, "vehicle", 0, count=len(hour), largest=len(body), using=kernel)
    one = convert(hour[:1], "vehicle", 0, count=1, largest=len(body), using=kernel)
    assert one.lines == 99_999
