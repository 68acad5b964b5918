"""Reads a body by the kernel and by Python's own parsers, and holds the one against the other."""

import datetime as dt
import zlib

from tasks.bustimes import snapshot
from tasks.bustimes.hour import ConvertedHour, convert, line_end
from tasks.bustimes.snapshot import Records, Refused

_KEY, _TIME = (
    "raw/bustimes__2021-11-08__00-00-05.json",
    dt.datetime(2021, 11, 8, 0, 0, 5, tzinfo=dt.UTC),
)


def converted(
    body: bytes, order: str = "snapshot", level: int = 1, python_escapes: str = ""
) -> ConvertedHour:
    """The body as the only one of its hour."""
    return convert(
        [(_KEY, _TIME, body)],
        order,
        level,
        count=1,
        largest=len(body),
        python_escapes=python_escapes,
    )


def read_records(body: bytes, python_escapes: str = "") -> Records:
    """What `snapshot.read_records` gives; fails unless the conversion gives the same."""
    try:
        wanted = snapshot.read_records(body, python_escapes)
    except Refused as refused:
        reason = refused
    else:
        _must_be_converted(body, wanted, python_escapes)
        return wanted
    hour = converted(body, python_escapes=python_escapes)
    assert hour.refused == [(_KEY, str(reason))]
    assert hour.has_asked_setting == reason.has_asked_setting
    assert (hour.lines, hour.segment, hour.fields, hour.vehicles) == (0, b"", {}, [])
    raise reason


def _must_be_converted(body: bytes, wanted: Records, python_escapes: str) -> None:
    end = line_end(_TIME)
    lines = [
        (b"{" + end[1:] if record == b"{}" else record[:-1] + end) for record in wanted.records
    ]
    as_it_came = converted(body, python_escapes=python_escapes)
    assert _lines(as_it_came) == b"".join(lines)
    assert as_it_came.has_asked_setting == wanted.has_asked_setting
    places = range(len(lines))
    by_vehicle = sorted(places, key=lambda place: _rank(wanted.vehicles[place]))
    for level in (0, 1):
        hour = converted(body, "vehicle", level, python_escapes)
        assert _lines(hour) == b"".join(lines[place] for place in by_vehicle)


def _rank(vehicle: snapshot.VehicleKey) -> tuple[bool, snapshot.VehicleKey]:
    return isinstance(vehicle, tuple), vehicle


def _lines(hour: ConvertedHour) -> bytes:
    return zlib.decompressobj(-15).decompress(hour.segment) if hour.lines else b""
