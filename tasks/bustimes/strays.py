"""What looks like a snapshot and is not taken: a name that is almost right, or no file behind it.

A listing of a week sees all that begins with its dates; `survey` sees the rest of the source: dates
that there are not (30 February), other folders, other spellings, times before the first week and in
the future. It jumps over what the weeks list, so that it costs S3 a request for each month that has
snapshots and not one for each thousand of them. `not_ours` of the settings names what is none of
this archive's. Reads names only.
"""

import calendar
import datetime as dt
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice

from tasks import advice, figures
from tasks.bustimes.snapshot import PREFIXES, key_of, time_of
from tasks.storage import Root, StoredObject
from tasks.weeks import Week

FIRST_WEEK = Week(2016, 49)
"""The week of TriMet's first snapshot."""

_MOST = 10_000  # strays of one survey
_MOST_OTHERS = 1_000  # names of a folder that are nothing like a snapshot's, until it is left
_LAST = "\U0010fffd"  # sorts behind all that names are made of
_DATED = re.compile(rf"(?:{'|'.join(PREFIXES)})(\d{{4}})-(\d\d)-(\d\d)", re.ASCII)
_LIKE = re.compile(r"bustimes.*\d|\d{4}\D?\d\d\D?\d\d.*\.json", re.ASCII | re.DOTALL)
_WITH_TIME = re.compile(r"bustimes__\d{4}-\d\d-\d\d__\d\d-\d\d-\d\d(.*)", re.ASCII | re.DOTALL)
_NAMED = 5


@dataclass(frozen=True)
class Stray:
    """One that is not taken: its key and why, to follow "it".

    `is_taken` holds where it is another name of a file that is taken.
    """

    key: str
    why: str
    is_taken: bool = False

    def __str__(self) -> str:
        return f"{self.key if self.key.isprintable() else ascii(self.key)}: it {self.why}"


def stray_among_dates(entry: StoredObject) -> Stray | None:
    """What is wrong with an entry that begins as a snapshot's key of some date does."""
    if entry.no_file:
        return Stray(entry.key, f"is {entry.no_file}")
    return Stray(entry.key, _why(entry.key)) if time_of(entry.key) is None else None


def ours(strays: Iterable[Stray], not_ours: Collection[str]) -> list[Stray]:
    """Those that no pattern of `not_ours` names."""
    return [one for one in strays if not any(fnmatchcase(one.key, each) for each in not_ours)]


def survey(
    source: Root,
    destination: Root,
    listed: Collection[Week],
    asked: Collection[Week],
    now: dt.datetime,
    not_ours: Collection[str],
) -> list[Stray]:
    """What looks like a snapshot outside of the `listed` weeks, `_MOST` of it at most.

    Of the weeks that were `asked` for, those that are not `listed` are looked through as well.
    """
    here = _Survey(source, destination, set(listed), set(asked), Week.of(now), not_ours)
    return ours(islice(here.strays(), _MOST), not_ours)


class _Survey:
    """One walk through the names of a source."""

    def __init__(
        self,
        source: Root,
        destination: Root,
        listed: set[Week],
        asked: set[Week],
        current: Week,
        not_ours: Collection[str],
    ) -> None:
        self._source, self._listed, self._asked, self._current = source, listed, asked, current
        self._left_out = [one[:-1] for one in not_ours if one.endswith("*") and _is_plain(one[:-1])]
        outer, inner = source.address_of(""), destination.address_of("")
        if inner.startswith(outer) and inner != outer:
            self._left_out.append(inner.removeprefix(outer))
        self._others: dict[str, int] = {}

    def strays(self) -> Iterator[Stray]:
        for entry in self._source.survey(self._skip):
            if (stray := self._stray(entry)) is not None:
                yield stray
            else:
                top = entry.key.partition("/")[0]
                self._others[top] = self._others.get(top, 0) + 1

    def _skip(self, key: str) -> str:
        """How far to pass over what lies from this key on; nothing where it is to be looked at."""
        for prefix in self._left_out:
            if key.startswith(prefix):
                return prefix + _LAST
        top, slash, _ = key.partition("/")
        if slash and (top.startswith("_") or self._others.get(top, 0) >= _MOST_OTHERS):
            return f"{top}/{_LAST}"
        dated = _DATED.match(key)
        day = _date(dated) if dated else None
        if dated is None or day is None or not self._is_known(day):
            return ""
        last = calendar.monthrange(day.year, day.month)[1]
        while day.day < last and self._is_known(day + dt.timedelta(days=1)):
            day += dt.timedelta(days=1)
        return f"{key[: dated.start(1)]}{day.isoformat()}{_LAST}"

    def _is_known(self, day: dt.date) -> bool:
        """Whether somebody else lists a day, or nobody has asked for it."""
        week = Week.of(day)
        return week in self._listed or (
            week not in self._asked and FIRST_WEEK <= week <= self._current
        )

    def _stray(self, entry: StoredObject) -> Stray | None:
        key, time = entry.key, time_of(entry.key)
        if entry.no_file and (time is not None or key == "raw" or _is_like(key)):
            is_only_a_folder = entry.no_file == "a folder" and time is None
            return None if is_only_a_folder else Stray(key, f"is {entry.no_file}")
        if time is not None:
            if Week.of(time) < FIRST_WEEK:
                return Stray(key, f"is of a time before the first week, {FIRST_WEEK}")
            return Stray(key, "is of the future") if Week.of(time) > self._current else None
        return Stray(key, _why(key)) if _is_like(key) else None


def lines(strays: list[Stray], width: int) -> Iterator[str]:
    """What there is to say of strays: how many, some of them, what to do; `width` of the margin."""
    missed = [one for one in strays if not one.is_taken]
    doubled = [one for one in strays if one.is_taken]
    if missed:
        count = figures.count(len(missed), "object")
        like = "looks like a snapshot" if len(missed) == 1 else "look like snapshots"
        yield f"{'not taken':{width}}{count} that {like}, of which nothing is here:"
        yield from _examples(missed, width)
        usual = key_of(dt.datetime(2021, 11, 8, 0, 0, 5, tzinfo=dt.UTC))
        yield (
            f"{'':{width}}Name them as {usual} is, and {advice.make('refresh')} takes them; or, if "
            "they are none of this archive's, name them in not_ours (NOT_OURS='raw/*.tmp,old/*')."
        )
    if doubled:
        count = figures.count(len(doubled), "name")
        yield f"{'twice':{width}}{count} of files that are taken under another name:"
        yield from _examples(doubled, width)


def _examples(strays: list[Stray], width: int) -> Iterator[str]:
    for one in strays[:_NAMED]:
        yield f"{'':{width}}{one}"
    if len(strays) > _NAMED:
        yield f"{'':{width}}and {len(strays) - _NAMED:,} more"


def sentence(strays: list[Stray]) -> str:
    """The same in one sentence for the log of a run; empty where there is nothing to say."""
    missed = [one for one in strays if not one.is_taken]
    if not missed:
        return ""
    count = figures.count(len(missed), "object")
    verb = "looks like a snapshot and is" if len(missed) == 1 else "look like snapshots and are"
    return f"{count} {verb} not taken, such as {missed[0]} ({advice.make('verify')} says more)"


def _is_plain(prefix: str) -> bool:
    return prefix != "" and not set(prefix) & set("*?[")


def _is_like(key: str) -> bool:
    """Whether a key that is no snapshot's might have been meant for one."""
    folder, _, name = key.lower().rpartition("/")
    return bool(_LIKE.search(name)) and ("bustimes" in name or folder in ("", "raw"))


def _date(dated: re.Match[str]) -> dt.date | None:
    try:
        return dt.date(int(dated[1]), int(dated[2]), int(dated[3]))
    except ValueError:
        return None


def _why(key: str) -> str:
    """Why a key is no snapshot's, to follow "it"."""
    name = key.rpartition("/")[2]
    if time_of(name) is not None:
        return "lies neither in raw/ nor at the root"
    if time_of(name.lower()) is not None:
        return "is not written in small letters"
    timed = _WITH_TIME.fullmatch(name)
    if timed is None:
        return "is not named bustimes__YYYY-MM-DD__HH-MM-SS.json"
    if timed[1] != ".json":
        return f"ends in {timed[1]!a} and not in .json"
    return "is of a time that there is not"
