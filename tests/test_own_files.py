"""Files that the project keeps for itself: whatever has become of one, no command fails by it."""

import gzip
import json
import os
import pickle
import re
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks import own_files
from tests.conftest import Run, free_port
from tests.explained import FULL, WEEK, assert_done, text_of, week_files

pytestmark = [
    pytest.mark.soak,
    pytest.mark.usefixtures("source", "destination", "without_proxy"),
]

SELECTED = (*FULL, "--weeks", WEEK.label)


def damaged(path: Path) -> None:
    path.write_bytes(b"\x00\xff{[ not what it was")


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def older(path: Path) -> None:
    """What a version might have written that knew other things."""
    if path.name == "history.db":
        path.unlink(missing_ok=True)
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE tasks (id INTEGER PRIMARY KEY, name TEXT)")
        database.close()
    elif path.name == "state.pickle":
        path.write_bytes(pickle.dumps(({}, {"worker": object()})))
    else:
        path.write_text(json.dumps({"version": 0, "pid": 1, "rate": "fast"}))


def a_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    (path / "with").mkdir(parents=True)


def a_dangling_link(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(path.with_name("gone") / "for good")


def unreadable(path: Path) -> None:
    path.touch()
    path.chmod(0o000)


CONDITIONS: list[Callable[[Path], None]] = [
    *(damaged, emptied, older, a_folder, a_dangling_link, unreadable)
]
FILES: dict[str, tuple[tuple[str, ...], ...]] = {
    # each with the commands that read or write it
    "rate.json": (("plan", "--weeks", WEEK.label),),
    "progress.json": (SELECTED,),
    "progress.lock": (SELECTED,),
    "log/full.log": (SELECTED, ("logs",), ("status",)),
    "log/full.jsonl": (SELECTED,),
    "log/plan.jsonl": (("plan",),),
}
OF_LUIGID = [
    "history.db",
    "state.pickle",
    "luigid.pid",
    "luigid.lock",
    "luigid.log",
    "luigid.log.1",
]

# Root may read everything, but not without these of its rights.
AS_ANYBODY = (
    ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--") if os.geteuid() == 0 else ()
)


def begun_anew(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and os.access(path, os.R_OK)


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.__name__)
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_used_is_put_aside_and_costs_nothing(
    ops: Run, destination: Path, tmp_path: Path, name: str, condition: Callable[[Path], None]
) -> None:
    path = tmp_path / "state" / name
    path.parent.mkdir(parents=True)
    condition(path)
    for command in FILES[name]:
        result = ops(*command, before=AS_ANYBODY)
        assert_done(result)
        if condition in (a_folder, a_dangling_link, unreadable) and command == FILES[name][0]:
            assert f"{path} cannot be used (" in text_of(result)
            assert f"put aside as {path.name}.damaged" in text_of(result)
            assert os.path.lexists(path.with_name(f"{path.name}.damaged"))
    if name.endswith("rate.json") and condition not in (a_dangling_link,):
        assert path.with_name("rate.json.damaged").exists()
    if SELECTED in FILES[name]:
        assert week_files(destination) == [f"{WEEK}.jsonl.gz"]
    assert_done(ops("teardown"))


def test_folders_that_are_files_are_put_aside(ops: Run, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    for name in ("log", "luigid"):
        (state / name).write_text("in the way")
    port = {"LOCAL_LUIGID_PORT": str(free_port())}
    try:
        ran = ops("full", "--weeks", WEEK.label, **port)
        assert_done(ran)
        for name in ("log", "luigid"):
            assert f"{state / name} cannot be used (it is no folder)" in text_of(ran)
            assert (state / f"{name}.damaged").read_text() == "in the way"
    finally:
        assert_done(ops("teardown", **port))
    assert not state.exists()


@pytest.fixture
def with_luigid(ops: Run) -> Iterator[Run]:
    """The commands with a luigid of their own, which has known a run and is stopped."""
    port = str(free_port())

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return ops(*arguments, before=AS_ANYBODY, LOCAL_LUIGID_PORT=port)

    yield run
    assert_done(run("teardown"))


@pytest.mark.parametrize("name", OF_LUIGID)
def test_luigid_begins_with_whatever_has_become_of_its_files(
    with_luigid: Run, tmp_path: Path, name: str
) -> None:
    """One luigid after the other, each with the file in another condition."""
    path = tmp_path / "state/luigid" / name
    path.parent.mkdir(parents=True)
    for condition in CONDITIONS:
        condition(path)
        started = with_luigid("luigid")
        assert_done(started)
        is_told = (
            condition in (a_folder, a_dangling_link, unreadable)
            or (name in ("history.db", "state.pickle") and condition in (damaged, older))
            or (name == "state.pickle" and condition is emptied)
            or name == "luigid.pid"
        )
        if is_told:
            assert f"{path} cannot be used (" in text_of(started), condition
        again = with_luigid("luigid")
        assert f"{path} cannot be used (" not in text_of(again), condition
        stop_luigid(path.parent)
        for left in path.parent.glob(f"{name}*"):
            if left.is_dir() and not left.is_symlink():
                left.rename(tmp_path / f"{condition.__name__}-{left.name}")
            else:
                left.unlink()


def stop_luigid(folder: Path) -> None:
    from ops.luigid import make_service

    make_service(folder.parent, 1, folder / "none.cfg").stop()


def test_a_damaged_history_is_named_kept_and_begun_anew(
    with_luigid: Run, tmp_path: Path, destination: Path
) -> None:
    """In the middle of luigid's life as well: the run goes on, and the next ones are recorded."""
    folder = tmp_path / "state/luigid"
    assert_done(with_luigid("full", "--weeks", WEEK.label))
    (folder / "history.db").write_bytes(b"no database" * 1000)
    for _ in range(2):
        (destination / f"{WEEK}.jsonl.gz").unlink()
        assert_done(with_luigid("full", "--weeks", WEEK.label))
        kept = folder / "history.db.damaged"
        assert kept.read_bytes() == b"no database" * 1000
    with sqlite3.connect(folder / "history.db") as database:
        assert database.execute("SELECT count(*) FROM task_events").fetchone()[0] > 0
    database.close()
    assert (destination / f"{WEEK}.jsonl.gz").exists()


SPOILT: dict[str, Callable[[Path], None]] = {
    "its manifest is damaged": lambda week: damaged(week / "manifest.json"),
    "its manifest is empty": lambda week: emptied(week / "manifest.json"),
    "its manifest is a folder": lambda week: a_folder(week / "manifest.json"),
    "its file is damaged": lambda week: damaged(week / f"{WEEK}.jsonl.gz"),
    "its file is gone": lambda week: (week / f"{WEEK}.jsonl.gz").unlink(),
    "its inventory is a folder": lambda week: a_folder(week / "inventory.tsv.gz"),
}


@pytest.mark.parametrize("command", [SELECTED, ("sync",)], ids=["full", "sync"])
@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_finished_week_that_was_damaged_in_the_spool_is_kept_aside(
    ops: Run,
    destination: Path,
    tmp_path: Path,
    spoil: Callable[[Path], None],
    command: tuple[str, ...],
) -> None:
    destination.mkdir()
    (destination / "_manifests").write_text("in the way")
    assert ops(*SELECTED).returncode == 1
    [week] = (tmp_path / "spool").glob(f"*/{WEEK}")
    (destination / "_manifests").unlink()
    spoil(week)
    assert_done(ops("status", "--weeks", WEEK.label))
    ran = ops(*command)
    assert "Traceback" not in text_of(ran)
    assert f"put aside as {WEEK}.damaged" in text_of(ran)
    assert (week.parent / f"{WEEK}.damaged").is_dir()
    assert_done(ops(*SELECTED))
    assert gzip.decompress((destination / f"{WEEK}.jsonl.gz").read_bytes())
    stays = ops("teardown")
    assert f"{week.parent / f'{WEEK}.damaged'} stays: it was put aside." in stays.stdout


@pytest.mark.parametrize("name", [WEEK.label, f"{WEEK}.lock", ""])
def test_what_is_in_the_way_in_the_spool_is_put_aside(
    ops: Run, destination: Path, tmp_path: Path, name: str
) -> None:
    assert_done(ops(*SELECTED))
    [place] = (tmp_path / "spool").iterdir()
    in_the_way = place / name
    if name.endswith(".lock"):
        a_folder(in_the_way)
    else:
        if not name:
            place.rmdir()
        in_the_way.write_text("in the way")
    (destination / f"{WEEK}.jsonl.gz").unlink()
    again = ops(*SELECTED)
    assert_done(again)
    assert f"{in_the_way} cannot be used (" in text_of(again)
    assert week_files(destination) == [f"{WEEK}.jsonl.gz"]


def test_what_was_put_aside_before_stays(tmp_path: Path) -> None:
    for text in ("one", "two", "three"):
        (tmp_path / "file").write_text(text)
        own_files.put_aside(tmp_path / "file", "no reason")
    kept = {path.name: path.read_text() for path in tmp_path.glob("file*")}
    assert kept == {"file.damaged": "one", "file.damaged1": "two", "file.damaged2": "three"}


def test_teardown_says_what_goes_with_the_services(with_luigid: Run) -> None:
    assert_done(with_luigid("full", "--weeks", WEEK.label))
    said = with_luigid("teardown").stdout
    assert "Removed with them: luigid's history, all logs." in said
    assert re.search("Removed", with_luigid("teardown").stdout) is None
