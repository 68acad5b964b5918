"""The S3 that fails on demand, on the wire: byte by byte, by rule, by storm, nothing left over."""

import email.utils
import http.client
import os
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from xml.etree import ElementTree

import pytest

from tests.faults import Fault, FaultyS3
from tests.faults.plain import CannedServer, connection_to, socket_to
from tests.processes_under_test import wait_until


@pytest.fixture
def canned() -> Iterator[CannedServer]:
    with CannedServer() as server:
        yield server


def test_a_request_arrives_byte_by_byte_so_that_its_signature_holds(canned: CannedServer) -> None:
    head = (
        b"GET /b/a%20b?x=%2F&list-type=2 HTTP/1.1\r\nhost: another.example:99\r\n"
        b"X-Odd:  two  spaces \r\nAuthorization: AWS4-HMAC-SHA256 Credential=k/d\r\n\r\n"
    )
    with FaultyS3(canned.url) as proxy, socket_to(proxy.url) as client:
        client.sendall(head)
        assert client.recv(4096) == canned.answer
    assert canned.heads == [head]


def test_a_chunked_body_goes_through_both_ways(canned: CannedServer) -> None:
    canned.answer = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nTrailer: t\r\n\r\n"
    )
    with FaultyS3(canned.url) as proxy:
        rule = proxy.control.fail(Fault.TRUNCATED)
        connection = connection_to(proxy.url)
        for _ in range(2):
            connection.request("GET", "/b/k")
            assert connection.getresponse().read() == b"hello!"
        assert not rule.is_over  # no length, no middle
        assert proxy.control.seen() == []


def test_thousands_of_requests_leave_nothing_behind(canned: CannedServer) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    def ask(url: str, times: int) -> None:
        connection = connection_to(url)
        for _ in range(times):
            connection.request("GET", "/b/k")
            connection.getresponse().read()
        connection.close()

    before = open_files(), threading.active_count()
    with FaultyS3(canned.url) as proxy, ThreadPoolExecutor(8) as threads:
        for _ in threads.map(lambda _: ask(proxy.url, 50), range(100)):
            pass
        assert len(proxy.control.requests()) == 5_000
        wait_until(lambda: not proxy.connections(), lambda: "connections stay open")
        idle = connection_to(proxy.url)
        idle.request("GET", "/b/k")
        idle.getresponse().read()
    assert idle.sock is not None
    assert idle.sock.recv(1) == b""  # the end of the proxy is the end of every connection
    idle.close()
    # Fewer, where what earlier tests have left is tidied away meanwhile.
    wait_until(
        lambda: open_files() <= before[0] and threading.active_count() <= before[1],
        lambda: f"files and threads: {before}, now {open_files(), threading.active_count()}",
    )


def test_a_server_that_is_not_there_is_a_connection_reset() -> None:
    with CannedServer() as server:
        url = server.url
    with FaultyS3(url) as proxy, socket_to(proxy.url) as client:
        client.sendall(b"GET /b/k HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_server_may_end_its_connections_between_requests(canned: CannedServer) -> None:
    canned.keeps_open = False
    with FaultyS3(canned.url) as proxy:
        connection = connection_to(proxy.url)
        for _ in range(5):
            connection.request("GET", "/b/k")
            assert connection.getresponse().read() == b"hello"
            wait_until(lambda: not canned.open, lambda: "the server does not end them")
        connection.close()


@dataclass(frozen=True)
class Expected:
    fault: Fault
    status: str
    code: str
    closes: bool = True


REFUSALS = [
    Expected(Fault.INTERNAL_ERROR, "500 Internal Server Error", "InternalError"),
    Expected(Fault.SLOW_DOWN, "503 Slow Down", "SlowDown"),
    Expected(Fault.TOO_MANY_REQUESTS, "429 Too Many Requests", "TooManyRequests"),
    Expected(Fault.CLOCK_SKEW, "403 Forbidden", "RequestTimeTooSkewed"),
    Expected(Fault.EXPIRED_TOKEN, "400 Bad Request", "ExpiredToken"),
    Expected(Fault.REPLACED, "412 Precondition Failed", "PreconditionFailed", closes=False),
]


@pytest.mark.parametrize("expected", REFUSALS, ids=lambda one: one.code)
def test_a_refusal_looks_as_one_of_s3_does(canned: CannedServer, expected: Expected) -> None:
    with FaultyS3(canned.url) as proxy:
        proxy.control.fail(expected.fault)
        connection = connection_to(proxy.url)
        headers = {"Authorization": "AWS4-HMAC-SHA256 Credential=me/2021/s3", "If-Match": '"e"'}
        connection.request("GET", "/b/raw/k", headers=headers)
        answer = connection.getresponse()
        error = ElementTree.fromstring(answer.read())
        [request] = proxy.control.requests()
    assert f"{answer.status} {answer.reason}" == expected.status
    assert answer.headers["Content-Type"] == "application/xml"
    assert answer.headers["Server"] == "AmazonS3"
    assert (answer.headers["Connection"] == "close") is expected.closes
    assert (connection.sock is None) is expected.closes
    assert error.tag == "Error"
    assert error.findtext("Code") == expected.code
    assert error.findtext("Message")
    assert error.findtext("RequestId") == answer.headers["x-amz-request-id"] == request.request_id
    assert error.findtext("HostId") == answer.headers["x-amz-id-2"]
    assert canned.heads == []
    assert proxy.control.seen() == [(expected.fault, "GET", "raw/k")]
    ahead = email.utils.parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()
    assert (ahead > 1800) is (expected.fault is Fault.CLOCK_SKEW)
    connection.close()


def ask_for(url: str, *paths: str) -> list[int]:
    """The status of the answer to each, 0 where there is none."""
    connection = connection_to(url)
    statuses = []
    for path in paths:
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        except (OSError, http.client.HTTPException):
            statuses.append(0)
            connection.close()
    connection.close()
    return statuses


def test_rules_are_met_in_turn_by_what_they_are_for(canned: CannedServer) -> None:
    with FaultyS3(canned.url) as proxy:
        proxy.control.fail(Fault.SLOW_DOWN, key="a/*.json", times=2, after=1)
        proxy.control.fail(Fault.INTERNAL_ERROR, operation="GetObject")
        proxy.control.fail(Fault.TOO_MANY_REQUESTS, method="PUT", times=None)
        asked = ["/b/a/x/1.json", "/b/a/2.json", "/b/a%2F3.json", "/b/a/4.json", "/b/a/5.json"]
        assert ask_for(proxy.url, *asked, "/b?list-type=2") == [500, 503, 503, 200, 200, 200]
        proxy.control.fail(Fault.RESET, times=None)
        assert ask_for(proxy.url, "/b/k", "/b/k", "/b/k") == [0, 0, 0]
        proxy.control.calm()
        assert ask_for(proxy.url, "/b/k") == [200]
        assert proxy.control.counts() == {
            Fault.INTERNAL_ERROR: 1,
            Fault.SLOW_DOWN: 2,
            Fault.RESET: 3,
        }


QUICK = [
    Fault.SLOW_DOWN,
    Fault.RESET,
    Fault.TRUNCATED,
    Fault.FLIPPED_BYTE,
    Fault.ANSWER_LOST,  # which no GET can meet
]


def storm(canned: CannedServer, seed: int, share: float, threads: int) -> list[str]:
    """What 1,000 requests in no certain order meet with, in the order of keys."""
    paths = [f"/b/raw/{number % 250}" for number in range(1_000)]
    random.Random(threads).shuffle(paths)
    with FaultyS3(canned.url) as proxy, ThreadPoolExecutor(threads) as pool:
        proxy.control.storm(seed, share, QUICK)
        for _ in pool.map(lambda start: ask_for(proxy.url, *paths[start::threads]), range(threads)):
            pass
        requests = proxy.control.requests()
        assert len(proxy.control.seen()) == sum(one.fault is not None for one in requests)
    return sorted(f"{one.key} {one.fault}" for one in requests)


def test_a_storm_is_the_same_again_however_threads_take_turns(canned: CannedServer) -> None:
    first = storm(canned, seed=5, share=0.2, threads=8)
    assert storm(canned, seed=5, share=0.2, threads=3) == first
    hit = [line for line in first if not line.endswith(" None")]
    assert 150 < len(hit) < 250, len(hit)
    kinds = {line.partition(" ")[2] for line in hit}
    assert kinds == {str(fault) for fault in QUICK if fault is not Fault.ANSWER_LOST}
    assert storm(canned, seed=6, share=0.2, threads=8) != first
