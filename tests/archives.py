"""What an archive holds that is the same however often, and wherever, it is made from one input."""

import json
from pathlib import Path

from tasks.bustimes import seal
from tasks.weeks import Week

_DIGITS = 16  # of the listing's fingerprint, in the name of an inventory


def archive_in(folder: Path) -> dict[str, bytes]:
    """Every file below a destination's folder, as `same_in_every_run` has them."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return same_in_every_run({p.relative_to(folder).as_posix(): p.read_bytes() for p in paths})


def same_in_every_run(files: dict[str, bytes]) -> dict[str, bytes]:
    """Without what a conversion took, and without inventories and seals of what was before."""
    manifests = {key: json.loads(data) for key, data in files.items() if _is_manifest(key)}
    named = {
        f"_inventories/{one['week']}/{one['listing_sha256'][:_DIGITS]}.tsv.gz"
        for one in manifests.values()
    }
    named |= {seal.key_of(Week.parse(one["week"]), _digest(one)) for one in manifests.values()}
    same = {
        key: data
        for key, data in files.items()
        if key in named or not key.startswith(("_inventories/", "_seals/"))
    }
    for key, one in manifests.items():
        del one["conversion"]
        same[key] = json.dumps(one).encode()
    return same


def _digest(manifest: dict[str, object]) -> str:
    return seal.digest_of(json.dumps(manifest).encode())


def _is_manifest(key: str) -> bool:
    return key.startswith("_manifests/") and key.endswith(".json")
