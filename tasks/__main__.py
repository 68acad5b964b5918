"""`python -m tasks`: what can be run under plain luigi, and as it runs there."""

import os
import sys

_HELP = """\
usage: python -m tasks TASK [--option value ...]

The Luigi tasks of the archive; the same as luigi --module tasks TASK ...

  WeekTask   one ISO week as one checked file:         --week 2021-W45
  AllWeeks   every finished week, or those chosen:     --weeks 2018-W25,2021-W45, or --from and --to
  Verify     AllWeeks, and then whether all is right:  the same, and --deep, --share 0.01

  --local-scheduler   without luigid; otherwise it must run (make luigid starts it)
  --workers 2         weeks at the same time
  --help              behind a task: all its options

Where raw snapshots come from and week files go to is set in luigi.cfg, or for one run as
BUSTIMES_SOURCE and BUSTIMES_DESTINATION. make help lists the commands that do all of this for you.
"""


def main(arguments: list[str]) -> None:
    """Print the help, or become luigi."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_HELP, end="")
        return
    luigi = [sys.executable, "-m", "luigi", "--module", "tasks", *arguments]
    os.execv(sys.executable, luigi)


if __name__ == "__main__":
    main(sys.argv[1:])
