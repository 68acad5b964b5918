"""A proxy, or a portal that wants a person to log in, says 200 in S3's place: never believed."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tasks.problem import Problem
from tasks.storage import StoredObject, budget
from tasks.storage.bulk import BulkReader
from tasks.storage.checksum import PART_BYTES
from tasks.storage.deletion import delete
from tasks.storage.patience import Patience
from tasks.storage.s3 import S3Prefix
from tests.scripted_s3 import Answer, Exchange, ScriptedS3, client_of, cut_off

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PATIENCE = Patience(attempts=3, first_pause=0.001, longest_pause=0.01)
TO_LOG_IN = b"<html><head><title>Welcome</title><body><p>Log in<br></html>"
WELL_FORMED = b'<?xml version="1.0"?>\n<html><head><title>Hi</title></head><body/></html>'

PORTALS: dict[str, tuple[bytes, dict[str, str]]] = {
    "a page": (TO_LOG_IN, {"Content-Type": "text/html; charset=utf-8"}),
    "a page with a tag": (
        WELL_FORMED,
        {
            "Content-Type": "text/html",
            "ETag": '"5f3a-1"',
            "Last-Modified": "Mon, 08 Nov 2021 00:00:05 GMT",
        },
    ),
    "a page that is called nothing": (WELL_FORMED, {}),
    "XML of somebody else's": (b"<rss><channel/></rss>", {"Content-Type": "text/xml"}),
    "JSON": (b'{"error": "log in"}', {"Content-Type": "application/json"}),
    "nothing at all": (b"", {}),
}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass  # a client may hang up in the middle


class Portal:
    """A web server of this machine that gives everybody the same page."""

    def __init__(self) -> None:
        self.page, self.headers = PORTALS["a page"]
        portal = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response_only(200)
                for name, value in portal.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(portal.page)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(portal.page)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        self.server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture(scope="module")
def portal() -> Iterator[Portal]:
    portal = Portal()
    threading.Thread(target=portal.server.serve_forever, daemon=True).start()
    yield portal
    portal.server.shutdown()
    portal.server.server_close()


@pytest.fixture(scope="module")
def client(portal: Portal) -> "S3Client":
    return client_of(portal.url, PATIENCE)


@pytest.fixture
def root(client: "S3Client", monkeypatch: pytest.MonkeyPatch) -> S3Prefix:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(budget, "of_run", budget.RetryBudget())
    monkeypatch.setattr("tasks.storage.s3.impatient_client", lambda _: client)
    monkeypatch.setattr("tasks.storage.s3_upload.impatient_client", lambda _: client)
    return S3Prefix("s3://bucket/v2", lambda _: client)


LISTED = StoredObject("raw/a", 10, "0123", 0.0)

CALLS: dict[str, Callable[[S3Prefix, Path], object]] = {
    "check_readable": lambda root, _: root.check_readable(),
    "check_writable": lambda root, _: root.check_writable(),
    "objects": lambda root, _: list(root.objects("raw/")),
    "top_objects": lambda root, _: list(root.top_objects()),
    "first_key": lambda root, _: root.first_key("raw/", "raw/a"),
    "find": lambda root, _: root.find("a"),
    "read": lambda root, _: root.read("a"),
    "read a part": lambda root, _: root.read("a", 5, 10),
    "read the beginning": lambda root, _: root.read("a", 0, 10),
    "read_with_etag": lambda root, _: root.read_with_etag("a"),
    "stream": lambda root, _: b"".join(root.stream("a")),
    "write": lambda root, _: root.write("a", b"1"),
    "write_if": lambda root, _: root.write_if("a", b"1", ""),
    "write a small file": lambda root, path: root.write_file("a", _file(path, 10)),
    "write a large file": lambda root, path: root.write_file("a", _file(path, PART_BYTES + 1)),
    "remove": lambda root, _: root.remove(["a"]),
    "delete": lambda root, _: delete(root, [LISTED]),
}


def _file(folder: Path, size: int) -> Path:
    path = folder / "file"
    path.write_bytes(bytes(size))
    return path


@pytest.mark.parametrize("name", PORTALS)
@pytest.mark.parametrize("call", CALLS)
def test_nothing_that_a_portal_says_counts(
    portal: Portal, root: S3Prefix, tmp_path: Path, call: str, name: str
) -> None:
    portal.page, portal.headers = PORTALS[name]
    with pytest.raises(Problem, match=r"^(Objects below )?s3://bucket\S* (cannot be|did not arr)"):
        CALLS[call](root, tmp_path)


def test_a_portal_is_named_and_what_to_do_about_it(portal: Portal, root: S3Prefix) -> None:
    portal.page, portal.headers = PORTALS["a page with a tag"]
    with pytest.raises(Problem) as raised:
        root.find("a")
    assert str(raised.value).startswith(
        "s3://bucket/v2/a cannot be looked at: what came is no answer of S3's, but such as a proxy "
        "gives; see that AWS_ENDPOINT_URL_S3, if it is set, names an S3 server (after 3 tries in "
    )
    assert str(raised.value).endswith("; the last answer was not S3's).")


# Snapshots, as converters read them

BODY = b"[" + b'{"vehicleID": 1}, ' * 5_000 + b"{}]"


def instead(body: bytes, **headers: str) -> Answer:
    def answer(exchange: Exchange) -> bool:
        return exchange.send("200 OK", body, **headers)

    return answer


PAGES = {
    "of the same length": TO_LOG_IN.ljust(len(BODY)),
    "shorter": TO_LOG_IN,
    "longer": TO_LOG_IN.ljust(len(BODY) + 1),
    "empty": b"",
}


def reading(s3: ScriptedS3, way: str) -> tuple[BulkReader, Callable[[], bytes]]:
    reader = BulkReader(s3.source, 1, PATIENCE)
    [listed] = s3.listed("a")
    if way == "read":
        return reader, lambda: reader.read([listed], None)[0]
    return reader, lambda: b"".join(reader.stream(listed, None))


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedS3]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ScriptedS3({"a": BODY}) as server:
        yield server


@pytest.mark.parametrize("way", ["read", "stream"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_no_snapshot_nor_a_part_of_one(s3: ScriptedS3, way: str, name: str) -> None:
    page = instead(PAGES[name], Content_Type="text/html")
    s3.answers("a", page, page)
    reader, read = reading(s3, way)
    assert read() == BODY
    assert reader.traffic().retries == {"no ETag": 2}
    s3.answers("a", page, page, page)
    with pytest.raises(Problem, match=r"deep/a cannot be read: what came has no ETag, so it is no"):
        read()


@pytest.mark.parametrize("way", ["read", "stream"])
def test_a_page_with_a_tag_of_its_own_is_another_object(s3: ScriptedS3, way: str) -> None:
    s3.answers("a", instead(PAGES["of the same length"], ETag='"5f3a-1"'))
    with pytest.raises(Problem, match="deep/a was replaced while its week was converted"):
        reading(s3, way)[1]()


def tag(exchange: Exchange) -> str:
    return f'"{exchange.etag}"'


def longer_than_listed(exchange: Exchange) -> bool:
    return exchange.send("200 OK", exchange.body + b" ", ETag=tag(exchange))


def longer_than_said(exchange: Exchange) -> bool:
    exchange.head("200 OK", len(exchange.body), ETag=tag(exchange))
    exchange.connection.sendall(exchange.body + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    return False


@pytest.mark.parametrize("way", ["read", "stream"])
def test_what_is_longer_than_it_was_listed_is_never_the_snapshot(s3: ScriptedS3, way: str) -> None:
    s3.answers("a", *[longer_than_listed] * 3)
    with pytest.raises(Problem, match="deep/a cannot be read: "):
        reading(s3, way)[1]()


@pytest.mark.parametrize("way", ["read", "stream"])
def test_what_comes_behind_the_end_of_a_body_is_no_part_of_it(s3: ScriptedS3, way: str) -> None:
    s3.answers("a", longer_than_said)
    _, read = reading(s3, way)
    assert read() == BODY
    assert read() == BODY


# Proxies that know no ranges

NOT_THE_PART = r"deep/a cannot be read: .* not the part that was asked for"


def whole(exchange: Exchange) -> bool:
    return exchange.send("200 OK", exchange.body, ETag=tag(exchange))


def another_part(exchange: Exchange) -> bool:
    size = len(exchange.body)
    part = {"ETag": tag(exchange), "Content_Range": f"bytes 7-{size - 1}/{size}"}
    return exchange.send("206 Partial Content", exchange.body[7:], **part)


def the_rest(exchange: Exchange) -> bool:
    size = len(exchange.body)
    start = int(exchange.request.headers["range"].removeprefix("bytes=").removesuffix("-"))
    part = {"ETag": tag(exchange), "Content_Range": f"bytes {start}-{size - 1}/{size}"}
    return exchange.send("206 Partial Content", exchange.body[start:], **part)


@pytest.fixture
def behind(s3: ScriptedS3) -> S3Prefix:
    client = client_of(s3.url, PATIENCE)
    return S3Prefix("s3://bucket/deep", lambda _: client)


@pytest.mark.parametrize("wrong", [whole, another_part])
def test_a_stream_goes_on_with_the_rest_and_nothing_else(
    s3: ScriptedS3, behind: S3Prefix, wrong: Answer
) -> None:
    s3.objects["a"] = BODY * 30  # more than comes in one piece
    s3.answers("a", cut_off, wrong, the_rest)
    assert b"".join(behind.stream("a")) == BODY * 30
    s3.answers("a", cut_off, wrong, wrong, wrong)
    with pytest.raises(Problem, match=NOT_THE_PART):
        list(behind.stream("a"))


@pytest.mark.parametrize(("start", "size"), [(5, 10), (0, 10), (5, None)])
def test_a_part_is_the_one_that_was_asked_for(
    s3: ScriptedS3, behind: S3Prefix, start: int, size: int | None
) -> None:
    s3.answers("a", whole, another_part, whole)
    with pytest.raises(Problem, match=NOT_THE_PART):
        behind.read("a", start, size)


def test_all_of_it_is_a_part_that_is_as_long_as_that(s3: ScriptedS3, behind: S3Prefix) -> None:
    s3.answers("a", whole)
    assert behind.read("a", 0, len(BODY) + 1) == BODY


def test_a_page_that_lies_in_the_bucket_is_an_object_like_any_other(bucket: str) -> None:
    """As `make report` puts one there."""
    root = S3Prefix(bucket)
    root.write("report.html", WELL_FORMED)
    assert (found := root.find("report.html")) is not None
    assert found.size == len(WELL_FORMED)
    assert root.read("report.html") == WELL_FORMED == b"".join(root.stream("report.html"))
    root.write("empty.html", b"")
    assert root.read("empty.html") == b""
