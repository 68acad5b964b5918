"""The output contract: what a week file and its manifest hold, whatever they were made with."""

import base64
import dataclasses
import gzip
import hashlib
import json
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import advice
from tasks.bustimes import manifest as manifests
from tasks.bustimes import weekfile
from tasks.bustimes.archive import Archive, convert_week, publish_waiting
from tasks.bustimes.hour import ConvertedHour
from tasks.bustimes.kernel import Kernel
from tasks.bustimes.listing import list_week
from tasks.bustimes.manifest import Manifest
from tasks.bustimes.snapshot import Refused, read_records, time_of
from tasks.compression import joined_crc32
from tasks.problem import Problem
from tasks.settings import load
from tasks.storage import open_root
from tasks.weeks import Week
from tests.archives import archive_in

WEEK = Week(2021, 45)


def convert(source: str, destination: str, processes: int = 2, **settings: Any) -> Archive:
    """Convert 2021-W45 and return the archive."""
    archive = Archive(
        dataclasses.replace(load(), **settings), open_root(source), open_root(destination)
    )
    convert_week(archive, WEEK, "", processes, lambda _listing: lambda _hour: None, print)
    return archive


def lines_of(archive: Archive) -> list[bytes]:
    data = archive.destination.read(manifests.file_of(WEEK))
    return gzip.decompress(data).splitlines(keepends=True)


def manifest_of(archive: Archive) -> Manifest:
    manifest = archive.manifest(WEEK)
    assert manifest is not None
    return manifest


def expected(folder: Path) -> list[tuple[str, dict[str, object]]]:
    """(snapshot_time, record) of every readable snapshot, in time order."""
    records = []
    for path in sorted((folder / "raw").iterdir()):
        time = time_of(f"raw/{path.name}")
        assert time is not None
        try:
            for record in read_records(path.read_bytes()).records:
                records.append((time.isoformat(), json.loads(record)))
        except Refused:
            continue
    return records


def test_every_record_of_every_snapshot_is_there_once_with_its_time_last(
    raw_week: Path, tmp_path: Path
) -> None:
    lines = lines_of(convert(str(raw_week), str(tmp_path / "out")))
    found = []
    for line in lines:
        record = json.loads(line)
        name, time = record.popitem()
        assert name == "snapshot_time"
        found.append((time, record))

    def as_text(pairs: list[tuple[str, dict[str, object]]]) -> list[str]:
        return sorted(f"{time} {json.dumps(record)}" for time, record in pairs)

    assert as_text(found) == as_text(expected(raw_week))


def test_a_line_has_no_spaces_between_tokens_and_is_utf8(raw_week: Path, tmp_path: Path) -> None:
    for line in lines_of(convert(str(raw_week), str(tmp_path / "out"))):
        assert line.endswith(b'+00:00"}\n')
        compact = json.dumps(json.loads(line), separators=(",", ":"))
        assert json.loads(line) == json.loads(compact)
        assert len(line.decode()) <= len(compact) + 1


def test_records_stand_hour_by_hour_and_inside_by_vehicle_then_time(
    make_snapshots: Callable[..., list[Path]], tmp_path: Path
) -> None:
    make_snapshots(tmp_path / "in", "2021-W45", hours=3)
    lines = lines_of(convert(str(tmp_path / "in"), str(tmp_path / "out")))
    order = [
        (record["snapshot_time"][:13], record["vehicleID"], record["snapshot_time"])
        for record in map(json.loads, lines)
    ]
    assert order == sorted(order)
    assert len({hour for hour, _, _ in order}) == 3


def test_in_snapshot_order_records_stand_as_they_came(raw_week: Path, tmp_path: Path) -> None:
    lines = lines_of(convert(str(raw_week), str(tmp_path / "out"), order="snapshot"))
    found = [json.loads(line) for line in lines]
    assert [(one.pop("snapshot_time"), one) for one in found] == expected(raw_week)


def test_the_same_input_gives_the_same_bytes_with_any_number_of_processes_and_any_source(
    raw_week: Path, bucket: str, tmp_path: Path
) -> None:
    for path in (raw_week / "raw").iterdir():
        open_root(bucket).write(f"raw/{path.name}", path.read_bytes())
    one = convert(str(raw_week), str(tmp_path / "one"), processes=1)
    three = convert(str(raw_week), str(tmp_path / "three"), processes=3)
    on_s3 = convert(bucket, f"{bucket}/v2", processes=2)
    data = one.destination.read(manifests.file_of(WEEK))
    assert three.destination.read(manifests.file_of(WEEK)) == data
    assert on_s3.destination.read(manifests.file_of(WEEK)) == data
    assert archive_in(tmp_path / "one") == archive_in(tmp_path / "three")


def test_the_manifest_describes_the_file(raw_week: Path, tmp_path: Path) -> None:
    archive = convert(str(raw_week), str(tmp_path / "out"))
    manifest = manifest_of(archive)
    data = archive.destination.read(manifests.file_of(WEEK))
    lines = lines_of(archive)
    paths = sorted((raw_week / "raw").iterdir())
    assert manifest.week == "2021-W45"
    assert manifest.week_over
    assert manifest.snapshots == len(paths) == 168
    assert manifest.raw_bytes == sum(path.stat().st_size for path in paths)
    assert manifest.records == manifest.output.lines == len(lines) == len(expected(raw_week))
    assert manifest.first_snapshot == "2021-11-08T00:00:05+00:00"
    assert manifest.last_snapshot == "2021-11-14T23:00:05+00:00"
    assert manifest.listing_sha256 == list_week(archive.source, WEEK).fingerprint
    assert manifest.output.bytes == len(data)
    assert manifest.output.uncompressed_bytes == sum(map(len, lines))
    assert manifest.output.sha256 == hashlib.sha256(data).hexdigest()
    digest = hashlib.sha256(data).digest()
    assert manifest.output.s3_sha256 == base64.b64encode(digest).decode()
    [refused] = manifest.refused
    assert archive.destination.find(f"_refused/2021-W45/{refused.key}") is not None
    assert refused.bytes == (raw_week / refused.key).stat().st_size
    assert "cut off" in refused.reason or "HTML" in refused.reason


def test_each_hour_can_be_read_alone_where_the_manifest_says(
    raw_week: Path, tmp_path: Path
) -> None:
    archive = convert(str(raw_week), str(tmp_path / "out"))
    manifest = manifest_of(archive)
    file = manifests.file_of(WEEK)
    together = b""
    for hour in manifest.hours:
        if hour.bytes:
            data = archive.destination.read(file, hour.offset, hour.bytes)
            text = zlib.decompressobj(wbits=-15).decompress(data)
            assert (len(text), zlib.crc32(text)) == (hour.uncompressed_bytes, hour.crc32)
            together += text
            lines = text.splitlines()
            assert len(lines) == hour.lines
            assert all(json.loads(one)["snapshot_time"].startswith(hour.hour) for one in lines)
    assert together == b"".join(lines_of(archive))
    assert sum(hour.snapshots for hour in manifest.hours) == manifest.snapshots


@pytest.mark.parametrize("level", [0, 6])
def test_a_week_file_is_one_gzip_member_without_optional_header_fields_and_time(
    raw_week: Path, tmp_path: Path, level: int
) -> None:
    archive = convert(str(raw_week), str(tmp_path / "out"), compression_level=level)
    data = archive.destination.read(manifests.file_of(WEEK))
    assert data[:3] == b"\x1f\x8b\x08"
    assert data[3] == 0  # flags
    assert data[4:8] == bytes(4)  # time
    member = zlib.decompressobj(wbits=31)
    text = member.decompress(data)
    assert member.eof
    assert member.unused_data == b""
    assert text == b"".join(lines_of(archive))
    manifest = manifest_of(archive)
    assert manifest.output.layout == "segments"
    first = manifest.hours[0]
    assert (first.offset, data[first.bytes + 5 : first.bytes + 10]) == (10, b"\0\0\0\xff\xff")


def test_a_week_of_more_than_four_gigabytes_is_one_member_too(tmp_path: Path) -> None:
    """gzip keeps a size modulo 2^32, and the CRC-32 of many hours is that of their text."""
    text = b'{"vehicleID":1,"snapshot_time":"2021-11-08T00:00:05+00:00"}\n' * (1 << 20)
    segment = zlib.compress(text, 1, wbits=-15)
    kernel = Kernel()
    kernel.begin(0, 0)
    kernel.sort(by_vehicle=False)
    segment, crc32 = kernel.segment_of(segment), zlib.crc32(text)
    times = (1 << 32) // len(text) + 1
    writer = weekfile._WeekWriter(tmp_path / "week.jsonl.gz")
    with writer:
        for number in range(times):
            hour = ConvertedHour(segment, crc32, 1 << 20, len(text), 1, 1, [], 0)
            writer.write(f"hour {number}", hour)
        writer.end()
    output = writer.output()
    assert output.uncompressed_bytes == times * len(text) > 1 << 32
    size = 0
    with gzip.open(tmp_path / "week.jsonl.gz") as file:  # which checks both
        while chunk := file.read(8 << 20):
            size += len(chunk)
    assert size == output.uncompressed_bytes
    trailer = (tmp_path / "week.jsonl.gz").read_bytes()[-4:]
    assert int.from_bytes(trailer, "little") == size % (1 << 32)


@given(st.lists(st.binary(max_size=3000), max_size=5))
def test_the_crc_of_texts_one_after_the_other_comes_from_theirs(texts: list[bytes]) -> None:
    whole = 0
    for text in texts:
        whole = joined_crc32(whole, zlib.crc32(text), len(text))
    assert whole == zlib.crc32(b"".join(texts))


@pytest.mark.parametrize("level", [1, 12])
def test_the_level_changes_the_size_and_nothing_else(
    raw_week: Path, tmp_path: Path, level: int
) -> None:
    usual = convert(str(raw_week), str(tmp_path / "usual"))
    other = convert(str(raw_week), str(tmp_path / "other"), compression_level=level)
    assert lines_of(usual) == lines_of(other)
    assert manifest_of(usual).output.sha256 != manifest_of(other).output.sha256


def test_a_manifest_is_read_back_as_it_was_written(raw_week: Path, tmp_path: Path) -> None:
    archive = convert(str(raw_week), str(tmp_path / "out"))
    manifest = manifest_of(archive)
    assert manifests.from_bytes(manifest.to_bytes(), "it") == manifest
    assert manifest.to_bytes() == archive.manifest_bytes(WEEK)


def _finished_in_the_spool(raw: Path, out: Path) -> Archive:
    """An archive whose 2021-W45 is converted and waits in the spool, and not yet published."""
    archive = Archive(load(), open_root(str(raw)), open_root(str(out)))
    weekfile.finish(
        list_week(archive.source, WEEK),
        True,
        archive.source,
        archive.spool.week(WEEK),
        archive.settings,
        1,
        lambda _hour: None,
    )
    return archive


def _again(archive: Archive) -> str:
    return convert_week(archive, WEEK, "", 1, lambda _listing: lambda _hour: None, print).how


def test_a_week_in_the_spool_is_published_unless_late_snapshots_came(
    raw_week: Path, tmp_path: Path
) -> None:
    archive = _finished_in_the_spool(raw_week, tmp_path / "out")
    assert _again(archive) == "uploaded from the spool, where an earlier run had left it"
    late = _finished_in_the_spool(raw_week, tmp_path / "late")
    (raw_week / "raw/bustimes__2021-11-09__00-30-05.json").write_bytes(b"[]")
    assert _again(late) == "converted"
    assert manifest_of(late).snapshots == 169


def test_a_week_in_the_spool_whose_raw_side_is_gone_is_published_and_not_lost(
    raw_week: Path, tmp_path: Path
) -> None:
    archive = _finished_in_the_spool(raw_week, tmp_path / "out")
    shutil.rmtree(raw_week / "raw")
    assert _again(archive).startswith("uploaded from the spool")
    assert manifest_of(archive).snapshots == 168


@pytest.mark.parametrize("damage", [b"", b"{", b"half"])
def test_a_week_that_was_damaged_in_the_spool_is_never_published(
    raw_week: Path, tmp_path: Path, damage: bytes
) -> None:
    archive = _finished_in_the_spool(raw_week, tmp_path / "out")
    spooled = archive.spool.week(WEEK)
    (spooled.file if damage == b"half" else spooled.manifest_file).write_bytes(damage)
    again = re.escape(advice.make("full", WEEKS="2021-W45"))
    with pytest.raises(Problem, match=rf"damaged in the spool .* {again} converts it again\."):
        publish_waiting(archive, spooled)
    assert not (tmp_path / "out").exists()
    again = _finished_in_the_spool(raw_week, tmp_path / "out")
    spooled.file.write_bytes(damage)
    assert _again(again) == "converted"


def _sync(archive: Archive) -> str:
    return publish_waiting(archive, archive.spool.week(WEEK))


@pytest.mark.parametrize("again", [_again, _sync])
def test_an_older_week_in_the_spool_never_replaces_a_newer_one(
    raw_week: Path, tmp_path: Path, again: Callable[[Archive], str]
) -> None:
    archive = _finished_in_the_spool(raw_week, tmp_path / "out")
    (raw_week / "raw/bustimes__2021-11-09__00-30-05.json").write_bytes(b"[]")
    newer = convert(str(raw_week), str(tmp_path / "out"), spool=tmp_path / "another-machine")
    manifest = newer.manifest_bytes(WEEK)
    assert re.search("finished by another run|in the archive already", again(archive))
    assert archive.manifest_bytes(WEEK) == manifest
    assert not archive.spool.waiting()


@pytest.mark.parametrize("on_s3", [False, True], ids=["in a folder", "on S3"])
def test_a_week_is_replaced_by_the_first_who_was_to_replace_it_and_not_once_more(
    raw_week: Path, bucket: str, tmp_path: Path, on_s3: bool
) -> None:
    destination = f"{bucket}/v2" if on_s3 else str(tmp_path / "out")
    archive = convert(str(raw_week), destination)
    archive.list_again()
    replaces = archive.identity(WEEK)
    (raw_week / "raw/bustimes__2021-11-09__00-30-05.json").write_bytes(b'[{"vehicleID": 7}]')

    def replace() -> str:
        return convert_week(archive, WEEK, replaces, 1, lambda _: lambda _: None, print).how

    assert not archive.has(WEEK, replaces)
    assert replace() == "converted"
    there = archive.destination.find(manifests.file_of(WEEK))
    assert replace() == "was finished by another run"
    assert archive.destination.find(manifests.file_of(WEEK)) == there
    archive.list_again()
    assert archive.has(WEEK, replaces)


def test_a_week_of_which_only_the_manifest_was_replaced_is_still_to_be_replaced(
    raw_week: Path, tmp_path: Path
) -> None:
    """The machine at it was taken away between the two."""
    archive = convert(str(raw_week), str(tmp_path / "out"))
    replaces = archive.identity(WEEK)
    (raw_week / "raw/bustimes__2021-11-09__00-30-05.json").write_bytes(b'[{"vehicleID": 7}]')
    newer = convert(str(raw_week), str(tmp_path / "newer"))
    archive.destination.write(manifests.key_of(WEEK), newer.manifest_bytes(WEEK) or b"")
    archive.list_again()
    assert not archive.has(WEEK, replaces)
    convert_week(archive, WEEK, replaces, 1, lambda _: lambda _: None, print)
    assert lines_of(archive) == lines_of(newer)
