"""`make prune`: what may be deleted of the raw side and what that saves, and its deletion.

Says what would be done and by which command, or does it and says what was done. What may go, and
how it is deleted, `tasks.bustimes.prune` knows.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from tasks import advice, figures
from tasks.bustimes.archive import Archive
from tasks.bustimes.plan import PER_GB_MONTH
from tasks.bustimes.prune import (
    Candidate,
    Pruned,
    code_of,
    look_at_all,
    must_be_allowed,
    must_be_of_s3,
    prune,
)
from tasks.problem import Problem
from tasks.settings import variable_of
from tasks.storage.deletion import keeps_versions
from tasks.storage.s3 import S3Prefix
from tasks.weeks import Week, ranges


class Progress(Protocol):
    """What a bar must be able to do."""

    def update(self, number: int = 1, /) -> object: ...
    def close(self) -> object: ...


Bar = Callable[[int, str, str], Progress]
"""Makes a bar of so many units, with a title and the unit's name."""


@dataclass(frozen=True)
class Choice:
    """What was asked for: the weeks, and as they were given to make."""

    weeks: list[Week]
    given: dict[str, str]


def say_what_may_go(archive: Archive, choice: Choice, candidates: list[Candidate]) -> Iterator[str]:
    """The lines of `make prune` without CONFIRM."""
    source = must_be_of_s3(archive)
    yield f"archive    {archive.destination.url}, from {archive.source.url}"
    going = [one for one in candidates if one.may_go]
    versions = keeps_versions(source) if going else False
    for run in _runs(going):
        yield f"may go     {_what(run)}; {_saves(run, versions)}"
    if len(_runs(going)) > 1:
        yield f"in all     {_what(going)}; {_saves(going, versions)}"
    if not going:
        yield "may go     nothing"
    done = [one.week for one in candidates if one.is_done]
    if done:
        yield f"pruned     {ranges(done)}: deleted already"
    for why, weeks in _reasons(candidates).items():
        yield f"stays      {ranges(weeks)}: {why}."
    if not going:
        return
    yield from _about_versions(source, versions)
    yield "Nothing was deleted. This deletes it for good; restore gives back what is deleted:"
    yield f"  {_command(archive, choice, f'{source.bucket}:{code_of(archive, candidates)}')}"


def delete(
    archive: Archive,
    confirm: str,
    candidates: list[Candidate],
    say: Callable[[str], object],
    bar: Bar,
) -> int:
    """Delete what may go, week by week; returns the exit code."""
    code = must_be_allowed(archive, confirm)
    if code_of(archive, candidates, code) != code:
        raise Problem(
            f"CONFIRM={confirm} stands for other weeks or snapshots than these: something has "
            "changed since it was printed, or other weeks were asked for. Nothing was deleted; "
            "this command without CONFIRM shows what would be, and prints it anew."
        )
    going = [one for one in candidates if one.may_go]
    for why, weeks in _reasons(candidates).items():
        say(f"stays      {ranges(weeks)}: {why}.")
    if not going:
        done = [one for one in candidates if one.is_done]
        say("Nothing is left to delete." if done else "Nothing may be deleted.")
        return 0 if done else 1
    progress = bar(sum(len(one.entries) for one in going), "prune", "snapshot")
    pruned: dict[Week, Pruned] = {}
    failed: list[str] = []
    try:
        for one in going:
            try:
                pruned[one.week] = prune(archive, one.week, progress.update, one, code)
            except Problem as problem:
                failed.append(str(problem))
                if not pruned:
                    break  # it is no matter of that week alone, as a rule
    finally:
        progress.close()
    source = must_be_of_s3(archive)
    for line in (*_done(pruned, source, keeps_versions(source)), *failed):
        say(line)
    return 1 if failed or any(one.late for one in pruned.values()) else 0


def candidates_of(archive: Archive, weeks: list[Week], bar: Bar) -> list[Candidate]:
    """A look at each of the weeks."""
    must_be_of_s3(archive)
    progress = bar(len(weeks), "look", "week")
    try:
        return look_at_all(archive, weeks, progress.update)
    finally:
        progress.close()


def _done(pruned: dict[Week, Pruned], source: S3Prefix, versions: bool | None) -> Iterator[str]:
    objects = sum(one.objects for one in pruned.values())
    if deleted := [week for week, one in pruned.items() if one.objects]:
        yield (
            f"Deleted {figures.count(objects, 'raw snapshot')}, "
            f"{figures.size(_bytes(pruned.values()))}, of {ranges(deleted)}: "
            f"{_saves(pruned.values(), versions)}. The week files stand for them: verify goes "
            "on checking those, and restore gives the snapshots back."
        )
        yield from _about_versions(source, versions)
    if gone := [week for week, one in pruned.items() if not one.objects and not one.late]:
        yield f"Of {ranges(gone)} nothing was left to delete: another prune has done it."
    for week, one in pruned.items():
        if one.late:
            count = figures.count(one.late, "raw snapshot")
            verify = advice.make("verify", WEEKS=week)
            yield f"{week}: {count} changed meanwhile and stay: {verify} says what to do."


def _runs(candidates: Iterable[Candidate]) -> list[list[Candidate]]:
    """Weeks that follow each other, drawn together."""
    runs: list[list[Candidate]] = []
    for one in candidates:
        if runs and runs[-1][-1].week.next == one.week:
            runs[-1].append(one)
        else:
            runs.append([one])
    return runs


def _what(candidates: list[Candidate]) -> str:
    objects = sum(len(one.entries) for one in candidates)
    return (
        f"{ranges([one.week for one in candidates])} "
        f"({figures.count(len(candidates), 'week')}): {figures.count(objects, 'raw snapshot')}, "
        f"{figures.size(_bytes(candidates))}"
    )


def _bytes(weeks: Iterable[Candidate | Pruned]) -> int:
    return sum(one.bytes for one in weeks)


def _saves(weeks: Iterable[Candidate | Pruned], versions: bool | None) -> str:
    """What their deletion saves, and when: the same before it and after."""
    a_month = _bytes(weeks) / 1e9 * PER_GB_MONTH
    money = f"{_dollars(a_month)} a month, {_dollars(12 * a_month)} a year"
    return f"saves {money}{', once old versions are gone' if versions else ''}"


def _about_versions(source: S3Prefix, versions: bool | None) -> Iterator[str]:
    if versions:
        yield (
            f"versions   {source.bucket} keeps old versions: what is deleted stays there as one, "
            "and costs as much until a lifecycle rule of the bucket removes it."
        )
    elif versions is None:
        yield (
            f"versions   whether {source.bucket} keeps old versions, which cost as much, is not "
            "known: s3:GetBucketVersioning is denied."
        )


def _dollars(amount: float) -> str:
    return f"${amount:,.2f}" if amount >= 0.005 or not amount else "less than a cent"


def _reasons(candidates: list[Candidate]) -> dict[str, list[Week]]:
    """The weeks that may not go, by why; the most frequent reason first."""
    found: dict[str, list[Week]] = {}
    for one in candidates:
        if one.why_not:
            found.setdefault(one.why_not, []).append(one.week)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def _command(archive: Archive, choice: Choice, confirm: str) -> str:
    given = dict(choice.given)
    is_set = archive.settings.allow_prune
    if not is_set or os.environ.get(variable_of("bustimes", "allow_prune")):
        given["ALLOW_PRUNE"] = "true"
    return advice.make("prune", **given, CONFIRM=confirm)
