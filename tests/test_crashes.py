"""Runs that are killed or interrupted: the archive is whole at every moment. Everything here is a
real process that really gets the signal. The gate holds a request, so that a test knows what the
process is at; where there is no gate, a full pipe holds it.
"""

import array
import fcntl
import os
import shutil
import signal
import struct
import termios
from pathlib import Path

import pytest
from luigi.rpc import RPCError

from tasks.bustimes import conversion
from tasks.bustimes.converter import Setup
from tasks.bustimes.listing import list_week
from tasks.bustimes.snapshot import key_of
from tasks.forks import Program
from tasks.luigi_messages import sentence_of
from tasks.problem import Problem
from tasks.storage import open_root
from tasks.storage.address import BulkSource
from tasks.storage.checksum import PART_BYTES
from tests.conftest import forget
from tests.faults import Fault, FaultyS3
from tests.gate import Gate, Hold
from tests.processes_under_test import (
    BOTH,
    FULL,
    MIDDLE,
    NEXT_WEEK,
    SNAPSHOT,
    WEEK,
    WEEK_FILE,
    WEEK_FILE_NAME,
    Fill,
    Place,
    Stage,
    Start,
    complete,
    place_of,
    undisturbed,
    wait_until,
)

pytestmark = pytest.mark.soak

LISTING = ("GET", r"list-type=2.*prefix=raw%2Fbustimes__2021-11-10")
EARLY = ("GET", r"/raw/bustimes__2021-11-08__01-")
REFUSED = ("PUT", r"/_refused/")
MANIFEST = ("PUT", r"/_manifests/")
CHECK = ("HEAD", r"W45\.jsonl\.gz$", 1)  # the first looks whether the week is there already
UPLOAD = ("POST", r"W45\.jsonl\.gz\?uploads")
PART_2 = ("PUT", r"W45\.jsonl\.gz\?.*partNumber=2")
COMPLETION = ("POST", r"W45\.jsonl\.gz\?.*uploadId=")


def killed_at(stage: Stage, place: Place, start: Start, gate: Gate, *arguments: object) -> Hold:
    """Kill a run as a request of it is held, whose fate is then the test's to say."""
    held = gate.hold(*stage)
    run = start(place, *(arguments or FULL))
    held.wait()
    run.kill()
    run.wait_until_nothing_is_left()
    return held


@pytest.mark.parametrize("stage", [LISTING, EARLY, MIDDLE], ids=["listing", "fetching", "later"])
def test_killed_before_the_week_is_converted_it_leaves_nothing_and_the_next_run_completes_it(
    place: Place, start: Start, gate: Gate, stage: Stage
) -> None:
    killed_at(stage, place, start, gate).lose()
    assert place.files() == {}
    complete(place, start)


def test_killed_while_it_writes_it_leaves_nothing_at_the_destination(
    place: Place, start: Start, gate: Gate
) -> None:
    held = gate.hold(*MIDDLE)
    run = start(place, *FULL)
    held.wait()
    wait_until(lambda: any(path.stat().st_size for path in place.spooled()), run.said)
    run.kill()
    run.wait_until_nothing_is_left()
    held.lose()
    assert place.files() == {}
    assert [path.name for path in place.spooled() if path.suffix == ".gz"] == [WEEK_FILE_NAME]
    complete(place, start)


@pytest.mark.parametrize(
    ("stage", "arrives"),
    [(REFUSED, False), (MANIFEST, False), (WEEK_FILE, False), (WEEK_FILE, True), (CHECK, False)],
    ids=["refused object", "manifest", "week file", "week file, arriving", "check"],
)
def test_killed_while_it_publishes_the_next_run_does_so_without_converting_again(
    place: Place, start: Start, gate: Gate, stage: Stage, arrives: bool
) -> None:
    check_publishing(place, start, gate, stage, arrives)


@pytest.mark.parametrize(
    ("stage", "arrives"),
    [(PART_2, False), (COMPLETION, False), (COMPLETION, True)],
    ids=["part", "completion", "completion, arriving"],
)
def test_killed_while_it_uploads_in_parts_the_next_run_gives_them_up_and_uploads_again(
    fill: Fill, large_raw: Path, start: Start, gate: Gate, stage: Stage, arrives: bool
) -> None:
    place = fill(large_raw)
    check_publishing(place, start, gate, stage, arrives)
    week_file = place.week_file()
    assert week_file is not None
    assert len(week_file) > PART_BYTES


def check_publishing(place: Place, start: Start, gate: Gate, stage: Stage, arrives: bool) -> None:
    held = killed_at(stage, place, start, gate)
    if arrives:
        before = gate.answered
        held.release()
        gate.wait_until_answered(before + 1)
    else:
        held.lose()
    assert place.week_file() in (None, undisturbed(place)[WEEK_FILE_NAME])
    fetched = gate.count(*SNAPSHOT)
    said = complete(place, start)
    assert gate.count(*SNAPSHOT) == fetched
    assert "uploaded from the spool" in said


def test_killed_while_it_replaces_a_week_the_next_run_finishes_that(
    place: Place, start: Start, gate: Gate
) -> None:
    complete(place, start)
    late = key_of(WEEK.start.replace(hour=20))
    open_root(place.source).write(late, b"[]")
    killed_at(WEEK_FILE, place, start, gate, *FULL, "--refresh").lose()
    fetched = gate.count(*SNAPSHOT)
    complete(place, start)
    assert gate.count(*SNAPSHOT) == fetched


def test_killed_with_two_weeks_under_way_it_leaves_no_process_behind(
    place: Place, start: Start, gate: Gate
) -> None:
    held, other = gate.hold(*MIDDLE), gate.hold("GET", r"/raw/bustimes__2021-11-15__09-00")
    run = start(place, *BOTH)
    held.wait()
    other.wait()
    run.kill()
    run.wait_until_nothing_is_left()
    held.lose()
    other.lose()
    assert place.files() == {}
    complete(place, start, *BOTH)


def test_an_upload_whose_note_was_lost_costs_the_destination_nothing(
    fill: Fill, large_raw: Path, start: Start, gate: Gate
) -> None:
    place = fill(large_raw)
    killed_at(UPLOAD, place, start, gate).lose()
    [week_file] = [path for path in place.spooled() if path.name == WEEK_FILE_NAME]
    week_file.with_name(f"{WEEK_FILE_NAME}.upload").touch()
    complete(place, start)
    assert gate.count("DELETE", WEEK_FILE_NAME) == 0


def test_an_upload_that_nobody_knows_the_name_of_is_given_up_by_the_next_run(
    fill: Fill, large_raw: Path, start: Start, gate: Gate
) -> None:
    place = fill(large_raw)
    held = killed_at(UPLOAD, place, start, gate)
    before = gate.answered
    held.release()
    gate.wait_until_answered(before + 1)
    assert place.uploads() == [f"v2/{WEEK_FILE_NAME}"]
    complete(place, start)


def test_an_upload_that_was_begun_twice_is_given_up_once(
    bucket: str, faulty_s3: FaultyS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 has begun it, and nobody heard; so it is begun again."""
    faulty_s3.control.fail(Fault.ANSWER_LOST, operation="CreateMultipartUpload")
    path = tmp_path / WEEK_FILE_NAME
    path.write_bytes(bytes(PART_BYTES + 1))
    with monkeypatch.context() as behind_it:
        behind_it.setenv("AWS_ENDPOINT_URL_S3", faulty_s3.url)
        forget()
        open_root(bucket).write_file(WEEK_FILE_NAME, path)
    operations = [one.operation for one in faulty_s3.control.requests()]
    assert operations.count("CreateMultipartUpload") == 2
    assert operations.count("AbortMultipartUpload") == 1
    assert place_of(bucket, "", tmp_path).uploads() == []


def test_killed_between_two_folders_it_leaves_nothing_and_the_next_run_completes_it(
    raw: Path, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every hour says that something is set aside, into a pipe that holds little of it."""
    source = tmp_path / "in"
    shutil.copytree(raw, source)
    for minute in range(1, 60):
        at = WEEK.start.replace(hour=6 + minute % 6, minute=minute)
        (source / key_of(at)).write_bytes(b"broken")
    monkeypatch.setenv("BUSTIMES_MAX_REFUSED_SHARE", "1")
    place = place_of(str(source), str(tmp_path / "out"), tmp_path / "spool")
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    run = start(place, *FULL, stderr=writing)
    os.close(writing)
    with open(reading, "rb", buffering=0) as said:
        unread = array.array("i", [0])

        def is_full() -> bool:
            fcntl.ioctl(said, termios.FIONREAD, unread)
            return unread[0] > 4096 - 200

        wait_until(is_full, run.said)
        run.kill()
    run.wait_until_nothing_is_left()
    assert any(path.stat().st_size for path in place.spooled() if path.suffix == ".gz")
    assert place.files() == {}
    leftover = Path(place.destination) / f".{WEEK_FILE_NAME}.tmp-{run.pid}"
    leftover.write_bytes(b"half a week")
    complete(place, start)


def test_a_killed_converter_process_ends_the_run_with_a_sentence(
    place: Place, start: Start, gate: Gate
) -> None:
    """Both are at work when one is killed: the end of one that has nothing to do harms nothing."""
    held = [gate.hold("GET", rf"/raw/bustimes__2021-11-08__{hour}-") for hour in ("00", "01")]
    run = start(place, *FULL)
    for one in held:
        one.wait()
    os.kill(run.converters()[0], signal.SIGKILL)
    assert run.wait() == 1
    for one in held:
        one.lose()
    run.wait_until_nothing_is_left()
    assert "A converter process ended in the middle (exit status -9)" in run.said()
    assert "Traceback" not in run.said()
    assert place.files() == {}
    complete(place, start)


def test_a_killed_worker_is_told_of_and_the_other_week_is_done(
    place: Place, start: Start, gate: Gate
) -> None:
    """luigi's own fork, with a week of two."""
    held = gate.hold(*MIDDLE)
    run = start(place, *BOTH)
    held.wait()
    wait_until(lambda: place.week_file(NEXT_WEEK), run.said)

    def workers() -> list[int]:
        there = run.others().items()
        return [pid for pid, line in there if "tasks.bustimes.converter" not in line]

    wait_until(lambda: len(workers()) == 1, run.said)  # that of the other week ends
    os.kill(workers()[0], signal.SIGKILL)
    held.lose()
    assert run.wait() == 1
    run.wait_until_nothing_is_left()
    sentence = f"{WEEK}: the process that was at it ended in the middle (exit status -9)"
    assert run.said().count(sentence) == 1
    assert "Traceback" not in run.said()
    complete(place, start, *BOTH)


def test_a_scheduler_that_is_killed_is_a_sentence_whatever_luigi_was_at() -> None:
    said = sentence_of(RPCError("Errors (3 attempts) when connecting"))
    assert said.startswith("the Luigi scheduler does not answer. Start it (make luigid ")
    assert said.endswith(", or do without it (--local-scheduler).")


@pytest.mark.parametrize(
    ("messages_read", "answer"),
    [(0, b""), (3, b""), (3, struct.pack("!i", 1000) + b"and no more")],
    ids=["before it has read anything", "at work", "in the middle of its answer"],
)
def test_a_converter_process_may_die_at_any_moment(
    messages_read: int, answer: bytes, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one here that kills itself: nothing else could be sure of the moment."""
    (tmp_path / "dying.py").write_text(
        "import os, signal, struct\n"
        "from tasks import forks\n"
        "def work(fd):\n"
        f"    for _ in range({messages_read}):\n"
        "        left = struct.unpack('!i', os.read(fd, 4))[0]\n"
        "        while left:\n"
        "            left -= len(os.read(fd, left))\n"
        f"    os.write(fd, {answer!r})\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "def main(): forks.serve(work)\n"
    )
    program = Program("dying", "A converter process", tmp_path)
    monkeypatch.setattr(conversion, "converter", lambda _source: program)
    hours = list_week(open_root(str(raw)), WEEK).by_hour()
    setup = Setup(BulkSource(str(raw), folder=raw), 1, 1 << 20, "vehicle", 1, tmp_path)
    with pytest.raises(Problem, match=r"ended in the middle \(exit status -9\)"):
        list(conversion.convert_hours(hours, setup, 1, lambda: None))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    ("command", "stage"),
    [(FULL, MIDDLE), (FULL, WEEK_FILE), (BOTH, MIDDLE)],
    ids=["converting", "publishing", "two weeks at once"],
)
def test_interrupted_it_says_so_in_a_sentence_and_the_next_run_completes(
    place: Place,
    start: Start,
    gate: Gate,
    command: tuple[str, ...],
    number: int,
    code: int,
    stage: Stage,
) -> None:
    held = gate.hold(*stage)
    run = start(place, *command)
    held.wait()
    if number == signal.SIGINT:
        run.ctrl_c()
    else:
        run.signal(number)
    assert run.wait() == code, run.said()
    run.wait_until_nothing_is_left()
    held.lose()
    assert "the next run goes on from here" in run.said()
    assert "Traceback" not in run.said()
    assert place.week_file() is None
    complete(place, start, *command)


def test_interrupted_while_its_converter_processes_start_it_says_so_in_a_sentence(
    place: Place, start: Start, gate: Gate
) -> None:
    held = gate.hold(*SNAPSHOT)
    run = start(place, *FULL)
    wait_until(run.converters, run.said)
    run.ctrl_c()
    assert run.wait() == 130
    run.wait_until_nothing_is_left()
    held.lose()
    assert "Traceback" not in run.said()
