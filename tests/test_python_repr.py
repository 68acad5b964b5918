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

from tasks.bustimes.python_repr import to_json


def literal(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.literal_eval(text)


@given(python2_snapshots)
def test_python_itself_reads_what_these_tests_write(records: list[Record]) -> None:
    assert exactly(what_python_reads(python2_repr(records))) == exactly(records)


@given(python2_snapshots)
def test_what_python_2_printed_keeps_its_values(records: list[Record]) -> None:
    converted = to_json(python2_repr(records).encode())
    assert converted.isascii()
    assert exactly(json.loads(converted)) == exactly(records)


@given(snapshots, st.integers(0, 2**32))
def test_whatever_python_reads_as_a_literal_becomes_the_same_value_in_json(
    records: list[Record], seed: int
) -> None:
    body = loose_repr(records, random.Random(seed))
    assert exactly(literal(body)) == exactly(records)
    assert exactly(json.loads(to_json(body.encode()))) == exactly(records)


@given(python2_snapshots, edits)
def test_a_damaged_repr_never_becomes_other_values_than_python_reads(
    records: list[Record], edits: list[Any]
) -> None:
    body = damaged(python2_repr(records), edits)
    try:
        text = body.decode()
        read = what_json_reads(to_json(body))
    except ValueError:
        return
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
    assert exactly(json.loads(to_json(body.encode()))) == exactly(literal(body))


@pytest.mark.parametrize("number", [0, 5, -7, 2**64, -(10**30)])
def test_a_long_loses_its_l_and_nothing_else(number: int) -> None:
    body = python2_repr([{"a": Long(number)}]).encode()
    assert to_json(body) == b'[{"a": %d}]' % number


@pytest.mark.parametrize("written", ["1e-5L", "1e5L", "1.5L", ".5L", "0x1FL", "1LL", "1La", "L"])
def test_what_python_2_never_took_for_a_long_is_no_json(written: str) -> None:
    assert what_json_reads(to_json(f"[{{'a': {written}}}]".encode())) is Nothing


@pytest.mark.parametrize("text", ["12L", "None", "x', u'y': None, u'z': u'", "1, 2L]"])
def test_what_looks_like_a_token_inside_a_text_stays_text(text: str) -> None:
    body = python2_repr([{"a": text, text: "b"}]).encode()
    assert json.loads(to_json(body)) == [{"a": text, text: "b"}]


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
    assert what_json_reads(to_json(body)) is Nothing


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
        to_json(f"[{{u'a': {written}}}]".encode())
