"""The whole way of a week on S3 servers that others wrote: MinIO, and s3rver, which knows least.

`tests/servers` makes and starts them. What each of them does not know is named here, so that a new
version that knows more, or less, is noticed.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.bustimes import prune
from tasks.bustimes.archive import Archive
from tasks.bustimes.restore import restore
from tasks.bustimes.verify import verify
from tasks.problem import Problem
from tasks.settings import load
from tasks.storage import Overtaken, checksum, open_root
from tasks.storage.bulk import BulkReader
from tasks.storage.deletion import delete
from tasks.storage.dialect import Feature
from tasks.storage.patience import Patience
from tasks.storage.s3 import S3Prefix
from tasks.weeks import Week
from tests.conftest import PROJECT, Run, forget, free_port
from tests.processes_under_test import wait_until
from tests.servers import KINDS, Kind, running

pytestmark = pytest.mark.soak

WEEK = Week(2021, 45)
LONG = os.urandom(checksum.PART_BYTES + 1000)
LACKS = {
    "minio": set(),
    "s3rver": {
        *(Feature.CHECKSUMS, Feature.IF_MATCH, Feature.IF_NONE_MATCH, Feature.UPLOAD_OF_NONE),
    },
}


@dataclass
class Server:
    kind: Kind
    url: str


@pytest.fixture(scope="module", params=KINDS, ids=[kind.name for kind in KINDS])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    kind: Kind = request.param
    if why_not := kind.why_not():
        pytest.skip(why_not)
    with running(kind, tmp_path_factory.mktemp("server") / kind.name, free_port()) as url:
        yield Server(kind, url)


@pytest.fixture
def root(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> S3Prefix:
    """An empty bucket of the test's own on that server, and the environment to reach it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.kind.keys[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.kind.keys[1])
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    forget()
    root = S3Prefix(f"s3://test-{abs(hash(tmp_path)) % 10**12}")

    def is_there() -> bool:
        try:
            root.make_bucket()
        except Problem:
            return False
        return True

    wait_until(is_there, lambda: f"{server.kind.name} does not begin to answer")
    return root


@pytest.fixture
def long_file(tmp_path: Path) -> Path:
    path = tmp_path / "long"
    path.write_bytes(LONG)
    return path


def lacks(root: S3Prefix) -> set[Feature]:
    return {feature for feature in Feature if root.dialect.lacks(feature)}


def test_what_a_root_promises_holds(root: S3Prefix, server: Server, long_file: Path) -> None:
    root.check_readable()
    root.check_writable()
    assert list(root.objects("")) == []
    root.write("a", b"one", "")
    one = root.find("a")
    assert one is not None
    assert [one.key for one in root.objects("")] == ["a"]
    root.write("a", b"two", one.etag)
    for write in (
        lambda: root.write("a", b"three", ""),
        lambda: root.write("a", b"three", one.etag),
        lambda: root.write_file("a", long_file, ""),
        lambda: root.write_file("a", long_file, one.etag),
    ):
        with pytest.raises(Overtaken):
            write()
    assert root.read("a") == b"two"
    root.write("empty", b"")
    assert list(root.stream("empty")) == []
    assert root.read("empty") == b""
    assert root.first_key("", "a") == "empty"
    assert root.first_key("e", "empty") is None
    with pytest.raises(Problem, match="nothing cannot be read: the object is gone"):
        root.read("nothing")
    assert lacks(root) == LACKS[server.kind.name]


def test_a_file_in_parts_arrives_is_replaced_and_left_where_another_was_first(
    root: S3Prefix, long_file: Path
) -> None:
    root.write_file("week", long_file, "")
    root.write_file("week", long_file, "")  # the same again is no conflict
    assert b"".join(root.stream("week")) == LONG
    assert root.read("week", len(LONG) - 5) == LONG[-5:]
    first = root.find("week")
    assert first is not None
    long_file.write_bytes(LONG[::-1])
    with pytest.raises(Overtaken):
        root.write_file("week", long_file, "")
    root.write_file("week", long_file, first.etag)
    assert root.read("week") == LONG[::-1]
    long_file.with_name("long.upload").write_text("an-upload-of-long-ago")
    root.write_file("week", long_file)
    assert not long_file.with_name("long.upload").exists()


ODD = ["a b", "a+b", "a%20b", "a#b", "a?b=c&d", "ü/é ß", "~!$&'()*,;=:@", "日本"]


def test_keys_of_any_characters_mean_themselves(root: S3Prefix) -> None:
    odd = S3Prefix(f"{root.url}/run #2?100% a+b ü")
    for key in ODD:
        odd.write(key, key.encode(), "")
    listed = list(odd.objects(""))
    assert sorted(one.key for one in listed) == sorted(ODD)
    reader = BulkReader(odd.bulk_source(), 4, Patience())
    assert reader.read(listed, odd.credentials()) == [one.key.encode() for one in listed]
    assert [odd.read(key) for key in ODD] == [key.encode() for key in ODD]
    assert list(root.top_objects()) == []
    odd.remove(ODD)
    assert list(root.objects("")) == []


def test_what_was_replaced_since_it_was_listed_is_not_deleted(root: S3Prefix) -> None:
    """Both servers delete by the name alone, whatever ETag they are given."""
    for key in ("a", "b", "c"):
        root.write(key, b"before")
    listed = list(root.objects(""))
    root.write("b", b"after")
    root.remove(["c"])
    assert delete(root, listed) == 1
    assert [one.key for one in root.objects("")] == ["b"]
    assert root.read("b") == b"after"


def test_of_several_who_write_an_object_one_is_first_or_it_is_said_that_this_is_not_safe(
    root: S3Prefix, capfd: pytest.CaptureFixture[str]
) -> None:
    root.write("known", b"", "")
    with ThreadPoolExecutor(8) as threads:
        written = list(threads.map(lambda number: root.write_if("a", b"%d" % number, ""), range(8)))
    if root.dialect.lacks(Feature.IF_NONE_MATCH):
        assert capfd.readouterr().err.count("two runs at once are not safe there") == 1
    else:
        assert len([etag for etag in written if etag]) == 1


def test_a_week_is_converted_verified_refreshed_restored_and_pruned(
    root: S3Prefix,
    server: Server,
    luigi: Run,
    make_snapshots: Callable[..., list[Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places = {"BUSTIMES_SOURCE": root.url, "BUSTIMES_DESTINATION": f"{root.url}/weekly"}
    for name, value in places.items():
        monkeypatch.setenv(name, value)
    bodies = {
        path.relative_to(tmp_path / "raw-side").as_posix(): path.read_bytes()
        for path in make_snapshots(tmp_path / "raw-side", WEEK.label)
    }
    late = max(bodies)
    for key, body in bodies.items():
        if key != late:
            root.write(key, body)
    command = [
        *(sys.executable, "-c", "from luigi.cmdline import luigi_run; luigi_run()"),
        *("--module", "tasks", "AllWeeks", "--weeks", WEEK.label, "--local-scheduler"),
    ]
    two = [  # at once, each with a spool of its own, as on two machines
        subprocess.Popen(
            command,
            cwd=PROJECT,
            env=os.environ | {"BUSTIMES_SPOOL": str(tmp_path / name), "PYTHONPATH": str(PROJECT)},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for name in ("one", "two")
    ]
    said = [one.communicate(timeout=120)[1] for one in two]
    assert 0 in [one.returncode for one in two], said
    for told in said:
        lines = [line for line in told.splitlines() if "The server at" in line]
        assert len(lines) == len(set(lines)), told
        assert bool(lines) == bool(LACKS[server.kind.name]), told
    archive = Archive(load(), root, open_root(places["BUSTIMES_DESTINATION"]))
    assert verify(archive, [WEEK], True, share=1.0).is_fine
    root.write(late, bodies[late])
    assert not verify(archive, [WEEK], False).is_fine
    refreshed = luigi("AllWeeks", "--weeks", WEEK.label, "--refresh")
    assert refreshed.returncode == 0, refreshed.stderr
    archive.list_again()
    report = verify(archive, [WEEK], True, share=1.0)
    assert report.is_fine, report.lines()
    there = S3Prefix(f"{root.url}/back")
    assert restore(archive, WEEK, there).snapshots == len(bodies)
    assert restore(archive, WEEK, there).snapshots == len(bodies)
    [candidate] = prune.look_at_all(archive, [WEEK])
    assert len(candidate.entries) == len(bodies)
    assert len(list(root.objects("raw/"))) == len(bodies)  # looking deletes nothing
    assert prune.prune(archive, WEEK).objects == len(bodies)
    assert list(root.objects("raw/")) == []
    assert verify(archive, [WEEK], True).is_fine
    assert restore(archive, WEEK, open_root(str(tmp_path / "back"))).snapshots == len(bodies)
