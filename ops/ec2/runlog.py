"""The lines of a run in CloudWatch Logs: an instance ships them, a laptop follows them.

A `Shipper` never holds up who gives it lines, and keeps them while CloudWatch cannot be reached, up
to some megabytes; if it has to drop any, the oldest, the log says where and how many. `LogStream`
reads what is new in one stream, `follow` in all streams of a run. Time is the instances' own. This
module does not know what the lines say.
"""

import contextlib
import datetime as dt
import heapq
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from botocore import exceptions as aws_errors

from ops.ec2.aws import Aws, code_of, explained, patiently, pauses

if TYPE_CHECKING:
    from mypy_boto3_logs.client import CloudWatchLogsClient

# CloudWatch's rules for one PutLogEvents.
_BATCH_EVENTS = 10_000
_BATCH_BYTES = 1_048_576
_BYTES_BESIDES = 26
"""What CloudWatch adds to each event when it counts bytes."""
_BATCH_MILLISECONDS = 24 * 3600 * 1000
_EVENT_BYTES = 200_000
"""Less than the 256 KB that an event may have had at all times."""

_KEPT_BYTES = 8 << 20
_GATHER_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0

PREFIX = "run/"
"""Log streams of a run are named by this and the instance."""

Event = tuple[int, str]
"""Milliseconds since the epoch, and a line."""


class Shipper:
    """Sends lines to one log stream from a thread of its own, in order, many at once."""

    def __init__(self, group: str, stream: str, region: str) -> None:
        """`stream` is made when the first line is sent; `group` must be there by then."""
        self._group, self._stream = group, stream
        self._aws = Aws(region)
        self._waiting: deque[Event] = deque()
        self._bytes = 0
        self._lost = 0
        self._last = 0
        self._news = threading.Condition()
        self._ends: float | None = None
        """Until when to go on trying, once no more lines will come."""
        self._thread = threading.Thread(target=self._send_all, name="log shipper", daemon=True)
        self._thread.start()

    def line(self, text: str) -> None:
        """Take a line; returns at once. One that is too long for CloudWatch becomes several."""
        with self._news:
            # Never backwards, even where the clock is set back: CloudWatch wants them in order.
            self._last = max(self._last, time.time_ns() // 1_000_000)
            for piece in _pieces(text):
                self._waiting.append((self._last, piece))
                self._bytes += _size(piece)
            while self._bytes > _KEPT_BYTES:
                self._bytes -= _size(self._waiting.popleft()[1])
                self._lost += 1
            self._news.notify()

    def close(self, seconds: float = 10.0) -> None:
        """Send what is left, for so long at most; never raises."""
        with self._news:
            self._ends = time.monotonic() + seconds
            self._news.notify()
        self._thread.join(seconds + 1)
        with self._news:
            left = len(self._waiting) + self._lost
        if self._thread.is_alive() or left:
            self._complain(f"the last lines ({left} at least) were not sent")

    def _send_all(self) -> None:
        while batch := self._next_batch():
            self._send(batch)

    def _next_batch(self) -> list[Event]:
        """The next events to send; empty when there will be none any more."""
        with self._news:
            self._news.wait_for(lambda: self._waiting or self._ends is not None)
            if self._ends is None:  # a line seldom comes alone
                self._news.wait_for(lambda: self._ends is not None, _GATHER_SECONDS)
            batch: list[Event] = []
            room = _BATCH_BYTES
            if self._lost and self._waiting:
                gap = f"({self._lost:,} lines are missing here; they are in the instance's own log)"
                batch.append((self._waiting[0][0], gap))
                room -= _size(gap)
                self._lost = 0
            while (
                self._waiting
                and len(batch) < _BATCH_EVENTS
                and _size(self._waiting[0][1]) <= room
                and self._waiting[0][0] < (batch or self._waiting)[0][0] + _BATCH_MILLISECONDS
            ):
                batch.append(self._waiting.popleft())
                room -= _size(batch[-1][1])
                self._bytes -= _size(batch[-1][1])
            return batch

    def _send(self, batch: list[Event]) -> None:
        """Send a batch, trying until CloudWatch has it or there is no time left."""
        pause = 1.0
        while True:
            try:
                self._put(batch)
                return
            except Exception as error:  # whatever it is, the run goes on
                if (
                    isinstance(error, aws_errors.ClientError)
                    and code_of(error) == "InvalidParameterException"
                ):
                    self._complain(f"CloudWatch refuses {len(batch)} lines ({error})")
                    with self._news:
                        self._lost += len(batch)
                    return
                if pause == 1.0:
                    self._complain(f"CloudWatch cannot be written ({error}); lines wait")
            with self._news:
                if self._ends is not None and time.monotonic() + pause > self._ends:
                    self._lost += len(batch)
                    return
                had_ended = self._ends
                self._news.wait_for(
                    lambda had=had_ended: self._ends != had,  # type: ignore[misc]
                    random.uniform(pause / 2, pause),
                )
            pause = min(_LONGEST_PAUSE_SECONDS, pause * 2)

    def _put(self, batch: list[Event]) -> None:
        client = self._aws.client("logs")
        events: Any = [{"timestamp": when, "message": line} for when, line in batch]
        for attempt in range(2):
            try:
                client.put_log_events(
                    logGroupName=self._group, logStreamName=self._stream, logEvents=events
                )
                return
            except client.exceptions.ResourceNotFoundException:
                if attempt:
                    raise
            with contextlib.suppress(client.exceptions.ResourceAlreadyExistsException):
                client.create_log_stream(logGroupName=self._group, logStreamName=self._stream)

    def _complain(self, what: str) -> None:
        print(f"log stream {self._group}:{self._stream}: {what}", file=sys.stderr, flush=True)


class LogStream:
    """What is new in one log stream, look by look. A stream that is not there yet has nothing."""

    def __init__(self, client: "CloudWatchLogsClient", group: str, name: str, since: int = 0):
        """`since` is in milliseconds since the epoch."""
        self.name = name
        self._client = client
        self._where: dict[str, Any] = {
            "logGroupName": group,
            "logStreamName": name,
            "startTime": since,
            "startFromHead": True,
        }

    def new(self) -> Iterator[Event]:
        """Each line since the last look, in the order in which they were sent.

        What is not taken of a look is lost to the next.
        """
        while True:
            try:
                page = patiently(lambda: self._client.get_log_events(**self._where))
            except aws_errors.ClientError as error:
                if is_throttled(error) or code_of(error) == "ResourceNotFoundException":
                    return  # the next look finds it
                raise
            is_last = page["nextForwardToken"] == self._where.get("nextToken")
            self._where["nextToken"] = page["nextForwardToken"]
            for event in page["events"]:
                for line in event["message"].removesuffix("\n").split("\n"):
                    yield event["timestamp"], line
            if is_last:
                return


def follow(
    aws: Aws,
    group: str,
    prefix: str,
    since: dt.datetime | None,
    until: Callable[[], bool],
) -> Iterator[tuple[str, str]]:
    """The lines of every stream whose name starts with `prefix`, as (name, line).

    Each stream's lines come in its order, those of several by their time, as far as they have
    arrived by then. Ends when `until` says so, after one more look: ``lambda: True`` shows what is
    there, ``lambda: False`` goes on for ever. Raises `Problem` if the logs cannot be read.
    """
    client = aws.client("logs")
    start = int(since.timestamp() * 1000) if since else 0
    streams: dict[str, LogStream] = {}
    waits = pauses()
    while True:
        is_last = until()
        with explained(f"The logs of {group} cannot be read"):
            for name in _names(client, group, prefix):
                streams.setdefault(name, LogStream(client, group, name, start))
            looks = [_named(stream) for stream in streams.values()]
            for _, name, line in heapq.merge(*looks, key=itemgetter(0)):
                yield name, line
                waits = pauses()  # where one line is, others are near
        if is_last:
            return
        time.sleep(next(waits))


def _names(client: "CloudWatchLogsClient", group: str, prefix: str) -> list[str]:
    where: Any = {"logGroupName": group} | ({"logStreamNamePrefix": prefix} if prefix else {})

    def ask() -> list[str]:
        pages = client.get_paginator("describe_log_streams").paginate(**where)
        return [one["logStreamName"] for page in pages for one in page["logStreams"]]

    try:
        return patiently(ask)
    except aws_errors.ClientError as error:
        if is_throttled(error):
            return []  # the next look finds them
        raise


def _named(stream: LogStream) -> Iterator[tuple[int, str, str]]:
    return ((when, stream.name, line) for when, line in stream.new())


def is_throttled(error: aws_errors.ClientError) -> bool:
    """Whether AWS wants to be asked less often."""
    return "Throttl" in code_of(error) or code_of(error) == "TooManyRequestsException"


def _pieces(text: str) -> Iterator[str]:
    """A line in pieces that CloudWatch takes; it takes no empty one."""
    data = text.rstrip("\n").encode(errors="replace") or b" "
    start = 0
    while start < len(data):
        end = min(start + _EVENT_BYTES, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:  # in the middle of a character
            end -= 1
        yield data[start:end].decode()
        start = end


def _size(line: str) -> int:
    return len(line.encode()) + _BYTES_BESIDES
