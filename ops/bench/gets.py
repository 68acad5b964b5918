"""What one GET costs the client: boto3 in 16 threads, or libcurl as the converter uses it.

Fetches every snapshot of a bucket so many times over and prints, as JSON, how many GETs that were
and their CPU seconds (all threads, nothing else: what starting takes is not in it).
"""

import argparse
import json
import resource
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from tasks.storage import StoredObject
from tasks.storage.s3 import S3Prefix

_BOTO3_THREADS = 16
_SNAPSHOTS_AN_HOUR = 60


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ops.bench.gets", description=__doc__)
    parser.add_argument("bucket")
    parser.add_argument("--way", choices=["boto3", "libcurl"], required=True)
    parser.add_argument("--times", type=int, default=1, help="each snapshot so many times")
    parser.add_argument("--at-once", type=int, default=32, help="GETs under way, of libcurl's")
    given = parser.parse_args()
    root = S3Prefix(f"s3://{given.bucket}")
    objects = list(root.objects("raw/"))
    fetch = _boto3(root) if given.way == "boto3" else _libcurl(root, given.at_once)
    fetch(objects[:1])  # connections and threads are there before it counts
    before = _cpu_seconds()
    for _ in range(given.times):
        fetch(objects)
    after = _cpu_seconds()
    print(
        json.dumps(
            {
                "gets": given.times * len(objects),
                "bytes": given.times * sum(one.size for one in objects),
                "cpu_seconds": after - before,
            }
        )
    )


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _boto3(root: S3Prefix) -> Callable[[list[StoredObject]], None]:
    client = root.client

    def get(stored: StoredObject) -> int:
        answer = client.get_object(Bucket=root.bucket, Key=stored.key)
        return len(answer["Body"].read())

    def fetch(objects: list[StoredObject]) -> None:
        with ThreadPoolExecutor(_BOTO3_THREADS) as threads:
            for _ in threads.map(get, objects):
                pass

    return fetch


def _libcurl(root: S3Prefix, at_once: int) -> Callable[[list[StoredObject]], None]:
    from tasks.storage.bulk import BulkReader

    reader = BulkReader(root.bulk_source(), at_once)
    credentials = root.credentials()

    def fetch(objects: list[StoredObject]) -> None:
        rest = iter(objects)
        while hour := list(islice(rest, _SNAPSHOTS_AN_HOUR)):
            reader.read(hour, credentials)

    return fetch


if __name__ == "__main__":
    main()
