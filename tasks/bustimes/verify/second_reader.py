r"""The records of a raw body or a line, read by other means than the conversion's.

Neither the kernel nor what it falls back to is used here: orjson reads JSON, and repr once a chain
of ``bytes.replace`` has made it JSON; the standard library (`json`, `ast`) reads what that is not
exact for, record by record. What comes out is each record's *text*: compact JSON in one fixed form,
so that two records are equal if and only if their texts are. Strings are compared by their
characters, however they were escaped; numbers by their digits, not by the doubles nearest to them
(1 is not 1.0, and ``45.50`` is not ``45.5``); fields count with their order, and twice where they
stand twice. Pure functions over bytes.
"""

import ast
import json
import operator
import re
import warnings
from collections.abc import Iterable
from typing import Any, NoReturn

import orjson

_HALF_OF_A_PAIR = re.compile("[\ud800-\udfff]")
_STRING = r"""'[^'\\]*+(?:\\.[^'\\]*+)*+'|"[^"\\]*+(?:\\.[^"\\]*+)*+\""""
_NUMBER = r"(?<![\w.])(\d++(?:\.\d++)?(?:[eE][-+]?\d++)?)[lL]?(?![\w.])"
_STRING_OR_NUMBER = re.compile(rf"({_STRING})|{_NUMBER}", re.DOTALL)

_BETWEEN = b"}, {"
"""What stands between two records, in JSON as Python writes it and in repr."""


class NotRead(ValueError):
    """No list of records, as far as can be told here; ``str()`` of it says so."""


def texts_of(body: bytes) -> list[bytes]:
    """The text of every record of a raw body, in any order; raises `NotRead`."""
    text = body.removeprefix(b"\xef\xbb\xbf").strip()
    if text in (b"{}", b"[]"):
        return []  # nobody drove
    for way in (_at_once, _piece_by_piece, _from_json, _from_repr):
        texts = way(text)
        if isinstance(texts, list):
            return texts
    raise NotRead("it is no list of records, neither as JSON nor as Python's repr")


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


def _piece_by_piece(text: bytes) -> list[bytes] | None:
    """Those with quotes or escapes each for itself, and all others at once if that can be."""
    pieces = _cut(text, _BETWEEN)
    if not pieces:
        return None
    odd = [piece for piece in pieces if b'"' in piece or b"\\" in piece]
    plain = [piece for piece in pieces if not (b'"' in piece or b"\\" in piece)]
    texts = _at_once(b"[{" + _BETWEEN.join(plain) + b"}]") if plain else []
    if texts is None or len(texts) != len(plain):
        odd, texts = pieces, []
    for piece in odd:
        record = b"{" + piece + b"}"
        exact = text_of(_as_json(record)) or _from_repr(record)
        if not isinstance(exact, bytes):
            return None
        texts.append(exact)
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


def _from_repr(text: bytes) -> bytes | list[bytes] | None:
    """The text of a Python dict, or those of a list of them.

    Numbers become ``('123',)`` before Python reads it, which keeps their digits, and longs such as
    ``123L`` readable; a record has no tuples of its own.
    """

    def kept(match: re.Match[str]) -> str:
        return match[1] or f"('{match[2]}',)"

    try:
        source = _STRING_OR_NUMBER.sub(kept, text.decode())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python does not know
            read = ast.parse(source, mode="eval").body
        if isinstance(read, ast.List):
            return _records(read.elts, ast.Dict, _literal)
        return _literal(read) if isinstance(read, ast.Dict) else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # the latter for deep nesting
        return None


def _name(node: ast.expr | None) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
    raise ValueError("no name of a field")


def _literal(node: ast.expr) -> bytes:
    match node:
        case ast.Dict():
            values = zip(node.keys, node.values, strict=True)
            return _object((_name(name), _literal(one)) for name, one in values)
        case ast.Tuple(elts=[ast.Constant(value=str(digits))]):
            return digits.encode()
        case ast.UnaryOp(op=ast.USub(), operand=ast.Tuple()):
            return b"-" + _literal(node.operand)
        case ast.List():
            return b"[" + b",".join(map(_literal, node.elts)) + b"]"
        case ast.Constant(value=str(text)):
            return _string(text)
        case ast.Constant(value=None | True | False):
            return json.dumps(node.value).encode()
        case ast.Name(id="null" | "true" | "false"):  # JSON's words in a repr
            return node.id.encode()
    raise ValueError("no literal that JSON can hold")
