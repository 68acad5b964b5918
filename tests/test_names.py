"""Names that somebody else chose: none is a way to a place that it should not lead to.

Keys of raw objects become paths in the spool and below `_refused/`, keys of an archive in a folder
become paths there, and a folder of snapshots may hold links to anywhere.
"""

import gzip
import hashlib
import json
import os
import stat
from pathlib import Path

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.bustimes import inventory
from tasks.bustimes import manifest as manifests
from tasks.bustimes.snapshot import key_of, time_of
from tasks.problem import Problem
from tasks.storage import open_root
from tests.conftest import Run
from tests.explained import (
    FULL,
    WEEK,
    Snapshots,
    assert_done,
    assert_explained,
    files_below,
    upload,
)

NAME = "bustimes__2021-11-15__05-00-00.json"
LONGEST = len(f"raw/{NAME}")

SCRAPS = (
    *("raw/", "RAW/", "/", "//", "..", "../", "./", "\\", "\0", "\n", "\r\n", " ", "\u2028", "~"),
    *("%2e%2e/", "bustimes__", "2021-11-15", "__05-00-00", ".json", NAME, f"raw/{NAME}", "C:"),
    *("２０２１", "٢٠٢١", "\u202e", "\ufeff", "é", "e\u0301", "\ud800", ".jsonl.gz", "2021-W46"),
)
names = st.one_of(
    st.lists(st.sampled_from(SCRAPS), max_size=5).map("".join),
    st.text(max_size=50),
    st.tuples(st.just(f"raw/{NAME}"), st.integers(0, LONGEST), st.characters()).map(
        lambda made: made[0][: made[1]] + made[2] + made[0][made[1] + 1 :]
    ),
)


@given(names)
def test_a_snapshots_name_is_plain_and_in_one_case_only(name: str) -> None:
    """So two that are both taken never differ in their case alone, and all are short."""
    time = time_of(name)
    if time is not None:
        assert name.removeprefix("raw/") == key_of(time).removeprefix("raw/")
        assert name.isascii()
        assert name == name.lower()
        assert len(name) <= LONGEST


@given(names)
def test_a_week_files_name_is_no_path(name: str) -> None:
    week = manifests.week_of(name)
    assert week is None or name == f"{week}.jsonl.gz" == os.path.basename(name)


WAYS_OUT = {
    "up": "../outside",
    "up from below": "raw/../../outside",
    "up behind a name": f"raw/{NAME}/../../../outside",
    "the folder itself": ".",
    "its parent": "..",
    "absolute": "/outside",
    "double slash": "raw//outside",
    "NUL": "raw/out\0side",
    "nothing": "",
}


@pytest.mark.parametrize("key", WAYS_OUT.values(), ids=WAYS_OUT)
def test_a_folder_is_not_left_by_a_key(tmp_path: Path, key: str) -> None:
    inside, data = tmp_path / "inside", tmp_path / "data"
    inside.mkdir()
    outside = tmp_path / "outside"
    outside.write_text("precious")
    data.write_text("other")
    root = open_root(str(inside))
    for use in (
        lambda: root.find(key),
        lambda: root.read(key),
        lambda: list(root.stream(key)),
        lambda: root.write(key, b"other"),
        lambda: root.write_file(key, data),
    ):
        with pytest.raises(Problem, match="is no name of anything below"):
            use()
    assert outside.read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"inside", "data", "outside"}
    assert list(inside.iterdir()) == []


def test_a_link_in_the_way_of_a_write_is_replaced_and_not_followed(tmp_path: Path) -> None:
    inside, precious = tmp_path / "inside", tmp_path / "precious"
    inside.mkdir()
    precious.write_text("precious")
    (tmp_path / "data").write_text("data")
    for name in ("a", f".a.tmp-{os.getpid()}", "b", f".b.tmp-{os.getpid()}"):
        (inside / name).symlink_to(precious)
    root = open_root(str(inside))
    root.write("a", b"written")
    root.write_file("b", tmp_path / "data")
    assert precious.read_text() == "precious"
    assert {path.name: path.read_text() for path in inside.iterdir()} == {
        "a": "written",
        "b": "data",
    }
    assert not any(path.is_symlink() for path in inside.iterdir())


@pytest.mark.parametrize("number", ["0", "9" * 30, "٣", "-1", ""])
def test_names_that_look_like_a_killed_process_left_them_do_no_harm(
    tmp_path: Path, number: str
) -> None:
    left = tmp_path / f".a.tmp-{number}"
    left.write_text("somebody's")
    open_root(str(tmp_path)).write("a", b"whole")
    assert left.read_text() == "somebody's"
    assert (tmp_path / "a").read_text() == "whole"


HOSTILE_KEYS = [
    f"../{NAME}",
    f"../../../../{NAME}",
    f"raw/../../{NAME}",
    f"raw/../../../x/{NAME}",
    f"raw/{NAME}/../../x",
    f"raw//{NAME}",
    f"/{NAME}",
    f"//raw/{NAME}",
    f"raw/./{NAME}",
    f"raw/bustimes__../../../{NAME}",
    f"raw/bustimes__2021-11-15__/../../../{NAME}",
    f"raw/{NAME}/{NAME}",
    f"RAW/{NAME}",
    f"raw/{NAME.upper()}",
    f"raw/{NAME.replace('.json', '.JSON')}",
    f"raw/{NAME}\r",
    f"raw/{NAME} ",
    f"raw/{NAME}\u2028",
    f"raw/{NAME}\u202e",
    f"raw/{NAME.replace('2021', '２０２１')}",
    f"raw/{NAME.replace('05-00-00', '٠٥-00-00')}",
    "raw/bustimes__2021-11-15" + "x" * 990,
    f"raw/bustimes__2021-11-15__05-00-00{'/..' * 300}.json",
    f"raw\\..\\..\\{NAME}",
    f"raw/%2e%2e/%2e%2e/{NAME}",
    f"raw/{NAME}%00",
    f"~root/{NAME}",
    f"raw/{NAME};touch x",
    f"raw/$(touch x){NAME}",
]


WITH_LINE_BREAKS = (f"raw/{NAME}\n", f"\nraw/{NAME}", f"raw/\n{NAME}")
"""Which the embedded server does not take."""


@pytest.mark.parametrize("key", [*HOSTILE_KEYS, *WITH_LINE_BREAKS], ids=ascii)
def test_a_hostile_key_is_no_snapshots(key: str) -> None:
    assert time_of(key) is None


@pytest.mark.parametrize("place", ["below the source", "at the bucket's root"])
def test_a_bucket_full_of_hostile_names_changes_nothing_outside(
    ops: Run, bucket: str, source: Path, tmp_path: Path, place: str
) -> None:
    """Each of them holds what would be set aside under its name, if that were a snapshot's."""
    prefix = "deep/" if place == "below the source" else ""
    (source / "raw" / NAME).write_bytes(b"<unreadable>")
    deep = tmp_path / "1/2/3/4/5"
    destination, spool = deep / "archive", deep / "spool"
    deep.mkdir(parents=True)
    upload(source, bucket)
    client = boto3.client("s3")
    name = bucket.removeprefix("s3://")
    if prefix:
        for one in client.list_objects_v2(Bucket=name)["Contents"]:
            copied = {"Bucket": name, "Key": one["Key"]}
            client.copy_object(Bucket=name, Key=prefix + one["Key"], CopySource=copied)
    for key in HOSTILE_KEYS:
        client.put_object(Bucket=name, Key=prefix + key, Body=b"<hostile>")
    before = files_below(tmp_path)
    places = {"BUSTIMES_DESTINATION": str(destination), "BUSTIMES_SPOOL": str(spool)}
    url = f"{bucket}/{prefix}".rstrip("/")
    for command in (FULL, ("verify", "--deep")):
        done = ops(*command, "--weeks", WEEK, **places, BUSTIMES_SOURCE=url)
    assert "1 good" in done.stdout, done.stdout + done.stderr
    assert "not taken  13 objects that look like snapshots" in done.stdout
    assert sorted(path for path in files_below(destination) if "_refused" in path) == [
        f"_refused/{WEEK}/raw/{NAME}"
    ]
    manifest = json.loads((destination / f"_manifests/{WEEK}.json").read_bytes())
    assert [one["key"] for one in manifest["refused"]] == [f"raw/{NAME}"]
    ours = ("1/2/3/4/5/archive/", "1/2/3/4/5/spool/", "state/")
    new = set(files_below(tmp_path)) - set(before)
    assert [path for path in sorted(new) if not path.startswith(ours)] == []
    assert b"hostile" not in b"".join(path.read_bytes() for path in destination.rglob("*.json"))


@pytest.mark.usefixtures("source")
def test_hostile_names_in_an_inventory_restore_nothing(
    ops: Run, destination: Path, tmp_path: Path
) -> None:
    """Who may write in the archive may write an inventory, and the manifest that vouches for it."""
    assert_done(ops(*FULL, "--weeks", WEEK))
    manifest_path = destination / f"_manifests/{WEEK}.json"
    manifest = json.loads(manifest_path.read_bytes())
    [inventory_path] = (destination / "_inventories").rglob("*.gz")
    lines = gzip.decompress(inventory_path.read_bytes()).decode().splitlines()
    to = tmp_path / "1/2/3/restored"
    to.mkdir(parents=True)
    before = files_below(tmp_path)
    for key in (f"../../{NAME}", f"raw/../../../{NAME}", str(tmp_path / NAME), f"raw/{NAME}/../x"):
        own = ["\t".join((key, *lines[0].split("\t")[1:])), *lines[1:]]
        listed = "".join(line.rpartition("\t")[0] + "\n" for line in own)
        fingerprint = hashlib.sha256(listed.encode()).hexdigest()
        manifest_path.write_text(json.dumps(manifest | {"listing_sha256": fingerprint}))
        hostile = destination / inventory.key_of(WEEK, fingerprint)
        hostile.write_bytes(gzip.compress("\n".join(own).encode()))
        assert_explained(ops("restore", "--week", WEEK, "--to", to), "is no inventory of a week")
        hostile.unlink()
    new = set(files_below(tmp_path)) - set(before)
    assert [path for path in new if not path.startswith("state/log/")] == []


def test_a_link_that_leads_out_of_a_folder_of_snapshots_copies_nothing(
    ops: Run, source: Path, destination: Path, tmp_path: Path
) -> None:
    """What is no snapshot is kept in the archive, byte for byte: so it must not be a secret."""
    secret = tmp_path / "credentials"
    secret.write_text("aws_secret_access_key = planted")
    (source / "raw" / NAME).symlink_to(secret)
    result = ops(*FULL, "--weeks", WEEK)
    assert_explained(result, NAME, f"is a link that leads out of {source}", "remove it")
    everything = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(b"planted" in data for data in everything) == 2  # the secret, and the link to it
    assert not destination.exists() or not list(destination.glob("*.gz"))


def test_links_inside_a_folder_of_snapshots_and_of_whole_folders_are_followed(
    ops: Run, tmp_path: Path, destination: Path, make_snapshots: Snapshots
) -> None:
    paths = make_snapshots(tmp_path / "elsewhere", WEEK.label)
    source = tmp_path / "source"
    source.mkdir()
    (source / "raw").symlink_to(tmp_path / "elsewhere/raw")
    (tmp_path / "elsewhere/raw" / NAME.replace("05-00-00", "06-00-00")).symlink_to(paths[0])
    result = ops(*FULL, "--weeks", WEEK, BUSTIMES_SOURCE=str(source))
    assert_explained(result, "leads out of")  # as seen from `source`, and so it does
    result = ops(*FULL, "--weeks", WEEK, BUSTIMES_SOURCE=str(tmp_path / "elsewhere"))
    assert_done(result)
    manifest = json.loads((destination / f"_manifests/{WEEK}.json").read_bytes())
    assert manifest["snapshots"] == len(paths) + 1


@pytest.mark.usefixtures("source")
def test_pipes_and_devices_among_the_snapshots_are_none(
    ops: Run, source: Path, destination: Path
) -> None:
    os.mkfifo(source / "raw" / NAME)  # whoever opens it waits for ever
    assert_done(ops(*FULL, "--weeks", WEEK))
    assert stat.S_ISFIFO((source / "raw" / NAME).stat().st_mode)
    assert not (destination / "_refused").exists()
