"""Who is measured: ours and what people would use instead, each as a command with one output file.

A contender is given a day or a week of snapshots, in a folder or at an S3 endpoint, and writes
gzipped JSON lines. Those whose program is not on this machine are left out, and `missing` says so.
"""

import importlib.util
import os
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ops.bench.data import WEEK, Sample
from ops.bench.endpoint import Endpoint
from tasks.bustimes import manifest as manifests
from tasks.settings import load

CORES = min(2, os.cpu_count() or 1)
"""So many cores a contender may use: a small instance has two."""

FOLDER, S3 = "folder", "S3"
DELAY_MS, MBIT = 30, 1000
LATE_S3 = f"S3, {DELAY_MS} ms"
FAR_S3 = f"S3, {DELAY_MS} ms, {MBIT / 1000:g} Gbit/s"
"""Where a contender reads: the endpoint answers at once, late, or as S3 over a network does."""

STRAIGHTFORWARD = "straightforward script"
DUCKDB = "DuckDB"
JQ = "jq | pigz"
LIMIT = "limit"
OURS = "ours"

_JQ_PROGRAM = (
    '(input_filename | capture("bustimes__(?<d>[0-9-]+)__(?<t>[0-9-]+)[.]json")'
    ' | .d + "T" + (.t | gsub("-"; ":")) + "+00:00") as $at | .[] | .snapshot_time = $at'
)


@dataclass(frozen=True)
class Contender:
    """One command; `file` is what it writes, in `folder`, which is its own and empty before.

    `every` is more than 1 where it is given only each so many-th snapshot, because it is slow. One
    that `measures_itself` leaves `ops.bench.limit.MEASURED` in its folder.
    """

    name: str
    reads: str
    cores: int
    command: list[str]
    folder: Path
    file: Path
    environment: dict[str, str] = field(default_factory=dict)
    every: int = 1
    measures_itself: bool = False

    def clear(self) -> None:
        """Nothing of an earlier run is left."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def __str__(self) -> str:
        cores = "1 core" if self.cores == 1 else f"{self.cores} cores"
        return f"{self.name}, {self.reads}, {cores}"

    @property
    def log(self) -> Path:
        return self.folder.with_name(self.folder.name + ".log")


def ours(
    sample: Sample,
    cores: int,
    work: Path,
    endpoint: Endpoint | None = None,
    reads: str = S3,
    order: str = "",
) -> Contender:
    """`make full` for the week that the sample is of, without luigid; in another order if given."""
    settings = load()
    reads = reads if endpoint else FOLDER
    folder = work / re.sub(r"\W+", "-", f"ours-{reads}-{cores}-{order}".lower())
    return Contender(
        name=f"{OURS}, order {order}" if order else OURS,
        reads=reads,
        cores=cores,
        command=[
            *(sys.executable, "-m", "ops", "full", "--local-scheduler", "--weeks", str(WEEK)),
        ],
        folder=folder,
        file=folder / "weeks" / manifests.file_of(WEEK),
        environment={
            "BUSTIMES_SOURCE": f"s3://{sample.name}" if endpoint else str(sample.folder),
            "BUSTIMES_DESTINATION": str(folder / "weeks"),
            "BUSTIMES_SPOOL": str(folder / "spool"),
            "BUSTIMES_ORDER": order or settings.order,
            "BUSTIMES_COMPRESSION_LEVEL": str(settings.compression_level),
            "BUSTIMES_READS_AT_ONCE": str(settings.reads_at_once),
            "BUSTIMES_PROCESSES": str(cores),
            "LOCAL_STATE": str(folder / "state"),
            **(endpoint.environment if endpoint else {}),
        },
    )


def straightforward(
    sample: Sample, work: Path, cores: int, every: int, endpoint: Endpoint | None = None
) -> Contender:
    """The script; it has one thread that converts, however many cores there are."""
    reads = S3 if endpoint else FOLDER
    folder = work / f"straightforward-{reads.lower()}"
    file = folder / "day.jsonl.gz"
    source = f"s3://{sample.name}" if endpoint else str(sample.folder)
    command = [sys.executable, "-m", "ops.bench.straightforward", source, str(file)]
    return Contender(
        name=STRAIGHTFORWARD,
        reads=reads,
        cores=cores,
        command=[*command, "--every", str(every)],
        folder=folder,
        file=file,
        environment=endpoint.environment if endpoint else {},
        every=every,
    )


def for_json(sample: Sample, work: Path, cores: int) -> list[Contender]:
    """Those that read JSON only, as far as they are on this machine."""
    absent = missing()
    everyone = [_duckdb(sample, work, cores), _jq(sample, work, cores)]
    return [one for one in everyone if one.name not in absent]


def _duckdb(sample: Sample, work: Path, cores: int) -> Contender:
    folder = work / "duckdb"
    file = folder / "day.jsonl.gz"
    command = [sys.executable, "-m", "ops.bench.duckdb_day", str(sample.folder / "raw"), str(file)]
    return Contender(DUCKDB, FOLDER, cores, [*command, "--threads", str(cores)], folder, file)


def _jq(sample: Sample, work: Path, cores: int) -> Contender:
    folder = work / "jq"
    file = folder / "day.jsonl.gz"
    script = 'cd "$1" && jq -c "$2" *.json | pigz -6 -p "$3" > "$4"'
    arguments = [str(sample.folder / "raw"), _JQ_PROGRAM, str(cores), str(file)]
    return Contender(JQ, FOLDER, cores, ["sh", "-ec", script, "sh", *arguments], folder, file)


def limit(sample: Sample, lines: Path, work: Path, cores: int) -> Contender:
    """A process for each core; `lines` has a folder of the finished ones for each order."""
    settings = load()
    folder = work / f"limit-{cores}"
    file = folder / "day.jsonl.gz"
    command = [sys.executable, "-m", "ops.bench.limit", str(sample.folder / "raw"), str(lines)]
    command += [str(file), "--order", settings.order, "--processes", str(cores)]
    command += ["--level", str(settings.compression_level)]
    return Contender(LIMIT, FOLDER, cores, command, folder, file, measures_itself=True)


def missing() -> dict[str, str]:
    """The contenders that cannot be measured on this machine, and why."""
    why = {}
    if importlib.util.find_spec("duckdb") is None:
        why[DUCKDB] = "the Python package duckdb is not installed"
    absent = [program for program in ("jq", "pigz") if shutil.which(program) is None]
    if absent:
        verb = "is" if len(absent) == 1 else "are"
        why[JQ] = f"{' and '.join(absent)} {verb} not installed (Debian has both)"
    return why
