"""Synthetic raw snapshots: a made-up fleet that moves around Portland, for tests and benchmarks.

The module knows what the collector wrote (28 fields a vehicle, Python 2 ``repr`` until the morning
of 10 November 2021, JSON since) and makes such bodies for any span of time. It promises the same
bytes for the same arguments on every machine, memory that does not grow with the span, and that
what a moment holds (unless it is made unreadable) does not depend on where the span starts or
ends: a vehicle's place follows from the moment, its timetable and a drifting delay. It never reads
settings, a clock or real data, and never talks to a network.
"""

import argparse
import datetime as dt
import json
import math
import random
import re
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from tasks.bustimes.snapshot import key_of
from tasks.problem import Problem
from tasks.weeks import Week

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

_HOUR = 3600
_DAY_START = 12_600  # a service day lasts from 3:30 until 3:30, local time
_REPORT = 60  # seconds from one report of a vehicle to the next, whatever the snapshots' interval
_DEADHEAD = 240  # seconds on the street before the first trip, without one
_DWELL = 14  # seconds at each stop
_DRIFT = 900  # seconds in which a delay goes in a straight line from one value to another
_OFF, _WAITING, _DRIVING = 0, 1, 2  # without a trip, at the end of the line, on the way
_NOISE_SIZE = 8191  # a prime: walking through the table in steps of any size meets all of it
_SOUTH, _NORTH = 453_100_000, 455_900_000  # places are in degrees times ten million
_WEST, _EAST = -1_228_900_000, -1_224_100_000
_UNITS_A_METRE_NORTH, _UNITS_A_METRE_EAST = 89.9, 128.2
# Rounded, as the last digit of a sine differs between machines.
_COMPASS = [
    (round(math.cos(math.radians(bearing)), 9), round(math.sin(math.radians(bearing)), 9))
    for bearing in range(360)
]

_STREETS = ("Alderwood", "Larkspur", "Quarry", "Millrace", "Thornton", "Ferry", "Beacon", "Foundry")
_TOWNS = ("Cedar", "Foster", "Mill", "Larch", "River", "Oak", "Summit", "Tanner", "Heron", "Union")
_SPOTS = ("Landing", "Heights", "Junction", "Bluff", "Crossing", "Terrace", "Pond")
_KINDS = (" Transit Center", " Park & Ride", "", " TC", " Mall", "/112th Ave", " Station")
_LINES = ("Amber", "Violet", "Silver", "Copper", "Teal")
_ODD_PLACES = {
    2: "Shriner's Hospital",
    5: "Café Montréal\N{RIGHT SINGLE QUOTATION MARK}s Plaza \N{TRAM}",
    7: "Dock 4\\5",
    11: 'Men\'s "Old Mill" Shelter',
    14: "St. Mary's Academy",
}

_ERROR_PAGE = b"<html>\n<head><title>503 Service Unavailable</title></head>\n</html>\n"


class Long(int):
    """A whole number that Python 2 kept as a long: `python2_repr` prints it with an L."""


def python2_repr(value: object, *, surrogate_pairs: bool = True) -> bytes:
    r"""What 64-bit Python 2.7's ``repr`` prints for None, bool, int, `Long`, float, str (a
    ``unicode`` there), bytes (a ``str`` there), and lists and dicts of these.

    A character beyond U+FFFF is printed as two escapes (``\ud83d\ude00``), as Python 2 did where
    the halves had arrived apart; without `surrogate_pairs` as one (``\U0001f600``), as it did
    otherwise. Raises `TypeError` for a value of another type.
    """
    return _python2_text(value, surrogate_pairs).encode("ascii")


def _python2_text(value: object, pairs: bool = True) -> str:
    match value:
        case None | bool() | float():
            return repr(value)
        case int():
            long = isinstance(value, Long) or not -(1 << 63) <= value < 1 << 63
            return int.__repr__(value) + ("L" if long else "")
        case str():
            quote = '"' if "'" in value and '"' not in value else "'"
            text = re.sub("[\U00010000-\U0010ffff]", _halves, value) if pairs else value
            escaped = text.encode("unicode_escape").decode("ascii")
            return "u" + quote + escaped.replace(quote, "\\" + quote) + quote
        case bytes():
            return repr(value)[1:]
        case list():
            return "[" + ", ".join(_python2_text(item, pairs) for item in value) + "]"
        case dict():
            texts = [(_python2_text(k, pairs), _python2_text(v, pairs)) for k, v in value.items()]
            return "{" + ", ".join(f"{key}: {text}" for key, text in texts) + "}"
    raise TypeError(f"python2_repr cannot print a {type(value).__name__}")


def _halves(match: re.Match[str]) -> str:
    return "".join(map(chr, struct.unpack(">2H", match[0].encode("utf-16-be"))))


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
    return _snapshots(times, _Fleet(vehicles, seed), unreadable)


def write_folder(
    folder: Path, start: dt.datetime, end: dt.datetime, *, progress: bool = False, **options: int
) -> int:
    """Write what `snapshots` gives for the same options as files in ``folder/raw/``.

    Returns how many. Files of the same names are written over, others stay. With `progress` a bar
    goes to stderr. Raises `Problem` for arguments that cannot be met and a folder that cannot be
    written.
    """
    made = snapshots(start, end, **options)
    total = len(_times(start, end, options.get("interval_seconds", 60)))
    try:
        (folder / "raw").mkdir(parents=True, exist_ok=True)
        for key, body in tqdm(made, total=total, unit=" snapshots", disable=not progress):
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


def _snapshots(times: range, fleet: "_Fleet", unreadable: int) -> Iterator[tuple[str, bytes]]:
    broken = {(2 * n + 1) * len(times) // (2 * unreadable): n for n in range(unreadable)}
    last_repr = int(LAST_REPR.timestamp())
    old, new = _Writer(fleet, json_era=False), _Writer(fleet, json_era=True)
    for index, time in enumerate(times):
        body = (old if time <= last_repr else new).body(time)
        if index in broken:
            body = _ERROR_PAGE if broken[index] % 2 else body[: len(body) // 2]
        yield key_of(dt.datetime.fromtimestamp(time, dt.UTC)), body


class _Stop(NamedTuple):
    location: int
    latitude: int
    longitude: int
    bearing: int  # of the way on from here


class _Way(NamedTuple):
    """A route in one direction."""

    signs: dict[str, object]
    stops: list[_Stop]


class _Block(NamedTuple):
    """A day's work on one route, to and fro: times are seconds of the service day."""

    fields: dict[str, object]  # that stay the same all day
    ways: list[_Way]
    garage: str
    first_trip: int
    start: int
    end: int
    hop: int  # seconds from stop to stop
    trip: int  # seconds from end to end
    cycle: int  # the same with the layover


class _Vehicle(NamedTuple):
    """A bus or a rail car. The two cars of a train share a unit, and so do all things alike."""

    number: int
    unit: int
    phase: int  # the second of the minute at which it reports
    source: str


class _Day(NamedTuple):
    """A service day: who drives what. Moments are seconds since the epoch."""

    start: int
    end: int
    midnight: int
    number: int
    duties: list[tuple[_Vehicle, _Block]]
    outage: range


class _Fleet:
    """Routes, timetables and vehicles of one seed; `day` deals them out."""

    def __init__(self, vehicles: int, seed: int) -> None:
        rng = random.Random(seed)
        # Of all that random offers, only random() is promised to stay the same between versions.
        self._noise = [int(rng.random() * 10_000) for _ in range(_NOISE_SIZE)]
        cars = vehicles * 27 // 100
        trains, buses = (cars + 1) // 2, vehicles - cars
        lines = [_ways(rng, "rail", index) for index in range(len(_LINES))]
        routes = [_ways(rng, "bus", index) for index in range(80)]
        self._rail_blocks = [_block(rng, "rail", lines, n, trains) for n in range(trains)]
        self._bus_blocks = [_block(rng, "bus", routes, n, buses) for n in range(buses)]
        fleet = [_Vehicle(101 + 3 * n, n // 2, n // 2 * 17 % 60, "tab") for n in range(cars)]
        for n in range(buses):
            source = "aim" if n % 25 == 7 else "vm"
            fleet.append(_Vehicle(2201 + 7 * n, 10_000 + n, n * 23 % 60, source))
        # Nearly by number, as the real ones, which stand in the order of a hash table.
        self._vehicles = sorted(fleet, key=lambda vehicle: (vehicle.number % 2048, vehicle.number))

    def noise(self, *steps: int) -> int:
        """0 to 9,999: the same for the same steps."""
        return self._noise[sum(steps) % _NOISE_SIZE]

    def day(self, time: int) -> _Day:
        """The service day that holds a moment."""
        date = dt.datetime.fromtimestamp(time - 8 * _HOUR, dt.UTC).date()
        if time < _midnight(date) + _DAY_START:
            date -= dt.timedelta(days=1)
        midnight, tomorrow = _midnight(date), _midnight(date + dt.timedelta(days=1))
        number = date.toordinal()
        luck = self.noise(number)
        outage = midnight + 25 * _HOUR + luck // 3
        duties = [(vehicle, self._block(vehicle, number)) for vehicle in self._vehicles]
        start, end = midnight + _DAY_START, tomorrow + _DAY_START
        outages = range(outage, outage + (120 + luck % 300 if luck % 3 == 0 else 0))
        return _Day(start, end, midnight, number, duties, outages)

    def _block(self, vehicle: _Vehicle, day: int) -> _Block:
        """Another block every day, far from the last: who was out late does not start early."""
        blocks = self._bus_blocks if vehicle.unit >= 10_000 else self._rail_blocks
        return blocks[(vehicle.unit % 10_000 + day * (len(blocks) * 37 // 100)) % len(blocks)]


def _midnight(date: dt.date) -> int:
    """Local midnight by the rule of 2007: not every machine has a time zone database."""
    march, november = dt.date(date.year, 3, 8), dt.date(date.year, 11, 1)
    begins = march + dt.timedelta(days=6 - march.weekday())
    ends = november + dt.timedelta(days=6 - november.weekday())
    utc = dt.datetime.combine(date, dt.time(), dt.UTC)
    return int(utc.timestamp()) + (7 if begins < date <= ends else 8) * _HOUR


def _ways(rng: random.Random, kind: str, index: int) -> list[_Way]:
    """A made-up route: both directions along one line of stops."""
    if kind == "rail":
        there = _path(rng, 18 + int(rng.random() * 12), 700, 1500)
        short, long = f"{_LINES[index]} to ", f"Light Rail  {_LINES[index]} Line to "
    else:
        there = _path(rng, 30 + int(rng.random() * 50), 200, 450)
        street = _STREETS[index * 5 % len(_STREETS)]
        short, long = f"{_number(kind, index)}  ", f"{_number(kind, index)}  {street} to "
    # Back along the same places, on the other side of the street.
    back = [
        stop._replace(
            location=stop.location + 1, bearing=(there[max(n - 1, 0)].bearing + 180) % 360
        )
        for n, stop in enumerate(there)
    ][::-1]
    ways = []
    for direction, stops in enumerate((there, back)):
        n = 2 * index + direction
        place = f"{_TOWNS[n * 7 % len(_TOWNS)]} {_SPOTS[n * 3 % len(_SPOTS)]}"
        place += _KINDS[(n + n // 7) % len(_KINDS)]
        if kind == "bus" and direction == 0:
            place = _ODD_PLACES.get(index, place)
        signs: dict[str, object] = {
            "signMessage": short + place.removesuffix(" Transit Center"),
            "signMessageLong": long + place,
            "messageCode": (1000 if kind == "rail" else 0) + n * 4 + 3,
        }
        ways.append(_Way(signs, stops))
    return ways


def _number(kind: str, index: int) -> int:
    return 100 + 10 * index if kind == "rail" else 1 + index * 5 // 4


def _path(rng: random.Random, hops: int, shortest: int, longest: int) -> list[_Stop]:
    """Stops along streets, mostly straight on, now and then around a corner (metres apart)."""
    latitude = _SOUTH + int(rng.random() * (_NORTH - _SOUTH))
    longitude = _WEST + int(rng.random() * (_EAST - _WEST))
    heading = int(rng.random() * 360)
    stops = []
    for _ in range(hops + 1):
        heading += int(rng.random() * 9) - 4 + (90 if rng.random() < 0.12 else 0)
        metres = shortest + rng.random() * (longest - shortest)
        while True:
            north, east = _COMPASS[heading % 360]
            next_latitude = latitude + int(metres * north * _UNITS_A_METRE_NORTH)
            next_longitude = longitude + int(metres * east * _UNITS_A_METRE_EAST)
            if _SOUTH < next_latitude < _NORTH and _WEST < next_longitude < _EAST:
                break
            heading += 97  # by and by in every direction; one of them leads back into town
        stops.append(_Stop(2 * int(rng.random() * 6500), latitude, longitude, heading % 360))
        latitude, longitude = next_latitude, next_longitude
    return stops


def _block(rng: random.Random, kind: str, routes: list[list[_Way]], index: int, of: int) -> _Block:
    """Block `index` of `of`: the first ones leave early and come back late, the last are short."""
    rail, route = kind == "rail", index % len(routes)
    number = _number(kind, route)
    block_id = (9001 if rail else number * 100 + 1) + index // len(routes)
    hop = (95 if rail else 44) + int(rng.random() * 15)
    trip = hop * (len(routes[route][0].stops) - 1)
    cycle = trip + 360 + int(rng.random() * 360)
    rank = 2 * index + 1  # of 2 * of
    start = 3 * _HOUR + rank * 2 * _HOUR // of
    longest = 29 * _HOUR - rank * 21 * _HOUR // (4 * of) - start
    return _Block(
        fields={"routeNumber": number, "blockID": block_id, "type": kind},
        ways=routes[route],
        garage=("NORTH", "HARBOR", "EASTSIDE", "HILLS")[index % 4],
        first_trip=(8_600_000 if rail else 8_400_000) + index * 64,
        start=start,
        end=start + _DEADHEAD + longest // cycle * cycle,
        hop=hop,
        trip=trip,
        cycle=cycle,
    )


class _Writer:
    """Bodies of one format.

    Making and serialising 28 fields is slow. Of a trip's records only some fields differ, so a
    text with gaps for them is made once a trip, and each report fills the gaps.
    """

    def __init__(self, fleet: _Fleet, *, json_era: bool) -> None:
        self._fleet, self._noise = fleet, fleet.noise
        self._day = fleet.day(0)
        self._fields = (_JSON_ORDER if json_era else _REPR_ORDER).split()
        self._serialise: Callable[[object], str] = json.dumps if json_era else _python2_text
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

    def _last_report(self, vehicle: _Vehicle, time: int) -> int:
        """Now and then a report goes missing, never two in a row: then the one before counts."""
        minute = (time - 2 - vehicle.phase) // _REPORT
        if minute % 2 and self._noise(vehicle.unit * 41, minute) < 4000:
            minute -= 1
        return minute * _REPORT + vehicle.phase

    def _text(self, vehicle: _Vehicle, block: _Block, report: int) -> str:
        """The record of a vehicle that reports at a moment, serialised."""
        null, no, yes = self._words
        seconds = report - self._day.midnight
        delay = self._delay(vehicle, seconds)
        trip, progress = divmod(seconds + delay - block.start - _DEADHEAD, block.cycle)
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

    def _delay(self, vehicle: _Vehicle, seconds: int) -> int:
        """Seconds ahead of the timetable: mostly below 0, as vehicles are late."""
        knot, rest = divmod(seconds, _DRIFT)
        knot += vehicle.unit * 53 + self._day.number * 7
        before, after = self._noise(knot), self._noise(knot + 1)
        return (before * (_DRIFT - rest) + after * rest) // (_DRIFT * 24) - 360

    def _template(self, vehicle: _Vehicle, block: _Block, trip: int, stage: int) -> str:
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


def _under_way(block: _Block, stops: list[_Stop], progress: int) -> dict[str, object]:
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


def _place(here: _Stop, there: _Stop, driven: int, drive: int) -> dict[str, object]:
    latitude = here.latitude + (there.latitude - here.latitude) * driven // drive
    longitude = here.longitude + (there.longitude - here.longitude) * driven // drive
    return {
        "latitude": latitude / 10_000_000,
        "longitude": longitude / 10_000_000,
        "bearing": here.bearing,
    }


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tasks.bustimes.synthetic",
        description="Write made-up snapshots of TriMet vehicles to FOLDER/raw/, as the collector "
        "wrote them. The same arguments give the same files.",
    )
    add = parser.add_argument
    add("folder", metavar="FOLDER", type=Path, help="is made where it does not exist")
    add("--from", dest="first", metavar="WEEK", required=True, help="ISO week, such as 2021-W45")
    add("--hours", type=float, default=168, help="from Monday 00:00 UTC on (%(default)s: a week)")
    add("--interval", type=int, default=60, help="seconds between snapshots (%(default)s)")
    add("--vehicles", type=int, default=275, help="at the busiest time of day (%(default)s)")
    add("--seed", type=int, default=0, help="another number, another fleet (%(default)s)")
    add("--unreadable", type=int, default=0, help="snapshots that cannot be read (%(default)s)")
    given = parser.parse_args(arguments)
    try:
        week = Week.parse(given.first)
        if not 2000 <= week.year <= 2999:
            raise Problem(f"{week} is too far away: choose a week of the years 2000 to 2999.")
        if not 0 < given.hours <= 20 * 366 * 24:
            raise Problem(f"The hours are more than 0 and at most 20 years, not {given.hours}.")
        count = write_folder(
            given.folder,
            week.start,
            week.start + dt.timedelta(hours=given.hours),
            progress=True,
            interval_seconds=given.interval,
            vehicles=given.vehicles,
            seed=given.seed,
            unreadable=given.unreadable,
        )
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped. Run it again to complete the folder.", file=sys.stderr)
        return 130
    print(f"{count:,} snapshots are in {given.folder / 'raw'}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
