"""What one run of the bench found out, as plain values that can be written and read as JSON."""

import contextlib
import json
import os
import platform
import re
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ops.bench.contenders import S3, Contender
from ops.bench.measure import Measured
from tasks.problem import Problem
from tasks.settings import PROJECT

BUSY = 0.15
"""From this share of the machine on, other programs are worth a word."""


@dataclass(frozen=True)
class Outcome:
    """What a contender took for a sample; `peak_bytes` of 0 where its memory was not looked at.

    The seconds are those of the run in the middle; `own_cpu_seconds` are its first process's alone,
    and `cpu_of_runs` has the CPU seconds of all runs. Where `every` is more than 1 the seconds are
    those of a sample, made as long as the whole; its output and memory are the sample's.
    """

    sample: str
    name: str
    reads: str
    cores: int
    every: int
    cpu_seconds: float
    own_cpu_seconds: float
    wall_seconds: float
    others_cpu_seconds: float
    peak_bytes: int
    output_bytes: int
    lines: int
    cpu_of_runs: list[float] = field(default_factory=list)

    @property
    def spread(self) -> float:
        """How far the CPU seconds of the runs lie apart, of that in the middle."""
        return (max(self.cpu_of_runs) - min(self.cpu_of_runs)) / self.cpu_seconds

    def share_of_others(self, cores: int) -> float:
        """How much of the machine other programs had meanwhile; the S3 endpoint is one of them."""
        return self.others_cpu_seconds / (cores * self.wall_seconds)

    @classmethod
    def of(
        cls, sample: str, contender: Contender, measured: Measured, output_bytes: int, lines: int
    ) -> "Outcome":
        return cls(
            sample=sample,
            name=contender.name,
            reads=contender.reads,
            cores=contender.cores,
            every=contender.every,
            cpu_seconds=measured.cpu_seconds,
            own_cpu_seconds=measured.own_cpu_seconds,
            wall_seconds=measured.wall_seconds,
            others_cpu_seconds=measured.others_cpu_seconds,
            peak_bytes=measured.peak_bytes,
            output_bytes=output_bytes,
            lines=lines,
            cpu_of_runs=measured.cpu_of_runs,
        )


@dataclass(frozen=True)
class Level:
    """Compressing the finished lines of some hours, which are a `share` of the day's."""

    sample: str
    codec: str
    order: str
    level: int
    share: float
    lines_bytes: int
    bytes: int
    cpu_seconds: float


@dataclass(frozen=True)
class Overhead:
    """A full week by its parts, in seconds of CPU.

    `own` is of the process that schedules, `converters` of all that it starts, `converter_starts` a
    part of these.
    """

    reads: str
    cores: int
    own: float
    converters: float
    converter_starts: float

    @property
    def share(self) -> float:
        """What is not reading, parsing or compressing."""
        return (self.own + self.converter_starts) / (self.own + self.converters)


@dataclass(frozen=True)
class Gets:
    """GETs of whole snapshots, one way; `endpoint_cpu_seconds` is what the other side took."""

    way: str
    gets: int
    bytes: int
    cpu_seconds: float
    endpoint_cpu_seconds: float

    @property
    def cpu_seconds_each(self) -> float:
        return self.cpu_seconds / self.gets


@dataclass(frozen=True)
class Scheduling:
    """A run over weeks that are all done."""

    weeks: int
    wall_seconds: float
    cpu_seconds: float
    requests: int


@dataclass
class Results:
    """Everything; what was not measured is empty.

    `cores` are those that a contender had; `is_whole` unless the days were cut short; `snapshots`
    and `raw_bytes` are those of each sample.
    """

    machine: dict[str, str] = field(default_factory=dict)
    cores: int = 2
    is_whole: bool = True
    rounds: int = 0
    order: str = ""
    compression_level: int = 0
    snapshots: dict[str, int] = field(default_factory=dict)
    raw_bytes: dict[str, int] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    gets: list[Gets] = field(default_factory=list)
    memory: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    overhead: list[Overhead] = field(default_factory=list)
    scheduling: Scheduling | None = None
    levels: list[Level] = field(default_factory=list)

    def find(
        self, sample: str, name: str, reads: str | None = None, cores: int | None = None
    ) -> Outcome | None:
        """The outcome of a contender, if it was measured."""
        for one in self.outcomes:
            is_it = (one.sample, one.name) == (sample, name)
            if is_it and reads in (None, one.reads) and cores in (None, one.cores):
                return one
        return None

    @property
    def rate(self) -> float | None:
        """Raw bytes a second of CPU, of the whole command, for the week from S3 on all cores."""
        of_week = [one for one in self.overhead if one.reads == S3]
        if not of_week:
            return None
        return self.raw_bytes["week"] / (of_week[-1].own + of_week[-1].converters)

    def is_busy(self, *outcomes: Outcome | None) -> bool:
        """Whether other programs made the wall seconds of one of these longer than they need be."""
        cores = int(self.machine.get("cores", 1))
        return any(one is not None and one.share_of_others(cores) > BUSY for one in outcomes)

    def level(self, sample: str, codec: str, order: str, level: int) -> Level | None:
        """What compressing a day so gave, if it was measured."""
        for one in self.levels:
            if (one.sample, one.codec, one.order, one.level) == (sample, codec, order, level):
                return one
        return None

    def write(self, path: Path) -> None:
        """As JSON, a line for each value of the first levels."""
        text = json.dumps(asdict(self), indent=1)
        path.write_text(re.sub(r"\n {3,}|\n {2}(?=[\]}])", " ", text) + "\n")


def read(path: Path) -> Results:
    """What `Results.write` wrote; raises `Problem` for another file."""
    try:
        return _of_json(json.loads(path.read_text()))
    except OSError as error:
        raise Problem(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Problem(f"{path} is no results.json of this bench: run make bench.") from None


def _of_json(values: dict[str, Any]) -> Results:
    scheduling = values.pop("scheduling")
    return Results(
        **values
        | {
            "outcomes": [Outcome(**one) for one in values["outcomes"]],
            "gets": [Gets(**one) for one in values["gets"]],
            "memory": {
                name: [(at, size) for at, size in samples]
                for name, samples in values["memory"].items()
            },
            "overhead": [Overhead(**one) for one in values["overhead"]],
            "scheduling": Scheduling(**scheduling) if scheduling else None,
            "levels": [Level(**one) for one in values["levels"]],
        }
    )


def machine() -> dict[str, str]:
    """The machine and the programs that the figures come from."""
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{pages * page / 1e9:.0f} GB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        **dict(_versions()),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _versions() -> Iterator[tuple[str, str]]:
    """Of the packages that the project is built on, and of DuckDB."""
    built_on = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    for package in sorted([*(re.split(r"[^\w-]", one)[0] for one in built_on), "duckdb"]):
        with contextlib.suppress(PackageNotFoundError):
            yield package, version(package)
