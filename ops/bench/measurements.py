"""What is measured, part by part: each puts its outcomes into `Results`.

Contenders that are compared take turns, round by round, so that whatever else the machine does
meets them all; what counts is the run in the middle. Memory is looked at in a round of its own.
Every part holds the outputs against each other before it says a second.
"""

import json
import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ops.bench import checks, contenders
from ops.bench.contenders import CORES, DELAY_MS, MBIT, OVER_A_NETWORK, Contender
from ops.bench.data import Data, Sample
from ops.bench.endpoint import Endpoint, serving
from ops.bench.measure import Measured, clean_environment, measure, median
from ops.bench.results import Gets, Level, Outcome, Overhead, Results, Scheduling
from tasks import figures
from tasks.bustimes import manifest as manifests
from tasks.bustimes.listing import FIRST_WEEK
from tasks.progress import say
from tasks.settings import ORDERS, PROJECT, load

SAMPLED_SNAPSHOTS = 180
"""So many of a repr day are enough for the script, which reads 3 MB of them a second."""

WEEKS_DONE = 481

_GETS = 3000
_EVERY_HOUR_OF_LEVELS = 8

Runs = list[tuple[Contender, Measured]]


@dataclass
class Bench:
    """The data, where to work, how many rounds, and what has come out so far."""

    data: Data
    work: Path
    rounds: int
    results: Results

    def days(self) -> None:
        """Both days through every contender; and first one snapshot, to see what starting takes."""
        for sample in (self.data.one_snapshot, self.data.repr_day, self.data.json_day):
            with serving({sample.name: sample.folder}) as endpoint:
                self._day(sample, self._lines(sample), endpoint)

    def _day(self, sample: Sample, lines: Path, endpoint: Endpoint) -> None:
        work = self.work / sample.name
        snapshots = sample.files
        is_json = sample.name != self.data.repr_day.name
        every = 1 if is_json else max(1, len(snapshots) // SAMPLED_SNAPSHOTS)
        script = contenders.straightforward(sample, work, endpoint, CORES, every)
        limit = contenders.limit(sample, lines / load().order, work)
        ours = [
            contenders.ours(sample, 1, work),
            contenders.ours(sample, CORES, work),
            contenders.ours(sample, CORES, work, endpoint),
        ]
        others = contenders.for_json(sample, work, CORES) if is_json else []
        everyone = [*ours, limit, *others, script]
        runs = self._take_turns(sample, everyone, with_memory=everyone)
        checks.must_be_equal({f"{one}": one.file for one in [*ours, limit]})
        checks.must_hold_lines(script.file, lines / "snapshot", snapshots[::every])
        counts = {one.name: checks.lines_of(one.file) for one in [limit, *others]}
        checks.must_be_as_many(counts)
        for one, run in runs:
            if one.every > 1:
                run = self._made_longer(one, run, len(snapshots) / len(snapshots[::every]))
            self._keep(sample, one, run, counts[limit.name])

    def _made_longer(self, one: Contender, run: Measured, times: float) -> Measured:
        """A run of a sample as one of the whole: what it takes to start is not made longer."""
        start = self.results.find(self.data.one_snapshot.name, one.name)
        assert start is not None
        cpu, wall = start.cpu_seconds, start.wall_seconds
        return replace(
            run,
            cpu_seconds=cpu + times * (run.cpu_seconds - cpu),
            wall_seconds=wall + times * (run.wall_seconds - wall),
        )

    def week(self) -> None:
        """A full week by ours: on one core and on two, from a folder and from S3, near and far."""
        sample = self.data.week
        work = self.work / sample.name
        served = {sample.name: sample.folder}
        with serving(served) as near, serving(served, DELAY_MS, MBIT) as far:
            from_s3 = contenders.ours(sample, CORES, work, near)
            everyone = [
                contenders.ours(sample, 1, work),
                contenders.ours(sample, CORES, work),
                from_s3,
                contenders.ours(sample, CORES, work, far, OVER_A_NETWORK),
            ]
            runs = self._take_turns(sample, everyone, with_memory=[from_s3])
        checks.must_be_equal({f"{one}": one.file for one in everyone})
        lines = checks.lines_of(from_s3.file)
        start = self._start_of_converter()
        for one, run in runs:
            self._keep(sample, one, run, lines)
            converters = run.converters_cpu_seconds
            own = run.cpu_seconds - converters
            self.results.overhead.append(
                Overhead(one.reads, one.cores, own, converters, one.cores * start)
            )

    def _start_of_converter(self) -> float:
        """CPU seconds that a converter process takes before it has anything to do."""
        command = [sys.executable, "-c", "from tasks.bustimes import converter"]
        log = self.work / "converter-start.log"
        return median([measure(command, {}, 1, log) for _ in range(self.rounds)]).cpu_seconds

    def gets(self) -> None:
        """What one GET costs, by boto3 and by obstore as our converters use it."""
        sample = self.data.json_day
        times = -(-_GETS // len(sample.files))
        command = [sys.executable, "-m", "ops.bench.gets", sample.name, "--times", str(times)]
        command += ["--at-once", str(load().reads_at_once)]
        with serving({sample.name: sample.folder}) as endpoint:
            runs: dict[str, list[Gets]] = {"boto3": [], "obstore": []}
            for _ in range(self.rounds):
                for way, so_far in runs.items():
                    before = endpoint.used().cpu_seconds
                    values = json.loads(_output([*command, "--way", way], endpoint.environment))
                    other_side = endpoint.used().cpu_seconds - before
                    so_far.append(Gets(way, **values, endpoint_cpu_seconds=other_side))
                    say(f"GET by {way}: {1e3 * so_far[-1].cpu_seconds_each:.2f} ms of CPU")
        for so_far in runs.values():
            so_far.sort(key=lambda one: one.cpu_seconds_each)
            self.results.gets.append(so_far[len(so_far) // 2])

    def scheduling(self) -> None:
        """A run over the weeks of nine years, all done."""
        weeks = [FIRST_WEEK]
        while len(weeks) < WEEKS_DONE:
            weeks.append(weeks[-1].next)
        sample = self.data.json_day
        archive = self.work / "archive"
        archive.mkdir()
        for week in weeks:
            (archive / manifests.file_of(week)).write_bytes(b"a week")
        range_of_weeks = ["--from", str(weeks[0]), "--to", str(weeks[-1])]
        runs: list[Measured] = []
        with serving({sample.name: sample.folder, "archive": archive}) as endpoint:
            environment = endpoint.environment | {
                "BUSTIMES_SOURCE": f"s3://{sample.name}",
                "BUSTIMES_DESTINATION": "s3://archive",
                "BUSTIMES_SPOOL": str(self.work / "scheduling" / "spool"),
                "LOCAL_STATE": str(self.work / "scheduling" / "state"),
            }
            command = [sys.executable, "-m", "ops", "full", "--local-scheduler", *range_of_weeks]
            for _ in range(self.rounds):
                requests = endpoint.used().requests
                log = self.work / "scheduling.log"
                runs.append(measure(command, environment, CORES, log))
                requests = endpoint.used().requests - requests - 1  # the last was this question
                say(f"{len(weeks)} weeks, all done: {runs[-1].wall_seconds:.2f} s")
        middle = median(runs)
        self.results.scheduling = Scheduling(
            len(weeks), middle.wall_seconds, middle.cpu_seconds, requests
        )

    def levels(self) -> None:
        """Size against CPU for every value of `order` and `compression_level`."""
        for sample in (self.data.repr_day, self.data.json_day):
            every = _EVERY_HOUR_OF_LEVELS if self.data.hours >= _EVERY_HOUR_OF_LEVELS else 1
            say(f"{sample.name}: every compression_level in both orders")
            command = [sys.executable, "-m", "ops.bench.levels", str(self._lines(sample))]
            measured = json.loads(_output([*command, "--every", str(every)], {}))
            self.results.levels += [Level(sample.name, **one) for one in measured]

    def _lines(self, sample: Sample) -> Path:
        """Our lines of a sample in both orders, for the limit and to check the others by."""
        lines = self.work / "lines" / sample.name
        for order in ORDERS:
            if not (lines / order).exists():
                one = contenders.ours(sample, CORES, self.work / sample.name, order=order)
                self._run(sample, one)
                checks.write_lines(one.file, lines / order)
        return lines

    def _take_turns(
        self,
        sample: Sample,
        everyone: Sequence[Contender],
        with_memory: Collection[Contender] = (),
    ) -> Runs:
        """Every contender's run in the middle; the output of the last one stays."""
        runs: dict[str, list[Measured]] = {f"{one}": [] for one in everyone}
        for _ in range(self.rounds):
            for one in everyone:
                runs[f"{one}"].append(self._run(sample, one))
        return [
            (one, replace(median(runs[f"{one}"]), memory=self._run(sample, one, True).memory))
            if one in with_memory
            else (one, median(runs[f"{one}"]))
            for one in everyone
        ]

    def _run(self, sample: Sample, one: Contender, with_memory: bool = False) -> Measured:
        one.clear()
        run = measure(one.command, one.environment, one.cores, one.log, with_memory)
        if one.name.startswith(contenders.OURS):
            accounted = json.loads((one.folder / "cpu.json").read_text())
            run = replace(run, converters_cpu_seconds=accounted["converters"])
        peak = f", {figures.size(run.peak_bytes)} of memory" if with_memory else ""
        say(f"{sample.name}, {one}: {run.cpu_seconds:.1f} s of CPU, {run.wall_seconds:.1f} s{peak}")
        return run

    def _keep(self, sample: Sample, one: Contender, run: Measured, lines: int) -> None:
        size = one.file.stat().st_size
        self.results.outcomes.append(Outcome.of(sample.name, one, run, size, lines))
        if run.memory and one.reads == "S3" and one.name == contenders.OURS:
            self.results.memory[sample.name] = run.memory


def _output(command: list[str], environment: dict[str, str]) -> bytes:
    """What a program prints that measures itself."""
    return subprocess.run(
        command,
        cwd=PROJECT,
        env=clean_environment() | environment,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
