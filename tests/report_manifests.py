"""Made-up archives for the report: manifests and week files' names of any number of years.

What they tell is as a real archive's: more vehicles on weekdays than at night, a year in which
fewer went, hours, days and weeks without a collector, fields that come, change and go, snapshots
that were set aside, retries. Nothing is converted; week files have the right size and no content.
"""

import datetime as dt
import hashlib
import json
import math
import os
import random
from pathlib import Path
from typing import Any

from tasks.weeks import Week, span

REASONS = ("it ends in the middle (cut off)", "its root is no list", "it is 71 MB long")
_VEHICLES = 690


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _fields(week: Week, records: int) -> dict[str, dict[str, int]]:
    def kinds(kind: str, null: float = 0.0) -> dict[str, int]:
        nulls = int(records * null)
        return {name: count for name, count in (("null", nulls), (kind, records - nulls)) if count}

    found = {
        "vehicleID": kinds("integer"),
        "type": kinds("text"),
        "signMessageLong": kinds("text", 0.02),
        "latitude": {"number": records - records // 900, "integer": records // 900},
        "longitude": kinds("number"),
        "bearing": kinds("integer", 0.001),
        "delay": kinds("integer", 0.08),
        "newTrip": kinds("boolean"),
        "inCongestion": kinds("null"),
        "routeNumber": kinds("integer", 0.05),
        "tripID": kinds("integer" if week < Week(2018, 36) else "text", 0.05),
        "time": kinds("integer"),
        "expires": kinds("integer"),
    }
    if week >= Week(2019, 22):
        found["loadPercentage"] = kinds("integer", 0.4)
    if week < Week(2022, 10):
        found["extraBlockID"] = kinds("text", 0.97)
    if Week(2020, 40) <= week < Week(2021, 3):
        found["source"] = kinds("list")
    if week.number % 26 == 7:
        found["messageCode"] = kinds("integer", 0.99)
    return found


def manifest(week: Week, version: int = 2, seed: int = 1) -> dict[str, Any]:
    """One week's manifest, of a collector that did not fail."""
    chance = random.Random(f"{seed} {week}")
    fewer = 0.72 if Week(2020, 13) <= week < Week(2021, 30) else 1.0
    fewer *= (0.93 + week.year % 4 / 40) * chance.uniform(0.985, 1.015)
    fewer *= 0.86 if week.number in (1, 52) else 1.0
    hours, offset = [], 0
    for date in week.dates:
        for hour in range(24):
            busy = 0.28 + 0.72 * max(0.0, math.sin(math.pi * (hour - 4) / 19)) ** 0.6
            weekend = 0.68 if date.weekday() > 4 else 1.0
            lines = int(60 * 430 * busy * weekend * fewer * chance.uniform(0.97, 1.03))
            size = int(lines * 47 * chance.uniform(0.95, 1.05))
            one = {"hour": f"{date}T{hour:02}", "snapshots": 60, "lines": lines}
            one |= {"offset": offset, "bytes": size}
            hours.append(one | ({"raw_bytes": lines * 690} if version > 1 else {}))
            offset += size
    return _summed(week, hours, version, chance)


def _summed(
    week: Week, hours: list[dict[str, Any]], version: int, chance: random.Random
) -> dict[str, Any]:
    records = sum(hour["lines"] for hour in hours)
    size = sum(hour["bytes"] for hour in hours)
    snapshots = sum(hour["snapshots"] for hour in hours)
    made = {
        "week": str(week),
        "week_over": True,
        "order": "vehicle",
        "compression_level": 0,
        "snapshots": snapshots,
        "raw_bytes": records * 690,
        "records": records,
        "tokenized": 0,
        "first_snapshot": f"{hours[0]['hour']}:00:05+00:00",
        "last_snapshot": f"{hours[-1]['hour']}:59:05+00:00",
        "listing_sha256": _sha256(f"listing of {week}"),
        "refused": [],
        "output": {
            "file": f"{week}.jsonl.gz",
            "bytes": size,
            "uncompressed_bytes": records * 600,
            "lines": records,
            "sha256": _sha256(f"file of {week}"),
            "s3_sha256": "",
        },
        "hours": hours,
        "version": version,
    }
    if version > 1:
        seconds = records * 690 / chance.gauss(205e6, 18e6)
        get = {"requests": snapshots, "attempts": snapshots, "bytes": records * 690}
        get |= {"seconds": seconds * 18, "retries": {}}
        if chance.random() < 0.07:
            get["retries"] = {"SlowDown": chance.randint(1, 160), "reset": chance.randint(0, 6)}
            get["attempts"] += sum(get["retries"].values())
        put = {"requests": 23, "attempts": 23, "bytes": size, "seconds": 4.1, "retries": {}}
        made["vehicles"] = int(_VEHICLES * (1 + (week.year - 2020) / 60) * chance.uniform(0.98, 1))
        made["fields"] = _fields(week, records)
        made["conversion"] = {"seconds": seconds, "requests": {"GET": get, "PUT": put}}
    return made


def damaged_by_time(week: Week, made: dict[str, Any], seed: int = 1) -> dict[str, Any]:
    """The same week with the hours missing in which the collector was down, and bad bodies."""
    chance = random.Random(f"{seed} outages {week}")
    hours = made["hours"]
    if chance.random() < 0.10:
        start, length = chance.randrange(168), int(chance.expovariate(1 / 14)) + 1
        hours = [hour for at, hour in enumerate(hours) if not start <= at < start + length]
    if chance.random() < 0.06:
        for hour in chance.sample(hours, k=min(len(hours), 20)):
            hour["snapshots"] = chance.randint(3, 50)
    if not hours:
        return made
    again = _summed(week, hours, made["version"], random.Random(f"{seed} {week} again"))
    if chance.random() < 0.05:
        for _ in range(chance.randint(1, 4)):
            when = dt.datetime.fromisoformat(chance.choice(hours)["hour"])
            key = f"raw/bustimes__{when:%Y-%m-%d__%H}-{chance.randrange(60):02}-05.json"
            one = {"key": key, "bytes": chance.randint(0, 90_000), "reason": chance.choice(REASONS)}
            again["refused"].append(one)
    return again


def write(folder: Path, made: dict[str, Any], file: bool = True) -> None:
    """Put a manifest, and a week file of the right size, into an archive that is a folder."""
    (folder / "_manifests").mkdir(parents=True, exist_ok=True)
    (folder / f"_manifests/{made['week']}.json").write_text(json.dumps(made, indent=1))
    if file:
        with (folder / made["output"]["file"]).open("wb") as empty:
            os.truncate(empty.fileno(), made["output"]["bytes"])


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def proof(made: dict[str, Any], share: float = 1.0, when: str = "2026-11-15T04:10:00Z") -> Any:
    """What verify leaves of a week that it has found good."""
    return {
        "version": 1,
        "week": made["week"],
        "sha256": made["output"]["sha256"],
        "listing_sha256": made["listing_sha256"],
        "share": share,
        "snapshots": made["snapshots"],
        "records": made["records"],
        "when": when,
        "readers": 2,
    }


def write_years(folder: Path, first: Week, last: Week, old: Week | None = None) -> None:
    """Years of weeks with all that happens in years; those before `old` of version 1."""
    weeks = list(span(first, last))
    lost = {weeks[len(weeks) * share // 100] for share in (23, 71, 72)} if len(weeks) > 50 else ()
    for at, week in enumerate(weeks):
        if week in lost:
            continue
        version = 1 if old is not None and week < old else 2
        made = damaged_by_time(week, manifest(week, version))
        write(folder, made)
        if at % 9 or len(weeks) < 50:
            share = 1.0 if at < len(weeks) * 0.6 else 0.02
            write_json(folder / f"_verified/{week}.json", proof(made, share))
        if at < len(weeks) // 8:
            pruned = {
                "version": 1,
                "week": str(week),
                "listing_sha256": made["listing_sha256"],
                "sha256": made["output"]["sha256"],
                "objects": made["snapshots"],
                "bytes": made["raw_bytes"],
                "began": "2026-11-16T10:00:00Z",
                "ended": "2026-11-16T10:00:09Z" if at < len(weeks) // 8 - 1 else None,
            }
            write_json(folder / f"_pruned/{week}.json", pruned)
