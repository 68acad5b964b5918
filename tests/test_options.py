"""What is typed behind make: known and read, or refused with a sentence before anything is done."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ops import make as of_make
from ops import options
from ops.options import COMMANDS
from tasks.problem import Problem
from tasks.settings import load, load_local
from tests.conftest import PROJECT, Run

MAKE_ITSELF = ("make", "--no-print-directory")


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``make …`` in a project whose environment is this one; nothing is left to be done there."""
    project = tmp_path / "project"
    project.mkdir()
    for name in ("tasks", "ops", "tests", "requirements.lock", "luigi.cfg", ".venv"):
        (project / name).symlink_to(PROJECT / name)
    shutil.copy(PROJECT / "Makefile", project)
    kept = ("AWS_", "BUSTIMES_", "LOCAL_", "LUIGI_", "MAKE", "MFLAGS", "GIVEN_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(kept)}
    environment |= {"LOCAL_STATE": str(tmp_path / "state"), "BUSTIMES_SPOOL": str(tmp_path / "s")}

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*MAKE_ITSELF, *arguments],
            cwd=project,
            env=environment | more,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


Make = Callable[..., subprocess.CompletedProcess[str]]

REFUSED = {
    "another command's": (
        ("prune", "WEEK=2021-W40", "ALLOW_PRUNE=true", "CONFIRM=bucket"),
        "make prune does not know WEEK=: WEEKS= was probably meant.",
    ),
    "in small letters": (("full", "weeks=2021-W45"), "does not know weeks=: WEEKS= was probably"),
    "of other commands": (("report", "WEEKS=2021-W45"), "is an option of make smoke, make full,"),
    "unknown": (("verify", "COLOUR=1"), "does not know COLOUR=: make help lists what there is."),
    "misspelt for AWS": (("full", "AWS_PROFIL=me"), "does not know AWS_PROFIL="),
    "of a tool": (("test", "PYTESTS=-k"), "PYTEST= was probably meant"),
    "for EC2 only": (
        ("full", "INSTANCES=4"),
        "INSTANCES= means something on EC2 only: give ON=ec2",
    ),
    "a switch for EC2 only": (("full", "KEEP=1"), "KEEP= means something on EC2 only"),
    "for one of two commands": (("full", "verify", "DEEP=1"), "make full does not know DEEP="),
    "without =": (("full", "WEEKS", "2021-W45"), "an option it is written WEEKS=…"),
    "a value alone": (("full", "2021-W45"), "An option is written with =, as in WEEKS=2021-W45"),
    "a command misspelt": (("verfy",), "verfy is no command of make: make verify was probably"),
    "a quotation mark": (("full'",), "full' is no command of make"),
    "a switch": (("verify", "DEEP=maybe"), "DEEP=maybe: give 1 or 0, true or false, yes or no, on"),
    "a setting that is a switch": (("prune", "ALLOW_PRUNE=2"), "ALLOW_PRUNE is '2': give 1 or 0"),
    "a share": (("verify", "SHARE=2"), "SHARE=2: give a number above 0 and at most 1"),
    "a share of nothing": (("verify", "SHARE=0"), "SHARE=0: give a number above 0 and at most 1"),
    "no number at all": (("verify", "SHARE=nan"), "SHARE=nan: give a number above 0"),
    "workers": (("full", "WORKERS=0"), "WORKERS=0: give a whole number from 1 up."),
    "other digits": (("full", "WORKERS=²"), "WORKERS=²: give a whole number from 1 up."),
    "a seed": (("verify", "SEED=x"), "SEED=x: give the number that verify has printed."),
    "a place": (("full", "ON=mars"), "ON=mars: not a place. ON=ec2 is one"),
    "a page that is none": (("report", "TO=x.pdf"), "TO=x.pdf: the report is an HTML page"),
    "a setting": (("full", "S3_PORT=0"), "S3_PORT is '0': give a whole number from 1 to 65,535"),
    "a quotation mark left open": (("bench", "BENCH=--x '"), "a quotation mark is not closed"),
}


@pytest.mark.parametrize(("typed", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_a_command_does_not_know_is_refused_before_anything_is_done(
    make: Make, tmp_path: Path, typed: tuple[str, ...], sentence: str
) -> None:
    ran = make(*typed)
    said = [line for line in ran.stderr.splitlines() if not line.startswith("make: ***")]
    assert (ran.returncode, len(said)) == (2, 1), ran.stderr
    assert sentence in said[0]
    assert ran.stdout == ""
    assert not (tmp_path / "state").exists()


def test_a_mistake_is_refused_before_anything_is_installed(make: Make, tmp_path: Path) -> None:
    (tmp_path / "project/.venv").unlink()
    ran = make("smoke", "WEEK=2021-W45")
    assert "make smoke does not know WEEK=" in ran.stderr
    assert not (tmp_path / "project/.venv").exists()
    helped = make("help")
    assert (helped.returncode, helped.stderr) == (0, "")


@pytest.mark.parametrize("python", ["", "/nowhere/python3", "false", "a'b $(touch evil)"])
def test_a_python_that_is_none_is_told(make: Make, tmp_path: Path, python: str) -> None:
    ran = make("help", f"PYTHON={python}")
    assert "Python 3.11 or later is needed: install it, or name it with PYTHON=…" in ran.stderr
    assert not list(tmp_path.rglob("evil"))


ODD = 'a\'b "c" $(touch evil) `touch evil` $HOME ; touch evil # é\t\\d'


def test_what_is_typed_is_passed_on_as_it_is_and_no_shell_reads_it(
    make: Make, tmp_path: Path
) -> None:
    for name in ("TO", "WEEK", "SNAPSHOT", "SOURCE", "DESTINATION", "SPOOL", "PYTHON"):
        given = {"WEEK": "2021-W45", "TO": str(tmp_path / "to")} | {name: ODD}
        ran = make("restore", *(f"{key}={value}" for key, value in given.items()))
        assert "Syntax error" not in ran.stderr
        assert not list(tmp_path.rglob("evil")), name
    ran = make("restore", f"WEEK={ODD}", "TO=x", "SOURCE=in", "DESTINATION=out")
    assert f"{ODD!r} is not an ISO week" in ran.stderr
    ran = make("prune", f"CONFIRM={ODD}", "ALLOW_PRUNE=1", "SOURCE=s3://b", "DESTINATION=s3://b/d")
    assert f"CONFIRM={ODD} is not what prune has printed" in ran.stderr


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """What a command would be given for these options of make."""

    def arguments(command: str, **values: str) -> list[str]:
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("GIVEN_OPTIONS", " ".join(values))
        return of_make.arguments_of(COMMANDS[command], os.environ)

    return arguments


@pytest.mark.parametrize("text", ["1", "true", "TRUE", "yes", "on", "On"])
def test_a_switch_is_turned_on_by_all_that_means_it(
    given: Callable[..., list[str]], text: str
) -> None:
    assert given("verify", DEEP=text) == ["--deep"]
    given("prune", ALLOW_PRUNE=text)
    assert load().allow_prune


@pytest.mark.parametrize("text", ["0", "false", "no", "off", "OFF", ""])
def test_a_switch_is_left_off_by_all_that_means_it(
    given: Callable[..., list[str]], text: str
) -> None:
    for command in COMMANDS.values():
        switches = {one.name: text for one in command.flags if one.is_switch and not one.ec2_only}
        assert given(command.name, **switches) == []
    given("prune", ALLOW_PRUNE=text)
    assert not load().allow_prune


def test_what_is_given_to_make_goes_before_what_the_environment_says(
    given: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUSTIMES_ORDER", "vehicle")
    monkeypatch.setenv("LOCAL_S3_PORT", "1")
    given("full", ORDER="snapshot", S3_PORT="2")
    assert (load().order, load_local().s3_port) == ("snapshot", 2)


def test_an_option_may_come_from_the_environment(
    given: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEEKS", "2021-W45")
    monkeypatch.setenv("ORDER", "snapshot")
    monkeypatch.setenv("COLOUR", "1")
    assert given("full") == ["--weeks=2021-W45"]
    assert load().order == "snapshot"


def test_values_reach_the_command_whatever_they_begin_with(
    given: Callable[..., list[str]],
) -> None:
    assert given("restore", TO="--help") == ["--to=--help"]


@pytest.mark.parametrize("name", ["AWS_PROFILE", "no_proxy", "LUIGI_CONFIG_PATH", "BUSTIMES_ORDER"])
def test_variables_of_the_environment_may_be_given_to_make(name: str) -> None:
    of_make.check(["full"], [name])


def test_every_option_has_help_and_no_two_of_a_command_have_one_name() -> None:
    for command in COMMANDS.values():
        assert command.help
        taken = [one.name for one in (*command.flags, *command.settings)]
        assert len(taken) == len(set(taken)), command.name
        assert all(one.help for one in command.options.values()), command.name


def test_make_help_tells_every_command_and_every_option() -> None:
    text = of_make.help_text()
    for command in COMMANDS.values():
        assert f"  make {command.name:<9} {command.help}\n" in text
        for one in command.options.values():
            assert one.variable or f"  {one.name}=" in text


def test_whoever_stops_reading_the_help_gets_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    ran = subprocess.run(
        [sys.executable, "-m", "ops.make", "help"],
        cwd=PROJECT,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (ran.returncode, ran.stderr) == (1, "")


@pytest.mark.parametrize("flag", ["--week", "--dee", "--shar"])
def test_flags_are_not_abbreviated(ops: Run, flag: str) -> None:
    ran = ops("verify", flag, "1")
    assert ran.returncode == 2
    assert "unrecognized arguments" in ran.stderr


def test_a_program_is_told_by_the_flag_that_it_has_given(ops: Run) -> None:
    ran = ops("verify", "--share", "2")
    assert (ran.returncode, ran.stderr) == (
        2,
        "--share 2: give a number above 0 and at most 1: 0.01 is a hundredth, 1.0 is all.\n",
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[bustime]\nspool = x\n", r"section \[bustime\], which .*\[bustimes\] was probably meant"),
        ("[somebody]\nx = 1\n", r"section \[somebody\], which does not exist: nothing reads it"),
        ("[bustimes]\nspool\n", r"line 3: 'spool' has no =, as in name = value"),
        (
            "[bustimes]\nspool = x\n order = y\n",
            r"the line 'order = y' in \[bustimes\] is indented",
        ),
        ("[bustimes]\nspool = x\nspool = y\n", r"option 'spool' .* already exists"),
        ("spool = x\n", r"line 2: 'spool = x' stands before any \[section\]"),
    ],
)
def test_a_line_of_luigi_cfg_that_nobody_reads_is_refused(
    tmp_path: Path, text: str, sentence: str
) -> None:
    path = tmp_path / "luigi.cfg"
    path.write_text(f"# mine\n{text}")
    with pytest.raises(Problem, match=sentence):
        load({"LUIGI_CONFIG_PATH": str(path)})


def test_a_byte_order_mark_in_luigi_cfg_is_named(tmp_path: Path) -> None:
    path = tmp_path / "luigi.cfg"
    path.write_text("[bustimes]\nspool = x\n", encoding="utf-8-sig")
    with pytest.raises(Problem, match=r"byte order mark.* save it as UTF-8 without one"):
        load({"LUIGI_CONFIG_PATH": str(path)})


def test_luigis_own_sections_and_those_of_the_tasks_are_let_be(tmp_path: Path) -> None:
    path = tmp_path / "luigi.cfg"
    shipped = (PROJECT / "luigi.cfg").read_text()
    path.write_text(f"{shipped}\n[worker]\nkeep_alive = true\n[AllWeeks]\nfrom = 2021-W45\n")
    assert load({"LUIGI_CONFIG_PATH": str(path)}) == load({})


def test_the_table_reads_a_scheduler_and_a_page() -> None:
    assert options._scheduler("10.0.0.5:8082") == "10.0.0.5:8082"
    for wrong in ("8082", ":8082", "host:", "host:port", "host:²"):
        with pytest.raises(ValueError, match="HOST:PORT"):
            options._scheduler(wrong)
    for page in ("x.html", "folder", "folder.d", "x.pdf/", "s3://b/p", "s3://b/p/x.HTML"):
        assert options._page(page) == page
    for wrong in ("x.pdf", "s3://b/report.json", "a/x.PNG"):
        with pytest.raises(ValueError, match=r"ends in \.html"):
            options._page(wrong)
