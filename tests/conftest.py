"""What tests share: a real S3 server, synthetic snapshots, and the commands as people run them."""

import functools
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import botocore.loaders
import botocore.session
import pytest
from hypothesis import settings

from ops import embedded_s3
from tasks.bustimes import archive as archive_module
from tasks.bustimes import synthetic
from tasks.storage import dialect, s3_clients, s3_credentials
from tasks.storage.aws_models import load_quickly
from tasks.weeks import Week

pytest_plugins = [  # for the fixtures in them; what others import comes first
    "tests.aws_by_name",
    "tests.local_cloud",
    "tests.processes_under_test",
    "tests.browser",
    "tests.ec2_services",
    "tests.ec2_crew",
    "tests.ec2_fleets",
    "tests.ec2_models",
    "tests.explained",
    "tests.faults",
    "tests.faulty_bucket",
]

PROJECT = Path(__file__).resolve().parent.parent

REAL_SNAPSHOT = PROJECT.parent / "shared/data/trimet-vehicles/bustimes__2018-08-03__03-06-51.json"
"""One that the collector wrote; it is no part of the project."""

settings.register_profile("project", deadline=None, derandomize=True, max_examples=300)
settings.load_profile("project")


LONGEST_FIRST = [
    f"test_{name}.py"
    for name in ("ec2_story", "crashes_at_random", "ec2_member", "storms", "hindered_runs")
]
"""Files that take longest, for most of which they wait: begun last, they would be waited for."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


def free_port() -> int:
    """A port on 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers_at(address: str, port: int) -> bool:
    """Whether anything listens there."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((address, port)) == 0


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees this machine's AWS settings, spool or those of another test."""
    for variable in list(os.environ):
        if variable.startswith(("AWS_", "BUSTIMES_", "EC2_", "LOCAL_", "LUIGI_", "NOTIFY_")):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("LOCAL_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("BUSTIMES_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setenv("LUIGI_CONFIG_PATH", str(PROJECT / "luigi.cfg"))
    monkeypatch.setattr(s3_credentials, "load_quickly", _load_once)
    forget()


def _load_once(session: botocore.session.Session) -> None:
    """Descriptions of AWS's services, of which each test would read 1.5 MB for its own clients."""
    session.register_component("data_loader", _loader())


@functools.cache
def _loader() -> botocore.loaders.Loader:
    session = botocore.session.get_session()
    load_quickly(session)
    return session.get_component("data_loader")


def forget() -> None:
    """Drop what this process keeps of settings and connections."""
    archive_module._open.cache_clear()
    s3_clients.forget()
    dialect.forget()


@pytest.fixture(scope="module")
def without_proxy() -> Iterator[None]:
    """For modules that ask this machine's services without a client of their own."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("no_proxy", "127.0.0.1")
        environment.setenv("NO_PROXY", "127.0.0.1")
        yield


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an embedded S3 server, which all tests share."""
    port = free_port()
    service = embedded_s3.make_service(tmp_path_factory.mktemp("s3"), port)
    service.start()
    yield f"http://127.0.0.1:{port}"
    service.stop()


@pytest.fixture(scope="session")
def s3_resource(s3_server: str) -> Any:
    """boto3's own way to that server; to make one takes longer than most tests."""
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.resource("s3", region_name="us-east-1", endpoint_url=s3_server, **keys)


@pytest.fixture
def bucket(
    s3_server: str, s3_resource: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[str]:
    """The address of an empty bucket of the test's own, with the environment to reach it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    forget()
    bucket = s3_resource.Bucket(f"test-{abs(hash(tmp_path)) % 10**12}")
    bucket.create()
    yield f"s3://{bucket.name}"
    bucket.objects.all().delete()
    bucket.delete()


@pytest.fixture(scope="session")
def _synthetic_week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    week = Week(2021, 45)
    synthetic.write_folder(
        folder, week.start, week.end, interval_seconds=3600, vehicles=20, unreadable=1
    )
    return folder


@pytest.fixture
def raw_week(_synthetic_week: Path, tmp_path: Path) -> Path:
    """A folder with a small 2021-W45, a snapshot an hour: both formats, one unreadable body."""
    folder = tmp_path / "raw-week"
    shutil.copytree(_synthetic_week, folder)
    return folder


@pytest.fixture
def real_snapshot() -> Path:
    if not REAL_SNAPSHOT.is_file():
        pytest.skip(f"the real snapshot is not there: {REAL_SNAPSHOT}")
    return REAL_SNAPSHOT


@pytest.fixture
def make_snapshots() -> Callable[..., list[Path]]:
    """Writes synthetic snapshots of the first hours of a week into a folder."""

    def make(folder: Path, label: str, hours: int = 2, **options: int) -> list[Path]:
        start = Week.parse(label).start
        synthetic.write_folder(
            folder,
            start,
            start + timedelta(hours=hours),
            **{"interval_seconds": 600, "vehicles": 10} | options,
        )
        return sorted((folder / "raw").iterdir())

    return make


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ops() -> Run:
    """``python -m ops …`` as the Makefile runs it; never uses the services of this machine."""

    def run(
        *arguments: object, before: tuple[str, ...] = (), **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*before, sys.executable, "-m", "ops", *map(str, arguments)],
            cwd=PROJECT,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def luigi() -> Run:
    """The plain ``luigi --module tasks …`` command with a scheduler of its own."""

    def run(
        *arguments: object, before: tuple[str, ...] = (), **environment: str
    ) -> subprocess.CompletedProcess[str]:
        script = "import sys; from luigi.cmdline import luigi_run; sys.exit(luigi_run())"
        return subprocess.run(
            [
                *(*before, sys.executable, "-c", script, "--module", "tasks"),
                *map(str, arguments),
                *("--local-scheduler", "--log-level", "WARNING"),
            ],
            cwd=PROJECT,
            env=os.environ | environment | {"PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def shellcheck() -> Callable[..., str]:
    """What shellcheck has to say of scripts."""
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is missing: install the Debian package shellcheck")

    def check(*scripts: Path) -> str:
        command = ["shellcheck", *map(str, scripts)]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert found.returncode in (0, 1), found.stderr  # 1 is for complaints
        return found.stdout

    return check


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests have measured."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{name}: {value}")
