"""What `order` and `compression_level` give: size against CPU, for every value of both.

Takes the finished lines of a day in each order, compresses some of its hours and prints, as JSON,
sizes and CPU seconds; and what zlib at level 6 makes of the lines in the order of the snapshots, as
gzip and the straightforward script do.
"""

import argparse
import functools
import json
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from ops.bench import codec
from tasks.settings import ORDERS

OURS, GZIP = "ours", "gzip"
"""The codec of the week files, and that of Python's gzip module."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ops.bench.levels", description=__doc__)
    parser.add_argument("lines", type=Path, help="has a folder for each order")
    parser.add_argument("--every", type=int, default=1, help="only each so many-th hour")
    given = parser.parse_args()
    print(json.dumps(list(_measured(given.lines, given.every))))


def _measured(lines: Path, every: int) -> Iterator[dict[str, object]]:
    all_hours = codec.hours_of(lines)
    hours = all_hours[::every]
    for order in ORDERS:
        sizes = {hour: (lines / order / hour).stat().st_size for hour in all_hours}
        share = sum(sizes[hour] for hour in hours) / sum(sizes.values())
        kinds = [(OURS, level) for level in codec.ALL_LEVELS]
        if order == "snapshot":
            kinds.append((GZIP, 6))
        for name, level in kinds:
            size = cpu = 0.0
            for hour in hours:
                compress = _PREPARED[name](lines, hour, order, level)
                started = time.process_time()
                size += len(compress())
                cpu += time.process_time() - started
            yield {
                "codec": name,
                "order": order,
                "level": level,
                "share": share,
                "lines_bytes": sum(sizes[hour] for hour in hours),
                "bytes": int(size),
                "cpu_seconds": cpu,
            }


def _ours(lines: Path, hour: str, order: str, level: int) -> Callable[[], bytes]:
    compress = codec.prepared(lines, hour, order, level)
    return lambda: compress().segment


def _gzip(lines: Path, hour: str, order: str, level: int) -> Callable[[], bytes]:
    return functools.partial(zlib.compress, (lines / order / hour).read_bytes(), level)


_PREPARED = {OURS: _ours, GZIP: _gzip}


if __name__ == "__main__":
    main()
