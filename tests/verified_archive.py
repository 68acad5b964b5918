"""A small converted week for the tests of verify: made once, then copied for each test.

2021-W45 of two hours, a snapshot every ten minutes, one of them unreadable. The same bytes in a
folder or in a bucket; `refitted` puts other lines in place of an hour's and makes the manifest fit
them, so that only what a test is about is wrong.
"""

import base64
import dataclasses
import gzip
import hashlib
import json
import os
import zlib
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tasks.bustimes import inventory, synthetic
from tasks.bustimes.archive import Archive, convert_week
from tasks.bustimes.listing import list_week
from tasks.bustimes.verify import WeekCheck, verify
from tasks.settings import load
from tasks.storage import Root, open_root
from tasks.storage.folder import Folder
from tasks.storage.s3 import S3Prefix
from tasks.weeks import Week

WEEK = Week(2021, 45)
FILE = "2021-W45.jsonl.gz"
MANIFEST = "_manifests/2021-W45.json"
UNREADABLE = "raw/bustimes__2021-11-08__01-00-05.json"
HOURS = ("2021-11-08T00", "2021-11-08T01")
_WRITTEN = 1_637_000_000 * 10**9  # when each raw snapshot was, so that listings are always the same

Values = dict[str, Any]
_converted: dict[str, dict[str, bytes]] = {}


def archive_at(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    """The archive in a folder or in a bucket of the test's own, as the parameter says."""
    if request.param == "bucket":
        bucket = request.getfixturevalue("bucket")
        return archive_in(bucket, f"{bucket}/v2", tmp_path / "spool")
    return archive_in(str(tmp_path / "in"), str(tmp_path / "out"), tmp_path / "spool")


@cache
def bodies() -> dict[str, bytes]:
    """The raw snapshots, by key."""
    end = WEEK.start + timedelta(hours=2)
    options: Any = {"interval_seconds": 600, "vehicles": 10, "unreadable": 1}
    return dict(synthetic.snapshots(WEEK.start, end, **options))


def archive_in(source_url: str, destination_url: str, spool: Path, **settings: Any) -> Archive:
    """The archive, its raw snapshots at one place and its week at another.

    It has no seal: what is not as it was written has to be found by the other means.
    """
    source, destination = open_root(source_url), open_root(destination_url)
    kept = dataclasses.replace(load(), spool=spool, **({"spot_checks": 12} | settings))
    for key, body in bodies().items():
        write(source.url, key, body)
    archive = Archive(kept, source, destination)
    made = _converted.setdefault(type(source).__name__, {})
    if not made:
        convert_week(archive, WEEK, "", 1, lambda _listing: lambda _hour: None, print)
        _describe(archive)
        remove(destination, *[one.key for one in destination.objects("_seals/")])
        keys = [FILE, MANIFEST, f"_refused/{WEEK}/{UNREADABLE}", inventory_key(archive)]
        made |= {key: destination.read(key) for key in keys}
    for key, data in made.items():
        put(destination, key, data)
    archive.list_again()
    return archive


def write(url: str, key: str, body: bytes) -> None:
    """Put a raw snapshot where it is as old as all others."""
    root = open_root(url)
    put(root, key, body)
    if isinstance(root, Folder):
        os.utime(root.path / key, ns=(_WRITTEN, _WRITTEN))


def put(root: Root, key: str, data: bytes) -> None:
    """Write an object; in a folder without waiting for the disk, as tests do it all the time."""
    if isinstance(root, Folder):
        (root.path / key).parent.mkdir(parents=True, exist_ok=True)
        (root.path / key).write_bytes(data)
    else:
        root.write(key, data)


def remove(root: Root, *keys: str) -> None:
    """Remove objects, as no command of ours does it."""
    if isinstance(root, S3Prefix):
        root.remove(keys)
    else:
        for key in keys:
            (Path(root.url) / key).unlink()


def without_inventory(archive: Archive) -> None:
    """As a week that was written before there were any."""
    remove(archive.destination, inventory_key(archive))
    change_manifest(archive, inventory=None)


def inventory_key(archive: Archive) -> str:
    return inventory.key_of(WEEK, manifest_of(archive)["listing_sha256"])


def manifest_of(archive: Archive) -> Values:
    values: Values = json.loads(archive.destination.read(MANIFEST))
    return values


def check(archive: Archive, is_deep: bool = False, share: float = 0.0) -> WeekCheck:
    """What verify finds of the week; nothing is drawn at random but by a share."""
    return verify(having(archive, spot_checks=0), [WEEK], is_deep, seed=1, share=share).checks[0]


def having(archive: Archive, **settings: Any) -> Archive:
    """The archive with other settings."""
    kept = dataclasses.replace(archive.settings, **settings)
    return Archive(kept, archive.source, archive.destination)


def said(found: WeekCheck) -> str:
    """Why, with all details."""
    return "\n".join([found.why, *found.details])


def flipped(data: bytes, at: int) -> bytes:
    """The bytes with one bit of them changed."""
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def change_manifest(archive: Archive, **values: Any) -> None:
    put(archive.destination, MANIFEST, json.dumps(manifest_of(archive) | values).encode())


def change_output(archive: Archive, **values: Any) -> None:
    change_manifest(archive, output=manifest_of(archive)["output"] | values)


def lines_of(archive: Archive, hour: int = 0) -> list[bytes]:
    """The lines of an hour of the week file, without their ends."""
    place = manifest_of(archive)["hours"][hour]
    data = archive.destination.read(FILE, place["offset"], place["bytes"])
    if not is_of_segments(archive):
        return gzip.decompress(data).splitlines()
    return zlib.decompressobj(wbits=-15).decompress(data).splitlines()


def refitted(
    archive: Archive,
    change: Callable[[list[bytes]], list[bytes]],
    hour: int = 0,
    with_counts: bool = True,
    with_inventory: bool = True,
) -> None:
    """Change an hour's lines and have the manifest say just that; its counts, and the inventory's,
    if asked for."""
    hours = [lines_of(archive, number) for number in range(len(HOURS))]
    hours[hour] = change(hours[hour])
    write_hours(archive, [b"".join(line + b"\n" for line in lines) for lines in hours])
    if with_counts:
        _describe(archive, with_inventory)


def is_of_segments(archive: Archive) -> bool:
    return manifest_of(archive)["output"].get("layout") == "segments"


def write_hours(archive: Archive, texts: list[bytes]) -> None:
    """Put a week file of these hours in place, and a manifest that fits their bytes."""
    is_joined = is_of_segments(archive)
    parts = [_segment(text) if is_joined else _member(text) for text in texts]
    hours, offset = manifest_of(archive)["hours"], 10 if is_joined else 0
    for hour, text, part in zip(hours, texts, parts, strict=True):
        hour |= {"offset": offset, "bytes": len(part)}
        if is_joined:
            hour |= {"uncompressed_bytes": len(text), "crc32": zlib.crc32(text)}
        offset += len(part)
    change_manifest(archive, hours=hours)
    change_output(archive, uncompressed_bytes=sum(map(len, texts)))
    data = b"".join(parts)
    write_file(archive, joined(data, b"".join(texts)) if is_joined else data)


def as_of_version_2(archive: Archive) -> None:
    """The week as that version of the program wrote it, whose hours are gzip members."""
    texts = [b"".join(line + b"\n" for line in lines_of(archive, at)) for at in range(len(HOURS))]
    manifest = manifest_of(archive)
    for hour in manifest["hours"]:
        del hour["uncompressed_bytes"], hour["crc32"]
    del manifest["output"]["layout"]
    change_manifest(archive, version=2, hours=manifest["hours"], output=manifest["output"])
    write_hours(archive, texts)


def joined(segments: bytes, text: bytes) -> bytes:
    """A gzip member of these segments."""
    trailer = zlib.crc32(text).to_bytes(4, "little") + len(text).to_bytes(4, "little")
    return b"\x1f\x8b\x08" + bytes(6) + b"\xff" + segments + b"\x03\x00" + trailer


def write_file(archive: Archive, data: bytes) -> None:
    """Put other bytes in place of the week file, with a manifest that fits them as a whole."""
    put(archive.destination, FILE, data)
    archive.list_again()
    change_output(archive, bytes=len(data), **_sums(data))


def _sums(data: bytes) -> Values:
    digest = hashlib.sha256(data)
    s3_sha256 = base64.b64encode(digest.digest()).decode()
    return {"sha256": digest.hexdigest(), "s3_sha256": s3_sha256}


def _segment(text: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(text) + stream.flush(zlib.Z_FULL_FLUSH) if text else b""


def _member(text: bytes) -> bytes:
    return gzip.compress(text, mtime=0) if text else b""


def _describe(archive: Archive, with_inventory: bool = True) -> None:
    """Count what the lines are, and write that into the manifest, and the inventory beside it."""
    listing = list_week(archive.source, WEEK)
    hours = manifest_of(archive)["hours"]
    texts = [
        lines_of(archive, number) if hour["bytes"] else [] for number, hour in enumerate(hours)
    ]
    raw = [sum(one.stored.size for one in snapshots) for snapshots in listing.by_hour()]
    for hour, text, size in zip(hours, texts, raw, strict=True):
        hour |= {"lines": len(text), "raw_bytes": size}
    records = [json.loads(line) for text in texts for line in text]
    output = manifest_of(archive)["output"] | {
        "lines": len(records),
        "uncompressed_bytes": sum(len(line) + 1 for text in texts for line in text),
    }
    change_manifest(
        archive,
        hours=hours,
        records=len(records),
        output=output,
        vehicles=len({record.get("vehicleID") for record in records}),
        fields=_fields(records),
    )
    if with_inventory:
        counts = Counter(record["snapshot_time"] for record in records)
        refused = {one["key"] for one in manifest_of(archive)["refused"]}
        known = [
            None if one.stored.key in refused else counts[one.time.isoformat()]
            for one in listing.snapshots
        ]
        write_inventory(archive, known)


def write_inventory(archive: Archive, counts: list[int | None]) -> None:
    """Put an inventory in place that says these numbers of records, and have the manifest fit."""
    data = inventory.to_bytes(list_week(archive.source, WEEK), counts)
    put(archive.destination, inventory_key(archive), data)
    change_manifest(archive, inventory={"bytes": len(data)} | _sums(data))


_KINDS = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "text",
    list: "list",
    dict: "object",
    type(None): "null",
}


def _fields(records: list[Values]) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    for record in records:
        for name, value in record.items():
            if name != "snapshot_time":
                found.setdefault(name, Counter())[_KINDS[type(value)]] += 1
    return {name: dict(kinds) for name, kinds in found.items()}
