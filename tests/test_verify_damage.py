"""Verify finds and names each kind of damage, and says what to run.

What finds which damage. Surface is what every verify looks at; DEEP reads every byte and line as
well; SHARE=1.0 also compares every raw snapshot. An empty place: not found by that, though by what
is to its right.

    damage                                      surface      DEEP             SHARE=1.0
    flipped byte                                checksum     where it is      as DEEP
    the same, put on S3 by another tool                      checksum, where  as DEEP
    file cut off, hour cut off                  size         where it ends    as DEEP
    hour missing or doubled, sums made to fit   its hours    as surface       as surface
    hour missing in the manifest as well        listing      as surface       as surface
    hours in each other's place                 checksum     which, where     as DEEP
    the same, or one twice, and in the manifest              line, its time   as DEEP
    header, trailer or last block of gzip's own checksum     which it is      as DEEP
    lines doubled or missing                                 count of hour    as DEEP
    the same, manifest made to fit                           count of time    as DEEP
    the same, manifest and inventory made to fit                              record
    line that is no record, of another hour,
    of no snapshot, or in the wrong place                    line             as DEEP
    record with another value, or of another
    snapshot, all made to fit                                                 record
    manifest edited: hours, sums, listing       what it says as surface       as surface
    manifest edited: vehicles, fields, size of
    lines, the checksum that is not S3's                     what it says     as DEEP
    file of another week                        checksum     line, its time   as DEEP
    the same with its manifest                  its week     as surface       as surface
    file of another tool                        size         what it is not   as DEEP
    inventory missing, cut off or with a
    flipped byte                                which it is  as surface       as surface
    inventory edited: records, refused,
    manifest made to fit                                     what it says     as DEEP
    refused bytes missing or cut off            key          key              key
    refused bytes that are others                                             key
    `tokenized`, `compression_level`, reasons   nobody can tell
"""

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest

from tasks import advice
from tasks.bustimes.archive import Archive, convert_week
from tasks.bustimes.verify import WeekCheck, read_through, verify
from tasks.weeks import Week
from tests.verified_archive import (
    FILE,
    HOURS,
    UNREADABLE,
    WEEK,
    archive_at,
    archive_in,
    as_of_version_2,
    change_manifest,
    change_output,
    check,
    flipped,
    inventory_key,
    is_of_segments,
    joined,
    lines_of,
    manifest_of,
    refitted,
    remove,
    said,
    without_inventory,
    write_file,
    write_hours,
    write_inventory,
)

Make = Callable[..., list[Path]]

SURFACE, DEEP, SHARE = "surface", "DEEP", "SHARE"
DEPTHS = (SURFACE, DEEP, SHARE)


MEMBERS = "members"


@pytest.fixture(params=["folder", "bucket", MEMBERS])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    """A converted 2021-W45 of two hours, in a folder or in a bucket, with a refused snapshot.

    Or, in a folder, as version 2 wrote it: each hour a gzip member.
    """
    found = archive_at(request, tmp_path)
    if request.param == MEMBERS:
        as_of_version_2(found)
    return found


@pytest.fixture
def here(tmp_path: Path) -> Archive:
    """The same in a folder, where it is all one which it is."""
    return archive_in(str(tmp_path / "in"), str(tmp_path / "out"), tmp_path / "spool")


def look(archive: Archive, depth: str = SURFACE) -> WeekCheck:
    return check(archive, depth == DEEP, 1.0 if depth == SHARE else 0.0)


def read(archive: Archive, key: str) -> bytes:
    return archive.destination.read(key)


def flip(archive: Archive) -> None:
    data = read(archive, FILE)
    archive.destination.write(FILE, flipped(data, len(data) // 4))


def cut_off(archive: Archive) -> None:
    archive.destination.write(FILE, read(archive, FILE)[:-20])
    archive.list_again()


def parts_of(archive: Archive) -> tuple[bytes, bytes, bytes, bytes]:
    """The file: what stands before the hours, both of them, and what stands behind."""
    data, (first, second) = read(archive, FILE), manifest_of(archive)["hours"]
    begin, middle, end = first["offset"], second["offset"], second["offset"] + second["bytes"]
    return data[:begin], data[begin:middle], data[middle:end], data[end:]


def cut_off_hour(archive: Archive) -> None:
    """The end of the first hour is missing; the manifest fits the file as a whole."""
    header, first, second, end = parts_of(archive)
    write_file(archive, header + first[:-20] + second + end)


def without_second(archive: Archive) -> None:
    _, first, _, _ = parts_of(archive)
    text = b"".join(line + b"\n" for line in lines_of(archive, 0))
    write_file(archive, joined(first, text) if is_of_segments(archive) else first)


def doubled(archive: Archive) -> None:
    header, first, second, end = parts_of(archive)
    write_file(archive, header + first + first + second + end)


def swapped(archive: Archive) -> None:
    header, first, second, end = parts_of(archive)
    write_file(archive, header + second + first + end)


def swapped_throughout(archive: Archive) -> None:
    """In the manifest as well, as far as sums go."""
    texts = [b"".join(line + b"\n" for line in lines_of(archive, hour)) for hour in (1, 0)]
    write_hours(archive, texts)
    hours = manifest_of(archive)["hours"]
    for hour, lines in zip(hours, [hours[1]["lines"], hours[0]["lines"]], strict=True):
        hour["lines"] = lines
    change_manifest(archive, hours=hours)


def first_twice(archive: Archive) -> None:
    """The first hour stands in place of the second as well, and in the manifest."""
    refitted(archive, lambda _lines: lines_of(archive, 0), 1)


def with_last_block(archive: Archive) -> None:
    """A gzip reader stops behind the first hour."""
    header, first, second, end = parts_of(archive)
    text = b"".join(line + b"\n" for line in lines_of(archive, 0))
    stopping = zlib.compress(text, wbits=-15)
    hours = manifest_of(archive)["hours"]
    hours[0]["bytes"] = len(stopping)
    hours[1]["offset"] += len(stopping) - len(first)
    change_manifest(archive, hours=hours)
    write_file(archive, header + stopping + second + end)


def changed_at(at: int) -> Callable[[Archive], None]:
    """One bit of a byte of the file is another; the manifest fits the file as a whole."""
    return lambda archive: write_file(archive, flipped(read(archive, FILE), at))


def without_hour(archive: Archive) -> None:
    """The second hour is gone from the file and, as far as sums go, from the manifest."""
    without_second(archive)
    manifest = manifest_of(archive)
    (hour, _), lines = manifest["hours"], lines_of(archive, 0)
    change_output(
        archive, lines=len(lines), uncompressed_bytes=sum(len(line) + 1 for line in lines)
    )
    change_manifest(
        archive,
        hours=[hour],
        records=hour["lines"],
        snapshots=hour["snapshots"],
        raw_bytes=hour["raw_bytes"],
        last_snapshot="2021-11-08T00:50:05+00:00",
        fields={},
        refused=[],
    )


def of_another_week(archive: Archive) -> None:
    """As the file of the week before, which has the same number of everything."""

    def earlier(lines: list[bytes]) -> list[bytes]:
        return [line.replace(b"2021-11-08", b"2021-11-01") for line in lines]

    refitted(archive, earlier, 0)
    refitted(archive, earlier, 1)


def of_gzip(archive: Archive) -> None:
    """As the command gzip writes it: one member that holds its file's name."""
    lines = [*lines_of(archive, 0), *lines_of(archive, 1)]
    body = gzip.compress(b"".join(line + b"\n" for line in lines), mtime=0)
    write_file(archive, body[:3] + b"\x08" + body[4:10] + b"week.jsonl\0" + body[10:])
    made_one_hour(archive)


def made_one_hour(archive: Archive) -> None:
    """The manifest takes the whole file for one hour, the other for an empty one."""
    manifest = manifest_of(archive)
    first, second = manifest["hours"]
    size, count = manifest["output"]["bytes"], manifest["records"]
    begin, end = 0, size
    if is_of_segments(archive):
        begin, end = 10, size - 10
        first["uncompressed_bytes"] += second["uncompressed_bytes"]
        second |= {"uncompressed_bytes": 0, "crc32": 0}
    first |= {"offset": begin, "bytes": end - begin, "lines": count}
    second |= {"offset": end, "bytes": 0, "lines": 0}
    change_manifest(archive, hours=[first, second])


def no_gzip(archive: Archive) -> None:
    write_file(archive, b"Obj\x01\x04\x14avro.codec\x08null" * 9)
    made_one_hour(archive)


def double(lines: list[bytes]) -> list[bytes]:
    return [*lines[:7], lines[6], *lines[7:]]


def other_value(lines: list[bytes]) -> list[bytes]:
    at = next(at for at, line in enumerate(lines) if b'"delay":1' in line)
    return [*lines[:at], lines[at].replace(b'"delay":1', b'"delay":2'), *lines[at + 1 :]]


def of_other_snapshot(lines: list[bytes]) -> list[bytes]:
    """One vehicle's record as if it had been in the snapshot before it."""
    assert lines[1].endswith(b'T00:10:05+00:00"}')
    return [lines[0], lines[1].replace(b"T00:10:05", b"T00:00:05"), *lines[2:]]


Damage = Callable[[Archive], None]


def lines_changed(
    change: Callable[[list[bytes]], list[bytes]], fits: bool = True, inventory: bool = True
) -> Damage:
    return lambda archive: refitted(archive, change, with_counts=fits, with_inventory=inventory)


def with_line(line: bytes) -> Damage:
    """The second line of the file is another one."""
    return lines_changed(lambda lines: [lines[0], line, *lines[2:]], fits=False)


FIRST, SECOND = HOURS
LINE_2 = f"line 2 of the hour {FIRST} (the file's 2)"
TIME = b'"snapshot_time":"2021-11-08T00:10:05+00:00"'
DAMAGES: dict[str, tuple[Damage, dict[str, str]]] = {
    "flipped byte": (
        flip,
        {
            SURFACE: "the file's SHA-256 is not the one in its manifest",
            DEEP: f"the hour {FIRST} is damaged: ",
            SHARE: f"the hour {FIRST} is damaged: ",
        },
    ),
    "cut off": (
        cut_off,
        {
            SURFACE: "bytes, its manifest says",
            DEEP: f"the hour {SECOND} ends in the middle of a deflate block",
            SHARE: f"the file ends in the hour {SECOND}",
        },
    ),
    "cut off hour": (cut_off_hour, dict.fromkeys(DEPTHS, "bytes, and its hours have")),
    "missing second hour": (without_second, dict.fromkeys(DEPTHS, "bytes, and its hours have")),
    "doubled hour": (doubled, dict.fromkeys(DEPTHS, "bytes, and its hours have")),
    "swapped hours": (swapped, dict.fromkeys((DEEP, SHARE), f"the hour {FIRST} ")),
    "swapped hours, and in the manifest": (
        swapped_throughout,
        dict.fromkeys((DEEP, SHARE), "is of 2021-11-08T01:10:05+00:00, which is outside the hour"),
    ),
    "hour twice, and in the manifest": (
        first_twice,
        dict.fromkeys((DEEP, SHARE), "is of 2021-11-08T00:00:05+00:00, which is outside the hour"),
    ),
    "missing hour": (
        without_hour,
        dict.fromkeys(DEPTHS, "its manifest says 6 snapshots of "),
    ),
    "line missing": (
        lines_changed(lambda lines: lines[1:], fits=False),
        dict.fromkeys((DEEP, SHARE), f"the hour {FIRST} has 59 and not the 60 lines that its"),
    ),
    "line doubled": (
        lines_changed(double, fits=False),
        dict.fromkeys(
            (DEEP, SHARE),
            f"the hour {FIRST} has more than the 60 lines that its manifest says; "
            "line 8 is the one before it again",
        ),
    ),
    "line missing, and in the manifest, not in the inventory": (
        lines_changed(lambda lines: lines[1:], inventory=False),
        {
            DEEP: "it has 9 records of 2021-11-08T00:00:05+00:00, its inventory says 10",
            SHARE: "1 record of 10 cannot be found in the file",
        },
    ),
    "line missing, and in the manifest": (
        lines_changed(lambda lines: lines[1:]),
        {SHARE: "1 record of 10 cannot be found in the file"},
    ),
    "line doubled, and in the manifest": (
        lines_changed(double),
        {SHARE: "1 record in the file cannot be found in it"},
    ),
    "no JSON": (
        with_line(b"{not json}"),
        dict.fromkeys((DEEP, SHARE), f"{LINE_2} is no JSON object"),
    ),
    "no record": (with_line(b"[1]"), dict.fromkeys((DEEP, SHARE), f"{LINE_2} is no JSON object")),
    "time not last": (
        with_line(b"{%s,%s}" % (TIME, b'"a":1')),
        dict.fromkeys((DEEP, SHARE), f"{LINE_2} does not have its snapshot_time once and last"),
    ),
    "time of another hour": (
        with_line(b"{%s}" % TIME.replace(b"T00:", b"T01:")),
        dict.fromkeys((DEEP, SHARE), f"{LINE_2} is of 2021-11-08T01:10:05+00:00, which is outside"),
    ),
    "time of no snapshot": (
        with_line(b"{%s}" % TIME.replace(b":05+", b":06+")),
        dict.fromkeys((DEEP, SHARE), f"{LINE_2} is of 2021-11-08T00:10:06+00:00, when there was"),
    ),
    "out of order": (
        lines_changed(lambda lines: [lines[1], lines[0], *lines[2:]]),
        dict.fromkeys((DEEP, SHARE), f"{LINE_2} stands behind lines that come after it"),
    ),
    "other value": (
        lines_changed(other_value),
        {SHARE: "1 record of 10 cannot be found in the file: {"},
    ),
    "of other snapshot": (
        lines_changed(of_other_snapshot),
        {SHARE: "of raw/bustimes__2021-11-08__00-00-05.json, 1 record in the file cannot be found"},
    ),
    "of another week": (
        of_another_week,
        dict.fromkeys((DEEP, SHARE), "is of 2021-11-01T00:00:05+00:00, which is outside the hour"),
    ),
    "gzip's": (
        of_gzip,
        dict.fromkeys((DEEP, SHARE), "the file does not begin with the gzip header of a week file"),
    ),
    "no gzip": (
        no_gzip,
        dict.fromkeys((DEEP, SHARE), "the file does not begin with the gzip header of a week file"),
    ),
}
OF_MEMBERS: dict[str, dict[str, str]] = {
    "cut off": {
        SURFACE: "bytes, its manifest says",
        DEEP: f"the hour {SECOND} ends in the middle of its gzip member",
        SHARE: f"the file ends in the hour {SECOND}",
    },
    "gzip's": dict.fromkeys(
        (DEEP, SHARE), f"the hour {FIRST} is gzip of another tool, with optional"
    ),
    "no gzip": dict.fromkeys((DEEP, SHARE), f"the hour {FIRST} does not begin as gzip does"),
}
"""What is said otherwise of a week whose hours are gzip members."""
OF_SEGMENTS: dict[str, tuple[Damage, dict[str, str]]] = {
    "header": (
        changed_at(4),
        dict.fromkeys((DEEP, SHARE), "the file does not begin with the gzip header of a week file"),
    ),
    "checksum in the trailer": (
        changed_at(-8),
        dict.fromkeys((DEEP, SHARE), "the file does not end with the gzip trailer of its hours"),
    ),
    "size in the trailer": (
        changed_at(-1),
        dict.fromkeys((DEEP, SHARE), "the file does not end with the gzip trailer of its hours"),
    ),
    "last block": (
        changed_at(-10),
        dict.fromkeys((DEEP, SHARE), "the file does not end with the gzip trailer of its hours"),
    ),
    "last block too early": (
        with_last_block,
        dict.fromkeys(
            (DEEP, SHARE),
            f"the hour {FIRST} has a last deflate block, where readers of the file would stop",
        ),
    ),
}
"""What can be wrong only where a week is one member."""


IN_A_BUCKET = ("flipped byte", "cut off", "missing hour", "other value")
"""Where files have checksums that S3 keeps, and are read otherwise; that is all the difference."""


@pytest.mark.parametrize(
    ("archive", "depth", "name"),
    [
        *(("folder", depth, name) for depth in DEPTHS for name in [*DAMAGES, *OF_SEGMENTS]),
        *((MEMBERS, depth, name) for depth in DEPTHS for name in DAMAGES),
        *(("bucket", SHARE, name) for name in IN_A_BUCKET),
    ],
    indirect=["archive"],
)
def test_damage_is_found_and_named(archive: Archive, name: str, depth: str) -> None:
    damage, expected = (DAMAGES | OF_SEGMENTS)[name]
    if not is_of_segments(archive):
        expected = OF_MEMBERS.get(name, expected)
    damage(archive)
    found = look(archive, depth)
    if depth not in expected:
        assert found.state == "good", said(found)
        return
    assert found.state == "damaged"
    assert expected[depth] in said(found)
    again = advice.make("full", WEEKS="2021-W45", REFRESH=1)
    first = f"Remove {archive.destination.url}/{FILE} and run"
    removed = f"{first} {again.removesuffix(' REFRESH=1')}"
    if_it_is_there = f"If the source still has the whole week, r{removed[1:]}"
    assert found.remedy in (f"Run {again}", removed, if_it_is_there)


def test_a_file_of_another_size_is_damaged(archive: Archive) -> None:
    data = read(archive, FILE)
    archive.destination.write(FILE, data[:-1])
    found = look(archive)
    assert found.state == "damaged"
    assert found.why == f"the file has {len(data) - 1:,} bytes, its manifest says {len(data):,}"


def test_a_flipped_byte_where_nothing_is_checked_but_the_whole_is_found(archive: Archive) -> None:
    """In the header of a member, where gzip keeps a time."""
    is_joined = is_of_segments(archive)
    archive.destination.write(FILE, flipped(read(archive, FILE), 4))
    assert look(archive).why == "the file's SHA-256 is not the one in its manifest"
    found = look(archive, DEEP)
    assert ("although every line can be read" in said(found)) != is_joined
    assert ("the file does not begin with the gzip header" in said(found)) == is_joined


@pytest.mark.parametrize("archive", ["bucket"], indirect=True)
def test_a_file_that_another_tool_put_on_s3_is_read_when_deep(
    bucket: str, archive: Archive
) -> None:
    data = read(archive, FILE)
    client = boto3.client(
        "s3",
        region_name="us-east-1",
        config=boto3.session.Config(request_checksum_calculation="when_required"),
    )
    client.put_object(
        Bucket=bucket.removeprefix("s3://"), Key=f"v2/{FILE}", Body=flipped(data, len(data) // 4)
    )
    assert look(archive).state == "good"
    found = look(archive, DEEP)
    assert found.why == "the file's SHA-256 is not the one in its manifest"
    assert any(detail.startswith(f"the hour {FIRST} is damaged") for detail in found.details)


def test_bytes_behind_the_last_hour_are_found(here: Archive) -> None:
    """The manifest's hours are right, and its size is the file's: only together they cannot be."""
    hours = manifest_of(here)["hours"]
    data = read(here, FILE)
    write_file(here, data + b"\0" * 10)
    assert "bytes, and its hours have" in look(here).why
    manifest = here.manifest(WEEK)
    assert manifest is not None
    assert manifest.hours[1].bytes == hours[1]["bytes"]
    assert read_through(here, WEEK, manifest).startswith("its manifest says")


def test_a_week_of_empty_snapshots_only_is_a_file_too(
    here: Archive, make_snapshots: Make, tmp_path: Path
) -> None:
    week = Week(2021, 46)
    for path in make_snapshots(tmp_path / "in", "2021-W46"):
        path.write_bytes(b"[]")
    convert_week(here, week, "", 1, lambda _listing: lambda _hour: None, print)
    assert verify(here, [week], False, share=1.0).is_fine
    here.destination.write("2021-W46.jsonl.gz", gzip.compress(b"{}\n")[:20])
    found = verify(here, [week], True).checks[0]
    assert "the file does not begin with the gzip header of a week file" in said(found)
    assert "the file does not end with the gzip trailer of its hours" in said(found)


def test_read_through_says_what_is_wrong_or_nothing(archive: Archive) -> None:
    manifest = archive.manifest(WEEK)
    assert manifest is not None
    assert read_through(archive, WEEK, manifest) == ""
    data = read(archive, FILE)
    archive.destination.write(FILE, data[:-20])
    assert read_through(archive, WEEK, manifest).startswith("the file's SHA-256 is not the one")
    assert read_through(archive, Week(2021, 44), manifest) == "its manifest is that of 2021-W45"


# The inventory


@pytest.mark.parametrize("depth", DEPTHS)
def test_an_inventory_that_is_gone_or_damaged_is_found(archive: Archive, depth: str) -> None:
    key = inventory_key(archive)
    data = read(archive, key)
    for damaged in (flipped(data, len(data) // 2), data[:-9], b""):
        archive.destination.write(key, damaged)
        found = look(archive, depth)
        assert found.state == "damaged"
        assert found.why == f"its inventory, {key}, is not the one in its manifest"
        assert found.remedy == f"Run {advice.make('full', WEEKS='2021-W45', REFRESH=1)}"
    remove(archive.destination, key)
    assert look(archive, depth).why == f"its inventory, {key}, is gone"
    remove(archive.source, UNREADABLE)
    found = look(archive, depth)
    assert "and 1 of 12 raw snapshots in it are gone from the source" in found.why
    assert not found.can_be_converted
    assert key in found.remedy


def test_a_week_of_before_manifests_told_of_inventories_is_good_without(here: Archive) -> None:
    without_inventory(here)
    assert look(here, DEEP).state == "good"


@pytest.mark.parametrize(
    ("counts", "why"),
    [
        (
            [10, 0, *[10] * 10],
            "it has 10 records of 2021-11-08T00:10:05+00:00, its inventory says 0",
        ),
        ([None, *[10] * 11], "only one of its manifest and its inventory says that raw/bustimes__"),
    ],
)
def test_an_inventory_that_says_something_else_is_found_by_reading(
    here: Archive, counts: list[int | None], why: str
) -> None:
    write_inventory(here, counts)
    assert look(here).state == "good"
    assert why in said(look(here, DEEP))


# Refused snapshots


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_refused_snapshot_whose_bytes_are_not_kept_is_damage(here: Archive, depth: str) -> None:
    here.destination.write(f"_refused/{WEEK}/{UNREADABLE}", b"other")
    found = look(here, depth)
    assert found.state == "damaged"
    assert UNREADABLE in found.why


def test_refused_bytes_that_are_not_the_snapshots_are_found_by_comparing(archive: Archive) -> None:
    key = f"_refused/{WEEK}/{UNREADABLE}"
    archive.destination.write(key, flipped(read(archive, key), 7))
    assert look(archive, DEEP).state == "good"
    found = look(archive, SHARE)
    assert found.state == "damaged"
    assert found.why == f"what is kept of {UNREADABLE} under _refused/ is not the raw snapshot"
