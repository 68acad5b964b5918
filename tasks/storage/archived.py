"""Objects that S3 has archived: what it costs and takes to have them restored, and how to ask.

Prices are those of us-east-1 in US dollars, as AWS's price list had them in 2025
(aws.amazon.com/s3/pricing), and times those of its user guide (Archive retrieval options). A
restored object is a copy that S3 keeps, at the price of STANDARD, for as many days as were asked
for. Asks S3 for nothing.
"""

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tasks import figures
from tasks.problem import Problem
from tasks.storage import StoredObject

PRICES_OF = "2025"
_BEING = ", being restored"


@dataclass(frozen=True)
class Retrieval:
    """One of the ways to restore: its tier, how long it takes, and its prices."""

    tier: str
    takes: str
    per_gb: float
    per_1000: float

    def cost(self, objects: int, size: int) -> float:
        """US dollars for so many objects of so many bytes."""
        return objects / 1000 * self.per_1000 + size / 1e9 * self.per_gb


WAYS = {
    "GLACIER": (
        Retrieval("Bulk", "5 to 12 hours", 0.0, 0.0),
        Retrieval("Standard", "3 to 5 hours", 0.01, 0.05),
    ),
    "DEEP_ARCHIVE": (
        Retrieval("Bulk", "up to 48 hours", 0.0025, 0.025),
        Retrieval("Standard", "up to 12 hours", 0.02, 0.10),
    ),
}


@dataclass(frozen=True)
class Archived:
    """So many objects of so many bytes in one class, and how many of them are being restored."""

    storage_class: str
    objects: int
    bytes: int
    being_restored: int


def counted(objects: Iterable[StoredObject]) -> list[Archived]:
    """What is archived among the objects, by class."""
    numbers: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    being: Counter[str] = Counter()
    for one in objects:
        if one.archived:
            storage_class = one.archived.partition(",")[0]
            numbers[storage_class] += 1
            sizes[storage_class] += one.size
            being[storage_class] += one.archived.endswith(_BEING)
    return [Archived(name, numbers[name], sizes[name], being[name]) for name in sorted(numbers)]


def together(parts: Iterable[Archived]) -> list[Archived]:
    """The same of several places, by class."""
    found: dict[str, Archived] = {}
    for one in parts:
        so_far = found.get(one.storage_class, Archived(one.storage_class, 0, 0, 0))
        found[one.storage_class] = Archived(
            one.storage_class,
            so_far.objects + one.objects,
            so_far.bytes + one.bytes,
            so_far.being_restored + one.being_restored,
        )
    return [found[name] for name in sorted(found)]


def lines(archived: list[Archived]) -> Iterator[str]:
    """What is archived, and what each way to restore it costs and takes."""
    for one in archived:
        being = f", {one.being_restored:,} of them being restored" if one.being_restored else ""
        count = figures.count(one.objects, "object")
        yield f"{count} in {one.storage_class}, {figures.size(one.bytes)}{being}"
        for way in WAYS[one.storage_class]:
            cost = way.cost(one.objects, one.bytes)
            price = f"${cost:,.2f}" if cost else "nothing"
            yield f"  restored by {way.tier}: {way.takes}, {price} (prices of {PRICES_OF})"


def must_be_readable(what: str, url: str, objects: list[StoredObject]) -> None:
    """Raises `Problem` where some of the objects of `what`, below `url`, must be restored first."""
    found = [one for one in objects if one.archived]
    if not found:
        return
    classes = " and ".join(one.storage_class for one in counted(found))
    being = sum(one.archived.endswith(_BEING) for one in found)
    by_now = f", {being:,} are being restored" if being else ""
    raise Problem(
        f"{what}: {len(found):,} of {len(objects):,} objects are archived ({classes}{by_now}), and "
        "nothing is written without them. Have S3 restore them, then run it again; for one: "
        f"{command(url, found[0].key)} README (Archived snapshots) says how for all."
    )


def command(url: str, key: str) -> str:
    """What asks S3 to restore one object below ``s3://bucket/prefix`` for a week."""
    bucket, slash, prefix = url.removeprefix("s3://").partition("/")
    quoted = shlex.quote(f"{prefix}{slash}{key}")
    return (
        f"aws s3api restore-object --bucket {bucket} --key {quoted} --restore-request "
        "'Days=7,GlacierJobParameters={Tier=Bulk}'"
    )
