"""The snapshots of a made-up fleet: their moments, keys and bodies, one by one or as files.

The module knows what the collector wrote (28 fields a vehicle, Python 2 ``repr`` until the morning
of 10 November 2021, JSON since). It promises the same bytes for the same arguments on every
machine, memory that does not grow with the span, and that what a moment holds (unless it is made
unreadable) does not depend on where the span starts or ends: a vehicle's place follows from the
moment, its timetable and a drifting delay. It never reads settings, a clock or real data, and
never talks to a network.
"""

import datetime as dt
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm import tqdm

from tasks.bustimes.snapshot import key_of
from tasks.bustimes.synthetic.fleet import DEADHEAD, Block, Fleet, Stop, Vehicle
from tasks.bustimes.synthetic.python2 import python2_text
from tasks.problem import Problem

LAST_REPR = dt.datetime(2021, 11, 10, 7, 15, 5, tzinfo=dt.UTC)
"""The last snapshot that is Python 2 ``repr``; later ones are JSON."""

# Fields in the order in which Python 2's dict held them, and in the order of the JSON bodies.
_REPR_ORDER = """
lastLocID newTrip tripID vehicleID bearing extraBlockID signMessageLong nextStopSeq inCongestion
nextLocID blockID delay source signMessage serviceDate latitude type direction
locationInScheduleDay expires routeNumber offRoute loadPercentage longitude garage lastStopSeq time
messageCode"""
_JSON_ORDER = """
expires signMessage serviceDate loadPercentage latitude nextStopSeq source type blockID
signMessageLong lastLocID nextLocID locationInScheduleDay newTrip longitude direction inCongestion
routeNumber bearing garage tripID delay extraBlockID messageCode lastStopSeq vehicleID time
offRoute"""
_CHANGING = (  # in the course of a trip
    *("bearing", "delay", "expires", "inCongestion", "lastLocID", "lastStopSeq", "latitude"),
    *("loadPercentage", "locationInScheduleDay", "longitude", "newTrip", "nextLocID"),
    *("nextStopSeq", "time"),
)

_REPORT = 60  # seconds from one report of a vehicle to the next, whatever the snapshots' interval
_DWELL = 14  # seconds at each stop
_DRIFT = 900  # seconds in which a delay goes in a straight line from one value to another
_OFF, _WAITING, _DRIVING = 0, 1, 2  # without a trip, at the end of the line, on the way

_ERROR_PAGE = b"<html>\n<head><title>503 Service Unavailable</title></head>\n</html>\n"


def snapshots(
    start: dt.datetime,
    end: dt.datetime,
    *,
    interval_seconds: int = 60,
    vehicles: int = 275,
    seed: int = 0,
    unreadable: int = 0,
) -> Iterator[tuple[str, bytes]]:
    """The key and body of every snapshot from `start` to before `end`, in order of time.

    There is one snapshot every `interval_seconds`, five seconds after the full interval.
    `vehicles` (1 to 2,000) report by day and fewer by night, three quarters of them on average;
    now and then a night has a few empty snapshots. Of all snapshots, `unreadable` ones, spread
    evenly, are cut off or an error page. Raises `Problem` for arguments that cannot be met.
    """
    times = _times(start, end, interval_seconds)
    if not 1 <= vehicles <= 2000:
        raise Problem(f"A fleet has 1 to 2,000 vehicles, not {vehicles:,}.")
    if seed < 0:
        raise Problem(f"A seed is a whole number from 0 on, not {seed}.")
    if not 0 <= unreadable <= len(times):
        raise Problem(f"Of {len(times):,} snapshots, {unreadable:,} cannot be unreadable.")
    return _snapshots(times, Fleet(vehicles, seed), unreadable)


def write_folder(
    folder: Path, start: dt.datetime, end: dt.datetime, *, progress: bool = False, **options: int
) -> int:
    """Write what `snapshots` gives for the same options as files in ``folder/raw/``.

    Returns how many. Files of the same names are written over, others stay. With `progress` a bar
    goes to stderr, if that is a terminal. Raises `Problem` for arguments that cannot be met and a
    folder that cannot be written.
    """
    made = snapshots(start, end, **options)
    total = len(_times(start, end, options.get("interval_seconds", 60)))
    try:
        (folder / "raw").mkdir(parents=True, exist_ok=True)
        bar = tqdm(made, total=total, unit=" snapshots", disable=None if progress else True)
        for key, body in bar:
            (folder / key).write_bytes(body)
    except OSError as error:
        raise Problem(f"{folder} cannot be written ({error.strerror}).") from None
    return total


def _times(start: dt.datetime, end: dt.datetime, interval_seconds: int) -> range:
    """The snapshots' moments, in seconds since the epoch."""
    if start.tzinfo is None or end.tzinfo is None:
        raise Problem("A span of time needs datetimes that know their time zone.")
    if interval_seconds < 1:
        raise Problem(f"The interval is at least one second, not {interval_seconds}.")
    first, behind = math.ceil(start.timestamp()), math.ceil(end.timestamp())
    return range(first + (5 - first) % interval_seconds, behind, interval_seconds)


def _snapshots(times: range, fleet: Fleet, unreadable: int) -> Iterator[tuple[str, bytes]]:
    broken = {(2 * n + 1) * len(times) // (2 * unreadable): n for n in range(unreadable)}
    last_repr = int(LAST_REPR.timestamp())
    old, new = _Writer(fleet, json_era=False), _Writer(fleet, json_era=True)
    for index, time in enumerate(times):
        body = (old if time <= last_repr else new).body(time)
        if index in broken:
            body = _ERROR_PAGE if broken[index] % 2 else body[: len(body) // 2]
        yield key_of(dt.datetime.fromtimestamp(time, dt.UTC)), body


class _Writer:
    """Bodies of one format.

    Making and serialising 28 fields is slow. Of a trip's records only some fields differ, so a
    text with gaps for them is made once a trip, and each report fills the gaps.
    """

    def __init__(self, fleet: Fleet, *, json_era: bool) -> None:
        self._fleet, self._noise = fleet, fleet.noise
        self._day = fleet.day(0)
        self._fields = (_JSON_ORDER if json_era else _REPR_ORDER).split()
        self._serialise: Callable[[object], str] = json.dumps if json_era else python2_text
        self._words = [self._serialise(word) for word in (None, False, True)]
        self._gaps = {name: self._serialise(f"<{name}>") for name in _CHANGING}
        self._kept: dict[int, tuple[int, str]] = {}
        self._templates: dict[int, tuple[tuple[int, int, int], str]] = {}

    def body(self, time: int) -> bytes:
        """The snapshot of a moment, in seconds since the epoch."""
        if not self._day.start <= time < self._day.end:
            self._day = self._fleet.day(time)
            self._kept.clear()
        if time in self._day.outage:
            return b"[]" if self._day.number % 2 else b"{}"
        records = []
        for vehicle, block in self._day.duties:
            report = self._last_report(vehicle, time)
            if block.start <= report - self._day.midnight < block.end:
                kept = self._kept.get(vehicle.number)
                if kept is None or kept[0] != report:
                    kept = self._kept[vehicle.number] = report, self._text(vehicle, block, report)
                records.append(kept[1])
        return ("[" + ", ".join(records) + "]").encode("ascii")

    def _last_report(self, vehicle: Vehicle, time: int) -> int:
        """Now and then a report goes missing, never two in a row: then the one before counts."""
        minute = (time - 2 - vehicle.phase) // _REPORT
        if minute % 2 and self._noise(vehicle.unit * 41, minute) < 4000:
            minute -= 1
        return minute * _REPORT + vehicle.phase

    def _text(self, vehicle: Vehicle, block: Block, report: int) -> str:
        """The record of a vehicle that reports at a moment, serialised."""
        null, no, yes = self._words
        seconds = report - self._day.midnight
        delay = self._delay(vehicle, seconds)
        trip, progress = divmod(seconds + delay - block.start - DEADHEAD, block.cycle)
        stage = _DRIVING if trip >= 0 else _OFF
        if trip >= 0 and progress >= block.trip:
            trip += 1  # at the end of the line a vehicle already belongs to its next trip
            stage = _OFF if self._noise(vehicle.unit * 19, trip) < 300 else _WAITING
        stops = block.ways[max(trip, 0) % 2].stops
        noise = self._noise(vehicle.unit * 31, report // _REPORT)
        values: dict[str, object] = dict.fromkeys(_CHANGING, null)
        values["time"] = report * 1000 + noise % 1000
        values["expires"] = (report + (605 if vehicle.source == "tab" else 235) + noise % 3) * 1000
        if stage == _DRIVING:
            values |= _under_way(block, stops, progress)
            values |= {"newTrip": yes if progress < _REPORT else no}
            values |= {"delay": delay, "locationInScheduleDay": seconds + delay}
        else:
            values |= _place(stops[0], stops[0], 0, 1)
        if stage == _WAITING:
            values |= {"nextLocID": stops[0].location, "nextStopSeq": 1}
            values |= {"newTrip": no, "delay": 0, "locationInScheduleDay": seconds}
        if vehicle.source == "vm" and stage != _OFF:
            crowd = self._noise(vehicle.unit * 13, seconds // 600)
            values["inCongestion"] = yes if noise < 90 else no
            values["loadPercentage"] = 0 if crowd < 9000 else 40 + crowd % 6 * 10
        return self._template(vehicle, block, trip, stage) % values

    def _delay(self, vehicle: Vehicle, seconds: int) -> int:
        """Seconds ahead of the timetable: mostly below 0, as vehicles are late."""
        knot, rest = divmod(seconds, _DRIFT)
        knot += vehicle.unit * 53 + self._day.number * 7
        before, after = self._noise(knot), self._noise(knot + 1)
        return (before * (_DRIFT - rest) + after * rest) // (_DRIFT * 24) - 360

    def _template(self, vehicle: Vehicle, block: Block, trip: int, stage: int) -> str:
        """The record's text with ``%(name)s`` for what changes from report to report."""
        trip_of_day = self._day.number, trip, stage
        kept = self._templates.get(vehicle.number)
        if kept is not None and kept[0] == trip_of_day:
            return kept[1]
        luck = self._noise(vehicle.unit * 17, trip)
        values: dict[str, object] = dict.fromkeys(self._fields) | block.fields
        values |= {"vehicleID": vehicle.number, "source": vehicle.source, "offRoute": luck < 50}
        values |= {"serviceDate": self._day.midnight * 1000}
        if luck > 9800:
            values["extraBlockID"] = block.first_trip % 10_000
        if stage != _OFF:
            values |= {"tripID": str(block.first_trip + trip), "direction": trip % 2}
            values["garage"] = block.garage
        if stage == _DRIVING:
            values |= block.ways[trip % 2].signs
        values |= {name: f"<{name}>" for name in _CHANGING}
        text = self._serialise({name: values[name] for name in self._fields}).replace("%", "%%")
        for name, gap in self._gaps.items():
            text = text.replace(gap, f"%({name})s")
        self._templates[vehicle.number] = trip_of_day, text
        return text


def _under_way(block: Block, stops: list[Stop], progress: int) -> dict[str, object]:
    """Where a vehicle is so many seconds after it began a trip."""
    hop, rest = divmod(progress, block.hop)
    here, there = stops[hop], stops[hop + 1]
    return {
        "lastLocID": here.location,
        "lastStopSeq": hop + 1,
        "nextLocID": there.location,
        "nextStopSeq": hop + 2,
        **_place(here, there, max(0, rest - _DWELL), block.hop - _DWELL),
    }


def _place(here: Stop, there: Stop, driven: int, drive: int) -> dict[str, object]:
    latitude = here.latitude + (there.latitude - here.latitude) * driven // drive
    longitude = here.longitude + (there.longitude - here.longitude) * driven // drive
    return {
        "latitude": latitude / 10_000_000,
        "longitude": longitude / 10_000_000,
        "bearing": here.bearing,
    }
