"""The limit: read the raw bytes, compress the finished lines, and nothing else.

No conversion can be faster that reads the same files and writes the same ones with the same codec:
its output is ours, byte for byte. The finished lines lie in a file for each hour, as `write_lines`
of `ops.bench.checks` leaves them.
"""

import argparse
from pathlib import Path

from tasks.compression import gzip_member


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ops.bench.limit", description=__doc__)
    parser.add_argument("raw", type=Path, help="folder of the raw snapshots")
    parser.add_argument("lines", type=Path, help="folder of the finished lines of each hour")
    parser.add_argument("output", type=Path)
    parser.add_argument("--level", type=int, required=True)
    given = parser.parse_args()
    for path in sorted(given.raw.iterdir()):
        path.read_bytes()
    with given.output.open("wb") as output:
        for path in sorted(given.lines.iterdir()):
            output.write(gzip_member(path.read_bytes(), given.level))


if __name__ == "__main__":
    main()
