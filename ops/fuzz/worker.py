"""One search in a process of its own: an input that crashes it, or never ends, ends nothing else.

Started by `ops.fuzz.__main__` as ``python -m ops.fuzz.worker TARGET SECONDS SEED FOLDER``. The
input that is being fed lies in a file meanwhile, for whoever finds the process dead. What the
search came to is printed as a line of JSON. Inputs that reached new code are kept in the folder,
and so are those with a fault, as small as they could be made.
"""

import json
import mmap
import resource
import signal
import struct
import sys
import time
from pathlib import Path

from ops.fuzz import kept, places, readers
from ops.fuzz.checked_kernel import CheckedKernel
from ops.fuzz.search import Fault, Search, keep_input, read_inputs, smaller
from ops.fuzz.targets import Target

KERNEL = "kernel.wasm"
"""The checked kernel in the folder, where there is one."""

INPUT_SECONDS = 20.0
_LONGEST_INPUT = 1 << 20
_MOST_FAULTS = 5


def all_targets(kernel: Path | None = None, seed: int = 0) -> dict[str, Target]:
    """Every target by its name; with the checked kernel, where one is given."""
    checked = CheckedKernel(kernel, seed) if kernel else None
    found = [
        readers.kernel_target(checked),
        readers.gzip_target(checked),
        *readers.python_targets(),
        *places.targets(),
        *kept.targets(),
    ]
    return {target.name: target for target in found}


class Pending:
    """The file with the input that is being fed, behind its length."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(4 + _LONGEST_INPUT))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)

    def note(self, data: bytes) -> None:
        """Note an input, and end this process if it is not done in time."""
        self._memory[: 4 + len(data)] = struct.pack("<I", len(data)) + data
        signal.setitimer(signal.ITIMER_REAL, INPUT_SECONDS)

    @staticmethod
    def read(path: Path) -> bytes:
        """The input that a process was fed when it ended."""
        noted = path.read_bytes()
        (length,) = struct.unpack("<I", noted[:4])
        return noted[4 : 4 + length]


def main(name: str, seconds: float, seed: int, folder: Path) -> None:
    kernel = folder / KERNEL
    target = all_targets(kernel if kernel.exists() else None, seed)[name]
    inputs = folder / "inputs" / name
    pending = Pending(folder / f"{name}.pending")
    search = Search(target, seed, read_inputs(inputs), before=pending.note)
    known, faults = len(search.kept), dict[str, str]()
    end = time.monotonic() + seconds
    for step in search.steps():
        if isinstance(step, Fault) and step.kind not in faults:
            least = smaller(target, step.data, before=pending.note)
            faults[step.kind] = str(keep_input(folder / "faults" / name, least))
            print(step.told, file=sys.stderr, flush=True)
        elif isinstance(step, bytes):
            keep_input(inputs, step)
        if time.monotonic() > end or len(faults) == _MOST_FAULTS:
            break
    signal.setitimer(signal.ITIMER_REAL, 0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = {
        "runs": search.runs,
        "edges": search.reached.edges,
        "kept": len(search.kept) - known,
        "peak": peak * (1 if sys.platform == "darwin" else 1024),
        "faults": faults,
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
