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
    settings,
    snapshots,
    what_json_reads,
    what_python_reads,
)

from tasks.bustimes import python_repr
from tasks.bustimes.python_repr import Escapes, NoMeaning
from tasks.settings import PYTHON_ESCAPES


def to_json(body: bytes, python_escapes: str = "") -> bytes:
    return python_repr.to_json(body, Escapes(body, python_escapes))


def literal(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.literal_eval(text)


@given(python2_snapshots)
def test_python_itself_reads_what_these_tests_write(records: list[Record]) -> None:
    assert exactly(what_python_reads(python2_repr(records), "utf-8")) == exactly(records)


@given(python2_snapshots)
def test_what_python_2_printed_keeps_its_values(records: list[Record]) -> None:
    converted = to_json(python2_repr(records).encode(), "utf-8")
    assert converted.isascii()
    assert exactly(json.loads(converted)) == exactly(records)


@given(snapshots, st.integers(0, 2**32))
def test_whatever_python_3_reads_as_a_literal_becomes_the_same_value_in_json(
    records: list[Record], seed: int
) -> None:
    body = loose_repr(records, random.Random(seed))
    assert exactly(literal(body)) == exactly(records)
    assert exactly(json.loads(to_json(body.encode(), "code-points"))) == exactly(records)


@given(python2_snapshots, st.integers(0, 2**32))
def test_whatever_python_2_reads_as_a_literal_becomes_the_same_value_in_json(
    records: list[Record], seed: int
) -> None:
    body = loose_repr(records, random.Random(seed), python=2)
    assert exactly(what_python_reads(body, "utf-8")) == exactly(records)
    assert exactly(json.loads(to_json(body.encode(), "utf-8"))) == exactly(records)


@given(python2_snapshots, edits, settings)
def test_a_damaged_repr_never_becomes_other_values_than_python_reads(
    records: list[Record], edits: list[Any], setting: str
) -> None:
    body = damaged(python2_repr(records), edits)
    try:
        text = body.decode()
        read = what_json_reads(to_json(body, setting))
    except ValueError:
        return
    if isinstance(read, list):
        assert exactly(read) == exactly(what_python_reads(text.strip(), setting))


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
        r"'\0 \07 \101 \1011 \177'",
        r"u'\8 \q \/'",
        "u'over \\\ntwo lines'",
        "u'raw \t tab \x01\x7f'",
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
@pytest.mark.parametrize("setting", PYTHON_ESCAPES)
def test_each_kind_of_value_is_what_literal_eval_reads(written: str, setting: str) -> None:
    body = f"[{{'a': 1, 'value': {written}, 'z': None}}]"
    assert exactly(json.loads(to_json(body.encode(), setting))) == exactly(literal(body))


@pytest.mark.parametrize(
    "written",
    [
        r"'\x80 \xe9 \xff'",
        r"'\200 \351 \377'",
        r"'Caf\xc3\xa9'",
        r"'\xe9 \u2019 \U0001f600'",
        r"'\ud83d\ude00'",
        r"'\ud83d'",
        "'raw é ’ 😀'",
        "'raw é, escaped \\x85'",
    ],
)
def test_a_literal_of_python_3_holds_characters(written: str) -> None:
    body = f"[{{'é': 1, 'value': {written}, 'z': None}}]"
    for setting in ("", *PYTHON_ESCAPES):
        assert exactly(json.loads(to_json(body.encode(), setting))) == exactly(literal(body))


# Who wrote it

OF_PYTHON_2 = ["u'x'", 'u"x"', "U'x'", "u''", "1L", "-7l", "[u'x']", "{u'x': 1}"]
OF_PYTHON_3 = ["'é'", '"’"', r"'\u2019'", r"'\ud83d'", r"'\U0001f600'", r"'\\\u00e9'"]
OF_EITHER = [
    *("1", "1.5", "None", "'u'", "'1L'", r"'\\u2019'", r"'\\\\u2019'", r"'\\U0001f600'", "'Menu'"),
    *(r"'it\'s u\'x\''", "\"', u'\"", r"'\x41\x7f\177'", "[]", "{}", "''"),
]


@pytest.mark.parametrize("mark", OF_PYTHON_2)
@pytest.mark.parametrize("place", ["[%s, %s]", "[%s, [], [None, %s]]"])
def test_one_mark_of_python_2_makes_all_literals_without_u_bytes(mark: str, place: str) -> None:
    for values in ((mark, r"'Caf\xc3\xa9'"), (r"'Caf\303\251'", mark)):
        for setting in ("", *PYTHON_ESCAPES):
            escapes = Escapes((place % values).encode(), setting)
            read = json.loads(python_repr.to_json((place % values).encode(), escapes))
            assert "Café" in str(read)
            assert not escapes.has_asked_setting


@pytest.mark.parametrize("mark", OF_PYTHON_3)
def test_one_mark_of_python_3_makes_all_literals_characters(mark: str) -> None:
    for values in (f"[{mark}, 'Caf\\xc3\\xa9']", f"['Caf\\303\\251', [{mark}]]"):
        for setting in ("", *PYTHON_ESCAPES):
            escapes = Escapes(values.encode(), setting)
            read = json.loads(python_repr.to_json(values.encode(), escapes))
            assert exactly(read) == exactly(literal(values))
            assert not escapes.has_asked_setting


@pytest.mark.parametrize("other", OF_EITHER)
def test_without_a_mark_the_setting_decides(other: str) -> None:
    body = f"['Caf\\xc3\\xa9', {other}]".encode()
    for setting, word in (("utf-8", "Café"), ("code-points", "CafÃ©")):
        escapes = Escapes(body, setting)
        assert json.loads(python_repr.to_json(body, escapes))[0] == word
        assert escapes.has_asked_setting
    with pytest.raises(
        NoMeaning, match=r"'Caf\\xc3\\xa9' holds bytes if Python 2 .* set python_esc"
    ):
        to_json(body)


@pytest.mark.parametrize("other", OF_EITHER)
def test_the_setting_is_not_asked_where_both_read_the_same(other: str) -> None:
    escapes = Escapes(f"[{other}]".encode(), "")
    python_repr.to_json(f"[{other}]".encode(), escapes)
    assert not escapes.has_asked_setting


@pytest.mark.parametrize("of_2", OF_PYTHON_2)
@pytest.mark.parametrize("of_3", OF_PYTHON_3)
def test_marks_of_both_have_no_meaning(of_2: str, of_3: str) -> None:
    for body in (f"[{of_2}, {of_3}]", f"[{of_3}, {of_2}]", f"[{of_2}, 'a', {{'b': {of_3}}}]"):
        for setting in ("", *PYTHON_ESCAPES):
            with pytest.raises(NoMeaning, match=r"only Python 2 prints .*, and only Python 3 "):
                to_json(body.encode(), setting)


def test_one_literal_may_have_marks_of_both() -> None:
    with pytest.raises(NoMeaning, match="only Python 2 prints u'é', and only Python 3 characters"):
        to_json("[u'é']".encode())


@pytest.mark.parametrize("written", [r"'\xe9'", r"'\xc3'", r"'\xa9\xc3'", r"'\xed\xa0\xbd'"])
def test_bytes_that_are_no_utf_8_have_no_meaning(written: str) -> None:
    with pytest.raises(NoMeaning, match="holds bytes, as in Python 2, that are not UTF-8 text"):
        to_json(f"[u'', {written}]".encode())


def test_each_literal_is_utf_8_for_itself() -> None:
    with pytest.raises(NoMeaning):
        to_json(rb"[u'', '\xc3', '\xa9']")


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
        r"'\400'",
        r"'\\\777'",
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
    with pytest.raises(ValueError, match=r"escape|character|line break|no end|no byte"):
        to_json(f"[{{u'a': {written}}}]".encode())
