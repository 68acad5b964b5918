"""What to say of a source that has no raw snapshot where some were looked for.

Either its names are others than a snapshot's, or its snapshots are of other weeks, or it is empty;
each wants another mistake mended. Looks at a page of names and no body; asked only when nothing was
found, so that a run pays nothing for it.
"""

from itertools import islice

from tasks.bustimes.snapshot import PREFIXES, time_of
from tasks.storage import Root
from tasks.weeks import Week, ranges

_MOST = 1000
"""Names that are looked at, which is one page of S3's listing."""
_NAMED = 3
_PATTERN = "YYYY-MM-DD__HH-MM-SS.json"


def none_found(source: Root, weeks: list[Week]) -> str:
    """``s3://b has no raw snapshots in 2021-W45: …``, a sentence with its full stop."""
    return f"{source.url} has no raw snapshots in {ranges(weeks)}: {_instead(source)}"


def _instead(source: Root) -> str:
    firsts = [key for prefix in PREFIXES if (key := source.first_key(prefix, "")) is not None]
    times = [time for key in firsts if (time := time_of(key)) is not None]
    if times:
        return f"the first that it has is of {Week.of(min(times))}."
    looked_for = " or ".join(f"{prefix}{_PATTERN}" for prefix in PREFIXES)
    names = list(islice(source.objects(""), _MOST)) or list(islice(source.objects("raw/"), _MOST))
    if not names:
        nothing = "there is nothing directly in it, or in raw/ below it"
        return f"{nothing}. A snapshot's name is {looked_for}, in UTC."
    some = ", ".join(_shown(one.key) for one in names[:_NAMED])
    number = "is one other" if len(names) == 1 else f"are {len(names):,} others"
    if len(names) == _MOST:
        number += " or more"
    return f"a snapshot's name is {looked_for}, in UTC, and there {number}: {some}."


def _shown(key: str) -> str:
    """Somebody else's name, which a terminal must not obey."""
    return key if key.isprintable() else repr(key)
