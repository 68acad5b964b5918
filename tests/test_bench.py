"""What the bench promises as it measures: exact accounts, an endpoint like S3, equal outputs."""

import ast
import contextlib
import datetime as dt
import gzip
import json
import os
import shutil
import socket
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.exceptions import ClientError

from ops.bench import checks, contenders, results
from ops.bench.__main__ import main
from ops.bench.data import prepare, with_one_odd_record
from ops.bench.endpoint import Endpoint, serving
from ops.bench.goals import goals
from ops.bench.measure import Measured, measure, median
from tasks.bustimes import synthetic
from tasks.bustimes.plan import kept_rate
from tasks.problem import Problem
from tasks.storage.bulk import BulkReader
from tasks.storage.s3 import S3Prefix
from tests.conftest import PROJECT, forget

pytestmark = pytest.mark.soak

# Accounts of processes

BUSY = "import time\nwhile time.process_time() < {seconds}: pass\n"


def test_cpu_of_every_process_counts_even_of_those_whose_parent_is_gone(tmp_path: Path) -> None:
    grandchild = BUSY.format(seconds=0.4)
    child = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {grandchild!r}])\n"
    one = [sys.executable, "-c", BUSY.format(seconds=0.2) + child]
    measured = measure(one, {}, 1, tmp_path / "log")
    assert measured.cpu_seconds >= 0.6
    assert measured.memory == []


def test_cpu_of_the_first_process_is_told_apart_from_that_of_those_it_starts(
    tmp_path: Path,
) -> None:
    child = BUSY.format(seconds=0.5)
    waits_for_it = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])\n"
    measured = measure([sys.executable, "-c", waits_for_it], {}, 1, tmp_path / "log")
    assert measured.cpu_seconds - measured.own_cpu_seconds >= 0.5
    alone = measure([sys.executable, "-c", child], {}, 1, tmp_path / "log")
    assert alone.own_cpu_seconds >= 0.48  # counted in hundredths
    assert alone.cpu_seconds - alone.own_cpu_seconds < 0.1


def test_what_counts_is_the_run_in_the_middle() -> None:
    runs = [Measured(cpu, cpu / 2, 10 - cpu, 0.0, [(0.1, 5)]) for cpu in (3.0, 1.0, 2.0)]
    middle = median(runs)
    assert (middle.cpu_seconds, middle.own_cpu_seconds, middle.wall_seconds) == (2.0, 1.0, 8.0)
    assert middle.cpu_of_runs == [3.0, 1.0, 2.0]


def test_memory_is_that_of_all_processes_together(tmp_path: Path) -> None:
    hold = "import time; held = b'x' * 40_000_000; time.sleep(0.5)"
    both = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {hold!r}])\n{hold}"
    measured = measure([sys.executable, "-c", both], {}, 1, tmp_path / "log", memory=True)
    assert 80e6 < measured.peak_bytes < 160e6
    assert [at for at, _ in measured.memory] == sorted(at for at, _ in measured.memory)


def test_a_command_that_fails_is_a_problem_with_its_last_words(tmp_path: Path) -> None:
    failing = [sys.executable, "-c", "import sys; print('the last word'); sys.exit(3)"]
    with pytest.raises(Problem, match=r"exit code 3:\nthe last word"):
        measure(failing, {}, 1, tmp_path / "log")


def test_a_command_gets_the_cores_and_the_settings_that_it_is_given_and_no_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BUSTIMES_MAX_ERRORS", "7")
    monkeypatch.setenv("AWS_PROFILE", "somebody")
    script = (
        "import json, os\n"
        "print(json.dumps([len(os.sched_getaffinity(0)), os.environ.get('BUSTIMES_ORDER'),"
        " os.environ.get('BUSTIMES_MAX_ERRORS'), os.environ.get('AWS_PROFILE')]))"
    )
    measure([sys.executable, "-c", script], {"BUSTIMES_ORDER": "snapshot"}, 1, tmp_path / "log")
    assert json.loads((tmp_path / "log").read_text()) == [1, "snapshot", None, None]


# The endpoint


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    folder = tmp_path / "objects"
    (folder / "raw").mkdir(parents=True)
    for number in range(1234):
        (folder / "raw" / f"{number:04}.json").write_bytes(b"%d" % number * 100)
    (folder / "top.json").write_bytes(b"top")
    return folder


@contextlib.contextmanager
def reached(
    folder: Path, monkeypatch: pytest.MonkeyPatch, **options: float
) -> Iterator[tuple[Endpoint, S3Prefix]]:
    with serving({"things": folder}, **options) as endpoint:
        for name, value in endpoint.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        forget()
        yield endpoint, S3Prefix("s3://things")


def test_the_endpoint_lists_page_by_page_what_is_there(
    objects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reached(objects, monkeypatch) as (endpoint, root):
        before = endpoint.used().requests
        listed = list(root.objects("raw/"))
        assert endpoint.used().requests - before == 2
        assert [one.key for one in listed] == [f"raw/{number:04}.json" for number in range(1234)]
        assert [one.size for one in listed[:11]] == [100] * 10 + [200]
        assert [one.key for one in root.objects("raw/12")] == [
            f"raw/{number}.json" for number in range(1200, 1234)
        ]
        assert [one.key for one in root.top_objects()] == ["top.json"]
        assert root.first_key("raw/", after="raw/0999") == "raw/0999.json"
        assert root.first_key("raw/", after="raw/1233.json") is None
        assert root.find("raw/1233.json") == listed[-1]
        assert root.find("raw/1234.json") is None


@pytest.mark.parametrize("options", [{}, {"delay_ms": 5, "mbit": 50}], ids=["fast", "far away"])
def test_the_endpoint_sends_each_object_whole(
    options: dict[str, float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bodies = [os.urandom(size) for size in (0, 1, 65_536, 300_000)] * 4
    for number, body in enumerate(bodies):
        (tmp_path / f"{number:02}").write_bytes(body)
    with reached(tmp_path, monkeypatch, **options) as (_, root):
        listed = list(root.objects(""))
        reader = BulkReader(root.bulk_source(), at_once=8)
        assert reader.read(listed, root.credentials()) == bodies
        assert [root.read(one.key) for one in listed] == bodies
        other = listed[1]._replace(etag="other")  # the first is empty, and not asked for
        with pytest.raises(Problem, match="was replaced"):
            reader.read([other], root.credentials())


def test_the_endpoint_refuses_what_it_does_not_know_as_s3_does(
    objects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reached(objects, monkeypatch) as (_, root):
        with pytest.raises(ClientError, match="NotImplemented"):
            root.client.delete_object(Bucket="things", Key="top.json")
        with pytest.raises(ClientError, match="NoSuchBucket"):
            boto3.client("s3").list_objects_v2(Bucket="other")
        with pytest.raises(ClientError, match="NoSuchKey"):
            root.client.get_object(Bucket="things", Key="../objects/top.json")


def test_the_endpoint_is_gone_afterwards(objects: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with reached(objects, monkeypatch) as (endpoint, _):
        port = urlsplit(endpoint.address).port
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


# The data

EVENING = dt.datetime(2021, 11, 9, 2, tzinfo=dt.UTC)


@pytest.mark.parametrize("day", [EVENING, EVENING + dt.timedelta(days=2)], ids=["repr", "JSON"])
def test_one_record_of_each_snapshot_has_quotes_and_escapes(day: dt.datetime) -> None:
    is_json = day != EVENING
    read = json.loads if is_json else ast.literal_eval
    quotes = ("'", "\\") if is_json else ('"', "\\")
    for _, body in synthetic.snapshots(day, day + dt.timedelta(minutes=10), vehicles=200):
        changed = with_one_odd_record(body)
        before, after = read(body.decode()), read(changed.decode())
        assert [record["vehicleID"] for record in after] == [one["vehicleID"] for one in before]
        pieces = changed.decode().split("}, {")
        odd = [any(quote in piece for quote in quotes) for piece in pieces]
        assert odd == [index == len(pieces) // 2 for index in range(len(pieces))]
        assert 'Men\'s "Old Mill"' in after[len(after) // 2]["signMessageLong"]
    assert with_one_odd_record(b"[]") == b"[]"
    assert with_one_odd_record(b"{}") == b"{}"


def test_the_data_is_made_once_and_anew_when_it_should_be_other(tmp_path: Path) -> None:
    data = prepare(tmp_path / "data", hours=1, vehicles=3)
    assert [len(sample.files) for sample in data.samples] == [1, 60, 60, 420]
    assert b"u'vehicleID'" in data.repr_day.files[0].read_bytes()
    assert b'"vehicleID"' in data.json_day.files[0].read_bytes()
    made = data.week.files[0].stat().st_mtime_ns
    again = prepare(tmp_path / "data", hours=1, vehicles=3)
    assert again.week.files[0].stat().st_mtime_ns == made
    other = prepare(tmp_path / "data", hours=1, vehicles=4)
    assert other.week.files[0].stat().st_mtime_ns != made


# The checks


def test_other_bytes_lines_or_numbers_of_lines_are_a_problem(tmp_path: Path) -> None:
    key = "bustimes__2021-11-11__16-00-05.json"
    (tmp_path / key).touch()
    lines = [b'{"a":%d,"snapshot_time":"2021-11-11T16:00:05+00:00"}\n' % a for a in range(3)]
    other_time = b'{"a":7,"snapshot_time":"2021-11-11T16:01:05+00:00"}\n'
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "16.jsonl").write_bytes(b"".join(lines) + other_time)
    (tmp_path / "same.gz").write_bytes(gzip.compress(b"".join(lines)))
    (tmp_path / "other.gz").write_bytes(gzip.compress(b"".join(lines[:2] + lines[:1])))
    (tmp_path / "fewer.gz").write_bytes(gzip.compress(b"".join(lines[:2])))

    checks.must_hold_lines(tmp_path / "same.gz", tmp_path / "lines", [tmp_path / key])
    for name in ("other.gz", "fewer.gz"):
        with pytest.raises(Problem, match="Line 3 is not the script's"):
            checks.must_hold_lines(tmp_path / name, tmp_path / "lines", [tmp_path / key])
    checks.must_be_equal({"one": tmp_path / "same.gz", "two": tmp_path / "same.gz"})
    with pytest.raises(Problem, match="gave different bytes"):
        checks.must_be_equal({"one": tmp_path / "same.gz", "two": tmp_path / "other.gz"})
    assert checks.lines_of(tmp_path / "same.gz") == 3
    checks.must_be_as_many({"one": 3, "two": 3})
    with pytest.raises(Problem, match=r"one: 3, two: 2"):
        checks.must_be_as_many({"one": 3, "two": 2})


# The command


def test_a_contender_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None if program == "pigz" else program)
    assert contenders.missing()[contenders.JQ].startswith("pigz is not installed")


@pytest.mark.parametrize(
    "arguments", [["--only", "days,nights"], ["--rounds", "0"], ["--hours", "25"]]
)
def test_a_wrong_option_is_explained(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_a_readme_is_not_given_a_part_for_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--readme", "--quick"]) == 2
    assert "A README shows whole runs" in capsys.readouterr().err


def test_one_run_measures_everything_and_writes_it_down(tmp_path: Path) -> None:
    options = ["--hours", "1", "--vehicles", "6", "--rounds", "1", "--out", str(tmp_path / "out")]
    run = subprocess.run(
        [sys.executable, "-m", "ops.bench", *options],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found = results.read(tmp_path / "out" / "results.json")
    missing = [goal.name for goal in goals(found) if goal.verdict == "not measured"]
    # So few records take no longer than one snapshot, some of the time.
    assert {name for name in missing if "without starting" not in name} == set()
    for day in ("repr-day", "json-day"):
        assert len({one.lines for one in found.outcomes if one.sample == day}) == 1
    names = {one.name for one in found.outcomes if one.sample == "json-day"}
    assert names == {
        *(contenders.OURS, contenders.LIMIT, contenders.STRAIGHTFORWARD),
        f"{contenders.OURS}, order snapshot",
        *({contenders.DUCKDB, contenders.JQ} - found.missing.keys()),
    }
    assert "CPU per GET of a " in run.stdout
    assert "CPU per GET of a " in (tmp_path / "out" / "results.md").read_text()
    ElementTree.parse(tmp_path / "out" / "plot.svg")
    assert not list((tmp_path / "state" / "bench").glob("work/*"))
    assert kept_rate(tmp_path / "state") is None  # of an hour a day, no plan is made
