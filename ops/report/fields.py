"""Which fields records have, of which kinds, and in which weeks they appear, change and vanish.

Told by the manifests of version 2 alone. A field's kind in a week is what it holds beside null:
whole numbers among others are numbers; two kinds that have nothing in common are `mixed`, and so
is one that is not known here.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from ops.report.states import WeekState
from tasks.weeks import Week

KINDS = ("integer", "number", "text", "boolean", "list", "object", "mixed", "only null")
_OTHER = "mixed"
_ONLY_NULL = "only null"


@dataclass(frozen=True)
class Span:
    """Neighbouring weeks in which a field has the same kind."""

    first: Week
    last: Week
    kind: str


@dataclass
class Field:
    """A field over the whole archive: records by kind, and all records in its weeks."""

    name: str
    spans: list[Span] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    weeks: int = 0
    of_records: int = 0

    @property
    def first(self) -> Week:
        return self.spans[0].first

    @property
    def last(self) -> Week:
        return self.spans[-1].last

    @property
    def records(self) -> int:
        """How many have it."""
        return self.counts.total()

    @property
    def null_share(self) -> float:
        return self.counts["null"] / self.records if self.records else 0.0

    @property
    def share(self) -> float:
        """Of the records in those weeks in which it is seen."""
        return self.records / self.of_records if self.of_records else 0.0

    @property
    def kinds(self) -> str:
        """All that it ever held, the most frequent first."""
        return ", ".join(kind for kind, count in self.counts.most_common() if count)


@dataclass(frozen=True)
class Change:
    """What became of a field in a week, compared with the week before that tells."""

    week: Week
    name: str
    what: str


@dataclass(frozen=True)
class Fields:
    """All fields in the order of their first appearance, and what changed since the first week."""

    fields: list[Field]
    changes: list[Change]
    weeks_that_tell: int
    weeks_that_do_not: int


def fields_of(states: list[WeekState]) -> Fields:
    """Every field of every week."""
    fields: dict[str, Field] = {}
    changes: list[Change] = []
    before: dict[str, str] | None = None
    tell = silent = 0
    for one in states:
        described = one.described
        if described is None:
            continue
        if not described.fields:
            silent += described.version == 1
            continue
        tell += 1
        now = {}
        for name, counts in described.fields.items():
            now[name] = kind = _kind(counts)
            known = fields.setdefault(name, Field(name))
            known.counts.update(counts)
            known.weeks += 1
            known.of_records += described.records
            _extend(known.spans, one.week, kind)
        if before is not None:
            changes += _changes(one.week, before, now, fields)
        before = now
    return Fields(list(fields.values()), changes, tell, silent)


def _kind(counts: dict[str, int]) -> str:
    held = {kind for kind, count in counts.items() if count} - {"null"}
    if not held:
        return _ONLY_NULL
    if held == {"integer", "number"}:
        return "number"
    [kind, *others] = held
    return kind if not others and kind in KINDS else _OTHER


def _extend(spans: list[Span], week: Week, kind: str) -> None:
    if spans and spans[-1].kind == kind and spans[-1].last.next == week:
        spans[-1] = Span(spans[-1].first, week, kind)
    else:
        spans.append(Span(week, week, kind))


def _changes(
    week: Week, before: dict[str, str], now: dict[str, str], known: dict[str, Field]
) -> Iterator[Change]:
    for name, kind in now.items():
        if name not in before:
            again = known[name].first != week
            yield Change(week, name, f"{'is back' if again else 'appears'}, {kind}")
        elif kind != before[name]:
            yield Change(week, name, f"was {before[name]}, is {kind}")
    for name in before:
        if name not in now:
            yield Change(week, name, "vanishes")
