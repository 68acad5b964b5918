"""boto3's calls when S3, or the way to it, fails: tried again in time, counted, told in the end."""

import contextlib
import dataclasses
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.problem import Problem
from tasks.settings import load
from tasks.storage import budget, checksum, patience, s3_clients, tally
from tasks.storage.patience import Patience
from tasks.storage.s3 import S3Prefix
from tasks.storage.traffic import Traffic, lines, sentence
from tests.conftest import free_port
from tests.faults import Fault, FaultyS3

PATIENCE = Patience(
    connect=1, stall=0.3, attempt=2, request=20, attempts=6, first_pause=0.001, longest_pause=0.01
)
BODY = bytes(range(256)) * 100


@pytest.fixture(autouse=True)
def own_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test counts what another one did."""
    monkeypatch.setattr(tally, "of_process", tally.Tally())
    monkeypatch.setattr(budget, "of_run", budget.RetryBudget())


@pytest.fixture
def root_with(
    bucket: str, faulty_s3: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., S3Prefix]]:
    """Makes a root behind the proxy, of some patience."""
    real = os.environ["AWS_ENDPOINT_URL_S3"]

    def root_with(**limits: float) -> S3Prefix:
        client = s3_clients._make_client(dataclasses.replace(PATIENCE, **limits))  # type: ignore[arg-type]
        return S3Prefix(bucket, lambda _: client)

    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", faulty_s3.url)
    s3_clients.forget()
    yield root_with
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", real)
    s3_clients.forget()


@pytest.fixture
def root(root_with: Callable[..., S3Prefix]) -> S3Prefix:
    return root_with()


def retries() -> dict[str, dict[str, int]]:
    """By operation, of those that were tried again."""
    counted = tally.of_process.counted()
    return {name: dict(one.retries) for name, one in counted.items() if one.retries}


REASONS = {
    Fault.INTERNAL_ERROR: "500 InternalError",
    Fault.SLOW_DOWN: "503 SlowDown",
    Fault.TOO_MANY_REQUESTS: "429 TooManyRequests",
    Fault.CLOCK_SKEW: "403 RequestTimeTooSkewed",
    Fault.RESET: "reset",
    Fault.STALLED: "stalled",
}
IN_A_BODY = {
    Fault.RESET_IN_BODY: "reset",
    Fault.TRUNCATED: "cut off",
    Fault.SHORTENED: "cut off",
    Fault.STALLED_IN_BODY: "stalled",
}


@pytest.mark.parametrize(("fault", "reason"), REASONS.items(), ids=[one.name for one in REASONS])
def test_each_call_is_tried_again_and_counted(
    root: S3Prefix, faulty_s3: FaultyS3, fault: Fault, reason: str
) -> None:
    root.write("kept", BODY)
    tally.of_process.take()
    calls: dict[str, tuple[str, Callable[[], object], object]] = {
        "ListObjectsV2": ("LIST", lambda: [one.key for one in root.objects("")], ["kept"]),
        "GetObject": ("GET", lambda: root.read("kept"), BODY),
        "HeadObject": ("HEAD", lambda: getattr(root.find("kept"), "size", 0), len(BODY)),
        "PutObject": ("PUT", lambda: root.write("new", b"new"), None),
        "DeleteObjects": ("DELETE", lambda: root.remove(["new"]), None),
    }
    for operation, (name, call, due) in calls.items():
        rule = faulty_s3.control.fail(fault, operation=operation)
        assert call() == due
        assert rule.is_over
        one = tally.of_process.take()[name]
        assert (one.requests, one.attempts) == (1, 2)
        no_code = fault in list(REASONS)[:4] and name == "HEAD"
        assert one.retries == {reason[:3] if no_code else reason: 1}
        assert one.seconds > 0
        assert one.bytes >= {"LIST": 200, "GET": len(BODY), "HEAD": 0, "PUT": 3, "DELETE": 50}[name]


@pytest.mark.parametrize(("fault", "reason"), IN_A_BODY.items(), ids=[x.name for x in IN_A_BODY])
def test_a_body_that_breaks_off_is_asked_for_again(
    root: S3Prefix, faulty_s3: FaultyS3, fault: Fault, reason: str
) -> None:
    root.write("kept", BODY)
    tally.of_process.take()
    ways: list[tuple[str, Callable[[], object], object]] = [
        ("ListObjectsV2", lambda: [one.key for one in root.objects("")], ["kept"]),
        ("GetObject", lambda: root.read("kept"), BODY),
        ("GetObject", lambda: root.read("kept", 100, 5000), BODY[100:5100]),
        ("GetObject", lambda: b"".join(root.stream("kept")), BODY),
        ("GetObject", lambda: root.read_with_etag("kept"), root.read_with_etag("kept")),
    ]
    for operation, way, due in ways:
        tally.of_process.take()
        rule = faulty_s3.control.fail(fault, operation=operation)
        assert way() == due
        assert rule.is_over
        [told] = retries().values()
        checked = fault is Fault.SHORTENED and "wrong checksum" in told
        assert told == {"wrong checksum" if checked else reason: 1}


def test_a_stream_goes_on_where_it_broke_off_and_says_what_it_cost(
    root: S3Prefix, faulty_s3: FaultyS3
) -> None:
    root.write("kept", BODY)
    root.write("empty", b"")
    faulty_s3.control.fail(Fault.RESET_IN_BODY, times=3, operation="GetObject")
    assert b"".join(root.stream("kept")) == BODY
    asked = [one.detail for one in faulty_s3.control.requests() if one.operation == "GetObject"]
    assert asked[0] == "bytes=0-"
    assert [int(one[6:-1]) for one in asked] == sorted({int(one[6:-1]) for one in asked})
    assert tally.of_process.counted()["GET"].bytes == len(BODY)
    assert list(root.stream("empty")) == []


def test_a_flipped_byte_is_found_by_the_checksum_that_s3_keeps(
    root: S3Prefix, faulty_s3: FaultyS3
) -> None:
    root.write("kept", BODY)
    faulty_s3.control.fail(Fault.FLIPPED_BYTE)
    assert root.read("kept") == BODY
    assert retries() == {"GET": {"wrong checksum": 1}}
    faulty_s3.control.fail(Fault.FLIPPED_BYTE)
    assert root.read_with_etag("kept") is not None
    assert retries() == {"GET": {"wrong checksum": 2}}


def test_an_upload_in_parts_bears_all_that_can_happen_to_it(
    root: S3Prefix, faulty_s3: FaultyS3, tmp_path: Path
) -> None:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(checksum.PART_BYTES + 1000))
    fail = faulty_s3.control.fail
    rules = [
        fail(Fault.INTERNAL_ERROR, operation="CreateMultipartUpload"),
        fail(Fault.INTERNAL_ERROR, operation="UploadPart"),
        fail(Fault.RESET, operation="UploadPart"),
        fail(Fault.ANSWER_LOST, operation="UploadPart"),
        fail(Fault.COMPLETION_FAILED),
    ]
    root.write_file("large", path)
    assert all(rule.is_over for rule in rules)
    assert root.read("large") == path.read_bytes()
    assert sum(retries()["multipart"].values()) == len(rules)


@pytest.mark.parametrize("fault", [Fault.COMPLETION_UNSURE, Fault.ANSWER_LOST])
@pytest.mark.parametrize("expected", [None, ""], ids=["whatever is there", "nothing is there"])
def test_a_completion_that_was_done_unknown_to_us_counts(
    root: S3Prefix, faulty_s3: FaultyS3, tmp_path: Path, fault: Fault, expected: str | None
) -> None:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(checksum.PART_BYTES + 1000))
    rule = faulty_s3.control.fail(fault, operation="CompleteMultipartUpload")
    root.write_file("large", path, expected)
    assert rule.is_over
    assert root.read("large") == path.read_bytes()
    assert not path.with_name("large.upload").exists()


def test_a_put_that_was_done_unknown_to_us_counts(
    root: S3Prefix, faulty_s3: FaultyS3, tmp_path: Path
) -> None:
    path = tmp_path / "small"
    path.write_bytes(BODY)
    faulty_s3.control.fail(Fault.ANSWER_LOST, times=2, operation="PutObject")
    root.write_file("one", path, "")
    assert root.write_if("two", BODY, "")
    assert (root.read("one"), root.read("two")) == (BODY, BODY)


# The end of patience


GIVEN_UP = {
    Fault.SLOW_DOWN: r"S3 asks to slow down.*; run it again later \(after 6 tries in \d\.\d s; the "
    r"last answer was 503 SlowDown\)\.",
    Fault.RESET: r".* \(after 6 tries in \d\.\d s\)\. Check the network and AWS_ENDPOINT_URL_S3, ",
    Fault.STALLED: r"Read timeout .* \(after 6 tries in \d\.\d s\)\. Check the network",
}


@pytest.mark.parametrize(("fault", "why"), GIVEN_UP.items(), ids=[one.name for one in GIVEN_UP])
def test_what_does_not_pass_is_given_up_with_all_that_is_known(
    root_with: Callable[..., S3Prefix], faulty_s3: FaultyS3, fault: Fault, why: str
) -> None:
    root = root_with(stall=0.1)
    faulty_s3.control.fail(fault, times=None)
    for call, what in (
        (lambda: list(root.objects("")), " cannot be listed"),
        (lambda: root.read("a/key"), "a/key cannot be read"),
        (lambda: root.write("a/key", b""), "a/key cannot be written"),
    ):
        with pytest.raises(Problem, match=rf"^{root.url}/?{what}: {why}"):
            call()


def test_a_server_that_is_not_there_is_given_up_in_time(
    root_with: Callable[..., S3Prefix], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    root = root_with(request=3, attempts=1000, first_pause=0.2, longest_pause=0.4)
    with pytest.raises(
        Problem, match=r"Could not connect to .* \(after \d+ tries in [1-3]\.\d s\)"
    ):
        root.read("key")
    assert retries().keys() == {"GET"}
    assert retries()["GET"].keys() == {"not connected"}


def test_an_answer_has_an_end_however_slowly_it_goes_on(
    root_with: Callable[..., S3Prefix], faulty_s3: FaultyS3
) -> None:
    """Each piece comes before the connection counts as stalled."""
    root = root_with(attempt=0.4, stall=10)
    root.write("kept", b"0123456789" * 10)
    for operation, call in (
        ("ListObjectsV2", lambda: [one.key for one in root.objects("")]),
        ("GetObject", lambda: root.read("kept")),
    ):
        tally.of_process.take()
        faulty_s3.control.fail(Fault.DRIP, operation=operation, seconds=20)
        assert call()
        assert [list(one) for one in retries().values()] == [["stalled"]]


def test_sending_has_an_end_however_slowly_it_goes_on(
    root_with: Callable[..., S3Prefix], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To a server that takes a little of a body now and then."""
    monkeypatch.setattr(patience, "_SLOWEST_BYTES_A_SECOND", 1 << 30)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{listening.getsockname()[1]}")
        root = root_with(attempt=0.5, attempts=1, connect=5)
        is_over = threading.Event()

        def take_slowly() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                while connection.recv(1 << 16) and not is_over.wait(0.02):
                    pass

        taking = threading.Thread(target=take_slowly)
        taking.start()
        with pytest.raises(
            Problem, match=r"kept cannot be written: Read timeout .* \(after 1 try in"
        ):
            root.write("kept", bytes(64 << 20))
        is_over.set()
        taking.join()


def test_reading_may_take_its_time_between_two_parts(
    root_with: Callable[..., S3Prefix],
) -> None:
    root = root_with(attempt=0.2)
    root.write("kept", bytes(3 << 20))
    parts = root.stream("kept")
    next(parts)
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        time.sleep(0.05)  # as somebody who works on what has come
    assert sum(map(len, parts)) == 2 << 20
    assert retries() == {}


def test_one_budget_holds_for_all_calls(
    root_with: Callable[..., S3Prefix], faulty_s3: FaultyS3
) -> None:
    root = root_with(retries=3)
    faulty_s3.control.fail(Fault.SLOW_DOWN, times=3)
    root.write("kept", BODY)
    assert budget.of_run.left_of(3) == 0
    assert root.read("kept") == BODY  # as long as nothing fails
    faulty_s3.control.fail(Fault.INTERNAL_ERROR)
    with pytest.raises(
        Problem,
        match=r"kept cannot be read: it failed \(500 InternalError\), and the retries of this run "
        r"\(retry_budget\) are used up",
    ):
        root.read("kept")
    assert budget.of_run.share_of(10, 2) == 4  # of the seven that are left


def test_a_fork_spends_of_the_same_budget_and_counts_from_nought() -> None:
    tally.of_process.add("GET", Traffic(requests=1))
    budget.of_run.spend(2)
    run = tally.RunTally()
    run.note(tally.of_process.counted())
    os.register_at_fork(after_in_child=tally.of_process.begin_anew)  # as of the one it stands for
    child = os.fork()
    if not child:
        budget.of_run.spend(3)
        tally.of_process.add("GET", Traffic(requests=5, retries={"reset": 1}))
        run.note(tally.of_process.take())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert budget.of_run.left_of(100) == 95
    assert run.total() == {"GET": Traffic(requests=6, retries={"reset": 1})}
    assert tally.of_process.take() == {"GET": Traffic(requests=1)}
    assert tally.of_process.take() == {}


def test_a_clock_that_is_really_wrong_is_said_after_two_more_tries(
    root: S3Prefix, faulty_s3: FaultyS3
) -> None:
    faulty_s3.control.fail(Fault.CLOCK_SKEW, times=None)
    with pytest.raises(Problem, match="cannot be listed: this machine's clock is wrong; set it"):
        list(root.objects(""))
    assert len(faulty_s3.control.requests()) == 3
    with pytest.raises(Problem, match="access is denied"):  # a HEAD is not told why
        root.find("key")
    assert len(faulty_s3.control.requests()) == 6


# Credentials


def keys_in_file(path: Path, token: str) -> None:
    path.write_text(
        f"[default]\naws_access_key_id = test\naws_secret_access_key = test\n"
        f"aws_session_token = {token}\n"
    )


@pytest.fixture
def kept_in_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: str) -> Path:
    """A file of credentials, as a tool renews it that logs in for a person."""
    assert bucket
    path = tmp_path / "credentials"
    keys_in_file(path, "first")
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    return path


def test_credentials_that_expire_are_looked_up_afresh(
    kept_in_file: Path, root: S3Prefix, faulty_s3: FaultyS3
) -> None:
    root.write("kept", BODY)
    before = root.credentials()
    faulty_s3.control.fail(Fault.EXPIRED_TOKEN)
    with pytest.raises(Problem, match=r"the credentials have expired; log in again \(aws sso logi"):
        root.read("kept")
    keys_in_file(kept_in_file, "second")
    assert root.read("kept") == BODY
    assert retries() == {"GET": {"400 ExpiredToken": 1}}
    now = root.credentials(before)
    assert now is not None
    assert now.token == "second"
    assert root.credentials(now) == now  # there are no others


def test_a_refusal_that_is_not_told_why_has_credentials_looked_up_too(
    kept_in_file: Path, root: S3Prefix, faulty_s3: FaultyS3
) -> None:
    """An answer to a HEAD has no body that says that they have expired."""
    faulty_s3.control.fail(Fault.EXPIRED_TOKEN)
    with pytest.raises(Problem, match="S3 refuses the request and does not say why"):
        root.find("kept")
    keys_in_file(kept_in_file, "second")
    assert root.find("kept") is None


def test_credentials_of_a_program_are_asked_for_again_and_no_more_than_makes_sense(
    kept_in_file: Path, root_with: Callable[..., S3Prefix], faulty_s3: FaultyS3, tmp_path: Path
) -> None:
    kept_in_file.unlink()
    program = tmp_path / "program"
    program.write_text(
        "#!/bin/sh\n"
        'echo "{\\"Version\\": 1, \\"AccessKeyId\\": \\"test\\", \\"SecretAccessKey\\": \\"test\\",'
        ' \\"SessionToken\\": \\"$$\\"}"\n'
    )
    program.chmod(0o755)
    Path(os.environ["AWS_CONFIG_FILE"]).write_text(f"[default]\ncredential_process = {program}\n")
    root = root_with()
    faulty_s3.control.fail(Fault.EXPIRED_TOKEN, times=2)
    root.write("kept", BODY)
    faulty_s3.control.fail(Fault.EXPIRED_TOKEN, times=None)
    with pytest.raises(Problem, match=r"the credentials have expired.* \(after 6 tries in "):
        root.read("kept")


# What is told


def test_each_failed_attempt_is_logged_with_what_s3_wants_to_know(
    root: S3Prefix, faulty_s3: FaultyS3, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tasks.storage")
    root.write("a key", BODY)
    assert root.find("there is none") is None
    faulty_s3.control.fail(Fault.SLOW_DOWN, operation="GetObject")
    faulty_s3.control.fail(Fault.RESET_IN_BODY, operation="GetObject")
    faulty_s3.control.fail(Fault.RESET, operation="ListObjectsV2")
    root.read("a key")
    list(root.objects("a "))
    told = [record.s3 for record in caplog.records if hasattr(record, "s3")]
    [refused, broken, reset] = told
    asked = next(one for one in faulty_s3.control.requests() if one.fault is Fault.SLOW_DOWN)
    assert refused["request_id"] == asked.request_id != ""
    assert reset["request_id"] == ""
    known = ("key", "operation", "status", "code", "attempt")
    assert [refused[name] for name in known] == ["a key", "GET", 503, "SlowDown", 1]
    assert [broken[name] for name in known] == ["a key", "GET", 0, "", 1]
    assert [reset[name] for name in known] == ["a ", "LIST", 0, "", 1]
    assert all(one["backoff"] is not None and 0 <= one["seconds"] < 60 for one in told)
    why = "503 SlowDown: Please reduce your request rate."
    assert f"GET 'a key' failed: {why} (attempt 1, again in " in caplog.text


def test_traffic_is_told_in_a_few_lines() -> None:
    assert lines({}) == []
    assert sentence({}) == ""
    requests = {
        "PUT": Traffic(4, 4, 2_000_000, 0.2),
        "GET": Traffic(10_080, 10_094, 1_680_000_000, 403.2, {"503 SlowDown": 11, "reset": 3}),
    }
    assert sentence(requests) == ("S3: 10,084 requests, 14 tried again (503 SlowDown 11, reset 3)")
    assert lines(requests) == [
        "S3: 10,084 requests, 14 tried again (503 SlowDown 11, reset 3).",
        "  GET           10,080      1.7 GB     40 ms each  14 tried again (503 SlowDown 11, "
        "reset 3)",
        "  PUT                4      2.0 MB     50 ms each",
    ]
    many = {"GET": Traffic(1, 8, 0, 0.0, {f"reason {n}": n for n in range(1, 8)})}
    again = "28 tried again (reason 7 7, reason 6 6, reason 5 5, reason 4 4, and 3 other reasons)"
    assert sentence(many) == f"S3: 1 request, {again}"


def test_the_settings_say_how_patient_to_be() -> None:
    usual = load({})
    assert usual.patience == Patience()
    asked = {
        "BUSTIMES_CONNECT_SECONDS": "1.5",
        "BUSTIMES_STALL_SECONDS": "0.2",
        "BUSTIMES_REQUEST_SECONDS": "60",
        "BUSTIMES_RETRY_BUDGET": "0",
    }
    told = load(asked).patience
    assert (told.connect, told.stall, told.retries) == (1.5, 0.2, 0)
    assert (told.request, told.attempt) == (60, 60)
    for variable in list(asked)[:3]:
        for value in ("0", "-1", "soon", "nan", "inf", "3601"):
            with pytest.raises(Problem, match=rf"{variable} is '{value}': give a number of sec"):
                load({variable: value})
