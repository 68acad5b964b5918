"""The limit: read the raw files, compress the finished lines with our codec, and nothing else.

No conversion of a folder can take less that reads the same files and writes the same bytes with the
same codec, for all that it would still have to do is left out: finding the records, putting them in
order, making lines of them, and starting. Nor is anything in it that fetching from S3 costs.

It measures itself, in as many processes as asked for, and writes to `measured.json` beside its
output the CPU seconds of all of them and the wall seconds of the longest. Its output is ours, byte
for byte.
"""

import argparse
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ops.bench import codec
from tasks.compression import HEADER, Joined

MEASURED = "measured.json"


@dataclass(frozen=True)
class _Hour:
    """What one step has to do: read its share of the raw files, compress the lines of an hour."""

    raw: list[Path]
    lines: Path
    hour: str
    order: str
    level: int

    def measured(self) -> "_Step":
        compress = codec.prepared(self.lines, self.hour, self.order, self.level)
        cpu, wall = time.process_time(), time.perf_counter()
        for path in self.raw:
            path.read_bytes()
        compressed = compress()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        return _Step(compressed, cpu, wall, os.getpid())


@dataclass(frozen=True)
class _Step:
    compressed: codec.Compressed
    cpu_seconds: float
    wall_seconds: float
    process: int


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ops.bench.limit", description=__doc__)
    parser.add_argument("raw", type=Path, help="folder of the raw snapshots")
    parser.add_argument("lines", type=Path, help="has a folder for each order")
    parser.add_argument("output", type=Path)
    parser.add_argument("--order", required=True)
    parser.add_argument("--level", type=int, required=True)
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    cpu, walls = 0.0, defaultdict[int, float](float)
    with given.output.open("wb") as output, ExitStack() as stack:
        hours = _hours(given.raw, given.lines, given.order, given.level)
        if given.processes == 1:
            steps: Iterable[_Step] = map(_Hour.measured, hours)
        else:
            pool = stack.enter_context(ProcessPoolExecutor(given.processes))
            steps = pool.map(_Hour.measured, hours)
        joined = Joined()
        output.write(HEADER)
        for step in steps:
            output.write(step.compressed.segment)
            joined.add(step.compressed.crc32, step.compressed.size)
            cpu += step.cpu_seconds
            walls[step.process] += step.wall_seconds
        output.write(joined.end())
    measured = {"cpu_seconds": cpu, "wall_seconds": max(walls.values())}
    given.output.with_name(MEASURED).write_text(json.dumps(measured))


def _hours(raw: Path, lines: Path, order: str, level: int) -> Iterator[_Hour]:
    files, hours = sorted(raw.iterdir()), codec.hours_of(lines)
    for number, hour in enumerate(hours):
        yield _Hour(files[number :: len(hours)], lines, hour, order, level)


if __name__ == "__main__":
    main()
