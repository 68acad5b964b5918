"""The Luigi graph: which weeks are to do, what a second run does, and what it costs to ask."""

import datetime as dt
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import luigi as luigi_package
import pytest

from tasks import advice, processes
from tasks.bustimes import archive as archive_module
from tasks.bustimes.archive import Archive
from tasks.bustimes.graph import AllWeeks, Verify, WeekTask, tasks, under_way
from tasks.bustimes.listing import FIRST_WEEK, list_week, weeks_with_snapshots
from tasks.problem import Problem
from tasks.storage import StoredObject, open_root
from tasks.storage.folder import Folder
from tasks.weeks import Week, span
from tests.archives import archive_in
from tests.conftest import Run, forget

Make = Callable[..., list[Path]]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A source and a destination folder, set for this process and those it starts."""
    source, destination = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    monkeypatch.setenv("BUSTIMES_SOURCE", str(source))
    monkeypatch.setenv("BUSTIMES_DESTINATION", str(destination))
    forget()
    return source, destination


@pytest.fixture(autouse=True)
def _new_run(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a new process: luigi keeps task objects, and the run its progress."""
    luigi_package.task_register.Register.clear_instance_cache()
    monkeypatch.setattr(under_way, "run", under_way.UnderWay())
    yield
    luigi_package.task_register.Register.clear_instance_cache()


def weeks_of(task: AllWeeks) -> list[str]:
    return [one.week.label for one in task.requires()]


def test_all_weeks_are_the_finished_ones_that_have_snapshots(
    places: tuple[Path, Path], make_snapshots: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    for label in ("2016-W49", "2020-W53", "2021-W45"):
        make_snapshots(places[0], label, hours=1)
    assert weeks_of(AllWeeks()) == ["2016-W49", "2020-W53", "2021-W45"]
    said = capfd.readouterr().err
    assert "3 weeks to convert, 0 weeks done already." in said
    assert "No raw snapshots, so no file: 2016-W50 to 2020-W52, 2021-W01 to 2021-W44" in said


def test_weeks_from_and_to_choose(places: tuple[Path, Path], make_snapshots: Make) -> None:
    for label in ("2021-W44", "2021-W45", "2021-W46", "2022-W01"):
        make_snapshots(places[0], label, hours=1)
    assert weeks_of(AllWeeks(weeks="2022-W01, 2021-W45")) == ["2021-W45", "2022-W01"]
    assert weeks_of(AllWeeks(**{"from": "2021-W45", "to": "2021-W46"})) == ["2021-W45", "2021-W46"]
    assert weeks_of(AllWeeks(**{"from": "2021-W46"})) == ["2021-W46", "2022-W01"]
    assert weeks_of(AllWeeks(to="2021-W44")) == ["2021-W44"]


def test_snapshots_at_the_root_count_as_those_under_raw(
    places: tuple[Path, Path], make_snapshots: Make, luigi: Run
) -> None:
    raw, *_ = make_snapshots(places[0], "2016-W49", hours=1)
    twin = places[0] / raw.name
    twin.write_bytes(raw.read_bytes())
    alone = places[0] / "bustimes__2016-12-12__00-00-00.json"
    alone.write_bytes(raw.read_bytes())
    assert weeks_of(AllWeeks()) == ["2016-W49", "2016-W50"]
    assert luigi("AllWeeks").returncode == 0
    manifest = json.loads((places[1] / "_manifests/2016-W49.json").read_text())
    assert manifest["snapshots"] == 7


@pytest.mark.parametrize(
    ("label", "first", "last"),
    [
        ("2016-W52", "2016-12-26__00-00-00", "2017-01-01__23-59-59"),
        ("2018-W01", "2018-01-01__00-00-00", "2018-01-07__23-59-59"),
        ("2020-W53", "2020-12-28__00-00-00", "2021-01-03__23-59-59"),
    ],
)
def test_a_week_holds_its_first_and_last_second_and_no_other(
    tmp_path: Path, label: str, first: str, last: str
) -> None:
    week = Week.parse(label)
    moments = [
        week.start - dt.timedelta(seconds=1),
        week.start,
        week.end - dt.timedelta(seconds=1),
        week.end,
    ]
    (tmp_path / "raw").mkdir()
    for moment in moments:
        (tmp_path / f"raw/bustimes__{moment:%Y-%m-%d__%H-%M-%S}.json").write_bytes(b"[]")
    listing = list_week(open_root(str(tmp_path)), week)
    assert [one.stored.key for one in listing.snapshots] == [
        f"raw/bustimes__{first}.json",
        f"raw/bustimes__{last}.json",
    ]


def test_names_that_nearly_match_are_no_snapshots(tmp_path: Path) -> None:
    for name in (
        "raw/bustimes__2021-11-08__00-00-00.json.gz",
        "raw/bustimes__2021-11-08__25-00-00.json",
        "raw/bustimes__2021-11-08__00-00-00.JSON",
        "raw/bustimes__2021-11-08.json",
        "every_minute/bustimes__2021-11-08__00-00-00.json",
        "data_test/bustimes__2021-11-08__00-00-00.json.gz",
        "raw/deeper/bustimes__2021-11-08__00-00-00.json",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"[]")
    source, week = open_root(str(tmp_path)), Week(2021, 45)
    assert list_week(source, week).snapshots == []
    assert weeks_with_snapshots(source, [week]) == set()


def test_weeks_with_snapshots_are_found_as_a_full_listing_finds_them(
    tmp_path: Path, make_snapshots: Make
) -> None:
    labels = ["2016-W49", "2016-W50", "2018-W01", "2020-W53", "2021-W01", "2024-W10"]
    for label in labels:
        make_snapshots(tmp_path, label, hours=1)
    weeks = list(span(FIRST_WEEK, Week(2024, 20)))
    found = weeks_with_snapshots(open_root(str(tmp_path)), weeks)
    assert sorted(map(str, found)) == labels


def test_scheduling_costs_one_listing_of_the_destination_however_many_weeks(
    places: tuple[Path, Path], make_snapshots: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, destination = places
    destination.mkdir()
    weeks = list(span(Week(2017, 1), Week(2021, 45)))
    for week in weeks:
        path = destination / f"{week}.jsonl.gz"
        path.write_bytes(b"")
        os.utime(path, (week.end.timestamp(), week.end.timestamp()))
    make_snapshots(source, "2021-W45", hours=1)
    asked: list[str] = []

    def counted(name: str) -> None:
        original = getattr(Folder, name)

        def call(self: Folder, *arguments: object) -> object:
            if self.path == destination:
                asked.append(name)
            return original(self, *arguments)

        monkeypatch.setattr(Folder, name, call)

    for name in ("top_objects", "find", "read", "stored_sha256", "first_key"):
        counted(name)
    task = AllWeeks(**{"from": "2017-W01", "to": "2021-W45"})
    assert len(weeks) > 250
    assert luigi_package.build([task], local_scheduler=True, log_level="ERROR")
    assert asked == ["top_objects"]


def test_a_second_run_does_nothing(
    places: tuple[Path, Path], make_snapshots: Make, luigi: Run
) -> None:
    make_snapshots(places[0], "2021-W45")
    make_snapshots(places[0], "2021-W46")
    first = luigi("AllWeeks")
    assert first.returncode == 0
    assert "2021-W45 converted" in first.stderr
    files = archive_in(places[1])
    times = {path: path.stat().st_mtime_ns for path in places[1].rglob("*")}
    second = luigi("AllWeeks")
    assert second.returncode == 0
    assert "0 weeks to convert, 2 weeks done already." in second.stderr
    assert archive_in(places[1]) == files
    assert {path: path.stat().st_mtime_ns for path in places[1].rglob("*")} == times


def test_a_run_goes_on_with_the_weeks_that_are_missing(
    places: tuple[Path, Path], make_snapshots: Make, luigi: Run
) -> None:
    for label in ("2021-W44", "2021-W45", "2021-W46"):
        make_snapshots(places[0], label)
    luigi("AllWeeks")
    files = archive_in(places[1])
    (places[1] / "2021-W45.jsonl.gz").unlink()
    again = luigi("AllWeeks")
    assert "1 week to convert, 2 weeks done already." in again.stderr
    assert archive_in(places[1]) == files


def test_weeks_are_converted_from_the_first_to_the_last(
    places: tuple[Path, Path], make_snapshots: Make, luigi: Run
) -> None:
    labels = ["2016-W49", "2018-W25", "2021-W44", "2021-W45", "2021-W46", "2022-W01"]
    for label in reversed(labels):
        make_snapshots(places[0], label, hours=1)
    said = luigi("AllWeeks").stderr
    assert re.findall(r"^(\S+) converted", said, re.MULTILINE) == labels


def test_several_workers_write_what_one_writes(
    places: tuple[Path, Path], make_snapshots: Make, luigi: Run, tmp_path: Path
) -> None:
    for label in ("2021-W44", "2021-W45", "2021-W46"):
        make_snapshots(places[0], label)
    assert luigi("AllWeeks").returncode == 0
    together = tmp_path / "together"
    ran = luigi("AllWeeks", "--workers", "3", BUSTIMES_DESTINATION=str(together))
    assert ran.returncode == 0
    assert archive_in(together) == archive_in(places[1])


def test_luigi_converts_one_week_and_verifies_it(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_snapshots: Make, luigi: Run
) -> None:
    for path in make_snapshots(tmp_path / "in", "2021-W45"):
        open_root(bucket).write(f"raw/{path.name}", path.read_bytes())
    monkeypatch.setenv("BUSTIMES_SOURCE", bucket)
    monkeypatch.setenv("BUSTIMES_DESTINATION", f"{bucket}/v2")
    ran = luigi("WeekTask", "--week", "2021-W45")
    assert ran.returncode == 0, ran.stderr
    assert open_root(f"{bucket}/v2").find("2021-W45.jsonl.gz") is not None
    checked = luigi("Verify", "--weeks", "2021-W45", "--deep")
    assert checked.returncode == 0, checked.stderr
    assert "Complete and correct." in checked.stdout


def test_verify_stands_on_all_weeks(
    places: tuple[Path, Path], make_snapshots: Make, luigi: Run
) -> None:
    make_snapshots(places[0], "2021-W45")
    ran = luigi("Verify", "--weeks", "2021-W45")
    assert ran.returncode == 0
    assert "2021-W45 converted" in ran.stderr
    assert "1 good" in ran.stdout


def test_the_target_is_on_s3_or_in_a_folder_as_the_destination_is(
    places: tuple[Path, Path], bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = WeekTask(week=Week(2021, 45))
    assert task.output().path == f"{places[1]}/2021-W45.jsonl.gz"
    monkeypatch.setenv("BUSTIMES_DESTINATION", f"{bucket}/v2")
    forget()
    assert task.output().path == f"{bucket}/v2/2021-W45.jsonl.gz"
    assert not task.output().exists()
    open_root(f"{bucket}/v2").write("2021-W45.jsonl.gz", b"x")
    assert task.output().exists()


@pytest.mark.parametrize("name", ["WeekTask", "AllWeeks", "Verify"])
def test_help_explains_every_parameter(luigi: Run, name: str) -> None:
    ran = luigi(name, "--help")
    assert ran.returncode == 0
    text = " ".join(ran.stdout.split())
    task = {"WeekTask": WeekTask, "AllWeeks": AllWeeks, "Verify": Verify}[name]
    for parameter, definition in task.get_params():
        assert f"--{parameter} " in text
        assert definition.description
        assert definition.description[:40] in text


class _Clock:
    """The time by which weeks are over, set by a test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def set(self, time: dt.datetime) -> None:
        for module in (archive_module, tasks):
            self._monkeypatch.setattr(module, "now", lambda: time)
        self._monkeypatch.setattr(under_way, "run", under_way.UnderWay())
        luigi_package.task_register.Register.clear_instance_cache()
        Archive.open().list_again()


def _run(task: luigi_package.Task) -> None:
    assert luigi_package.build([task], local_scheduler=True, log_level="ERROR")


def test_the_current_week_is_converted_on_request_only_and_again_once_it_is_over(
    places: tuple[Path, Path], make_snapshots: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, destination = places
    week = Week.of(dt.datetime.now(dt.UTC))
    manifest = destination / f"_manifests/{week}.json"
    make_snapshots(source, week.previous.label, hours=1)
    make_snapshots(source, week.label, hours=1)
    clock = _Clock(monkeypatch)
    clock.set(week.start + dt.timedelta(days=2))
    assert weeks_of(AllWeeks()) == [week.previous.label]

    clock.set(week.start + dt.timedelta(days=2))
    _run(AllWeeks(weeks=week.label))
    assert json.loads(manifest.read_text())["week_over"] is False
    partial = manifest.read_bytes()
    written = destination / f"{week}.jsonl.gz"
    os.utime(written, (week.start.timestamp(), week.start.timestamp()))

    clock.set(week.start + dt.timedelta(days=3))
    _run(AllWeeks(weeks=week.label))
    assert manifest.read_bytes() == partial  # nothing came, nothing to do

    make_snapshots(source, week.label, hours=2)
    clock.set(week.start + dt.timedelta(days=3))
    _run(AllWeeks(weeks=week.label))
    assert json.loads(manifest.read_text())["snapshots"] == 12
    assert json.loads(manifest.read_text())["week_over"] is False
    os.utime(written, (week.start.timestamp(), week.start.timestamp()))

    clock.set(week.end)
    _run(AllWeeks())
    assert json.loads(manifest.read_text())["week_over"] is True
    clock.set(week.end + dt.timedelta(days=1))
    assert AllWeeks().complete()


def test_a_refresh_converts_stale_weeks_again_and_only_those(
    places: tuple[Path, Path], make_snapshots: Make, luigi: Run
) -> None:
    source, destination = places
    make_snapshots(source, "2021-W44")
    *_, late = make_snapshots(source, "2021-W45")
    body = late.read_bytes()
    late.unlink()
    luigi("AllWeeks")
    late.write_bytes(body)
    before = archive_in(destination)
    assert luigi("AllWeeks").returncode == 0
    assert archive_in(destination) == before  # what is there is not looked at again
    stale = luigi("Verify")
    assert stale.returncode == 30
    assert "stale      2021-W45: 1 raw snapshot came after it was converted." in stale.stdout
    again = advice.make("full", WEEKS="2021-W45", REFRESH=1)
    assert f"converted. Run {again}\n" in stale.stdout
    ran = luigi("AllWeeks", "--refresh")
    assert ran.returncode == 0
    assert "1 week to convert, 1 week done already." in ran.stderr
    after = archive_in(destination)
    assert after["2021-W44.jsonl.gz"] == before["2021-W44.jsonl.gz"]
    assert json.loads(after["_manifests/2021-W45.json"])["snapshots"] == 12
    assert luigi("Verify").returncode == 0


def test_a_refresh_never_replaces_a_week_whose_raw_side_is_gone(
    places: tuple[Path, Path], make_snapshots: Make, luigi: Run
) -> None:
    source, destination = places
    gone, *_ = make_snapshots(source, "2021-W45")
    luigi("AllWeeks")
    before = archive_in(destination)
    gone.unlink()
    ran = luigi("AllWeeks", "--refresh")
    assert "2021-W45 is left as it is: 1 of 12 raw snapshots in it are gone" in ran.stderr
    assert archive_in(destination) == before


def test_a_refresh_never_trades_snapshots_that_are_gone_for_others_that_came(
    places: tuple[Path, Path], make_snapshots: Make, luigi: Run
) -> None:
    source, destination = places
    gone, *_ = make_snapshots(source, "2021-W45")
    luigi("AllWeeks")
    before = archive_in(destination)
    gone.unlink()
    make_snapshots(source, "2021-W45", hours=5)
    gone.unlink()
    ran = luigi("AllWeeks", "--refresh")
    assert "2021-W45 is left as it is: 1 of 12 raw snapshots in it are gone" in ran.stderr
    assert archive_in(destination) == before


def test_a_refresh_never_puts_fewer_records_in_place_of_more(
    places: tuple[Path, Path], make_snapshots: Make, luigi: Run
) -> None:
    source, destination = places
    spoilt, *_ = make_snapshots(source, "2021-W45")
    luigi("AllWeeks")
    before = archive_in(destination)
    spoilt.write_bytes(b"<html>")
    ran = luigi("AllWeeks", "--refresh")
    assert ran.returncode == 30
    assert "2021-W45 is left as it is: converted again it would hold" in ran.stderr
    assert spoilt.name in ran.stderr
    assert "Traceback" not in ran.stderr
    assert archive_in(destination) == before


def test_a_week_without_a_manifest_is_left_to_a_person(
    places: tuple[Path, Path], make_snapshots: Make, luigi: Run
) -> None:
    source, destination = places
    make_snapshots(source, "2021-W45")
    luigi("AllWeeks")
    (destination / "_manifests/2021-W45.json").unlink()
    before = archive_in(destination)
    ran = luigi("AllWeeks", "--refresh")
    assert ran.returncode == 0
    assert "2021-W45 is left as it is: the file has no manifest" in ran.stderr
    assert archive_in(destination) == before


def test_tasks_of_two_archives_are_never_the_same_to_luigid(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ids() -> list[str]:
        luigi_package.task_register.Register.clear_instance_cache()
        forget()
        return [WeekTask(week=Week(2021, 45)).task_id, AllWeeks().task_id, Verify().task_id]

    here = ids()
    assert ids() == here
    for variable in ("BUSTIMES_SOURCE", "BUSTIMES_DESTINATION"):
        with monkeypatch.context() as elsewhere:
            elsewhere.setenv(variable, f"{places[0]}-other")
            assert not set(ids()) & set(here)


def test_a_week_task_alone_of_a_week_without_snapshots_writes_nothing_and_says_so(
    places: tuple[Path, Path], make_snapshots: Make, luigi: Run
) -> None:
    make_snapshots(places[0], "2021-W45")
    ran = luigi("WeekTask", "--week", "2021-W44")
    assert "2021-W44 has no raw snapshots" in ran.stderr
    assert not list(places[1].glob("*.gz"))


@pytest.mark.parametrize(
    ("weeks", "workers", "converters"), [(1, 1, 8), (3, 1, 8), (1, 4, 8), (2, 4, 4), (3, 2, 4)]
)
def test_the_cores_are_for_the_weeks_that_are_to_do_at_the_same_time(
    places: tuple[Path, Path],
    make_snapshots: Make,
    monkeypatch: pytest.MonkeyPatch,
    weeks: int,
    workers: int,
    converters: int,
) -> None:
    for label in ("2021-W45", "2021-W46", "2021-W47")[:weeks]:
        make_snapshots(places[0], label, hours=1)
    asked: list[int] = []
    convert_week = tasks.convert_week

    def noted(*arguments: object, processes: int, **options: object) -> object:
        asked.append(processes)
        return convert_week(*arguments, processes=1, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(tasks, "convert_week", noted)
    monkeypatch.setattr(processes, "cores", lambda: 8)
    under_way.run.begin(workers, None)
    first, *_ = AllWeeks().requires()
    first.run()
    assert asked == [converters]


def test_a_listing_fingerprint_changes_with_any_key_size_or_tag(tmp_path: Path) -> None:
    source = open_root(str(tmp_path))
    source.write("raw/bustimes__2021-11-08__00-00-05.json", b"[]")
    source.write("raw/bustimes__2021-11-08__00-01-05.json", b"[]")
    listing = list_week(source, Week(2021, 45))
    prints = {listing.fingerprint}
    first = listing.snapshots[0]
    for change in ({"key": "bustimes__2021-11-08__00-00-05.json"}, {"size": 3}, {"etag": "x"}):
        fields = {"key": first.stored.key, "size": 2, "etag": first.stored.etag, "written": 0.0}
        changed = type(first)(StoredObject(**(fields | change)), first.time)  # type: ignore[arg-type]
        prints.add(type(listing)(listing.week, [changed, *listing.snapshots[1:]]).fingerprint)
    prints.add(type(listing)(listing.week, listing.snapshots[1:]).fingerprint)
    assert len(prints) == 5


@pytest.mark.usefixtures("places")
def test_nothing_to_convert_is_a_mistake_worth_a_sentence() -> None:
    with pytest.raises(Problem, match=r"nothing to convert: .* has no raw snapshots in 2021-W45"):
        AllWeeks(weeks="2021-W45").requires()
