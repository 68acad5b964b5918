"""The commands as the README gives them, and the README and luigi.cfg held to the code."""

import ast
import configparser
import gzip
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from ops.__main__ import _parser
from ops.options import COMMANDS
from ops.place import _AS_SHIPPED
from tasks import advice
from tasks.settings import (
    Ec2Settings,
    LocalSettings,
    NotifySettings,
    Settings,
    load,
    load_local,
)
from tests.conftest import PROJECT, Run, free_port

README = (PROJECT / "README.md").read_text()
MAKEFILE = (PROJECT / "Makefile").read_text()
CONFIG = (PROJECT / "luigi.cfg").read_text()
OF_THE_PROJECT = {name for name, one in COMMANDS.items() if one.programs or name == "help"}
"""The commands that are not `python -m ops …`."""

Make = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """``make …`` with services, ports and files of its own, torn down in the end."""
    state = tmp_path_factory.mktemp("state")
    kept = ("AWS_", "BUSTIMES_", "LOCAL_", "LUIGI_", "MAKE", "MFLAGS")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(kept)}
    environment |= {
        "LOCAL_STATE": str(state / "local"),
        "LOCAL_S3_PORT": str(free_port()),
        "LOCAL_LUIGID_PORT": str(free_port()),
        "BUSTIMES_SPOOL": str(state / "spool"),
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", "--no-print-directory", *arguments],
            cwd=PROJECT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    yield run
    ended = run("teardown")
    assert ended.returncode == 0, ended.stderr
    assert "Nothing runs any more" in ended.stdout
    assert not list((state / "local").glob("*"))


def test_make_alone_prints_every_command(make: Make) -> None:
    printed = make()
    assert printed.returncode == 0
    for command in COMMANDS:
        assert re.search(rf"^  make {command} +\S", printed.stdout, re.MULTILINE), command
    wanted = (
        "smoke full refresh plan status logs sync verify report restore prune luigid ui setup "
        "teardown"
    )
    assert {*wanted.split(), *OF_THE_PROJECT} == set(COMMANDS)


def test_make_knows_the_commands_of_the_table_and_no_others() -> None:
    lists = re.findall(r"^(?:USES|TOOLS) := (.*)$", MAKEFILE, re.MULTILINE)
    assert {*" ".join(lists).split(), "report", "help"} == set(COMMANDS)


def test_smoke_goes_from_end_to_end_and_prints_its_figures(make: Make) -> None:
    ran = make("smoke")
    assert ran.returncode == 0, ran.stderr
    for step in ("fill", "convert", "validate", "resume", "verify"):
        assert re.search(rf"^{step} +\d+\.\d s   \S", ran.stdout, re.MULTILINE), step
    assert "1,008 synthetic snapshots" in ran.stdout
    assert "nothing left to do" in ran.stdout
    assert "complete and correct" in ran.stdout
    for figure in ("raw", "output", "refused", "memory", "speed", "first"):
        assert re.search(rf"^{figure} +\S", ran.stdout, re.MULTILINE), figure
    first = next(line for line in ran.stdout.splitlines() if line.startswith("first"))
    assert next(reversed(json.loads(first[6:]))) == "snapshot_time"
    assert "http://127.0.0.1:" in ran.stdout
    assert "Traceback" not in ran.stderr
    *_, last = ran.stdout.splitlines()
    assert re.match(r"next +make plan SOURCE=\S+ DESTINATION=\S+ .*  \S", last)
    shown = make("logs").stdout
    assert re.match(r"make smoke .* \(s3://\S+ -> s3://\S+\), begun at 20.* \(all of it; ", shown)
    for said in ("2021-W45 converted in ", "validate ", "resume ", "verify ", last):
        assert said in shown


def test_after_smoke_the_other_commands_speak_of_its_week(make: Make) -> None:
    assert make("setup").returncode == 0
    again = make("full")
    assert again.returncode == 0, again.stderr
    assert "0 weeks to convert, 1 week done already." in again.stderr
    planned = make("plan", "WEEKS=2021-W45,2021-W46")
    assert planned.returncode == 0, planned.stderr
    assert "done         1 week" in planned.stdout
    assert "to do        nothing" in planned.stdout
    status = make("status")
    assert status.returncode == 0, status.stderr
    assert "1 of 1 done (100%)" in status.stdout
    assert re.search(
        r"^log +make full .* \(s3://\S+ -> s3://\S+\), begun at 20", status.stdout, re.M
    )
    verified = make("verify", "DEEP=1")
    assert verified.returncode == 0, verified.stderr
    assert verified.stdout.rstrip().endswith("Complete and correct.")
    synced = make("sync")
    assert synced.returncode == 0
    assert "Nothing waits" in synced.stdout
    page = make("luigid")
    assert "http://127.0.0.1:" in page.stdout


def test_plan_says_what_a_run_would_do_and_does_nothing(
    make: Make, tmp_path: Path, make_snapshots: Callable[..., list[Path]]
) -> None:
    paths = make_snapshots(tmp_path / "in", "2021-W45")
    planned = make("plan", f"SOURCE={tmp_path}/in", f"DESTINATION={tmp_path}/out")
    assert planned.returncode == 0, planned.stderr
    assert "to do        1 week: 2021-W45" in planned.stdout
    assert f"snapshots    {len(paths)}, " in planned.stdout
    for line in ("time ", "output "):
        assert re.search(rf"^{line} +.*\d", planned.stdout, re.MULTILINE), line
    assert "EC2" not in planned.stdout  # whose instances see no folder
    assert not (tmp_path / "out").exists()
    [following] = re.findall(r"^next +(make full .*)  converts them$", planned.stdout, re.MULTILINE)
    ran = make(*shlex.split(following)[1:])
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "out/2021-W45.jsonl.gz").exists()
    again = make("plan", f"SOURCE={tmp_path}/in", f"DESTINATION={tmp_path}/out").stdout
    assert re.search(
        r"^next +make verify SOURCE=.* DESTINATION=.*  checks what is done$", again, re.M
    )


def test_the_real_snapshot_converts_to_what_python_reads_in_it(
    make: Make, real_snapshot: Path, tmp_path: Path
) -> None:
    source, destination = real_snapshot.parent, tmp_path / "out"
    ran = make("full", f"SOURCE={source}", f"DESTINATION={destination}", "WEEKS=2018-W31")
    assert ran.returncode == 0, ran.stderr
    with gzip.open(tmp_path / "out/2018-W31.jsonl.gz", "rt") as file:
        records = [json.loads(line) for line in file]
    assert {record.pop("snapshot_time") for record in records} == {"2018-08-03T03:06:51+00:00"}
    expected = ast.literal_eval(real_snapshot.read_text())
    assert len(records) == 333
    in_vehicle_order = sorted(expected, key=lambda record: record["vehicleID"])
    assert [list(one.items()) for one in records] == [list(one.items()) for one in in_vehicle_order]


def test_options_of_make_reach_the_run(
    make: Make, tmp_path: Path, make_snapshots: Callable[..., list[Path]]
) -> None:
    for label in ("2021-W44", "2021-W45", "2021-W46"):
        make_snapshots(tmp_path / "in", label)
    ran = make(
        "full",
        f"SOURCE={tmp_path}/in",
        f"DESTINATION={tmp_path}/out",
        "FROM=2021-W45",
        "TO=2021-W46",
        "WORKERS=2",
        "ORDER=snapshot",
        "COMPRESSION_LEVEL=1",
    )
    assert ran.returncode == 0, ran.stderr
    assert sorted(path.name for path in (tmp_path / "out").glob("*.gz")) == [
        "2021-W45.jsonl.gz",
        "2021-W46.jsonl.gz",
    ]
    manifest = json.loads((tmp_path / "out/_manifests/2021-W45.json").read_text())
    assert (manifest["order"], manifest["compression_level"]) == ("snapshot", 1)


def test_another_place_is_one_clear_line(make: Make) -> None:
    ran = make("full", "ON=mars")
    assert ran.returncode == 2
    said = [line for line in ran.stderr.splitlines() if not line.startswith("make: ***")]
    assert len(said) == 1
    assert "ON=mars: not a place. ON=ec2 is one" in said[0]


def test_a_dry_run_on_this_machine_does_nothing_but_say_what_does_it(make: Make) -> None:
    ran = make("full", "DRY_RUN=1")
    assert ran.returncode == 2
    assert "DRY_RUN=1 goes with ON=ec2. On this machine, make plan" in ran.stderr


def test_the_log_of_the_last_run_is_shown(
    make: Make, tmp_path: Path, make_snapshots: Callable[..., list[Path]]
) -> None:
    make_snapshots(tmp_path / "in", "2021-W45")
    assert make("full", f"SOURCE={tmp_path}/in", f"DESTINATION={tmp_path}/out").returncode == 0
    shown = make("logs")
    assert "Done: every week that was asked for is there." in shown.stdout
    assert shown.stdout.startswith(f"make full SOURCE={tmp_path}/in DESTINATION={tmp_path}/out ")
    assert make("verify", f"SOURCE={tmp_path}/in", f"DESTINATION={tmp_path}/out").returncode == 0
    shown = make("logs")
    assert shown.stdout.startswith(f"make verify SOURCE={tmp_path}/in DESTINATION={tmp_path}/out ")
    assert "  Complete and correct." in shown.stdout
    assert "Done: every week" not in shown.stdout


def test_every_command_has_help(ops: Run) -> None:
    listed = ops("--help").stdout
    [subcommands] = [
        action.choices for action in _parser()._actions if isinstance(action.choices, dict)
    ]
    assert set(subcommands) == set(COMMANDS) - OF_THE_PROJECT
    for name, parser in subcommands.items():
        assert name in listed
        assert parser.description
        for action in parser._actions:
            assert action.help, (name, action.dest)


def test_the_readme_documents_every_command() -> None:
    for command in COMMANDS:
        assert f"`make {command}`" in README or f"make {command}" in README, command


def test_the_readme_documents_every_option() -> None:
    for command in COMMANDS.values():
        for option in command.options:
            assert f"`{option}=" in README, (command.name, option)


@pytest.mark.parametrize(
    ("section", "kind"),
    [
        ("bustimes", Settings),
        ("local", LocalSettings),
        ("ec2", Ec2Settings),
        ("notify", NotifySettings),
    ],
)
def test_every_setting_stands_in_luigi_cfg_with_a_comment_and_in_the_readme(
    section: str, kind: type
) -> None:
    parser = configparser.ConfigParser()
    parser.read_string(CONFIG)
    names = [field.name for field in fields(kind)]
    assert list(parser[section]) == names
    for name in names:
        assert re.search(rf"^#.*\n(?:\w+ = .*\n)?{name} =", CONFIG, re.MULTILINE), name
        row = re.search(rf"^\| `{name}` \| `([^`]*)` \| .{{20,}} \|$", README, re.MULTILINE)
        assert row, name
        assert row[1] == parser[section][name], name


def test_every_setting_of_an_archive_and_of_this_machine_can_be_given_to_make() -> None:
    for field in (*fields(Settings), *fields(LocalSettings)):
        assert field.name.upper() in COMMANDS["full"].options


def test_environment_variables_override_luigi_cfg() -> None:
    changed = load({"BUSTIMES_ORDER": "snapshot", "BUSTIMES_MAX_ERRORS": "7", "BUSTIMES_SPOOL": ""})
    assert (changed.order, changed.max_errors) == ("snapshot", 7)
    assert changed.spool == PROJECT / ".local/spool"
    assert load({}).order == "vehicle"
    assert load_local({"LOCAL_S3_PORT": "1234"}).s3_port == 1234


def test_the_readme_says_what_each_dependency_does_for_the_user() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    for requirement in project["dependencies"]:
        name = re.split(r"[\[>=]", requirement)[0]
        assert re.search(rf"^\| `{name}` \| .{{20,}} \|$", README, re.MULTILINE), name


@pytest.mark.parametrize(
    "name",
    [
        "requirements.lock",
        "tests/requirements.lock",
        "ops/local_aws/requirements.lock",
        "ops/report/requirements.lock",
    ],
)
def test_locks_pin_every_package_by_hash_and_name_no_registry(name: str) -> None:
    lock = (PROJECT / name).read_text()
    assert "://" not in lock
    pinned = re.findall(r"^([a-z][\w.\[\],-]*)==", lock, re.MULTILINE)
    assert len(pinned) > 30
    for entry in re.split(r"^(?=[a-z])", lock, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in entry, entry[:60]


def test_the_top_of_the_project_holds_what_the_design_names_and_nothing_else() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert {path.partition("/")[0] for path in listed} == {
        *("tasks", "luigi.cfg", "Makefile", "tests", "ops", "README.md", "LICENSE"),
        *("pyproject.toml", "requirements.lock", ".ci", ".gitignore"),
    }


def test_imports_point_one_way() -> None:
    def imported(path: Path) -> set[str]:
        tree = ast.parse(path.read_text())
        names = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        return names

    def of(names: set[str], *packages: str) -> bool:
        return any(name == one or name.startswith(f"{one}.") for name in names for one in packages)

    for path in (PROJECT / "tasks").rglob("*.py"):
        place = path.relative_to(PROJECT).as_posix()
        names = imported(path)
        assert not of(names, "ops"), place
        assert not of(names, "luigi") or place.startswith("tasks/bustimes/graph/"), place
        assert not of(names, "boto3", "botocore", "pycurl") or "/storage/" in place, place
        if not place.startswith("tasks/bustimes/") and place != "tasks/__init__.py":
            assert not of(names, "tasks.bustimes"), place
    kernel = ("hour", "snapshot", "python_repr", "json_records", "kernel/__init__")
    for name in kernel:
        names = imported(PROJECT / f"tasks/bustimes/{name}.py")
        assert not of(names, "tasks.settings", "tasks.storage", "luigi"), name


def test_the_kernel_loads_without_luigi_and_boto3() -> None:
    script = (
        "import sys, tasks.bustimes.hour, tasks.bustimes.converter; "
        "print([name for name in ('luigi', 'boto3', 'botocore') if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == "[]"


def test_places_in_luigi_cfg_are_meant_and_the_embedded_server_stays_away(
    ops: Run, tmp_path: Path, make_snapshots: Callable[..., list[Path]]
) -> None:
    make_snapshots(tmp_path / "in", "2021-W45")
    config = tmp_path / "luigi.cfg"
    changed = CONFIG.replace("source = s3://bustimes-data\n", f"source = {tmp_path}/in\n")
    config.write_text(changed)
    half = ops("full", "--local-scheduler", LUIGI_CONFIG_PATH=str(config))
    assert half.returncode == 2
    assert f"{config} sets source to a place of yours, and destination is still" in half.stderr
    config.write_text(
        changed.replace("destination = s3://bustimes-data/v2", f"destination = {tmp_path}/out")
    )
    ran = ops("full", "--local-scheduler", LUIGI_CONFIG_PATH=str(config))
    assert ran.returncode == 0, ran.stderr
    assert [path.name for path in (tmp_path / "out").glob("*.gz")] == ["2021-W45.jsonl.gz"]
    assert not (tmp_path / "state" / "s3").exists()


def test_teardown_leaves_what_waits_and_what_is_not_its_own(
    ops: Run, tmp_path: Path, make_snapshots: Callable[..., list[Path]]
) -> None:
    make_snapshots(tmp_path / "in", "2021-W45")
    week = {
        "BUSTIMES_SOURCE": str(tmp_path / "in"),
        "BUSTIMES_DESTINATION": str(tmp_path / "later"),
        "BUSTIMES_SPOOL": str(tmp_path / "state/deep/spool"),
    }
    # a file in the way of the destination: the week is finished and cannot be published
    (tmp_path / "later").mkdir()
    (tmp_path / "later/_manifests").write_text("in the way")
    assert ops("full", "--weeks", "2021-W45", "--local-scheduler", **week).returncode == 1
    (tmp_path / "later/_manifests").unlink()
    note = tmp_path / "state/notes.txt"
    note.parent.mkdir(exist_ok=True)
    note.write_text("mine")
    torn_down = ops("teardown", **week)
    uploading = advice.make("sync", os.environ | week)
    assert f"stays, with 1 finished week that {uploading} uploads." in torn_down.stdout
    assert note.read_text() == "mine"
    assert ops("sync", **week).returncode == 0
    assert (tmp_path / "later/2021-W45.jsonl.gz").exists()
    assert ops("teardown", **week).returncode == 0
    assert not (tmp_path / "state/deep/spool").exists()
    assert note.exists()


def test_what_ships_in_luigi_cfg_is_what_means_this_machine() -> None:
    shipped = load({})
    assert (shipped.source, shipped.destination) == tuple(_AS_SHIPPED.values())
