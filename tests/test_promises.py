"""PROMISES.md names a test for each promise, and each is there."""

import re

from tests.conftest import PROJECT

TEXT = (PROJECT / "tests/PROMISES.md").read_text()
PROMISED, NOT_PROMISED = TEXT.split("## What is not promised")


def test_every_promise_names_tests_that_are_there() -> None:
    rows = [line for line in PROMISED.splitlines() if line.startswith("|")]
    promises = [row for row in rows if not re.match(r"\|[ -]*(what |-)", row) or "`" in row]
    assert len(promises) > 25
    for promise in promises:
        named = re.findall(r"`(tests/\w+\.py)`", promise)
        assert named, promise
        for name in named:
            assert (PROJECT / name).is_file(), name


def test_it_says_which_tests_make_soak_runs() -> None:
    for name, soak in re.findall(r"`(tests/\w+\.py)`( \(soak\))?", TEXT):
        assert bool(soak) == ("pytest.mark.soak" in (PROJECT / name).read_text()), name


def test_the_readme_leads_there_and_the_gaps_are_said() -> None:
    assert "(tests/PROMISES.md)" in (PROJECT / "README.md").read_text()
    assert len(re.findall(r"^- \*\*", NOT_PROMISED, re.MULTILINE)) > 5
