"""JSON text of a list of records to the bytes of each record, compact, every token as it was.

`split` promises that reading each record as JSON gives what ``json.loads`` gives for the whole,
value for value and in the same order: numbers keep their digits, text its escapes. Text that is
no JSON, that no JSON reader could read back (NaN, Infinity, nesting without end), or that is no
list of objects raises `NotRecords` with a reason. It knows nothing of vehicles, and never builds
the values on the usual path.
"""

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import msgspec

_FOR_PYTHON_ONLY = re.compile(rb"\\u[dD][89a-fA-F]|NaN|Infinity")
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[^\s"]++')
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"')
_BRACKETS = re.compile(rb"[\[{]++|[\]}]++")
_SPACE = re.compile(r"[ \t\n\r]*+")


DEEPEST = 500
"""How deeply values may be nested: what every reader can bear."""


class NotRecords(ValueError):
    """The text is no list of records; ``str()`` of it says why, to follow "because"."""


def split(text: bytes) -> list[bytes]:
    """One compact JSON object for each record of a JSON list, in order."""
    import msgspec  # here, since it takes a while to import and most processes never need it

    must_be_utf8(text)
    try:
        compact = msgspec.json.format(text, indent=-1)
        records = _let_go(msgspec.json.decode(compact, type=list[msgspec.Raw]))
    except msgspec.ValidationError:
        raise NotRecords(f"it is {_kind(text)}, not a list of records") from None
    except RecursionError:
        raise NotRecords("its values are nested too deeply") from None
    except msgspec.DecodeError as error:
        # msgspec refuses half a surrogate pair, which Python's json writes and reads; and it says
        # less well than we can what is wrong with NaN.
        if _FOR_PYTHON_ONLY.search(text):
            records = list(_split_by_tokens(text.decode()))
        else:
            raise NotRecords(_sentence(error)) from None
    if bytes(record[0] for record in records).strip(b"{"):
        odd = next(record for record in records if record[:1] != b"{")
        raise NotRecords(f"it is a list that holds {_kind(odd)} where a record should be")
    if any(_is_too_deep(record) for record in records):
        raise NotRecords("its values are nested too deeply")
    return records


def _let_go(slices: "list[msgspec.Raw]") -> list[bytes]:
    """The slices as bytes; each is gone as soon as it is read, for a record may be two bytes."""
    slices.reverse()
    return [bytes(slices.pop()) for _ in range(len(slices))]


def _is_too_deep(record: bytes) -> bool:
    """Whether some reader may run out of stack: Python's does, sooner or later after 900 levels."""
    if record.count(b"[") + record.count(b"{") <= DEEPEST:
        return False
    depth = 0
    for brackets in _BRACKETS.finditer(_STRING.sub(b"", record)):
        length = brackets.end() - brackets.start()
        depth += length if brackets[0][:1] in b"[{" else -length
        if depth > DEEPEST:
            return True
    return False


def must_be_utf8(text: bytes) -> None:
    """Raises `NotRecords` where the bytes are no text."""
    if text.isascii():
        return
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise NotRecords(f"byte {error.start} is not UTF-8 text") from None


def _split_by_tokens(text: str) -> Iterator[bytes]:
    decoder = json.JSONDecoder(parse_int=str, parse_constant=_refuse_constant)
    try:
        at = _skip_space(text, 0)
        if not text.startswith("[", at):
            decoder.decode(text)
            raise NotRecords(f"it is {_kind(text.encode())}, not a list of records")
        at = _skip_space(text, at + 1)
        has_more = not text.startswith("]", at)
        while has_more:
            _, end = decoder.raw_decode(text, at)  # one at a time: all would be too many objects
            yield "".join(_TOKEN.findall(text, at, end)).encode()
            at = _skip_space(text, end)
            has_more = text.startswith(",", at)
            if has_more:
                at = _skip_space(text, at + 1)
            elif not text.startswith("]", at):
                raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
        at = _skip_space(text, at + 1)
        if at < len(text):
            raise json.JSONDecodeError("Extra data", text, at)
    except json.JSONDecodeError as error:
        raise NotRecords(f"it is not JSON ({error})") from None
    except RecursionError:
        raise NotRecords("its values are nested too deeply") from None


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _refuse_constant(name: str) -> NoReturn:
    raise NotRecords(f"it holds {name}, which JSON cannot hold")


def _kind(text: bytes) -> str:
    first = text.lstrip()[:1]
    kinds = {b"{": "one object", b"[": "a list", b'"': "a text", b"t": "true", b"f": "false"}
    return kinds.get(first, "null" if first == b"n" else "a number")


def _sentence(error: Exception) -> str:
    """msgspec's message, which says where, in the words of the reasons here."""
    message = str(error)
    if "truncated" in message:
        return "it ends in the middle (cut off)"
    return "it is not JSON (" + message.removeprefix("JSON is malformed: ") + ")"
