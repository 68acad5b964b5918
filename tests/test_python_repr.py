"""What the conversion of Python 2's repr promises: the same values, or no JSON."""

import ast
import json
import random
import warnings
from typing import Any

import pytest
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
    python2_repr,
    python2_snapshots,
    snapshots,
    what_json_reads,
    what_python_reads,
)

from tasks.bustimes.python_repr import to_json, to_json_by_tokens


def literal(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.literal_eval(text)


@given(python2_snapshots)
def test_python_itself_reads_what_these_tests_write(records: list[Record]) -> None:
    assert exactly(what_python_reads(python2_repr(records))) == exactly(records)


@given(python2_snapshots)
def test_token_by_token_gives_the_same_values_and_the_quick_way_these_or_no_json(
    records: list[Record],
) -> None:
    body = python2_repr(records).encode()
    by_tokens = to_json_by_tokens(body)
    assert by_tokens.isascii()
    assert exactly(json.loads(by_tokens)) == exactly(records)
    quick = what_json_reads(to_json(body)[0])
    assert quick is Nothing or exactly(quick) == exactly(records)


flat_records = st.lists(
    st.dictionaries(
        st.text("abu'\"\\:,{} ", max_size=6),
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.text("abu'\"\\:,{} \n😀", max_size=8)
        ),
        max_size=5,
    ),
    max_size=6,
)


@given(flat_records)
def test_the_quick_way_reads_all_flat_records(records: list[Record]) -> None:
    converted, _ = to_json(python2_repr(records).encode())
    assert exactly(json.loads(converted)) == exactly(records)


@given(snapshots, st.integers(0, 2**32))
def test_whatever_python_reads_as_a_literal_becomes_the_same_value_in_json(
    records: list[Record], seed: int
) -> None:
    body = loose_repr(records, random.Random(seed))
    assert exactly(literal(body)) == exactly(records)
    assert exactly(json.loads(to_json_by_tokens(body.encode()))) == exactly(records)


@given(python2_snapshots, edits)
def test_a_damaged_repr_never_becomes_other_values_than_python_reads(
    records: list[Record], edits: list[Any]
) -> None:
    body = damaged(python2_repr(records), edits)
    try:
        text = body.decode()
        ways = [to_json(body)[0], to_json_by_tokens(body)]
    except ValueError:
        return
    for converted in ways:
        read = what_json_reads(converted)
        if isinstance(read, list):
            assert exactly(read) == exactly(what_python_reads(text.strip()))


@pytest.mark.parametrize(
    "written",
    [
        "u'plain'",
        "u''",
        "''",
        """u"it's\"""",
        """u'it\\'s "both"'""",
        r"u'a \\ b'",
        r"u'ends in \\'",
        r"u'\\\''",
        r"u'\n\t\r'",
        r"u'\a\b\f\v'",
        r"u'\xe9 \u2019 \U0001f600'",
        r"u'\ud83d\ude00'",
        r"u'\ud83d'",
        r"u'\ude00\ud83d'",
        r"u'\0 \07 \101 \1011 \777'",
        r"u'\8 \q \/'",
        "u'over \\\ntwo lines'",
        "u'raw \t tab \x01\x7f'",
        "u'raw é ’ 😀'",
        "U'capital'",
        '"plain"',
        'u"you"',
        "u'you'",
        "'u'",
        "u'u'",
        "u', u'",
        "u'}, {'",
        "u': None'",
        "u\"', u'a': None, u'b': u'\"",
        "0",
        "-0",
        "-0.0",
        "1e-05",
        "1e+16",
        "123456789012345678901234567890",
        "45.5094312",
        "None",
        "True",
        "False",
        "[]",
        "{}",
        "[None, True, False, 1, u'a']",
        "{u'b': {u'c': [None]}}",
    ],
)
def test_each_kind_of_value_is_what_literal_eval_reads(written: str) -> None:
    body = f"[{{u'a': 1, u'value': {written}, 'z': None}}]"
    assert exactly(json.loads(to_json_by_tokens(body.encode()))) == exactly(literal(body))
    read = what_json_reads(to_json(body.encode())[0])
    assert read is Nothing or exactly(read) == exactly(literal(body))


@pytest.mark.parametrize("number", [0, 5, -7, 2**64, -(10**30)])
def test_a_long_loses_its_l_and_nothing_else(number: int) -> None:
    body = python2_repr([{"a": Long(number)}]).encode()
    assert to_json_by_tokens(body) == b'[{"a": %d}]' % number


@pytest.mark.parametrize("written", ["1e-5L", "1e5L", "1.5L", ".5L", "0x1FL", "1LL", "1La", "L"])
def test_what_python_2_never_took_for_a_long_is_no_json(written: str) -> None:
    assert what_json_reads(to_json_by_tokens(f"[{{'a': {written}}}]".encode())) is Nothing


@pytest.mark.parametrize("text", ["12L", "None", "x', u'y': None, u'z': u'", "1, 2L]"])
def test_what_looks_like_a_token_inside_a_text_stays_text(text: str) -> None:
    body = python2_repr([{"a": text, text: "b"}]).encode()
    assert json.loads(to_json_by_tokens(body)) == [{"a": text, text: "b"}]
    assert json.loads(to_json(body)[0]) == [{"a": text, text: "b"}]


@pytest.mark.parametrize(
    "written",
    [
        "(1, 2)",
        "{1: 2}",
        "{None: 2}",
        "{1, 2}",
        "b'bytes'",
        "r'raw'",
        "nan",
        "inf",
        "1j",
        "0x1F",
        "1_000",
        "u'a' u'b'",
        "u'a'u'b'",
        "'''three'''",
        "u 'apart'",
        "datetime.datetime(2018, 8, 3)",
        "<object object at 0x7f>",
        "1 # one",
        "",
    ],
)
def test_what_json_cannot_hold_or_no_repr_prints_is_no_json(written: str) -> None:
    body = f"[{{u'a': {written}}}]".encode()
    assert what_json_reads(to_json(body)[0]) is Nothing
    assert what_json_reads(to_json_by_tokens(body)) is Nothing


@pytest.mark.parametrize(
    "written",
    [
        r"u'\x4'",
        r"u'\u12'",
        r"u'\U0001f60'",
        r"u'\U00110000'",
        r"u'\N{SPACE}'",
        r"u'\N'",
        "u'one\ntwo \\'",
        "u'one\ntwo\\n'",
        "u'\\n\r'",
        "u'\\n\0'",
        "u'\\\r'",
        "u'\\\0'",
        "u'no end \\'",
        'u"no end',
    ],
)
def test_a_string_that_no_repr_prints_and_python_may_refuse_raises(written: str) -> None:
    with pytest.raises(ValueError, match=r"escape|character|line break|no end"):
        to_json_by_tokens(f"[{{u'a': {written}}}]".encode())
    with pytest.raises(ValueError, match=r"escape|character|line break|no end"):
        to_json(f"[{{u'b': u\"it's\"}}, {{u'a': {written}}}]".encode())


def test_records_of_plain_text_need_no_tokenizer() -> None:
    records = [{"vehicleID": number, "a": None, "b": "MAX  Blue", "c": ""} for number in range(50)]
    converted, tokenized = to_json(python2_repr(records).encode())
    assert tokenized == 0
    assert json.loads(converted) == records


@pytest.mark.parametrize("odd", ["it's", 'say "hi"', "both ' and \"", "back\\slash", "line\nbreak"])
@pytest.mark.parametrize("place", [0, 20, 49])
def test_one_odd_record_sends_only_itself_through_the_tokenizer(odd: str, place: int) -> None:
    records: list[Record] = [{"vehicleID": number, "a": None} for number in range(50)]
    records[place] |= {"b": odd, "c": "}, {"}
    converted, tokenized = to_json(python2_repr(records).encode())
    assert tokenized == 1
    assert json.loads(converted) == records


@pytest.mark.parametrize("odd", ["you", "u", "xu', "])
def test_a_text_that_ends_in_u_is_kept_among_others(odd: str) -> None:
    records = [{"a": "plain"}, {"a": odd, odd: None}, {"a": "plain", "b": odd}]
    assert json.loads(to_json(python2_repr(records).encode())[0]) == records
