"""What is told of a body that cannot be read: what it looks like, and how it ends."""

import bz2
import gzip
import io
import lzma
import pickle
import random
import struct
import tarfile
import zipfile
import zlib

import pytest
from both_ways import read_records

from tasks.bustimes import reasons
from tasks.bustimes.snapshot import Refused

GOOD = b'[{"vehicleID": 1, "sign": "to ] town"}, {"vehicleID": 2}]'
GOOD_REPR = b"[{u'vehicleID': 1, u'sign': u'to ] \" town'}, {u'vehicleID': 2}]"


def zipped() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr("bustimes.json", GOOD)
    return made.getvalue()


def field(number: int, value: bytes | int | float) -> bytes:
    """A field of protobuf's wire format, small enough for one byte of each length."""
    if isinstance(value, bytes):
        return bytes([number << 3 | 2, len(value)]) + value
    if isinstance(value, float):
        return bytes([number << 3 | 5]) + struct.pack("<f", value)
    return bytes([number << 3, value])


FEED = field(1, field(1, b"2.0") + field(2, 0) + field(3, 9)) + b"".join(
    field(2, field(1, b"bus %d" % at) + field(4, field(2, field(1, 45.5) + field(2, -122.7))))
    for at in range(9)
)
"""A GTFS-realtime FeedMessage of vehicle positions."""


def reason_against(body: bytes) -> str:
    """By the kernel and by Python's parsers, which say the same."""
    with pytest.raises(Refused) as refused:
        read_records(body)
    return str(refused.value)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"<!doctype html><html><head></head></html>", "an HTML page"),
        (b"\n  <HTML><TITLE>\n 503 &amp; all\n</TITLE>", "an HTML page (503 & all)"),
        (b"<html><title>" + b"x" * 300 + b"</title>", "an HTML page (" + 60 * "x" + " …)"),
        (b"<html><title>\x1b[2J\xff</title>", "an HTML page (?[2J�)"),
        (
            b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code><Message>No</Message></Error>',
            "an error in XML (AccessDenied)",
        ),
        (b"<rss><channel/></rss>", "XML or HTML"),
        (FEED, "protobuf, such as GTFS-realtime"),
        (field(1, 7) + field(2, b"\0\1"), "protobuf, such as GTFS-realtime"),
        (zipped(), "a zip file"),
        (b"\0", "nothing but zero bytes (1)"),
        (b"\0" * 10_000, "nothing but zero bytes (10,000)"),
        (bz2.compress(GOOD), "bzip2"),
        (lzma.compress(GOOD), "xz"),
        (zlib.compress(GOOD, 1), "zlib (deflate)"),
        (zlib.compress(GOOD), "zlib (deflate)"),
        (zlib.compress(GOOD, 9), "zlib (deflate)"),
        (pickle.dumps([{"vehicleID": 1}]), "a pickle of Python"),
        (pickle.dumps([{"vehicleID": 1}], 2), "a pickle of Python"),
        (b"%PDF-1.4 ...", "a PDF file"),
        (b"PAR1\x15\x04", "a Parquet file"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS"),
        (GOOD.decode().encode("utf-16-le"), "UTF-16 or UTF-32 without a byte order mark"),
        (GOOD.decode().encode("utf-16-be"), "UTF-16 or UTF-32 without a byte order mark"),
        (GOOD.decode().encode("utf-32-le"), "UTF-16 or UTF-32 without a byte order mark"),
        (GOOD.decode().encode("utf-32-be"), "UTF-16 or UTF-32 without a byte order mark"),
    ],
)
def test_what_it_looks_like_is_said(body: bytes, what: str) -> None:
    assert reason_against(body) == f"it is {what}"
    assert reason_against(gzip.compress(body)) == f"inside gzip, it is {what}"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (GOOD[:-1], "it ends in the middle (cut off)"),
        (GOOD[:10], "it ends in the middle (cut off)"),
        (GOOD[:40], "it ends in the middle (cut off)"),
        (GOOD_REPR[:-1], "it ends in the middle (cut off)"),
        (GOOD_REPR[:45], "it ends in the middle (cut off)"),
        (b'[{"a": [1, 2]', "it ends in the middle (cut off)"),
        (GOOD[:30] + b"\0", "it ends in the middle (in 1 zero byte)"),
        (GOOD[:30] + b"\0" * 4096, "it ends in the middle (in 4,096 zero bytes)"),
        (GOOD + b"\0", "behind its end there is nothing but 1 zero byte"),
        (GOOD_REPR + b"\n\0\0", "behind its end there is nothing but 2 zero bytes"),
        (GOOD + b"\nbye", "something stands behind its end: bye"),
        (GOOD_REPR + b"bye", "something stands behind its end: bye"),
        (GOOD + GOOD, f"something stands behind its end: {GOOD.decode()}"),
        (GOOD + b"]", "something stands behind its end: ]"),
        (GOOD + b",", "something stands behind its end: ,"),
        (GOOD + b"\xff\x1b", "something stands behind its end: �?"),
        (GOOD + b"x" * 999, "something stands behind its end: " + "x" * 60 + " …"),
        (b"[]x", "something stands behind its end: x"),
        (
            b'{"vehicleID": 1}\n{"vehicleID": 2}',
            'it is one object with something behind it, not a list of records: {"vehicleID": 2}',
        ),
        (b'{"vehicleID": 1}', "it is one object, not a list of records"),
        (GOOD[:-1] + b', {"a": NaN}]', "it holds NaN, which JSON cannot hold"),
    ],
)
def test_how_it_ends_is_said(body: bytes, reason: str) -> None:
    assert reason_against(body) == reason


def test_every_beginning_of_a_body_is_cut_off_and_nothing_else() -> None:
    for body in (GOOD, GOOD_REPR, GOOD_REPR.replace(b"u'", b"'")):
        for length in range(1, len(body)):
            assert reason_against(body[:length]) == "it ends in the middle (cut off)"


def test_any_bytes_at_all_are_described_or_not() -> None:
    chance = random.Random(5)
    for _ in range(3000):
        body = chance.randbytes(chance.randrange(40))
        assert reasons.described(body).isprintable()
        assert reasons.ending(b"[" + body, chance.random() < 0.5).isprintable()


def test_a_text_is_no_protobuf() -> None:
    for body in (
        b"Internal Server Error",
        b"\n\n\n",
        b"",
        GOOD,
        b"\x08",
        FEED[:-1],
        FEED + b"\x08",
    ):
        assert reasons.described(body) == ""


def test_a_tar_file_says_at_least_that_it_is_none() -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as file:
        file.addfile(tarfile.TarInfo("bustimes.json"))
    assert reason_against(made.getvalue())
