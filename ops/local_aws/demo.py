"""`make demo-ec2`: the whole story of a run on EC2, on an AWS that is on this machine.

Fills a bucket with synthetic snapshots, then does what a person would do, with the commands that a
person would type and what they really print: setup, plan, full, a spot instance that AWS takes back
in the middle, status, logs, verify, teardown. Needs no account and costs nothing; everything is
gone in the end. The commands and the instances' own programs are the real ones; AWS is
`ops.local_aws`.
"""

import argparse
import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from ops.local_aws.handle import LocalAws
from tasks import figures
from tasks.bustimes import synthetic
from tasks.problem import Problem
from tasks.progress import in_terminal
from tasks.settings import PROJECT
from tasks.weeks import Week, span

_BUCKET = "bustimes-data"
_FIRST, _LAST = Week(2021, 38), Week(2021, 47)
_INSTANCES = 3
_INTERVAL_SECONDS, _VEHICLES = 3600, 250
_PUTS_AT_ONCE = 8
_WAIT_SECONDS = 120.0


class Demo:
    """The story, told step by step in a terminal."""

    def __init__(self, cloud: LocalAws, instances: int) -> None:
        self._cloud = cloud
        self._instances = instances
        self._s3 = cloud.client("s3")
        self._started = time.monotonic()

    def tell(self) -> None:
        """All of it; raises `Problem` where a command does not do what it should."""
        self._say(
            f"An AWS of this machine's own: {self._cloud.endpoint}. Its instances have "
            + ("network namespaces and " if self._cloud.network == "namespaces" else "")
            + "addresses of their own."
        )
        self._fill()
        self._say("What would it take? Nothing is made yet.")
        self._make("plan")
        self._say("One stack, one fleet. A second setup would change nothing.")
        self._make("setup")
        self._say("The run goes on by itself from here; this machine could be closed.")
        self._make("full", "KEEP=1")
        self._interrupt()
        self._wait_until(self._is_over, "the run to end")
        self._make("status")
        self._say("What the instances said:")
        self._make("logs", lines=12)
        self._say("Is it all there, and right?")
        self._make("verify", f"FROM={_FIRST}", f"TO={_LAST}")
        self._say("And everything away again, but the weeks.")
        self._make("teardown")
        self._make("status")
        keys = [
            one["Key"] for one in self._s3.list_objects_v2(Bucket=_BUCKET, Prefix="v2/")["Contents"]
        ]
        weeks = [key for key in keys if key.endswith(".jsonl.gz")]
        self._say(
            f"In the bucket: {figures.count(len(weeks), 'week')}. That took "
            f"{time.monotonic() - self._started:.0f} s; on EC2 it is the same, next to your bucket."
        )

    def _fill(self) -> None:
        self._s3.create_bucket(Bucket=_BUCKET)
        weeks = list(span(_FIRST, _LAST))
        snapshots = [
            one
            for week in weeks
            for one in synthetic.snapshots(
                week.start,
                week.start + dt.timedelta(days=2),
                interval_seconds=_INTERVAL_SECONDS,
                vehicles=_VEHICLES,
            )
        ]
        put = self._s3.put_object
        bar = tqdm(
            total=len(snapshots),
            desc="fill",
            unit=" snapshots",
            leave=False,
            disable=not in_terminal(),
        )
        with bar, ThreadPoolExecutor(_PUTS_AT_ONCE) as threads:
            for _ in threads.map(
                lambda one: put(Bucket=_BUCKET, Key=one[0], Body=one[1]), snapshots
            ):
                bar.update()
        size = sum(len(body) for _, body in snapshots)
        self._say(
            f"s3://{_BUCKET} gets {figures.count(len(snapshots), 'synthetic snapshot')} in "
            f"{figures.count(len(weeks), 'week')}, {figures.size(size)}."
        )

    def _interrupt(self) -> None:
        """AWS takes an instance back, once the run is well under way."""
        self._wait_until(lambda: self._weeks_done() >= 1, "the first week")
        at_work = sorted(self._cloud.machines())
        if len(at_work) < 2:
            return
        self._cloud.trouble("interrupt", instance=at_work[0], seconds=5)
        self._say(f"AWS wants {at_work[0]} back. The others go on, and the fleet gets another.")
        self._make("status")

    def _weeks_done(self) -> int:
        listed = self._s3.list_objects_v2(Bucket=_BUCKET, Prefix="v2/2").get("Contents", [])
        return len(listed)

    def _is_over(self) -> bool:
        answer = self._s3.get_object(Bucket=_BUCKET, Key="v2/_fleet/run.json")
        return str(json.load(answer["Body"])["state"]) != "running"

    def _wait_until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _WAIT_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise Problem(f"The demo has waited for {what} for {_WAIT_SECONDS:.0f} s in vain.")
            time.sleep(0.5)

    def _make(self, command: str, *options: str, lines: int | None = None) -> None:
        """Run a command as a person would, and show what it prints, or its last lines."""
        shown = f"make {command} ON=ec2{''.join(f' {one}' for one in options)}"
        if command in ("plan", "setup", "full"):
            shown += f" INSTANCES={self._instances}"
        print(f"\n\x1b[1m$ {shown}\x1b[0m" if sys.stdout.isatty() else f"\n$ {shown}", flush=True)
        arguments = {"KEEP=1": ["--keep"]}
        given = [part for one in options for part in arguments.get(one, _flag(one))]
        ran = subprocess.run(
            [sys.executable, "-m", "ops", command, "--on", "ec2", *given],
            cwd=PROJECT,
            env={
                **os.environ,
                **self._cloud.environment(),
                "EC2_INSTANCES": str(self._instances),
                "PYTHONPATH": str(PROJECT),
            },
            stdout=None if lines is None else subprocess.PIPE,
            text=True,
            check=False,
        )
        if lines is not None:
            print("\n".join(["…", *ran.stdout.splitlines()[-lines:]]), flush=True)
        if ran.returncode:
            raise Problem(f"{shown} ended with {ran.returncode}; the demo ends here.")

    def _say(self, sentence: str) -> None:
        mark = f"[{time.monotonic() - self._started:3.0f} s]"
        print(f"\n{mark} {sentence}", flush=True)


def _flag(option: str) -> list[str]:
    name, _, value = option.partition("=")
    return [f"--{name.lower()}", value]


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="bustimes-aws-") as folder:
        yield Path(folder)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ops.local_aws.demo",
        description="setup to teardown on EC2, on an AWS that is on this machine",
    )
    parser.add_argument("--instances", type=int, default=_INSTANCES, help="how many (%(default)s)")
    parser.add_argument(
        "--network",
        default="auto",
        choices=["auto", "namespaces", "loopback"],
        help="how instances get their addresses (%(default)s)",
    )
    parser.add_argument("--state", type=Path, metavar="FOLDER", help="keep the AWS's files here")
    options = parser.parse_args(arguments)
    try:
        with _folder(options.state) as folder, LocalAws(folder, options.network) as cloud:
            Demo(cloud, options.instances).tell()
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\nInterrupted. The AWS of this machine is gone, with all that was in it.",
            file=sys.stderr,
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
