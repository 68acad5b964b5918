"""Refused snapshots that could be read today: by other settings, or by a program that knows more.

The kept bytes of a few for each reason are read again; what was refused for its length alone is
only measured. Nothing is written: a refresh of the week takes them in.
"""

import contextlib
import re

from tasks.bustimes import manifest as manifests
from tasks.bustimes.archive import Archive
from tasks.bustimes.manifest import Manifest, RefusedSnapshot
from tasks.bustimes.snapshot import Refused, read_records
from tasks.problem import Problem
from tasks.weeks import Week

_TRIED = 3  # for each reason
_MOST_BYTES = 8 << 20  # of one that is read here, where memory is this process's
_FOR_ITS_LENGTH = re.compile(r"max_snapshot_mb is (\d+)$")  # as it is, or unpacked


def readable_now(archive: Archive, manifest: Manifest) -> list[str]:
    """The keys of refused snapshots that a conversion with today's settings would, or may, read.

    Of those with one reason, all are named if one of the few that are tried can be read.
    """
    limit = archive.settings.max_snapshot_mb << 20
    groups: dict[str, list[RefusedSnapshot]] = {}
    for one in manifest.refused:
        longest = _FOR_ITS_LENGTH.search(one.reason)
        if one.bytes <= limit and (longest is None or int(longest[1]) << 20 < limit):
            groups.setdefault(re.sub(r"\d+", "0", one.reason), []).append(one)
    return [
        one.key
        for reason, group in groups.items()
        if _FOR_ITS_LENGTH.search(reason)
        or any(_is_read(archive, manifest, one) for one in group[:_TRIED])
        for one in group
    ]


def _is_read(archive: Archive, manifest: Manifest, refused: RefusedSnapshot) -> bool:
    if refused.bytes > _MOST_BYTES:
        return False
    settings = archive.settings
    kept = manifests.refused_key_of(Week.parse(manifest.week), refused.key)
    with contextlib.suppress(Refused, Problem):  # the latter if the copy is not to be had
        body = archive.destination.read(kept)
        read_records(body, settings.python_escapes, settings.max_snapshot_mb << 20)
        return True
    return False
