"""One script on one instance, as SSM and CloudWatch Logs tell of it: how far it is, what it prints.

SSM itself keeps only the first 24,000 characters of what a script prints, and shows them when it
has ended. So the text comes from CloudWatch Logs, while it is being printed, and its last line is a
mark that whoever sent the script has put there: with it nothing is missing. Sends nothing.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from botocore import exceptions as aws_errors

from ops.ec2.aws import Aws, is_denied, patiently
from ops.ec2.runlog import LogStream, is_throttled
from tasks.progress import say

if TYPE_CHECKING:
    from mypy_boto3_ssm.type_defs import CommandInvocationTypeDef, GetCommandInvocationResultTypeDef

Answer = TypeVar("Answer")

DELIVERY_SECONDS = 60
"""How long SSM tries to hand a script to an instance; it takes no less than 30."""

_SHOWN_BYTES = 23_900
"""A text shorter than this is one that SSM has not cut."""

_GRACE_SECONDS = 20.0
"""How long the end of a long text may take on its way through CloudWatch."""

_LOST = "Lost"  # our word; SSM has none
_REPLACE = "Terminate it, and the fleet puts another in its place; then run this again."


@dataclass(frozen=True)
class Sent:
    """What was sent, and where its output goes."""

    script: str
    command: str
    """SSM's id of it."""
    group: str
    """The log group."""
    end: str
    """The line behind the last."""
    timeout_seconds: int


class Invocation:
    """The script on one instance; `on_line` gets each line that it prints, once."""

    def __init__(self, aws: Aws, sent: Sent, instance: str, on_line: Callable[[str], None]) -> None:
        self.instance, self.sent = instance, sent
        self.has_ended = False
        """Whether SSM says so; the last lines may still be on their way."""
        self.is_over = False
        """Whether nothing more will come of it."""
        self._aws = aws
        name = f"{sent.command}/{instance}/aws-runShellScript/stdout"
        self._stream = LogStream(aws.client("logs"), sent.group, name)
        self._may_read_logs = True
        self._output = _Output(sent.end, on_line)
        self._status = ""
        self._result: GetCommandInvocationResultTypeDef | None = None
        self._grace = 0.0
        self._misses = 0

    def note(self, found: "CommandInvocationTypeDef") -> None:
        """Take what SSM says of how far it is."""
        if not self.has_ended:
            self._status = found["StatusDetails"].replace(" ", "")
            self.has_ended = found["Status"] in ("Success", "Failed", "Cancelled", "TimedOut")
            self._grace = time.monotonic() + _GRACE_SECONDS

    def note_ping(self, ping: str | None, enough: int) -> None:
        """Take what SSM hears from the instance; after `enough` times nothing it counts as lost.

        SSM would call the script running until its time is over.
        """
        self._misses = 0 if ping == "Online" else self._misses + 1
        if self._misses >= enough and not self.has_ended:
            self._status, self.has_ended, self.is_over = _LOST, True, True

    def read(self) -> bool:
        """Pass on the lines that are new; returns whether there were any."""
        has_news = False
        if self._may_read_logs:
            try:
                has_news = self._output.take(line for _, line in self._stream.new())
            except aws_errors.ClientError as error:
                if not is_denied(error):
                    raise
                self._may_read_logs = False
        if has_news:
            self._grace = time.monotonic() + _GRACE_SECONDS
        if self.has_ended and not self.is_over:
            self.is_over = self._finish()
        return has_news

    def _finish(self) -> bool:
        """Whether all that it printed is passed on, or will not come any more."""
        if self._result is None:
            self._result = unless_throttled(
                lambda: self._aws.client("ssm").get_command_invocation(
                    CommandId=self.sent.command, InstanceId=self.instance
                )
            )
        if self._result is None:
            return False
        if self._output.is_complete:
            return True
        beginning = self._result["StandardOutputContent"]
        is_whole = self.sent.end in beginning or len(beginning.encode()) < _SHOWN_BYTES
        if not is_whole and self._may_read_logs and time.monotonic() < self._grace:
            return False
        self._output.take_from_start(beginning)
        if not is_whole:
            why = "has not all arrived in" if self._may_read_logs else "may not be read from"
            say(
                f"What {self.sent.script} printed on {self.instance} {why} the log group "
                f"{self.sent.group}, so it is cut here."
            )
        elif not self._output.is_complete:  # killed, or never started: SSM's own words
            self._output.take(self._result["StandardErrorContent"].splitlines())
        return True

    @property
    def code(self) -> int:
        """Its exit code, once it is over and `failure` is None."""
        return 0 if self._result is None else self._result["ResponseCode"]

    @property
    def failure(self) -> str | None:
        """Why it did not run to its end, and what to do; None where it did."""
        name, script = self.instance, self.sent.script
        if self._status in ("Success", "Failed") and self.code >= 0:
            return None
        if self._status == _LOST:
            return f"SSM has lost {name} while {script} ran there. {_REPLACE}"
        if self._status in ("DeliveryTimedOut", "Undeliverable"):
            return (
                f"{script} could not be delivered to {name} within {DELIVERY_SECONDS} s "
                f"({self._status}): SSM does not hear from it. {_REPLACE}"
            )
        if self._status in ("ExecutionTimedOut", "TimedOut"):
            return (
                f"{script} was stopped on {name}, for it was not done after "
                f"{self.sent.timeout_seconds:,} s ({self._status}). Its last lines say what it was "
                "at; run it again."
            )
        if self._status in ("Cancelled", "Terminated"):
            return f"{script} was cancelled on {name} ({self._status}). Run it again."
        return f"{script} was killed on {name}, or SSM could not start it. Run it again."


class _Output:
    """What one instance prints: each line passed on once, whichever way it comes."""

    def __init__(self, end: str, on_line: Callable[[str], None]) -> None:
        self._end, self._on_line = end, on_line
        self._passed_on = 0  # but for empty lines, which not every way keeps
        self.is_complete = False

    def take(self, lines: Iterable[str]) -> bool:
        """Take the lines that follow; returns whether there were any."""
        has_news = False
        for line in lines if not self.is_complete else ():
            has_news = True
            if line.endswith(self._end):
                self.is_complete = True
                line = line.removesuffix(self._end)
            if line or not self.is_complete:
                self._on_line(line)
            if self.is_complete:
                break
            self._passed_on += line != ""
        return has_news

    def take_from_start(self, text: str) -> None:
        """Take what is new in a text that begins with the first line."""
        lines = iter(text.removesuffix("\n").split("\n") if text else ())
        known = 0
        while known < self._passed_on and (line := next(lines, None)) is not None:
            known += line != ""
        self.take(lines)


def unless_throttled(ask: Callable[[], Answer]) -> Answer | None:
    """What `ask` returns, or None if AWS wants to be asked later: whoever waits asks again."""
    try:
        return patiently(ask)
    except aws_errors.ClientError as error:
        if is_throttled(error):
            return None
        raise
