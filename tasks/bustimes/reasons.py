"""What something that is no snapshot looks like, for the sentence that says why it is set aside.

`described` tells an error page, a zip file, protobuf and so on by their first bytes; `ending` tells
whether a list breaks off or has something behind it. They decide nothing: they are asked once
reading has failed. Pure functions over bytes, in time that grows with the length and no faster.
"""

import html
import re

from tasks import figures

_MAGIC = {
    b"PK\x03\x04": "a zip file",
    b"PK\x05\x06": "an empty zip file",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x04\x22\x4d\x18": "lz4",
    b"\xff\x06\x00\x00sNaPpY": "snappy",
    b"7z\xbc\xaf\x27\x1c": "a 7z file",
    b"\x78\x01": "zlib (deflate)",
    b"\x78\x9c": "zlib (deflate)",
    b"\x78\xda": "zlib (deflate)",
    b"%PDF": "a PDF file",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"GIF8": "an image",
    b"PAR1": "a Parquet file",
    b"Obj\x01": "an Avro file",
    b"ORC": "an ORC file",
    b"SQLite format 3": "an SQLite database",
    b"\x80\x02": "a pickle of Python",
    b"\x80\x04": "a pickle of Python",
    b"version https://git-lfs": "a pointer of Git LFS",
}
_WITHOUT_MARK = re.compile(rb"[\[{<]\0(?:\0\0)?[^\0]\0|\0(?:\0\0)?[\[{<]\0")
_HTML = re.compile(rb"<!doctype html|<html|<head|<body", re.IGNORECASE)
_TITLE = re.compile(rb"<title[^>]*>(.{1,400}?)</title>", re.IGNORECASE | re.DOTALL)
_XML_ERROR = re.compile(rb"<Error>.{0,400}?<Code>([A-Za-z.]{1,100})</Code>", re.DOTALL)
_JSON_PIECE = re.compile(rb'"(?:[^"\\]|\\.)*+"|["\[{\]}]', re.DOTALL)
_REPR_PIECE = re.compile(rb"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|['"\[{\]}]""", re.DOTALL)
_BEGINNING = 4096
_SHOWN = 60
_MOST_FIELDS = 100_000


def described(body: bytes) -> str:
    """What the body is, to follow "it is"; nothing where that cannot be told."""
    start = body[:_BEGINNING]
    if body and not start.strip(b"\0") and not body.strip(b"\0"):
        return f"nothing but zero bytes ({len(body):,})"
    for magic, what in _MAGIC.items():
        if start.startswith(magic):
            return what
    text = start.lstrip()
    if text.startswith(b"<"):
        return _of_markup(text)
    if _WITHOUT_MARK.match(start):
        return "UTF-16 or UTF-32 without a byte order mark"
    return "protobuf, such as GTFS-realtime" if _is_protobuf(body) else ""


def ending(text: bytes, is_repr: bool) -> str:
    """How a list, or an object, ends, if that is what is wrong with it; else nothing."""
    depth = 0
    for piece in (_REPR_PIECE if is_repr else _JSON_PIECE).finditer(text):
        found = piece[0]
        if found in (b"[", b"{"):
            depth += 1
        elif found in (b"]", b"}"):
            depth -= 1
            if depth == 0:
                return _behind(text[piece.end() :].strip(), text[:1] == b"{")
        elif len(found) == 1:  # a string without an end
            break
    zeros = len(text) - len(text.rstrip(b"\0"))
    how = f"in {figures.count(zeros, 'zero byte')}" if zeros else "cut off"
    return f"it ends in the middle ({how})"


def _behind(rest: bytes, is_object: bool) -> str:
    if not rest:
        return ""
    if not rest.strip(b"\0"):
        return f"behind its end there is nothing but {figures.count(len(rest), 'zero byte')}"
    if is_object:
        return f"it is one object with something behind it, not a list of records: {_shown(rest)}"
    return f"something stands behind its end: {_shown(rest)}"


def _of_markup(start: bytes) -> str:
    if _HTML.search(start):
        title = _TITLE.search(start)
        return "an HTML page" + (f" ({_shown(title[1])})" if title else "")
    if error := _XML_ERROR.search(start):
        return f"an error in XML ({error[1].decode()})"
    return "XML or HTML"


def _shown(text: bytes) -> str:
    text = text[: 4 * _SHOWN]
    words = " ".join(html.unescape(text.decode("utf-8", "replace")).split())
    words = "".join(letter if letter.isprintable() else "?" for letter in words)
    return words if len(words) <= _SHOWN else f"{words[:_SHOWN]} …"


def _is_protobuf(body: bytes) -> bool:
    """Whether all of it is fields of protobuf's wire format, and some of it no text."""
    if not re.search(rb"[\0-\x08\x0e-\x1f]", body[:_BEGINNING]):
        return False
    at = 0
    for _ in range(_MOST_FIELDS):
        if at == len(body):
            return True
        tag, at = _varint(body, at)
        if tag < 8 or tag >> 3 >= 1 << 29:
            return False
        match tag & 7:
            case 0:
                value, at = _varint(body, at)
                if value < 0:
                    return False
            case 1:
                at += 8
            case 5:
                at += 4
            case 2:
                length, at = _varint(body, at)
                if length < 0:
                    return False
                at += length
            case _:
                return False
        if at > len(body):
            return False
    return False


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """A number, and where the next byte is; -1 where there is none."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(body):
            return -1, at
        value |= (body[at] & 0x7F) << shift
        at += 1
        if body[at - 1] < 0x80:
            return value, at
    return -1, at
