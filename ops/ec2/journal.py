"""What happens on an instance, line by line: in its own file and in CloudWatch Logs.

Takes the lines that commands of the run print, and the member's own sentences, which go to its
standard output as well. Nothing that goes wrong with a line is a reason for anything else to.
"""

import contextlib
import os
import threading
import time
from pathlib import Path

from ops.ec2 import runlog
from tasks import run_log


class Journal:
    """The file `run.log` of this machine, and the log stream of the instance."""

    def __init__(self, path: Path, group: str, instance: str, region: str) -> None:
        self._path = path
        self._shipper = runlog.Shipper(group, f"{runlog.PREFIX}{instance}", region)
        self._lock = threading.Lock()

    def line(self, text: str) -> None:
        """Keep a line that a command has printed; may be called by any thread."""
        self._shipper.line(text)
        with self._lock:
            run_log.append(self._path, _stamped(text))

    def say(self, sentence: str) -> None:
        """Keep a sentence of the member's own."""
        with contextlib.suppress(OSError):
            print(_stamped(sentence), flush=True)
        self.line(f"[member] {sentence}")

    def close(self) -> None:
        """Send what is left."""
        self._shipper.close()


def path_on_instance() -> Path:
    """Where an instance keeps its lines."""
    return Path(os.environ.get("BUSTIMES_HOME", "/opt/bustimes")) / "log" / "run.log"


def _stamped(text: str) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}  {text}"
