"""The services of this machine: how they start and stop, and what they answer."""

import base64
import hashlib
import http.client
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from ops import embedded_s3, luigid, service
from ops.service import Service
from tasks.problem import Problem
from tasks.settings import PROJECT

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Notes its start in a file, then answers every GET.
_TOY = """
import http.server, os, pathlib, signal, sys
with open("starts", "a") as starts:
    print(os.getpid(), file=starts)
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("index.html").write_text("here")
handler = http.server.SimpleHTTPRequestHandler
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), handler).serve_forever()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers_at(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((address, port)) == 0


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that is bound to happen; how long it takes proves nothing."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def make_toy(folder: Path, port: int, *arguments: str, path: str = "/") -> Service:
    return Service(
        name="toy",
        command=[sys.executable, "-c", _TOY, str(port), *arguments],
        port=port,
        port_setting="TOY_PORT",
        ready_url=f"http://127.0.0.1:{port}{path}",
        log_path=folder / "toy.log",
        pid_path=folder / "toy.pid",
    )


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[Service]:
    made = make_toy(tmp_path / "toy", free_port())
    yield made
    made.stop()


def pid_of(running: Service) -> int:
    return int(json.loads(running.pid_path.read_text())["pid"])


def starts_of(started: Service) -> list[str]:
    return (started.pid_path.parent / "starts").read_text().split()


def start_elsewhere(starting: Service, **environment: str) -> None:
    """Start a service in a process that ends at once."""
    subprocess.run(
        [sys.executable, "-c", "import pickle, sys; pickle.load(sys.stdin.buffer).start()"],
        input=pickle.dumps(starting),
        check=True,
        cwd=PROJECT,
        env={**os.environ, **environment},
    )


@pytest.fixture(autouse=True, scope="module")
def _without_proxy() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("no_proxy", "127.0.0.1")
        environment.setenv("NO_PROXY", "127.0.0.1")
        yield


class TestService:
    def test_answers_once_it_is_started(self, toy: Service) -> None:
        assert not toy.is_running()
        toy.start()
        assert toy.is_running()
        assert urllib.request.urlopen(toy.ready_url).read() == b"here"

    def test_starting_what_runs_changes_nothing(self, toy: Service) -> None:
        toy.start()
        pid = pid_of(toy)
        toy.start()
        assert pid_of(toy) == pid
        assert len(starts_of(toy)) == 1

    def test_starts_at_once_start_one(self, toy: Service) -> None:
        with ThreadPoolExecutor(4) as threads:
            for start in [threads.submit(toy.start) for _ in range(4)]:
                start.result()
        assert starts_of(toy) == [str(pid_of(toy))]

    def test_outlives_whoever_started_it(self, toy: Service) -> None:
        start_elsewhere(toy)
        assert toy.is_running()
        assert os.getsid(pid_of(toy)) == pid_of(toy)

    def test_stopping_ends_it_and_leaves_no_pid_file(self, toy: Service) -> None:
        toy.start()
        pid = pid_of(toy)
        toy.stop()
        assert not toy.is_running()
        assert not toy.pid_path.exists()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    def test_stopping_what_does_not_run_is_no_error(self, toy: Service) -> None:
        toy.stop()
        assert not toy.pid_path.parent.exists(), "a stop should leave no folder behind"
        toy.start()
        toy.stop()
        toy.stop()

    def test_a_service_that_does_not_heed_is_killed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service, "_STOP_SECONDS", 0.5)
        deaf = make_toy(tmp_path, free_port(), "deaf")
        deaf.start()
        pid = pid_of(deaf)
        deaf.stop()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    def test_one_that_died_is_started_again(self, toy: Service) -> None:
        toy.start()
        pid = pid_of(toy)
        os.kill(pid, signal.SIGKILL)
        until(lambda: not toy.is_running())
        toy.start()
        assert toy.is_running()
        assert pid_of(toy) != pid

    @pytest.mark.parametrize("started", ["1", ""])
    def test_a_stranger_with_a_recycled_process_number_is_left_alone(
        self, toy: Service, started: str
    ) -> None:
        stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        try:
            toy.pid_path.parent.mkdir()
            note = {"pid": stranger.pid, "started": started, "port": toy.port}
            toy.pid_path.write_text(json.dumps(note))
            assert not toy.is_running()
            toy.stop()
            assert stranger.poll() is None
            assert not toy.pid_path.exists()
        finally:
            stranger.kill()
            stranger.communicate()

    @pytest.mark.parametrize("text", ["", "12 34", "[]", '{"pid": 1}'])
    def test_an_unreadable_pid_file_counts_as_none(self, toy: Service, text: str) -> None:
        toy.pid_path.parent.mkdir()
        toy.pid_path.write_text(text)
        toy.start()
        assert toy.is_running()

    def test_one_that_ends_at_once_shows_the_end_of_its_log(self, tmp_path: Path) -> None:
        broken = make_toy(tmp_path, free_port())
        broken.command[2] = "print(*range(100), sep='\\n'); raise SystemExit('no such planet')"
        with pytest.raises(Problem, match="ended while it started") as caught:
            broken.start()
        assert "no such planet" in str(caught.value)
        assert str(broken.log_path) in str(caught.value)
        assert "\n99\n" in str(caught.value)
        assert "\n50\n" not in str(caught.value)
        assert not broken.pid_path.exists()

    def test_one_that_never_answers_is_a_problem(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service, "_START_SECONDS", 0.5)
        mute = make_toy(tmp_path, free_port(), path="/missing")
        try:
            with pytest.raises(Problem, match="did not answer at http"):
                mute.start()
        finally:
            mute.stop()

    def test_a_taken_port_is_named_with_the_setting_that_changes_it(self, toy: Service) -> None:
        taken = f"Port {toy.port} .* TOY_PORT"
        with (
            socket.create_server(("127.0.0.1", toy.port)),
            pytest.raises(Problem, match=taken),
        ):
            toy.start()
        assert not toy.is_running()

    def test_one_that_runs_on_another_port_is_not_started_twice(self, toy: Service) -> None:
        toy.start()
        with pytest.raises(Problem, match=f"already runs on port {toy.port}"):
            make_toy(toy.pid_path.parent, free_port()).start()
        assert len(starts_of(toy)) == 1

    def test_a_proxy_in_the_environment_is_not_asked(self, toy: Service) -> None:
        start_elsewhere(toy, http_proxy=f"http://127.0.0.1:{free_port()}", no_proxy="")
        assert toy.is_running()

    def test_the_log_of_the_start_before_is_kept(self, toy: Service) -> None:
        toy.start()
        toy.stop()
        before = toy.log_path.read_text()
        toy.start()
        assert toy.log_path.with_name("toy.log.1").read_text() == before

    @pytest.mark.skipif(not shutil.which("ps"), reason="there is no ps here")
    def test_without_proc_ps_tells_processes_apart(self) -> None:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        started = service._start_time_ps(child.pid)
        assert started
        assert started == service._start_time_ps(child.pid)
        child.kill()
        until(lambda: service._start_time_ps(child.pid) is None)  # a zombie is not alive
        child.communicate()
        assert service._start_time_ps(child.pid) is None


@pytest.fixture(scope="module")
def s3_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = embedded_s3.make_service(tmp_path_factory.mktemp("state"), free_port())
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_PROFILE", "a-profile-that-does-not-exist")
        made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def s3(s3_service: Service) -> Iterator["S3Client"]:
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            environment.delenv(name)
        environment.setenv("AWS_CONFIG_FILE", os.devnull)
        client = make_client(s3_service, "anything")
        client.create_bucket(Bucket="archive")
        yield client


def make_client(running: Service, access_key: str) -> "S3Client":
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{running.port}",
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key="goes",
        # One try only: an answer that has to be asked for twice is a fault here.
        config=Config(
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=32,
            s3={"addressing_style": "path"},
        ),
    )


def b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def code_of(caught: pytest.ExceptionInfo[ClientError]) -> str:
    return str(caught.value.response["Error"]["Code"])


def status_of(caught: pytest.ExceptionInfo[ClientError]) -> int:
    return int(caught.value.response["ResponseMetadata"]["HTTPStatusCode"])


_BODY = b"one snapshot"
_CHECKSUMS = {
    "ContentMD5": b64(hashlib.md5(_BODY).digest()),
    "ChecksumCRC32": b64(zlib.crc32(_BODY).to_bytes(4, "big")),
    "ChecksumSHA1": b64(hashlib.sha1(_BODY).digest()),
    "ChecksumSHA256": b64(hashlib.sha256(_BODY).digest()),
}
_PART = os.urandom(5 << 20)


class TestEmbeddedS3:
    def test_listens_on_loopback_only(self, s3_service: Service) -> None:
        assert answers_at("127.0.0.1", s3_service.port)
        assert not answers_at("127.0.0.2", s3_service.port)

    @pytest.mark.usefixtures("s3")
    def test_takes_any_credentials(self, s3_service: Service) -> None:
        for access_key in ("AKIAIOSFODNN7EXAMPLE", "x"):
            buckets = make_client(s3_service, access_key).list_buckets()["Buckets"]
            assert [bucket["Name"] for bucket in buckets] == ["archive"]

    @pytest.mark.usefixtures("s3")
    def test_keeps_connections_open(self, s3_service: Service) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", s3_service.port)
        connection.request("GET", "/")
        connection.getresponse().read()
        kept = connection.sock
        connection.request("PUT", "/nowhere/key", body=b"a body that is not wanted")
        refused = connection.getresponse()
        refused.read()
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        assert connection.sock is kept is not None
        assert refused.status == 404
        connection.close()

    def test_no_web_page_may_read_it(self, s3_service: Service) -> None:
        request = urllib.request.Request(s3_service.ready_url, headers={"Origin": "http://evil"})
        with urllib.request.urlopen(request) as answer:
            assert "access-control-allow-origin" not in answer.headers

    @pytest.mark.parametrize("name", _CHECKSUMS)
    def test_a_body_that_does_not_match_its_checksum_is_refused(
        self, s3: "S3Client", name: str
    ) -> None:
        checksum: Any = {name: _CHECKSUMS[name]}
        with pytest.raises(ClientError) as caught:
            s3.put_object(Bucket="archive", Key=f"bad/{name}", Body=b"one snapsh0t", **checksum)
        assert (code_of(caught), status_of(caught)) == ("BadDigest", 400)
        assert "Contents" not in s3.list_objects_v2(Bucket="archive", Prefix=f"bad/{name}")

    def test_a_checksum_that_is_none_is_refused(self, s3: "S3Client") -> None:
        with pytest.raises(ClientError) as caught:
            s3.put_object(Bucket="archive", Key="bad/none", Body=_BODY, ContentMD5="no base64")
        assert (code_of(caught), status_of(caught)) == ("InvalidDigest", 400)

    def test_a_part_that_does_not_match_its_checksum_is_refused(self, s3: "S3Client") -> None:
        upload: Any = {"Bucket": "archive", "Key": "bad/part"}
        upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
        with pytest.raises(ClientError) as caught:
            s3.upload_part(
                **upload, PartNumber=1, Body=b"other", ChecksumSHA256=_CHECKSUMS["ChecksumSHA256"]
            )
        assert code_of(caught) == "BadDigest"
        s3.abort_multipart_upload(**upload)

    @pytest.mark.parametrize("name", [name for name in _CHECKSUMS if name != "ContentMD5"])
    def test_a_checksum_that_matches_is_kept(self, s3: "S3Client", name: str) -> None:
        checksum: Any = {name: _CHECKSUMS[name]}
        s3.put_object(Bucket="archive", Key=f"good/{name}", Body=_BODY, **checksum)
        where: Any = {"Bucket": "archive", "Key": f"good/{name}", "ChecksumMode": "ENABLED"}
        head: Any = s3.head_object(**where)
        assert head[name] == _CHECKSUMS[name]
        assert head["ContentLength"] == len(_BODY)
        answer: Any = s3.get_object(**where)
        assert answer["Body"].read() == _BODY
        assert answer[name] == _CHECKSUMS[name]

    def test_a_multipart_upload_shows_the_checksum_of_its_parts_and_their_number(
        self, s3: "S3Client"
    ) -> None:
        parts = [_PART, b"the rest"]
        digests = [hashlib.sha256(part).digest() for part in parts]
        upload: Any = {"Bucket": "archive", "Key": "week"}
        upload["UploadId"] = s3.create_multipart_upload(**upload, ChecksumAlgorithm="SHA256")[
            "UploadId"
        ]
        etags = [
            s3.upload_part(
                **upload, PartNumber=number, Body=part, ChecksumSHA256=b64(digests[number - 1])
            )["ETag"]
            for number, part in enumerate(parts, 1)
        ]
        s3.complete_multipart_upload(
            **upload,
            MultipartUpload={
                "Parts": [
                    {"PartNumber": n, "ETag": etags[n - 1], "ChecksumSHA256": b64(digests[n - 1])}
                    for n in (1, 2)
                ]
            },
        )
        expected = b64(hashlib.sha256(b"".join(digests)).digest()) + "-2"
        where: Any = {"Bucket": "archive", "Key": "week", "ChecksumMode": "ENABLED"}
        assert s3.head_object(**where)["ChecksumSHA256"] == expected
        answer = s3.get_object(**where)
        assert answer["ChecksumSHA256"] == expected
        assert answer["Body"].read() == b"".join(parts)

    def test_an_upload_that_was_given_up_is_gone(self, s3: "S3Client") -> None:
        upload: Any = {"Bucket": "archive", "Key": "given-up"}
        upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
        etag = s3.upload_part(**upload, PartNumber=1, Body=_BODY)["ETag"]
        s3.abort_multipart_upload(**upload)
        assert "Uploads" not in s3.list_multipart_uploads(Bucket="archive", Prefix="given-up")
        parts: Any = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
        calls: list[Callable[[], object]] = [
            lambda: s3.upload_part(**upload, PartNumber=2, Body=_BODY),
            lambda: s3.complete_multipart_upload(**upload, MultipartUpload=parts),
            lambda: s3.list_parts(**upload),
            lambda: s3.abort_multipart_upload(**upload),
        ]
        for call in calls:
            with pytest.raises(ClientError) as caught:
                call()
            assert (code_of(caught), status_of(caught)) == ("NoSuchUpload", 404)
        assert "Contents" not in s3.list_objects_v2(Bucket="archive", Prefix="given-up")

    def test_ranges_are_cut_out_exactly(self, s3: "S3Client") -> None:
        s3.put_object(Bucket="archive", Key="digits", Body=b"0123456789")

        def get(part: str) -> bytes:
            answer = s3.get_object(Bucket="archive", Key="digits", Range=f"bytes={part}")
            assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
            return answer["Body"].read()

        assert (get("2-4"), get("7-"), get("-2"), get("8-99")) == (b"234", b"789", b"89", b"89")
        with pytest.raises(ClientError) as caught:
            get("10-")
        assert (code_of(caught), status_of(caught)) == ("InvalidRange", 416)

    def test_a_version_that_was_replaced_is_not_answered_for(self, s3: "S3Client") -> None:
        old = s3.put_object(Bucket="archive", Key="changing", Body=b"old")["ETag"]
        where: Any = {"Bucket": "archive", "Key": "changing"}
        assert s3.get_object(**where, IfMatch=old)["Body"].read() == b"old"
        s3.put_object(**where, Body=b"new")
        with pytest.raises(ClientError) as caught:
            s3.get_object(**where, IfMatch=old)
        assert status_of(caught) == 412
        with pytest.raises(ClientError) as caught:
            s3.get_object(**where, IfNoneMatch=s3.head_object(**where)["ETag"])
        assert status_of(caught) == 304
        assert s3.get_object(**where)["Body"].read() == b"new"

    def test_a_missing_object_is_a_404(self, s3: "S3Client") -> None:
        with pytest.raises(ClientError) as caught:
            s3.head_object(Bucket="archive", Key="nowhere")
        assert status_of(caught) == 404
        with pytest.raises(ClientError) as caught:
            s3.get_object(Bucket="archive", Key="nowhere")
        assert code_of(caught) == "NoSuchKey"

    def test_listings_of_several_pages_are_whole_and_in_order(self, s3: "S3Client") -> None:
        keys = [f"raw/bustimes__{number:05}" for number in range(1_050)]
        with ThreadPoolExecutor(16) as threads:
            list(
                threads.map(
                    lambda key: s3.put_object(Bucket="archive", Key=key, Body=b"x"), reversed(keys)
                )
            )
        pages = s3.get_paginator("list_objects_v2")
        found = [
            item["Key"]
            for page in pages.paginate(Bucket="archive", Prefix="raw/bustimes__")
            for item in page["Contents"]
        ]
        assert found == keys
        after = s3.list_objects_v2(
            Bucket="archive", Prefix="raw/", StartAfter="raw/bustimes__00999x", MaxKeys=2
        )
        assert [item["Key"] for item in after["Contents"]] == keys[1_000:1_002]
        top = s3.list_objects_v2(Bucket="archive", Delimiter="/", Prefix="raw")
        assert [item["Prefix"] for item in top["CommonPrefixes"]] == ["raw/"]

    def test_requests_reach_moto_one_at_a_time(self) -> None:
        inside: list[int] = []
        peak: list[int] = []

        def moto(_environ: object, _start: object) -> list[bytes]:
            inside.append(1)
            time.sleep(0.001)  # so that another would come in, if it could
            peak.append(len(inside))
            inside.pop()
            return []

        strict: Any = embedded_s3.StrictS3(moto)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda _: strict({"REQUEST_METHOD": "GET"}, None), range(50)))
        assert peak == [1] * 50

    def test_says_how_it_is_used(self) -> None:
        said = subprocess.run(
            [sys.executable, "-m", "ops.embedded_s3", "--help"],
            capture_output=True,
            text=True,
            check=True,
            cwd=PROJECT,
        )
        assert "--port" in said.stdout


_LUIGI_CFG = """
[scheduler]
record_task_history = true
remove_delay = 604800
worker_disconnect_delay = 0
"""
_LUIGI_TASKS = """
import luigi

class Convert(luigi.Task):
    week = luigi.Parameter()

    def output(self):
        return luigi.LocalTarget(f"{self.week}.done")

    def run(self):
        self.output().open("w").close()
"""


class Scheduler:
    """luigid as its web page and its workers see it."""

    def __init__(self, running: Service) -> None:
        self._port = running.port

    def page(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}") as answer:
            return str(answer.read().decode())

    def call(self, method: str, **arguments: str) -> Any:
        data = urllib.parse.quote(json.dumps(arguments))
        return json.loads(self.page(f"/api/{method}?data={data}"))["response"]

    def done(self) -> list[str]:
        tasks = self.call("task_list", status="DONE", upstream_status="")
        return [task["display_name"] for task in tasks.values()]


def run_worker(folder: Path, port: int) -> None:
    """A worker that does one week and goes."""
    (folder / "weekly.py").write_text(_LUIGI_TASKS)
    subprocess.run(
        [
            *(sys.executable, "-m", "luigi", "--module", "weekly", "Convert"),
            *("--week", "2018-W25", "--scheduler-host", "127.0.0.1"),
            *("--scheduler-port", str(port), "--lock-pid-dir", str(folder)),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        check=True,
        capture_output=True,
    )


class TestLuigid:
    def test_finished_tasks_stay_visible_when_the_worker_is_gone_and_after_a_restart(
        self, tmp_path: Path
    ) -> None:
        config = tmp_path / "luigi.cfg"
        config.write_text(_LUIGI_CFG)
        state = tmp_path / "a folder with 100% spaces"
        scheduler = luigid.make_service(state, free_port(), config)
        seen = Scheduler(scheduler)
        scheduler.start()
        try:
            run_worker(tmp_path, scheduler.port)
            seen.call("prune")  # what luigid does every minute: the worker is forgotten
            seen.call("prune")  # its tasks would be, if they were due
            assert seen.call("worker_list") == []
            assert seen.done() == ["Convert(week=2018-W25)"]
            scheduler.stop()
            scheduler.start()
            assert seen.done() == ["Convert(week=2018-W25)"]
            for path in ("/history", "/history/by_name/Convert", "/history/by_id/1"):
                assert "2018-W25" in seen.page(path)
            assert "Convert" in seen.page("/tasklist")
        finally:
            scheduler.stop()
        assert {path.name for path in state.iterdir()} == {"luigid"}, "it has one folder"
        assert {"history.db", "state.pickle"} <= {p.name for p in (state / "luigid").iterdir()}

    def test_listens_on_loopback_only_and_needs_no_settings(self, tmp_path: Path) -> None:
        scheduler = luigid.make_service(tmp_path, free_port(), tmp_path / "missing.cfg")
        scheduler.start()
        try:
            assert not answers_at("127.0.0.2", scheduler.port)
            assert not (tmp_path / "luigid" / "history.db").exists()
        finally:
            scheduler.stop()
