"""What the laptop and the instances of a fleet tell each other: small JSON objects in S3.

They lie below `<destination>/_fleet/`, where instances may write anyway: the run that is to be
done, one record for each instance, and who runs luigid. Whatever two may write at the same time is
written on condition that nobody else was first. Nothing here decides anything, no record holds a
secret, and nothing depends on the records once a run is over: they may be removed at any time.
"""

import contextlib
import datetime as dt
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from tasks.problem import Problem
from tasks.storage.s3 import S3Prefix

FOLDER = "_fleet/"

_RUN = f"{FOLDER}run.json"
_LEASE = f"{FOLDER}scheduler.json"
_MEMBERS = f"{FOLDER}members/"


@dataclass(frozen=True)
class Run:
    """The run that the fleet is to do, or has done: what was asked, by whom, how it ended."""

    run_id: str = ""
    state: str = ""
    """`running`, `finished`, `failed` or `cancelled`."""
    started: str = ""
    ended: str = ""
    """Empty while it runs. All times of the board are ISO 8601 in UTC; see `now`."""
    weeks: str = ""
    """As WEEKS=, FROM= and TO= were given."""
    first: str = ""
    last: str = ""
    refresh: bool = False
    workers: int = 1
    """Weeks at the same time on each instance."""
    settings: dict[str, str] = field(default_factory=dict)
    """BUSTIMES_<SETTING> variables that were given for this run."""
    keep: bool = False
    """Whether the fleet stays when the run has ended."""
    by: str = ""
    """ARN of who started it."""
    code: str = ""
    """Content hash of the code that it was started with."""
    sentence: str = ""
    """How it ended, in words."""

    @property
    def is_running(self) -> bool:
        return self.state == "running"


@dataclass(frozen=True)
class Member:
    """An instance as it describes itself, a few times a minute."""

    instance: str = ""
    type: str = ""
    zone: str = ""
    address: str = ""
    """Private IPv4 address."""
    state: str = "preparing"
    """`preparing`, `idle`, `working`, `phasing out`, `interrupted`, `finished` or `failed`; but for
    the first two, it is about `run_id`."""
    launched: str = ""
    seen: str = ""
    """When this was written, by the instance's clock."""
    code: str = ""
    run_id: str = ""
    """The run that it takes part in or has taken part in last; empty for none."""
    sentence: str = ""
    """What it does or waits for, in words."""
    weeks_done: list[str] = field(default_factory=list)
    """Those that this instance has finished in this run."""
    running: dict[str, str] = field(default_factory=dict)
    """The weeks under way, each with how far it is."""
    raw_bytes: int = 0
    """Read in this run by this instance, as is `snapshots`."""
    snapshots: int = 0
    cpu_count: int = 0
    memory_free: int = 0
    """Bytes, as the three after it; 0 where the machine does not tell."""
    memory_total: int = 0
    disk_free: int = 0
    disk_total: int = 0
    spooled: int = 0
    """Finished weeks that wait for upload."""
    notice: str = ""
    """When AWS takes the instance back, if it has said so."""
    errors: list[str] = field(default_factory=list)
    """The last few."""
    scheduler: bool = False
    """Whether luigid runs here."""
    restarts: int = 0
    """How often the run had to be started again on this instance."""


@dataclass(frozen=True)
class Lease:
    """Who runs luigid, and where; an empty `instance` is nobody. `beat` grows with each renewal."""

    instance: str = ""
    address: str = ""
    port: int = 0
    beat: int = 0


@dataclass(frozen=True)
class Sighting:
    """A member's record, and when S3 received it: seconds since the epoch by S3's clock."""

    member: Member
    written: float


def last_alive(sightings: list[Sighting], takeover_seconds: float) -> list[Member]:
    """Those that had given a sign of life not long before the latest sign of any of them.

    Only S3's clock counts, which has a resolution of a second. Where all have fallen silent, that
    the latest of them has is for the caller to know.
    """
    latest = max((one.written for one in sightings), default=0.0)
    return [one.member for one in sightings if latest - one.written <= takeover_seconds + 1]


def now() -> str:
    """This moment, as times are written on the board."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


_Record = TypeVar("_Record", Run, Member, Lease)


class Board:
    """The records below a destination. What S3 refuses is raised as a `Problem`."""

    def __init__(self, root: S3Prefix) -> None:
        self._root = root
        self._members: dict[str, tuple[str, Member]] = {}  # with the ETags, not to read them again

    @property
    def url(self) -> str:
        return self._root.address_of(FOLDER.rstrip("/"))

    def run(self) -> Run | None:
        """The latest run, whatever its state; None where there was none yet."""
        found = self.run_with_etag()
        return found[0] if found else None

    def run_with_etag(self) -> tuple[Run, str] | None:
        """The latest run, and the ETag to change it by."""
        return self._read(_RUN, Run)

    def write_run(self, run: Run, etag: str) -> str | None:
        """Write the run if the object still has that ETag, or where that is ``""`` is not there.

        Returns the new ETag, or None if somebody else was first.
        """
        return self._root.write_if(_RUN, msgspec.json.encode(run), etag)

    def lease(self) -> tuple[Lease, str] | None:
        """Who runs luigid by the latest word, and the ETag to change it by.

        One that cannot be read is nobody's: whoever wants it writes it anew.
        """
        try:
            return self._read(_LEASE, Lease)
        except _NoRecord as damaged:
            return Lease(), damaged.etag

    def write_lease(self, lease: Lease, etag: str) -> str | None:
        """As `write_run`."""
        return self._root.write_if(_LEASE, msgspec.json.encode(lease), etag)

    def member(self, instance: str) -> Member | None:
        """One instance's record; None where there is none that can be read."""
        with contextlib.suppress(_NoRecord):
            if found := self._read(_key_of(instance), Member):
                return found[0]
        return None

    def write_member(self, member: Member) -> None:
        """Write an instance's record; only the instance itself does."""
        self._root.write(_key_of(member.instance), msgspec.json.encode(member))

    def members(self) -> list[Sighting]:
        """Every instance's record, in order of their names. Reads only what is new since last.

        One that cannot be read is left out: it must not keep the others from ending a run.
        """
        sightings = []
        for stored in self._root.objects(_MEMBERS):
            known_etag, member = self._members.get(stored.key, ("", Member()))
            if known_etag != stored.etag:
                try:
                    found = self._read(stored.key, Member)
                except _NoRecord:
                    continue
                if found is None:
                    continue  # removed a moment ago
                member = found[0]
                self._members[stored.key] = (found[1], member)
            sightings.append(Sighting(member, stored.written))
        return sightings

    def clear(self) -> None:
        """Remove all of it; for the laptop, since instances may remove nothing."""
        self._root.remove([stored.key for stored in self._root.objects(FOLDER)])
        self._members.clear()

    def _read(self, key: str, kind: type[_Record]) -> tuple[_Record, str] | None:
        found = self._root.read_with_etag(key)
        if found is None:
            return None
        data, etag = found
        try:  # fields that another version of the code has besides are left alone
            return msgspec.json.decode(data, type=kind), etag
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _NoRecord(
                f"{self._root.address_of(key)} is no record of a fleet: {error}. Remove that "
                "object; it is written anew.",
                etag,
            ) from None


class _NoRecord(Problem):
    """An object of the board that is none of its records; `etag` is what to replace it by."""

    def __init__(self, sentence: str, etag: str) -> None:
        super().__init__(sentence)
        self.etag = etag


def _key_of(instance: str) -> str:
    return f"{_MEMBERS}{instance}.json"
