"""The made-up fleet: places, routes, timetables and vehicles, and who drives what on a day.

The module knows Portland's extent and local midnight, a transit agency's day, and the fields of a
record that stay the same for a block or a direction of a route. It promises the same fleet for the
same size and seed on every machine, and that a day does not depend on which days were asked for
before. It never reads a clock, a time zone database or real data, and never makes a body.
"""

import datetime as dt
import math
import random
from typing import NamedTuple

DEADHEAD = 240  # seconds on the street before the first trip, without one

_HOUR = 3600
_DAY_START = 12_600  # a service day lasts from 3:30 until 3:30, local time
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


class Stop(NamedTuple):
    location: int
    latitude: int
    longitude: int
    bearing: int  # of the way on from here


class Way(NamedTuple):
    """A route in one direction."""

    signs: dict[str, object]
    stops: list[Stop]


class Block(NamedTuple):
    """A day's work on one route, to and fro: times are seconds of the service day."""

    fields: dict[str, object]  # that stay the same all day
    ways: list[Way]
    garage: str
    first_trip: int
    start: int
    end: int
    hop: int  # seconds from stop to stop
    trip: int  # seconds from end to end
    cycle: int  # the same with the layover


class Vehicle(NamedTuple):
    """A bus or a rail car. The two cars of a train share a unit, and so do all things alike."""

    number: int
    unit: int
    phase: int  # the second of the minute at which it reports
    source: str


class Day(NamedTuple):
    """A service day: who drives what. Moments are seconds since the epoch."""

    start: int
    end: int
    midnight: int
    number: int
    duties: list[tuple[Vehicle, Block]]
    outage: range


class Fleet:
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
        fleet = [Vehicle(101 + 3 * n, n // 2, n // 2 * 17 % 60, "tab") for n in range(cars)]
        for n in range(buses):
            source = "aim" if n % 25 == 7 else "vm"
            fleet.append(Vehicle(2201 + 7 * n, 10_000 + n, n * 23 % 60, source))
        # Nearly by number, as the real ones, which stand in the order of a hash table.
        self._vehicles = sorted(fleet, key=lambda vehicle: (vehicle.number % 2048, vehicle.number))

    def noise(self, *steps: int) -> int:
        """0 to 9,999: the same for the same steps."""
        return self._noise[sum(steps) % _NOISE_SIZE]

    def day(self, time: int) -> Day:
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
        return Day(start, end, midnight, number, duties, outages)

    def _block(self, vehicle: Vehicle, day: int) -> Block:
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


def _ways(rng: random.Random, kind: str, index: int) -> list[Way]:
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
        ways.append(Way(signs, stops))
    return ways


def _number(kind: str, index: int) -> int:
    return 100 + 10 * index if kind == "rail" else 1 + index * 5 // 4


def _path(rng: random.Random, hops: int, shortest: int, longest: int) -> list[Stop]:
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
        stops.append(Stop(2 * int(rng.random() * 6500), latitude, longitude, heading % 360))
        latitude, longitude = next_latitude, next_longitude
    return stops


def _block(rng: random.Random, kind: str, routes: list[list[Way]], index: int, of: int) -> Block:
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
    return Block(
        fields={"routeNumber": number, "blockID": block_id, "type": kind},
        ways=routes[route],
        garage=("NORTH", "HARBOR", "EASTSIDE", "HILLS")[index % 4],
        first_trip=(8_600_000 if rail else 8_400_000) + index * 64,
        start=start,
        end=start + DEADHEAD + longest // cycle * cycle,
        hop=hop,
        trip=trip,
        cycle=cycle,
    )
