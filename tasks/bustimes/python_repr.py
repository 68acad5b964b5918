r"""Python 2 ``repr`` text to JSON text: the same values, token by token, without building them.

The collector once wrote ``[{u'vehicleID': 101, u'inCongestion': None}]``. `to_json` turns such
bytes into JSON bytes. It knows Python's literal syntax and nothing of vehicles; it promises that
reading its result as JSON gives what ``ast.literal_eval`` gives for the input (and what Python 2
gave for longs such as ``12L``), or that the result is not JSON. Whether it is, the caller finds
out by reading it: this module never validates and never refuses, except for escapes that no
string can hold. It is thorough, not fast: the kernel reads what is usual, and this what is left.
"""

import re
from json.encoder import encode_basestring_ascii

_STRING = r"""(?:'[^'\\]*+(?:\\.[^'\\]*+)*+'|"[^"\\]*+(?:\\.[^"\\]*+)*+")"""
_TOKEN = re.compile(
    rf"""(?P<text>[uU]?{_STRING})|(?P<name>[A-Za-z_]\w*)|(?P<endless>['"])
        |(?<![\w.])(?<![eE][-+])(?P<long>\d+)[lL](?!\w)""",
    re.DOTALL | re.VERBOSE,
)
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{1,3})|(.))", re.DOTALL
)
_NAMES = {"None": "null", "True": "true", "False": "false"}
_LETTER_ESCAPES = {
    **{character: character for character in "\\'\""},
    **dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True)),
    "\n": "",
}


def to_json(body: bytes) -> bytes:
    """JSON text of a Python literal.

    `body` is UTF-8 (Python 2 printed ASCII only). Raises `ValueError` for a string that Python
    itself refuses; any other text that is no literal gives text that is no JSON.
    """

    text = body.decode()
    made = bytearray()  # and not `sub`, which would keep every piece: forty bytes for one
    at = 0
    for token in _TOKEN.finditer(text):
        made += text[at : token.start()].encode()
        made += _convert(token).encode()
        at = token.end()
    made += text[at:].encode()
    return bytes(made)


def _convert(token: re.Match[str]) -> str:
    if (text := token["text"]) is not None:
        return encode_basestring_ascii(_unescape(text[text.index(text[-1]) + 1 : -1]))
    if (name := token["name"]) is not None:
        return _NAMES.get(name, name)
    if token["endless"]:
        raise ValueError("a string has no end")
    return token["long"]


def _unescape(text: str) -> str:
    """What Python reads between the quotes of a string literal."""
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
