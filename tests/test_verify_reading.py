"""What verify's readers promise: every fault of an hour named, every record told from every other.

The second reader is held against the conversion's thorough one, which shares nothing with it, on
whatever bodies the property tests of the conversion make up; the fields that are counted at machine
speed against those that the conversion counts.
"""

import gzip
import json
import random
import zlib
from collections import Counter
from typing import Any

import pytest
from both_ways import converted
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import (
    Record,
    damaged,
    edits,
    exactly,
    loose_repr,
    python2_repr,
    python2_snapshots,
    settings,
    snapshots,
)

from tasks.bustimes import snapshot
from tasks.bustimes.manifest import HourOfFile
from tasks.bustimes.verify import line_fields
from tasks.bustimes.verify.hour_reader import HourRead, fields_of_hour, read_hour
from tasks.bustimes.verify.second_reader import NotRead, text_of, texts_of
from tasks.compression import gzip_member
from tasks.settings import PYTHON_ESCAPES

HOUR = "2021-11-08T00"
TIME = b"2021-11-08T00:00:05+00:00"


# The second reader


def must_read_alike(body: bytes, python_escapes: str = "") -> None:
    """What the conversion reads, the second reader reads too, record for record."""
    try:
        records = snapshot.read_records(body, python_escapes).records
    except snapshot.Refused:
        return
    assert sorted(texts_of(body, python_escapes)) == sorted(str_text(record) for record in records)


def str_text(record: bytes) -> bytes:
    text = text_of(record)
    assert text is not None
    return text


@given(python2_snapshots, settings)
def test_it_reads_what_python_2_printed(records: list[Record], setting: str) -> None:
    must_read_alike(python2_repr(records).encode(), setting)


@given(python2_snapshots, st.integers(0, 2**32), st.sampled_from([2, 3]), settings)
def test_it_reads_any_python_literal(
    records: list[Record], seed: int, python: int, setting: str
) -> None:
    must_read_alike(loose_repr(records, random.Random(seed), python).encode(), setting)


@given(snapshots, st.booleans(), st.sampled_from([None, (",", ":")]))
def test_it_reads_any_json(
    records: list[Record], ascii_only: bool, separators: tuple[str, str] | None
) -> None:
    body = json.dumps(records, ensure_ascii=ascii_only, separators=separators)
    must_read_alike(body.encode("utf-8", "replace"))


@given(python2_snapshots, st.booleans(), edits, settings)
def test_it_reads_a_damaged_body_as_the_conversion_does_or_that_refuses_it(
    records: list[Record], is_repr: bool, edits: list[Any], setting: str
) -> None:
    body = python2_repr(records) if is_repr else json.dumps(records)
    must_read_alike(damaged(body, edits), setting)


TWICE = rb"[{'s': 'Caf\xc3\xa9'}, {'a': 1, 'Caf\303\251': '\xe2\x80\x99 \\ \''}, {'b': 2}]"
OF_PYTHON_2 = (b"{u'a': 1}", b"{'a': u''}", b'{u"a": 1}', b"{'a': 12L}", b"{U'a': None}")
OF_PYTHON_3 = (
    "{'a': 'é'}".encode(),
    '{"é": 1}'.encode(),
    rb"{'a': '\u2019'}",
    rb"{'\U0001f600': 1}",
)


@pytest.mark.parametrize("mark", [*OF_PYTHON_2, *OF_PYTHON_3])
def test_a_mark_anywhere_in_a_body_says_who_wrote_all_of_it(mark: bytes) -> None:
    for body in (TWICE[:-1] + b", " + mark + b"]", b"[" + mark + b", " + TWICE[1:]):
        for setting in ("", *PYTHON_ESCAPES):
            words = sorted(texts_of(body, setting))
            assert ('{"s":"Café"}'.encode() in words) == (mark in OF_PYTHON_2)
            assert ('{"s":"CafÃ©"}'.encode() in words) == (mark in OF_PYTHON_3)
            must_read_alike(body, setting)


def test_without_a_mark_it_goes_by_the_setting_of_the_conversion() -> None:
    assert '{"s":"Café"}'.encode() in texts_of(TWICE, "utf-8")
    assert '{"s":"CafÃ©"}'.encode() in texts_of(TWICE, "code-points")
    must_read_alike(TWICE, "utf-8")
    must_read_alike(TWICE, "code-points")
    with pytest.raises(NotRead):
        texts_of(TWICE)


@pytest.mark.parametrize("of_2", OF_PYTHON_2)
@pytest.mark.parametrize("of_3", OF_PYTHON_3)
def test_it_does_not_read_what_has_marks_of_both(of_2: bytes, of_3: bytes) -> None:
    for between in (b", ", b",", b", {'b': 3}, "):
        for one, other in ((of_2, of_3), (of_3, of_2)):
            with pytest.raises(NotRead):
                texts_of(b"[" + one + between + other + b"]", "utf-8")


def test_it_does_not_read_bytes_that_are_no_utf_8() -> None:
    for written in (rb"'\xe9'", rb"'\303'", rb"'\xed\xa0\xbd'"):
        with pytest.raises(NotRead):
            texts_of(b"[{u'a': %s}]" % written)


@pytest.mark.parametrize(
    "body",
    [
        b"[{'a': 'x}, {y'}, {'b': 1}]",
        b"""[{'a': 'x}, {"y'}, {'b': 'z}, {'}]""",
        b"[{u'a': 1, u'a': 2}, {u'b': [{u'c': 1}, {u'd': 2}]}]",
        b"[{u'a': u'Menu'}, {u'a': u\"it's\"}, {u'a': 12L, u'b': u'12L, 5'}]",
        b"[{u'a': -0.0, u'b': 1e-05, u'c': -12L, u'd': u'\\ud83d\\ude00', u'e': '\\xc3\\xa9'}]",
        b'[{"a": 1.50}, {"a": 1e999}, {"a": "\\ud83d"}, {"a": 123456789012345678901234567890}]',
        b'[{"a": "}, {"}, {"b": "\\u0041 },{"}]',
        b'[{"a":1},{"b":"}, {"}]',
        b'[{}, {"a": {}}, {"b": [[], [{}]]}]',
        b"[{'a': true, 'b': null}, {u'c': None}]",
        "[{'a': 'menu}, {u', 'b': 'é'}, {'c': '1L'}]".encode(),
        rb"[{'a': 'menu}, {u', 'b': '\u2019'}, {'c': 1}]",
        b"\xef\xbb\xbf [ ] ",
        b"{}",
    ],
)
def test_it_reads_what_looks_like_something_else(body: bytes) -> None:
    snapshot.read_records(body)
    must_read_alike(body)


@given(st.one_of(snapshots, python2_snapshots))
def test_two_records_have_one_text_only_if_they_are_exactly_the_same(records: list[Record]) -> None:
    """Written the same way, so that numbers that are the same have the same digits."""
    texts = [str_text(json.dumps(record).encode()) for record in records]
    stand_ins = [repr(exactly(record)) for record in records]
    for one, text in zip(stand_ins, texts, strict=True):
        for other, other_text in zip(stand_ins, texts, strict=True):
            assert (one == other) == (text == other_text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a":1}', '{"a":1.0}'),
        ('{"a":1}', '{"a":true}'),
        ('{"a":0}', '{"a":-0}'),
        ('{"a":0.0}', '{"a":-0.0}'),
        ('{"a":1}', '{"a":"1"}'),
        ('{"a":null}', "{}"),
        ('{"a":1,"b":2}', '{"b":2,"a":1}'),
        ('{"a":1,"a":2}', '{"a":2}'),
        ('{"a":45.5}', '{"a":45.50}'),
        ('{"a":0.1}', '{"a":0.1000000000000000055}'),
        ('{"a":1e5}', '{"a":100000.0}'),
        ('{"a":123456789012345678901234567890}', '{"a":123456789012345678901234567891}'),
        ('{"a":"x y"}', '{"a":"xy"}'),
        ('{"a":"x y"}', '{"a":"x  y"}'),
        ('{"a":"\\ud83d"}', '{"a":"\\ude00"}'),
        ('{"a":["b"]}', '{"a":{"b":0}}'),
    ],
)
def test_what_is_not_the_same_has_another_text(one: str, other: str) -> None:
    assert str_text(one.encode()) != str_text(other.encode())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a": "\\u2019 \\/ \\u0041"}', '{"a":"’ / A"}'),
        ('{"a":"\\ud83d\\ude00"}', '{"a":"😀"}'),
        ('{ "a" : [ 1 , 2 ] }', '{"a":[1,2]}'),
        ('{"\\u0061":1.50}', '{"a":1.50}'),
    ],
)
def test_what_is_only_written_otherwise_has_one_text(one: str, other: str) -> None:
    assert str_text(one.encode()) == str_text(other.encode())


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[", b"null", b"[1]", b'{"a": 1}', b"[{'a': 1}", b"[{'a': b'x'}]", b"\xff"],
)
def test_what_is_no_list_of_records_is_not_read(body: bytes) -> None:
    with pytest.raises(NotRead):
        texts_of(body)


# Fields and vehicles


@given(st.one_of(snapshots, python2_snapshots), st.booleans())
@example([{"a1": 1}, {"a2": 1.0}, {"a3": None}, {"a": 12}], False)
def test_an_hour_is_read_as_it_was_converted(records: list[Record], is_repr: bool) -> None:
    body = python2_repr(records) if is_repr else json.dumps(records)
    hour = converted(body.encode("utf-8", "replace"), order="vehicle", python_escapes="utf-8")
    said = said_of(hour.segment, hour.lines, hour.uncompressed_bytes, hour.crc32)
    read = read_hour(hour.segment, said, "vehicle", {TIME})
    assert read.fault == ""
    assert (read.lines, read.uncompressed_bytes) == (hour.lines, hour.uncompressed_bytes)
    assert read.vehicles == set(hour.vehicles)
    assert fields_of_hour(hour.segment, said) == hour.fields
    assert read.fields is not None
    # Only names that differ in digits may be taken for each other.
    assert _without_digits(read.fields) == _without_digits(hour.fields)


def _without_digits(fields: line_fields.Fields) -> dict[tuple[str, str], int]:
    counts: Counter[tuple[str, str]] = Counter()
    for name, kinds in fields.items():
        bare = "".join(letter for letter in name if letter not in "0123456789")
        for kind, times in kinds.items():
            counts[bare, kind] += times
    return counts


# An hour that is not as it should be


def line(vehicle: object = 1, time: bytes = TIME, more: bytes = b"") -> bytes:
    shown = json.dumps(vehicle).encode()
    return b'{"vehicleID":%s%s,"snapshot_time":"%s"}\n' % (shown, more, time)


LATER = b"2021-11-08T00:01:05+00:00"
GOOD = [line(1), line(1, LATER), line(2), line(10), line(10, LATER), line(None), line("a")]


def said_of(
    data: bytes, lines: int, size: int | None = None, crc32: int | None = None
) -> HourOfFile:
    """What a manifest says of the hour; of a gzip member, neither size nor CRC-32."""
    return HourOfFile(HOUR, 2, lines, 10, len(data), uncompressed_bytes=size, crc32=crc32)


def segment_of(text: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(text) + stream.flush(zlib.Z_FULL_FLUSH)


def read(lines: list[bytes], expected: int | None = None, order: str = "vehicle") -> HourRead:
    """The hour as a segment; it is read alike as a gzip member."""
    text = b"".join(lines)
    segment, member = segment_of(text), gzip_member(text, 1)
    count = len(lines) if expected is None else expected
    said = said_of(segment, count, len(text), zlib.crc32(text))
    found = read_hour(segment, said, order, {TIME, LATER})
    assert read_hour(member, said_of(member, count), order, {TIME, LATER}) == found
    return found


def read_member(member: bytes, lines: int = 7) -> HourRead:
    return read_hour(member, said_of(member, lines), "vehicle")


def read_segment(segment: bytes, text: bytes, lines: int = 7) -> HourRead:
    """A segment that should have that text."""
    return read_hour(segment, said_of(segment, lines, len(text), zlib.crc32(text)), "vehicle")


def test_an_hour_that_is_as_it_should_be_has_no_fault() -> None:
    found = read(GOOD)
    assert (found.fault, found.line, found.lines) == ("", 0, 7)
    assert found.vehicles == {1, 2, 10, ("str", '"a"'), snapshot.MISSING}
    assert found.fields == {"vehicleID": {"integer": 5, "text": 1, "null": 1}}
    assert read([line(2), line(1), line(1, LATER)], order="snapshot").fault == ""
    assert read([]).fault == ""
    assert read_member(b"", 0).fault == ""
    assert read_segment(b"", b"", 0).fault == ""


NOT_LAST = "does not have its snapshot_time once and last"


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        (b"{not json}\n", "is no JSON object"),
        (b"[1]\n", "is no JSON object"),
        (b"\n", "is no JSON object"),
        (line(more=b',"a":1.'), "is no JSON object"),
        (line(more=b',"a":NaN'), "is no JSON object"),
        (line(more=b',"a":"\xff"'), "is no JSON object"),
        (b" " + line(), "is no JSON object"),
        (b'{"snapshot_time":"%s","a":1}\n' % TIME, NOT_LAST),
        (line(more=b',"snapshot_time":1'), NOT_LAST),
        (b'{"a":{"b":1,"snapshot_time":"%s"}}\n' % TIME, NOT_LAST),
        (b'{"a":1}\n', NOT_LAST),
        (b"{}\n", NOT_LAST),
        (line(time=b"2021-11-08T00:00:05Z"), NOT_LAST),
        (line(time=b"2021-11-08T00-00-05+00:00"), NOT_LAST),
        (
            line(time=b"2021-11-08T01:00:05+00:00"),
            "is of 2021-11-08T01:00:05+00:00, which is outside the hour",
        ),
        (
            line(time=b"2021-11-08T00:02:05+00:00"),
            "is of 2021-11-08T00:02:05+00:00, when there was no readable snapshot",
        ),
        (line(0), "stands behind lines that come after it by vehicle, then time"),
    ],
)
@pytest.mark.parametrize("at", [1, 5])
def test_a_line_that_does_not_belong_is_named(wrong: bytes, fault: str, at: int) -> None:
    found = read([*GOOD[:at], wrong, *GOOD[at:]])
    assert (found.fault, found.line) == (fault, at + 1)


@pytest.mark.parametrize(
    ("lines", "order", "number"),
    [
        ([line(2), line(1)], "vehicle", 2),
        ([line(1), line(1, LATER), line(1)], "vehicle", 3),
        ([line("a"), line(1)], "vehicle", 2),
        ([line("a"), line(None)], "vehicle", 2),
        ([line(None), line(1.5)], "vehicle", 2),
        ([line(2**60), line(3)], "vehicle", 2),
        ([line(1, LATER), line(2)], "snapshot", 2),
    ],
)
def test_lines_out_of_order_are_named(lines: list[bytes], order: str, number: int) -> None:
    found = read(lines, order=order)
    assert found.line == number
    assert found.fault.startswith("stands behind lines that come after it by")
    assert read([*lines[: number - 2], lines[number - 1], lines[number - 2]], order=order).line == 0


def test_a_fault_far_into_an_hour_is_named_by_its_line() -> None:
    """Chunks of a megabyte are read at a time."""
    lines = [line(1, TIME, b',"text":"%s"' % (b"x" * 1000))] * 3000
    assert read(lines).fault == ""
    wrong = [*lines[:2500], line(0), *lines[2500:]]
    assert read(wrong).line == 2501
    assert read(wrong).fault.startswith("stands behind lines")


@pytest.mark.parametrize(
    ("lines", "expected", "fault"),
    [
        (GOOD[:-1], 7, "has 6 and not the 7 lines that its manifest says"),
        (GOOD, 6, "has more than the 6 lines that its manifest says"),
        (
            [*GOOD[:3], *GOOD[2:]],
            7,
            "has more than the 7 lines that its manifest says; line 4 is the one before it again",
        ),
        ([], 7, "has 0 and not the 7 lines that its manifest says"),
        ([b"".join(GOOD)[:-1]], 7, "has a last line without an end"),
    ],
)
def test_too_many_lines_and_too_few_are_counted(
    lines: list[bytes], expected: int, fault: str
) -> None:
    found = read(lines, expected)
    assert (found.fault, found.line) == (fault, 0)


MEMBER = gzip_member(b"".join(GOOD), 1)


def flipped(member: bytes, at: int) -> bytes:
    changed = bytearray(member)
    changed[at] ^= 1
    return bytes(changed)


@pytest.mark.parametrize(
    ("member", "fault"),
    [
        (flipped(MEMBER, -8), "is damaged: the checksum (CRC) of its gzip member does not fit"),
        (flipped(MEMBER, -1), "is damaged: the length in its gzip member does not fit"),
        (MEMBER[:-9], "ends in the middle of its gzip member"),
        (MEMBER[:-1], "ends in the middle of its gzip member"),
        (MEMBER[:5], "ends in the middle of its gzip member"),
        (MEMBER + MEMBER, "goes on behind the end of its gzip member"),
        (MEMBER + b"\0", "goes on behind the end of its gzip member"),
        (b"", "has no bytes"),
        (b"no gzip", "does not begin as gzip does"),
        (b"\x28\xb5\x2f\xfd zstd", "does not begin as gzip does"),
        (
            MEMBER[:3] + b"\x08" + MEMBER[4:10] + b"a.json\0" + MEMBER[10:],
            "is gzip of another tool, with optional header fields",
        ),
        (gzip.compress(b"{}" * 9)[:10] + b"\xff" * 99, "is damaged: its gzip member cannot be"),
    ],
)
def test_what_is_no_whole_gzip_member_is_named(member: bytes, fault: str) -> None:
    assert read_member(member).fault.startswith(fault)


def test_no_flipped_bit_of_a_member_goes_unnoticed_unless_it_changes_nothing() -> None:
    """Such as its time, or which of two equal pieces of text is repeated."""
    for at in range(len(MEMBER)):
        for bit in range(8):
            changed = bytearray(MEMBER)
            changed[at] ^= 1 << bit
            found = read_member(bytes(changed))
            assert found.fault or gzip.decompress(changed) == b"".join(GOOD)


TEXT = b"".join(GOOD)
SEGMENT = segment_of(TEXT)
NO_BYTES = b"\0\0\0\xff\xff"  # a stored block of none, as a segment ends


def finished(text: bytes) -> bytes:
    """A whole deflate stream."""
    return zlib.compress(text, wbits=-15)


@pytest.mark.parametrize(
    ("segment", "fault"),
    [
        (SEGMENT[:-1], "ends in the middle of a deflate block"),
        (SEGMENT[:-4], "ends in the middle of a deflate block"),
        (SEGMENT[:-5], "ends in the middle of a deflate block"),
        (SEGMENT[:20], "ends in the middle of a deflate block"),
        (b"", "is damaged: it unpacks to 0 and not the 427 bytes that its manifest says"),
        (SEGMENT + b"\0", "ends in the middle of a deflate block"),
        (SEGMENT + b"\x06", "is damaged: its deflate data cannot be read (invalid block type)"),
        (SEGMENT * 2, "is damaged: it unpacks to more than the 427 bytes that its manifest says"),
        (NO_BYTES, "is damaged: it unpacks to 0 and not the 427 bytes that its manifest says"),
        (finished(TEXT), "has a last deflate block, where readers of the file would stop"),
        (finished(TEXT) + SEGMENT, "has a last deflate block, where readers of the file would"),
        (b"\xff" + SEGMENT[1:], "is damaged: its deflate data cannot be read (invalid block type)"),
        (MEMBER, "is damaged: its deflate data cannot be read ("),
        (segment_of(TEXT.replace(b'"a"', b'"b"')), "is damaged: its checksum (CRC-32) is not the"),
        (segment_of(TEXT.replace(b'"a"', b'"ab"')), "is damaged: it unpacks to more than the "),
        (
            segment_of(TEXT.replace(b'"a"', b'""')),
            "is damaged: it unpacks to 426 and not the 427 bytes that its",
        ),
    ],
)
def test_what_is_no_whole_segment_is_named(segment: bytes, fault: str) -> None:
    found = read_segment(segment, TEXT)
    assert found.fault.startswith(fault)
    assert read_segment(SEGMENT + NO_BYTES, TEXT).fault == ""  # which says nothing


def test_a_segment_that_refers_to_what_is_before_it_cannot_be_read_alone() -> None:
    stream = zlib.compressobj(wbits=-15)
    parts = [stream.compress(TEXT) + stream.flush(zlib.Z_SYNC_FLUSH) for _ in range(2)]
    assert read_segment(parts[0], TEXT).fault == ""
    fault = "is damaged: its deflate data cannot be read (invalid distance too far back)"
    assert read_segment(parts[1], TEXT).fault == fault


def test_no_flipped_bit_of_a_segment_goes_unnoticed_unless_it_changes_nothing() -> None:
    for at in range(len(SEGMENT)):
        for bit in range(8):
            changed = bytearray(SEGMENT)
            changed[at] ^= 1 << bit
            found = read_segment(bytes(changed), TEXT)
            assert found.fault or zlib.decompress(bytes(changed) + b"\x03\0", -15) == TEXT


def test_what_unpacks_to_gigabytes_is_left_at_the_first_line_or_byte_too_many() -> None:
    bomb = GOOD[0] * 1_000_000
    found = read_member(gzip_member(bomb, 1))
    assert found.fault.startswith("has more than the 7 lines")
    assert found.lines == 0
    assert read_segment(segment_of(bomb), bomb).fault.startswith("has more than the 7 lines")
    fault = read_segment(segment_of(bomb), TEXT).fault
    assert fault.startswith(
        "is damaged: it unpacks to more than the 427 bytes that its manifest says"
    )


def test_a_line_without_end_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.bustimes.verify import hour_reader

    monkeypatch.setattr(hour_reader, "_LONGEST_LINE", 3 << 20)
    endless = b"[" * (8 << 20)
    fault = "has a line of more than 3,145,728 bytes"
    assert read_member(gzip_member(endless, 1), 1).fault == fault
    assert read_segment(segment_of(endless), endless, 1).fault == fault


def test_names_of_fields_that_differ_in_digits_are_told_apart_where_it_counts() -> None:
    names = [b',"platform1":1', b',"platform2":1', b',"platform2":2.5']
    lines = [line(more=name) for name in names]
    assert read(lines).fields == {
        "vehicleID": {"integer": 3},
        "platform1": {"integer": 1},
        "platform2": {"integer": 1, "number": 1},
    }
    # One without digits, read first, stands for all that look like it, but where it is counted.
    lines = [line(more=b',"gate":1'), line(more=b',"gate3":1')]
    assert read(lines).fields == {
        "vehicleID": {"integer": 2},
        "gate": {"integer": 2},
    }
    member = gzip_member(b"".join(lines), 1)
    assert fields_of_hour(member, said_of(member, 2))["gate3"] == {"integer": 1}


def test_made_up_names_without_end_are_not_all_kept() -> None:
    letters = "abcdefghijklmnopqrst"
    names = [f"{one}{other}{third}" for one in letters for other in letters for third in letters]
    count = line_fields.FieldCount()
    for at in range(30):
        fields = ",".join(f'"{name}":1' for name in names[at:])
        text = f'{{{fields},"snapshot_time":""}}\n'.encode()
        count.add([text[:-1]], text)
    assert count.take() is None
    count.add([GOOD[0][:-1]], GOOD[0])
    assert count.take() == {"vehicleID": {"integer": 1}}
