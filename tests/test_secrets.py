"""Credentials show nowhere: whatever is run, however they are given, and whatever goes wrong.

Each one here has a word of its own in it, which is then looked for: in all that is printed, in
every file that is left, in what is uploaded, in what luigid tells, and in the command line of every
process of the machine while the command runs.
"""

import contextlib
import gzip
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import botocore.session
import pytest
from aws_refusals import GET, LIST, RefusingS3

from ops.ec2 import bundle
from ops.ec2.site import settings_of_run
from tests.conftest import PROJECT, free_port
from tests.explained import FULL, WEEK, Result, assert_done, keys_in, text_of, upload

pytestmark = pytest.mark.soak

PLANTED = f"planted{os.urandom(4).hex()}"  # others may run these tests at the same time
ACCESS_KEY = f"AKIA{PLANTED.upper()}"
SECRET_KEY = f"{PLANTED}/secret+key/abcdefghijkl"
TOKEN = f"{PLANTED}//session+token=="
WEBHOOK = f"https://hooks.example/services/{PLANTED}-webhook"
KEYS = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_SESSION_TOKEN": TOKEN,
}


def shows(data: bytes) -> bool:
    """Whether there is anything planted, plain or as a part of an address."""
    return PLANTED.encode() in urllib.parse.unquote_to_bytes(data).lower()


class CommandLines:
    """Those of all processes, looked at all the time inside a ``with`` block."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "CommandLines":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(0.01):
            for name in os.listdir("/proc"):
                if name.isdecimal():
                    with contextlib.suppress(OSError):
                        self.seen.add(Path(f"/proc/{name}/cmdline").read_bytes())


Check = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Check:
    """Runs a command, looks at all that can be seen of it, and fails where anything shows."""

    def run(*command: object, **environment: str) -> Result:
        arguments = [str(word) for word in command]
        if not arguments[0].endswith("python"):
            arguments = [sys.executable, "-m", "ops", *arguments]
        with CommandLines() as lines:
            result = subprocess.run(
                arguments,
                cwd=PROJECT,
                env=os.environ | {"NOTIFY_WEBHOOK": WEBHOOK} | environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
        assert any(arguments[-1].encode() in line for line in lines.seen) or lines.seen
        assert [line for line in lines.seen if shows(line)] == []
        assert not shows(text_of(result).encode()), text_of(result)
        assert_no_file_shows(tmp_path)
        return result

    return run


def assert_no_file_shows(folder: Path) -> None:
    """But for those of AWS's, which a person wrote."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("aws-"):
            data = path.read_bytes()
            assert not shows(data), path
            assert not shows(unpacked(data)), path


def unpacked(data: bytes) -> bytes:
    """All gzip members, the last as far as it goes: a run that crashed leaves it cut off."""
    parts = []
    while data.startswith(b"\x1f\x8b"):
        member = zlib.decompressobj(wbits=31)
        parts.append(member.decompress(data))
        data = member.unused_data
    return b"".join(parts)


@pytest.fixture
def filled(bucket: str, source: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket with snapshots, which is source and destination."""
    upload(source, bucket)
    monkeypatch.setenv("BUSTIMES_SOURCE", bucket)
    monkeypatch.setenv("BUSTIMES_DESTINATION", f"{bucket}/out")
    return bucket


class Answers(http.server.ThreadingHTTPServer):
    """A server that answers everything with `answer` of the request's headers."""

    def __init__(self, status: int, answer: Callable[[str], str]) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                data = answer(str(self.headers)).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else data)

            do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> "Answers":
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


ASSUMED = f"""<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
<AssumedRoleUser><AssumedRoleId>A:b</AssumedRoleId><Arn>arn:aws:sts::1:assumed-role/r/b</Arn>
</AssumedRoleUser><Credentials><AccessKeyId>{ACCESS_KEY}</AccessKeyId>
<SecretAccessKey>{SECRET_KEY}</SecretAccessKey><SessionToken>{TOKEN}</SessionToken><Expiration>2199-01-01T00:00:00Z</Expiration>
</Credentials></AssumeRoleResult></AssumeRoleResponse>"""


@pytest.fixture(params=["environment", "profile", "process", "role"])
def given(request: pytest.FixtureRequest, filled: str, tmp_path: Path) -> Iterator[str]:
    """The credentials, in one of the ways in which AWS's tools take them; gives the bucket."""
    ini = f"aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    process = {"Version": 1, "AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY}
    (tmp_path / "aws-process.json").write_text(json.dumps(process | {"SessionToken": TOKEN}))
    (tmp_path / "aws-credentials").write_text(
        f"[keys]\n{ini}aws_session_token = {TOKEN}\n\n[source]\n{ini}\n"
    )
    (tmp_path / "aws-config").write_text(
        f"[profile process]\ncredential_process = cat {tmp_path}/aws-process.json\n"
        "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = source\n"
        "region = us-east-1\n"
    )
    with Answers(200, lambda _: ASSUMED) as sts, pytest.MonkeyPatch.context() as environment:
        for name, value in KEYS.items():
            if request.param == "environment":
                environment.setenv(name, value)
            else:
                environment.delenv(name, raising=False)
                profile = {"profile": "keys"}.get(request.param, request.param)
                environment.setenv("AWS_PROFILE", profile)
        environment.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))
        environment.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
        environment.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        found = botocore.session.Session().get_credentials().get_frozen_credentials()
        assert (found.access_key, found.token) == (ACCESS_KEY, TOKEN)
        yield filled


def test_a_run_shows_none_however_they_are_given(run: Check, given: str) -> None:
    result = run(*FULL, "--weeks", WEEK)
    assert_done(result)
    stored = keys_in_with(given)
    assert any(key.endswith(".jsonl.gz") for key in stored)
    assert [key for key, data in stored.items() if shows(data)] == []


def keys_in_with(bucket: str) -> dict[str, bytes]:
    """What is in a bucket, read with credentials of the test's own."""
    with pytest.MonkeyPatch.context() as environment:
        for name in KEYS:
            environment.setenv(name, "test")
        environment.delenv("AWS_PROFILE", raising=False)
        return keys_in(bucket)


@pytest.fixture
def planted(filled: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The credentials in the environment, and a bucket to use them for."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    return filled


def test_no_command_and_no_service_shows_any(
    run: Check, planted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_S3_PORT", str(free_port()))
    port = free_port()
    monkeypatch.setenv("LOCAL_LUIGID_PORT", str(port))
    try:
        assert_done(run("full", "--weeks", WEEK))  # under luigid
        asked = urllib.parse.quote('{"status": "", "upstream_status": ""}')
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        told = f"api/task_list?data={asked}"
        for path in (told, "api/worker_list", "history", "tasklist", "metrics"):
            with direct.open(f"http://127.0.0.1:{port}/{path}", timeout=30) as answer:
                assert not shows(answer.read()), path
        weeks = ("--weeks", WEEK)
        for command in ("status", "plan"):
            assert_done(run(command, *weeks))
        assert_done(run("verify", *weeks, "--deep", "--share", "1.0"))
        assert_done(run("restore", "--week", WEEK, "--to", tmp_path / "restored"))
        for command in ("refresh", "prune"):  # there is nothing to refresh, and no leave to delete
            run(command, *weeks)
        assert_done(run("report"))
        for command in ("sync", "logs"):
            assert_done(run(command))
        own = {"BUSTIMES_SOURCE": "", "BUSTIMES_DESTINATION": ""}
        assert_done(run("setup", **own))  # the embedded server, which is told nothing of them
        kept = [path.name for path in (tmp_path / "state").rglob("*.*")]
        assert {"history.db", "luigid.log", "s3.log"} <= set(kept)
    finally:
        assert_done(run("teardown"))
    stored = keys_in_with(planted)
    assert [key for key, data in stored.items() if shows(data)] == []


def echoed(headers: str) -> str:
    """S3 tells what it was sent, so that a signature can be mended: also the token."""
    return (
        "<Error><Code>SignatureDoesNotMatch</Code><Message>The request signature we calculated "
        f"does not match</Message><AWSAccessKeyId>{ACCESS_KEY}</AWSAccessKeyId><StringToSign>"
        f"{headers}</StringToSign><CanonicalRequest>{headers}</CanonicalRequest></Error>"
    )


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize(
    "code", ["InvalidAccessKeyId", "ExpiredToken", "echo", "nonsense", "gone", "a dead proxy"]
)
def test_what_goes_wrong_between_here_and_s3_shows_none(
    run: Check, s3_server: str, code: str
) -> None:
    closed = f"http://127.0.0.1:{free_port()}"
    if code == "gone":
        result = run("plan", "--weeks", WEEK, AWS_ENDPOINT_URL_S3=closed)
    elif code == "a dead proxy":
        proxy = closed.replace("//", f"//somebody:{PLANTED}@")
        places = {"AWS_ENDPOINT_URL_S3": "http://s3.invalid", "HTTP_PROXY": proxy}
        result = run(*FULL, "--weeks", WEEK, **places, http_proxy=proxy)
    elif code == "echo":
        with Answers(403, echoed) as server:
            result = run("plan", "--weeks", WEEK, AWS_ENDPOINT_URL_S3=server.url)
        assert "the secret key is not that of the access key" in text_of(result)
    elif code == "nonsense":  # which says all that was sent, as a page of a proxy may
        with Answers(200, lambda headers: f"<html>{headers}") as server:
            result = run("plan", "--weeks", WEEK, AWS_ENDPOINT_URL_S3=server.url)
        assert "cannot be listed: the answer " in text_of(result)
    else:  # what is told to botocore, or to the converters' own client
        kind = LIST if code == "InvalidAccessKeyId" else GET
        with RefusingS3(code, (kind,), s3_server) as server:
            result = run(*FULL, "--weeks", WEEK, AWS_ENDPOINT_URL_S3=server.url)
    assert result.returncode != 0
    assert "Traceback" not in text_of(result)


CRASH = """import sys
if any("tasks.bustimes.converter" in word for word in sys.orig_argv):
    import tasks.bustimes.hour
    def convert(*given, **more):
        raise RuntimeError("it crashed on purpose")
    tasks.bustimes.hour.convert = convert
"""


@pytest.mark.usefixtures("planted")
def test_a_converter_that_crashes_shows_none_in_its_traceback(run: Check, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(CRASH)
    result = run(*FULL, "--weeks", WEEK, PYTHONPATH=str(tmp_path))
    assert result.returncode != 0
    assert "it crashed on purpose" in text_of(result)
    assert "Traceback" in text_of(result)


LOG_EVERYTHING = """[loggers]
keys=root
[handlers]
keys=file
[formatters]
keys=
[logger_root]
level=DEBUG
handlers=file
[handler_file]
class=FileHandler
level=DEBUG
args=({log!r},)
"""
LUIGI = "import sys; from luigi.cmdline import luigi_run; sys.exit(luigi_run())"


@pytest.mark.parametrize("given", ["environment", "role"], indirect=True)
@pytest.mark.usefixtures("given")
def test_logs_of_all_that_can_be_logged_show_none(run: Check, tmp_path: Path) -> None:
    log = tmp_path / "everything.log"
    (tmp_path / "logging.conf").write_text(LOG_EVERYTHING.format(log=str(log)))
    command = ("--module", "tasks", "AllWeeks", "--weeks", WEEK, "--local-scheduler")
    python = (sys.executable, "-c", LUIGI, *command)
    logged = ("--logging-conf-file", tmp_path / "logging.conf")
    assert_done(run(*python, *logged, PYTHONPATH=str(PROJECT)))
    assert "ListObjectsV2" in log.read_text()


def test_what_goes_to_ec2_holds_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither those of this machine, nor any that stand in luigi.cfg for luigi's own use."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    config = tmp_path / "luigi.cfg"
    config.write_text(
        (PROJECT / "luigi.cfg").read_text().replace("webhook =", f"webhook = {WEBHOOK}")
        + f"[s3]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
        f"[smtp]\npassword = {PLANTED}\n[email]\nprefix = {PLANTED}\n"
    )
    monkeypatch.setenv("LUIGI_CONFIG_PATH", str(config))
    monkeypatch.setenv("BUSTIMES_ORDER", "snapshot")
    monkeypatch.setenv("BUSTIMES_PASSWORD", PLANTED)
    sent = gzip.decompress(bundle.make(os.environ).data)
    assert not shows(sent)
    assert b"\norder = snapshot\n" in sent
    assert b"record_task_history" in sent
    assert settings_of_run() == {"BUSTIMES_ORDER": "snapshot"}


def test_this_file_would_notice(tmp_path: Path, run: Check) -> None:
    for name, data in {
        "plain": TOKEN.encode(),
        "quoted": urllib.parse.quote(SECRET_KEY, safe="").encode(),
        "packed": gzip.compress(ACCESS_KEY.encode()),
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(AssertionError, match=name):
            assert_no_file_shows(tmp_path)
        (tmp_path / name).unlink()
    with CommandLines() as lines:
        sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", TOKEN])
        while not any(map(shows, lines.seen.copy())):
            assert sleeper.poll() is None
        sleeper.send_signal(signal.SIGKILL)
        sleeper.wait()
    with pytest.raises(AssertionError):
        run(sys.executable, "-c", f"print({TOKEN!r})")
