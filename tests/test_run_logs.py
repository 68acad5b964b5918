"""The run logs: one JSON object a line, from every process, with every call to S3 that failed."""

import datetime as dt
import functools
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks import run_log
from tests.conftest import PROJECT, Run
from tests.explained import assert_done, assert_explained, upload
from tests.faults import Fault, FaultyS3

pytestmark = pytest.mark.soak

WEEKS = ("2021-W44", "2021-W45")
OBJECT = "raw/bustimes__2021-11-0{}__00-10-0*"


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Every line, each of which must be an object with what all of them have."""
    told = [json.loads(line) for line in path.read_text().splitlines()]
    for one in told:
        when = dt.datetime.fromisoformat(one["time"])
        assert when.utcoffset() == dt.timedelta()
        assert one["level"] in logging.getLevelNamesMapping()
        assert one["logger"].split(".")[0] == "tasks"
        assert one["message"]
        assert isinstance(one["run"], int)
        assert isinstance(one["process"], int)
    return told


@pytest.fixture
def run(
    ops: Run,
    bucket: str,
    faulty_s3: FaultyS3,
    tmp_path: Path,
    make_snapshots: Callable[..., list[Path]],
) -> Run:
    """Runs a command on two weeks of snapshots in an S3 that fails on demand."""
    for week in WEEKS:
        make_snapshots(tmp_path / "in", week)
    upload(tmp_path / "in", bucket)
    places = {"BUSTIMES_SOURCE": bucket, "BUSTIMES_DESTINATION": str(tmp_path / "out")}
    return functools.partial(ops, AWS_ENDPOINT_URL_S3=faulty_s3.url, **places)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """The folder of the logs."""
    return tmp_path / "state/log"


def test_every_call_that_failed_is_one_line_whichever_process_made_it(
    run: Run, logs: Path, faulty_s3: FaultyS3
) -> None:
    for fault, monday in ((Fault.SLOW_DOWN, 1), (Fault.RESET_IN_BODY, 8), (Fault.TRUNCATED, 8)):
        faulty_s3.control.fail(fault, 2, operation="GetObject", key=OBJECT.format(monday))
    faulty_s3.control.fail(Fault.INTERNAL_ERROR, operation="ListObjectsV2")
    command = ("full", "--local-scheduler", "--weeks", ",".join(WEEKS), "--workers", "2")
    ran = run(*command, BUSTIMES_PROCESSES="2")
    assert_done(ran)
    told = lines_of(logs / "full.jsonl")
    failed = [one["s3"] for one in told if "s3" in one]
    met = [one for one in faulty_s3.control.requests() if one.fault]
    assert len(met) == 7
    gets = [one for one in failed if one["operation"] == "GET"]
    assert sorted(one["key"] for one in gets) == sorted(one.key for one in met if one.key)
    assert [one["operation"] for one in failed if one not in gets] == ["LIST"]
    for one in failed:
        assert one["seconds"] >= 0
        assert one["attempt"] >= 1
        assert one["error"]
    slow = [one for one in failed if one["status"] == 503]
    assert [one["code"] for one in slow] == ["SlowDown"] * 2
    assert all(one["request_id"] for one in slow)
    # Converter processes made these calls, two workers had weeks under way, and all is one run.
    calls = {one["process"] for one in told if one.get("s3") in gets}
    said = {one["process"] for one in told if one["logger"] == "tasks.run"}
    assert len(calls) >= 2
    assert len(said) == 3
    assert not calls & said
    [number] = {one["run"] for one in told}
    assert number in said
    # What was said is in both logs, in the same order, and was printed.
    messages = [one["message"] for one in told if one["logger"] == "tasks.run"]
    readable = (logs / "full.log").read_text().splitlines()
    assert [line[len("2021-11-08 00:00:00  ") :] for line in readable] == messages
    heading, *said_aloud = messages
    assert heading.startswith("== make full SOURCE=s3://")
    assert all(message in ran.stderr for message in said_aloud)


def test_what_went_wrong_is_told_with_its_level_and_a_second_run_is_another(
    run: Run, logs: Path, faulty_s3: FaultyS3
) -> None:
    faulty_s3.control.fail(Fault.REPLACED, operation="GetObject", key=OBJECT.format(1))
    command = ("full", "--local-scheduler", "--weeks", ",".join(WEEKS))
    assert_explained(run(*command))
    told = lines_of(logs / "full.jsonl")
    [call] = [one["s3"] for one in told if "s3" in one]
    assert (call["status"], call["backoff"]) == (412, None)
    [error] = [one["message"] for one in told if one["level"] == "ERROR"]
    assert "2021-W44" in error
    assert "was replaced" in error
    assert_done(run(*command))
    more = lines_of(logs / "full.jsonl")
    assert more[: len(told)] == told
    assert len({one["run"] for one in more}) == 2


def test_a_command_that_gives_up_says_so_in_a_log_of_its_own(
    run: Run, logs: Path, faulty_s3: FaultyS3
) -> None:
    logs.parent.mkdir()
    faulty_s3.control.fail(Fault.INTERNAL_ERROR, None, operation="ListObjectsV2")
    faulty_s3.control.fail(Fault.EXPIRED_TOKEN, None)
    ran = run("verify", "--weeks", WEEKS[0])
    assert_explained(ran)
    last = lines_of(logs / "verify.jsonl")[-1]
    assert (last["level"], last["logger"]) == ("ERROR", "tasks.run")
    assert last["message"] == ran.stderr.strip()


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a run that this process has begun, put aside when it has a few lines."""
    monkeypatch.setattr(run_log, "FILE_BYTES", 1000)
    monkeypatch.setattr(run_log, "FILES", 3)
    monkeypatch.setenv("BUSTIMES_RUN_LOG", "")
    path = tmp_path / "log/full.jsonl"
    run_log.begin(path)
    yield path
    monkeypatch.setenv("BUSTIMES_RUN_LOG", "")
    run_log.join()
    assert not run_log._handlers()


def test_long_files_are_put_aside_and_the_oldest_goes(log: Path) -> None:
    for number in range(100):
        run_log.said(f"sentence {number}")
    names = {path.name for path in log.parent.iterdir()}
    assert names == {"full.jsonl", "full.jsonl.1", "full.jsonl.2"}
    told = [
        one["message"]
        for name in sorted(names, reverse=True)
        for one in lines_of(log.with_name(name))
    ]
    assert told == [f"sentence {number}" for number in range(100 - len(told), 100)]
    assert all(path.stat().st_size < 1200 for path in log.parent.iterdir())


WRITE = """
import sys
from pathlib import Path
from tasks import run_log
run_log.FILE_BYTES, run_log.FILES = 2000, 1000
run_log.join()
sys.stdin.read()
for number in range(300):
    run_log.said(f"{sys.argv[1]} {number} " + "x" * (number * 7 % 400))
"""


def test_no_line_is_lost_or_torn_when_many_processes_write_and_put_aside(log: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE, str(name)],
            cwd=PROJECT,
            env=os.environ | {"PYTHONPATH": str(PROJECT)},
            stdin=subprocess.PIPE,
        )
        for name in range(4)
    ]
    for writer in writers:  # all of them are there by now, and wait
        assert writer.stdin is not None
        writer.stdin.close()
    assert [writer.wait(60) for writer in writers] == [0] * 4
    files = list(log.parent.iterdir())
    assert len(files) > 50
    told = [tuple(one["message"].split()[:2]) for file in files for one in lines_of(file)]
    assert sorted(told) == sorted((str(a), str(b)) for a in range(4) for b in range(300))


def test_whatever_is_logged_each_line_parses_and_strangers_are_not_kept(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("tasks"), "propagate", False)  # pytest cannot bear it
    strange = 'a\nb\u2028c\x00d\ud800e"\\'
    run_log.said(strange)
    logging.getLogger("tasks.storage").info("%s", strange, extra={"s3": {"key": object()}})
    logging.getLogger("botocore.auth").error("a secret")
    told = lines_of(log)
    assert [one["message"] for one in told] == [strange] * 2
    assert "object object" in told[1]["s3"]["key"]


def test_a_log_that_cannot_be_written_stops_nothing(log: Path) -> None:
    log.parent.mkdir()
    log.mkdir()
    run_log.said("into a folder")
    log.rmdir()
    log.symlink_to("/dev/full")
    run_log.said("onto a full disk")
    log.unlink()
    log.parent.rmdir()
    log.parent.parent.joinpath("gone").mkdir()
    run_log.begin(log.parent.parent / "never/made/full.jsonl")
    run_log.said("into what is not there")
    assert not (log.parent.parent / "never").exists()
