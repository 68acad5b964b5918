"""The archive of code: the same bytes for the same content, and only what an instance needs."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from ops.ec2 import bundle
from tasks.problem import Problem
from tasks.settings import load, load_ec2, load_notify
from tests.conftest import PROJECT
from tests.explained import files_below, keys_in

SECRET = "https://hooks.slack.example/services/T000/B000/secret"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project without git."""
    copy = tmp_path / "project"
    copy.mkdir()
    for name in ("tasks", "ops"):
        shutil.copytree(PROJECT / name, copy / name)
    shutil.copy(PROJECT / "requirements.lock", copy)
    return copy


def contents(made: bundle.Bundle) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(made.data)) as archive:
        return {one.name: archive.extractfile(one).read() for one in archive}  # type: ignore[union-attr]


def test_a_checkout_and_a_copy_without_git_make_the_same_bytes(project: Path) -> None:
    made = bundle.make()
    assert bundle.make(project=project) == made
    assert made.name == f"bustimes-{made.hash}.tar.gz"


def test_neither_times_nor_owners_nor_rights_nor_litter_change_it(project: Path) -> None:
    before = bundle.make(project=project)
    for path in project.rglob("*.py"):
        os.utime(path, (0, time.time() + 1e6))
        path.chmod(0o600)
    for litter in (
        "ops/ec2/.#aws.py",
        "ops/.ipynb_checkpoints/aws.py",
        "ops/__pycache__/aws.pyc",
        "tasks/notes.txt",
        "tasks/.env",
        "scratch.py",
        ".venv/lib/module.py",
        "tests/test_mine.py",
        "ops/local_aws/more.py",
        "ops/bench/more.py",
    ):
        (project / litter).parent.mkdir(parents=True, exist_ok=True)
        (project / litter).write_text("litter")
    assert bundle.make(project=project) == before


def test_other_code_or_another_lock_file_makes_another_bundle(project: Path) -> None:
    hashes = {bundle.make(project=project).hash}
    for name in ("tasks/weeks.py", "requirements.lock", "ops/stack.yaml"):
        with (project / name).open("a") as file:
            file.write("# changed\n")
        hashes.add(bundle.make(project=project).hash)
    (project / "tasks/more.py").write_text("")
    hashes.add(bundle.make(project=project).hash)
    assert len(hashes) == 5


LEFT_OUT = ("ops/audit.py", "ops/bench/", "ops/fuzz/", "ops/local_aws/", "ops/report/")


def test_it_holds_the_code_and_nothing_else() -> None:
    names = set(contents(bundle.make()))
    code = {
        name
        for package in ("tasks", "ops")
        for name in (f"{package}/{file}" for file in files_below(PROJECT / package))
        if name.endswith((".py", ".sh", ".wasm")) and not name.startswith(LEFT_OUT)
    }
    assert names == code | {"luigi.cfg", "requirements.lock", "ops/stack.yaml"}


def test_scripts_can_be_run_and_nobody_owns_anything() -> None:
    with tarfile.open(fileobj=io.BytesIO(bundle.make().data)) as archive:
        entries = archive.getmembers()
    assert {one.mode for one in entries if one.name.endswith(".sh")} == {0o755}
    assert {one.mode for one in entries if not one.name.endswith(".sh")} == {0o644}
    assert {(one.uid, one.gid, one.uname, one.gname, one.mtime) for one in entries} == {
        (0, 0, "", "", 0)
    }


def test_the_settings_of_this_run_are_written_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "BUSTIMES_SOURCE": "s3://theirs/raw-side",
        "BUSTIMES_ORDER": "snapshot",
        "BUSTIMES_MAX_ERRORS": "7",
        "LOCAL_LUIGID_PORT": "8099",
        "EC2_TAKEOVER_SECONDS": "4",
        "NOTIFY_SNS_TOPIC": "arn:aws:sns:us-east-1:123456789012:ended",
    }
    packed = contents(bundle.make(os.environ | given))["luigi.cfg"]
    (tmp_path / "luigi.cfg").write_bytes(packed)
    monkeypatch.setenv("LUIGI_CONFIG_PATH", str(tmp_path / "luigi.cfg"))
    settings, ec2 = load(), load_ec2()
    assert settings.source == "s3://theirs/raw-side"
    assert (settings.order, settings.max_errors) == ("snapshot", 7)
    assert (ec2.takeover_seconds, ec2.stack) == (4, "bustimes-conversion")
    assert load_notify().sns_topic == given["NOTIFY_SNS_TOPIC"]
    assert b"luigid_port = 8099" in packed
    assert b"record_task_history = true" in packed  # and so are luigi's own


def test_what_only_this_machine_is_about_makes_no_other_code() -> None:
    of_this_machine = {
        "BUSTIMES_SPOOL": "/home/somebody/spool",
        "LOCAL_STATE": "/home/somebody/state",
        "LOCAL_S3_PORT": "5999",
        "EC2_INSTANCES": "16",
        "EC2_INSTANCE_TYPES": "m7i.large",
        "EC2_DISK_GB": "99",
        "EC2_LOG_DAYS": "7",
    }
    made = bundle.make(os.environ | of_this_machine)
    assert made == bundle.make()
    assert b"somebody" not in contents(made)["luigi.cfg"]


@pytest.mark.parametrize("given", ["in the environment", "in luigi.cfg"])
def test_the_webhook_never_gets_in(tmp_path: Path, given: str) -> None:
    environment = dict(os.environ)
    if given == "in the environment":
        environment["NOTIFY_WEBHOOK"] = SECRET
    else:
        text = (PROJECT / "luigi.cfg").read_text()
        (tmp_path / "luigi.cfg").write_text(text.replace("webhook =", f"webhook = {SECRET}"))
        environment["LUIGI_CONFIG_PATH"] = str(tmp_path / "luigi.cfg")
        assert load_notify(environment).webhook == SECRET
    made = bundle.make(environment)
    assert made == bundle.make()
    assert b"secret" not in contents(made)["luigi.cfg"]


def test_a_file_of_settings_that_is_not_there_is_explained(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"cannot be read from .*gone\.cfg: No such file"):
        bundle.make({"LUIGI_CONFIG_PATH": str(tmp_path / "gone.cfg")})


def test_what_is_unpacked_runs(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(bundle.make().data)) as archive:
        archive.extractall(tmp_path, filter="data")
    every_module = (
        "import importlib, pathlib, ops\n"
        "for path in sorted(pathlib.Path('ops').rglob('*.py')):\n"
        "    if path.name != '__main__.py':\n"
        "        importlib.import_module('.'.join(path.with_suffix('').parts))\n"
        "print(ops.__file__)"
    )
    for arguments in (["-m", "ops", "--help"], ["-c", every_module]):
        result = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(tmp_path), "LUIGI_CONFIG_PATH": "luigi.cfg"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(tmp_path / "ops/__init__.py")


def test_it_is_uploaded_only_if_it_is_not_there(bucket: str) -> None:
    root = bundle.root_of(f"{bucket}/v2", load_ec2({"EC2_STACK": "mine"}))
    made = bundle.make()
    assert bundle.url_of(made, root) == f"{bucket}/_ops/mine/{made.name}"
    assert bundle.upload(made, root)
    assert keys_in(bucket) == {f"_ops/mine/{made.name}": made.data}
    written = root.find(made.name)
    assert not bundle.upload(made, root)
    assert root.find(made.name) == written


def test_only_bundles_count_as_uploaded(bucket: str) -> None:
    root = bundle.root_of(f"{bucket}/v2", load_ec2({"EC2_STACK": "mine"}))
    made = bundle.make()
    bundle.upload(made, root)
    for key in ("notes.txt", f"old/{made.name}", f"{made.name}.old", "bustimes-mine.tar.gz"):
        root.write(key, b"somebody's own")
    assert bundle.uploaded(root) == [made.name]


def test_each_stack_has_bundles_of_its_own(bucket: str) -> None:
    mine, yours = (
        bundle.root_of(f"{bucket}/{name}", load_ec2({"EC2_STACK": name}))
        for name in ("mine", "yours")
    )
    made = bundle.make()
    bundle.upload(made, mine)
    assert bundle.uploaded(yours) == []
    assert bundle.upload(made, yours)
    mine.remove(bundle.uploaded(mine))
    assert bundle.uploaded(yours) == [made.name]
