"""What the bench converts: a synthetic week, and of it one day in each format and one snapshot.

`prepare` makes 2021-W45, in which Tuesday is Python 2 ``repr`` and Thursday JSON, or the same hours
of each of its days, and keeps it for the next run. The snapshots are `tasks.bustimes.synthetic`'s,
but for one thing: in each of them exactly one record, in the middle, has apostrophes, quotes and
escapes in it, which is what makes reading ``repr`` slow. The same arguments give the same bytes.
"""

import ast
import datetime as dt
import hashlib
import json
import os
import re
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks import figures
from tasks.bustimes import synthetic
from tasks.bustimes.snapshot import time_of
from tasks.progress import say
from tasks.settings import PROJECT
from tasks.weeks import Week

WEEK = Week(2021, 45)
REPR_DAY, JSON_DAY = 1, 3  # Tuesday and Thursday: the format changes on Wednesday
VEHICLES = 345
"""For about 245 MB a day, the mean of both formats."""

_BUSY_HOUR = 16  # of UTC: morning in Portland, where a sample of a day begins
_BETWEEN_RECORDS = b"}, {"
_PLAIN = re.compile(r"[^A-Za-z0-9 .&/-]")
_ODD_TEXT = '14  Men\'s "Old Mill" Shelter to Caf\xe9 Montr\xe9al\u2019s Dock 4\\5 \U0001f68a'
_STAMP = "complete.json"


@dataclass(frozen=True)
class Recipe:
    """What decides the bytes: hours of each day, vehicles, and the programs that make them."""

    hours: int
    vehicles: int
    program: str

    @classmethod
    def of(cls, hours: int, vehicles: int) -> "Recipe":
        digest = hashlib.sha256()
        sources = sorted((PROJECT / "tasks/bustimes/synthetic").glob("*.py"))
        for path in [*sources, Path(__file__)]:
            digest.update(path.read_bytes())
        return cls(hours, vehicles, digest.hexdigest()[:16])


@dataclass(frozen=True)
class Sample:
    """One of the folders of snapshots; `name` is also that of its bucket at the endpoint."""

    name: str
    folder: Path

    @property
    def files(self) -> list[Path]:
        """Every snapshot, in order of time."""
        return sorted((self.folder / "raw").iterdir())

    def raw_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files)

    def __str__(self) -> str:
        size = figures.size(self.raw_bytes())
        return f"{self.name}: {figures.count(len(self.files), 'snapshot')}, {size}"


@dataclass(frozen=True)
class Data:
    """The days and the week that holds them."""

    folder: Path
    hours: int

    @property
    def repr_day(self) -> Sample:
        return Sample("repr-day", self.folder / "repr-day")

    @property
    def json_day(self) -> Sample:
        return Sample("json-day", self.folder / "json-day")

    @property
    def week(self) -> Sample:
        return Sample("week", self.folder / "week")

    @property
    def one_snapshot(self) -> Sample:
        """What takes hardly more than to start."""
        return Sample("one-snapshot", self.folder / "one-snapshot")

    @property
    def samples(self) -> list[Sample]:
        return [self.one_snapshot, self.repr_day, self.json_day, self.week]


def prepare(folder: Path, hours: int, vehicles: int) -> Data:
    """The data in `folder`, made unless an earlier run has left the same there."""
    recipe = Recipe.of(hours, vehicles)
    data = Data(folder, hours)
    stamp = folder / _STAMP
    if not stamp.exists() or json.loads(stamp.read_text()) != asdict(recipe):
        say(f"Making {figures.count(7 * 60 * hours, 'synthetic snapshot')} in {folder} (once) …")
        shutil.rmtree(folder, ignore_errors=True)
        for sample in data.samples:
            (sample.folder / "raw").mkdir(parents=True)
        with ProcessPoolExecutor() as processes:
            jobs = [
                processes.submit(_write_day, data.week.folder, day, hours, vehicles)
                for day in range(7)
            ]
            for job in jobs:
                job.result()
        _pick_days(data)
        stamp.write_text(json.dumps(asdict(recipe)))
    return data


def with_one_odd_record(body: bytes) -> bytes:
    """A synthetic body with apostrophes, quotes and escapes in its middle record and no other."""
    if len(body) <= len(b"[]"):
        return body  # nobody drove
    records = body[2:-2].split(_BETWEEN_RECORDS)
    is_json = records[0].startswith(b'"')
    odd = re.compile(rb"['\\]" if is_json else rb'["\\]')
    for index, record in enumerate(records):
        in_the_middle = index == len(records) // 2
        if not in_the_middle and odd.search(record) is None:
            continue
        text = (b"{" + record + b"}").decode()
        fields = json.loads(text) if is_json else ast.literal_eval(text)
        for name, value in fields.items():
            if isinstance(value, str):
                fields[name] = _PLAIN.sub("", value)
        if in_the_middle:
            fields["signMessageLong"] = _ODD_TEXT
        written = json.dumps(fields).encode() if is_json else synthetic.python2_repr(fields)
        records[index] = written[1:-1]
    return b"[{" + _BETWEEN_RECORDS.join(records) + b"}]"


def _write_day(folder: Path, day: int, hours: int, vehicles: int) -> None:
    start = WEEK.start + dt.timedelta(days=day, hours=min(_BUSY_HOUR, 24 - hours))
    end = start + dt.timedelta(hours=hours)
    for key, body in synthetic.snapshots(start, end, vehicles=vehicles):
        (folder / key).write_bytes(with_one_odd_record(body))


def _pick_days(data: Data) -> None:
    """The days of their own are the same files once more, without their bytes."""
    picked = {
        WEEK.dates[REPR_DAY]: data.repr_day.folder,
        WEEK.dates[JSON_DAY]: data.json_day.folder,
    }
    for path in data.week.files:
        key = f"raw/{path.name}"
        time = time_of(key)
        if time is not None and time.date() in picked:
            os.link(path, picked[time.date()] / key)
    first = data.json_day.files[0]
    os.link(first, data.one_snapshot.folder / "raw" / first.name)
