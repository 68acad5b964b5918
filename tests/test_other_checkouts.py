"""Two checkouts on one machine: neither takes the services of the other for its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Run, answers_at, free_port
from tests.explained import assert_done, assert_explained

pytestmark = pytest.mark.soak

Variables = dict[str, str]


def variables_of(state: Path, s3_port: int, luigid_port: int) -> Variables:
    return {
        "LOCAL_STATE": str(state),
        "BUSTIMES_SPOOL": str(state / "spool"),
        "LOCAL_S3_PORT": str(s3_port),
        "LOCAL_LUIGID_PORT": str(luigid_port),
    }


@pytest.fixture
def theirs(ops: Run, tmp_path: Path) -> Iterator[Variables]:
    """Another checkout, whose services run."""
    theirs = variables_of(tmp_path / "theirs", free_port(), free_port())
    assert_done(ops("setup", **theirs))
    yield theirs
    assert_done(ops("teardown", **theirs))


@pytest.fixture
def ours(ops: Run, tmp_path: Path) -> Iterator[Variables]:
    ours = variables_of(tmp_path / "ours", free_port(), free_port())
    yield ours
    assert_done(ops("teardown", **ours))
    assert not answers_at("127.0.0.1", int(ours["LOCAL_S3_PORT"]))


def test_the_archive_of_another_checkout_is_never_shown_as_ours(
    ops: Run, theirs: Variables, ours: Variables
) -> None:
    whose_s3 = f"is that of another local S3 server, whose files are in {theirs['LOCAL_STATE']}/s3"
    at_theirs = ours | {"LOCAL_S3_PORT": theirs["LOCAL_S3_PORT"]}
    for command in ("status", "sync", "verify"):
        assert_explained(ops(command, **at_theirs), whose_s3, "s3_port in [local] of luigi.cfg")
    assert_done(ops("sync", **ours))
    for command in ("status", "sync"):
        running = f"already runs on port {ours['LOCAL_S3_PORT']}, not on"
        assert_explained(ops(command, **at_theirs), running)

    whose = f"another Luigi scheduler, whose files are in {theirs['LOCAL_STATE']}/luigid"
    at_their_luigid = ours | {"LOCAL_LUIGID_PORT": theirs["LOCAL_LUIGID_PORT"]}
    shown = ops("status", **at_their_luigid)
    assert_done(shown)
    assert whose in shown.stdout
    assert_explained(ops("luigid", **at_their_luigid), whose, "luigid_port in [local]")
    assert answers_at("127.0.0.1", int(theirs["LOCAL_S3_PORT"]))


@pytest.mark.parametrize("text", [None, "", "{", '{"pid": 1, "started": "1", "port": 1}'])
def test_a_service_whose_pid_file_is_lost_or_wrong_is_found_and_stopped(
    ops: Run, ours: Variables, text: str | None
) -> None:
    assert_done(ops("sync", **ours))
    note = Path(ours["LOCAL_STATE"]) / "s3/s3.pid"
    before = note.read_text()
    note.unlink()
    if text is not None:
        note.write_text(text)
    assert "weeks     0 of 0 done" in ops("status", **ours).stdout
    assert_done(ops("sync", **ours))
    assert note.read_text() == before, "the same process, noted again"
    note.write_text("") if text is not None else note.unlink()
    assert "The local S3 server is stopped." in ops("teardown", **ours).stdout
