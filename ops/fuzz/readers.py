"""The targets that read snapshots: whatever comes in, kernel and Python give the same, or refuse.

What the conversion gives is held against `tasks.bustimes.snapshot.read_records`, byte for byte, in
both orders; where the checked kernel is used, also against the kernel as it is shipped. The JSON
and repr readers are held against Python's own, the compressor against zlib.
"""

import ast
import datetime as dt
import gzip
import json
import random
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

from ops.fuzz.changes import BETWEEN_PARTS
from ops.fuzz.checked_kernel import CheckedKernel
from ops.fuzz.targets import Target, in_python
from tasks.bustimes import json_records, python_repr, snapshot
from tasks.bustimes.hour import BY_LINES, ConvertedHour, convert, line_end
from tasks.bustimes.kernel import Kernel
from tasks.bustimes.python_repr import CODE_POINTS, Escapes
from tasks.bustimes.snapshot import Records, Refused, VehicleKey
from tasks.bustimes.synthetic import snapshots as synthetic_snapshots
from tasks.bustimes.verify import second_reader
from tasks.compression import deflate_stream, unpack_segment
from tasks.decompression import zstd
from tasks.settings import PYTHON_ESCAPES

_MOST_BODIES = 8
_SECOND = "tasks/bustimes/verify/second_reader.py"
_PAIRS = json.JSONDecoder(object_pairs_hook=list, parse_int=str)
_TIME = dt.datetime(2021, 11, 8, tzinfo=dt.UTC)

_SYNTAX = (
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"'", b"\\", b" ", b"\n", b"\t", b"\0", b"\x1e"),
    *(b"[{", b"}]", b"},{", b'":', b',"', b"{}", b"[]", b"{},", b"[[", b"]]", b"null", b"true"),
    *(b"false", b"None", b"True", b"False", b"NaN", b"Infinity", b"-Infinity", b"nul", b"Nonee"),
    *(b"u'", b'u"', b"U'", b"b'", b"r'", b"u", b"L", b"l", b"12L", b"-", b"0", b"1e5", b"-0.0"),
    *(b"\\n", b"\\u00e9", b"\\ud83d", b"\\ude00", b"\\ud83d\\ude00", b"\\x41", b"\\U0001f600"),
    *(b"\\xc3\\xa9", b"\\303\\251", b"'\\xe9'", b"'\\u00e9'", b"u'\\u00e9'", b"'a': '\\xc3\\xa9'"),
    *(b"\\U00110000", b"\\uD8", b"\\x4", b"\\N{DASH}", b"\\777", b"\\0", b"\\/", b"\\'", b'\\"'),
    *(b"\xc3\xa9", b"\xe2\x80\x99", b"\xf0\x9f\x98\x80", b"\xff", b"\xc3", b"\xed\xa0\x80"),
    *(b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18", b"\xff\xfe", b"\xfe\xff", b"\0\0"),
    *(b"\xef\xbb\xbf", b"\x7f", b"\x0c", b"\x0b", b"\x85", b"\x1f", b"<html>", b"{}", b"[]"),
    *(b'"vehicleID"', b'"vehicleID":', b"'vehicleID': ", b"u'vehicleID': 7", b'"vehicle\\u0049D"'),
    *(b'"snapshot_time":', b'"snapshot_time":1', b"u'snapshot_time'", b'"a":1', b"u'a': None"),
    *(b'{"vehicleID":1}', b'{"vehicleID":"x"}', b"{u'vehicleID': 2L}", b'{"vehicleID":null}'),
)


def kernel_target(checked: CheckedKernel | None) -> Target:
    """Hours of snapshots; with the checked kernel where there is a compiler."""
    using: Kernel = checked or Kernel()
    shipped = Kernel() if checked else None

    def feed(data: bytes) -> None:
        if checked:
            checked.forget()
        _must_convert(data.split(BETWEEN_PARTS)[:_MOST_BODIES], using, shipped)

    counters = checked.counters if checked else lambda: b""
    return Target("kernel", feed, _bodies, _SYNTAX, counters, share=6)


def gzip_target(checked: CheckedKernel | None) -> Target:
    """Texts of all kinds, made of the input as a kind of recipe, through the compressor."""
    using: Kernel = checked or Kernel()

    def feed(data: bytes) -> None:
        if checked:
            checked.forget()
        _must_compress(list(_lines_by_recipe(data)), using)

    counters = checked.counters if checked else lambda: b""
    scraps = tuple(bytes([kind, number]) for kind in range(6) for number in (0, 1, 16, 99, 255))
    return Target("gzip", feed, lambda: [bytes(range(40)), b"\1\7\2\7"], scraps, counters, share=2)


def python_targets() -> list[Target]:
    files = ("json_records.py", "python_repr.py", "reasons.py", "snapshot.py")
    modules = tuple(f"tasks/bustimes/{name}" for name in files)
    return [
        in_python("json", _must_split, _bodies, _SYNTAX, modules),
        in_python("repr", _must_be_literal, _bodies, _SYNTAX, modules),
        in_python("second reader", _must_be_read_alike, _bodies, _SYNTAX, (*modules, _SECOND)),
    ]


def _bodies() -> list[bytes]:
    """Small snapshots of both formats, some of them by what the collectors met once in a while."""
    minute = dt.timedelta(minutes=1)
    made = [
        body
        for begin in (_TIME, _TIME + dt.timedelta(days=7))  # the format changes in between
        for _, body in synthetic_snapshots(begin, begin + minute, interval_seconds=60, vehicles=3)
    ]
    return [
        *made,
        BETWEEN_PARTS.join(made * 2),
        BETWEEN_PARTS.join((b'[{"a":1}]', b'[{"a":1,"b":2},{"b":1', b'[{"b":3},{"a":1}]')),
        BETWEEN_PARTS.join(('[{"é":1,"\x7f":2}]'.encode(), "[{\"é\": 1, '\x7f': 2}]".encode())),
        b"[" + b"{}," * 900 + b"{}]",
        b'[{"vehicleID":"x"},' + b"{}," * 900 + b"{}]",
        b"[{u'a': u'" + b'"' * 2000 + b"'}]",
        b'[{"vehicleID":1,"a":[1,{"b":null}],"c":"\\u00e9"},{"vehicleID":"x"},{"a":-0.5e-3}]',
        b"[{u'vehicleID': 12L, u'a': u\"it's\", 'b': '\\xe9\"', u'c': [None, True]}, {}]",
        b'[{"a":"\\ud800"},{"vehicleID":{"a":[]}},{"vehicleID":1234567890123456789}]',
        b"{}",
        b"<html>",
        gzip.compress(b'[{"a":1}]', mtime=0),
        gzip.compress(b'[{"a"', mtime=0) + gzip.compress(b":1}]", mtime=0),
        zstd().compress(b"[{u'a': 1L}]"),
        '[{"a":"é"}]'.encode("utf-16"),
    ]


# ---- the conversion


def _must_convert(bodies: list[bytes], using: Kernel, shipped: Kernel | None) -> None:
    snapshots = [
        (f"key {number}", _TIME + dt.timedelta(minutes=number), body)
        for number, body in enumerate(bodies)
    ]
    largest, setting = max(map(len, bodies)), _setting_for(b"".join(bodies))

    def converted(order: str, kernel: Kernel) -> ConvertedHour:
        return convert(
            snapshots,
            order,
            BY_LINES,
            count=len(snapshots),
            largest=largest,
            python_escapes=setting,
            using=kernel,
        )

    lines: list[tuple[VehicleKey, bytes]] = []
    records: list[bytes] = []
    refused = []
    counts: list[int | None] = []
    for key, time, body in snapshots:
        read = _read_or_reason(body, setting)
        if isinstance(read, str):
            refused.append((key, read))
            counts.append(None)
            continue
        counts.append(len(read.records))
        records += read.records
        end = line_end(time)
        texts = [b"{" + end[1:] if one == b"{}" else one[:-1] + end for one in read.records]
        lines += zip(read.vehicles, texts, strict=True)
    by_vehicle = sorted(lines, key=lambda line: (isinstance(line[0], tuple), line[0]))
    # Both orders would take twice the time: an input has one, by chance.
    is_by_vehicle = zlib.crc32(b"".join(bodies)) % 4 > 0
    order, wanted = ("vehicle", by_vehicle) if is_by_vehicle else ("snapshot", lines)
    hour = converted(order, using)
    text = _unpacked(hour)
    assert text == b"".join(line for _, line in wanted)
    assert (hour.lines, hour.uncompressed_bytes) == (len(lines), len(text))
    assert (hour.refused, hour.records) == (refused, counts)
    assert set(hour.vehicles) == {vehicle for vehicle, _ in lines}
    assert len(hour.vehicles) == len(set(hour.vehicles))
    assert shipped is None or converted(order, shipped) == hour
    _must_count(hour, records)


def _unpacked(hour: ConvertedHour) -> bytes:
    if not hour.segment:
        return b""
    return b"".join(unpack_segment(hour.segment, hour.uncompressed_bytes, hour.crc32))


def _read_or_reason(body: bytes, python_escapes: str) -> Records | str:
    try:
        return snapshot.read_records(body, python_escapes)
    except Refused as reason:
        return str(reason)


def _must_count(hour: ConvertedHour, records: list[bytes]) -> None:
    """Fields are counted right, but where a record has a name twice, or there are very many."""
    counts: dict[str, dict[str, int]] = {}
    for record in records:
        pairs = _PAIRS.decode(record.decode())
        if len({name for name, _ in pairs}) < len(pairs):
            return
        for name, value in snapshot.fields_of(record).items():
            kinds = counts.setdefault(name, {})
            kind = snapshot.kind_of(value)
            kinds[kind] = kinds.get(kind, 0) + 1
    if len(counts) < 256 and sum(map(len, counts)) < 4000:
        assert hour.fields == counts


# ---- the compressor


def _lines_by_recipe(recipe: bytes) -> Iterator[str]:
    """Texts of up to a million characters in all: runs, noise, and what stood there before."""
    room, texts = 1_500_000, [""]
    chance = random.Random(len(recipe))
    for at in range(0, len(recipe) - 1, 2):
        kind, number = recipe[at] % 6, recipe[at + 1]
        if kind == 0:
            text = chr(32 + number % 90) * (number * number + 1)
        elif kind == 1:
            text = "".join(chr(33 + chance.getrandbits(6)) for _ in range(number * 16))
        elif kind == 2:
            text = texts[-1 - number % len(texts)]
        elif kind == 3:
            text = texts[-1][: number * 8] + str(number) + texts[-1][number * 8 :]
        elif kind == 4:
            text = ",".join(str(chance.randrange(10 ** (number % 19 + 1))) for _ in range(number))
        else:
            text = texts[-1] * (number % 16)
        room -= len(text) + 100
        if room < 0:
            return
        texts.append(text)
        yield text


def _must_compress(texts: list[str], using: Kernel) -> None:
    records = [
        json.dumps({"vehicleID": number % 3, "a": text}, separators=(",", ":")).encode()
        for number, text in enumerate(texts or [""])
    ]
    body = b"[" + b",".join(records) + b"]"
    hour = convert(
        [("key", _TIME, body)], "vehicle", BY_LINES, count=1, largest=len(body), using=using
    )
    end = line_end(_TIME)
    by_vehicle = [record for vehicle in range(3) for record in records[vehicle::3]]
    text = b"".join(one[:-1] + end for one in by_vehicle)
    assert _unpacked(hour) == text
    stream = deflate_stream(text, 1 + len(texts) % 9)
    assert b"".join(unpack_segment(using.segment_of(stream), len(text), hour.crc32)) == text
    assert hour.fields == {"vehicleID": {"integer": len(records)}, "a": {"text": len(records)}}


# ---- the readers in Python


def _must_split(data: bytes) -> None:
    """What is split is what json reads; what json reads as a list of objects is split."""
    try:
        records = json_records.split(data)
    except json_records.NotRecords:
        try:
            text = data.decode()
            read = json.loads(text, parse_constant=_refuse, parse_int=str)
        except (ValueError, RecursionError):
            return
        assert not isinstance(read, list) or not all(isinstance(one, dict) for one in read)
        return
    read = json.loads(data.decode(), parse_constant=_refuse, parse_int=str)
    assert [json.loads(one, parse_int=str) for one in records] == read
    assert all(
        list(json.loads(one)) == list(wanted) for one, wanted in zip(records, read, strict=True)
    )


def _must_be_literal(data: bytes) -> None:
    """Where what is made of a repr can be read, Python reads the same in the repr itself.

    That is Python 3: `tests/python2_answers.tsv` has what Python 2 reads.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    try:
        made = python_repr.to_json(data, Escapes(b"", CODE_POINTS))
        read = json.loads(made, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            wanted = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return  # a long, or a word of JSON's: `tests/test_python_repr.py` has those
    assert _same(read, wanted), (read, wanted)


def _must_be_read_alike(data: bytes) -> None:
    """What can be read is read by verify's own reader as well, record for record."""
    setting = _setting_for(data)
    try:
        records = snapshot.read_records(data, setting).records
    except Refused:
        return
    texts = [second_reader.text_of(record) or b"" for record in records]
    assert sorted(second_reader.texts_of(data, setting)) == sorted(texts)


def _setting_for(data: bytes) -> str:
    """One of the values of `python_escapes`, by chance, but always the same."""
    return ("", *PYTHON_ESCAPES)[zlib.crc32(data) % 3]


def _same(one: Any, other: Any) -> bool:
    """Equal, of the same types; half surrogates and whole ones are the same text."""
    if isinstance(one, str) and isinstance(other, str):
        return one.encode("utf-16", "surrogatepass") == other.encode("utf-16", "surrogatepass")
    if isinstance(one, dict) and isinstance(other, dict):
        pairs = zip(one.items(), other.items(), strict=False)
        return len(one) == len(other) and all(_same(list(a), list(b)) for a, b in pairs)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and repr(one) == repr(other)


def _refuse(constant: str) -> None:
    raise ValueError(constant)
