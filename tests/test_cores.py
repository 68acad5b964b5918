"""Weeks under way at the same time share the cores among them, and never ask for more."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import PROJECT

WEEKS = ("2021-W44", "2021-W45")

# AllWeeks on a machine with so many cores, which notes how many converters each week is given.
RUN = """
import os, sys
from tasks.bustimes import graph
from tasks.bustimes.graph import tasks
cores, workers, notes = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
os.cpu_count = lambda: cores
os.sched_getaffinity = lambda process: set(range(cores))
convert_week = tasks.convert_week
def noted(*arguments, processes, **options):
    with open(notes, "a") as file:
        print(processes, file=file)
    return convert_week(*arguments, processes=processes, **options)
tasks.convert_week = noted
sys.exit(not graph.run(graph.AllWeeks(weeks=sys.argv[4]), workers, None))
"""


@pytest.mark.parametrize(("cores", "workers", "converters"), [(4, 1, 4), (4, 2, 2), (3, 2, 1)])
def test_all_weeks_with_several_workers_starts_no_more_converters_than_there_are_cores(
    make_snapshots: Callable[..., list[Path]],
    tmp_path: Path,
    cores: int,
    workers: int,
    converters: int,
) -> None:
    for week in WEEKS:
        make_snapshots(tmp_path / "in", week)
    notes = tmp_path / "notes"
    ran = subprocess.run(
        [sys.executable, "-c", RUN, str(cores), str(workers), str(notes), ",".join(WEEKS)],
        cwd=PROJECT,
        env=os.environ
        | {
            "BUSTIMES_SOURCE": str(tmp_path / "in"),
            "BUSTIMES_DESTINATION": str(tmp_path / "out"),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert notes.read_text().split() == [str(converters)] * len(WEEKS)
    assert workers * converters <= cores
