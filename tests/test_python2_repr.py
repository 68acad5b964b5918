"""The reprs that synthetic snapshots are made of: what Python 2 printed, byte for byte."""

import pytest

from tasks.bustimes.synthetic import Long, python2_repr


class TestPython2Repr:
    @pytest.mark.parametrize(
        ("value", "printed"),
        [
            (None, "None"),
            (True, "True"),
            (12, "12"),
            (Long(12), "12L"),
            (Long(-12), "-12L"),
            ((1 << 63) - 1, "9223372036854775807"),
            (1 << 63, "9223372036854775808L"),
            (-(1 << 63) - 1, "-9223372036854775809L"),
            (1e-05, "1e-05"),
            (-0.0, "-0.0"),
            (1e16, "1e+16"),
            (0.1, "0.1"),
            ("plain", "u'plain'"),
            ("it's", '''u"it's"'''),
            ('say "it"', """u'say "it"'"""),
            ('it\'s "it"', r"""u'it\'s "it"'"""),
            ("back\\slash", r"u'back\\slash'"),
            ("\t\n\r\0\x1f\x7f", r"u'\t\n\r\x00\x1f\x7f'"),
            ("é\xff\u0100\u2019\u2028", r"u'\xe9\xff\u0100\u2019\u2028'"),
            ("\U0001f600", r"u'\ud83d\ude00'"),
            ("\U00010000\U0010ffff", r"u'\ud800\udc00\udbff\udfff'"),
            ("\ud83d", r"u'\ud83d'"),
            (b"it's\xe9", r'''"it's\xe9"'''),
            ([], "[]"),
            ({}, "{}"),
            ([{"a": [1, None]}, {}], "[{u'a': [1, None]}, {}]"),
        ],
    )
    def test_prints_what_python_2_printed(self, value: object, printed: str) -> None:
        assert python2_repr(value) == printed.encode()

    def test_prints_astral_characters_as_one_escape_on_request(self) -> None:
        assert python2_repr(["\U0001f600"], surrogate_pairs=False) == rb"[u'\U0001f600']"

    def test_refuses_what_has_no_literal(self) -> None:
        with pytest.raises(TypeError, match="set"):
            python2_repr([{1}])
