"""The scripts that set an instance up and run commands there, run for real on this machine."""

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from cfnlint.decode import cfn_yaml

from ops.ec2 import bundle
from ops.ec2.prove import prove
from tasks.problem import Problem
from tasks.storage import open_root
from tests.conftest import PROJECT
from tests.ec2_machine import SCRIPTS, Instance, new_instance
from tests.processes_under_test import wait_until

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(sys.platform != "linux", reason="the scripts are for Linux"),
]

OURS = sorted(SCRIPTS.glob("*.sh"))


def state_of(home: Path) -> dict[str, tuple[int, int]]:
    """Every file and link below a home but logs and locks, with number and time of change."""
    found = {}
    for path in home.rglob("*"):
        if path.suffix in (".log", ".lock", ".pyc") or path.is_dir():
            continue
        facts = path.lstat()
        found[path.relative_to(home).as_posix()] = (facts.st_ino, facts.st_mtime_ns)
    return found


@dataclass
class Store:
    """A bucket with code in it."""

    bucket: str
    environment: dict[str, str]

    def upload(self, name: str, data: bytes) -> str:
        client = boto3.client(
            "s3",
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        client.put_object(Bucket=self.bucket, Key=f"_ops/{name}", Body=data)
        return f"s3://{self.bucket}/_ops/{name}"

    def bundle(self, **settings: str) -> tuple[str, str]:
        """The address and the hash of the project's code with these settings."""
        given = {
            "LUIGI_CONFIG_PATH": str(PROJECT / "luigi.cfg"),
            "BUSTIMES_SOURCE": f"s3://{self.bucket}",
            "BUSTIMES_DESTINATION": f"s3://{self.bucket}/v2",
        }
        made = bundle.make(given | settings)
        return self.upload(made.name, made.data), made.hash


@pytest.fixture(scope="module")
def store(s3_server: str) -> Store:
    client = boto3.client(
        "s3",
        endpoint_url=s3_server,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.create_bucket(Bucket="scripts")
    environment = {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1",
    }
    return Store("scripts", environment)


@dataclass
class Prepared:
    instance: Instance
    url: str
    hash: str
    said: list[str]


@pytest.fixture(scope="module")
def prepared(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """An instance whose first set-up was killed in the middle; then two ran at once."""
    instance = new_instance(tmp_path_factory.mktemp("instance"), **store.environment)
    url, code = store.bundle()
    killed = instance.start("prepare.sh", url, "us-east-1")
    python = "venv/*/bin/python"
    wait_until(lambda: list(instance.home.glob(python)), lambda: "no environment for Python")
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    both = [instance.start("prepare.sh", url, "us-east-1") for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    return Prepared(instance, url, code, said)


def test_shellcheck_has_nothing_to_say(shellcheck: Callable[..., str]) -> None:
    scripts = sorted((PROJECT / "ops").rglob("*.sh"))
    scripts += [path for path in (PROJECT / "ops/local_aws/shims").glob("*") if path.is_file()]
    assert scripts
    assert shellcheck(*scripts) == ""


@pytest.mark.parametrize("script", OURS, ids=lambda path: path.name)
def test_scripts_stop_at_the_first_failure_and_suit_ssm(script: Path) -> None:
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "\nset -euo pipefail\n" in text
    assert "{{" not in text  # SSM would put a parameter there
    assert len(text) < 20_000
    assert os.access(script, os.X_OK)


def test_user_data_tries_again_what_fails_and_leaves_what_is_set_up(tmp_path: Path) -> None:
    text = cfn_yaml.load(str(PROJECT / "ops/stack.yaml"))["Resources"]["LaunchTemplate"][
        "Properties"
    ]["LaunchTemplateData"]["UserData"]["Fn::Base64"]["Fn::Sub"]
    (tmp_path / "user-data").write_text(re.sub(r"\$\{[^!}]+\}", "url", text).replace("${!", "${"))
    instance = new_instance(tmp_path / "instance", TRIES=str(tmp_path / "tries"))
    instance.command("sleep", 'echo "pause $1" >>"$TRIES"')
    scripts = tmp_path / "ops/ec2/scripts"
    scripts.mkdir(parents=True)
    fails_first = '[ "$(grep -c "$0" "$TRIES")" -gt 1 ]'
    (scripts / "prepare.sh").write_text(
        f'echo "$0" >>"$TRIES"; {fails_first} && mkdir -p "$BUSTIMES_HOME/current" && '
        'cp -r "${0%/ops/*}/ops" "$BUSTIMES_HOME/current" && touch "$BUSTIMES_HOME/environment"'
    )
    (scripts / "join.sh").write_text(f'echo "$0" >>"$TRIES"; {fails_first}')
    instance.command("aws", f'tar -czf "$5" -C {tmp_path} ops')  # s3 cp --only-… URL FILE

    def tried() -> list[str]:
        (tmp_path / "tries").write_text("")
        subprocess.run(
            ["bash", tmp_path / "user-data"], env=instance.environment, check=True, timeout=60
        )
        return [Path(line).name for line in (tmp_path / "tries").read_text().splitlines()]

    pauses = ["pause 1", "pause 2"]
    assert tried() == ["prepare.sh", pauses[0], "prepare.sh", "join.sh", pauses[1], "join.sh"]
    assert tried() == ["join.sh", pauses[0], "join.sh"]  # what is set up stays as it is


def test_one_of_two_setups_at_once_does_the_work(prepared: Prepared) -> None:
    one, other = sorted(prepared.said, key=lambda said: "installed" not in said)
    # The first was killed when the code was there.
    assert "packages     installed" in one
    assert "environment  written" in one
    assert "packages     already there" in other
    assert "environment  already right" in other
    assert "waiting" in one + other or "installed" not in other
    assert all("imports      Python 3" in said for said in prepared.said)


def test_a_setup_leaves_what_processes_need(prepared: Prepared) -> None:
    home = prepared.instance.home
    show = 'printf \'%s\\n\' "$AWS_REGION" "$BUSTIMES_CODE" "$BUSTIMES_SOURCE" "$PWD"'
    shown = subprocess.run(
        ["bash", "-c", f". {home}/environment; cd {home}/current/; {show}; pwd -P"],
        env=prepared.instance.environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert shown == [
        "us-east-1",
        prepared.hash,
        "s3://scripts",
        f"{home}/current",
        f"{home}/code/{prepared.hash}",
    ]
    assert not list(home.glob(".new-*"))
    at_boot = home / "boot/bustimes"
    assert at_boot.resolve() == home / "code" / prepared.hash / "ops/ec2/scripts/join.sh"
    assert os.access(at_boot, os.X_OK)  # or cloud-init passes it by


def test_a_second_setup_changes_nothing(prepared: Prepared) -> None:
    before = state_of(prepared.instance.home)
    code, said = prepared.instance.run("prepare.sh", prepared.url, "us-east-1")
    assert code == 0, said
    steps = dict(line.split(maxsplit=1) for line in said.splitlines())
    assert list(steps) == ["Python", "code", "packages", "imports", "environment", "reboot"]
    assert all("already" in text for step, text in steps.items() if step != "imports")
    assert state_of(prepared.instance.home) == before


def test_new_code_takes_the_packages_that_are_there(prepared: Prepared, store: Store) -> None:
    url, code = store.bundle(BUSTIMES_ORDER="snapshot")
    assert code != prepared.hash
    for address, wanted in ((url, code), (prepared.url, prepared.hash)):  # and back
        result, said = prepared.instance.run("prepare.sh", address, "us-east-1")
        assert result == 0, said
        assert "packages     already there" in said
        assert "environment  written" in said
        assert (prepared.instance.home / "current").resolve().name == wanted


def test_damaged_foreign_and_missing_bundles_change_nothing(
    prepared: Prepared, store: Store
) -> None:
    made = bundle.make(
        {"LUIGI_CONFIG_PATH": str(PROJECT / "luigi.cfg"), "BUSTIMES_ORDER": "snapshot"}
    )
    name = f"bustimes-{'0' * 16}.tar.gz"
    bad = {
        store.upload(name, made.data): "is not what its name says",
        store.upload(name.replace("0", "1"), made.data[:-100]): "is not what its name says",
        f"s3://scripts/_ops/{name.replace('0', '2')}": "cannot be fetched",
        "s3://scripts/_ops/notes.txt": "is not the name of a bundle",
    }
    before = state_of(prepared.instance.home)
    for url, words in bad.items():
        code, said = prepared.instance.run("prepare.sh", url, "us-east-1")
        assert code == 1
        assert f"{url} {words}" in said
    assert state_of(prepared.instance.home) == before


def test_code_that_cannot_be_imported_is_not_used(
    prepared: Prepared, store: Store, tmp_path: Path
) -> None:
    for part in ("tasks", "ops", "requirements.lock"):
        copy = shutil.copytree if (PROJECT / part).is_dir() else shutil.copy
        copy(PROJECT / part, tmp_path / part)
    (tmp_path / "tasks/settings.py").write_text("import a_module_that_nobody_has\n")
    made = bundle.make({"LUIGI_CONFIG_PATH": str(PROJECT / "luigi.cfg")}, tmp_path)
    before = (prepared.instance.home / "environment").read_text()
    code, said = prepared.instance.run(
        "prepare.sh", store.upload(made.name, made.data), "us-east-1"
    )
    assert code == 1
    assert "No module named 'a_module_that_nobody_has'" in said
    assert f"The code {made.hash} cannot be imported here." in said
    assert (prepared.instance.home / "environment").read_text() == before
    assert (prepared.instance.home / "current").resolve().name == prepared.hash


@pytest.fixture
def bare(tmp_path: Path, store: Store) -> Instance:
    """An instance on which nothing is set up."""
    return new_instance(tmp_path / "instance", **store.environment)


def test_a_full_disk_is_said(bare: Instance, store: Store) -> None:
    row = "tmpfs 20000000 19988000 12288 99% /"
    bare.command("df", f"echo Filesystem 1024-blocks Used Available; echo {row}")
    code, said = bare.run("prepare.sh", store.bundle()[0], "us-east-1")
    assert code == 1
    assert "The disk is full" in said
    assert "has 12 MB left and the set-up needs 1000 MB" in said
    assert "disk_gb in [ec2] of luigi.cfg" in said


def test_a_disk_that_is_full_in_the_middle_is_said(bare: Instance, store: Store) -> None:
    bare.command("aws", "echo 'download failed: [Errno 28] No space left on device' >&2; exit 1")
    code, said = bare.run("prepare.sh", store.bundle()[0], "us-east-1")
    assert code == 1
    assert "The disk is full" in said
    assert "cannot be fetched" not in said


def test_no_way_to_a_package_index_is_said(bare: Instance, store: Store) -> None:
    nothing_but_pip = bare.folder / "packages"
    nothing_but_pip.mkdir()
    (nothing_but_pip / "pip").symlink_to(Path(sysconfig.get_path("purelib")) / "pip")
    nowhere = {
        "PYTHONPATH": str(nothing_but_pip),
        "PIP_INDEX_URL": "http://127.0.0.1:1/",
        "PIP_RETRIES": "0",
    }
    code, said = bare.run("prepare.sh", store.bundle()[0], "us-east-1", **nowhere)
    assert code == 1
    assert "Python's packages cannot be installed" in said
    assert "a public address or a NAT gateway" in said
    assert not (bare.home / "environment").exists()


def test_python_comes_from_the_system(bare: Instance, store: Store) -> None:
    (bare.folder / "bin/python3.11").unlink()
    path = f"{bare.folder / 'bin'}:{commands_without_python(bare.folder)}"
    bare.command("dnf", "echo 'Curl error (28): Timeout was reached for mirrorlist'; exit 1")
    code, said = bare.run("prepare.sh", store.bundle()[0], "us-east-1", PATH=path)
    assert code == 1
    assert "Curl error (28)" in said
    assert "Python 3.11 cannot be installed" in said
    assert "a way out to the internet" in said


def commands_without_python(folder: Path) -> Path:
    """What every Linux has, and nothing else."""
    commands = folder / "commands"
    commands.mkdir()
    for name in (
        *("awk", "bash", "cat", "cut", "df", "flock", "gzip", "ln", "mkdir", "mktemp"),
        *("mv", "readlink", "rm", "sh", "sha256sum", "tail", "tar", "touch"),
    ):
        found = shutil.which(name)
        assert found, name
        (commands / name).symlink_to(found)
    return commands


@pytest.mark.parametrize("script", ["join.sh", "command.sh", "prove.sh"])
def test_an_instance_that_is_not_set_up_says_so(bare: Instance, script: str) -> None:
    assert bare.run(script) == (1, "This instance is not set up yet: make setup ON=ec2.\n")


def test_a_command_runs_with_its_settings_and_passes_on_its_code(prepared: Prepared) -> None:
    code, said = prepared.instance.run("command.sh", "BUSTIMES_ORDER=backwards", "plan")
    assert (code, said) == (2, "BUSTIMES_ORDER is 'backwards': give vehicle or snapshot.\n")
    code, said = prepared.instance.run("command.sh", "sync")
    assert code == 0, said
    assert f"Nothing waits for s3://scripts/v2 in {prepared.instance.home}/spool." in said


def test_the_proof_goes_the_ways_of_a_run(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUSTIMES_SOURCE", bucket)
    monkeypatch.setenv("BUSTIMES_DESTINATION", f"{bucket}/v2")
    assert prove("i-1")[0] == f"source       {bucket}: no raw snapshot is there yet"
    open_root(bucket).write("raw/bustimes__2021-11-08__00-00-05.json", b"[]")
    assert prove("i-1") == [
        f"source       {bucket}/raw/bustimes__2021-11-08__00-00-05.json",
        f"destination  {bucket}/v2/_probe/i-1 is written and read back",
    ]
    assert open_root(bucket).read("v2/_probe/i-1").startswith(b"i-1 ")
    monkeypatch.setenv("BUSTIMES_SOURCE", "s3://no-such-bucket")
    with pytest.raises(Problem, match="there is no such bucket"):
        prove("i-1")
