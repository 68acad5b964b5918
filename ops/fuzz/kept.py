"""The targets that read what this project wrote itself, and what somebody or a crash has spoilt.

Manifests and the records beside them in the archive are understood, or a sentence for a person says
that they are not (`Problem`); what commands keep for themselves may be taken for missing as well.
"""

import hashlib
import tempfile
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from ops.ec2 import record
from ops.ec2.board import Board
from ops.fuzz.targets import Target, in_python, must_be_a_sentence
from ops.service import Service
from tasks.bustimes import inventory, standing
from tasks.bustimes import manifest as manifests
from tasks.bustimes.listing import Listing
from tasks.bustimes.manifest import (
    SEGMENTS,
    Conversion,
    HourOfFile,
    Manifest,
    OutputFile,
    RefusedSnapshot,
)
from tasks.bustimes.plan import RATE_FILE, kept_rate
from tasks.bustimes.snapshot import time_of
from tasks.bustimes.verify import findings, proof, pruned
from tasks.compression import gzip_member
from tasks.problem import Problem
from tasks.storage import StoredObject
from tasks.storage.traffic import Traffic
from tasks.weeks import Week

_WEEK = Week(2021, 45)
_JSON = (
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"null", b"true", b"-1", b"1e999", b"[]", b"{}"),
    *(b'""', b'"\\ud800"', b"NaN", b"[[[[[[[[", b'{"a":' * 300, b"[" * 2000, b"9" * 5000, b"\0"),
)
_LINES = (
    *(b"\t", b"\n", b"\t5\te\t1\n", b"\r", b"\x0b", b"\x1c", b"\xc2\x85", b"\xe2\x80\xa8", b"../"),
    *(b"-1", b"_1", b" 1", "٣".encode(), b"raw/bustimes__2021-11-08__01-00-05.json"),
)


def targets() -> list[Target]:
    """All of them."""
    of_weeks = tuple(f"tasks/bustimes/{name}.py" for name in ("manifest", "inventory", "snapshot"))
    of_proofs = tuple(f"tasks/bustimes/verify/{name}.py" for name in ("proof", "pruned"))
    of_ops = ("ops/ec2/board.py", "ops/ec2/record.py", "ops/service.py")
    return [
        in_python("manifests", _manifests, _example_manifests, _JSON, of_weeks),
        in_python("records", _records, _example_records, _JSON + _LINES, of_weeks + of_proofs),
        in_python("kept files", _KeptFiles().feed, _example_files, _JSON, of_ops),
    ]


# ---- manifests


def _manifests(data: bytes) -> None:
    try:
        manifest = manifests.from_bytes(data, "x.json")
    except Problem as problem:
        must_be_a_sentence(problem)
        return
    msgspec.convert(msgspec.to_builtins(manifest), type=Manifest)  # is of the types that it says
    assert manifests.from_bytes(manifest.to_bytes(), "x.json") == manifest
    manifests.gone_from(manifest, Listing(_WEEK, []))


def _example_manifests() -> list[bytes]:
    new = Manifest(
        week="2021-W45",
        week_over=True,
        order="vehicle",
        compression_level=0,
        snapshots=2,
        raw_bytes=200,
        records=3,
        tokenized=0,
        first_snapshot="2021-11-08T00:00:05+00:00",
        last_snapshot="2021-11-08T01:00:05+00:00",
        listing_sha256="0" * 64,
        refused=[RefusedSnapshot("raw/bustimes__2021-11-08__01-00-05.json", 5, "it is empty")],
        output=OutputFile("2021-W45.jsonl.gz", 30, 20, 3, "0" * 64, "AAAA", SEGMENTS),
        hours=[HourOfFile("2021-11-08T00", 2, 3, 10, 10, 200, 20, 7)],
        vehicles=3,
        fields={"vehicleID": {"integer": 3}},
        conversion=Conversion(1.5, {"GET": Traffic(2, 3, 200, 0.5, {"reset": 1})}),
    ).to_bytes()
    old = msgspec.json.decode(new)
    del old["output"]["layout"], old["hours"][0]["uncompressed_bytes"], old["hours"][0]["crc32"]
    second = msgspec.json.encode(old | {"version": 2})
    for name in ("vehicles", "fields", "conversion"):
        del old[name]
    return [new, second, msgspec.json.encode(old | {"version": 1})]


# ---- records of weeks


def _records(data: bytes) -> None:
    root: Any = SimpleNamespace(
        url="s3://bucket",
        address_of=lambda key: f"s3://bucket/{key}",
        find=lambda key: StoredObject(key, len(data), "e", 0.0),
        read=lambda _key: data,
        write=lambda _key, _data: None,
    )
    archive: Any = SimpleNamespace(destination=root)
    for read in (proof.read, pruned.read):
        try:
            read(archive, _WEEK)
        except Problem as problem:
            must_be_a_sentence(problem)
    findings.keep(archive, [])
    # Whoever may write an inventory may write the fingerprint that a manifest has of it.
    listed = b"".join(line.rpartition(b"\t")[0] + b"\n" for line in data.splitlines())
    fingerprint = hashlib.sha256(listed).hexdigest()
    for packed in (data, gzip_member(data, 1)):
        try:
            entries = inventory.from_bytes(packed, fingerprint, "x.tsv.gz")
        except Problem as problem:
            must_be_a_sentence(problem)
            continue
        assert all(time_of(one.key) for one in entries)  # such names only are restored


def _example_records() -> list[bytes]:
    names = [f"raw/bustimes__2021-11-08__01-00-0{second}.json" for second in range(3)]
    sha256 = "0" * 64
    return [
        b"".join(b"%s\t5\te\t%d\n" % (name.encode(), at) for at, name in enumerate(names)),
        f"{names[0]}\t5\te\t\n".encode(),
        msgspec.json.encode(
            proof.Proof("2021-W45", sha256, sha256, 1.0, 2, 3, "2021-11-16T00:00:00+00:00")
        ),
        msgspec.json.encode(
            pruned.PruneRecord("2021-W45", sha256, sha256, 2, 3, "2021-11-16T00:00:00+00:00")
        ),
        b'{"version":1,"when":"","weeks":{"2021-W45":{"state":"stale","why":"x"}}}',
    ]


# ---- files that commands keep


class _KeptFiles:
    """Small files, here and at the destination, that this project wrote and something spoilt."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._path = Path(self._folder.name)

    def feed(self, data: bytes) -> None:
        root: Any = SimpleNamespace(
            url="s3://bucket",
            address_of=lambda key: f"s3://bucket/{key}",
            objects=lambda prefix: iter([StoredObject(f"{prefix}x", len(data), "e", 0.0)]),
            read=lambda _key: data,
            read_with_etag=lambda _key: (data, "e"),
        )
        board = Board(root)
        for read in (board.run, board.lease, board.members, lambda: record.last(root)):
            try:
                read()
            except Problem as problem:
                must_be_a_sentence(problem)
        board.member("i-1")
        for name in (RATE_FILE, "service.pid", "progress.json"):
            (self._path / name).write_bytes(data)
        rate = kept_rate(self._path)
        assert rate is None or 0 < rate < float("inf")
        stood = standing.read(self._path / "progress.json")
        msgspec.convert(msgspec.to_builtins(stood), type=standing.Standing)
        self._service.is_running()

    @cached_property
    def _service(self) -> Service:
        path = self._path / "service.pid"
        return Service("service", [], 1, "port", "http://127.0.0.1:1/", self._path / "log", path)


def _example_files() -> list[bytes]:
    return [
        b'{"bytes_a_second_and_core": 60000000.0}',
        b'{"pid": 4194303, "started": "1", "port": 1}',
        b'{"to_do": 2, "weeks_done": ["2021-W45"], "running": {"2021-W46": "5%"}, "snapshots": 1,'
        b' "raw_bytes": 2, "errors": ["x"], "stopped": ""}',
        b'{"run_id": "x", "state": "running", "settings": {"BUSTIMES_ORDER": "vehicle"}}',
        b'{"instance": "i-1", "address": "10.0.0.1", "port": 8082, "beat": 5}',
        b'{"instance": "i-1", "weeks_done": ["2021-W45"], "running": {}, "errors": []}',
        b'{"run": {"run_id": "x"}, "members": [{"instance": "i-1"}], "verified": "yes"}',
    ]
