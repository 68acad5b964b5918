"""How reading by the thousand gets there: by a connection, through a proxy, or from a folder."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.problem import Problem
from tasks.storage import open_root
from tasks.storage.address import Credentials
from tasks.storage.bulk import BulkReader
from tasks.storage.patience import Patience
from tasks.storage.traffic import Traffic
from tests.conftest import free_port
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
        source = replace(ScriptedS3({}).source, bucket_url=f"http://127.0.0.1:{address[1]}/bucket/")
        patience = replace(PATIENCE, connect=0.2, attempts=2)
        [listed] = ScriptedS3({"b": b"b"}).listed("b")
        with pytest.raises(Problem, match=r"timed out.* \(after 2 tries in "):
            BulkReader(source, 1, patience).read([listed], WHO)
        for one in waiting:
            one.close()


@pytest.mark.parametrize("proxied", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_nothing_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, proxied: str) -> None:
    """A proxy is used if, and only if, the source says so: boto3 has decided that."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(proxied, f"http://127.0.0.1:{free_port()}")
    with ScriptedS3({"b": b"b"}) as server:
        assert BulkReader(server.source, 4, PATIENCE).read(server.listed("b"), WHO) == [b"b"]
        monkeypatch.setenv("NO_PROXY", "*")
        source = replace(
            server.source, bucket_url="http://s3.example.test/bucket/", proxy=server.url
        )
        assert BulkReader(source, 1, PATIENCE).read(server.listed("b"), WHO) == [b"b"]
        direct, through = server.requests
    assert direct.target == "/bucket/deep/b"
    assert through.target == "http://s3.example.test/bucket/deep/b"
    assert through.headers["host"] == "s3.example.test"


def test_a_proxy_learns_where_to_and_no_more() -> None:
    with ScriptedS3({"b": b"b"}) as proxy:
        refused = error("407 Proxy Authentication Required")
        proxy.script[""].extend([refused] * 2)
        source = replace(
            proxy.source, bucket_url="https://maps.s3.eu-west-1.amazonaws.com/", proxy=proxy.url
        )
        reader = BulkReader(source, 1, replace(PATIENCE, attempts=2))
        with pytest.raises(Problem, match=r"response 407 \(after 2 tries in "):
            reader.read(proxy.listed("b"), WHO)
        for request in proxy.requests:
            assert request.method == "CONNECT"
            assert request.target == "maps.s3.eu-west-1.amazonaws.com:443"
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
