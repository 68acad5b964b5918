"""Snapshots that are gzip, zstd, UTF-16 or UTF-32 inside: read, proven, restored, and bounded.

And weeks of which most is of no known format: not written, and not called good.
"""

import dataclasses
import gzip
import json
import os
import random
import zlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import boto3
import pytest
from both_ways import read_records

from tasks import decompression
from tasks.bustimes import inventory
from tasks.bustimes.archive import Archive, convert_week
from tasks.bustimes.listing import list_week
from tasks.bustimes.manifest import Manifest
from tasks.bustimes.restore import restore
from tasks.bustimes.snapshot import Refused, key_of
from tasks.bustimes.verify import WeekCheck, verify
from tasks.bustimes.verify.second_reader import NotRead, texts_of
from tasks.bustimes.verify.share import compare, time_in_line
from tasks.bustimes.verify.states import convert_again
from tasks.decompression import Damaged, TooLarge, inflated
from tasks.problem import Problem
from tasks.settings import load
from tasks.storage import open_root
from tests.conftest import Run
from tests.explained import FULL, assert_done
from tests.verified_archive import FILE, WEEK

zstd = decompression.zstd()
RECORDS = [{"vehicleID": number, "sign": f"é {number}", "delay": None} for number in range(300)]
JSON = json.dumps(RECORDS, ensure_ascii=False).encode()
REPR = ("[" + ", ".join(f"{{u'vehicleID': {number}L}}" for number in range(300)) + "]").encode()


def packed(body: bytes) -> bytes:
    """gzip, the same at any time."""
    return gzip.compress(body, mtime=0)


def in_two(pack: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda body: pack(body[:500]) + pack(body[500:])


def streamed_zstd(body: bytes) -> bytes:
    """Without the length of its content, and with a checksum, as streaming writers do."""
    packing = zstd.ZstdCompressor(options={zstd.CompressionParameter.checksum_flag: 1})
    return packing.compress(body) + packing.flush()


def gzip_with_a_name(body: bytes) -> bytes:
    bare = packed(body)
    return bare[:3] + b"\x08" + bare[4:10] + b"bustimes.json\0" + bare[10:]


SKIPPED = b"\x50\x2a\x4d\x18\x03\0\0\0abc"
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": packed,
    "gzip with a name": gzip_with_a_name,
    "gzip of two members": in_two(packed),
    "gzip of an empty member": lambda body: packed(body) + packed(b""),
    "gzip with zeros behind it": lambda body: packed(body) + bytes(512),
    "gzip twice": lambda body: packed(packed(body)),
    "zstd": zstd.compress,
    "zstd of two frames": in_two(zstd.compress),
    "zstd in a stream": streamed_zstd,
    "zstd with frames to skip": lambda body: SKIPPED + zstd.compress(body) + SKIPPED,
    "zstd in gzip": lambda body: packed(zstd.compress(body)),
    "UTF-8 with its mark": lambda body: b"\xef\xbb\xbf" + body,
    "UTF-16": lambda body: body.decode().encode("utf-16"),
    "UTF-16, big end first": lambda body: b"\xfe\xff" + body.decode().encode("utf-16-be"),
    "UTF-32": lambda body: body.decode().encode("utf-32"),
    "UTF-32, big end first": lambda body: b"\0\0\xfe\xff" + body.decode().encode("utf-32-be"),
    "UTF-16 in gzip": lambda body: packed(f" {body.decode()}\n".encode("utf-16")),
}


@pytest.mark.parametrize("body", [JSON, REPR, b"[]", b"{ }", b"[{}]"])
@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED)
def test_a_packed_body_is_read_as_what_is_in_it(
    pack: Callable[[bytes], bytes], body: bytes
) -> None:
    assert read_records(pack(body)) == read_records(body)
    assert sorted(texts_of(pack(body))) == sorted(texts_of(body))


DAMAGED: dict[str, tuple[bytes, str]] = {
    "gzip, cut off": (packed(JSON)[:-1], "it is gzip that ends in the middle (cut off)"),
    "gzip, header only": (packed(JSON)[:9], "it is gzip that ends in the middle (cut off)"),
    "gzip, second cut off": (
        packed(JSON) + packed(b"x")[:-3],
        "it is gzip that ends in the middle (cut off)",
    ),
    "gzip, other checksum": (
        packed(JSON)[:-8] + bytes(8),
        "it is gzip that is damaged (Error -3 while decompressing data: incorrect data check)",
    ),
    "gzip and more": (
        packed(JSON) + b"bye",
        "it is gzip with 3 bytes behind its end that cannot be unpacked",
    ),
    "gzip, zeros and more": (
        packed(JSON) + b"\0\0!",
        "it is gzip with 3 bytes behind its end that cannot be unpacked",
    ),
    "zstd, cut off": (zstd.compress(JSON)[:-3], "it is zstd that ends in the middle (cut off)"),
    "zstd and more": (
        zstd.compress(JSON) + b"!",
        "it is zstd with 1 byte behind its end that cannot be unpacked",
    ),
    "zstd, damaged": (
        streamed_zstd(JSON)[:-1] + b"\xff",
        "it is zstd that is damaged (Unable to decompress Zstandard data: Restored data doesn't "
        "match checksum)",
    ),
    "gzip of a part": (packed(JSON[:-1]), "inside gzip, it ends in the middle (cut off)"),
    "gzip of zstd of nothing": (
        packed(zstd.compress(b" ")),
        "inside zstd in gzip, it is empty",
    ),
    "UTF-16, odd": (
        "[]".encode("utf-16") + b"\0",
        "it begins with the byte order mark of UTF-16, which it is not from byte 6 on",
    ),
    "UTF-16, half a pair": (
        b"\xff\xfe[\0\x3d\xd8]\0",
        "it begins with the byte order mark of UTF-16, which it is not from byte 4 on",
    ),
    "UTF-16 of a part": ("[{".encode("utf-16"), "inside UTF-16, it ends in the middle (cut off)"),
}


@pytest.mark.parametrize(("body", "reason"), DAMAGED.values(), ids=DAMAGED)
def test_what_cannot_be_unpacked_is_refused_with_the_reason(body: bytes, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        read_records(body)
    assert str(refused.value) == reason
    with pytest.raises(NotRead):
        texts_of(body)


def test_no_flipped_bit_in_a_packed_body_gives_other_records() -> None:
    """gzip has a checksum; and zstd has one if whoever writes it asks for it."""
    wanted = read_records(JSON).records
    for whole in (packed(JSON), streamed_zstd(JSON)):
        for at in random.Random(7).sample(range(len(whole)), 60):
            spoilt = bytearray(whole)
            spoilt[at] ^= 1 << at % 8
            try:
                found = read_records(bytes(spoilt)).records
            except Refused:
                continue
            assert found == wanted  # a time, or what system wrote it


# Bounds


@pytest.mark.parametrize("pack", [packed, zstd.compress])
@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1025, 1 << 20, (1 << 20) + 1])
def test_exactly_so_many_bytes_may_come_out_and_no_more(
    pack: Callable[[bytes], bytes], size: int
) -> None:
    body = random.Random(size).randbytes(size)
    name = decompression.format_of(pack(body))
    assert inflated(pack(body), name, size) == body
    assert inflated(pack(body) + pack(body), name, 2 * size) == 2 * body
    if size:
        with pytest.raises(TooLarge):
            inflated(pack(body), name, size - 1)
        with pytest.raises(TooLarge):
            inflated(pack(body) + pack(body), name, 2 * size - 1)


def test_what_unpacks_to_more_than_may_be_is_refused(tmp_path: Path) -> None:
    body = b"[" + b" " * (3 << 20) + b"]"
    assert len(read_records(packed(body)).records) == 0
    archive = archive_of(tmp_path, [JSON, JSON, packed(body), zstd.compress(body)])
    manifest = convert(with_settings(archive, max_snapshot_mb=2))
    assert [one.reason for one in manifest.refused] == [
        f"it is {name} of more than 2 MB, and max_snapshot_mb is 2" for name in ("gzip", "zstd")
    ]


def test_what_unpacks_to_too_much_is_taken_in_once_there_is_room_for_it(tmp_path: Path) -> None:
    body = b"[" + b" " * (3 << 20) + b'{"vehicleID": 1}]'
    small = with_settings(archive_of(tmp_path, [JSON, packed(body)]), max_snapshot_mb=2)
    convert(small)
    found = check(small)
    assert (found.state, found.readable_now) == ("good", ())
    large = with_settings(small, max_snapshot_mb=4)
    found = check(large)
    assert (found.state, len(found.readable_now)) == ("good", 1)
    assert convert(large, large.identity(WEEK)).refused == []
    assert check(large).readable_now == ()


def test_many_tiny_members_are_all_read() -> None:
    members = b"".join(packed(JSON[at : at + 1]) for at in range(len(JSON)))
    assert inflated(members, "gzip", len(JSON)) == JSON
    with pytest.raises(Damaged):
        inflated(members[:-1], "gzip", len(JSON))


# Weeks


def archive_of(folder: Path, bodies: list[bytes]) -> Archive:
    """An archive of a minute each, nothing of it converted yet."""
    for minute, body in enumerate(bodies):
        path = folder / "in" / key_of(WEEK.start + timedelta(minutes=minute))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        os.utime(path, (1_637_000_000, 1_637_000_000))
    (folder / "out").mkdir(exist_ok=True)
    settings = dataclasses.replace(load(), spool=folder / "spool", spot_checks=0)
    return Archive(settings, open_root(str(folder / "in")), open_root(str(folder / "out")))


def with_settings(archive: Archive, **settings: object) -> Archive:
    changed = dataclasses.replace(archive.settings, **settings)  # type: ignore[arg-type]
    return Archive(changed, archive.source, archive.destination)


def convert(archive: Archive, replaces: str = "") -> Manifest:
    made = convert_week(archive, WEEK, replaces, 1, lambda _listing: lambda _hour: None, print)
    archive.list_again()
    assert made.manifest is not None
    return made.manifest


def check(archive: Archive, share: float = 1.0) -> WeekCheck:
    archive.list_again()
    return verify(archive, [WEEK], False, share=share).checks[0]


def numbered(number: int) -> bytes:
    return json.dumps([{"vehicleID": one, "minute": number} for one in range(40)]).encode()


BODIES = [numbered(number) for number in range(20)]


@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED)
def test_a_week_of_packed_snapshots_is_that_of_the_unpacked_ones(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    plain = convert(archive_of(tmp_path / "plain", BODIES))
    archive = archive_of(tmp_path / "packed", list(map(pack, BODIES)))
    manifest = convert(archive)
    assert manifest.output == plain.output
    assert (manifest.records, manifest.refused, manifest.fields) == (800, [], plain.fields)
    # What went in is what was stored.
    raw = sum(len(pack(body)) for body in BODIES)
    assert manifest.raw_bytes == sum(hour.raw_bytes or 0 for hour in manifest.hours) == raw
    key = inventory.key_of(WEEK, manifest.listing_sha256)
    data = archive.destination.read(key)
    entries = inventory.from_bytes(data, manifest.listing_sha256, key)
    assert [(one.size, one.records) for one in entries] == [
        (len(pack(body)), 40) for body in BODIES
    ]
    found = check(archive)
    assert (found.state, found.why) == ("good", "")


def test_a_week_of_all_kinds_is_restored_and_converted_again_to_the_same_bytes(
    tmp_path: Path,
) -> None:
    packs = list(PACKED.values())
    bodies = [pack(BODIES[at % 20]) for at, pack in enumerate(packs)]
    archive = archive_of(tmp_path, [*bodies, packed(b"<html>")])
    manifest = convert(archive)
    assert len(manifest.refused) == 1
    assert check(archive).state == "good"
    restore(archive, WEEK, open_root(str(tmp_path / "again")), "")
    again = Archive(
        dataclasses.replace(archive.settings, spool=tmp_path / "spool 2"),
        open_root(str(tmp_path / "again")),
        open_root(str(tmp_path / "out again")),
    )
    (tmp_path / "out again").mkdir()
    assert convert(again).output == manifest.output
    kept = tmp_path / "out/_refused" / str(WEEK) / manifest.refused[0].key
    assert kept.read_bytes() == packed(b"<html>")


def test_a_line_that_is_not_in_a_packed_snapshot_is_found(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, list(map(packed, BODIES)))
    convert(archive)
    key = key_of(WEEK.start)
    (tmp_path / "in" / key).write_bytes(packed(numbered(99)))
    listing = list_week(archive.source, WEEK)
    one = listing.snapshots[0]
    lines = gzip.decompress(archive.destination.read(FILE)).splitlines()
    mine = [line[:-45] for line in lines if time_in_line(one) in line]
    comparison = compare({time_in_line(one): mine}, [(one, archive.source.read(key))])
    assert "40 records of 40 cannot be found in the file" in comparison.faults[0]


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_packed_snapshots_in_a_bucket_are_read_with_and_without_a_content_encoding(
    ops: Run, bucket: str, tmp_path: Path, encoding: str
) -> None:
    client = boto3.client("s3")
    given = {"ContentEncoding": encoding} if encoding else {}
    for minute, body in enumerate(BODIES):
        key = key_of(WEEK.start + timedelta(minutes=minute))
        data = packed(body)
        client.put_object(Bucket=bucket.removeprefix("s3://"), Key=key, Body=data, **given)
    places = {"BUSTIMES_SOURCE": bucket, "BUSTIMES_DESTINATION": f"{bucket}/v2"}
    places["BUSTIMES_SPOOL"] = str(tmp_path / "spool")
    assert_done(ops(*FULL, "--weeks", WEEK, **places))
    destination = open_root(f"{bucket}/v2")
    manifest = json.loads(destination.read(f"_manifests/{WEEK}.json"))
    assert (manifest["records"], manifest["refused"]) == (800, [])
    assert len(gzip.decompress(destination.read(FILE)).splitlines()) == 800
    for options in ((), ("--share", "1.0")):
        proven = ops("verify", "--weeks", WEEK, *options, BUSTIMES_SPOT_CHECKS="9", **places)
        assert_done(proven)
        assert "Complete and correct." in proven.stdout


# Weeks of which most cannot be read

UNREADABLE = b"<html><title>Log in</title></html>"


@pytest.mark.parametrize(
    ("bad", "good", "share", "is_written"),
    [
        (20, 0, 0.5, False),
        (11, 9, 0.5, False),
        (10, 10, 0.5, True),
        (1, 19, 0.0, False),
        (0, 20, 0.0, True),
        (20, 0, 1.0, True),
    ],
)
def test_a_week_of_which_more_than_a_share_is_refused_is_not_written(
    tmp_path: Path, bad: int, good: int, share: float, is_written: bool
) -> None:
    bodies = [UNREADABLE] * bad + BODIES[:good]
    archive = with_settings(archive_of(tmp_path, bodies), max_refused_share=share)
    if is_written:
        assert len(convert(archive).refused) == bad
        assert check(archive).state == "good"
        return
    with pytest.raises(Problem) as problem:
        convert(archive)
    first = key_of(WEEK.start)
    sentence = (
        f"{WEEK} is not written: {bad} of its 20 snapshots could not be read, and "
        f"max_refused_share allows a share of {share:g}; such as {first}, because it is an HTML "
        "page (Log in)."
    )
    assert str(problem.value).startswith(sentence)
    assert "MAX_REFUSED_SHARE=1" in str(problem.value)
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == []
    assert not archive.spool.week(WEEK).has_something()


def test_what_is_too_large_counts_as_refused(tmp_path: Path) -> None:
    large = b"[" + b" " * (1 << 20) + b"]"
    archive = with_settings(archive_of(tmp_path, [large, large, JSON]), max_snapshot_mb=1)
    with pytest.raises(Problem, match=r"2 of its 3 snapshots .*max_snapshot_mb is 1"):
        convert(archive)


def test_a_week_that_an_older_version_wrote_without_reading_it_needs_attention(
    tmp_path: Path,
) -> None:
    """As when gzip was not read: all set aside, an empty file, and called proven."""
    archive = with_settings(archive_of(tmp_path, [UNREADABLE] * 20), max_refused_share=1.0)
    convert(archive)
    archive = with_settings(archive, max_refused_share=0.5)
    found = check(archive)
    assert (found.state, found.is_fine) == ("needs attention", False)
    assert found.why.startswith("20 of its 20 snapshots could not be read, such as raw/bustimes__")
    assert "MAX_REFUSED_SHARE=1 takes the week as it is" in found.remedy
    assert found.remedy.endswith(convert_again(WEEK))
    assert archive.destination.find(f"_verified/{WEEK}.json") is None
    # The same bytes, were they readable now, as gzip is by now: a refresh takes them in.
    for minute, body in enumerate(BODIES):
        (tmp_path / "in" / key_of(WEEK.start + timedelta(minutes=minute))).write_bytes(body)
    assert convert(archive, archive.identity(WEEK)).records == 800
    assert check(archive).state == "good"


@pytest.mark.usefixtures("destination")
def test_the_commands_end_with_1_and_say_so(
    ops: Run, tmp_path: Path, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive_of(tmp_path, [UNREADABLE] * 3 + BODIES[:2])
    monkeypatch.setenv("BUSTIMES_SOURCE", str(tmp_path / "in"))
    ran = ops(*FULL, "--weeks", WEEK)
    assert ran.returncode == 1
    assert f"{WEEK} is not written: 3 of its 5 snapshots could not be read" in ran.stderr
    assert list(destination.glob("*.gz")) == []
    assert_done(ops(*FULL, "--weeks", WEEK, BUSTIMES_MAX_REFUSED_SHARE="1"))
    verified = ops("verify", "--weeks", WEEK)
    assert verified.returncode == 1
    assert "1 needs attention" in verified.stdout
    assert "3 of its 5 snapshots could not be read" in verified.stdout
    assert_done(ops("verify", "--weeks", WEEK, BUSTIMES_MAX_REFUSED_SHARE="0.6"))


def test_zlib_alone_is_not_taken_for_gzip() -> None:
    for level in (1, 6, 9):
        assert decompression.format_of(zlib.compress(JSON, level)) == ""
    assert decompression.format_of(b"") == ""
