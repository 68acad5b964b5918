"""What the runs work on: an S3 server of its own, raw snapshots of three weeks, and what is due.

The weeks are small, and have what makes publishing long: several parts, a refused snapshot, an
inventory, a record that needs Python's parsers. Parts are of a few KB here, for which the server's
least size of a part is made small.
"""

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3

from ops import embedded_s3
from tasks.bustimes import synthetic
from tasks.bustimes.snapshot import key_of
from tasks.weeks import Week
from tests.conftest import PROJECT, free_port
from tests.processes_under_test import Process, is_gone

WEEKS = [Week(2018, 25), Week(2021, 45), Week(2021, 46)]
LABELS = ",".join(map(str, WEEKS))
PART_BYTES = 6144
_KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
_BEGIN = (
    f"import runpy, sys; from tasks.storage import checksum; checksum.PART_BYTES = {PART_BYTES}; "
)
OPS = f"{_BEGIN} runpy.run_module('ops', run_name='__main__')"
FULL = ["-c", OPS, "full", "--local-scheduler", "--weeks", LABELS]
LUIGI = f"import luigi; {_BEGIN} from luigi.cmdline import luigi_run; sys.exit(luigi_run())"


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """An embedded S3 server that takes small parts; its URL."""
    service = embedded_s3.make_service(folder, free_port())
    small = {"S3_UPLOAD_PART_MIN_SIZE": "1", "MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(1 << 20)}
    service = dataclasses.replace(service, env={**service.env, **small})
    service.start()
    yield f"http://127.0.0.1:{service.port}"
    service.stop()


def raw_snapshots() -> dict[str, bytes]:
    """Three hours of each week, both formats, by key."""
    bodies = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for week in WEEKS:
            end = week.start.replace(hour=3)
            options = {"interval_seconds": 1200, "vehicles": 25, "unreadable": 1}
            synthetic.write_folder(folder, week.start, end, **options)
            odd = [{"vehicleID": "12\u00e9", "signMessage": "\ud83d", "delay": None}]
            (folder / key_of(week.start.replace(hour=1, minute=7))).write_text(json.dumps(odd))
        for path in (folder / "raw").iterdir():
            bodies[f"raw/{path.name}"] = path.read_bytes()
    return bodies


def late_snapshots() -> dict[str, bytes]:
    """What makes all weeks but the first stale."""
    body = json.dumps([{"vehicleID": 7, "delay": number} for number in range(20)]).encode()
    return {key_of(week.start.replace(hour=2, minute=33)): body for week in WEEKS[1:]}


class Run(Process):
    """A command whose parts of an upload are small, with what it starts."""

    def __init__(
        self,
        said: Path,
        command: list[str],
        environment: dict[str, str],
        preexec: Callable[[], None] | None,
    ) -> None:
        self._said = said
        with said.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, *command],
                cwd=PROJECT,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                preexec_fn=preexec,
            )
        self.pid = self._process.pid

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def code(self) -> int:
        return self._process.wait()

    def loaders(self) -> list[int]:
        """The programs that converters are forks of."""
        forks = self.converters()
        return [pid for pid, line in self.others().items() if _converts(line) and pid not in forks]

    def workers(self) -> list[int]:
        """luigi's forks, one for each week under way where there are several at once."""
        return [pid for pid, line in self.others().items() if not _converts(line)]

    def kill_all(self) -> None:
        """What a power cut does, as far as processes go."""
        for pid in (self.pid, *self.others()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _converts(line: str) -> bool:
    return "tasks.bustimes.converter" in line


class World:
    """A bucket behind a front, with a spool; everything in it is looked at past the front."""

    def __init__(self, server_url: str, front_url: str, folder: Path, bucket: str) -> None:
        self.folder = folder
        self.spool = folder / "spool"
        self.state = folder / "state"
        self._bucket: Any = boto3.resource(
            "s3", region_name="us-east-1", endpoint_url=server_url, **_KEYS
        ).Bucket(bucket)
        self._bucket.create()
        self.environment = {
            "AWS_ENDPOINT_URL_S3": front_url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "BUSTIMES_SOURCE": f"s3://{bucket}",
            "BUSTIMES_DESTINATION": f"s3://{bucket}/v2",
            "BUSTIMES_SPOOL": str(self.spool),
            "LOCAL_STATE": str(self.state),
        }
        self._raw: dict[str, bytes] = {}

    def fill(self, bodies: dict[str, bytes], keep: bool = False) -> None:
        """Have these raw snapshots in the bucket, and what was made of others only to `keep` it."""
        there = self.objects().keys()
        for key in there - bodies.keys():
            if not keep:
                self._bucket.Object(key).delete()
        for key in bodies.keys() - there:
            self._bucket.put_object(Key=key, Body=bodies[key])
        self._raw = bodies

    def start(
        self,
        command: list[str],
        said: Path,
        preexec: Callable[[], None] | None = None,
        **environment: str,
    ) -> Run:
        return Run(said, command, self.environment | environment, preexec)

    def luigid(self) -> list[int]:
        """The process number of the luigid that a run has started, if it is there."""
        with contextlib.suppress(OSError, ValueError):
            pid = int(json.loads((self.state / "luigid/luigid.pid").read_text())["pid"])
            return [] if is_gone(pid) else [pid]
        return []

    def objects(self) -> dict[str, str]:
        """Every object of the bucket by key, with its ETag."""
        return {one.key: one.e_tag for one in self._bucket.objects.all()}

    def made(self) -> dict[str, bytes]:
        """What the runs have made; manifests without what no two conversions have in common."""
        keys = [key for key in self.objects() if key not in self._raw]
        made = {key: self._bucket.Object(key).get()["Body"].read() for key in keys}
        return {key: _comparable(key, body) for key, body in made.items()}

    def uploads(self) -> list[str]:
        """Uploads in parts that were begun and neither completed nor given up."""
        return [upload.object_key for upload in self._bucket.multipart_uploads.all()]

    def spooled(self) -> list[str]:
        """Files of the spool, locks too, and the weeks that have a folder there."""
        found = [
            path for path in self.spool.rglob("*") if path.is_file() or path.name in map(str, WEEKS)
        ]
        return sorted(str(path.relative_to(self.spool)) for path in found)

    def check(self, due: dict[str, bytes]) -> None:
        """All is as an undisturbed run leaves it, and nothing else is there."""
        made = self.made()
        different = [key for key in due if made.get(key) != due[key]]
        assert (sorted(made), different) == (sorted(due), []), "not what is due"
        assert self._raw.keys() <= self.objects().keys(), "raw snapshots are gone"
        assert self.uploads() == [], "uploads are left open"
        assert self.spooled() == [], "something is left in the spool"


def _comparable(key: str, body: bytes) -> bytes:
    if not re.search(r"/_manifests/[^/]*\.json$", key):
        return body
    manifest = json.loads(body)
    del manifest["conversion"]
    return json.dumps(manifest).encode()
