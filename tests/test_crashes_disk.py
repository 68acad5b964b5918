"""Runs whose spool, and all other files of their own, are on a disk that fills up.

A small file system in a namespace of the test's own, which ends with the test whatever happens. How
much room there is decides what finds none: a lock, a refused body, a member of the week file, the
inventory, the manifest, the note of an upload, a log.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.crashes import world
from tests.crashes.world import World

pytestmark = pytest.mark.soak

UNSHARE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
ROOMS = [
    *("size=4k", "size=20k", "size=44k"),
    *("size=1m,nr_inodes=2", "size=1m,nr_inodes=8", "size=1m,nr_inodes=14"),
]
SCRIPT = """
small=$1; room=$2; shift 2
mount -t tmpfs -o "$room" tmpfs "$small" || exit 99
"$@" > "$small.first" 2>&1
echo $? > "$small.code"
find "$small" -type f -name manifest.json > "$small.finished"
mount -o remount,size=64m,nr_inodes=10000 "$small" || exit 99
"$@" > "$small.second" 2>&1
echo $? >> "$small.code"
find "$small/spool" -type f ! -name '*.lock' > "$small.left"
"""


def can_mount(folder: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    command = [*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("s3")
    if not can_mount(folder):
        pytest.skip("no small file system may be mounted here: that takes root, or unshare")
    with world.server(folder) as url:
        yield url


@pytest.fixture(scope="module")
def due(s3: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    undisturbed = World(s3, s3, folder, "undisturbed")
    undisturbed.fill(world.raw_snapshots())
    assert undisturbed.start(world.FULL, folder / "said").wait() == 0
    return undisturbed.made()


@pytest.mark.parametrize("room", ROOMS)
def test_a_disk_that_fills_up_is_named_and_with_room_the_next_run_makes_the_same(
    room: str, s3: str, due: dict[str, bytes], tmp_path: Path
) -> None:
    place = World(s3, s3, tmp_path, f"disk-{ROOMS.index(room)}")
    place.fill(world.raw_snapshots())
    small = tmp_path / "small"
    small.mkdir()
    command = [*UNSHARE, "sh", "-c", SCRIPT, "sh", small, room, sys.executable, *world.FULL]
    moved = {"BUSTIMES_SPOOL": str(small / "spool"), "LOCAL_STATE": str(small / "state")}
    subprocess.run(
        command,
        cwd=PROJECT,
        env=os.environ | place.environment | moved,
        timeout=120,
        check=True,
    )
    first, second = (int(code) for code in Path(f"{small}.code").read_text().split())
    said = Path(f"{small}.first").read_text()
    assert first in (1, 2), f"there is room for all: {said}"
    assert str(small) in said
    assert "No space left on device" in said or "the disk is full" in said
    assert "Traceback" not in said
    assert second == 0, Path(f"{small}.second").read_text()
    assert Path(f"{small}.left").read_text() == ""
    place.check(due)
