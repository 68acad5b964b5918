"""What a library says of a secret is taken out of it, whichever door it leaves by.

Credentials that no header can hold are refused before a library gets to say anything.
"""

import base64
import json
import logging
import os
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks import run_log, secrets
from tasks.problem import Problem
from tasks.storage import open_root
from tests.conftest import PROJECT, forget, free_port
from tests.explained import FULL, WEEK, assert_explained, text_of
from tests.faults import FaultyS3
from tests.test_secrets import (
    ACCESS_KEY,
    KEYS,
    LUIGI,
    PLANTED,
    SECRET_KEY,
    TOKEN,
    Answers,
    Check,
    filled,
    planted,
    run,
    shows,
)

__all__ = ["filled", "planted", "run"]  # fixtures


@pytest.fixture(autouse=True)
def known_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test has this process know of secrets is forgotten after it."""
    monkeypatch.setattr(secrets, "_known", set())
    monkeypatch.setattr(secrets, "_pattern", None)
    make = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(make)


# Credentials that cannot be used


ODD = {
    "a carriage return": ("{}\r", "ends in a carriage return"),
    "both": ("{}\r\n", "ends in a newline"),
    "a newline": ("{}\n", "ends in a newline"),
    "a byte order mark": ("\ufeff{}", "holds a byte order mark"),
    "a tab": ("{}\t", "ends in a tab"),
    "another": ("{}\x7f", "ends in a character that cannot be sent"),
}
ODD_IF_SENT = {
    "a space": ("{} ", "ends in a space"),
    "a letter": ("{}\u00e9", "ends in a character that cannot be sent"),
}
WRONG = [(name, *one) for name in KEYS for one in ODD.values()]
WRONG += [(name, *one) for name in KEYS if "SECRET" not in name for one in ODD_IF_SENT.values()]
WRONG += [("AWS_SECRET_ACCESS_KEY", "{} ", "begins or ends with a space")]


@pytest.mark.parametrize(("variable", "form", "fault"), WRONG)
def test_credentials_that_cannot_be_used_are_refused_unsent_and_unsaid(
    bucket: str,
    faulty_s3: FaultyS3,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    variable: str,
    form: str,
    fault: str,
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(variable, form.format(KEYS[variable]))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", faulty_s3.url)
    forget()
    root = open_root(bucket)
    with caplog.at_level(logging.DEBUG):
        for ask in (root.check_readable, root.credentials, lambda: root.write("a", b"a")):
            with pytest.raises(Problem, match=f"cannot be used: {variable} {fault}") as raised:
                ask()
            assert not shows(str(raised.value).encode())
    assert faulty_s3.control.requests() == []
    assert not shows(caplog.text.encode())
    forget()


@pytest.mark.parametrize("how", ["process", "container"])
def test_those_that_come_from_elsewhere_are_told_with_where(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    given = {"AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY, "Version": 1}
    process = tmp_path / "keys.json"
    process.write_text(json.dumps(given | {"SessionToken": f"{TOKEN}\r\n"}))
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    answer = given | {"Token": f"{TOKEN}\r\n", "Expiration": "2199-01-01T00:00:00Z"}
    with Answers(200, lambda _: json.dumps(answer)) as server:
        if how == "process":
            config = f"[default]\ncredential_process = cat {process}\n"
            Path(os.environ["AWS_CONFIG_FILE"]).write_text(config)
            origin = "credential_process of AWS's config file"
        else:
            monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", server.url)
            origin = "the container's role"
        forget()
        with pytest.raises(Problem) as raised:
            open_root(bucket).check_readable()
    assert f"the session token (aws_session_token) from {origin} ends in a" in str(raised.value)
    assert not shows(str(raised.value).encode())
    forget()


def test_credentials_that_are_no_json_are_no_wrong_endpoint(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    config = "[default]\ncredential_process = echo { no JSON\n"
    Path(os.environ["AWS_CONFIG_FILE"]).write_text(config)
    forget()
    with pytest.raises(Problem, match="files below") as raised:
        open_root(bucket).check_readable()
    assert "ENDPOINT" not in str(raised.value)
    forget()


def test_a_file_of_windows_is_read_as_any_other(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    keys = {name.lower(): value for name, value in KEYS.items()}
    lines = ["[default]", *(f"{name} = {value}" for name, value in keys.items()), ""]
    Path(os.environ["AWS_SHARED_CREDENTIALS_FILE"]).write_bytes("\r\n".join(lines).encode())
    forget()
    open_root(bucket).check_readable()
    forget()


@pytest.mark.parametrize("variable", ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"])
def test_a_profile_of_windows_is_told_too(
    bucket: str, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "michael\r")
    forget()
    with pytest.raises(Problem, match=rf"{variable} is 'michael\\r': give the name of"):
        open_root(bucket).check_readable()
    forget()


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("command", [(*FULL, "--weeks", WEEK), ("plan",), ("verify",)])
def test_no_command_says_such_a_token_nor_tries_again(run: Check, command: tuple[str, ...]) -> None:
    result = run(*command, AWS_SESSION_TOKEN=f"{TOKEN}\r")
    assert_explained(result, "AWS_SESSION_TOKEN ends in a carriage return")
    assert result.returncode == 2
    assert "tries" not in text_of(result)


@pytest.mark.usefixtures("planted")
def test_luigis_own_command_does_not_either(run: Check) -> None:
    command = ("--module", "tasks", "AllWeeks", "--weeks", WEEK, "--local-scheduler")
    python = (sys.executable, "-c", LUIGI)
    result = run(*python, *command, AWS_SESSION_TOKEN=f"{TOKEN}\r", PYTHONPATH=str(PROJECT))
    assert_explained(result, "AWS_SESSION_TOKEN ends in a carriage return")


# Libraries that tell


TELLS = f"""import os, sys
told = "it tells " + "{PLANTED}"[:3] + os.environ["AWS_SESSION_TOKEN"][3:]
words = " ".join(sys.orig_argv)
"""
HTTP = (
    TELLS
    + """import http.client
def putheader(self, name, *values):
    raise ValueError(f"Invalid header value {values!r}: {told}")
http.client.HTTPConnection.putheader = putheader
"""
)
CONVERTER = (
    TELLS
    + """if "tasks.bustimes.converter" in words:
    import tasks.bustimes.hour
    def convert(*given, **more):
        raise RuntimeError(told)
    tasks.bustimes.hour.convert = convert
"""
)
TASK = (
    TELLS
    + """if "-m ops" in words:
    import tasks.bustimes.archive
    def crash(*given, **more):
        raise LookupError(told)
    tasks.bustimes.archive.convert_week = crash
"""
)
COMMAND = (
    TELLS
    + """if "-m ops" in words:
    import logging, threading, warnings
    import tasks.bustimes.archive
    def crash(*given, **more):
        logging.getLogger("urllib3").error("%s %s", "logged:", told)
        try:
            raise KeyError(told)
        except KeyError:
            logging.getLogger("urllib3").exception("logged with a traceback")
        thread = threading.Thread(target=lambda: 1 / len(told) and [][told], name="told")
        thread.start()
        thread.join()
        class Ends:
            def __del__(self):
                raise OSError(told)
        Ends()
        raise LookupError(told)
    tasks.bustimes.archive.Archive.chosen_weeks = crash
"""
)
CRASHES = {"http.client": HTTP, "a converter": CONVERTER, "a task": TASK, "a command": COMMAND}


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("script", CRASHES.values(), ids=CRASHES)
def test_what_a_library_tells_in_a_crash_is_taken_out(
    run: Check, tmp_path: Path, script: str
) -> None:
    (tmp_path / "python").mkdir()
    path = tmp_path / "python/sitecustomize.py"
    path.write_text(script.replace(PLANTED, "planted"))
    command = ("plan",) if script is COMMAND else (*FULL, "--weeks", WEEK)
    result = run(*command, PYTHONPATH=str(path.parent))
    assert result.returncode != 0
    assert "it tells " in text_of(result)
    assert "(secret)" in text_of(result)
    if script is HTTP:
        assert "Traceback" not in text_of(result)
        assert " tries" not in text_of(result)


@pytest.mark.usefixtures("planted")
def test_luigid_is_told_no_secret_of_a_task_that_crashed(run: Check, tmp_path: Path) -> None:
    (tmp_path / "python").mkdir()
    script = TASK.replace(PLANTED, "planted")
    (tmp_path / "python/sitecustomize.py").write_text(script)
    port = free_port()
    of_luigid = {"LOCAL_LUIGID_PORT": str(port)}
    try:
        run("luigid", **of_luigid)
        crashed = run("full", "--weeks", WEEK, PYTHONPATH=f"{tmp_path}/python", **of_luigid)
        assert crashed.returncode != 0
        asked = urllib.parse.quote(json.dumps({"task_id": f"WeekTask_{WEEK}"}))
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        told = b""
        listing = urllib.parse.quote('{"status": "FAILED", "upstream_status": ""}')
        with direct.open(f"http://127.0.0.1:{port}/api/task_list?data={listing}") as answer:
            failed = json.loads(answer.read())["response"]
        for task in failed:
            asked = urllib.parse.quote(json.dumps({"task_id": task}))
            with direct.open(f"http://127.0.0.1:{port}/api/fetch_error?data={asked}") as answer:
                told += answer.read()
        assert b"it tells (secret)" in told
        assert not shows(told)
    finally:
        run("teardown", **of_luigid)


# What takes it out


@pytest.mark.parametrize(
    "form",
    [
        str,
        repr,
        json.dumps,
        urllib.parse.quote,
        lambda value: urllib.parse.quote(value, safe=""),
        urllib.parse.quote_plus,
        lambda value: value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
        lambda value: str(value.encode()),
        lambda value: f"{value}\r\n",
    ],
)
def test_a_secret_is_taken_out_however_it_is_written(form: object) -> None:
    secret = "a/b+c='d\"&<e>\\f"
    secrets.remember(f"{secret}\r\n", "short")
    assert callable(form)
    text = f"before {form(secret)} after short"
    clean = secrets.without(text)
    assert clean.startswith("before ")
    assert clean.endswith(" after short")
    assert "(secret)" in clean
    assert "b+c" not in urllib.parse.unquote(clean)


def test_passwords_of_proxies_and_endpoints_are_secrets() -> None:
    login = base64.b64encode(b"some@body:pass word").decode()
    environment = {
        "https_proxy": "http://some%40body:pass%20word@proxy.test:3128",
        "AWS_ENDPOINT_URL_S3": "https://user:another-password@s3.test/base",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": "container-token",
        "AWS_REGION": "eu-west-1-long",
    }
    secrets.remember_environment(environment)
    text = f"pass%20word pass word {login} another-password container-token eu-west-1-long"
    expected = "(secret) (secret) (secret) (secret) (secret) eu-west-1-long"
    assert secrets.without(text) == expected
    assert str(Problem("with another-password in it")) == "with (secret) in it"


def test_records_and_the_run_log_hold_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    secrets.guard_logs()
    secrets.guard_logs()
    heard: list[logging.LogRecord] = []

    class Hears(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record)

    logger = logging.getLogger("some.library")
    monkeypatch.setattr(logger, "handlers", [Hears()])
    monkeypatch.setattr(logger, "propagate", False)
    logger.error("%s of %d", TOKEN, 5)
    logger.error("nothing %s here", "secret")
    logger.error("%d", TOKEN)  # else the handler would print what it cannot format
    try:
        raise ValueError(TOKEN)
    except ValueError:
        logger.exception("failed")
    told = [logging.Formatter().format(record) for record in heard]
    assert told[0] == "(secret) of 5"
    assert told[1] == "nothing secret here"
    assert told[2] == "%d ('(secret)',)"
    assert told[3].endswith("ValueError: (secret)")
    assert heard[1].args == ("secret",)
    monkeypatch.setattr(run_log._OURS, "handlers", [])
    run_log.begin(tmp_path / "log/run.jsonl")
    run_log.said(f"it said {TOKEN}")
    logging.getLogger("tasks.storage").info("failed", extra={"s3": {"error": TOKEN}})
    lines = (tmp_path / "log/run.jsonl").read_text().splitlines()
    assert not shows("".join(lines).encode())
    assert [json.loads(line)["message"] for line in lines] == ["it said (secret)", "failed"]
    monkeypatch.setattr(run_log._OURS, "handlers", [])


def test_threads_and_what_nobody_awaits_end_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets.remember(TOKEN)
    for name in ("excepthook", "unraisablehook"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    secrets.guard()

    class Ends:
        def __del__(self) -> None:
            raise OSError(TOKEN)

    def crash() -> None:
        Ends()
        raise LookupError(TOKEN)

    thread = threading.Thread(target=crash)
    thread.start()
    thread.join()
    said = capsys.readouterr().err
    assert "OSError: (secret)" in said
    assert "LookupError: (secret)" in said
    assert not shows(said.encode())


def test_the_embedded_server_is_spoken_of() -> None:
    """Its keys are no secrets, and are too short to be taken for some."""
    secrets.remember("local")
    assert str(Problem("The local S3 server")) == "The local S3 server"
