"""Every character that S3 allows in a key means itself in a place, from conversion to prune.

Beside each place there are others that it would be taken for if it were read as a URL, a path or
shell text; these must be neither read nor written. The server is a real one, and so is make.
"""

import gzip
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops import report
from tasks import advice
from tasks.bustimes.graph import WeekTask
from tasks.storage import address as addresses
from tasks.storage import open_root
from tasks.storage.address import S3Place, place_of
from tasks.storage.bulk import BulkReader
from tasks.storage.s3 import S3Prefix
from tests.conftest import PROJECT, Run, forget
from tests.explained import WEEK, Snapshots, assert_done, files_below

pytestmark = pytest.mark.soak

DECOYS = {
    "run#2": ("run", "run%232"),
    "run?x=1&y#z": ("run", "run?x=1", "run%3Fx=1&y"),
    "50%23 a+b%2F": ("50# a+b/", "50%23 a b%2F", "50%23%20a+b%2F", "50%23+a+b%2F", "50# a+b"),
    "/lead//mid//": ("lead/mid", "/lead//mid", "lead//mid", "/lead/mid", "lead//mid/"),
    "a/../b/./c": ("b/c", "a/b/c", "a/../b/c", "c"),
    'it\'s "$HOME" `id` $(id) \\ <b>&amp;ü🚍 ': (
        'it\'s "$HOME" `id` $(id) \\ <b>&amp;ü🚍',
        f'it\'s "{os.environ.get("HOME", "")}" `id` $(id) \\ <b>&amp;ü🚍 ',
        'its "" `id`  \\ <b>&ü🚍 ',
    ),
}
"""Prefixes, and what each could be taken for."""

ODD_KEYS = (
    *("a#2", "a?x", "a%41", "a+b", "a b", "a&b", "a'\"b", "ü", "a//x", "/a", "//a", "a/../x"),
    *("./a", "a/./x", "a/..", "~a", "a;b=c", "a\\b", "a<b>", "a{b}", "*!()|^`$,:@[]", "\u2028"),
    *("x\u00a0y", "🚍", "?", "#", "a/", "%2F", "%", "%zz", " a ", "e\u0301", "&amp;", "$$"),
)


def client_of(bucket: str) -> tuple[Any, str]:
    return boto3.client("s3"), bucket.removeprefix("s3://")


def put(bucket: str, objects: dict[str, bytes]) -> None:
    client, name = client_of(bucket)
    for key, body in objects.items():
        client.put_object(Bucket=name, Key=key, Body=body)


def all_in(bucket: str) -> dict[str, bytes]:
    objects = boto3.resource("s3").Bucket(bucket.removeprefix("s3://")).objects.all()
    return {one.key: one.get()["Body"].read() for one in objects}


def below(prefix: str, objects: dict[str, bytes]) -> dict[str, bytes]:
    start = f"{prefix}/"
    return {key.removeprefix(start): body for key, body in objects.items() if key.startswith(start)}


ARCHIVES = list(zip(*[iter(DECOYS)] * 2, strict=True))


@pytest.mark.parametrize(("one", "other"), ARCHIVES, ids=ascii)
def test_a_place_is_converted_proven_restored_and_pruned_and_its_neighbours_are_not_touched(
    ops: Run, bucket: str, tmp_path: Path, make_snapshots: Snapshots, one: str, other: str
) -> None:
    make_snapshots(tmp_path / "made", WEEK.label)
    raw = {key: (tmp_path / "made" / key).read_bytes() for key in files_below(tmp_path / "made")}
    source, destination, back = f"{one}/in", f"{other}/out", f"{other}/back"
    decoys = neighbours(raw, one, other)
    put(bucket, decoys | {f"{source}/{key}": body for key, body in raw.items()})
    places = {
        "BUSTIMES_SOURCE": f"{bucket}/{source}",
        "BUSTIMES_DESTINATION": f"{bucket}/{destination}",
    }

    ran = ops("full", "--local-scheduler", "--weeks", WEEK, **places)
    assert_done(ran)
    assert "set aside" not in ran.stderr
    lines = gzip.decompress(below(destination, all_in(bucket))[f"{WEEK}.jsonl.gz"]).splitlines()
    assert len(lines) == sum(body.count(b"vehicleID") for body in raw.values())

    verified = ops("verify", "--weeks", WEEK, "--share", "1.0", **places)
    assert_done(verified)
    assert f"archive    {bucket}/{destination}, from {bucket}/{source}" in verified.stdout
    restored = ops("restore", "--week", WEEK, "--to", f"{bucket}/{back}", **places)
    assert_done(restored)
    assert f"written to {bucket}/{back}." in restored.stdout
    assert below(back, all_in(bucket)).keys() == raw.keys()

    looked = ops("prune", "--weeks", WEEK, **places)
    assert_done(looked)
    assert f"may go     {WEEK} (1 week): {len(raw)} raw snapshots" in looked.stdout
    assert set(below(source, all_in(bucket))) == set(raw)
    [command] = re.findall(r"^ +(make prune .*)$", looked.stdout, re.MULTILINE)
    pruned = subprocess.run(
        ["/bin/sh", "-c", command], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert_done(pruned)
    found = all_in(bucket)
    assert below(source, found) == {}
    assert below(back, found).keys() == raw.keys()
    ours = tuple(f"{place}/" for place in (source, destination, back))
    assert {key: body for key, body in found.items() if not key.startswith(ours)} == decoys


def neighbours(raw: dict[str, bytes], *prefixes: str) -> dict[str, bytes]:
    """What lies in all the places that these could be taken for."""
    found = {}
    for prefix in prefixes:
        for around in (f"{prefix}/", *(f"{one}/" for one in DECOYS[prefix]), ""):
            for name in ("in", "out", "back", "in#", "out?", ""):
                start = f"{around}{name}/" if name else around
                found |= {f"{start}{key}": b"<a neighbour's>" for key in raw}
                found[f"{start}{WEEK}.jsonl.gz"] = b"a neighbour's"
    one, other = prefixes
    ours = (f"{one}/in/", f"{other}/out/", f"{other}/back/")
    return {key: body for key, body in found.items() if not key.startswith(ours)}


@pytest.mark.parametrize("around", ["/", "run#2//"])
def test_an_archive_inside_its_source_is_none_of_its_snapshots(
    ops: Run, bucket: str, tmp_path: Path, make_snapshots: Snapshots, around: str
) -> None:
    """What it keeps of refused snapshots has their names."""
    make_snapshots(tmp_path, WEEK.label)
    raw = {f"{around}{key}": (tmp_path / key).read_bytes() for key in files_below(tmp_path)}
    put(bucket, raw | {f"{around}raw/bustimes__2021-11-15__05-00-00.json": b"<unreadable>"})
    places = {
        "BUSTIMES_SOURCE": f"{bucket}/{around}",
        "BUSTIMES_DESTINATION": f"{bucket}/{around}v2",
    }
    assert_done(ops("full", "--local-scheduler", "--weeks", WEEK, **places))
    assert f"{around}v2/_refused/{WEEK}/raw/bustimes__2021-11-15__05-00-00.json" in all_in(bucket)
    verified = ops("verify", "--weeks", WEEK, **places)
    assert_done(verified)
    assert "not taken" not in verified.stdout


@pytest.mark.parametrize("prefix", ["", "deep#1/", "/", "//", "a/../"], ids=ascii)
def test_every_verb_and_both_clients_take_a_key_as_it_is(
    bucket: str, tmp_path: Path, prefix: str
) -> None:
    root = open_root(f"{bucket}/{prefix}")
    assert isinstance(root, S3Prefix)
    (tmp_path / "file").write_bytes(b"of a file")
    for key in ODD_KEYS:
        root.write(key, key.encode())
    assert set(all_in(bucket)) == {prefix + key for key in ODD_KEYS}
    listed = list(root.objects(""))
    assert [one.key for one in listed] == sorted(ODD_KEYS)
    assert [one.key for one in root.top_objects()] == sorted(
        key for key in ODD_KEYS if "/" not in key
    )
    for key, behind in zip(sorted(ODD_KEYS), sorted(ODD_KEYS)[1:], strict=False):
        assert root.read(key) == key.encode()
        assert b"".join(root.stream(key)) == key.encode()
        assert root.first_key("", key) == behind
        found = root.find(key)
        assert found is not None
        assert found.size == len(key.encode())
        assert root.address_of(key) == f"{bucket}/{prefix}{key}"
    reader = BulkReader(root.bulk_source(), 8, check_etag=True)
    credentials = root.credentials()
    assert reader.read(listed, credentials) == [one.key.encode() for one in listed]
    assert [b"".join(reader.stream(one, credentials)) for one in listed] == [
        one.key.encode() for one in listed
    ]
    root.write_file("a#2", tmp_path / "file")
    assert root.read("a#2") == b"of a file"
    root.remove(ODD_KEYS)
    assert all_in(bucket) == {}


prefixes = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=20)


@given(prefixes)
def test_an_address_is_bucket_slash_prefix_and_nothing_else(prefix: str) -> None:
    place = place_of(f"s3://bucket/{prefix}")
    assert isinstance(place, S3Place)
    assert place.bucket == "bucket"
    assert place.prefix in ("", prefix, f"{prefix}/")
    assert place.prefix == "" or place.prefix.endswith("/")
    assert place_of(place.url) == place
    assert place.address_of("raw/x") == f"s3://bucket/{place.prefix}raw/x"
    assert addresses.object_of(place.address_of("k")) == ("bucket", f"{place.prefix}k")


@given(prefixes, prefixes)
def test_two_places_have_two_addresses(one: str, other: str) -> None:
    first, second = place_of(f"s3://b/{one}"), place_of(f"s3://b/{other}")
    assert isinstance(first, S3Place)
    assert isinstance(second, S3Place)
    assert (first == second) == (first.url == second.url)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=30))
def test_a_command_to_copy_says_what_was_meant(value: str) -> None:
    """Held against the shell's own words; what make does of them, the next one tries."""
    words = shlex.split(advice.make("restore", {}, TO=value, WEEK=""))
    meant = [f"TO={value}"] if value else []
    assert words == ["make", "restore", *meant]


def test_a_command_for_this_place_ends_in_its_last_space() -> None:
    words = shlex.split(advice.make("verify", {"BUSTIMES_SOURCE": "s3://feed/run "}))
    assert words == ["make", "verify", "SOURCE=s3://feed/run "]


def test_make_itself_gives_on_what_was_meant(tmp_path: Path) -> None:
    until = "export GIVEN_OPTIONS"
    head, found, line = (PROJECT / "Makefile").read_text().partition(until)
    assert found
    told = f"{head}{until}{line.partition(chr(10))[0]}\nall: ; @printf '%s' \"$$TO\"\n"
    (tmp_path / "Makefile").write_text(told)
    for prefix in (*DECOYS, *ODD_KEYS, "a,b", "a=b", "a:=b", "a\\#b", "%.o", "-k", "$(shell id)"):
        command = advice.make("all", {}, TO=f"s3://b/{prefix}")
        ran = subprocess.run(
            ["/bin/sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert ran.stdout == f"s3://b/{prefix}"


@pytest.mark.parametrize("prefix", DECOYS, ids=ascii)
def test_luigis_target_is_the_very_object(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    monkeypatch.setenv("BUSTIMES_SOURCE", str(tmp_path))
    monkeypatch.setenv("BUSTIMES_DESTINATION", f"{bucket}/{prefix}/")
    forget()
    put(bucket, {f"{one}/{WEEK}.jsonl.gz": b"x" for one in DECOYS[prefix]})
    output: Any = WeekTask(week=WEEK).output()
    assert output.path == f"{bucket}/{prefix}/{WEEK}.jsonl.gz"
    assert not output.exists()
    open_root(f"{bucket}/{prefix}/").write(f"{WEEK}.jsonl.gz", b"x")
    assert output.exists()


@pytest.mark.parametrize("prefix", DECOYS, ids=ascii)
def test_a_report_goes_where_it_is_told_to(prefix: str) -> None:
    def written(to: str) -> str:
        folder, name = report.target(to)
        return open_root(folder).address_of(name)

    assert written(f"s3://b/{prefix}/") == f"s3://b/{prefix}/report.html"
    assert written(f"s3://b/{prefix}/x.html") == f"s3://b/{prefix}/x.html"
    assert written("s3://b/x.html") == "s3://b/x.html"
    assert written("s3://b.html") == "s3://b.html/report.html"
