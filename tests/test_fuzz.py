"""A short search for input that cannot be borne; `make fuzz` searches for longer.

The same inputs in every run, and about a second for each target: what is found here is a change
that broke something, or an input that `make fuzz` has found and `test_fuzz_found` should keep.
"""

import json
import os
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from ops.fuzz import checked_kernel
from ops.fuzz.changes import changed
from ops.fuzz.coverage import LinesOfPython, Reached
from ops.fuzz.search import Fault, Search, fault_of, keep_input, read_inputs, smaller
from ops.fuzz.targets import Target
from ops.fuzz.worker import Pending, all_targets
from tests.conftest import PROJECT

pytestmark = pytest.mark.soak

INPUTS = {
    "kernel": 400,
    "gzip": 25,
    "json": 2500,
    "repr": 1000,
    "second reader": 500,
    "names": 4000,
    "manifests": 1500,
    "settings": 120,
    "answers": 250,
    "records": 500,
    "kept files": 250,
}


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    """With the checked kernel, where its compiler is: there the kernel's faults show at once."""
    if not checked_kernel.is_possible():
        return all_targets()
    wasm = tmp_path_factory.mktemp("kernel") / "kernel.wasm"
    checked_kernel.build(wasm)
    return all_targets(wasm)


@pytest.mark.parametrize("name", INPUTS)
def test_a_short_search_finds_no_fault(targets: dict[str, Target], name: str) -> None:
    search = Search(targets[name], seed=1)
    for step in islice(search.steps(), INPUTS[name]):
        if isinstance(step, Fault):
            least = smaller(targets[name], step.data)
            pytest.fail(f"{least!r}\n{step.told}")


def test_every_target_is_searched(targets: dict[str, Target]) -> None:
    assert set(targets) == set(INPUTS)


def _only_without_braces(data: bytes) -> None:
    if b"{" in data:
        text = data.decode("latin-1")
        if "}" in text and text.count("x") > 2:
            raise KeyError("as planned")


def a_target() -> Target:
    lines = LinesOfPython([Path(__file__)])
    scraps = (b"{", b"}", b"x")
    return Target(
        "planned", _only_without_braces, lambda: [b"a"], scraps, lines.counters, lines.counting
    )


def test_a_search_finds_a_fault_step_by_step_and_makes_it_small() -> None:
    search = Search(a_target(), seed=1)
    [fault] = islice((step for step in search.steps() if isinstance(step, Fault)), 1)
    assert fault.kind == f"KeyError in _only_without_braces of {Path(__file__).name}"
    assert "as planned" in fault.told
    assert sorted(smaller(a_target(), fault.data)) == sorted(b"{}xxx")
    assert fault_of(a_target(), b"{}") == ""


def test_the_same_seed_is_the_same_search() -> None:
    searches = [Search(a_target(), seed=7) for _ in range(2)]
    one, other = (list(islice(search.steps(), 200)) for search in searches)
    assert one == other
    assert searches[0].kept == searches[1].kept


def test_inputs_are_kept_for_the_next_search(tmp_path: Path) -> None:
    assert read_inputs(tmp_path / "none") == []
    for data in (b"long one", b"short", b"short"):
        keep_input(tmp_path / "inputs", data)
    assert read_inputs(tmp_path / "inputs") == [b"short", b"long one"]


def test_changes_stay_within_their_bounds_and_depend_on_chance_alone() -> None:
    import random

    scraps = (b"scrap", b"\x1e")
    made = [
        [changed(b'[{"a": 1}]', b"other", scraps, chance, longest=50) for _ in range(500)]
        for chance in (random.Random(3), random.Random(3))
    ]
    assert made[0] == made[1]
    assert len(set(made[0])) > 300
    assert max(map(len, made[0])) <= 50


def test_what_was_reached_once_is_not_new_again() -> None:
    reached = Reached()
    assert reached.add(bytes([1, 0, 0]))
    assert not reached.add(bytes([1, 0, 0]))
    assert reached.add(bytes([9, 0, 0]))  # oftener than before, by much
    assert reached.add(bytes([1, 0, 2]))
    assert not reached.add(bytes([9, 0, 2]))
    assert reached.edges == 2


def test_an_input_that_never_ends_is_known_when_its_process_is_gone(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from ops.fuzz import worker\n"
        "worker.INPUT_SECONDS = 0.01\n"
        "worker.Pending(Path(sys.argv[1])).note(b'endless')\n"
        "while True: pass"
    )
    pending = tmp_path / "pending"
    ended = subprocess.run([sys.executable, "-c", script, str(pending)], cwd=PROJECT, check=False)
    assert ended.returncode == -signal.SIGALRM
    assert Pending.read(pending) == b"endless"


def test_the_command_searches_keeps_and_feeds_again(tmp_path: Path) -> None:
    def fuzz(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ops.fuzz", *options],
            cwd=PROJECT,
            env=os.environ | {"LOCAL_STATE": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )

    searched = fuzz("--minutes", "0.001", "--target", "names", "--seed", "1")
    assert searched.returncode == 0, searched.stderr
    assert "No fault." in searched.stdout
    kept = list((tmp_path / "fuzz/inputs/names").iterdir())
    assert kept
    again = fuzz("--target", "names", "--input", str(kept[0]))
    assert (again.returncode, again.stdout.splitlines()[-1]) == (0, "No fault.")
    unknown = fuzz("--target", "nothing")
    assert unknown.returncode == 2
    assert "There is no target 'nothing': there are kernel, gzip," in unknown.stderr
    assert "Say with --target" in fuzz("--input", str(kept[0])).stderr
    for minutes in ("-1", "nan", "long"):
        endless = fuzz("--minutes", minutes)
        assert endless.returncode == 2
        assert f"'{minutes}' is no number of minutes" in endless.stderr


def test_a_worker_tells_of_the_faults_it_has_found(tmp_path: Path) -> None:
    """With a target that has one: the kernel's, and a compiled kernel that is none."""
    script = (
        "import sys; from pathlib import Path; from ops.fuzz import worker, readers\n"
        "readers._must_convert = lambda *_: 1 / 0\n"
        "worker.main('kernel', 1.0, 1, Path(sys.argv[1]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(ended.stdout)
    [(kind, path)] = told["faults"].items()
    assert kind.startswith("ZeroDivisionError in ")
    assert Path(path).read_bytes() == b""  # the smallest of all
    assert "Traceback" in ended.stderr
