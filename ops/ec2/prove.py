"""Proof that an instance can do its work: it lists a raw snapshot, writes an object, reads it back.

Goes the ways that a run goes: the settings of luigi.cfg, `tasks.storage`, the instance's own role.
The object is ``<destination>/_probe/<instance>``; teardown removes it. Converts nothing.
"""

import sys

from ops.ec2.metadata import Metadata
from tasks.bustimes.snapshot import PREFIXES
from tasks.problem import Problem
from tasks.settings import load
from tasks.storage import open_root

FOLDER = "_probe/"


def prove(instance: str) -> list[str]:
    """What was found, in a line each; raises `Problem` where something is not allowed."""
    settings = load()
    source, destination = open_root(settings.source), open_root(settings.destination)
    found = (source.first_key(prefix, "") for prefix in PREFIXES)
    first = next(filter(None, found), "")
    lines = [
        f"source       {source.address_of(first)}"
        if first
        else f"source       {source.url}: no raw snapshot is there yet"
    ]
    key, data = f"{FOLDER}{instance}", f"{instance} may write here.\n".encode()
    destination.write(key, data)
    if destination.read(key) != data:
        raise Problem(
            f"{destination.address_of(key)} reads otherwise than it was written: somebody else "
            "writes there. Give a destination of your own."
        )
    return [*lines, f"destination  {destination.address_of(key)} is written and read back"]


def main() -> int:
    try:
        print("\n".join(prove(Metadata().identity().instance)))
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
