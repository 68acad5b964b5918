"""`make fuzz MINUTES=10`: searches for input that anything here cannot bear.

    python -m ops.fuzz [--minutes 10] [--target NAME …] [--seed N]
    python -m ops.fuzz --target NAME --input FILE

Each target is searched in processes of its own, as many at once as there are cores; what one has
learnt is kept for the next time. Ends with 1 where there is a fault; its input is kept, and the
second form feeds it again. Everything lies below `fuzz/` in the folder of this machine's own files.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ops.fuzz import bombs, checked_kernel
from ops.fuzz.search import fault_of, keep_input
from ops.fuzz.worker import INPUT_SECONDS, KERNEL, Pending, all_targets
from tasks import figures
from tasks.problem import Problem
from tasks.settings import load_local

_BOMB_BYTES = {False: (1_000_000, 4_000_000), True: (250_000, 1_000_000)}
_MOST_GROWTH = 4.0  # of the time a byte takes, for a body four times as long
_LEAST_SECONDS = 0.05  # below that it is noise
MOST_MEMORY = 40
"""How many times a body's own length the reading of it may take of memory."""
SOME_MEMORY = 48 << 20
"""What every process takes for reading anything at all, beside that."""


def main(arguments: list[str] | None = None) -> int:
    """Search; returns the exit code."""
    options = _parser().parse_args(arguments)
    folder = load_local().state / "fuzz"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        kernel = _kernel(folder)
        targets = all_targets(kernel)
        names = options.target or list(targets)
        unknown = sorted(set(names) - set(targets))
        if unknown:
            raise Problem(f"There is no target {unknown[0]!r}: there are {', '.join(targets)}.")
        if options.input:
            if len(names) != 1:
                raise Problem("Say with --target what the input is for.")
            told = fault_of(targets[names[0]], Path(options.input).read_bytes())
            print(told or "No fault.")
            return 1 if told else 0
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 2
    cores = os.cpu_count() or 1
    seconds = options.minutes * 60 * cores / sum(targets[name].share for name in names)
    jobs = sorted(((targets[name].share * seconds, name) for name in names), reverse=True)
    with ThreadPoolExecutor(cores) as threads:
        found = list(threads.map(lambda job: _search(job[1], job[0], options.seed, folder), jobs))
    faults = sum(found)
    if not options.target:
        faults += sum(1 for line in _all_bombs() if print(line, flush=True) or "FAULT" in line)
    print("No fault." if not faults else f"{figures.count(faults, 'fault')}; see above.")
    return 1 if faults else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ops.fuzz", description="Search for faults.")
    parser.add_argument("--minutes", type=_minutes, default=10.0, help="for how long (default: 10)")
    parser.add_argument("--target", action="append", help="only this one (may be repeated)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32, help="of all chance")
    parser.add_argument("--input", help="feed this file, and nothing else")
    return parser


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of minutes: 10 is, or 0.5")
    return minutes


def _kernel(folder: Path) -> Path | None:
    if not checked_kernel.is_possible():
        print("Without its compiler (make kernel) the kernel is searched as it is, by chance.")
        return None
    checked_kernel.build(folder / KERNEL)
    return folder / KERNEL


def _search(name: str, seconds: float, seed: int, folder: Path) -> int:
    """Search one target; returns how many faults there are."""
    command = [sys.executable, "-m", "ops.fuzz.worker", name, str(seconds), str(seed), str(folder)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode == 0:
        told = json.loads(ended.stdout)
        print(_line(name, told), flush=True)
        for kind, path in told["faults"].items():
            print(f"FAULT      {name}: {kind}\n           {_again(name, path)}", flush=True)
        return len(told["faults"])
    path = keep_input(folder / "faults" / name, Pending.read(folder / f"{name}.pending"))
    why = f"ended with {ended.returncode}"
    if ended.returncode == -signal.SIGALRM:
        why = f"did not end within {INPUT_SECONDS:.0f} s"
    elif ended.returncode < 0:
        why = f"was ended by {signal.Signals(-ended.returncode).name}"
    print(f"FAULT      {name}: {why}\n           {_again(name, path)}", flush=True)
    return 1


def _line(name: str, told: dict[str, Any]) -> str:
    return (
        f"{name:10} {told['runs']:>11,} inputs, {told['edges']:,} edges reached, "
        f"{told['kept']:,} inputs kept, {figures.size(told['peak'])} of memory"
    )


def _again(name: str, path: object) -> str:
    return f"python -m ops.fuzz --target '{name}' --input {path}"


def _all_bombs() -> Iterator[str]:
    """What each bomb costs, in two sizes."""
    for name, bomb in bombs.BOMBS.items():
        short, long = (bombs.measured(name, size) for size in _BOMB_BYTES[bomb.is_for_python])
        if short is None or long is None:
            yield f"FAULT      {name}: takes far too long, or more memory than there is"
            continue
        growth = max(long.seconds, _LEAST_SECONDS) / max(short.seconds, _LEAST_SECONDS)
        growth /= long.size / short.size
        times = max(0, long.peak - SOME_MEMORY) / long.size
        verdict = "FAULT" if growth > _MOST_GROWTH or times > MOST_MEMORY else "bomb"
        yield (
            f"{verdict:10} {name:36} {long.seconds / long.size * 1e9:8,.0f} ns and "
            f"{long.peak / long.size:5.1f} bytes of memory a byte: {long.outcome[:60]}"
        )


if __name__ == "__main__":
    sys.exit(main())
