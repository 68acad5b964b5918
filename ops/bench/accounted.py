"""One of our own commands, with what its converter processes cost by themselves.

``python -m ops.bench.accounted FILE full --weeks 2021-W45`` is ``python -m ops full …`` and then
writes to FILE the CPU seconds of the processes that it started and waited for, as the system counts
them: all else that the command costs is scheduling, Luigi, progress, manifest and checksums.
"""

import json
import resource
import sys
from pathlib import Path

from ops.__main__ import main as command


def main() -> int:
    file, *arguments = sys.argv[1:]
    exit_code = command(arguments)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    Path(file).write_text(json.dumps({"converters": used.ru_utime + used.ru_stime}))
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
