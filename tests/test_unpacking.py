"""What is unpacked has an end: a few bytes that stand for very many fill no memory."""

import tracemalloc
import zlib
from pathlib import Path

import pytest

from tasks.bustimes import inventory
from tasks.bustimes.archive import Archive
from tasks.bustimes.restore import restore
from tasks.compression import gunzip, gzip_member
from tasks.problem import Problem
from tasks.storage import open_root
from tests.verified_archive import (
    FILE,
    HOURS,
    WEEK,
    archive_in,
    as_of_version_2,
    change_manifest,
    change_output,
    inventory_key,
    lines_of,
    manifest_of,
    write_hours,
)

TEXTS = [b"", b"a", bytes(9_000_000), b"", b"end"]
FILE_OF_MEMBERS = b"".join(gzip_member(text, 6) for text in TEXTS)
SIZE = sum(map(len, TEXTS))


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return archive_in(str(tmp_path / "in"), str(tmp_path / "out"), tmp_path / "spool")


@pytest.mark.parametrize("most", [None, SIZE, SIZE + 1])
@pytest.mark.parametrize("cut", [1, 7, 1 << 20])
def test_so_much_may_come_out(most: int | None, cut: int) -> None:
    chunks = [FILE_OF_MEMBERS[at : at + cut] for at in range(0, len(FILE_OF_MEMBERS), cut)]
    assert b"".join(gunzip(chunks, most)) == b"".join(TEXTS)


@pytest.mark.parametrize("most", [0, 1, SIZE - 1])
def test_and_not_a_byte_more(most: int) -> None:
    came: list[bytes] = []
    with pytest.raises(zlib.error, match=f"^more than {most:,} bytes come out of it$"):
        came.extend(gunzip([FILE_OF_MEMBERS], most))
    assert sum(map(len, came)) <= most


def test_nothing_is_unpacked_that_is_not_asked_for() -> None:
    bomb = gzip_member(bytes(50_000_000), 6) * 20
    tracemalloc.start()
    try:
        with pytest.raises(zlib.error, match="more than 1,000,000 bytes"):
            list(gunzip([bomb], 1_000_000))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_many_members_do_not_have_what_follows_copied_for_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else ten times as many would take a hundred times as long."""
    given = 0

    class Counting:
        def __init__(self, wbits: int) -> None:
            self._real = real(wbits=wbits)

        def decompress(self, data: bytes, most: int) -> bytes:
            nonlocal given
            given += len(data)
            return self._real.decompress(data, most)

        def __getattr__(self, name: str) -> object:
            return getattr(self._real, name)

    real = zlib.decompressobj
    monkeypatch.setattr(zlib, "decompressobj", Counting)
    members = gzip_member(b"", 1) * 10_000
    assert list(gunzip([members])) == []
    assert given < 10_000 * (1 << 16)


def test_an_inventory_is_no_longer_than_a_week_can_have_it(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_second_each = (
        7
        * 86_400
        * len(f"raw/bustimes__2021-11-08__00-00-05.json\t{10**6}\t{'0' * 32}-1234\t{10**4}\n")
    )
    assert a_second_each < inventory._MOST_BYTES < 1.3 * a_second_each
    fingerprint = manifest_of(archive)["listing_sha256"]
    data = archive.destination.read(inventory_key(archive))
    size = len(b"".join(gunzip([data])))
    monkeypatch.setattr(inventory, "_MOST_BYTES", size)
    assert len(inventory.from_bytes(data, fingerprint, "it")) == 12
    monkeypatch.setattr(inventory, "_MOST_BYTES", size - 1)
    with pytest.raises(Problem, match=r"^it is no inventory of a week, or is damaged\.$"):
        inventory.from_bytes(data, fingerprint, "it")


@pytest.mark.parametrize("is_old", [False, True], ids=["segments", "members"])
def test_an_hour_is_no_longer_than_its_manifest_has_it(
    archive: Archive, tmp_path: Path, is_old: bool
) -> None:
    if is_old:
        as_of_version_2(archive)
    texts = [b"".join(line + b"\n" for line in lines_of(archive, at)) for at in range(len(HOURS))]
    size = sum(map(len, texts))
    assert restore(archive, WEEK, open_root(str(tmp_path / "a"))).records > 0
    write_hours(archive, [texts[0], texts[1] + texts[1][:1] * size])
    change_output(archive, uncompressed_bytes=size)
    most = f"{size:,} bytes of the whole file"
    with pytest.raises(
        Problem, match=rf"{FILE}: the hour .*T01 is damaged: it unpacks to more than the {most}"
    ):
        restore(archive, WEEK, open_root(str(tmp_path / "b")))
    if is_old:
        return
    hours = manifest_of(archive)["hours"]
    hours[1]["uncompressed_bytes"] = len(texts[1])
    change_manifest(archive, hours=hours)
    most = f"{len(texts[1]):,} bytes that its manifest says"
    with pytest.raises(
        Problem, match=rf"{FILE}: the hour .*T01 is damaged: it unpacks to more than the {most}"
    ):
        restore(archive, WEEK, open_root(str(tmp_path / "c")))
