"""The embedded S3 is reached whatever the machine's AWS settings are, and nothing else is asked."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops import embedded_s3
from ops.aws_settings import without_aws, without_proxies
from ops.bench.measure import clean_environment
from tests.conftest import PROJECT, Run, free_port
from tests.explained import assert_done, text_of

pytestmark = pytest.mark.soak

ELSEWHERE = "http://127.0.0.1:9"
"""Nothing listens there: whoever asks it fails."""

VARIABLES = {
    "AWS_ACCOUNT_ID": "123456789012",
    "AWS_CA_BUNDLE": "/there/is/none",
    "AWS_CREDENTIAL_EXPIRATION": "yesterday",
    "AWS_CSM_ENABLED": "true",
    "AWS_CSM_PORT": "a port",
    "AWS_DATA_PATH": "/there/is/none",
    "AWS_DEFAULTS_MODE": "odd",
    "AWS_DEFAULT_PROFILE": "a-profile-that-does-not-exist",
    "AWS_DEFAULT_REGION": "cn-north-1",
    "AWS_ENDPOINT_URL": ELSEWHERE,
    "AWS_ENDPOINT_URL_S3": ELSEWHERE,
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
    "AWS_MAX_ATTEMPTS": "many",
    "AWS_PROFILE": "a-profile-that-does-not-exist",
    "AWS_REGION": "no region",
    "AWS_REQUEST_CHECKSUM_CALCULATION": "odd",
    "AWS_RETRY_MODE": "odd",
    "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "odd",
    "AWS_SESSION_TOKEN": "a-token-from-windows\r",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_SOMETHING_THAT_COMES_NEXT_YEAR": "odd",
    "BOTO_CONFIG": "/there/is/none",
    "BOTOCORE_EXPERIMENTAL__PLUGINS": "a=there.is.none",
    "REQUESTS_CA_BUNDLE": " ",
    "ALL_PROXY": ELSEWHERE,
    "HTTP_PROXY": ELSEWHERE,
    "HTTPS_PROXY": ELSEWHERE,
    "Http_Proxy": ELSEWHERE,
    "all_proxy": ELSEWHERE,
    "http_proxy": ELSEWHERE,
    "https_proxy": ELSEWHERE,
}

_DEFAULT = "[default]\nregion = eu-west-1\n"
FILES = {
    "an endpoint": {"config": f"[default]\nendpoint_url = {ELSEWHERE}\n"},
    "no endpoint": {"config": f"{_DEFAULT}ignore_configured_endpoint_urls = true\n"},
    "acceleration": {"config": f"{_DEFAULT}s3 =\n  use_accelerate_endpoint = true\n"},
    "both stacks": {"config": f"{_DEFAULT}use_dualstack_endpoint = true\n"},
    "FIPS": {"config": f"{_DEFAULT}use_fips_endpoint = true\n"},
    "names of hosts": {"config": f"{_DEFAULT}s3 =\n  addressing_style = virtual\n"},
    "a bundle": {"config": f"{_DEFAULT}ca_bundle = /there/is/none\n"},
    "other checksums": {"config": f"{_DEFAULT}request_checksum_calculation = odd\n"},
    "no settings": {"config": "[default\nregion =", "credentials": "\0"},
    "other credentials": {"credentials": "[default]\naws_access_key_id = half\n"},
    "models": {
        "models/endpoints.json": "{no JSON",
        "models/partitions.json": "[]",
        "models/s3/2006-03-01/service-2.json": "{}",
    },
}

NOTE_CONNECTIONS = """import sys
def note(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        asked = arguments[1] if event == "socket.connect" else arguments[0]
        with open({path!r}, "a") as file:
            print(repr(asked), file=file)
sys.addaudithook(note)
"""

ALONE = """import ctypes, fcntl, os, socket, struct, sys
NEW_USERS, NEW_NETWORK = 0x10000000, 0x40000000
user, group = os.getuid(), os.getgid()
if ctypes.CDLL(None).unshare(NEW_NETWORK | (NEW_USERS if user else 0)):
    sys.exit(77)
if user:
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"),
                       ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 1))  # SIOCSIFFLAGS: up
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Runs a command in a network of its own, in which there is 127.0.0.1 and nothing else."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without AWS's files, which are looked for there as for anybody."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """The embedded server, with the folder and the port that it belongs to."""
    state, port = tmp_path_factory.mktemp("state"), free_port()
    service = embedded_s3.make_service(state, port)
    service.start()
    yield state, port
    service.stop()


@pytest.fixture
def here(running: tuple[Path, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_STATE", str(running[0]))
    monkeypatch.setenv("LOCAL_S3_PORT", str(running[1]))


def write_files(home: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = home / ".aws" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


# Of all commands sync is done soonest: it makes the bucket, and finds nothing to upload.


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("files", FILES.values(), ids=FILES)
def test_no_file_of_aws_counts(ops: Run, home: Path, files: dict[str, str]) -> None:
    write_files(home, files)
    assert_done(ops("sync"))


@pytest.mark.usefixtures("here")
def test_no_variable_of_aws_counts(ops: Run) -> None:
    assert_done(ops("sync", **VARIABLES))
    environment = without_proxies(without_aws(VARIABLES))
    assert not {name for name, value in VARIABLES.items() if environment.get(name) == value}


def test_a_whole_smoke_test_needs_this_machine_only(
    ops: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it at once, where there is no network, and no process of ours asks for any."""
    write_files(home, FILES["no settings"] | FILES["models"])
    noted = tmp_path / "connections"
    (tmp_path / "python").mkdir()
    (tmp_path / "python/sitecustomize.py").write_text(NOTE_CONNECTIONS.format(path=str(noted)))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}/python")
    ports = {"LOCAL_S3_PORT": str(free_port()), "LOCAL_LUIGID_PORT": str(free_port())}
    alone = (sys.executable, "-c", ALONE)
    try:
        result = ops("smoke", before=alone, **VARIABLES, **ports)
        if result.returncode == 77:
            pytest.skip("no process may have a network of its own here")
        assert_done(result)
    finally:
        ops("teardown", **ports)
    assert "complete and correct" in text_of(result)
    asked = {line for line in noted.read_text().splitlines() if not line.startswith("'/")}
    assert f"('127.0.0.1', {ports['LOCAL_S3_PORT']})" in asked
    strangers = [line for line in asked if "127.0.0.1" not in line and "localhost" not in line]
    assert strangers == []


def test_a_network_of_its_own_reaches_nothing(ops: Run, running: tuple[Path, int]) -> None:
    """So that the test above means something."""
    script = f"import socket; socket.create_connection(('127.0.0.1', {running[1]}))"
    result = ops(before=(sys.executable, "-c", ALONE, sys.executable, "-c", script))
    if result.returncode == 77:
        pytest.skip("no process may have a network of its own here")
    assert "ConnectionRefusedError" in result.stderr


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"NO_PROXY": "s3.corp.test"}, "s3.corp.test,127.0.0.1,localhost"),
        ({"no_proxy": "s3.corp.test"}, "s3.corp.test,127.0.0.1,localhost"),
        ({"No_Proxy": "s3.corp.test"}, "s3.corp.test,127.0.0.1,localhost"),
        ({"no_proxy": "a.test", "NO_PROXY": "b.test"}, "a.test,127.0.0.1,localhost"),
        ({"no_proxy": "", "NO_PROXY": "b.test"}, "127.0.0.1,localhost"),
        ({"no_proxy": "*"}, "*"),
        ({"NO_PROXY": " * "}, "*"),
        ({}, "127.0.0.1,localhost"),
    ],
)
def test_what_needs_no_proxy_stays_so(
    ops: Run, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], expected: str
) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    script = (
        "import json, os, tempfile; from ops import place; place.prepare();"
        "print(json.dumps([os.environ['NO_PROXY'], os.environ['no_proxy']]))"
    )
    places = {"BUSTIMES_SOURCE": "s3://there", "BUSTIMES_DESTINATION": "s3://there/v2"}
    result = ops(before=(sys.executable, "-c", script), **given, **places)
    assert_done(result)
    assert json.loads(result.stdout) == [expected, expected]


def test_what_is_measured_meets_no_setting_of_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    environment = clean_environment()
    assert not set(environment) & set(VARIABLES)
    assert environment["AWS_CONFIG_FILE"] == os.devnull
    assert environment["no_proxy"] == environment["NO_PROXY"] == "*"
    assert environment["LUIGI_CONFIG_PATH"] == str(PROJECT / "luigi.cfg")
