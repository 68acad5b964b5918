"""Members of a fleet to test: each a real daemon with a home, an address and metadata of its own.

They share an S3 server, behind a gate each, and what else of AWS they need: moto's server, with an
Auto Scaling group to scale and a log group to write to.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest

from ops.ec2.aws import Aws
from ops.ec2.board import Board, Lease, Member, Run, now
from ops.ec2.runlog import PREFIX
from ops.local_aws.imds import MetadataService, identity, instance_action
from ops.service import Service
from tasks.bustimes import synthetic
from tasks.storage.s3 import S3Prefix
from tasks.weeks import Week
from tests.archives import same_in_every_run
from tests.conftest import PROJECT, answers_at, forget, free_port
from tests.gate import DEADLINE_SECONDS, LOST, Gate, Refusal
from tests.processes_under_test import place_of, undisturbed

REGION = "us-east-1"
TAKEOVER_SECONDS = 4
WEEKS = [Week(2021, 44), Week(2021, 45), Week(2021, 46)]

_AWS = """
from ops.embedded_s3 import forget_aws, make_server
forget_aws()
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
server = make_server("127.0.0.1", {port}, DomainDispatcherApplication(create_backend_app))
server.serve_forever()
"""


@pytest.fixture(scope="session")
def aws_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of moto's server of all services."""
    port, folder = free_port(), tmp_path_factory.mktemp("aws")
    service = Service(
        name="AWS",
        command=[sys.executable, "-c", _AWS.format(port=port)],
        port=port,
        port_setting="the test's port",
        ready_url=f"http://127.0.0.1:{port}/moto-api/",
        log_path=folder / "log",
        pid_path=folder / "pid",
        env={"PYTHONPATH": str(PROJECT)},
    )
    service.start()
    yield f"http://127.0.0.1:{port}"
    service.stop()


def aws_environment(aws_url: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": aws_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }


def wait_until(condition: Callable[[], object], what: Callable[[], str]) -> None:
    """Wait for what others bring about; seldom enough not to keep them from it."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


def make_group(aws: Aws, name: str) -> None:
    """An Auto Scaling group that is to have one instance."""
    group = aws.client("autoscaling")
    if not group.describe_launch_configurations()["LaunchConfigurations"]:
        image = aws.client("ec2").describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        group.create_launch_configuration(
            LaunchConfigurationName="one", ImageId=image, InstanceType="c6i.large"
        )
    group.create_auto_scaling_group(
        AutoScalingGroupName=name,
        LaunchConfigurationName="one",
        MinSize=0,
        MaxSize=3,
        DesiredCapacity=1,
        AvailabilityZones=[f"{REGION}a"],
    )


def desired(aws: Aws, group: str) -> int:
    """How many instances a group is to have."""
    found = aws.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[group])
    return found["AutoScalingGroups"][0]["DesiredCapacity"]


class Webhook:
    """What Slack would be: keeps what it is told."""

    def __init__(self, status: int = 200) -> None:
        told: list[str] = []
        self.told = told

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                told.append(body["text"])
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/a-secret"

    def __enter__(self) -> "Webhook":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Instance:
    """One simulated instance: metadata and a gate to S3 from the start, the daemon once started."""

    def __init__(
        self, address: str, folder: Path, s3_url: str, environment: dict[str, str]
    ) -> None:
        self.id = "i-{:0>5}{:0>4}{:0>4}{:0>4}".format(*address.split("."))
        self.address = address
        self.home = folder / self.id
        self.gate = Gate(s3_url)
        self._noticed: datetime | None = None
        self._process: subprocess.Popen[bytes] | None = None
        listening = socket.create_server(("127.0.0.1", 0))
        facts = {
            "account": "123456789012",
            "architecture": "x86_64",
            "zone": f"{REGION}a",
            "image": "ami-1",
            "instance": self.id,
            "type": "c6i.large",
            "launched": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "address": self.address,
            "region": REGION,
            "lifecycle": "spot",
        }
        self._metadata = identity(facts)
        self._service = MetadataService(listening, self._look)
        self._environment = environment | {
            "AWS_ENDPOINT_URL_S3": self.gate.url,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{listening.getsockname()[1]}",
            "BUSTIMES_HOME": str(self.home),
            "BUSTIMES_SPOOL": str(self.home / "spool"),
            "LOCAL_STATE": str(self.home / "state"),
        }

    def start(self) -> None:
        """Start the daemon; where it has been killed, again."""
        self.home.mkdir(exist_ok=True)
        with (self.home / "member.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ops.ec2.member"],
                cwd=PROJECT,
                env=os.environ | self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def notice(self, seconds: float = 120) -> None:
        """AWS wants the instance back in so many seconds."""
        self._noticed = datetime.now(UTC) + timedelta(seconds=seconds)

    def cut_off(self) -> list[Refusal]:
        """Cut it off from S3 until each of what this returns is told to end."""
        return [self.gate.refuse(method, "", LOST) for method in ("GET", "PUT", "POST", "HEAD")]

    def kill_daemon(self) -> None:
        """kill -9 for the daemon, and for nothing that it has started."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def kill(self) -> None:
        """kill -9 for everything that runs on the instance."""
        for _ in range(2):  # a process may be starting another this very moment
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def terminate(self) -> int:
        """Tell the daemon to end; its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(30)

    def processes(self) -> dict[int, str]:
        """All that runs on the instance: process numbers with their command lines."""
        mark, found = f"BUSTIMES_HOME={self.home}\0".encode(), {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes():
                    line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found[int(folder.name)] = line
        return found

    def runs(self, what: str) -> bool:
        """Whether a command of the project runs there, such as `full`."""
        return any(re.search(rf"-m ops\S* {what}\b", line) for line in self.processes().values())

    def has_luigid(self, port: int) -> bool:
        return answers_at(self.address, port)

    def said(self) -> str:
        """All that the daemon and the commands it ran have said."""
        files = [self.home / "member.log", self.home / "log" / "run.log"]
        return "\n".join(file.read_text() for file in files if file.exists())

    def wait_until_said(self, words: str) -> None:
        wait_until(lambda: words in self.said(), lambda: f"never said {words!r}: {self.said()}")

    def end(self) -> None:
        self.kill()
        self._service.close()

    def _look(self, path: str) -> str | None:
        if path == "meta-data/spot/instance-action":
            return None if self._noticed is None else instance_action(self._noticed)
        return self._metadata.get(path)


@pytest.fixture
def gated_board(bucket: str, gate: Gate) -> Iterator[Board]:
    """A board, with the gate between it and this very process."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL_S3", gate.url)
        forget()
        yield Board(S3Prefix(f"{bucket}/v2"))
    forget()


@dataclass
class Fleet:
    """Instances with one archive, one board and one webhook."""

    stack: str
    aws: Aws
    bucket: Any
    expected: dict[str, bytes]
    """What is to lie at the destination in the end."""
    board: Board
    webhook: Webhook
    port: int
    """luigid's, on the address of whoever runs it."""
    make: Callable[[], Instance]
    instances: list[Instance] = field(default_factory=list)

    def add(self, count: int = 1) -> list[Instance]:
        """So many instances more, their daemons started."""
        added = [self.make() for _ in range(count)]
        for instance in added:
            instance.start()
        return added

    def order(self, weeks: list[Week], run_id: str = "run-1", **wishes: Any) -> Run:
        """Write a new run on the board, as the laptop does."""
        found = self.board.run_with_etag()
        run = Run(
            run_id=run_id,
            state="running",
            started=now(),
            weeks=",".join(map(str, weeks)),
            **wishes,
        )
        assert self.board.write_run(run, found[1] if found else "") is not None
        return run

    def member(self, instance: Instance) -> Member:
        return self.board.member(instance.id) or Member()

    def wait_for(self, instance: Instance, condition: Callable[[Member], object]) -> Member:
        """Wait until an instance's record is as it should be."""
        wait_until(
            lambda: condition(self.member(instance)),
            lambda: f"{self.member(instance)}\n{self.words()}",
        )
        return self.member(instance)

    def scheduler(self) -> Lease:
        found = self.board.lease()
        return found[0] if found else Lease()

    def holder(self, among: list[Instance]) -> Instance:
        """Wait until one of the instances runs luigid, and can be reached there."""

        def found() -> list[Instance]:
            held_by = self.scheduler().instance
            return [one for one in among if one.id == held_by and one.has_luigid(self.port)]

        wait_until(found, lambda: f"{self.scheduler()}\n{self.words()}")
        return found()[0]

    def wait_until_ended(self, state: str) -> Run:
        def ended() -> bool:
            run = self.board.run()
            return run is not None and not run.is_running

        wait_until(ended, self.words)
        run = self.board.run()
        assert run is not None
        assert run.state == state, self.words()
        return run

    def desired(self) -> int:
        return desired(self.aws, self.stack)

    def weeks(self) -> dict[str, bytes]:
        """What lies at the destination that is the same in every run: no board, no findings."""
        objects = self.bucket.objects.filter(Prefix="v2/")
        files = {one.key.removeprefix("v2/"): one.get()["Body"].read() for one in objects}
        return same_in_every_run(
            {
                key: data
                for key, data in files.items()
                if not key.startswith(("_fleet/", "_verified/"))
            }
        )

    def versions(self, week: Week) -> int:
        """How often a week's file was written."""
        found = self.bucket.object_versions.filter(Prefix=f"v2/{week}.jsonl.gz")
        return len(list(found))

    def logged(self, instance: Instance) -> str:
        """What CloudWatch has of an instance."""
        logs = self.aws.client("logs")
        with contextlib.suppress(logs.exceptions.ResourceNotFoundException):
            events = logs.get_log_events(
                logGroupName=f"/{self.stack}", logStreamName=f"{PREFIX}{instance.id}"
            )["events"]
            return "\n".join(event["message"] for event in events)
        return ""

    def end_run(self, state: str) -> None:
        """Write on the board that the run has ended."""
        found = self.board.run_with_etag()
        assert found is not None
        ended = replace(found[0], state=state, ended=now())
        assert self.board.write_run(ended, found[1]) is not None

    def words(self) -> str:
        """All that was said, for a test's message."""
        return "\n".join(f"--- {one.id}\n{one.said()}" for one in self.instances)


@pytest.fixture(scope="session")
def small_weeks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few hours of each week, in each of which one snapshot cannot be read."""
    folder = tmp_path_factory.mktemp("small-weeks")
    for week in WEEKS:
        synthetic.write_folder(
            folder,
            week.start,
            week.start + timedelta(hours=4),
            interval_seconds=1800,
            vehicles=10,
            unreadable=1,
        )
    return folder


class Site:
    """Where fleets are made: all convert the same snapshots, each into a bucket of its own.

    Made by one thread; then each may make its fleet in a thread of its own.
    """

    def __init__(self, folder: Path, s3_url: str, raw: Path) -> None:
        self._folder, self._s3_url = folder, s3_url
        self._settings = _hasty_settings(folder)
        self._aws = Aws(REGION)
        self._aws.client("autoscaling")
        self._aws.client("ec2")
        self._aws.client("logs")
        self._s3 = boto3.resource("s3", endpoint_url=s3_url)
        assert S3Prefix("s3://any").client, "made now: threads would make it at once"
        self._raw = self._s3.Bucket("raw-under-test")
        self._raw.create()
        for path in (raw / "raw").iterdir():
            self._raw.put_object(Key=f"raw/{path.name}", Body=path.read_bytes())
        place = place_of(f"s3://{self._raw.name}", "", folder / "none")
        self._expected = undisturbed(place, *WEEKS)

    def close(self) -> None:
        self._raw.objects.delete()
        self._raw.delete()

    @contextlib.contextmanager
    def fleet(self, number: int) -> Iterator[Fleet]:
        """A fleet without instances, on an archive with `WEEKS` to convert."""
        name = f"fleet-{number}"
        folder = self._folder / name
        folder.mkdir()
        bucket = self._s3.Bucket(f"{name}-under-test")
        bucket.create()
        bucket.Versioning().enable()
        make_group(self._aws, name)
        self._aws.client("logs").create_log_group(logGroupName=f"/{name}")
        place = place_of(f"s3://{self._raw.name}", f"s3://{bucket.name}/v2", folder / "none")
        port = free_port()
        with Webhook() as webhook, contextlib.ExitStack() as ended:
            environment = place.environment | {
                "BUSTIMES_PROCESSES": "1",
                "EC2_STACK": name,
                "EC2_TAKEOVER_SECONDS": str(TAKEOVER_SECONDS),
                "NOTIFY_WEBHOOK": webhook.url,
                "LOCAL_LUIGID_PORT": str(port),
                "LUIGI_CONFIG_PATH": str(self._settings),
                "NO_PROXY": ",".join(["127.0.0.1", *(_address(number, n) for n in range(1, 5))]),
            }

            def make() -> Instance:
                address = _address(number, len(made.instances) + 1)
                instance = Instance(address, folder, self._s3_url, environment)
                ended.enter_context(instance.gate)
                ended.callback(instance.end)
                made.instances.append(instance)
                return instance

            made = Fleet(
                stack=name,
                aws=self._aws,
                bucket=bucket,
                expected=self._expected,
                board=Board(S3Prefix(place.destination)),
                webhook=webhook,
                port=port,
                make=make,
            )
            yield made
        bucket.object_versions.delete()
        bucket.delete()


def _address(fleet: int, instance: int) -> str:
    return f"127.0.{77 + fleet}.{instance}"


@pytest.fixture(scope="module")
def site(
    s3_server: str, aws_server: str, small_weeks: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """The site, with the environment to reach it."""
    with pytest.MonkeyPatch.context() as environment:
        for name in list(os.environ):
            if name.startswith(("AWS_", "BUSTIMES_", "EC2_", "LOCAL_", "LUIGI_", "NOTIFY_")):
                environment.delenv(name)
        for name, value in aws_environment(aws_server).items():
            environment.setenv(name, value)
        environment.setenv("AWS_ENDPOINT_URL_S3", s3_server)
        environment.setenv("NO_PROXY", "127.0.0.1")
        forget()
        site = Site(tmp_path_factory.mktemp("fleets"), s3_server, small_weeks)
        yield site
        site.close()
    forget()


def _hasty_settings(folder: Path) -> Path:
    """luigi.cfg, with less patience for what has gone."""
    text = (PROJECT / "luigi.cfg").read_text()
    text, count = re.subn(
        r"(?m)^worker_disconnect_delay = .*$", "worker_disconnect_delay = 2", text
    )
    assert count == 1
    path = folder / "luigi.cfg"
    path.write_text(text)
    return path
