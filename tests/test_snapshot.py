"""What is promised of a raw snapshot: its time, each record exactly, or a reason why not."""

import ast
import datetime as dt
import json
import random
from pathlib import Path
from typing import Any

import pytest
from both_ways import converted, read_records
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    Long,
    Nothing,
    Record,
    damaged,
    edits,
    exactly,
    loose_repr,
    names,
    python2_repr,
    python2_snapshots,
    settings,
    snapshots,
    texts,
    what_json_reads,
    what_python_reads,
    whole_numbers,
)

from tasks.bustimes.snapshot import Refused, key_of, time_of


def read(body: bytes, python_escapes: str = "") -> list[Record]:
    return [json.loads(record) for record in read_records(body, python_escapes).records]


def read_or_reason(body: bytes, python_escapes: str = "") -> list[Record] | str:
    try:
        return read(body, python_escapes)
    except Refused as refusal:
        return str(refusal)


def reason_against(body: bytes) -> str:
    with pytest.raises(Refused) as refusal:
        read_records(body)
    return str(refusal.value)


# Bodies


@given(python2_snapshots)
def test_every_record_of_a_python_2_repr_is_kept_value_for_value(records: list[Record]) -> None:
    body = python2_repr(records)
    assert exactly(read(body.encode(), "utf-8")) == exactly(records)
    assert exactly(records) == exactly(what_python_reads(body, "utf-8"))


@given(python2_snapshots, settings)
def test_a_snapshot_that_says_who_wrote_it_needs_no_setting(
    records: list[Record], setting: str
) -> None:
    body = python2_repr([*records, {"mark of Python 2": 1}])
    assert exactly(read(body.encode(), setting)[:-1]) == exactly(records)


@given(snapshots, st.integers(0, 2**32))
def test_every_record_of_any_literal_of_python_3_is_kept_value_for_value(
    records: list[Record], seed: int
) -> None:
    body = loose_repr(records, random.Random(seed))
    wanted = exactly(ast.literal_eval(body))
    assert exactly(read(body.encode(), "code-points")) == wanted == exactly(records)


@given(python2_snapshots, st.integers(0, 2**32))
def test_every_record_of_any_literal_of_python_2_is_kept_value_for_value(
    records: list[Record], seed: int
) -> None:
    body = loose_repr(records, random.Random(seed), python=2)
    assert exactly(read(body.encode(), "utf-8")) == exactly(records)


@given(snapshots, st.booleans())
def test_every_record_of_a_json_body_is_kept_value_for_value(
    records: list[Record], ascii_only: bool
) -> None:
    body = json.dumps(records, ensure_ascii=ascii_only).encode("utf-8", "replace")
    assert exactly(read(body)) == exactly(json.loads(body))


@given(snapshots)
def test_the_content_tells_the_format_so_both_read_alike(records: list[Record]) -> None:
    from_repr = read_records(python2_repr(records).encode())
    from_json = read_records(json.dumps(records).encode())
    assert exactly(list(map(json.loads, from_repr.records))) == exactly(
        list(map(json.loads, from_json.records))
    )
    assert from_repr.vehicles == from_json.vehicles


@given(
    st.one_of(python2_snapshots.map(python2_repr), snapshots.map(json.dumps)),
    edits,
    settings,
)
def test_a_damaged_body_is_refused_or_read_as_python_reads_it(
    body: str, edits: list[Any], setting: str
) -> None:
    bad = damaged(body, edits)
    outcome = read_or_reason(bad, setting)
    assert outcome != ""
    try:
        text = bad.removeprefix(b"\xef\xbb\xbf").strip().decode()
    except UnicodeDecodeError:
        assert isinstance(outcome, str)
        return
    wanted = [] if text == "{}" else what_python_reads(text, setting)
    if isinstance(outcome, list):
        assert wanted is not Nothing
        assert exactly(outcome) == exactly(wanted)
    elif isinstance(what_json_reads(text.encode()), list):
        assert any(not isinstance(item, dict) or "snapshot_time" in item for item in wanted)


@given(st.binary(max_size=40), st.sampled_from([b"", b"[", b"[{u'a': u'", b'[{"a": "']))
def test_any_bytes_at_all_are_read_or_refused(noise: bytes, start: bytes) -> None:
    assert read_or_reason(start + noise) != ""


def test_the_real_snapshot_equals_what_literal_eval_reads(real_snapshot: Path) -> None:
    body = real_snapshot.read_bytes()
    wanted = ast.literal_eval(body.decode())
    given_back = read_records(body)
    assert len(wanted) == len(given_back.records) == 333
    for record, line in zip(wanted, given_back.records, strict=True):
        assert exactly(json.loads(line)) == exactly(record)
    assert given_back.vehicles == [record["vehicleID"] for record in wanted]
    assert converted(body).tokenized == 0
    as_json = read_records(json.dumps(wanted).encode())
    assert (as_json.records, as_json.vehicles) == (given_back.records, given_back.vehicles)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b" {} \n",
        b"[ ]",
        b"{ }",
        b"{\r\n}\n",
        b"\xef\xbb\xbf{ \t }",
        b"\xef\xbb\xbf[]",
        b"\xef\xbb\xbf{}\r\n",
    ],
)
def test_no_vehicles_at_all_is_an_empty_snapshot(body: bytes) -> None:
    assert read(body) == []


@pytest.mark.parametrize("body", ['[{"a": "é"}]', "[{u'a': u'\\xe9'}]", "[{'a': 'é'}]"])
def test_a_byte_order_mark_and_space_around_a_body_are_no_part_of_it(body: str) -> None:
    assert read(b"\xef\xbb\xbf \n" + body.encode() + b"\n") == [{"a": "é"}]


# Who wrote it


def test_two_equal_words_of_python_2_are_equal_in_the_week() -> None:
    """As issue 14 has it; the first was once read as by Python 3, and proven."""
    body = rb"[{'s': 'Caf\xc3\xa9', u't': u'Caf\xe9'}]"
    assert read(body) == [{"s": "Café", "t": "Café"}]


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (rb"[{'s': 'Caf\xc3\xa9', u't': u'Caf\xe9'}]", "Café"),
        (rb"[{'s': 'Caf\303\251'}, {'s': 1L}]", "Café"),
        ("[{'s': 'Caf\\xc3\\xa9'}, {'t': 'é'}]".encode(), "CafÃ©"),
        (rb"[{'s': 'Caf\xc3\xa9'}, {'t': '\u2019'}]", "CafÃ©"),
        (rb"[{'s': 'Caf\xc3\xa9'}, {'t': '\\u2019'}]", {"utf-8": "Café", "code-points": "CafÃ©"}),
        (rb"[{'s': 'plain'}]", "plain"),
        (rb'[{"s": "\u00e9"}]', "é"),
        (rb'[{"s": "Caf\u00e9", "t": None}]', "Café"),
    ],
)
def test_the_body_says_who_wrote_it_or_the_setting_does(
    body: bytes, wanted: str | dict[str, str]
) -> None:
    for setting in ("utf-8", "code-points", ""):
        word = wanted.get(setting) if isinstance(wanted, dict) else wanted
        if word is None:
            assert "set python_escapes" in reason_against(body)
        else:
            assert read(body, setting)[0]["s"] == word
            assert read_records(body, setting).has_asked_setting == isinstance(wanted, dict)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (rb"[{'s': '\xc3\xa9'}]", r"its literal '\xc3\xa9' holds bytes if Python 2 wrote it"),
        (rb"[{'s': '\xc3\xa9', 't': 'x'}", "it ends in the middle (cut off)"),
        (rb"[{'s': '\xc3\xa9'}, 5]", "it is a list that holds a number where a record should be"),
        (rb"[{'s': '\xc3\xa9', 't': b''}]", "it is neither JSON nor Python's repr"),
        (rb"[{'s': '\xc3\xa9', 't': '\x4'}]", "it is not Python's repr"),
        (rb'[{"it\'s": "\xc3\xa9"}]', r'its literal "\xc3\xa9" holds bytes if Python 2 wrote it'),
        (rb"[{u'a': 1, 's': '\xe9'}]", r"its literal '\xe9' holds bytes, as in Python 2, that are"),
        (rb"[{u'a': 1, 's': '\u00e9'}]", r"only Python 2 prints u'a', and only Python 3 the lit"),
        ("[{u'a': u'é'}]".encode(), "only Python 2 prints u'a', and only Python 3 characters that"),
        ("[{'a': 5L, 'b': 'é'}]".encode(), "only Python 2 prints 5L, and only Python 3 characters"),
        (rb"[{'snapshot_time': '\xe9'}]", r"its literal '\xe9' holds bytes if Python 2 wrote it"),
    ],
)
def test_what_has_no_meaning_or_two_is_refused_with_that_reason(body: bytes, reason: str) -> None:
    assert reason in reason_against(body)


def test_a_long_literal_is_not_shown_whole_and_nothing_in_it_is_a_control_character() -> None:
    reason = reason_against(b"[{'s': '\x1b[2J" + rb"\xc3\xa9" * 5000 + b"'}]")
    assert reason.isprintable()
    assert len(reason) < 300


def test_the_constants_of_json_are_read_inside_a_repr() -> None:
    body = b"[{u'a': true, u'b': false, u'c': null, u'd': u'null'}]"
    assert read(body) == [{"a": True, "b": False, "c": None, "d": "null"}]


def test_json_stays_json_however_late_its_first_text_comes() -> None:
    assert read(b"[" + b"{}, " * 5000 + b'{"a": "b\\/c"}]')[-1] == {"a": "b/c"}


def test_an_int_beyond_what_python_converts_is_kept_digit_for_digit() -> None:
    digits = b"7" * 5000
    for other in (b'"x"', b'"\\ud800"'):
        body = b'[{"a": %s, "vehicleID": %s}]' % (other, digits)
        assert read_records(body).records == [b'{"a":%s,"vehicleID":%s}' % (other, digits)]


PLAIN_REPR = "[{u'vehicleID': 101, u'signMessage': u'Blue to Gresham'}]"
PLAIN_JSON = '[{"vehicleID": 101, "signMessage": "Blue to Gresham"}]'


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "it is empty"),
        (b" \r\n\t", "it is empty"),
        (b"\xef\xbb\xbf", "it is empty"),
        (b"<!DOCTYPE html><html><body>503</body></html>", "it is an HTML page"),
        (b'\n<?xml version="1.0"?><Error/>', "it is XML or HTML"),
        (b'[{"vehicleID": 101, "signMessage": "Blue', "it ends in the middle (cut off)"),
        (b'[{"vehicleID": 101}, {"vehicleID": 10', "it ends in the middle (cut off)"),
        (b'[{"vehicleID": 101}', "it ends in the middle (cut off)"),
        (b"[{u'vehicleID': 101, u'signMessage': u'Blue", "it ends in the middle (cut off)"),
        (b"[{u'vehicleID': 101}, {u'vehicleID': No", "it ends in the middle (cut off)"),
        (b"[{u'vehicleID': 101}", "it ends in the middle (cut off)"),
        (b"null", "it is null, not a list of records"),
        (b"42", "it is a number, not a list of records"),
        (b'"text"', "it is a text, not a list of records"),
        (b"u'text'", "it is a text, not a list of records"),
        (b"None", "it is null, not a list of records"),
        (b"[1, 2, 3]", "it is a list that holds a number where a record should be"),
        (b'[{"a": 1}, "b"]', "it is a list that holds a text where a record should be"),
        (b"[{u'a': 1}, None]", "it is a list that holds null where a record should be"),
        (b'{"vehicleID": 101}', "it is one object, not a list of records"),
        (b"{u'vehicleID': 101}", "it is one object, not a list of records"),
        (b'{"errorMessage": "Not found"}', "it is one object, not a list of records"),
        (b'[{"a": "\xff"}]', "byte 8 is not UTF-8 text"),
        (b"[{u'a': u'\xff'}]", "byte 10 is not UTF-8 text"),
        ('[{"a": 1}]'.encode("utf-16-le"), "it is UTF-16 or UTF-32 without a byte order mark"),
        (b'[{"a": NaN}]', "it holds NaN, which JSON cannot hold"),
        (b'[{"a": -Infinity}]', "it holds -Infinity, which JSON cannot hold"),
        (b"[{u'a': nan}]", "it is neither JSON nor Python's repr"),
        (b"[{u'a': inf}]", "it is neither JSON nor Python's repr"),
        (b"[{u'a': NaN}]", "it holds NaN, which JSON cannot hold"),
        (b"[{u'a': (1, 2)}]", "it is neither JSON nor Python's repr"),
        (b"[{u'a': b'bytes'}]", "it is neither JSON nor Python's repr"),
        (b"[{1: u'a'}]", "it is neither JSON nor Python's repr"),
        (b"({u'a': 1},)", "it is neither JSON nor Python's repr"),
        (b"[{u'a': u'\\x4'}]", "it is not Python's repr"),
        (b"Internal Server Error", "it is neither JSON nor Python's repr"),
        (b"upstream's gone", "it is not Python's repr"),
        (b"\0\0\0\0", "it is nothing but zero bytes (4)"),
        (b"\x1f\x8b\x08\x00", "it is gzip that ends in the middle (cut off)"),
        (b'[{"a": 1, "snapshot_time": "x"}]', "record 1 has a field snapshot_time"),
        (b"[{u'a': 1}, {u'snapshot_time': None}]", "record 2 has a field snapshot_time"),
        (b'[{"snapshot\\u005ftime": 1}]', "record 1 has a field snapshot_time"),
        (b"[{u'snapshot\\x5ftime': 1}]", "record 1 has a field snapshot_time"),
    ],
)
def test_a_body_that_is_no_snapshot_is_refused_with_its_reason(body: bytes, reason: str) -> None:
    assert reason in reason_against(body)


@pytest.mark.parametrize("body", [PLAIN_REPR, PLAIN_JSON])
def test_a_body_cut_off_at_any_place_is_refused(body: str) -> None:
    for length in range(len(body)):
        assert reason_against(body[:length].encode())


@pytest.mark.parametrize(
    "record",
    [
        {"a": "snapshot_time"},
        {"a": '"snapshot_time":'},
        {"a": {"snapshot_time": 1}},
        {"snapshot_timer": 1, "snapshot_tim\u00e9": 2},
    ],
)
def test_snapshot_time_may_stand_anywhere_but_among_the_fields(record: Record) -> None:
    assert read(json.dumps([record]).encode()) == [record]
    assert read(python2_repr([record]).encode()) == [record]


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda opened: opened + "x" * 10_000_000, id="ten megabytes of text"),
        pytest.param(lambda opened: opened + "\\" * 1_000_001, id="backslashes"),
        pytest.param(lambda opened: opened + "\\'" * 500_000, id="escaped apostrophes"),
        pytest.param(lambda opened: opened + '\\"' * 500_000, id="escaped double quotes"),
        pytest.param(lambda opened: opened + "'" * 500_001, id="apostrophes"),
        pytest.param(lambda opened: opened + '"' * 500_001, id="double quotes"),
        pytest.param(lambda opened: opened + "\\N{" * 300_000, id="cut off escapes"),
    ],
)
@pytest.mark.parametrize("opened", ["", "[{u'a': u'", '[{u"a": u"', '[{"a": "'])
def test_a_great_heap_of_quotes_or_text_without_end_is_refused(make: Any, opened: str) -> None:
    assert reason_against(make(opened).encode())


@pytest.mark.parametrize("depth", [31, 32, 33, 498, 499, 500, 501, 950, 1_000, 100_000])
def test_deep_nesting_is_read_or_refused(depth: int) -> None:
    opening, closing = "[" * depth, "]" * depth
    for body in (
        f"[{{u'a': {opening}{closing}}}]",
        f'[{{"a": {opening}{closing}}}]',
        f'[{{"a": {opening}"]]"{closing}, "b": "]]"}}]',
        f'[{{"vehicleID": {opening}{closing}}}]',
        f'[{{"vehicleID": 1, "a": {opening}"\\ud800"{closing}}}]',
    ):
        if depth + 1 <= 500:
            assert len(read_records(body.encode()).records) == 1
        else:
            assert reason_against(body.encode()) == "its values are nested too deeply"


# Vehicles


def key_kind_and_value(record: Record) -> tuple[str, int | None]:
    """What a sort key must be: a record's own whole number, or something else."""
    value = record.get("vehicleID")
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18:
        return "number", int(value)
    return "other", None


vehicle_ids = st.one_of(
    st.none(), st.booleans(), whole_numbers, whole_numbers.map(Long), st.floats(-9, 9), texts
)
vehicle_records = st.lists(
    st.dictionaries(
        names,
        st.one_of(texts, st.integers(0, 99), st.fixed_dictionaries({"vehicleID": vehicle_ids})),
        max_size=2,
    ).flatmap(
        lambda record: st.one_of(
            st.just(record), vehicle_ids.map(lambda vehicle: record | {"vehicleID": vehicle})
        )
    ),
    max_size=6,
)


@given(vehicle_records, st.booleans())
def test_the_sort_key_is_the_records_own_vehicle_number(
    records: list[Record], as_json: bool
) -> None:
    body = (json.dumps(records) if as_json else python2_repr(records)).encode()
    keys = read_records(body).vehicles
    assert len(keys) == len(records)
    for record, key in zip(records, keys, strict=True):
        kind, value = key_kind_and_value(record)
        if kind == "number":
            assert type(key) is int
            assert key == value
        else:
            assert isinstance(key, tuple)
            assert [type(part) for part in key] == [str, str]
    sorted(key for key in keys if isinstance(key, int))
    sorted(key for key in keys if isinstance(key, tuple))


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        ('[{"vehicleID": 3, "a": {"vehicleID": 5}}]', [3]),
        ('[{"a": {"vehicleID": 5}, "vehicleID": 3}]', [3]),
        ('[{"a": {"vehicleID": 5}}]', [None]),
        ('[{"a": [{"vehicleID": 5}]}, {"vehicleID": 3}]', [None, 3]),
        ('[{"a": ",\\"vehicleID\\":5,"}]', [None]),
        ('[{"a": ",\\"vehicleID\\":5,", "vehicleID": 3}]', [3]),
        ('[{"x\\"vehicleID": 5}]', [None]),
        ('[{"x\\"vehicleID": 5}, {"vehicleID": 3}]', [None, 3]),
        ('[{"xvehicleID": 5}, {"vehicleIDs": 3}, {"VehicleID": 4}]', [None, None, None]),
        ('[{"vehicleID": 1, "vehicleID": 2}]', [2]),
        ('[{"vehicleID": 1, "vehicleID": 2}, {}]', [2, None]),
        ('[{"vehicleID": 1, "a": "}", "vehicleID": 2}, {}]', [2, None]),
        ('[{"vehicleID": 1, "vehicleID": "x"}]', [None]),
        ('[{"vehicleID": 1, "vehicle\\u0049D": 2}]', [2]),
        ('[{"vehicle\\u0049D": 2}]', [2]),
        ('[{"vehicleID": -7}]', [-7]),
        ('[{"vehicleID": -0}]', [0]),
        ('[{"vehicleID": 999999999999999999}]', [10**18 - 1]),
        ('[{"vehicleID": -999999999999999999}]', [1 - 10**18]),
        ('[{"vehicleID": 1000000000000000000}]', [None]),
        ('[{"vehicleID": 1.0}, {"vehicleID": "1"}, {"vehicleID": true}]', [None, None, None]),
        ('[{"vehicleID": null}, {"vehicleID": [1]}, {"vehicleID": {}}]', [None, None, None]),
        ("[{u'vehicleID': 3L, u'a': u'\"vehicleID\": 5,'}]", [3]),
        ("[{'vehicle\\x49D': 4}, {u'a': {u'vehicleID': 5}}]", [4, None]),
    ],
)
def test_nothing_that_looks_like_a_vehicle_number_is_taken_for_it(
    body: str, keys: list[int | None]
) -> None:
    given_keys = read_records(body.encode()).vehicles
    assert [key if isinstance(key, int) else None for key in given_keys] == keys


def test_other_vehicles_have_equal_keys_exactly_for_equal_values() -> None:
    values = [None, True, False, 1.0, 1.5, "1", "", "1.0", "true", [1], [], {}, {"a": None}]
    values += [10**18, 10**30, -(10**30)]
    keys = read_records(json.dumps([{"vehicleID": value} for value in values]).encode()).vehicles
    assert len(set(keys)) == len(values)
    again = read_records(python2_repr([{"vehicleID": value} for value in values]).encode())
    assert again.vehicles == keys
    assert read_records(b'[{}, {"vehicleID": null}]').vehicles == [keys[0], keys[0]]


# Names


@pytest.mark.parametrize(
    ("key", "time"),
    [
        (
            "raw/bustimes__2021-11-10__07-15-05.json",
            dt.datetime(2021, 11, 10, 7, 15, 5, tzinfo=dt.UTC),
        ),
        (
            "bustimes__2016-12-05__00-00-00.json",
            dt.datetime(2016, 12, 5, tzinfo=dt.UTC),
        ),
        (
            "raw/bustimes__2020-02-29__23-59-59.json",
            dt.datetime(2020, 2, 29, 23, 59, 59, tzinfo=dt.UTC),
        ),
    ],
)
def test_a_name_tells_the_time_in_utc(key: str, time: dt.datetime) -> None:
    assert time_of(key) == time
    assert time_of(key).utcoffset() == dt.timedelta(0)  # type: ignore[union-attr]


@given(st.datetimes(dt.datetime(2000, 1, 1), dt.datetime(2100, 1, 1)))
def test_a_snapshot_has_the_time_that_its_key_was_made_of(moment: dt.datetime) -> None:
    time = moment.replace(microsecond=0, tzinfo=dt.UTC)
    assert time_of(key_of(time)) == time
    assert time_of(key_of(time).removeprefix("raw/")) == time


@pytest.mark.parametrize(
    "key",
    [
        "",
        "raw/",
        "raw/bustimes__2018-08-03__03-06-51.json.gz",
        "data_test/bustimes__2018-08-03__03-06-51.json.gz",
        "data_test/bustimes__2018-08-03__03-06-51.json",
        "every_minute/bustimes__2018-08-03__03-06-51.json",
        "raw/raw/bustimes__2018-08-03__03-06-51.json",
        "/raw/bustimes__2018-08-03__03-06-51.json",
        "/bustimes__2018-08-03__03-06-51.json",
        "v2/2018-W31.jsonl.gz",
        "raw/bustimes__2018-08-03__03-06-51.json\n",
        "raw/bustimes__2018-08-03__03-06-51.json ",
        " raw/bustimes__2018-08-03__03-06-51.json",
        "raw/bustimes__2018-08-03__03-06-51_json",
        "raw/bustimes__2018-08-03__03-06-51.JSON",
        "raw/bustimes__2018-08-03__03-06-51",
        "raw/bustimes_2018-08-03__03-06-51.json",
        "raw/bustimes__2018-08-03_03-06-51.json",
        "raw/bustimes__2018-8-3__3-6-51.json",
        "raw/bustimes__18-08-03__03-06-51.json",
        "raw/bustimes__2018-08-03__03-06.json",
        "raw/bustimes__2018-08-03__03-06-51-00.json",
        "raw/bustimes__2018-08-03T03:06:51.json",
        "raw/bustimes__2018-02-31__03-06-51.json",
        "raw/bustimes__2019-02-29__03-06-51.json",
        "raw/bustimes__2018-00-03__03-06-51.json",
        "raw/bustimes__2018-13-03__03-06-51.json",
        "raw/bustimes__2018-08-00__03-06-51.json",
        "raw/bustimes__0000-08-03__03-06-51.json",
        "raw/bustimes__2018-08-03__24-00-00.json",
        "raw/bustimes__2018-08-03__03-60-51.json",
        "raw/bustimes__2018-08-03__03-06-60.json",
        "raw/bustimes__２０１８-08-03__03-06-51.json",
        "raw/bustimes__2018-08-03__03-06-٥١.json",
        "raw/gtfs__2018-08-03__03-06-51.json",
    ],
)
def test_a_name_that_nearly_matches_is_no_snapshot(key: str) -> None:
    assert time_of(key) is None
