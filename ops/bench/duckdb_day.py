"""DuckDB: `read_json` of every snapshot of a folder to one file of gzipped JSON lines.

As its manual has it, with `snapshot_time` from the name of the file. It reads JSON only, finds the
columns out by itself, and writes every record with all of them.
"""

import argparse

import duckdb

_COPY = """
COPY (
    SELECT * EXCLUDE (filename), strftime(
        strptime(regexp_extract(filename, 'bustimes__(.*)\\.json', 1), '%Y-%m-%d__%H-%M-%S'),
        '%Y-%m-%dT%H:%M:%S+00:00') AS snapshot_time
    FROM read_json(getvariable('raw'), format = 'array', filename = true)
) TO '{output}' (FORMAT json, COMPRESSION gzip)
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ops.bench.duckdb_day", description=__doc__)
    parser.add_argument("raw", help="folder of the raw snapshots")
    parser.add_argument("output")
    parser.add_argument("--threads", type=int, required=True)
    given = parser.parse_args()
    database = duckdb.connect(config={"threads": given.threads})
    database.execute("SET VARIABLE raw = ?", [f"{given.raw}/*.json"])
    database.execute(_COPY.format(output=given.output.replace("'", "''")))


if __name__ == "__main__":
    main()
