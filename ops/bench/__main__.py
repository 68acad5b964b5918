"""`make bench`: prints the tables of one run, and writes them beside its results and the plot."""

import argparse
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from ops.bench import contenders, plot, readme, report, results
from ops.bench.data import VEHICLES, prepare
from ops.bench.measurements import Bench
from tasks.bustimes.plan import keep_rate
from tasks.problem import Problem
from tasks.progress import say
from tasks.settings import PROJECT, load, load_local

PARTS = ("days", "week", "gets", "scheduling", "levels")
ROUNDS = 5


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    given = _parser().parse_args(arguments)
    try:
        if not sys.platform.startswith("linux"):
            raise Problem("The bench measures processes as Linux accounts for them: run it there.")
        _run(given)
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; nothing was written but the data.", file=sys.stderr)
        return 130
    return 0


def _run(given: argparse.Namespace) -> None:
    folder = load_local().state.absolute() / "bench"
    if given.readme and (given.quick or given.only or given.hours):
        raise Problem(
            "A README shows whole runs: --readme goes without --quick, --hours and --only."
        )
    if given.readme:
        readme.check(PROJECT)
    found = results.read(given.show) if given.show else _measured(given, folder)
    out = given.out or folder / "results"
    out.mkdir(parents=True, exist_ok=True)
    found.write(out / "results.json")
    (out / "results.md").write_text("\n".join(report.lines(found, markdown=True)) + "\n")
    (out / "plot.svg").write_text(plot.svg(found))
    print("\n".join(report.lines(found, markdown=False)))
    say(f"\nWritten to {out}: results.json, results.md and plot.svg.")
    if given.readme:
        names = [str(path.relative_to(PROJECT)) for path in readme.put_in_place(found, PROJECT)]
        say(f"Put in place: {', '.join(names)}.")


def _measured(given: argparse.Namespace, folder: Path) -> results.Results:
    """What one run finds out; of a whole one, `make plan` goes by the rate from now on."""
    hours = given.hours or (2 if given.quick else 24)
    rounds = given.rounds or (1 if given.quick else ROUNDS)
    data = prepare(folder / f"{hours}-hours-{given.vehicles}-vehicles", hours, given.vehicles)
    settings = load()
    found = results.Results(
        machine=results.machine(),
        cores=contenders.CORES,
        is_whole=hours == 24,
        rounds=rounds,
        order=settings.order,
        compression_level=settings.compression_level,
        snapshots={sample.name: len(sample.files) for sample in data.samples},
        raw_bytes={sample.name: sample.raw_bytes() for sample in data.samples},
        missing=contenders.missing(),
    )
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    bench = Bench(data, work, rounds, found)
    for part in given.only or PARTS:
        getattr(bench, part)()
    if not given.keep:
        shutil.rmtree(work)
    if found.is_whole and found.rate is not None:
        keep_rate(folder.parent, found.rate)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ops.bench",
        description="Measure the conversion against what people would use instead, on synthetic "
        "snapshots: a repr day and a JSON day of 1,440 each, and the week that holds them. Compare "
        "figures of one run only.",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="two hours of each day, one round: for a first look")
    add("--hours", type=_from_1_to(24), help="so many hours of each day")
    add(
        "--rounds",
        type=_from_1_to(99),
        help=f"every contender so many times ({ROUNDS}); what counts is the run in the middle",
    )
    add("--vehicles", type=_from_1_to(2000), default=VEHICLES, help="at most (%(default)s)")
    add("--only", type=_parts, metavar="PARTS", help=f"of {','.join(PARTS)}: only these")
    add("--keep", action="store_true", help="keep what the contenders wrote")
    add("--readme", action="store_true", help="show the figures in the READMEs, with the plot")
    add("--show", type=Path, metavar="FILE", help="measure nothing: an earlier run's results.json")
    add("--out", type=Path, metavar="FOLDER", help="for the results (.local/bench/results)")
    return parser


def _from_1_to(largest: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= largest:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {largest}")
        return int(text)

    return whole_number


def _parts(text: str) -> list[str]:
    parts = text.split(",")
    if odd := [part for part in parts if part not in PARTS]:
        raise argparse.ArgumentTypeError(f"{odd[0]!r} is none of {', '.join(PARTS)}")
    return parts


if __name__ == "__main__":
    sys.exit(main())
