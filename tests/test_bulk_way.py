"""How reading by the thousand gets there: by a connection, through a proxy, or from a folder."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.problem import Problem
from tasks.storage import open_root
from tasks.storage.address import BulkSource, Credentials
from tasks.storage.bulk import BulkReader
from tasks.storage.patience import Patience
from tasks.storage.traffic import Traffic
from tests.scripted_s3 import ScriptedS3, error

PATIENCE = Patience(first_pause=0.001, longest_pause=0.01)
WHO = Credentials("AKIDPLANTED", "planted-secret", "planted-token")


def test_connecting_has_an_end() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        address = listening.getsockname()
        waiting = []
        for _ in range(8):  # more than it keeps waiting: the next are not connected any more
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(address)
            waiting.append(one)
        source = replace(ScriptedS3({}).source, endpoint=f"http://127.0.0.1:{address[1]}")
        patience = replace(PATIENCE, connect=0.2, attempts=2)
        [listed] = ScriptedS3({"b": b"b"}).listed("b")
        with pytest.raises(Problem, match=r"timed out.* \(after 2 tries in "):
            BulkReader(source, 1, patience).read([listed], WHO)
        for one in waiting:
            one.close()


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedS3]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with ScriptedS3({"b": b"b"}) as server:
        yield server


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY"])
def test_a_proxy_of_the_environment_is_used(
    proxy: ScriptedS3, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, proxy.url)
    source = replace(proxy.source, endpoint="http://s3.example.test")
    assert BulkReader(source, 1, PATIENCE).read(proxy.listed("b"), WHO) == [b"b"]
    assert proxy.requests[0].target == "http://s3.example.test/bucket/deep/b"
    assert proxy.requests[0].headers["host"] == "s3.example.test"
    with ScriptedS3({"b": b"b"}) as direct:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert BulkReader(direct.source, 4, PATIENCE).read(direct.listed("b"), WHO) == [b"b"]
        assert direct.requests[0].target == "/bucket/deep/b"


WHERE = {
    "a bucket": (BulkSource("", bucket="maps", region="eu-west-1"), "maps.s3.eu-west-1.amazonaws"),
    "dots": (BulkSource("", bucket="a.b", region="us-east-1"), "s3.us-east-1.amazonaws.com:443"),
    "China": (
        BulkSource("", bucket="maps", region="cn-north-1"),
        "maps.s3.cn-north-1.amazonaws.com.cn:443",
    ),
    "an endpoint": (
        BulkSource("", bucket="maps", region="x", endpoint="https://s3.example.test:444"),
        "s3.example.test:444",
    ),
}


@pytest.mark.parametrize(("source", "host"), WHERE.values(), ids=WHERE)
def test_a_proxy_learns_where_to_and_no_more(
    proxy: ScriptedS3, monkeypatch: pytest.MonkeyPatch, source: BulkSource, host: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    refused = error("407 Proxy Authentication Required")
    proxy.script[""].extend([refused] * 2)
    reader = BulkReader(source, 1, replace(PATIENCE, attempts=2))
    with pytest.raises(Problem, match=r"response 407 \(after 2 tries in "):
        reader.read(proxy.listed("b"), WHO)
    for request in proxy.requests:
        assert (request.method, request.target.startswith(host)) == ("CONNECT", True)
        assert not {"authorization", "x-amz-security-token"} & set(request.headers)


def test_a_folder_is_just_read(tmp_path: Path) -> None:
    body = bytes(range(256)) * 700
    (tmp_path / "a").write_bytes(body)
    root = open_root(str(tmp_path))
    listed = list(root.objects("a"))
    reader = BulkReader(root.bulk_source(), 4)
    assert reader.read(listed, None) == [body]
    assert b"".join(reader.stream(listed[0], None)) == body
    assert reader.traffic() == Traffic()
    for sentence, change in (
        ("was replaced while its week was converted", lambda: (tmp_path / "a").write_bytes(b"b")),
        ("was listed but is gone now", (tmp_path / "a").unlink),
    ):
        change()
        with pytest.raises(Problem, match=f"/a {sentence}"):
            reader.read(listed, None)
        with pytest.raises(Problem, match=f"/a {sentence}"):
            list(reader.stream(listed[0], None))
