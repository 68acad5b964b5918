"""What the destination says of its weeks: manifests, proofs, prunes, and verify's last findings.

One listing each, then small reads, many at once. These files may be anybody's: whatever is taken
from them is held to its type and bounds first, and a file that does not fit is named instead of
shown. Manifests of version 1 lack vehicles, fields and conversion; those are None or empty. Reads
only, and nothing of the raw side.
"""

import datetime as dt
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

import msgspec

from tasks.bustimes.archive import Archive
from tasks.bustimes.verify import proof
from tasks.bustimes.verify.findings import KEY as FINDINGS_KEY
from tasks.bustimes.verify.findings import Finding
from tasks.problem import Problem
from tasks.storage import Root, StoredObject
from tasks.weeks import Week

_READS_AT_ONCE = 16
_MOST_BYTES = 64 << 20
"""No manifest is longer than this; what is, is no manifest."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""What JavaScript can count, too."""
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
Moment = Annotated[dt.datetime, msgspec.Meta(tz=True)]
_Type = TypeVar("_Type")


class Refused(msgspec.Struct, frozen=True):
    """A snapshot that was set aside."""

    key: str
    bytes: Count
    reason: str


class Hour(msgspec.Struct, frozen=True):
    """An hour of a week that has snapshots; `hour` is as ``2021-11-08T07``.

    `bytes` are those of its member in the week file; version 1 does not tell `raw_bytes`.
    """

    hour: str
    snapshots: Count
    lines: Count
    bytes: Count = 0
    raw_bytes: Count | None = None


class Output(msgspec.Struct, frozen=True):
    """The week file: its size in bytes and SHA-256."""

    bytes: Count
    sha256: str


class Requests(msgspec.Struct, frozen=True):
    """What one S3 operation took in one conversion; `retries` by reason."""

    requests: Count
    attempts: Count
    bytes: Count
    seconds: Seconds
    retries: dict[str, Count]


class Conversion(msgspec.Struct, frozen=True):
    """How a conversion went: wall seconds, and requests by operation."""

    seconds: Seconds
    requests: dict[str, Requests]

    @property
    def retries(self) -> int:
        return sum(sum(one.retries.values()) for one in self.requests.values())


class Described(msgspec.Struct, frozen=True):
    """What is shown of a manifest."""

    version: Literal[1, 2, 3]
    week: str
    week_over: bool
    snapshots: Count
    raw_bytes: Count
    records: Count
    first_snapshot: Moment
    last_snapshot: Moment
    listing_sha256: str
    refused: list[Refused]
    output: Output
    hours: list[Hour]
    vehicles: Count | None = None
    fields: dict[str, dict[str, Count]] = {}
    conversion: Conversion | None = None


class Proof(msgspec.Struct, frozen=True):
    """A verification in which a week was found good, by `share` of its raw snapshots."""

    version: Literal[1]
    week: str
    sha256: str
    listing_sha256: str
    share: Annotated[float, msgspec.Meta(gt=0, le=1)]
    when: Moment
    readers: Count = 1

    def is_of(self, described: Described) -> bool:
        """Whether the week is still the one that was verified, and it was verified well."""
        of_proof = (self.week, self.sha256, self.listing_sha256)
        now = (described.week, described.output.sha256, described.listing_sha256)
        return of_proof == now and self.readers >= proof.READERS


class Prune(msgspec.Struct, frozen=True):
    """Raw objects that are being deleted, or are deleted once there is an `ended`."""

    version: Literal[1]
    week: str
    sha256: str
    listing_sha256: str
    objects: Count
    bytes: Count
    began: Moment
    ended: Moment | None = None

    def is_of(self, described: Described) -> bool:
        """Whether it is this week file that stands for them: not if it was restored since."""
        of_prune = (self.week, self.sha256, self.listing_sha256)
        return of_prune == (described.week, described.output.sha256, described.listing_sha256)


class Findings(msgspec.Struct, frozen=True):
    """What verify did not call good, by the week's label, and when it ran last."""

    version: Literal[1]
    when: Moment
    weeks: dict[str, Finding]


@dataclass(frozen=True)
class Holdings:
    """All that is known of a destination; where a manifest is no such thing, why."""

    url: str
    address_of: Callable[[str], str]
    files: dict[Week, StoredObject]
    manifests: dict[Week, Described | str]
    proofs: dict[Week, Proof]
    prunes: dict[Week, Prune]
    findings: dict[Week, Finding]
    verified: dt.datetime | None
    """When verify ran last, if it has left its findings."""
    unreadable: list[str]
    """Keys of proofs and the like that are none."""


def read(archive: Archive) -> Holdings:
    """Everything, in as many requests as there are weeks and some; raises `Problem` as S3 does."""
    destination = archive.destination
    archive.list_again()
    listed = {
        folder: list(destination.objects(f"{folder}/"))
        for folder in ("_manifests", "_verified", "_pruned")
    }
    wanted = [one for found in listed.values() for one in found if one.key.endswith(".json")]
    with ThreadPoolExecutor(_READS_AT_ONCE) as threads:
        bodies = list(threads.map(lambda one: _body(destination, one), wanted))
    body_of = {one.key: body for one, body in zip(wanted, bodies, strict=True)}
    unreadable: list[str] = []

    def good(key: str, kind: type[_Type]) -> Iterator[_Type]:
        given = _as(kind, body_of[key])
        if isinstance(given, str):
            unreadable.append(key)
        else:
            yield given

    def of_weeks(folder: str, kind: type[_Type]) -> dict[Week, _Type]:
        keys = _weeks_in(folder, body_of)
        return {week: one for week, key in keys for one in good(key, kind)}

    findings = next(good(FINDINGS_KEY, Findings), None) if FINDINGS_KEY in body_of else None
    found = findings.weeks if findings else {}
    return Holdings(
        url=destination.url,
        address_of=destination.address_of,
        files=archive.weeks_written(),
        manifests={
            week: _described(week, body_of[key]) for week, key in _weeks_in("_manifests", body_of)
        },
        proofs=of_weeks("_verified", Proof),
        prunes=of_weeks("_pruned", Prune),
        findings={week: found[label] for label in found for week in _week(label)},
        verified=findings.when if findings else None,
        unreadable=unreadable,
    )


def _body(destination: Root, stored: StoredObject) -> bytes | None:
    return destination.read(stored.key) if stored.size <= _MOST_BYTES else None


def _weeks_in(folder: str, keys: Iterable[str]) -> list[tuple[Week, str]]:
    """Those of the keys that are a week's in that folder."""
    return [
        (week, key)
        for key in keys
        if key.startswith(f"{folder}/")
        for week in _week(key.removeprefix(f"{folder}/").removesuffix(".json"))
    ]


def _week(label: str) -> list[Week]:
    """The week of a label that somebody else has written; nothing where it is none."""
    try:
        week = Week.parse(label)
    except Problem:
        return []
    return [week] if week.label == label else []


def _described(week: Week, body: bytes | None) -> Described | str:
    described = _as(Described, body)
    if isinstance(described, str):
        return f"its manifest cannot be read: {described}"
    if described.week != week.label:
        return f"its manifest is that of {described.week}"
    hours = {
        f"{date}T{hour:02}"
        for date in (one.isoformat() for one in week.dates)
        for hour in range(24)
    }
    strange = next((one.hour for one in described.hours if one.hour not in hours), None)
    if strange is not None:
        return f"its manifest has an hour {strange!r}, which is not of the week"
    return described


def _as(kind: type[_Type], body: bytes | None) -> _Type | str:
    """What a body holds, or why it does not."""
    if body is None:
        return "it is too long"
    decode: Callable[[bytes], object] = json.loads  # unlike msgspec's, takes half surrogates
    try:
        return msgspec.convert(decode(body), kind)
    except RecursionError:
        return "it is too deep"
    except ValueError as error:  # of msgspec as well
        return str(error)
