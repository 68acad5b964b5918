"""Stores that inflate or compress what they send: the stored bytes come, or a sentence says so.

Answers as Google's Cloud Storage and Cloudflare's R2 give them, and as AWS does, which sends what
is stored whatever it is asked for.
"""

import gzip
import logging
from collections.abc import Callable, Iterator

import pytest

from tasks.problem import Problem
from tasks.storage import s3_clients
from tasks.storage.address import Credentials
from tasks.storage.bulk import BulkReader
from tasks.storage.encodings import SENT_OTHERWISE
from tasks.storage.patience import Patience
from tasks.storage.s3 import S3Prefix
from tests.scripted_s3 import Answer, Exchange, ScriptedS3, client_of, error, fine

PATIENCE = Patience(first_pause=0.001, longest_pause=0.01)
WHO = Credentials("AKID", "secret", None)
TEXT = b"[" + b", ".join(b'{"vehicleID": %d}' % number for number in range(5000)) + b"]"
PACKED = gzip.compress(TEXT)
WAYS = ("read by libcurl", "stream by libcurl", "read", "a part", "stream")


def send_chunked(exchange: Exchange, body: bytes, **headers: str) -> bool:
    """Of a length that nobody knew before."""
    lines = ["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "x-amz-request-id: 1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join(lines) + "\r\n\r\n"
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    exchange.connection.sendall(head.encode() + chunk)
    return True


def is_asked_for_gzip(exchange: Exchange) -> bool:
    return "gzip" in exchange.request.headers.get("accept-encoding", "")


def as_stored(exchange: Exchange) -> bool:
    """The stored bytes with their Content-Encoding, or the part that is asked for."""
    etag, body = f'"{exchange.etag}"', exchange.body
    if asked := exchange.request.headers.get("range"):
        first, last = asked.removeprefix("bytes=").split("-")
        part = body[int(first) : int(last) + 1 if last else None]
        comes = f"bytes {first}-{int(first) + len(part) - 1}/{len(body)}"
        more = {"Content_Range": comes, "Content_Encoding": "gzip"}
        return exchange.send("206 Partial Content", part, ETag=etag, **more)
    return exchange.send("200 OK", body, ETag=etag, Content_Encoding="gzip")


def inflated(exchange: Exchange) -> bool:
    """As Google sends what is stored as gzip to whoever does not ask for that."""
    more = {
        "x_goog_stored_content_encoding": "gzip",
        "x_goog_stored_content_length": str(len(exchange.body)),
        "Warning": "214 UploadServer gunzipped",
    }
    return send_chunked(exchange, gzip.decompress(exchange.body), ETag=f'"{exchange.etag}"', **more)


def inflated_with_a_length(exchange: Exchange) -> bool:
    """As inflated by somebody who says nothing of it."""
    return exchange.send("200 OK", gzip.decompress(exchange.body), ETag=f'"{exchange.etag}"')


def google(exchange: Exchange) -> bool:
    return as_stored(exchange) if is_asked_for_gzip(exchange) else inflated(exchange)


def cloudflare(exchange: Exchange) -> bool:
    """Compresses on the way whatever is stored as it is."""
    if not is_asked_for_gzip(exchange):
        return whole_or_part(exchange)
    packed = gzip.compress(exchange.body)
    return send_chunked(exchange, packed, ETag=f'W/"{exchange.etag}"', Content_Encoding="gzip")


def whole_or_part(exchange: Exchange) -> bool:
    """The object as it is stored, without a word of an encoding."""
    asked = exchange.request.headers.get("range", "bytes=0-")
    first, last = asked.removeprefix("bytes=").split("-")
    part = exchange.body[int(first) : int(last) + 1 if last else None]
    comes = f"bytes {first}-{int(first) + len(part) - 1}/{len(exchange.body)}"
    if "range" not in exchange.request.headers:
        return fine(exchange)
    return exchange.send(
        "206 Partial Content", part, ETag=f'"{exchange.etag}"', Content_Range=comes
    )


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedS3]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ScriptedS3({"packed": PACKED, "text": TEXT}) as server:
        yield server
    s3_clients.forget()


Read = Callable[[ScriptedS3, str, str], bytes]


@pytest.fixture
def read() -> Read:
    """Reads an object in one of the ways."""

    def read(s3: ScriptedS3, way: str, key: str) -> bytes:
        if "libcurl" in way:
            reader = BulkReader(s3.source, 1, PATIENCE)
            [listed] = s3.listed(key)
            if way.startswith("read"):
                return reader.read([listed], WHO)[0]
            return b"".join(reader.stream(listed, WHO))
        root = S3Prefix("s3://bucket/deep", lambda _: client)
        if way == "a part":
            return root.read(key, 0, 100) + root.read(key, 100)
        return root.read(key) if way == "read" else b"".join(root.stream(key))

    client = None

    def made(s3: ScriptedS3, way: str, key: str) -> bytes:
        nonlocal client
        client = client or client_of(s3.url, PATIENCE)
        return read(s3, way, key)

    return made


STORES: dict[str, tuple[Answer, str, bytes]] = {
    "Google": (google, "packed", PACKED),
    "Cloudflare": (cloudflare, "text", TEXT),
    "AWS, which is never asked": (as_stored, "packed", PACKED),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("store", STORES)
def test_the_stored_bytes_come(s3: ScriptedS3, read: Read, store: str, way: str) -> None:
    answer, key, due = STORES[store]
    s3.answers(key, *[answer] * 6)
    assert read(s3, way, key) == due
    assert len(s3.requests) <= (4 if way == "a part" else 2)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_inflated_however_it_is_asked_says_so_and_is_not_tried_ten_times(
    s3: ScriptedS3, read: Read, way: str
) -> None:
    s3.answers("packed", *[inflated] * 20)
    with pytest.raises(Problem) as raised:
        read(s3, way, "packed")
    said = str(raised.value)
    assert "s3://bucket/deep/packed cannot be read: " in said
    assert SENT_OTHERWISE in said
    assert "Check the network" not in said
    assert len(s3.requests) <= 3
    assert {one.headers["accept-encoding"] for one in s3.requests} == {"gzip", "identity"}
    if way == "read by libcurl":
        assert f"{len(PACKED):,} bytes were listed, and {len(TEXT):,} came: " in said


@pytest.mark.parametrize("answer", [inflated, inflated_with_a_length])
@pytest.mark.parametrize("way", ["read by libcurl", "stream by libcurl"])
def test_more_than_fits_is_told_as_well(
    s3: ScriptedS3, read: Read, way: str, answer: Answer
) -> None:
    s3.objects["packed"] = gzip.compress(bytes(3 << 20))
    s3.answers("packed", *[answer] * 20)
    with pytest.raises(Problem) as raised:
        read(s3, way, "packed")
    listed = len(s3.objects["packed"])
    assert f"{listed:,} bytes were listed, and more than " in str(raised.value)
    assert "Check the network" not in str(raised.value)
    assert len(s3.requests) <= 3


def test_a_store_is_asked_the_other_way_once_and_not_for_each_object(s3: ScriptedS3) -> None:
    names = [f"text-{number}" for number in range(20)]
    s3.objects = dict.fromkeys(names, TEXT)
    for name in names:
        s3.answers(name, *[cloudflare] * 3)
    reader = BulkReader(s3.source, 1, PATIENCE)
    assert reader.read(s3.listed(), WHO) == [TEXT] * len(names)
    assert len(s3.requests) == len(names) + 1
    assert reader.traffic().retries == {"wrong length": 1}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_accepted_is_not_signed(s3: ScriptedS3, read: Read, way: str) -> None:
    """Google's front end changes the header on the way."""
    s3.answers("packed", *[google] * 2)
    read(s3, way, "packed")
    for request in s3.requests:
        assert request.headers["accept-encoding"] == "gzip"
        assert "accept-encoding" not in request.headers["authorization"]


def test_heads_say_how_long_the_stored_bytes_are(s3: ScriptedS3) -> None:
    def head(length: str, **headers: str) -> Answer:
        def answer(exchange: Exchange) -> bool:
            lines = [f'ETag: "{exchange.etag}"', "Last-Modified: Mon, 08 Nov 2021 00:00:05 GMT"]
            lines += [f"Content-Length: {length}"] if length else []
            lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
            exchange.connection.sendall(
                ("\r\n".join(["HTTP/1.1 200 OK", *lines]) + "\r\n\r\n").encode()
            )
            return True

        return answer

    stored = str(len(PACKED))
    root = S3Prefix("s3://bucket/deep", lambda _: client)
    client = client_of(s3.url, PATIENCE)
    for answers in (
        [head(stored)],
        [head(str(len(TEXT)), x_goog_stored_content_length=stored)],
        [head("", x_goog_stored_content_length=stored)],
        [head("", Content_Encoding="gzip"), head(stored)],
    ):
        s3.answers("packed", *answers)
        found = root.find("packed")
        assert found is not None
        assert found.size == len(PACKED)
    assert [one.headers["accept-encoding"] for one in s3.requests] == [
        *("identity", "identity", "identity", "identity", "gzip"),
    ]
    s3.answers("packed", head(""), head(""))
    with pytest.raises(Problem, match="does not tell how long it is"):
        root.find("packed")


@pytest.mark.parametrize("way", WAYS)
def test_a_refusal_that_comes_as_gzip_is_read(
    s3: ScriptedS3, read: Read, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    why = "User: arn:aws:iam::123456789012:user/x is not authorized to perform: kms:Decrypt"

    def refused(exchange: Exchange) -> bool:
        document = f"<Error><Code>AccessDenied</Code><Message>{why}</Message></Error>"
        packed = gzip.compress(document.encode())
        return exchange.send("403 Forbidden", packed, Content_Encoding="gzip")

    s3.answers("packed", refused)
    with caplog.at_level(logging.INFO, "tasks.storage"), pytest.raises(Problem) as raised:
        read(s3, way, "packed")
    assert f"S3 says: {why}." in str(raised.value)
    assert why in caplog.text


def test_a_bomb_in_place_of_a_refusal_is_not_unpacked(s3: ScriptedS3, read: Read) -> None:
    bomb = gzip.compress(bytes(200 << 20), 9)
    refused = lambda exchange: exchange.send("403 Forbidden", bomb, Content_Encoding="gzip")  # noqa: E731
    for way in ("read", "read by libcurl"):
        s3.answers("packed", refused)
        with pytest.raises(Problem, match="access is denied"):
            read(s3, way, "packed")


def test_a_refusal_without_a_reason_stays_short(s3: ScriptedS3, read: Read) -> None:
    s3.answers("packed", error("403 Forbidden", "AccessDenied", "Access Denied"))
    with pytest.raises(Problem) as raised:
        read(s3, "read", "packed")
    assert "S3 says" not in str(raised.value)
