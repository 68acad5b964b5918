"""The commands that sentences tell their reader to run: they mean the place that was meant."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from ops.__main__ import _parser
from tasks import advice
from tests.conftest import PROJECT

ODD = "~/it's a $HOME, 50 % #1"
"""What a folder may be called."""


def test_what_was_given_for_one_run_is_given_again_places_first() -> None:
    given = {
        "LOCAL_LUIGID_PORT": "9",
        "BUSTIMES_ORDER": "snapshot",
        "BUSTIMES_DESTINATION": "/out",
        "BUSTIMES_SOURCE": "/in",
        "BUSTIMES_MAX_ERRORS": "  ",
        "BUSTIMES_RUN_LOG": "1:/no/setting",
        "EC2_STACK": "of-a-fleet",
        "PATH": "/bin",
    }
    assert advice.make("full", given, WEEKS="2021-W45", FROM="", TO=None) == (
        "make full SOURCE=/in DESTINATION=/out ORDER=snapshot LUIGID_PORT=9 WEEKS=2021-W45"
    )
    assert advice.make("full", given, ORDER="vehicle").endswith(" ORDER=vehicle LUIGID_PORT=9")
    assert advice.make("smoke", {}) == "make smoke"


def test_nobody_is_told_to_allow_deleting_because_it_was_allowed_once() -> None:
    assert advice.make("prune", {"BUSTIMES_ALLOW_PRUNE": "true"}) == "make prune"


def test_on_ec2_a_command_is_for_the_same_fleet_and_not_for_files_of_an_instance() -> None:
    on_an_instance = {
        advice.ON: "ec2",
        "BUSTIMES_SOURCE": "s3://raw",
        "BUSTIMES_SPOOL": "/opt/bustimes/spool",
        "LOCAL_STATE": "/opt/bustimes/state",
        "EC2_INSTANCE_TYPES": "c7g.large,c7g.xlarge",
        "EC2_STACK": "mine",
    }
    assert advice.make("verify", on_an_instance) == (
        "make verify ON=ec2 SOURCE=s3://raw TYPE=c7g.large,c7g.xlarge STACK=mine"
    )
    assert advice.make("status", {}, ON="ec2") == "make status ON=ec2"


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """The texts in a module's code, and not its docstrings."""
    tree = ast.parse(path.read_text())
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in docstrings:
            yield node.lineno, node.value


OF_NO_ARCHIVE = {PROJECT / "ops/make.py", PROJECT / "tasks/__main__.py"}
"""They tell how commands are written, before any archive is meant."""
OF_WHAT_HAS_BEEN = "deleted by make prune"
"""No advice: it tells what somebody did."""


def test_no_sentence_tells_to_run_a_command_without_its_places() -> None:
    [subcommands] = [
        action.choices for action in _parser()._actions if isinstance(action.choices, dict)
    ]
    spelled = re.compile(rf"\bmake ({'|'.join(map(re.escape, subcommands))})\b")
    found = [
        f"{path.relative_to(PROJECT)}:{line}: {text}"
        for top in ("tasks", "ops")
        for path in sorted((PROJECT / top).rglob("*.py"))
        if path not in OF_NO_ARCHIVE
        for line, text in _texts(path)
        if spelled.search(text.replace(OF_WHAT_HAS_BEEN, ""))
    ]
    assert found == []


def test_nothing_that_is_said_becomes_part_of_the_last_value_when_it_is_copied() -> None:
    """Behind an advised command comes a space or the end, never a full stop or a comma."""
    behind = re.compile(r"\{advice\.make\((?:[^{}]|\{[^{}]*\})*\)\}([^\s\"')])")
    found = [
        f"{path.relative_to(PROJECT)}: {match[0]}"
        for top in ("tasks", "ops")
        for path in sorted((PROJECT / top).rglob("*.py"))
        for match in behind.finditer(path.read_text())
    ]
    assert found == []
    assert shlex.split(advice.make("full", {"BUSTIMES_SOURCE": ODD}))[2] == f"SOURCE={ODD}"
