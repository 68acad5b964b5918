"""Snapshots for property tests, written as Python 2 wrote them, and what Python itself reads.

The writers and readers here are independent of the code under test on purpose: what they say is
held against it.
"""

import ast
import json
import random
import re
import warnings
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Record = dict[str, Any]


class Long(int):
    """An int that Python 2's repr prints with an L."""


class Plain(str):
    """Text that Python 2 had as bytes of UTF-8, which its repr prints without a u."""

    __slots__ = ()


SCRAPS = (
    *("', u'", "': u'", ": None", "': None", "': True", "}, {", "u': ", "': ", "'u'", "u''", "''"),
    *(
        "u",
        "xu",
        "'",
        '"',
        '"u',
        "\\",
        "\\\\",
        "\\'",
        '\\"',
        "it's",
        'say "hi"',
        """both ' and \"""",
    ),
    *("{", "}", "[", "]", ", ", ",", ": ", " ", "#", "/", "\\/", "\\u0041", "\\x41", "\\N", "\\"),
    *("\t", "\n", "\r", "\r\n", "\0", "\x01", "\x0b", "\x0c", "\x1b", "\x7f", "\x85", "\u2028"),
    *("é", "\u2019", "\ufeff", "😀", "\ud83d", "\ude00", "\ud83d\ude00", "\ude00\ud83d", "\uffff"),
    *("None", "True", "null", "NaN", "-Infinity", "12L", "1e5", "0", "-"),
    *("vehicleID", ',"vehicleID":', ',"vehicleID":5,', '"vehicleID":5}', "snapshot_time"),
)
"""Pieces of text that look like something else to whoever reads without care."""

SYNTAX = (
    *("'", '"', "\\", "u", "u'", "{", "}", "[", "]", "(", ")", ",", ":", " ", "\n", "\t", "#"),
    *("0", "1", "-", ".", "L", "l", "_", "x", "b'", "r'", "true", "false", "null", "None", "NaN"),
    *("\\x", "\\u00", "\\777", "\\N{DASH}", "\\\n", "\\\r", "'''", '""', "1L", "é", "\0", "٣"),
)
"""What a body may be damaged with."""

NAMES = ("vehicleID", "signMessage", "delay", "latitude", "inCongestion", "u", "", "xu", "it's")

_scraps = st.lists(st.sampled_from(SCRAPS), max_size=4).map("".join)
texts = st.one_of(
    st.text(max_size=8), _scraps, st.builds("{}{}".format, st.text(max_size=3), _scraps)
)
_HALF = re.compile("[\ud800-\udfff]")
_whole_scraps = st.sampled_from([scrap for scrap in SCRAPS if not _HALF.search(scrap)])
_texts_of_bytes = st.one_of(st.text(max_size=8), st.lists(_whole_scraps, max_size=4).map("".join))
whole_numbers = st.one_of(
    st.integers(-10, 5000),
    st.sampled_from([-0, 1533266189000, 10**17, 10**18 - 1, 1 - 10**18, 10**18, 2**63, -(2**64)]),
    st.integers(-(10**60), 10**60),
)
_floats = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([-0.0, 1e-05, 1e16, 5e-324, 1.7976931348623157e308, 0.1, -122.7821123]),
)
_scalars = st.one_of(st.none(), st.booleans(), whole_numbers, _floats, texts)
_python2_scalars = st.one_of(_scalars, whole_numbers.map(Long), st.builds(Plain, _texts_of_bytes))


def _lists_of_records(
    names: st.SearchStrategy[str], scalars: st.SearchStrategy[Any]
) -> st.SearchStrategy[list[Record]]:
    lists = st.lists(scalars, max_size=2)
    nested = st.one_of(
        lists,
        st.dictionaries(names, st.one_of(scalars, lists), max_size=2),
        st.lists(st.dictionaries(names, scalars, max_size=1), max_size=2),
    )
    values = st.one_of(scalars, scalars, nested)
    records = st.dictionaries(names, values, max_size=4)
    return st.lists(records, max_size=4)


def _not_added_by_the_archive(name: str) -> bool:
    return name != "snapshot_time"


names = st.one_of(st.sampled_from(NAMES), texts).filter(_not_added_by_the_archive)
_python2_names = st.one_of(
    names, st.builds(Plain, _texts_of_bytes).filter(_not_added_by_the_archive)
)
snapshots = _lists_of_records(names, _scalars)
python2_snapshots = _lists_of_records(_python2_names, _python2_scalars)
settings = st.sampled_from(["", "utf-8", "code-points"])
"""Values of `python_escapes`."""


def python2_repr(value: Any) -> str:
    """What Python 2 printed of a value."""
    match value:
        case Long():
            return f"{int(value)}L"
        case None | bool() | int() | float():
            return repr(value)
        case Plain():
            return _python2_quoted(value.encode().decode("latin-1"))
        case str():
            return "u" + _python2_quoted(value)
        case list():
            return "[" + ", ".join(map(python2_repr, value)) + "]"
        case dict():
            pairs = (f"{python2_repr(name)}: {python2_repr(item)}" for name, item in value.items())
            return "{" + ", ".join(pairs) + "}"
    raise TypeError(value)


def _python2_quoted(text: str) -> str:
    quote = '"' if "'" in text and '"' not in text else "'"
    return quote + "".join(_python2_character(character, quote) for character in text) + quote


def _python2_character(character: str, quote: str) -> str:
    code = ord(character)
    if character in ("\\", quote):
        return "\\" + character
    if character in "\t\n\r":
        return {"\t": r"\t", "\n": r"\n", "\r": r"\r"}[character]
    if 32 <= code < 127:
        return character
    if code < 256:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def loose_repr(value: Any, choice: random.Random, python: int = 3) -> str:
    """The value in any of the ways in which that Python reads it, though it never prints them.

    Strings of Python 2 have a u, where they are not `Plain`, and hold nothing but ASCII.
    """

    def items(texts: list[str], opening: str, closing: str) -> str:
        space = choice.choice(["", " ", "\n ", "\t"])
        return opening + space + f",{space}".join(texts) + space + closing

    match value:
        case None | bool() | int() | float():
            return python2_repr(value)
        case str():
            quote = choice.choice("'\"")
            of_bytes = python == 2 and isinstance(value, Plain)
            letters = value.encode().decode("latin-1") if of_bytes else value
            inner = "".join(_loose_character(one, quote, choice, of_bytes) for one in letters)
            if python == 2 and not inner.isascii():
                inner = "".join(one if one.isascii() else _escaped(one) for one in inner)
            return (
                (choice.choice("uU") if python == 2 and not of_bytes else "")
                + quote
                + inner
                + quote
            )
        case list():
            return items([loose_repr(item, choice, python) for item in value], "[", "]")
        case dict():
            colon = choice.choice([":", ": ", " : "])
            return items(
                [
                    loose_repr(name, choice, python) + colon + loose_repr(item, choice, python)
                    for name, item in value.items()
                ],
                *"{}",
            )
    raise TypeError(value)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08x}"


def _loose_character(character: str, quote: str, choice: random.Random, of_bytes: bool) -> str:
    code = ord(character)
    ways = [] if of_bytes else [f"\\U{code:08x}"]
    if code < 0x10000 and not of_bytes:
        ways.append(_escaped(character))
    if code < 256:
        ways += [f"\\x{code:02x}", f"\\{code:03o}"]
    if character in (quote, "\\"):
        ways += ["\\" + character] * 5
    elif (
        character not in "\0\r\n" and not 0xD800 <= code < 0xE000 and not (of_bytes and code > 127)
    ):
        ways += [character] * 10 + ["\\\n" + character]
    return choice.choice(ways)


Edit = tuple[str, int, int, str]
edits: st.SearchStrategy[list[Edit]] = st.lists(
    st.tuples(
        st.sampled_from(["insert", "delete", "replace", "repeat", "cut"]),
        st.integers(0, 10**6),
        st.integers(1, 8),
        st.sampled_from(SYNTAX + SCRAPS),
    ),
    min_size=1,
    max_size=3,
)


def damaged(body: str, edits: list[Edit]) -> bytes:
    """The body after edits of a few characters each."""
    for kind, place, length, scrap in edits:
        at = place % (len(body) + 1)
        if kind == "insert":
            body = body[:at] + scrap + body[at:]
        elif kind == "delete":
            body = body[:at] + body[at + length :]
        elif kind == "replace":
            body = body[:at] + scrap + body[at + length :]
        elif kind == "repeat":
            body = body[: at + length] + body[at:]
        else:
            body = body[:at]
    return body.encode("utf-8", "surrogatepass")


def exactly(value: Any) -> Any:
    """A stand-in that is equal only for the same values of the same kinds in the same order.

    Texts are compared as UTF-16, in which a character and its pair of surrogates are the same.
    """
    match value:
        case str():
            return "text", value.encode("utf-16-le", "surrogatepass")
        case float():
            return "float", value.hex()
        case bool() | None:
            return "constant", value
        case int():
            return "int", int(value)
        case list():
            return "list", [exactly(item) for item in value]
        case dict():
            fields = {exactly(name): exactly(item) for name, item in value.items()}
            return "dict", list(fields.items())
    raise TypeError(value)


class Nothing:
    """What Python reads in a text that is neither JSON nor a literal."""


def what_python_reads(text: str, python_escapes: str = "") -> Any:
    """The value of a JSON text or of the literal of the Python that wrote it, or Nothing.

    A literal may hold, as a leniency, the constants of JSON.
    """
    value = _tried(_read_json, text)
    if value is not Nothing:
        return value
    values = [
        _tried(read, text)
        for python, read in ((2, _read_as_python_2), (3, _read_as_python_3))
        if python in _pythons(text, python_escapes)
    ]
    try:
        kinds = [exactly(value) for value in values if value is not Nothing]
    except TypeError:  # a set, a complex number
        return Nothing
    are_one = kinds and len(kinds) == len(values) and all(kind == kinds[0] for kind in kinds)
    return values[0] if are_one else Nothing


def _pythons(text: str, python_escapes: str) -> list[int]:
    """Which may have written it: none where it has marks of both."""
    code, strings = _parted(text)
    of_2 = any(part[-1:] in ("u", "U") for part in code[:-1]) or any(map(_LONG.search, code))
    of_3 = not text.isascii() or any(
        re.search(r"(?<!\\)(\\\\)*\\[uU]", string)
        for part, string in zip(code, strings, strict=False)
        if part[-1:] not in ("u", "U")
    )
    if of_2 or of_3:
        return [] if of_2 and of_3 else [2 if of_2 else 3]
    return {"utf-8": [2], "code-points": [3]}.get(python_escapes, [2, 3])


def what_json_reads(text: bytes) -> Any:
    """The value of a JSON text in UTF-8, in which NaN and Infinity have no place, or Nothing."""
    return _tried(_read_json, text.decode())


def _tried(read: Callable[[str], Any], text: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes and literals that Python may drop one day
            return read(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return Nothing


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _read_json(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse)


_STRING = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_LONG = re.compile(r"(?<![\w.])(?<![eE][-+])(\d+)[lL]\b")
_JSON_CONSTANT = re.compile(r"\b(?:true|false|null)\b")


def _parted(text: str) -> tuple[list[str], list[str]]:
    """What stands outside of strings, one part more than strings, and the strings."""
    code, strings, at = [], [], 0
    for string in _STRING.finditer(text):
        code.append(text[at : string.start()])
        strings.append(string[0])
        at = string.end()
    return [*code, text[at:]], strings


def _read_as_python_3(text: str) -> Any:
    code, strings = _parted(text)
    code = [_with_constants_of_python(part) for part in code]
    return ast.literal_eval("".join(map("".join, zip(code, [*strings, ""], strict=True))))


def _read_as_python_2(text: str) -> Any:
    """Strings without u are bytes, which Python 3 reads likewise if they have a b."""
    code, strings = _parted(text)
    code = [_LONG.sub(r"\1", _with_constants_of_python(part)) for part in code]
    strings = [
        string if part[-1:] in ("u", "U") else f"b{string}"
        for part, string in zip(code, strings, strict=False)
    ]
    return _decoded(ast.literal_eval("".join(map("".join, zip(code, [*strings, ""], strict=True)))))


def _decoded(value: Any) -> Any:
    match value:
        case bytes():
            return value.decode()
        case list():
            return [_decoded(one) for one in value]
        case dict():
            return {_decoded(name): _decoded(one) for name, one in value.items()}
    return value


def _with_constants_of_python(code: str) -> str:
    return _JSON_CONSTANT.sub(
        lambda match: {"true": "True", "false": "False", "null": "None"}[match[0]], code
    )
