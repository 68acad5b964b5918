"""How an instance is: memory, disk, cores, its spool, and who works on it. Linux only."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ops import memory


@dataclass(frozen=True)
class Vitals:
    """Sizes in bytes; what the machine does not tell is 0."""

    cpu_count: int
    memory_free: int
    memory_total: int
    disk_free: int
    disk_total: int
    spooled: int
    """Finished weeks that wait for upload."""


def read(spool: Path) -> Vitals:
    """As things are now; the disk is the one that the spool is on."""
    disk_free = disk_total = 0
    with contextlib.suppress(OSError):
        spool.mkdir(parents=True, exist_ok=True)
        disk_total, _, disk_free = shutil.disk_usage(spool)
    memory_total = 0
    with contextlib.suppress(OSError, ValueError):
        memory_total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Vitals(
        cpu_count=os.cpu_count() or 0,
        memory_free=memory.available_bytes() or 0,
        memory_total=memory_total,
        disk_free=disk_free,
        disk_total=disk_total,
        spooled=len(list(spool.glob("*/*/manifest.json"))),
    )


def commands(home: str) -> list[str]:
    """The commands of the project that run here now, such as ``verify``, whoever started them.

    Those whose BUSTIMES_HOME is `home`: a simulated instance shares its machine with others.
    """
    return sorted(_commands(f"BUSTIMES_HOME={home}\0".encode()))


def _commands(mark: bytes) -> Iterator[str]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile, or is somebody else's
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if words[1:3] == ["-m", "ops"] and mark in (folder / "environ").read_bytes():
                yield words[3]
