"""What the splitting of JSON promises: each record's bytes, every token as it was."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Nothing, Record, damaged, edits, exactly, snapshots, what_json_reads

from tasks.bustimes.json_records import NotRecords, split

separators = st.sampled_from([(", ", ": "), (",", ":"), (" ,\n", "\t:\r\n ")])


@given(snapshots, separators, st.sampled_from([None, 2]), st.booleans())
def test_each_record_reads_as_json_loads_reads_the_whole(
    records: list[Record], separators: tuple[str, str], indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(records, separators=separators, indent=indent, ensure_ascii=ascii_only)
    body = text.encode("utf-8", "replace")
    given_back = split(body)
    assert exactly([json.loads(record) for record in given_back]) == exactly(json.loads(body))


@given(snapshots, separators, st.booleans())
def test_every_record_is_one_compact_line_with_its_tokens_as_they_were(
    records: list[Record], separators: tuple[str, str], ascii_only: bool
) -> None:
    def written(value: Any, separators: tuple[str, str]) -> bytes:
        text = json.dumps(value, separators=separators, ensure_ascii=ascii_only)
        return text.encode("utf-8", "replace")

    given_back = split(written(records, separators))
    assert given_back == [written(record, (",", ":")) for record in records]
    assert not any(b"\n" in record for record in given_back)


@given(snapshots, edits)
def test_damaged_json_is_refused_exactly_where_json_loads_refuses_it(
    records: list[Record], edits: list[Any]
) -> None:
    body = damaged(json.dumps(records), edits)
    try:
        value = what_json_reads(body)
    except UnicodeDecodeError:
        value = Nothing
    if isinstance(value, list) and all(isinstance(record, dict) for record in value):
        assert exactly([json.loads(record) for record in split(body)]) == exactly(value)
    else:
        with pytest.raises(NotRecords, match=r"^(?:it|its|byte) "):
            split(body)


@pytest.mark.parametrize(
    "token",
    [
        "0",
        "-0",
        "-0.0",
        "1.0",
        "1.10",
        "1E5",
        "1e+05",
        "1.0E-05",
        "0.1000000000000000055511151231257827",
        "9" * 18,
        "9" * 19,
        pytest.param("9" * 5000, id="5000 digits"),
        '"\\u00e9"',
        '"é"',
        '"\\/"',
        '"\\u0041"',
        '"\\ud83d\\ude00"',
        '"\\ud83d"',
        '"\\ude00\\ud83d"',
        '"  :  ,  "',
        '"\\\\"',
        '"\u2028"',
        "null",
        "true",
        "[]",
        "{}",
        '{"a":1,"a":2}',
    ],
)
@pytest.mark.parametrize("other", ['"plain"', '"\\ud800"'])
def test_tokens_keep_their_digits_and_escapes(token: str, other: str) -> None:
    body = f'[ {{ "other" : {other} , "value" : {token} }} ]'.encode()
    assert split(body) == [f'{{"other":{other},"value":{token}}}'.encode()]


def test_records_come_in_the_order_of_the_list_and_repeated_ones_stay() -> None:
    assert split(b'[{"a": 2}, {}, {"a": 1}, {"a": 2}]') == [
        b'{"a":2}',
        b"{}",
        b'{"a":1}',
        b'{"a":2}',
    ]


@pytest.mark.parametrize("body", [b"[]", b"[ ]", b" [\n] "])
def test_an_empty_list_has_no_records(body: bytes) -> None:
    assert split(body) == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"a": 1}', "it is one object, not a list of records"),
        (b"null", "it is null, not a list of records"),
        (b"true", "it is true, not a list of records"),
        (b"-5", "it is a number, not a list of records"),
        (b'"text"', "it is a text, not a list of records"),
        (b'"\\ud800"', "it is a text, not a list of records"),
        (b"[1]", "it is a list that holds a number where a record should be"),
        (b'[{"a": 1}, [{}]]', "it is a list that holds a list where a record should be"),
        (b'[{"a": 1}, null]', "it is a list that holds null where a record should be"),
        (b'[{"a": "\\ud800"}, "x"]', "it is a list that holds a text where a record should be"),
        (b'[{"a": NaN}]', "it holds NaN, which JSON cannot hold"),
        (b'[{"a": [1, Infinity]}]', "it holds Infinity, which JSON cannot hold"),
        (b'[{"a": -Infinity}]', "it holds -Infinity, which JSON cannot hold"),
        (b'[{"a": 1}, {"b"', "it ends in the middle (cut off)"),
        (b'[{"a": "\xff"}]', "byte 8 is not UTF-8 text"),
        (b'[{"a": "\xed\xa0\x80"}]', "byte 8 is not UTF-8 text"),
        pytest.param(b"[" * 100_000, "its values are nested too deeply", id="deep"),
        pytest.param(
            b'["\\ud800",' * 100_000, "its values are nested too deeply", id="deep, half a pair"
        ),
    ],
)
def test_what_is_no_list_of_records_is_refused_with_its_reason(body: bytes, reason: str) -> None:
    with pytest.raises(NotRecords) as refusal:
        split(body)
    assert str(refusal.value) == reason


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[{'a': 1}]",
        b'[{"a": 1},]',
        b'[{"a": 1,}]',
        b'[{"a": 1} {"b": 2}]',
        b'[{"a": 1}] x',
        b'[{"a": 1}]\0',
        b'[{"a": 01}]',
        b'[{"a": 1.}]',
        b'[{"a": .5}]',
        b'[{"a": +1}]',
        b'[{"a": - 1}]',
        b'[{"a": 1 2}]',
        b'[{"a": 1e}]',
        b'[{"a": tr ue}]',
        b'[{"a": "\\q"}]',
        b'[{"a": "\\u12"}]',
        b'[{"a": "tab\t"}]',
        b'[{"a": "line\n"}]',
        b'[{"a": "NUL\0"}]',
        b'[{"a": "x" "y"}]',
        b"[{1: 2}]",
        b"[{null: 2}]",
        b'[{"a": "\\ud800", "b": 1.}]',
    ],
)
def test_what_json_loads_refuses_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"Expecting|Invalid|Extra data|Illegal"):
        json.loads(body)
    with pytest.raises(NotRecords, match=r"^it is not JSON|^it ends in the middle"):
        split(body)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "\\\\ud800 NaN"])
def test_a_text_may_speak_of_nan(text: str) -> None:
    assert split(f'[{{"a": "{text}"}}]'.encode()) == [f'{{"a":"{text}"}}'.encode()]
