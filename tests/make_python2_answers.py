r"""Asks a Python 2.7 what it prints and what it reads, and writes python2_answers.tsv.

    python2.7 tests/make_python2_answers.py > tests/python2_answers.tsv

Two kinds of rows: `printed`, what ``repr`` gives for a value, and `read`, what ``eval`` gives for a
source. Both have the text first, as JSON, then the value, as JSON too: a list of its type and what
it holds, text as code points, bytes in hexadecimal, numbers as they are printed, floats exactly.
Runs under Python 2 only, for its answers are the point; Python 3 can parse it, for the linter.
"""

from __future__ import print_function

import json
import platform
import sys

WORDS = [
    b"",
    b"plain",
    b"it's",
    b'say "it"',
    b'it\'s "it"',
    b"back\\slash",
    b"\\u00e9",
    b"\\x41",
    b"ends in \\",
    b"Caf\xc3\xa9",
    b"\xe2\x80\x99",
    b"\xf0\x9f\x98\x80",
    b"\xef\xbb\xbf",
    b"\xc3",
    b"\xa9",
    b"\xc3 \xa9",
    b"\xc0\x80",
    b"\xed\xa0\xbd",
    b"\xed\xa0\xbd\xed\xb8\x80",
    b"\xf4\x90\x80\x80",
    b"\xff\xfe",
    b"caf\xe9",
]
POINTS = [
    [],
    [0x43, 0x61, 0x66, 0xE9],
    [0x69, 0x74, 0x27, 0x73, 0xE9],
    [0x27, 0x22],
    [0x5C, 0x75, 0x30, 0x30, 0x65, 0x39],
    [0x5C],
    [0x2019],
    [0x2028],
    [0xD83D],
    [0xDE00],
    [0xDE00, 0xD83D],
    [0xD83D, 0xDE00],
    [0xD83D, 0x41, 0xDE00],
    [0xFEFF],
    [0xFFFF],
    [0x10000],
    [0x1F600],
    [0x10FFFF],
]
NUMBERS = [
    "0", "7", "-7", "123", "9223372036854775807", "-9223372036854775808",
    "9223372036854775808", "0L", "5L", "-5L", "10**40", "-10**40", "0.0", "-0.0", "0.1",
    "1.0", "45.5094312", "-122.7821123", "1e16", "1e15", "1e-4", "1e-05", "1e22", "5e-324",
    "1.5e300", "1.7976931348623157e308", "float('inf')", "float('nan')", "True", "False",
    "None", "1j",
]  # fmt: skip
CONTAINERS = [
    "[]",
    "{}",
    "[1, 2L, None]",
    "[{}, [[]]]",
    "{u'a': {'b': [u'\\xe9', 'caf\\xc3\\xa9']}}",
    "{'a': 1}",
    "(1, 2)",
    "set([1])",
    "{1: 2}",
    "{None: 2}",
]
SOURCES = [
    # Bytes
    r"'\xe9'",
    r"'Caf\xc3\xa9'",
    r'"Caf\xc3\xa9"',
    r"'\303\251'",
    r"'\xc3\251'",
    r"'\303\xa9'",
    r"'\xC3\xA9'",
    r"'\xc3\xa9\x41\n\\x'",
    r"'\177'",
    r"'\200'",
    r"'\377'",
    r"'\400'",
    r"'\777'",
    r"'\1777'",
    r"'\0 \07 \08 \101 \1011'",
    r"'\8 \q \/'",
    r"'\\xc3\\xa9'",
    r"'\\\xc3\xa9'",
    r"'\\\\xc3'",
    r"'\u00e9'",
    r"'\U0001f600'",
    r"'\N{DASH}'",
    r"'\u'",
    r"'\x4'",
    r"'\x'",
    r"'\xg1'",
    r"b'\xc3\xa9'",
    r"B'plain'",
    r"r'\xc3\xa9'",
    r"br'\xc3'",
    "'over \\\ntwo \\xc3\\xa9 lines'",
    "'over \\\r\ntwo'",
    "'raw \t tab'",
    "'a' 'b'",
    "'''three'''",
    "'no end",
    "'line\nbreak'",
    # Text
    r"u'\xe9'",
    r"U'\xe9'",
    r"u'\351'",
    r"u'\777'",
    r"u'\u2019'",
    r"u'\U0001f600'",
    r"u'\U0001F600'",
    r"u'\ud83d\ude00'",
    r"u'\uD83D\uDE00'",
    r"u'\ud83d'",
    r"u'\U0000d83d'",
    r"u'\\u00e9'",
    r"u'\\\u00e9'",
    r"u'\N{EM DASH}'",
    r"u'\N'",
    r"u'\U00110000'",
    r"u'\u12'",
    r"u'\x4'",
    r"ur'\u0041'",
    r"u'a' 'b'",
    r"u 'apart'",
    # Numbers
    "00",
    "0777",
    "0777L",
    "08",
    "0o17",
    "0x1F",
    "0x1FL",
    "0b1",
    "0L",
    "0l",
    "-0",
    "-5L",
    "- 5",
    "+5",
    "1LL",
    "1 L",
    "1_0",
    "1.",
    ".5",
    "05.5",
    "1e5",
    "1E5",
    "1e5L",
    "1.5L",
    "1e999",
    "-0.0",
    "1j",
    # Others
    "None",
    "null",
    "true",
    "nan",
    "`1`",
    "(1)",
    "(1,)",
    "{1, 2}",
    "[1,]",
    "{'a': 1,}",
    "1 # one",
    "not 1",
    "1 + 1",
]


def described(value):
    """The value as lists that JSON can hold."""
    if value is None or isinstance(value, bool):
        return ["constant", repr(value)]
    if isinstance(value, bytes):
        return ["bytes", value.encode("hex")]
    if isinstance(value, type("".encode("ascii").decode("ascii"))):
        return ["text", [ord(letter) for letter in value]]
    if isinstance(value, float):
        return ["float", value.hex()]
    if isinstance(value, int):
        return ["int", str(value)]
    if type(value).__name__ == "long":
        return ["long", str(value)]
    if isinstance(value, list):
        return ["list", [described(one) for one in value]]
    if isinstance(value, dict):
        return ["dict", [[described(name), described(one)] for name, one in value.items()]]
    return ["other", type(value).__name__]


def printed():
    """Values of all kinds."""
    for number in range(256):
        yield chr(number)
    for word in WORDS:
        yield word
    for points in [[number] for number in range(256)] + POINTS:
        yield "".encode("ascii").decode("ascii").join(eval("unichr")(point) for point in points)
    for source in NUMBERS + CONTAINERS:
        yield eval(source)


def answer(source):
    """What is read, or the name of the error."""
    try:
        return described(eval(source))
    except Exception as error:
        return ["error", type(error).__name__]


def main():
    if sys.version_info[0] != 2:
        sys.exit("This asks Python 2: run it with python2.7.")
    width = "wide" if sys.maxunicode > 0xFFFF else "narrow"
    of = "%s %s, a %s build" % (
        platform.python_implementation(),
        platform.python_version(),
        width,
    )
    print("# What Python 2 prints and reads. Made by tests/make_python2_answers.py, run by")
    print("# %s; that script says what the columns mean." % of)
    for value in printed():
        print("printed", json.dumps(repr(value)), json.dumps(described(value)), sep="\t")
    for source in SOURCES:
        print("read", json.dumps(source), json.dumps(answer(source)), sep="\t")


if __name__ == "__main__":
    main()
