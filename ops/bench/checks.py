"""Correctness before speed: the outputs of one run, held against each other.

Ours must be the same bytes from every source and for any number of cores, must hold exactly the
lines that the straightforward script makes of the same snapshots, and every other contender must
have written as many lines. Raises `Problem` where it is not so: then there is nothing to compare.
"""

import gzip
import hashlib
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path

from ops.bench.data import WEEK
from tasks.bustimes import manifest as manifests
from tasks.bustimes.hour import line_end
from tasks.bustimes.snapshot import time_of
from tasks.compression import gunzip
from tasks.problem import Problem

_CHUNK_BYTES = 1 << 20


def lines_of(file: Path) -> int:
    """How many lines a gzip file has."""
    return sum(data.count(b"\n") for data in gunzip(_chunks(file)))


def sha256_of(file: Path) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(file):
        digest.update(chunk)
    return digest.hexdigest()


def write_lines(file: Path, folder: Path) -> None:
    """The lines of a week file, uncompressed, in a file for each hour."""
    manifest_file = file.parent / manifests.key_of(WEEK)
    manifest = manifests.from_bytes(manifest_file.read_bytes(), str(manifest_file))
    folder.mkdir(parents=True, exist_ok=True)
    with file.open("rb") as week:
        for hour in manifest.hours:
            week.seek(hour.offset)
            lines = b"".join(manifests.unpack(hour, week.read(hour.bytes)))
            (folder / f"{hour.hour}.jsonl").write_bytes(lines)


def must_be_equal(files: dict[str, Path]) -> None:
    """All of these files are the same bytes."""
    digests = {name: sha256_of(file) for name, file in files.items()}
    if len(set(digests.values())) > 1:
        listed = ", ".join(f"{name}: {digest[:12]}" for name, digest in digests.items())
        raise Problem(f"The same snapshots gave different bytes ({listed}).")


def must_hold_lines(script_file: Path, lines: Path, snapshots: Iterable[Path]) -> None:
    """Our lines, in the order of the snapshots, are what the script made of these snapshots.

    `lines` is a folder of `write_lines`, which may hold those of other snapshots as well.
    """
    times = [time_of(f"raw/{path.name}") for path in snapshots]
    ends = {line_end(time) for time in times if time is not None}
    ours = (line for line in _lines(lines) if line[line.rindex(b',"snapshot_time":') :] in ends)
    theirs = _lines_of_gzip(script_file)
    for number, (one, other) in enumerate(zip_longest(ours, theirs), 1):
        if one != other:
            raise Problem(f"Line {number:,} is not the script's:\n{one!r}\n{other!r}")


def must_be_as_many(lines: dict[str, int]) -> None:
    """All outputs have the same number of lines."""
    if len(set(lines.values())) > 1:
        listed = ", ".join(f"{name}: {count:,}" for name, count in lines.items())
        raise Problem(f"The same snapshots gave different numbers of lines ({listed}).")


def _lines(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            yield from file


def _lines_of_gzip(path: Path) -> Iterator[bytes]:
    with gzip.open(path) as file:
        yield from file


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK_BYTES):
            yield chunk
