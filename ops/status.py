"""`make status`: how far things are, on one screen."""

import html
import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from ops import memory
from ops.logs import last_run
from ops.place import Place
from ops.service import Service
from tasks import advice, figures
from tasks.bustimes.archive import Archive
from tasks.bustimes.listing import weeks_with_snapshots
from tasks.bustimes.other_names import none_found
from tasks.problem import Problem
from tasks.weeks import Week, ranges

_LAST_LINES = 5


def lines(place: Place, weeks: list[Week]) -> Iterator[str]:
    """What there is to know, line by line."""
    archive = Archive.open()
    running = _running_weeks(place, archive)
    yield from _weeks(archive, weeks, running)
    waiting = archive.spool.waiting()
    held = figures.size(sum(week.bytes_held() for week in waiting))
    yield "spool     " + (
        f"{figures.count(len(waiting), 'week')} to upload, {held}: {advice.make('sync')}"
        if waiting
        else "nothing waits for upload"
    )
    archive.settings.spool.mkdir(parents=True, exist_ok=True)
    disk = shutil.disk_usage(archive.settings.spool)
    yield f"disk      {figures.size(disk.free)} free of {figures.size(disk.total)}"
    free = memory.available_bytes()
    yield f"memory    {figures.size(free)} free" if free is not None else "memory    not known here"
    for service in place.services:
        yield f"service   {service.name}: {_state(service)}"
    last = last_run(place.logs)
    if last is not None:
        yield f"log       {last.title}"
        yield f"          its last lines, in {last.path}:"
        for line in last.lines[-_LAST_LINES:]:
            yield f"          {line}"


def _state(service: Service) -> str:
    try:
        return f"http://127.0.0.1:{service.port}" if service.is_here() else "not running"
    except Problem as problem:
        return str(problem)


def _weeks(archive: Archive, weeks: list[Week], running: dict[str, list[str]]) -> Iterator[str]:
    archive.source.check_readable()
    archive.list_again()
    written = archive.weeks_written()
    missing = [week for week in weeks if week not in written]
    left = weeks_with_snapshots(archive.source, missing)
    done = len(weeks) - len(missing)
    share = done / (done + len(left)) if done or left else 1.0
    yield (
        f"weeks     {done:,} of {done + len(left):,} done ({share:.0%}) in "
        f"{archive.destination.url}, from {archive.source.url}"
    )
    if left:
        yield f"to do     {ranges(list(left))}"
    if not done and not left:
        yield f"nothing   {none_found(archive.source, weeks)}"
    for week, sentences in sorted(running.items()):
        yield f"running   {week}: {sentences[0]}"
    for sentence in sorted({one for sentences in running.values() for one in sentences[1:]}):
        yield f"          {sentence}"


def _running_weeks(place: Place, archive: Archive) -> dict[str, list[str]]:
    """The weeks under way and how far they and their run are, from luigid if it runs."""
    try:
        if not place.luigid.is_here():
            return {}
    except Problem:  # said below, where the services are
        return {}
    asked = urllib.request.Request(
        f"http://127.0.0.1:{place.luigid.port}/api/task_list",
        data=b'data={"status": "RUNNING", "upstream_status": ""}',
    )
    try:
        with urllib.request.urlopen(asked, timeout=5) as answer:
            tasks: dict[str, dict[str, Any]] = json.load(answer)["response"]
    except (urllib.error.URLError, OSError, ValueError, KeyError):
        return {}
    return {
        task["params"]["week"]: [
            f"{task.get('progress_percentage') or 0}%, {message[0]}",
            *message[1:],
        ]
        for name, task in tasks.items()
        if task.get("name") == "WeekTask" and name.endswith(f"_{archive.short_name}")
        for message in [html.unescape(task.get("status_message") or "starting").splitlines()]
    }
