"""`make audit` tells what is known and what is not, and never takes silence for safety.

pip-audit itself is not there in the tests: a program in its place says what it says.
"""

import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from ops import audit
from ops.audit import Finding, locks
from tasks.problem import Problem
from tests.conftest import PROJECT

SAFE = {"name": "luigi", "version": "3.8.1", "vulns": []}
UNSAFE = {
    "name": "some-thing",
    "version": "1.0",
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-2", "GHSA-3"], "fix_versions": ["1.1", "2.0"]}],
}


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "some.lock"
    path.write_text(
        "luigi==3.8.1 \\\n    --hash=sha256:0\nSome_Thing==1.0 \\\n    --hash=sha256:1\n"
    )
    return path


def a_tool(folder: Path, says: str, error: str = "", code: int = 0) -> Path:
    tool = folder / "pip-audit"
    (folder / "says").write_text(says)
    (folder / "error").write_text(error)
    tool.write_text(
        f'#!/bin/sh\necho "$@" >{folder}/asked\ncat {folder}/says\ncat {folder}/error >&2\n'
        f"exit {code}\n"
    )
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    return tool


def told(*packages: Any) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


def test_nothing_known_is_said_of_all_that_was_looked_up(tmp_path: Path, lock: Path) -> None:
    tool = a_tool(tmp_path, told(SAFE, {"name": "b", "version": "1", "vulns": []}))
    assert audit.audit([lock], tool, "http://127.0.0.1:9/") == (2, [])
    asked = (tmp_path / "asked").read_text()
    for words in ("--require-hashes", "--disable-pip", "--osv-url http://127.0.0.1:9/", str(lock)):
        assert words in asked


def test_what_is_known_is_named_with_its_remedy_and_its_lock_file(
    tmp_path: Path, lock: Path
) -> None:
    tool = a_tool(tmp_path, told(SAFE, UNSAFE), "Found 1 known vulnerability", code=1)
    count, found = audit.audit([lock], tool)
    known_as = "CVE-2 = GHSA-3 = PYSEC-1"
    assert (count, found) == (
        2,
        [Finding("some-thing", "1.0", known_as, ["1.1", "2.0"], ["some.lock"])],
    )
    assert str(found[0]) == f"some-thing 1.0: {known_as}, fixed in 1.1 or 2.0 (some.lock)"


@pytest.mark.parametrize(
    ("says", "error", "sentence"),
    [
        ("", "Traceback\nConnectionError: api.osv.dev", "could not be looked up: ConnectionError"),
        ("", "", "could not be looked up: it says nothing"),
        ("", "ERROR: requirement a does not contain a hash", "does not contain a hash"),
        ("[]", "", "could not be looked up"),
        (told(), "", "Not everything could be looked up: nothing"),
        (told(SAFE, {"name": "b", "skip_reason": "not found"}), "", "could be looked up: b"),
    ],
)
def test_what_was_not_looked_up_is_not_safe(
    tmp_path: Path, lock: Path, says: str, error: str, sentence: str
) -> None:
    with pytest.raises(Problem, match=sentence):
        audit.audit([lock], a_tool(tmp_path, says, error))


def test_without_its_tool_it_says_what_brings_it(lock: Path, tmp_path: Path) -> None:
    with pytest.raises(Problem, match="make audit installs it"):
        audit.audit([lock], tmp_path / "none")


@pytest.mark.parametrize(("packages", "code"), [([SAFE], 0), ([SAFE, UNSAFE], 1), ([], 2)])
def test_the_exit_code_tells_the_truth(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    packages: list[Any],
    code: int,
) -> None:
    tool = a_tool(tmp_path, told(*packages))
    monkeypatch.setattr(audit.audit, "__defaults__", (tool, ""))
    assert audit.main([]) == code
    assert ("No vulnerability is known." in capsys.readouterr().out) == (code == 0)


def test_every_lock_file_is_looked_at_and_pins_every_package_by_hash() -> None:
    found = {path.relative_to(PROJECT).as_posix() for path in locks()}
    assert {"requirements.lock", "tests/requirements.lock", "ops/audit.lock"} <= found
    assert "tasks/bustimes/kernel/compiler.lock" in found
    for path in locks():
        text = path.read_text()
        assert "://" not in text, path
        for entry in re.split(r"^(?=[a-zA-Z])", text, flags=re.MULTILINE)[1:]:
            assert re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+ ", entry), entry[:60]
            assert "--hash=sha256:" in entry, entry[:60]
