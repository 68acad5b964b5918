"""What a raw snapshot is: its name, its time, and the records in its body.

A snapshot is one object named ``bustimes__YYYY-MM-DD__HH-MM-SS.json``, under ``raw/`` or at the
root, whose name tells its time in UTC and whose body is one list of flat records, a vehicle each.
Until 10 November 2021 a body is Python 2's ``repr``, since then JSON; the content decides, never
the date, nor the name or the header that may say that it is gzip or zstd. `read_records` gives
every record's bytes or raises `Refused` with the reason, thoroughly and by Python's own means: what
the kernel reads at machine speed must be the same. Pure functions over names and bytes: nothing
here reads files, settings or the clock.
"""

import codecs
import datetime as dt
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tasks import decompression
from tasks.bustimes import json_records, python_repr, reasons
from tasks.bustimes.python_repr import CODE_POINTS, Escapes

PREFIXES = ("raw/bustimes__", "bustimes__")
"""What a snapshot's key starts with: under raw/, and at the root as before raw/ existed."""

_KEY = re.compile(r"(?:raw/)?bustimes__(\d{4})-(\d\d)-(\d\d)__(\d\d)-(\d\d)-(\d\d)\.json", re.ASCII)
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",  # before the one that it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_MOST_LAYERS = 4
_KINDS = {b"n": "null", b"t": "boolean", b"f": "boolean"} | {
    b'"': "text",
    b"[": "list",
    b"{": "object",
}
_NO_INTEGER = re.compile(rb"[.eE]")

VehicleKey = int | tuple[str, str]
"""What one hour is ordered by: a whole number, or the kind and JSON text of anything else."""

MISSING = ("missing", "")
"""The key of records without a vehicle, or with null for it."""


MOST_BYTES = 64 << 20
"""What a body may have when it is unpacked, unless a caller says otherwise."""


class Refused(ValueError):
    """A body that cannot be read as a snapshot; ``str()`` of it is the reason.

    `has_asked_setting` as in `Records`.
    """

    def __init__(self, reason: str, has_asked_setting: bool = False) -> None:
        super().__init__(reason)
        self.has_asked_setting = has_asked_setting


class _NoMeaning(json_records.NotRecords):
    """A list of records in Python's repr, one of whose literals has no value, or two."""


@dataclass(frozen=True)
class Records:
    """The records of one snapshot, compact JSON objects, in the order of the body.

    `vehicles` holds the sort key of each. `has_asked_setting` tells whether another setting of
    `python_escapes` might have given other records.
    """

    records: list[bytes]
    vehicles: list[VehicleKey]
    has_asked_setting: bool = False


def time_of(key: str) -> dt.datetime | None:
    """The UTC time in a snapshot's key, or None where the key is not a snapshot's."""
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    try:
        return dt.datetime(*map(int, match.groups()), tzinfo=dt.UTC)  # type: ignore[arg-type, misc]
    except ValueError:  # 31 February, 25 o'clock
        return None


def key_of(time: dt.datetime) -> str:
    """The key that the collector gives to a snapshot of this UTC time."""
    return f"raw/bustimes__{time.astimezone(dt.UTC):%Y-%m-%d__%H-%M-%S}.json"


@dataclass(frozen=True)
class Text:
    """What there is to read in a body: `content` is UTF-8 unless something else is wrong with it.

    `whole` is the same with the space around it, `wrapping` what it was unpacked or decoded from.
    """

    content: bytes
    whole: bytes
    wrapping: str = ""

    def refused(self, reason: str, has_asked_setting: bool = False) -> Refused:
        """The reason, and where it holds."""
        inside = f"inside {self.wrapping}, " if self.wrapping else ""
        return Refused(inside + reason, has_asked_setting)


def text_of(body: bytes, most_bytes: int = MOST_BYTES) -> Text | None:
    """What there is to read in a body, or None where nobody drove; raises `Refused`.

    gzip and zstd are unpacked, to `most_bytes` at the most, and UTF-16 and UTF-32 decoded, whatever
    the object is called; the first bytes tell.
    """
    wrapping = []
    for _ in range(_MOST_LAYERS):  # who packs by hand what is packed on the way packs twice
        packed = decompression.format_of(body)
        if not packed:
            break
        body = _unpacked(body, packed, most_bytes)
        wrapping.append(packed)
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if body.startswith(mark):
            if encoding == "utf-8":
                body = body.removeprefix(mark)
            else:
                body = _decoded(body, encoding)
                wrapping.append(encoding.upper())
            break
    text = Text(body.strip(), body, " in ".join(reversed(wrapping)))
    content = text.content
    if content == b"[]" or _is_empty_object(content):
        return None
    if not content:
        raise text.refused("it is empty")
    if content[:1] == b"<":
        raise text.refused(f"it is {reasons.described(body)}")
    return text


def _is_empty_object(text: bytes) -> bool:
    return text[:1] == b"{" and text[-1:] == b"}" and not text[1:-1].strip()


def _unpacked(body: bytes, packed: str, most_bytes: int) -> bytes:
    try:
        return decompression.inflated(body, packed, most_bytes)
    except decompression.Damaged as damage:
        raise Refused(f"it is {packed} {damage}") from None
    except decompression.TooLarge:
        most = most_bytes >> 20
        raise Refused(
            f"it is {packed} of more than {most:,} MB, and max_snapshot_mb is {most}"
        ) from None


def _decoded(body: bytes, encoding: str) -> bytes:
    try:
        return body.decode(encoding).encode()
    except UnicodeDecodeError as error:
        raise Refused(
            f"it begins with the byte order mark of {encoding.upper()}, which it is not from byte "
            f"{error.start} on"
        ) from None


def is_utf8(text: bytes) -> bool:
    try:
        json_records.must_be_utf8(text)
    except json_records.NotRecords:
        return False
    return True


def read_one_record(
    text: bytes, is_repr: bool, escapes: Escapes
) -> tuple[bytes, VehicleKey] | None:
    """One record of a body, from brace to brace, and its sort key; None where it is none."""
    try:
        one = python_repr.to_json(text, escapes) if is_repr else text
        (record,) = json_records.split(b"[" + one + b"]")
        fields = fields_of(record)
        return None if "snapshot_time" in fields else (record, _vehicle(fields))
    except (ValueError, RecursionError):
        return None


def read_records(body: bytes, python_escapes: str = "", most_bytes: int = MOST_BYTES) -> Records:
    """Every record of a body, exactly; raises `Refused` where it is no snapshot.

    `python_escapes` is the setting: `python_repr.UTF_8` or `CODE_POINTS`, or nothing; `most_bytes`
    is how much it may be when it is unpacked.
    """
    text = text_of(body, most_bytes)
    return Records([], []) if text is None else records_of(text, python_escapes)


def records_of(text: Text, python_escapes: str = "") -> Records:
    """Every record of a body's text, as `read_records` gives them."""
    content = text.content
    escapes = Escapes(content, python_escapes)
    try:
        records = _split(content, escapes)
    except json_records.NotRecords as error:
        raise text.refused(_reason(text, str(error)), escapes.has_asked_setting) from None
    try:
        vehicles = [_vehicle_or_refused(text, *one) for one in enumerate(records, 1)]
    except RecursionError:  # Python's json gives up a little earlier than the splitting does
        raise text.refused("its values are nested too deeply") from None
    return Records(records, vehicles, escapes.has_asked_setting)


def _reason(text: Text, error: str) -> str:
    if what := reasons.described(text.whole):
        return f"it is {what}"
    content = text.content
    is_list = content[:1] in (b"[", b"{")
    return (is_list and reasons.ending(content, not looks_like_json(content))) or error


def _split(text: bytes, escapes: Escapes) -> list[bytes]:
    """Read as the format it looks like, then as the other; the reason is the first one's.

    Unless it is no other format than repr, and what it cannot be read for is a literal's meaning.
    """

    def as_repr(text: bytes) -> list[bytes]:
        return _split_repr(text, escapes)

    ways = [json_records.split, as_repr]
    if not looks_like_json(text):
        ways.reverse()
    try:
        return ways[0](text)
    except json_records.NotRecords as reason:
        try:
            return ways[1](text)
        except _NoMeaning:
            raise
        except json_records.NotRecords:
            raise reason from None


def looks_like_json(text: bytes) -> bool:
    """Whether to read it as JSON first: its first string starts with a double quote and no u."""
    quote = text.find(b'"')
    first = quote >= 0 and text.find(b"'", 0, quote) < 0
    return first and text[quote - 1 : quote] not in (b"u", b"U")


def _split_repr(text: bytes, escapes: Escapes) -> list[bytes]:
    json_records.must_be_utf8(text)
    try:
        return json_records.split(python_repr.to_json(text, escapes))
    except python_repr.NoMeaning as error:
        _must_be_records_otherwise(text)
        raise _NoMeaning(str(error)) from None
    except json_records.NotRecords as error:
        raise _neither(error) from None
    except ValueError as error:
        raise json_records.NotRecords(f"it is not Python's repr ({error})") from None


def _must_be_records_otherwise(text: bytes) -> None:
    """Raises `NotRecords` where it would be no list of records, whatever its literals meant."""
    try:
        json_records.split(python_repr.to_json(text, Escapes(b"", CODE_POINTS)))
    except json_records.NotRecords as error:
        raise _neither(error) from None
    except ValueError as error:
        raise json_records.NotRecords(f"it is not Python's repr ({error})") from None


def _neither(error: json_records.NotRecords) -> json_records.NotRecords:
    message = str(error).replace("it is not JSON", "it is neither JSON nor Python's repr")
    return json_records.NotRecords(message)


def fields_of(record: bytes) -> dict[str, bytes]:
    """Each field of a compact record as the JSON text of its value; the last of equal names.

    Half surrogates in names are backslash escapes again, so that every name is text.
    """
    import msgspec  # here, since it takes a while to import and most processes never need it

    try:
        values = msgspec.json.decode(record, type=dict[str, msgspec.Raw])
        return {name: bytes(value) for name, value in values.items()}
    except msgspec.DecodeError:  # half a surrogate pair
        return dict(_fields_by_tokens(record.decode()))


def _fields_by_tokens(record: str) -> Iterator[tuple[str, bytes]]:
    decoder = json.JSONDecoder(parse_int=str)
    at = 1
    while record[at] != "}":
        name, colon = decoder.raw_decode(record, at + (record[at] == ","))
        _, at = decoder.raw_decode(record, colon + 1)
        yield name.encode("utf-8", "backslashreplace").decode(), record[colon + 1 : at].encode()


def kind_of(value: bytes) -> str:
    """What kind of value a JSON text is: one of `kernel.KINDS`."""
    kind = _KINDS.get(value[:1])
    return kind or ("number" if _NO_INTEGER.search(value) else "integer")


def _vehicle_or_refused(text: Text, number: int, record: bytes) -> VehicleKey:
    fields = fields_of(record)
    if "snapshot_time" in fields:
        raise text.refused(
            f"record {number} has a field snapshot_time of its own, which the week file adds"
        )
    return _vehicle(fields)


def _vehicle(fields: dict[str, bytes]) -> VehicleKey:
    text = fields.get("vehicleID", b"null")
    if text == b"null":
        return MISSING
    value = _VEHICLES.decode(text.decode())
    return value if type(value) is int else (type(value).__name__, json.dumps(value))


def _whole_number(digits: str) -> int | str:
    return int(digits) if len(digits.removeprefix("-")) <= 18 else digits


_VEHICLES = json.JSONDecoder(parse_int=_whole_number)
