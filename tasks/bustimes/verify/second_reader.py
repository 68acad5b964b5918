r"""The records of a raw body or a line, read by other means than the conversion's.

Neither the kernel nor what it falls back to is used here: orjson reads JSON, and repr once a chain
of ``bytes.replace`` has made it JSON; the standard library (`json`, `ast`) reads what that is not
exact for, record by record. What comes out is each record's *text*: compact JSON in one fixed form,
so that two records are equal if and only if their texts are. Strings are compared by their
characters, however they were escaped; numbers by their digits, not by the doubles nearest to them
(1 is not 1.0, and ``45.50`` is not ``45.5``); fields count with their order, and twice where they
stand twice. Pure functions over bytes.

What a literal without u means is taken from the language references. Python 2's (2.4.1, String
literals): it is a string of bytes, in which ``\x`` and octal escapes are byte values, and ``\u``,
``\U`` and ``\N`` are no escapes; that is what Python 3 reads in a literal with b, so that is how it
is read here. Python 3's: it is text. `_Literals` finds out which of the two applies.
"""

import ast
import codecs
import gzip
import io
import json
import operator
import re
import warnings
import zlib
from collections.abc import Iterable
from typing import Any, NoReturn

import orjson

_HALF_OF_A_PAIR = re.compile("[\ud800-\udfff]")
_STRING = r"""'[^'\\]*+(?:\\.[^'\\]*+)*+'|"[^"\\]*+(?:\\.[^"\\]*+)*+\""""
_WHOLE, _BEHIND = "(?:0|[1-9][0-9]*+)", "(?:\\.[0-9]++)?(?:[eE][-+]?[0-9]++)?"
_NUMBER = rf"(?<![\w.])({_WHOLE}(?:(?P<long>[lL])|{_BEHIND}))(?![\w.])"
_STRING_OR_NUMBER = re.compile(rf"({_STRING})|{_NUMBER}", re.DOTALL)
_ONE_STRING = re.compile(rf"[uU]?(?:{_STRING})".encode(), re.DOTALL)
_LONG = re.compile(rb"[0-9][lL]")

_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
_MOST_LAYERS, _MOST_BYTES = 4, 1 << 30
"""The latter is the largest `max_snapshot_mb` that there is."""

_BETWEEN = b"}, {"
"""What stands between two records, in JSON as Python writes it and in repr."""


class NotRead(ValueError):
    """No list of records, as far as can be told here; ``str()`` of it says so."""


def texts_of(body: bytes, python_escapes: str = "") -> list[bytes]:
    """The text of every record of a raw body, in any order; raises `NotRead`.

    `python_escapes` is the setting by which it was converted, or nothing.
    """
    text = _plain_text(body).strip()
    if text == b"[]" or (text[:1] == b"{" and text.split() in ([b"{}"], [b"{", b"}"])):
        return []  # nobody drove
    literals = _Literals(text, python_escapes)
    for way in (_at_once, literals.piece_by_piece, _from_json, literals.whole):
        texts = way(text)
        if isinstance(texts, list):
            return texts
    raise NotRead("it is no list of records, neither as JSON nor as Python's repr")


def _plain_text(body: bytes) -> bytes:
    """UTF-8 of what was compressed or is in UTF-16, by the readers of files that Python has."""
    try:
        for _ in range(_MOST_LAYERS):
            if body[:2] == b"\x1f\x8b":
                with gzip.open(io.BytesIO(body)) as file:
                    body = _bounded(file.read(_MOST_BYTES + 1))
            elif body[:4] == b"\x28\xb5\x2f\xfd" or body[1:4] == b"\x2a\x4d\x18":
                body = _from_zstd(body)
            else:
                break
        if body[:4].startswith(_MARKS):
            body = body.decode(json.detect_encoding(body)).encode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise NotRead(f"it cannot be unpacked or decoded ({error})") from None
    return body


def _from_zstd(body: bytes) -> bytes:
    from tasks.decompression import zstd  # which of two modules it is; nothing else

    try:
        with zstd().open(io.BytesIO(body)) as file:
            return _bounded(file.read(_MOST_BYTES + 1))
    except zstd().ZstdError as error:
        raise NotRead(f"it cannot be unpacked ({error})") from None


def _bounded(read: bytes) -> bytes:
    if len(read) > _MOST_BYTES:
        raise NotRead("more comes out of it than is ever converted")
    return read


def text_of(record: bytes) -> bytes | None:
    """The text of one record, a JSON object; None where it is none."""
    read = _read(record)
    if isinstance(read, dict):
        text = orjson.dumps(read)
        if _without_spaces(text) == _without_spaces(record):
            return text
    found = _from_json(record)
    return found if isinstance(found, bytes) else None


def _at_once(text: bytes) -> list[bytes] | None:
    form = _as_json(text)
    if form is not text and not text.isascii() and _is_plainly_python_2(text):
        return None  # which prints nothing but ASCII
    read = _read(form)
    if not isinstance(read, list) or not all(type(record) is dict for record in read):
        return None
    texts = [orjson.dumps(record) for record in read]
    there, here = _without_spaces(form), _without_spaces(b"[" + b",".join(texts) + b"]")
    if there == here:
        return texts
    # Record by record: as many pieces as records means that none is cut, there or here.
    pieces, theirs, ours = _cut(form, _BETWEEN), _cut(there, b"},{"), _cut(here, b"},{")
    if not len(pieces) == len(theirs) == len(ours) == len(texts):
        return None
    for at, is_other in enumerate(map(operator.ne, theirs, ours)):
        if is_other:
            exact = text_of(b"{" + pieces[at] + b"}")
            if exact is None:
                return None
            texts[at] = exact
    return texts


def _cut(text: bytes, between: bytes) -> list[bytes]:
    """A list of records cut between them, without their outer braces, or within one by mistake.

    The latter is noticed: no object begins with another, so the first piece that is less than a
    record cannot be read.
    """
    if text[:2] != b"[{" or text[-2:] != b"}]":
        return []
    return text[2:-2].split(between)


def _as_json(text: bytes) -> bytes:
    """The text, or JSON of it where it is repr whose strings hold neither quotes nor escapes.

    In such a text every apostrophe delimits a string, and a u before one is a prefix unless a
    string ends in it. What is replaced has a line break in it, which is space between tokens and
    which no JSON string may hold: wherever something else was replaced than is thought here,
    reading fails. Each is as long as before, so that replacing is quick.
    """
    if b'"' in text or b"\\" in text:
        return text
    return (
        text.replace(b"u'", b'\n"')
        .replace(b"': None", b"':\nnull")
        .replace(b"': True", b"':\ntrue")
        .replace(b"': False", b"':\nfalse")
        .replace(b"'", b'"')
    )


def _is_plainly_python_2(text: bytes) -> bool:
    """Whether a repr without quotes or escapes within its strings has strings with u, or longs."""
    outside = text.split(b"'")[::2]
    return any(part[-1:] in (b"u", b"U") for part in outside) or any(map(_LONG.search, outside))


def _read(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _without_spaces(text: bytes) -> bytes:
    """JSON text, for comparing what orjson wrote with what it had read.

    Where both are the same, it has changed no digit, dropped no field and undone no escape. Spaces
    within strings are left away as well, on both sides; but those orjson keeps.
    """
    return text.translate(None, b" \t\r\n")


class _Digits(str):
    """A number as it stands there."""


class _Pairs(list[tuple[str, Any]]):
    """An object as it stands there."""


def _from_json(text: bytes) -> bytes | list[bytes] | None:
    """The text of a JSON object, or those of a list of them."""
    try:
        read = json.loads(
            text.decode(),
            parse_int=_Digits,
            parse_float=_Digits,
            parse_constant=_refuse,
            object_pairs_hook=_Pairs,
        )
        return _written(read) if isinstance(read, _Pairs) else _records(read, _Pairs, _written)
    except (ValueError, RecursionError):
        return None


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)


def _records(values: Any, kind: type, write: Any) -> list[bytes]:
    if type(values) is not list or not all(isinstance(one, kind) for one in values):
        raise ValueError("no list of records")
    return [write(one) for one in values]


def _written(value: Any) -> bytes:
    match value:
        case _Pairs():
            return _object((name, _written(one)) for name, one in value)
        case _Digits():
            return value.encode()
        case str():
            return _string(value)
        case list():
            return b"[" + b",".join(map(_written, value)) + b"]"
    return json.dumps(value).encode()


def _object(pairs: Iterable[tuple[str, bytes]]) -> bytes:
    return b"{" + b",".join(_string(name) + b":" + value for name, value in pairs) + b"}"


def _string(text: str) -> bytes:
    if _HALF_OF_A_PAIR.search(text):  # together they are one character, of a narrow Python 2
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        if _HALF_OF_A_PAIR.search(text):
            return json.dumps(text).encode()
    return orjson.dumps(text)


class _Literals:
    """The Python literals of one body, which Python 2 wrote, or Python 3, or either."""

    def __init__(self, text: bytes, setting: str) -> None:
        self._is_ascii, self._setting = text.isascii(), setting
        self._forget()

    def _forget(self) -> None:
        self._of_python_2, self._of_python_3 = False, not self._is_ascii

    def piece_by_piece(self, text: bytes) -> list[bytes] | None:
        """Those with quotes or escapes each for itself, and all others at once if that can be."""
        pieces = _cut(text, _BETWEEN)
        odd = [piece for piece in pieces if b'"' in piece or b"\\" in piece]
        plain = [piece for piece in pieces if not (b'"' in piece or b"\\" in piece)]
        together = b"[{" + _BETWEEN.join(plain) + b"}]"
        is_repr = b"'" in together
        self._of_python_2 |= is_repr and _is_plainly_python_2(together)
        if self._of_python_2 and self._of_python_3:
            return None
        texts = _at_once(together) if plain else []
        if texts is None or len(texts) != len(plain):
            one_by_one = [text_of(_as_json(b"{" + piece + b"}")) for piece in plain]
            odd += [piece for piece, one in zip(plain, one_by_one, strict=True) if one is None]
            texts = [one for one in one_by_one if one is not None]
        if not odd:
            return texts if pieces else None
        if not is_repr:
            as_json = [text_of(b"{" + piece + b"}") for piece in odd]
            if None not in as_json:
                return texts + [one for one in as_json if one is not None]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of escapes that Python does not know
                trees = [self._tree(b"{" + piece + b"}") for piece in odd]
                return texts + [self._written(*tree) for tree in trees]
        except _NO_LITERAL:
            return None

    def whole(self, text: bytes) -> list[bytes] | None:
        """The texts of a list of dicts."""
        self._forget()  # what was taken for a mark may have stood within a string
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree, lines = self._tree(text)
                if not isinstance(tree, ast.List):
                    return None
                if not all(isinstance(one, ast.Dict) for one in tree.elts):
                    return None
                return [self._written(one, lines) for one in tree.elts]
        except _NO_LITERAL:
            return None

    def _tree(self, text: bytes) -> tuple[ast.expr, list[bytes]]:
        """What Python makes of a literal, and the lines of which its nodes tell the places.

        Numbers become ``('123',)`` before, which keeps their digits, and longs such as ``123L``
        readable; a record has no tuples of its own.
        """

        def kept(match: re.Match[str]) -> str:
            self._of_python_2 |= match["long"] is not None
            return match[1] or f"('{match[2].rstrip('lL')}',)"

        source = _STRING_OR_NUMBER.sub(kept, text.decode())
        lines = source.encode().splitlines(keepends=True)
        tree = ast.parse(source, mode="eval").body
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                self._look_at(node, lines)
        return tree, lines

    def _look_at(self, node: ast.Constant, lines: list[bytes]) -> None:
        literal = _literal_of(node, lines)
        if literal[:1] in (b"u", b"U"):
            self._of_python_2 = True
        elif (read := _in_bytes(literal)) is None or read.decode("latin-1") != node.value:
            self._of_python_3 = True

    def _written(self, node: ast.expr, lines: list[bytes]) -> bytes:
        match node:
            case ast.Dict():
                values = zip(node.keys, node.values, strict=True)
                return _object(
                    (self._text(name, lines), self._written(one, lines)) for name, one in values
                )
            case ast.Tuple(elts=[ast.Constant(value=str(digits))]):
                return digits.encode()
            case ast.UnaryOp(op=ast.USub(), operand=ast.Tuple()):
                return b"-" + self._written(node.operand, lines)
            case ast.List():
                return b"[" + b",".join(self._written(one, lines) for one in node.elts) + b"]"
            case ast.Constant(value=str()):
                return _string(self._text(node, lines))
            case ast.Constant(value=None | True | False):
                return json.dumps(node.value).encode()
            case ast.Name(id="null" | "true" | "false"):  # JSON's words in a repr
                return node.id.encode()
        raise ValueError("no literal that JSON can hold")

    def _text(self, node: ast.expr | None, lines: list[bytes]) -> str:
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            raise ValueError("no text")
        if self._of_python_2 and self._of_python_3:
            raise ValueError("of both")
        literal = _literal_of(node, lines)
        if node.value.isascii() or self._of_python_3 or literal[:1] in (b"u", b"U"):
            return node.value
        if not (self._of_python_2 or self._setting):
            raise ValueError("of neither")
        if self._setting == "code-points" and not self._of_python_2:
            return node.value
        return (_in_bytes(literal) or b"").decode()


_NO_LITERAL = (ValueError, SyntaxError, RecursionError, MemoryError)
"""What Python raises; the last for deep nesting."""


def _literal_of(node: ast.Constant, lines: list[bytes]) -> bytes:
    """A string as it stands there."""
    begin, end = node.lineno - 1, (node.end_lineno or 0) - 1
    if begin == end:
        literal = lines[begin][node.col_offset : node.end_col_offset]
    else:  # a backslash at the end of a line
        last = lines[end][: node.end_col_offset]
        literal = b"".join([lines[begin][node.col_offset :], *lines[begin + 1 : end], last])
    if not _ONE_STRING.fullmatch(literal):
        raise ValueError("no string of a repr")
    return literal


def _in_bytes(literal: bytes) -> bytes | None:
    """What Python 2 reads in a literal without u; None where it holds more than ASCII."""
    if not literal.isascii():
        return None
    if b"\\" not in literal:
        return literal[1:-1]
    read: bytes = ast.literal_eval("b" + literal.decode())
    return read
