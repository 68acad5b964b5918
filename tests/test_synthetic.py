"""What the synthetic snapshots promise: the same bytes always, bodies like the collector's, and a
fleet that moves like one."""

import ast
import datetime as dt
import functools
import hashlib
import io
import json
import math
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tasks.bustimes.snapshot import Refused, read_records, time_of
from tasks.bustimes.synthetic import LAST_REPR, python2_repr, snapshots, write_folder
from tasks.bustimes.synthetic.__main__ import main
from tasks.problem import Problem

MINUTE, HOUR = dt.timedelta(minutes=1), dt.timedelta(hours=1)
REPR_NOON = dt.datetime(2018, 6, 20, 19, tzinfo=dt.UTC)  # noon in Portland, on a Wednesday
JSON_NOON = dt.datetime(2023, 6, 21, 19, tzinfo=dt.UTC)
OUTAGE_NIGHT = dt.datetime(2021, 11, 9, 9, tzinfo=dt.UTC)

Record = dict[str, Any]


def joined_halves(text: str) -> str:
    """The text with surrogate pairs as the characters they stand for."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def records_of(body: bytes) -> list[Record]:
    return [json.loads(record) for record in read_records(body).records]


@functools.cache
def hour(start: dt.datetime) -> list[tuple[str, bytes]]:
    return list(snapshots(start, start + HOUR))


@functools.cache
def records_of_hour(start: dt.datetime) -> list[list[Record]]:
    return [records_of(body) for _, body in hour(start)]


def metres(before: Record, after: Record) -> tuple[float, float]:
    """How far north and east of `before` a vehicle is `after`."""
    return (
        (after["latitude"] - before["latitude"]) * 111_200,
        (after["longitude"] - before["longitude"]) * 78_000,
    )


def neighbours(start: dt.datetime) -> list[tuple[Record, Record]]:
    """Each vehicle's record of one snapshot and of the next."""
    pairs = []
    hours_records = records_of_hour(start)
    for earlier, later in pairwise(hours_records):
        by_vehicle = {record["vehicleID"]: record for record in earlier}
        pairs += [
            (by_vehicle[record["vehicleID"]], record)
            for record in later
            if record["vehicleID"] in by_vehicle
        ]
    return pairs


class TestBytes:
    def test_are_the_same_on_every_machine(self) -> None:
        """A change of this digest changes everybody's test data: make it only on purpose."""
        digest = hashlib.sha256()
        for start in (LAST_REPR - 3 * HOUR, REPR_NOON):
            for key, body in snapshots(start, start + 6 * HOUR, interval_seconds=600):
                digest.update(key.encode() + body)
        assert digest.hexdigest() == (
            "1e83ea126f782cd56d6ed2b1ebf0815e084469fc1ff15734531d44cc3760f09c"
        )

    def test_differ_with_the_seed(self) -> None:
        bodies = [
            body
            for seed in range(3)
            for _, body in snapshots(REPR_NOON, REPR_NOON + MINUTE, seed=seed)
        ]
        assert len(set(bodies)) == 3

    @pytest.mark.parametrize("start", [LAST_REPR - 10 * MINUTE, OUTAGE_NIGHT + 2 * HOUR])
    def test_of_a_moment_do_not_depend_on_the_span(self, start: dt.datetime) -> None:
        cut, end = start + 13 * MINUTE, start + 60 * MINUTE
        whole = list(snapshots(start, end))
        assert whole == [*snapshots(start, cut), *snapshots(cut, end)]
        assert set(snapshots(start, end, interval_seconds=600)) < set(whole)

    def test_of_a_record_number_about_650(self) -> None:
        for start in (REPR_NOON, JSON_NOON):
            body = hour(start)[0][1]
            assert 170_000 < len(body) < 190_000
            assert 600 < len(body) / len(records_of(body)) < 700


class TestKeys:
    def test_are_one_an_interval_at_five_seconds_past(self) -> None:
        times = [time_of(key) for key, _ in snapshots(REPR_NOON, REPR_NOON + HOUR, vehicles=1)]
        first = REPR_NOON + dt.timedelta(seconds=5)
        assert times == [first + n * MINUTE for n in range(60)]

    @pytest.mark.parametrize(("interval", "count"), [(1, 600), (7, 86), (60, 10), (300, 2)])
    def test_follow_the_interval(self, interval: int, count: int) -> None:
        span = REPR_NOON, REPR_NOON + 10 * MINUTE
        times = [time_of(key) for key, _ in snapshots(*span, interval_seconds=interval, vehicles=1)]
        assert abs(len(times) - count) <= 1
        assert all(time is not None and span[0] <= time < span[1] for time in times)

    def test_stand_at_the_start_and_never_at_the_end(self) -> None:
        at = REPR_NOON + dt.timedelta(seconds=5)
        assert [time_of(key) for key, _ in snapshots(at, at + MINUTE, vehicles=1)] == [at]


class TestBodies:
    def test_change_from_repr_to_json_after_the_last_repr(self) -> None:
        made = list(snapshots(LAST_REPR - MINUTE, LAST_REPR + 2 * MINUTE))
        assert [body[:3] for _, body in made] == [b"[{u", b"[{u", b'[{"']
        assert made[1][0] == "raw/bustimes__2021-11-10__07-15-05.json"
        with pytest.raises(json.JSONDecodeError):
            json.loads(made[1][1])

    def test_of_repr_hold_what_python_reads_in_them(self) -> None:
        for _, body in hour(REPR_NOON)[::6]:
            values = ast.literal_eval(body.decode("ascii"))
            records = records_of(body)
            for value, record in zip(values, records, strict=True):
                texts = {k: joined_halves(v) for k, v in value.items() if isinstance(v, str)}
                assert {**value, **texts} == record
                assert list(value) == list(record)

    def test_of_repr_are_what_the_plain_serialiser_prints(self) -> None:
        for _, body in [*hour(REPR_NOON)[::6], *hour(OUTAGE_NIGHT)[::10]]:
            if len(body) > 2:
                assert python2_repr(records_of(body)) == body

    def test_of_json_are_what_the_plain_serialiser_prints(self) -> None:
        for _, body in hour(JSON_NOON):
            assert json.dumps(json.loads(body)).encode() == body

    def test_are_all_readable(self) -> None:
        for start in (REPR_NOON, JSON_NOON, OUTAGE_NIGHT):
            for _, body in hour(start):
                assert len(read_records(body).records) == body.count(b"vehicleID")

    def test_are_unreadable_where_that_is_asked_for(self) -> None:
        for start in (JSON_NOON, OUTAGE_NIGHT):
            made = list(snapshots(start, start + HOUR, unreadable=9))
            refused = []
            for number, (_, body) in enumerate(made):
                try:
                    read_records(body)
                except Refused:
                    refused.append(number)
            assert len(refused) == 9
            assert max(b - a for a, b in pairwise(refused)) <= 7
            others = [n for n in range(60) if n not in refused]
            assert [made[n] for n in others] == [hour(start)[n] for n in others]

    def test_can_all_be_unreadable(self) -> None:
        for _, body in snapshots(OUTAGE_NIGHT, OUTAGE_NIGHT + HOUR, unreadable=60):
            with pytest.raises(Refused):
                read_records(body)

    def test_are_empty_on_some_nights_only(self) -> None:
        nights_of_weeks = [OUTAGE_NIGHT + n * 24 * HOUR for n in range(21)]
        made = [
            item
            for start in nights_of_weeks
            for item in snapshots(start, start + 2 * HOUR, vehicles=30)
        ]
        empty = [(key, body) for key, body in made if body in (b"[]", b"{}")]
        nights = Counter(key[14:24] for key, _ in empty)
        assert {body for _, body in empty} == {b"[]", b"{}"}
        assert 3 <= len(nights) <= 12
        assert all(1 < count < 8 for count in nights.values())


class TestRecords:
    def test_have_the_28_fields_in_one_order(self) -> None:
        for start in (REPR_NOON, JSON_NOON):
            orders = {tuple(record) for snapshot in records_of_hour(start) for record in snapshot}
            assert len(orders) == 1
            assert len(set(orders.pop())) == 28
        repr_fields, json_fields = (
            records_of_hour(REPR_NOON)[0][0],
            records_of_hour(JSON_NOON)[0][0],
        )
        assert list(repr_fields) != list(json_fields)
        assert set(repr_fields) == set(json_fields)

    def test_hold_values_of_the_real_kinds(self) -> None:
        kinds: dict[str, set[str]] = {}
        for record in (r for snapshot in records_of_hour(REPR_NOON) for r in snapshot):
            for name, value in record.items():
                kinds.setdefault(name, set()).add(type(value).__name__)
        assert {name for name, kind in kinds.items() if "NoneType" not in kind} == {
            *("vehicleID", "bearing", "blockID", "source", "serviceDate", "latitude", "type"),
            *("expires", "routeNumber", "offRoute", "longitude", "time"),
        }
        assert {name for name, kind in kinds.items() if "str" in kind} == {
            *("tripID", "signMessage", "signMessageLong", "source", "type", "garage")
        }
        assert {name for name, kind in kinds.items() if "bool" in kind} == {
            *("newTrip", "inCongestion", "offRoute")
        }
        assert {name for name, kind in kinds.items() if "float" in kind} == {
            *("latitude", "longitude")
        }

    def test_name_each_vehicle_once_nearly_in_order(self) -> None:
        vehicles = [record["vehicleID"] for record in records_of_hour(REPR_NOON)[0]]
        assert len(set(vehicles)) == len(vehicles) == 275
        rising = sum(a < b for a, b in pairwise(vehicles))
        assert 0.7 < rising / len(vehicles) < 1
        assert vehicles != sorted(vehicles)

    def test_tell_times_that_agree(self) -> None:
        for start in (REPR_NOON, JSON_NOON):
            midnight = (start - 12 * HOUR).timestamp() * 1000
            for minute, snapshot in enumerate(records_of_hour(start)):
                now = (start + minute * MINUTE).timestamp() + 5
                for record in snapshot:
                    assert 0 < now - record["time"] / 1000 < 125
                    assert record["expires"] > record["time"]
                    assert record["serviceDate"] == midnight

    @pytest.mark.parametrize(
        ("date", "midnight"),
        [
            ("2021-03-14", "08"),  # summer time begins later that day
            ("2021-03-15", "07"),
            ("2021-11-07", "07"),  # and ends later on this one
            ("2021-11-08", "08"),
        ],
    )
    def test_are_of_the_local_day(self, date: str, midnight: str) -> None:
        noon = dt.datetime.fromisoformat(f"{date}T20:00+00:00")
        _, body = next(snapshots(noon, noon + MINUTE))
        expected = dt.datetime.fromisoformat(f"{date}T{midnight}:00+00:00").timestamp() * 1000
        assert {record["serviceDate"] for record in records_of(body)} == {expected}

    def test_are_fewer_by_night(self) -> None:
        day = snapshots(JSON_NOON, JSON_NOON + 24 * HOUR, interval_seconds=3600)
        counts = [len(read_records(body).records) for _, body in day]
        assert counts[0] == max(counts) == 275
        assert 10 < min(counts) < 80
        assert 180 < sum(counts) / 24 < 230

    def test_repeat_the_minute_before_a_third_of_the_time(self) -> None:
        changes = [sum(a[name] != b[name] for name in a) for a, b in neighbours(REPR_NOON)]
        share = sum(count <= 4 for count in changes) / len(changes)
        assert 0.25 < share < 0.42

    def test_hold_odd_characters_in_few_signs(self) -> None:
        for start in (REPR_NOON, JSON_NOON):
            records = [record for snapshot in records_of_hour(start) for record in snapshot]
            signs = [record["signMessageLong"] or "" for record in records]
            text = "".join(set(signs))
            assert all(character in text for character in "'\"\\é\u2019\N{TRAM}")
            assert any("'" in sign and '"' in sign for sign in signs)
            odd = sum(not s.isascii() or any(c in s for c in "'\"\\") for s in signs)
            assert 0 < odd / len(signs) < 0.1

    def test_hold_odd_characters_in_a_small_fleet_too(self) -> None:
        day = snapshots(JSON_NOON, JSON_NOON + 4 * HOUR, vehicles=20, interval_seconds=300)
        text = b"".join(body for _, body in day).decode()
        assert all(part in text for part in ("'", '\\"', "\\\\", "\\u00e9", "\\ud83d"))


class TestFleet:
    def test_moves(self) -> None:
        for start in (REPR_NOON, JSON_NOON):
            pairs = neighbours(start)
            moved = sum(math.hypot(*metres(before, after)) > 20 for before, after in pairs)
            assert 0.5 < moved / len(pairs) < 0.8

    @pytest.mark.parametrize(
        "start", [REPR_NOON, JSON_NOON, OUTAGE_NIGHT + 2 * HOUR], ids=["repr", "json", "night"]
    )
    def test_is_never_faster_than_40_metres_a_second(self, start: dt.datetime) -> None:
        for before, after in neighbours(start):
            distance = math.hypot(*metres(before, after))
            seconds = (after["time"] - before["time"]) / 1000
            assert seconds >= 0
            assert distance <= 40 * seconds

    def test_stays_around_portland(self) -> None:
        for record in (r for snapshot in records_of_hour(REPR_NOON) for r in snapshot):
            assert 45.3 < record["latitude"] < 45.6
            assert -122.9 < record["longitude"] < -122.4
            assert record["latitude"] == round(record["latitude"], 7)

    def test_heads_where_it_goes(self) -> None:
        checked = 0
        for before, after in neighbours(REPR_NOON):
            north, east = metres(before, after)
            same_way = all(before[n] == after[n] for n in ("tripID", "lastStopSeq"))
            if same_way and math.hypot(north, east) > 20:
                went = math.degrees(math.atan2(east, north))
                assert abs((went - after["bearing"] + 180) % 360 - 180) < 1
                checked += 1
        assert checked > 500

    def test_goes_from_stop_to_stop_and_trip_to_trip(self) -> None:
        trips = 0
        for before, after in neighbours(REPR_NOON):
            if before["tripID"] == after["tripID"] and before["tripID"] is not None:
                assert after["nextStopSeq"] >= before["nextStopSeq"]
            elif before["tripID"] is not None and after["tripID"] is not None:
                trips += 1
                assert int(after["tripID"]) == int(before["tripID"]) + 1
                assert after["direction"] != before["direction"]
                assert after["nextStopSeq"] <= 2
            if after["newTrip"]:
                assert after["lastStopSeq"] <= 2
        assert trips > 100
        records = [record for snapshot in records_of_hour(REPR_NOON) for record in snapshot]
        assert any(record["newTrip"] for record in records)
        assert len({record["routeNumber"] for record in records}) == 85

    def test_runs_cars_of_a_train_together(self) -> None:
        trains: dict[str, list[Record]] = {}
        for record in records_of_hour(REPR_NOON)[0]:
            if record["type"] == "rail" and record["tripID"] is not None:
                trains.setdefault(record["tripID"], []).append(record)
        assert len(trains) > 30
        for first, *others in trains.values():
            assert all({**other, "vehicleID": first["vehicleID"]} == first for other in others)

    @pytest.mark.parametrize("vehicles", [1, 2, 3, 5, 8, 2000])
    def test_has_any_size(self, vehicles: int) -> None:
        _, body = next(snapshots(REPR_NOON, REPR_NOON + MINUTE, vehicles=vehicles))
        numbers = [record["vehicleID"] for record in records_of(body)]
        assert len(numbers) == len(set(numbers)) == vehicles

    @pytest.mark.parametrize("vehicles", [1, 2, 3, 5, 8, 13])
    def test_does_not_jump_where_a_service_day_ends(self, vehicles: int) -> None:
        end_of_day = dt.datetime(2018, 6, 20, 10, 30, tzinfo=dt.UTC)
        span = end_of_day - 5 * MINUTE, end_of_day + 5 * MINUTE
        seen: dict[int, Record] = {}
        for _, body in snapshots(*span, vehicles=vehicles):
            for record in records_of(body):
                before = seen.setdefault(record["vehicleID"], record)
                assert math.hypot(*metres(before, record)) < 40 * 600
                assert before["serviceDate"] == record["serviceDate"]


class TestProblems:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"vehicles": 0}, "1 to 2,000 vehicles, not 0"),
            ({"vehicles": 2001}, "1 to 2,000 vehicles, not 2,001"),
            ({"interval_seconds": 0}, "at least one second"),
            ({"seed": -1}, "from 0 on"),
            ({"unreadable": -1}, "cannot be unreadable"),
            ({"unreadable": 61}, "Of 60 snapshots, 61"),
        ],
    )
    def test_say_what_cannot_be_met(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(Problem, match=message):
            snapshots(REPR_NOON, REPR_NOON + HOUR, **options)

    def test_say_that_a_time_zone_is_missing(self) -> None:
        with pytest.raises(Problem, match="time zone"):
            snapshots(REPR_NOON.replace(tzinfo=None), REPR_NOON)


class TestFolder:
    def test_holds_every_snapshot_under_its_key(self, tmp_path: Path) -> None:
        span = REPR_NOON, REPR_NOON + HOUR
        options: dict[str, Any] = {
            "vehicles": 4,
            "interval_seconds": 600,
            "seed": 3,
            "unreadable": 2,
        }
        assert write_folder(tmp_path / "new", *span, **options) == 6
        files = {
            path.relative_to(tmp_path / "new").as_posix(): path.read_bytes()
            for path in (tmp_path / "new").rglob("*.json")
        }
        assert files == dict(snapshots(*span, **options))

    def test_that_cannot_be_written_is_a_problem(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(Problem, match="cannot be written"):
            write_folder(tmp_path / "file", REPR_NOON, REPR_NOON + MINUTE, vehicles=1)


class TestCommand:
    def test_writes_the_first_hours_of_a_week(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = "--from 2021-W45 --hours 2 --interval 600 --vehicles 3 --seed 5 --unreadable 1"
        assert main([str(tmp_path), *options.split()]) == 0
        monday = dt.datetime(2021, 11, 8, tzinfo=dt.UTC)
        expected = dict(
            snapshots(
                monday, monday + 2 * HOUR, interval_seconds=600, vehicles=3, seed=5, unreadable=1
            )
        )
        written = {f"raw/{path.name}": path.read_bytes() for path in (tmp_path / "raw").iterdir()}
        assert written == expected
        printed = capsys.readouterr()
        assert printed.out == f"12 snapshots are in {tmp_path / 'raw'}.\n"
        assert printed.err == ""

    def test_draws_a_bar_where_someone_watches(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        terminal = Terminal()
        monkeypatch.setattr("sys.stderr", terminal)
        options = "--from 2021-W45 --hours 2 --interval 600 --vehicles 3"
        assert main([str(tmp_path), *options.split()]) == 0
        assert "12/12 [" in terminal.getvalue()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ("--from 2021-45", "is not an ISO week"),
            ("--from 2021-W53", "There is no ISO week 2021-W53"),
            ("--from 9999-W52", "too far away"),
            ("--from 2021-W45 --hours 0", "hours are more than 0"),
            ("--from 2021-W45 --hours nan", "hours are more than 0"),
            ("--from 2021-W45 --hours 1e99", "at most 20 years"),
            ("--from 2021-W45 --interval 0", "at least one second"),
            ("--from 2021-W45 --vehicles 0", "1 to 2,000 vehicles"),
            ("--from 2021-W45 --hours 1 --unreadable 99", "Of 60 snapshots, 99"),
        ],
    )
    def test_answers_bad_arguments_in_a_sentence(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str, message: str
    ) -> None:
        assert main([str(tmp_path / "out"), *options.split()]) == 2
        printed = capsys.readouterr().err
        assert message in printed
        assert printed.count("\n") == 1
        assert not (tmp_path / "out").exists()

    def test_explains_itself(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as exit_:
            main(["--help"])
        assert exit_.value.code == 0
        printed = capsys.readouterr().out
        for option in ("--from", "--hours", "--interval", "--vehicles", "--seed", "--unreadable"):
            assert option in printed


def test_importing_it_loads_neither_luigi_nor_an_s3_client() -> None:
    code = (
        "import sys, tasks.bustimes.synthetic\n"
        "print(*{'luigi', 'boto3', 'pycurl'} & set(sys.modules))"
    )
    top = Path(__file__).parent.parent
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=top, capture_output=True, text=True, check=True
    ).stdout
    assert printed == "\n"
