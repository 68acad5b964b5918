"""One measurement: a command, run under the supervisor, on so many cores.

`measure` promises CPU seconds of every process that the command started, wall seconds, what the
rest of the machine did meanwhile and, when asked for, memory over time; or a `Problem` with the end
of what the command printed. It never repeats or averages: that is for whoever compares.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ops.aws_settings import without_aws, without_proxies
from tasks.problem import Problem
from tasks.settings import PROJECT

_TAIL_LINES = 15
_SETTINGS_OF_OURS = ("BUSTIMES_", "LOCAL_", "EC2_", "NOTIFY_", "LUIGI_")


@dataclass(frozen=True)
class Measured:
    """What one run of a command took; `memory` holds (seconds, bytes) where it was looked at.

    `own_cpu_seconds` is the part of `cpu_seconds` that its first process took, and none of those
    that this one started. `cpu_of_runs` are the `cpu_seconds` of all runs that this one stands for.
    """

    cpu_seconds: float
    own_cpu_seconds: float
    wall_seconds: float
    others_cpu_seconds: float
    memory: list[tuple[float, int]] = field(default_factory=list, repr=False)
    cpu_of_runs: list[float] = field(default_factory=list)

    @property
    def peak_bytes(self) -> int:
        return max((size for _, size in self.memory), default=0)


def measure(
    command: Sequence[str],
    environment: Mapping[str, str],
    cores: int,
    log: Path,
    memory: bool = False,
) -> Measured:
    """Run the command with `environment` added to a clean one; raises `Problem` if it fails."""
    allowed = sorted(os.sched_getaffinity(0))[-cores:]
    options = ["--cores", ",".join(map(str, allowed)), "--log", str(log)]
    if memory:
        options.append("--memory")
    answer = subprocess.run(
        [sys.executable, "-m", "ops.bench.supervisor", *options, "--", *command],
        cwd=PROJECT,
        env={**clean_environment(), **environment},
        stdout=subprocess.PIPE,
        check=True,
    )
    values = json.loads(answer.stdout)
    exit_code = values.pop("exit_code")
    if exit_code:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
        raise Problem(f"{' '.join(command)[:200]} ended with exit code {exit_code}:\n{tail}")
    return Measured(**values | {"memory": [(at, size) for at, size in values["memory"]]})


def clean_environment() -> dict[str, str]:
    """This process's environment without any setting that changes what the commands do.

    Python keeps what it has compiled, as it does unless it is told not to.
    """
    kept = {
        name: value
        for name, value in without_proxies(without_aws(os.environ)).items()
        if not name.startswith(_SETTINGS_OF_OURS) and name != "PYTHONDONTWRITEBYTECODE"
    }
    return kept | {"LUIGI_CONFIG_PATH": str(PROJECT / "luigi.cfg")}


def median(runs: Sequence[Measured]) -> Measured:
    """The run in the middle, figure by figure, without memory."""
    return Measured(
        cpu_seconds=statistics.median(run.cpu_seconds for run in runs),
        own_cpu_seconds=statistics.median(run.own_cpu_seconds for run in runs),
        wall_seconds=statistics.median(run.wall_seconds for run in runs),
        others_cpu_seconds=statistics.median(run.others_cpu_seconds for run in runs),
        cpu_of_runs=[run.cpu_seconds for run in runs],
    )
