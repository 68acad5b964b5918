"""The straightforward script: what one writes in half an hour, and what ours is held against.

boto3 GETs in 16 threads, or the files of a folder; each body through `json.loads`, or
`ast.literal_eval` where that fails; `snapshot_time` added; `json.dumps` a line, gzip at level 6.
The same lines as ours in the order of the snapshots. It holds what it has fetched in memory, as
such scripts do, and checks nothing.
"""

import argparse
import ast
import gzip
import json
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_THREADS = 16


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ops.bench.straightforward", description=__doc__
    )
    parser.add_argument("source", help="s3://bucket, or a folder, with raw/ in it")
    parser.add_argument("output", help="the gzip file to write")
    parser.add_argument("--every", type=int, default=1, help="only each so many-th snapshot")
    given = parser.parse_args()
    fetch = _from_s3 if given.source.startswith("s3://") else _from_folder
    with gzip.open(given.output, "wt", compresslevel=6, encoding="utf-8") as output:
        for key, body in fetch(given.source, given.every):
            for record in _records(key, body.decode()):
                output.write(json.dumps(record, separators=(",", ":")) + "\n")


def _from_s3(url: str, every: int) -> Iterable[tuple[str, bytes]]:
    import boto3
    from botocore.config import Config

    bucket = url.removeprefix("s3://")
    client = boto3.client("s3", config=Config(max_pool_connections=_THREADS))
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="raw/")
    keys = [item["Key"] for page in pages for item in page.get("Contents", [])][::every]

    def get(key: str) -> bytes:
        return client.get_object(Bucket=bucket, Key=key)["Body"].read()

    with ThreadPoolExecutor(_THREADS) as threads:
        yield from zip(keys, threads.map(get, keys), strict=True)


def _from_folder(folder: str, every: int) -> Iterable[tuple[str, bytes]]:
    for path in sorted(Path(folder, "raw").iterdir())[::every]:
        yield path.name, path.read_bytes()


def _records(key: str, text: str) -> Iterator[dict[str, Any]]:
    try:
        records = json.loads(text)
    except ValueError:
        records = ast.literal_eval(text)
    date, time = re.findall(r"\d{4}-\d\d-\d\d|\d\d-\d\d-\d\d(?=\.json)", key)
    snapshot_time = f"{date}T{time.replace('-', ':')}+00:00"
    for record in records:
        yield {**record, "snapshot_time": snapshot_time}


if __name__ == "__main__":
    main()
