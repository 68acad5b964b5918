r"""Python ``repr`` text to JSON text: the same values, token by token, without building them.

The collector once wrote ``[{u'vehicleID': 101, u'inCongestion': None}]``. `to_json` turns such
bytes into JSON bytes. It knows Python's literal syntax and nothing of vehicles; it promises that
reading its result as JSON gives the value that was printed, or that the result is not JSON. Whether
it is, the caller finds out by reading it: this module never validates. It is thorough, not fast:
the kernel reads what is usual, and this what is left.

Python 2 and Python 3 mean different values by ``'Caf\xc3\xa9'``, a literal without u: bytes, which
are UTF-8 here, or characters. `Escapes` tells, by the whole body, which of them wrote it; where
that cannot be told `to_json` raises `NoMeaning`, and never guesses.
"""

import functools
import re
from json.encoder import encode_basestring_ascii

UTF_8, CODE_POINTS = "utf-8", "code-points"
r"""What ``\x80`` and above may mean in a literal without u: bytes of UTF-8, or a character each."""

_STRING = r"""(?:'[^'\\]*+(?:\\.[^'\\]*+)*+'|"[^"\\]*+(?:\\.[^"\\]*+)*+")"""
_LONG = r"(?<![\w.])(?<![eE][-+])(?P<long>\d+)[lL](?!\w)"
_TOKEN = re.compile(
    rf"""(?P<text>[uU]?{_STRING})|(?P<name>[A-Za-z_]\w*)|(?P<endless>['"])|{_LONG}""", re.DOTALL
)
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{1,3})|(.))", re.DOTALL
)
_AN_ESCAPE = r"(?<!\\)(?:\\\\)*+\\"
_PYTHON_3_ESCAPE = re.compile(rf"{_AN_ESCAPE}[uU]")
_OF_TWO_MEANINGS = re.compile(rf"{_AN_ESCAPE}(?:x[89a-fA-F]|[23][0-7][0-7])")
_NO_BYTE = re.compile(rf"{_AN_ESCAPE}[4-7][0-7][0-7]")
_NAMES = {"None": "null", "True": "true", "False": "false"}
_LETTER_ESCAPES = {
    **{character: character for character in "\\'\""},
    **dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True)),
    "\n": "",
}
_SHOWN = 40


class NoMeaning(ValueError):
    """A well-formed literal without a value, or with two; ``str()`` says why: "because …"."""


class Escapes:
    r"""What ``\x80`` and above mean in the literals without u of one body.

    `body` is the whole of it, UTF-8; `setting`, one of the two or nothing, decides where the body
    itself does not. Looks at the body only when it is asked, for most bodies have no such
    escape. `has_asked_setting` tells whether the setting decided, or would have had to.
    """

    def __init__(self, body: bytes, setting: str) -> None:
        self._body, self._setting = body, setting
        self.has_asked_setting = False

    def meaning(self, literal: str) -> str:
        """`UTF_8` or `CODE_POINTS`; raises `NoMeaning`. `literal` is what raises the question."""
        known = self._by_marks
        if not known:
            self.has_asked_setting = True
            known = self._setting
        if not known:
            raise NoMeaning(
                f"its literal {_shown(literal)} holds bytes if Python 2 wrote it and characters if "
                "Python 3 did, and nothing in it tells which: set python_escapes to say so"
            )
        return known

    @functools.cached_property
    def _by_marks(self) -> str:
        """Who wrote it, by what only one of the two prints; nothing where there is no such mark."""
        text = self._body.decode()
        of_python_3 = "" if text.isascii() else "characters that are not ASCII"
        may_have_escape = "\\u" in text or "\\U" in text
        of_python_2 = ""
        for token in _TOKEN.finditer(text):
            literal = token["text"]
            if token["long"] or (literal and literal[0] in "uU"):
                of_python_2 = of_python_2 or token[0]
                if of_python_3 or not may_have_escape:
                    break
            elif may_have_escape and literal and _PYTHON_3_ESCAPE.search(literal):
                of_python_3 = of_python_3 or f"the literal {_shown(literal)}"
        if of_python_2 and of_python_3:
            raise NoMeaning(
                f"only Python 2 prints {_shown(of_python_2)}, and only Python 3 {of_python_3}"
            )
        return UTF_8 if of_python_2 else CODE_POINTS if of_python_3 else ""


def to_json(body: bytes, escapes: Escapes) -> bytes:
    """JSON text of a Python literal, or of a part of one from brace to brace.

    `body` is UTF-8 (Python 2 printed ASCII only). Raises `NoMeaning` for a literal without a value,
    `ValueError` for a string that Python itself refuses; any other text that is no literal gives
    text that is no JSON.
    """

    text = body.decode()
    made = bytearray()  # and not `sub`, which would keep every piece: forty bytes for one
    at = 0
    for token in _TOKEN.finditer(text):
        made += text[at : token.start()].encode()
        made += _convert(token, escapes).encode()
        at = token.end()
    made += text[at:].encode()
    return bytes(made)


def _convert(token: re.Match[str], escapes: Escapes) -> str:
    if (text := token["text"]) is not None:
        return encode_basestring_ascii(_value(text, escapes))
    if (name := token["name"]) is not None:
        return _NAMES.get(name, name)
    if token["endless"]:
        raise ValueError("a string has no end")
    return token["long"]


def _value(literal: str, escapes: Escapes) -> str:
    inner = literal[literal.index(literal[-1]) + 1 : -1]
    if literal[0] in "uU":
        if not inner.isascii():
            escapes.meaning(literal)  # raises: only Python 2 prints the u, only Python 3 the rest
        return _unescape(inner)
    if _NO_BYTE.search(inner):  # each Python reads something else, and neither prints it
        raise ValueError(f"there is no byte as in {_shown(literal)}")
    text = _unescape(inner)
    if not _OF_TWO_MEANINGS.search(inner):
        if not inner.isascii() or _PYTHON_3_ESCAPE.search(inner):
            escapes.meaning(literal)  # raises where it has marks of Python 2 as well
        return text
    if escapes.meaning(literal) == CODE_POINTS:
        return text
    try:
        return text.encode("latin-1").decode()
    except UnicodeDecodeError:
        raise NoMeaning(
            f"its literal {_shown(literal)} holds bytes, as in Python 2, that are not UTF-8 text"
        ) from None


def _unescape(text: str) -> str:
    """What Python reads between the quotes of a string literal; of bytes, a character for each."""
    if "\\" in text:
        unescaped = _ESCAPE.sub(_unescape_one, text)
        text = _ESCAPE.sub("", text)  # what stood there as itself
    else:
        unescaped = text
    if not text.isprintable() and any(character in text for character in "\n\r\0"):
        raise ValueError("a line break or NUL stands inside a string")
    return unescaped


def _unescape_one(match: re.Match[str]) -> str:
    hex2, hex4, hex8, octal, letter = match.groups()
    if letter is None:
        code = int(octal, 8) if octal is not None else int(hex2 or hex4 or hex8, 16)
        if code > 0x10FFFF:
            raise ValueError(f"there is no character {match[0]}")
        return chr(code)
    if letter in "xuUN\r\0":  # Python reads named characters and \r, but prints neither
        raise ValueError(f"the escape {match[0]!r} is cut off or unknown")
    return _LETTER_ESCAPES.get(letter, match[0])


def _shown(literal: str) -> str:
    text = "".join(letter if letter.isprintable() else "?" for letter in literal[:_SHOWN])
    return text if len(literal) <= _SHOWN else f"{text} …"
