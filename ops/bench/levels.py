"""What `order` and `compression_level` give: size against CPU, for every value of both.

Takes the finished lines of a day in each order, as `write_lines` of `ops.bench.checks` leaves them,
compresses them hour by hour and prints, as JSON, sizes and CPU seconds; and what gzip's own zlib at
level 6 makes of the lines in the order of the snapshots, as the straightforward script does.
"""

import argparse
import json
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from tasks.compression import LEVELS, gzip_member
from tasks.settings import ORDERS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ops.bench.levels", description=__doc__)
    parser.add_argument("lines", type=Path, help="has a folder for each order")
    parser.add_argument("--every", type=int, default=1, help="only each so many-th hour")
    given = parser.parse_args()
    print(json.dumps(list(_measured(given.lines, given.every))))


def _measured(folder: Path, every: int) -> Iterator[dict[str, object]]:
    for order in ORDERS:
        hours = [path.read_bytes() for path in sorted((folder / order).iterdir())[::every]]
        if order == "snapshot":
            yield _one("zlib", order, 6, hours)
        for level in LEVELS:
            yield _one("libdeflate", order, level, hours)


def _one(codec: str, order: str, level: int, hours: list[bytes]) -> dict[str, object]:
    compress: Callable[[bytes, int], bytes] = zlib.compress if codec == "zlib" else gzip_member
    started = time.process_time()
    size = sum(len(compress(hour, level)) for hour in hours)
    return {
        "codec": codec,
        "order": order,
        "level": level,
        "lines_bytes": sum(map(len, hours)),
        "bytes": size,
        "cpu_seconds": time.process_time() - started,
    }


if __name__ == "__main__":
    main()
