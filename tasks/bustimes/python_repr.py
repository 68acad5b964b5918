r"""Python 2 ``repr`` text to JSON text: the same values, token by token, without building them.

The collector once wrote ``[{u'vehicleID': 101, u'inCongestion': None}]``. `to_json` turns such
bytes into JSON bytes. It knows Python's literal syntax and nothing of vehicles; it promises that
reading its result as JSON gives what ``ast.literal_eval`` gives for the input (and what Python 2
gave for longs such as ``12L``), or that the result is not JSON. Whether it is, the caller finds
out by reading it: this module never validates and never refuses, except for escapes that no
string can hold.

How: almost all text holds neither a double quote nor a backslash, so every apostrophe delimits a
string. Replacing ``u'`` by ``"`` then marks where strings start and leaves ``'`` where they end.
This is exact if and only if the two alternate, which one pass checks; where they do not (a text
that ends in u, a string without the u prefix), and around every double quote and backslash, the
text is cut at a ``}`` outside strings and that piece alone goes through the tokenizer.
"""

import re
from json.encoder import encode_basestring_ascii

_ALL_BUT_QUOTES = bytes(byte for byte in range(256) if byte not in b"\"'")

_STRING = r"""(?:'[^'\\]*+(?:\\.[^'\\]*+)*+'|"[^"\\]*+(?:\\.[^"\\]*+)*+")"""
# From any place outside a string up to and with the next closing brace outside a string.
_PIECE = re.compile(rf"""[^'"}}]*+(?:{_STRING}[^'"}}]*+)*+}}?""".encode(), re.DOTALL)
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


def to_json(body: bytes) -> tuple[bytes, int]:
    """JSON text of a Python literal, and how many pieces of it needed the tokenizer.

    `body` is UTF-8 (Python 2 printed ASCII only). Raises `ValueError` for a string that Python
    itself refuses; any other text that is no literal gives text that is no JSON.
    """
    pieces: list[bytes] = []
    tokenized = 0
    at = 0
    quote, backslash = body.find(b'"'), body.find(b"\\")
    while quote >= 0 or backslash >= 0:
        odd = min(place for place in (quote, backslash) if place >= 0)
        start = max(body.rfind(b"{", at, odd), at)
        plain = _plain_to_json(body[at:start])
        if plain is not None:
            pieces.append(plain)
            at = start
        while at <= odd:
            end, piece, was_tokenized = _convert_piece(body, at)
            pieces.append(piece)
            tokenized += was_tokenized
            at = end
        if 0 <= quote < at:
            quote = body.find(b'"', at)
        if 0 <= backslash < at:
            backslash = body.find(b"\\", at)
    plain = _plain_to_json(body[at:])
    if plain is not None:
        pieces.append(plain)
        at = len(body)
    while at < len(body):
        end, piece, was_tokenized = _convert_piece(body, at)
        pieces.append(piece)
        tokenized += was_tokenized
        at = end
    return b"".join(pieces), tokenized


def to_json_by_tokens(body: bytes) -> bytes:
    """The same with every token looked at, at a tenth of the speed: also drops the L of longs."""

    def convert(match: re.Match[str]) -> str:
        if (text := match["text"]) is not None:
            return encode_basestring_ascii(_unescape(text[text.index(text[-1]) + 1 : -1]))
        if (name := match["name"]) is not None:
            return _NAMES.get(name, name)
        if match["endless"]:
            raise ValueError("a string has no end")
        return match["long"]

    return _TOKEN.sub(convert, body.decode()).encode()


def _plain_to_json(text: bytes) -> bytes | None:
    """JSON of text without double quotes and backslashes, or None where replacing is not exact."""
    opened = text.replace(b"u'", b'"')
    quotes = opened.translate(None, _ALL_BUT_QUOTES)
    if quotes != b"\"'" * (len(quotes) // 2):
        return None
    return (
        opened.replace(b"': None", b'":null')
        .replace(b"': True", b'":true')
        .replace(b"': False", b'":false')
        .replace(b"'", b'"')
    )


def _convert_piece(body: bytes, at: int) -> tuple[int, bytes, bool]:
    """Where the piece from `at` ends, its JSON, and whether it went through the tokenizer."""
    match = _PIECE.match(body, at)
    # No progress means a string that never ends: the rest is no literal, whatever is done to it.
    end = match.end() if match is not None and match.end() > at else len(body)
    text = body[at:end]
    if b'"' not in text and b"\\" not in text:
        plain = _plain_to_json(text)
        if plain is not None:
            return end, plain, False
    return end, to_json_by_tokens(text), True


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
