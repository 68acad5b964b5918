"""What is said of a source in which no raw snapshot was found."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.bustimes.other_names import none_found
from tasks.storage import Root, open_root
from tasks.weeks import Week
from tests.conftest import Run

WEEKS = [Week(2021, 45)]
NAMES = "raw/bustimes__YYYY-MM-DD__HH-MM-SS.json or bustimes__YYYY-MM-DD__HH-MM-SS.json, in UTC"


@pytest.fixture(params=["folder", "bucket"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Root:
    """A place without anything in it."""
    if request.param == "bucket":
        return open_root(f"{request.getfixturevalue('bucket')}/in")
    (tmp_path / "in").mkdir()
    return open_root(str(tmp_path / "in"))


def test_an_empty_one_says_which_names_are_looked_for(source: Root) -> None:
    assert none_found(source, WEEKS) == (
        f"{source.url} has no raw snapshots in 2021-W45: there is nothing directly in it, or in "
        f"raw/ below it. A snapshot's name is {NAMES}."
    )


def test_other_names_are_counted_and_some_told(source: Root) -> None:
    source.write("raw/trimet-2021-11-08.json", b"[]")
    said = none_found(source, WEEKS)
    assert said.endswith(f"{NAMES}, and there is one other: raw/trimet-2021-11-08.json.")
    for number in range(4):
        source.write(f"{number}.csv", b"")
    said = none_found(source, WEEKS)
    counted = "5 others" if source.url.startswith("s3://") else "4 others"
    assert said.endswith(f"and there are {counted}: 0.csv, 1.csv, 2.csv.")


def test_a_name_that_a_terminal_would_obey_is_spelled_out(tmp_path: Path) -> None:
    (tmp_path / "\x1b[2J\n.csv").touch()
    said = none_found(open_root(str(tmp_path)), WEEKS)
    assert said.endswith(r"there is one other: '\x1b[2J\n.csv'.")


def test_many_are_not_all_listed(tmp_path: Path) -> None:
    for number in range(1500):
        (tmp_path / f"{number:04}.json").touch()
    assert "there are 1,000 others or more: 0000.json, " in none_found(
        open_root(str(tmp_path)), WEEKS
    )


def test_snapshots_of_other_weeks_are_told_by_the_first(source: Root) -> None:
    source.write("raw/bustimes__2018-08-03__03-06-51.json", b"[]")
    said = none_found(source, WEEKS)
    assert said.endswith("has no raw snapshots in 2021-W45: the first that it has is of 2018-W31.")


def test_every_command_that_looks_for_snapshots_says_so(
    ops: Run, tmp_path: Path, make_snapshots: Callable[..., list[Path]]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/trimet.csv").touch()
    places = {
        "BUSTIMES_SOURCE": str(tmp_path / "in"),
        "BUSTIMES_DESTINATION": str(tmp_path / "out"),
    }
    for command, code in (
        (("full", "--local-scheduler"), 2),
        (("verify",), 2),
        (("plan",), 0),
        (("status",), 0),
    ):
        ran = ops(*command, **places)
        assert ran.returncode == code, ran.stderr
        assert f"{NAMES}, and there is one other: trimet.csv." in ran.stdout + ran.stderr, command
    make_snapshots(tmp_path / "in", "2021-W45")
    assert "there is one other" not in ops("plan", **places).stdout
