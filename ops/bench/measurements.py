"""What is measured, part by part: each puts its outcomes into `Results`.

Contenders that are compared take turns, round by round and every other round backwards, so that
whatever else the machine does meets them all; what counts is the run in the middle. Memory is
looked at in a round of its own, unless there is but one. Every part holds the outputs against each
other before it says a second.
"""

import json
import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ops.bench import checks, contenders
from ops.bench.contenders import CORES, DELAY_MS, FAR_S3, FOLDER, LATE_S3, MBIT, S3, Contender
from ops.bench.data import Data, Sample
from ops.bench.endpoint import Endpoint, serving
from ops.bench.limit import MEASURED
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

ONE_AND_ALL = sorted({1, CORES})
_WAYS_TO_GET = ("boto3", "libcurl")
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

    def _start(self) -> None:
        """One snapshot through ours and the script, to see what starting takes; once a run."""
        sample = self.data.one_snapshot
        if any(one.sample == sample.name for one in self.results.outcomes):
            return
        with serving({sample.name: sample.folder}) as endpoint:
            work = self.work / sample.name
            everyone = [*self._ours(sample, work, endpoint), *_scripts(sample, work, endpoint, 1)]
            for one, run in self._take_turns(sample, everyone):
                self._keep(sample, one, run, checks.lines_of(one.file))

    def days(self) -> None:
        """Both days through every contender."""
        self._start()
        for sample in (self.data.repr_day, self.data.json_day):
            with serving({sample.name: sample.folder}) as endpoint:
                self._day(sample, self._lines(sample), endpoint)

    def _day(self, sample: Sample, lines: Path, endpoint: Endpoint) -> None:
        work, snapshots = self.work / sample.name, sample.files
        is_json = sample.name == self.data.json_day.name
        every = 1 if is_json else max(1, len(snapshots) // SAMPLED_SNAPSHOTS)
        ours = self._ours(sample, work, endpoint)
        if CORES > 1:
            ours.append(contenders.ours(sample, 1, work, endpoint))
        limits = [contenders.limit(sample, lines, work, cores) for cores in ONE_AND_ALL]
        others = contenders.for_json(sample, work, CORES) if is_json else []
        others += [
            contenders.ours(sample, CORES, work, order=order)
            for order in ORDERS
            if order != load().order
        ]
        scripts = _scripts(sample, work, endpoint, every)
        everyone = [*ours, *limits, *others, *scripts]
        runs = self._take_turns(sample, everyone, [*ours, *others, *scripts])
        checks.must_be_equal({f"{one}": one.file for one in [*ours, *limits]})
        for script in scripts:
            checks.must_hold_lines(script.file, lines / "snapshot", snapshots[::every])
        counts = {one.name: checks.lines_of(one.file) for one in [ours[0], *others]}
        checks.must_be_as_many(counts)
        for one, run in runs:
            if one.every > 1:
                run = self._made_longer(one, run, len(snapshots) / len(snapshots[::every]))
            self._keep(sample, one, run, counts[contenders.OURS])

    @staticmethod
    def _ours(sample: Sample, work: Path, endpoint: Endpoint) -> list[Contender]:
        from_folder = [contenders.ours(sample, cores, work) for cores in ONE_AND_ALL]
        return [*from_folder, contenders.ours(sample, CORES, work, endpoint)]

    def _made_longer(self, one: Contender, run: Measured, times: float) -> Measured:
        """A run of a sample as one of the whole: what it takes to start is not made longer."""
        start = self.results.find(self.data.one_snapshot.name, one.name, one.reads)
        assert start is not None
        cpu, wall = start.cpu_seconds, start.wall_seconds
        return replace(
            run,
            cpu_seconds=cpu + times * (run.cpu_seconds - cpu),
            wall_seconds=wall + times * (run.wall_seconds - wall),
            cpu_of_runs=[cpu + times * (seconds - cpu) for seconds in run.cpu_of_runs],
        )

    def week(self) -> None:
        """A full week by ours: on one core and on two, from a folder and from S3, near and far."""
        self._start()
        sample = self.data.week
        work = self.work / sample.name
        served = {sample.name: sample.folder}
        with (
            serving(served) as near,
            serving(served, DELAY_MS) as late,
            serving(served, DELAY_MS, MBIT) as far,
        ):
            everyone = [
                *self._ours(sample, work, near),
                contenders.ours(sample, CORES, work, late, LATE_S3),
                contenders.ours(sample, CORES, work, far, FAR_S3),
            ]
            from_s3 = [one for one in everyone if one.reads == S3]
            runs = self._take_turns(sample, everyone, with_memory=from_s3)
        checks.must_be_equal({f"{one}": one.file for one in everyone})
        lines = checks.lines_of(everyone[0].file)
        for one, run in runs:
            self._keep(sample, one, run, lines)
            converters = run.cpu_seconds - run.own_cpu_seconds
            start = self._start_of_converters(one.reads)
            self.results.overhead.append(
                Overhead(one.reads, one.cores, run.own_cpu_seconds, converters, start)
            )

    def _start_of_converters(self, reads: str) -> float:
        """CPU seconds of the program that converts, for one snapshot: hardly more than to start.

        It loads what converters need once, and forks as many of them as there are to be.
        """
        name = self.data.one_snapshot.name
        place = FOLDER if reads == FOLDER else S3
        one = self.results.find(name, contenders.OURS, place)
        assert one is not None
        return one.cpu_seconds - one.own_cpu_seconds

    def gets(self) -> None:
        """What one GET costs, by boto3 and as our converters do it."""
        sample = self.data.json_day
        times = -(-_GETS // len(sample.files))
        command = [sys.executable, "-m", "ops.bench.gets", sample.name, "--times", str(times)]
        command += ["--at-once", str(load().reads_at_once)]
        with serving({sample.name: sample.folder}) as endpoint:
            runs: dict[str, list[Gets]] = {way: [] for way in _WAYS_TO_GET}
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
        at_once = self.rounds == 1
        for number in range(self.rounds):
            for one in reversed(everyone) if number % 2 else everyone:
                runs[f"{one}"].append(self._run(sample, one, at_once and one in with_memory))
        kept = []
        for one in everyone:
            memory = runs[f"{one}"][0].memory
            if one in with_memory and not at_once:
                memory = self._run(sample, one, with_memory=True).memory
            kept.append((one, replace(median(runs[f"{one}"]), memory=memory)))
        return kept

    def _run(self, sample: Sample, one: Contender, with_memory: bool = False) -> Measured:
        one.clear()
        run = measure(one.command, one.environment, one.cores, one.log, with_memory)
        if one.measures_itself:
            measured = json.loads((one.folder / MEASURED).read_text())
            share = measured["wall_seconds"] / run.wall_seconds
            run = replace(run, **measured, others_cpu_seconds=share * run.others_cpu_seconds)
        peak = f", {figures.size(run.peak_bytes)} of memory" if with_memory else ""
        say(f"{sample.name}, {one}: {run.cpu_seconds:.1f} s of CPU, {run.wall_seconds:.1f} s{peak}")
        return run

    def _keep(self, sample: Sample, one: Contender, run: Measured, lines: int) -> None:
        size = one.file.stat().st_size
        self.results.outcomes.append(Outcome.of(sample.name, one, run, size, lines))
        is_ours = (one.name, one.reads, one.cores) == (contenders.OURS, S3, CORES)
        if run.memory and is_ours:
            self.results.memory[sample.name] = run.memory


def _scripts(sample: Sample, work: Path, endpoint: Endpoint, every: int) -> list[Contender]:
    return [
        contenders.straightforward(sample, work, CORES, every, endpoint),
        contenders.straightforward(sample, work, CORES, every),
    ]


def _output(command: list[str], environment: dict[str, str]) -> bytes:
    """What a program prints that measures itself."""
    return subprocess.run(
        command,
        cwd=PROJECT,
        env=clean_environment() | environment,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
