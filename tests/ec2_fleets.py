"""Fleets to test: members that share an S3 server, behind a gate each, a board and a webhook."""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from ops.ec2.aws import Aws
from ops.ec2.board import Board, Lease, Member, Run, now
from ops.ec2.runlog import PREFIX
from tasks.bustimes import synthetic
from tasks.storage.s3 import S3Prefix
from tasks.weeks import Week
from tests.archives import same_in_every_run
from tests.conftest import PROJECT, forget, free_port
from tests.ec2_members import Instance, wait_until
from tests.ec2_services import REGION, Webhook, aws_environment, desired, make_group
from tests.processes_under_test import place_of, undisturbed

TAKEOVER_SECONDS = 4
WEEKS = [Week(2021, 44), Week(2021, 45), Week(2021, 46)]


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
