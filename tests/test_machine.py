"""Machines that are set up otherwise than most: every command works there, or says what to do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT, Run, free_port
from tests.explained import WEEK, assert_done, assert_explained, text_of, week_files

pytestmark = pytest.mark.soak

Before = tuple[str, ...]


def in_shell(script: str) -> Before:
    """What begins a command after a shell has done something."""
    return ("sh", "-c", f'{script}; exec "$@"', "sh")


def mounted(*folders: str) -> Before:
    """What begins a command where empty folders that cannot be written are in place of these."""
    mounts = "; ".join(f"mount -t tmpfs -o ro none {folder}" for folder in folders)
    return ("unshare", "--mount", *in_shell(f"set -e; {mounts}"))


NO_DEV = """set -e; mount -t tmpfs none /dev; for device in null:3 zero:5 urandom:9
do mknod -m 666 /dev/${device%:*} c 1 ${device#*:}; done"""

CONDITIONS: dict[str, tuple[Before, dict[str, str]]] = {
    "a locale without UTF-8": ((), {"LC_ALL": "C", "PYTHONUTF8": "0"}),
    "an output without UTF-8": ((), {"PYTHONIOENCODING": "ascii"}),
    "no docstrings and no assertions": ((), {"PYTHONOPTIMIZE": "2"}),
    "hashes that are always the same": ((), {"PYTHONHASHSEED": "0"}),
    "strangers with our names on the path": ((), {"PYTHONPATH": "{tmp}/strangers"}),
    "a temporary folder that is not there": ((), {"TMPDIR": "/nonexistent"}),
    "no home": (("env", "-u", "HOME"), {}),
    "a home that is not there": ((), {"HOME": "/nonexistent"}),
    "folders of XDG that are relative": ((), {"XDG_CACHE_HOME": "a", "XDG_CONFIG_HOME": "b"}),
    "a terminal that can nothing": ((), {"TERM": "dumb"}),
    "a time zone that does not exist": ((), {"TZ": "Nowhere/Odd"}),
    "a time zone far away": ((), {"TZ": "XXX-14:59:59"}),
    "files for nobody else": (in_shell("umask 077"), {}),
    "files for everybody": (in_shell("umask 000"), {}),
    "128 open files": (in_shell("ulimit -n 128"), {"BUSTIMES_PROCESSES": "100"}),
    "64 open files": (in_shell("ulimit -n 64"), {"BUSTIMES_PROCESSES": "100"}),
    "no input": (in_shell("exec <&-"), {}),
    "no output": (in_shell("exec >&-"), {}),
    "no output of errors": (in_shell("exec 2>&-"), {}),
    "neither input nor output": (in_shell("exec <&- >&- 2>&-"), {}),
    "no temporary folder that can be written": (
        mounted("/var/tmp", "/dev/shm"),
        {"TMPDIR": "/proc"},
    ),
}
FULL = ("full", "--local-scheduler", "--weeks", WEEK.label)
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("plan", "--weeks", WEEK.label),
    FULL,
    ("status", "--weeks", WEEK.label),
    ("verify", "--weeks", WEEK.label, "--share", "1.0"),
    ("sync",),
    ("logs",),
    ("restore", "--week", WEEK.label, "--to", "{tmp}/restored"),
    ("report",),
    ("teardown",),
)
MOST_OF_THEM = (FULL, COMMANDS[3], ("logs",), ("teardown",))
FOR_ALL = {"LC_ALL", "PYTHONOPTIMIZE", "TMPDIR"}
"""Conditions that set one of these are tried with all commands, others with those that do most."""


def may_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run([*mounted("/dev/shm"), "true"], capture_output=True, check=False)
    return tried.returncode == 0


def must_be_able(before: Before) -> None:
    if "unshare" in before and not may_mount():
        pytest.skip("only root may mount, where unshare is installed")


@pytest.fixture
def strangers(tmp_path: Path) -> Path:
    """Modules of others, with the names of ours."""
    for name in ("tasks", "ops"):
        (tmp_path / "strangers" / name).mkdir(parents=True)
        (tmp_path / "strangers" / name / "__init__.py").write_text("raise RuntimeError('hostile')")
    return tmp_path / "strangers"


@pytest.mark.usefixtures("source", "strangers")
@pytest.mark.parametrize(("before", "environment"), CONDITIONS.values(), ids=CONDITIONS)
def test_every_command_works_wherever_it_runs(
    ops: Run, destination: Path, tmp_path: Path, before: Before, environment: dict[str, str]
) -> None:
    must_be_able(before)
    given = {name: value.replace("{tmp}", str(tmp_path)) for name, value in environment.items()}
    is_without_locks = environment.get("TMPDIR") == "/proc"
    for command in COMMANDS if environment.keys() & FOR_ALL else MOST_OF_THEM:
        arguments = [part.replace("{tmp}", str(tmp_path)) for part in command]
        result = ops(*arguments, before=before, **given)
        if command == FULL and is_without_locks:
            assert_explained(result, "/dev/shm, where luigi's locks are made, cannot be used: ")
            assert result.returncode == 2
            result = ops(*arguments)
        assert_done(result)
        if command == FULL:
            assert week_files(destination) == [f"{WEEK}.jsonl.gz"]


@pytest.mark.usefixtures("source", "destination")
@pytest.mark.parametrize("command", [*COMMANDS[:1], *COMMANDS[2:3], *COMMANDS[5:6], *COMMANDS[8:]])
def test_without_a_folder_for_shared_memory_commands_work(
    ops: Run, command: tuple[str, ...]
) -> None:
    before = ("unshare", "--mount", *in_shell(NO_DEV))
    must_be_able(before)
    assert_done(ops(*command, before=before))


@pytest.mark.usefixtures("source", "destination")
def test_too_few_open_files_are_named(ops: Run) -> None:
    result = ops("plan", before=in_shell("ulimit -n 40"))
    assert_explained(result, "only 40 files open (ulimit -n)", "Raise that limit")


@pytest.mark.usefixtures("source", "destination")
def test_plain_luigi_works_in_a_locale_without_utf8(luigi: Run) -> None:
    given = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONOPTIMIZE": "2"}
    assert_done(luigi("Verify", "--weeks", WEEK.label, **given))
    assert (PROJECT / "luigi.cfg").read_text(encoding="utf-8").isascii(), "luigi reads it, too"


def test_the_embedded_server_and_its_clients_bear_few_open_files(ops: Run, tmp_path: Path) -> None:
    given = {"LOCAL_S3_PORT": str(free_port()), "BUSTIMES_PROCESSES": "4"}
    before = in_shell("ulimit -n 128")
    try:
        ran = ops("smoke", "--local-scheduler", before=before, **given)
        assert_done(ran)
        assert "complete and correct" in ran.stdout
    finally:
        assert_done(ops("teardown", before=before, **given))
    assert not (tmp_path / "state").exists()


PLACE = 'it\'s "$HOME" of $$ `my` Größe ☃ #1, a'


def test_a_checkout_anywhere_can_be_installed_and_used(
    tmp_path: Path, source: Path, destination: Path
) -> None:
    """All but the packages: those of this environment are used, so that none is fetched."""
    place = tmp_path / PLACE
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    for path in filter(None, tracked.stdout.split("\0")):
        if not path.startswith("tests/"):
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / path, place / path)
    (place / "requirements.lock").write_text("")
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    for module in ("re", "json", "luigi"):
        (hostile / f"{module}.py").write_text("raise RuntimeError('hostile')")

    port = str(free_port())

    def make(*arguments: str) -> subprocess.CompletedProcess[str]:
        # As a shell that is in the folder leaves it, with a locale and a path of the worst kind.
        given = {"PYTHONPATH": str(hostile), "LC_ALL": "C", "PYTHONUTF8": "0"}
        given["LOCAL_LUIGID_PORT"] = port
        return subprocess.run(
            ["make", "--no-print-directory", *arguments, f"PYTHON={sys.executable}"],
            cwd=place,
            env={key: value for key, value in os.environ.items() if key != "MAKEFLAGS"} | given,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )

    installed = make("logs")  # installs, and then lacks the packages
    assert (place / ".venv/.installed").exists(), text_of(installed)
    [site] = (place / ".venv").glob("lib/python*/site-packages")
    packages = next(part for part in sys.path if part.endswith("site-packages"))
    (site / "packages.pth").write_text(packages)
    ran = make("full", f"SOURCE={source}", f"DESTINATION={destination}", f"WEEKS={WEEK}")
    assert_done(ran)
    assert week_files(destination) == [f"{WEEK}.jsonl.gz"]
    for command in ("verify", "teardown"):
        assert_done(make(command, f"SOURCE={source}", f"DESTINATION={destination}"))
    assert_done(
        subprocess.run(
            [
                ".venv/bin/python",
                "-c",
                "import ops, os; assert os.path.samefile(ops.__path__[0], 'ops')",
            ],
            cwd=place,
            capture_output=True,
            text=True,
            check=False,
        )
    )
