"""How throughput grows from one worker to three, each at an address of its own, with one luigid.

A machine with two cores cannot do three times the work, but that is not what a fleet is asked: it
is asked whether workers that share S3, a destination and a scheduler get into each other's way. So
each worker's way to S3 is a link that takes 50 ms longer and counts raw GETs, and each may have two
GETs under way: then it waits nearly all of the time. The rate is that of the time in which all are
at it, since start and end of a process are no matter of throughput. It is printed, not judged; what
must hold exactly is that three workers have three times as many GETs under way as one.
"""

import asyncio
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ops import luigid
from tasks.bustimes import synthetic
from tasks.storage import open_root
from tasks.weeks import Week, span
from tests.conftest import PROJECT, free_port

pytestmark = pytest.mark.soak

LATENCY_SECONDS = 0.05
READS_AT_ONCE = 2
RAW_GET = re.compile(rb"GET /[^ ]*raw/bustimes__[^ ?]*\.json[ ?]")
WEEKS = list(span(Week(2021, 30), Week(2021, 32)))


@dataclass
class Traffic:
    """Raw GETs under way over all links."""

    now: int = 0
    most: int = 0

    def add(self, number: int) -> None:
        self.now += number
        self.most = max(self.most, self.now)


@dataclass
class Link:
    """One worker's way to S3, at an address of its own."""

    upstream: str
    address: str
    traffic: Traffic
    times: list[float] = field(default_factory=list)
    """When each raw GET went by."""
    url: str = ""

    async def open(self) -> None:
        server = await asyncio.start_server(self._connected, self.address, 0)
        self.url = f"http://{self.address}:{server.sockets[0].getsockname()[1]}"

    async def _connected(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        server = urlsplit(self.upstream)
        reader, writer = await asyncio.open_connection(server.hostname, server.port)
        asked = [0]  # raw GETs of this connection that wait for their answers

        async def there() -> None:
            while data := await client.read(1 << 16):
                if gets := len(RAW_GET.findall(data)):
                    self.times += [time.monotonic()] * gets
                    asked[0] += gets
                    self.traffic.add(gets)
                writer.write(data)
                await writer.drain()
            writer.close()

        async def back() -> None:
            delayed: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

            async def send() -> None:
                while True:
                    due, data = await delayed.get()
                    if not data:
                        break
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                    answer.write(data)
                    await answer.drain()
                    self.traffic.add(-asked[0])
                    asked[0] = 0
                answer.close()

            sender = asyncio.create_task(send())
            while data := await reader.read(1 << 18):
                delayed.put_nowait((time.monotonic() + LATENCY_SECONDS, data))
            delayed.put_nowait((0, b""))
            await sender

        await asyncio.gather(there(), back(), return_exceptions=True)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Where all links live."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def measure(
    workers: int, bucket: str, server: str, loop: asyncio.AbstractEventLoop, folder: Path
) -> tuple[float, int]:
    """Raw GETs a second while all are at it, and how many were under way at most."""
    traffic = Traffic()
    links = [Link(server, f"127.0.0.{2 + number}", traffic) for number in range(workers)]
    for link in links:
        asyncio.run_coroutine_threadsafe(link.open(), loop).result()
    service = luigid.make_service(
        folder / "luigid", free_port(), PROJECT / "luigi.cfg", host=links[0].address
    )
    service.start()
    try:
        processes = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "ops", "full", "--scheduler", service.address),
                    *("--weeks", ",".join(map(str, WEEKS[:workers]))),
                ],
                cwd=PROJECT,
                env=os.environ
                | {
                    "AWS_ENDPOINT_URL_S3": link.url,
                    "NO_PROXY": "127.0.0.0/8",
                    "BUSTIMES_SOURCE": bucket,
                    "BUSTIMES_DESTINATION": f"{bucket}/of-{workers}",
                    "BUSTIMES_SPOOL": str(folder / f"spool-{link.address}"),
                    "BUSTIMES_READS_AT_ONCE": str(READS_AT_ONCE),
                    "BUSTIMES_PROCESSES": "1",
                    "LOCAL_STATE": str(folder / f"state-{link.address}"),
                },
                stderr=subprocess.DEVNULL,
            )
            for link in links
        ]
        assert [process.wait(120) for process in processes] == [0] * workers
    finally:
        service.stop()
    assert all(link.times for link in links), "a worker had nothing to do"
    begin, end = max(link.times[0] for link in links), min(link.times[-1] for link in links)
    gets = sum(begin <= moment <= end for link in links for moment in link.times)
    return gets / max(end - begin, 1e-9), traffic.most


def test_three_workers_do_not_get_into_each_others_way(
    bucket: str,
    s3_server: str,
    loop: asyncio.AbstractEventLoop,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    root = open_root(bucket)
    for week in WEEKS:
        end = week.start.replace(hour=12)
        for key, body in synthetic.snapshots(week.start, end, interval_seconds=300, vehicles=10):
            root.write(key, body)
    one, under_way_of_one = measure(1, bucket, s3_server, loop, tmp_path / "one")
    three, under_way_of_three = measure(3, bucket, s3_server, loop, tmp_path / "three")
    record_property(
        "throughput",
        f"{one:.0f} raw GETs a second with one worker, {three:.0f} with three: "
        f"{three / one:.2f} times as many",
    )
    assert under_way_of_one == READS_AT_ONCE
    assert under_way_of_three == 3 * READS_AT_ONCE
    weeks = [f"{week}.jsonl.gz" for week in WEEKS]
    assert [one.key for one in open_root(f"{bucket}/of-3").top_objects()] == weeks
