"""The command line: hours or years of synthetic snapshots in a folder.

The module knows its options and which of their values make sense together with a week. It
promises one sentence instead of a traceback for what cannot be met (exit code 2) and when it is
stopped (130). It never makes a snapshot itself.
"""

import argparse
import datetime as dt
import sys
from pathlib import Path

from tasks.bustimes.synthetic.bodies import write_folder
from tasks.problem import Problem
from tasks.weeks import Week


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tasks.bustimes.synthetic",
        description="Write made-up snapshots of TriMet vehicles to FOLDER/raw/, as the collector "
        "wrote them. The same arguments give the same files.",
    )
    add = parser.add_argument
    add("folder", metavar="FOLDER", type=Path, help="is made where it does not exist")
    add("--from", dest="first", metavar="WEEK", required=True, help="ISO week, such as 2021-W45")
    add("--hours", type=float, default=168, help="from Monday 00:00 UTC on (%(default)s: a week)")
    add("--interval", type=int, default=60, help="seconds between snapshots (%(default)s)")
    add("--vehicles", type=int, default=275, help="at the busiest time of day (%(default)s)")
    add("--seed", type=int, default=0, help="another number, another fleet (%(default)s)")
    add("--unreadable", type=int, default=0, help="snapshots that cannot be read (%(default)s)")
    given = parser.parse_args(arguments)
    try:
        week = Week.parse(given.first)
        if not 2000 <= week.year <= 2999:
            raise Problem(f"{week} is too far away: choose a week of the years 2000 to 2999.")
        if not 0 < given.hours <= 20 * 366 * 24:
            raise Problem(f"The hours are more than 0 and at most 20 years, not {given.hours}.")
        count = write_folder(
            given.folder,
            week.start,
            week.start + dt.timedelta(hours=given.hours),
            progress=True,
            interval_seconds=given.interval,
            vehicles=given.vehicles,
            seed=given.seed,
            unreadable=given.unreadable,
        )
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped. Run it again to complete the folder.", file=sys.stderr)
        return 130
    print(f"{count:,} snapshots are in {given.folder / 'raw'}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
