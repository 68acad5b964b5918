"""Runs a script on instances through SSM: sends it, waits, passes on all it prints and how it ends.

Scripts are files; whatever else is to be said to them is a quoted argument of letters, digits, and
the few other characters that places and patterns of names need. Arguments stay in SSM's history, so
no secret may be one. What a script prints, stdout and stderr in their order, comes through the
stack's log group (see `ops.ec2.invocation`). Starts nothing that outlives the script.
"""

import re
import shlex
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore import exceptions as aws_errors

from ops.ec2.aws import Aws, code_of, explained, message_of, pauses
from ops.ec2.invocation import DELIVERY_SECONDS, Invocation, Sent, unless_throttled
from tasks import advice
from tasks.problem import Problem
from tasks.progress import say

if TYPE_CHECKING:
    from mypy_boto3_ssm.type_defs import CommandInvocationTypeDef

OnLine = Callable[[str, str], None]
"""Takes an instance's id and a line that the script printed there."""

_ARGUMENT = re.compile(
    r"[A-Za-z0-9._:/=,@+*?\[\]-]*"
)  # the pattern characters for not_ours, quoted
_INSTANCES_AT_ONCE = 50  # as many as SendCommand takes
_LOOK_SECONDS = 15.0
"""How often SSM is asked whether it still hears from the instances."""
_LOOKS_TO_LOSE = 2
_SPARE_SECONDS = 120
"""How much later than it should a script may end by SSM's word."""


def run(
    aws: Aws,
    stack: str,
    script: Path,
    arguments: Sequence[str] = (),
    *,
    on_line: OnLine,
    instances: Sequence[str] | None = None,
    timeout_seconds: int = 3600,
    cancel_on_interrupt: bool = True,
) -> dict[str, int]:
    """Run a script on instances and wait for it; returns its exit code on each.

    Without `instances` it runs on every one that SSM knows with the stack's tag. Raises `Problem`
    for an argument that is not allowed, for what AWS refuses, and, once it has ended on all others,
    for every instance on which it did not run to its end: lost, out of reach, timed out (after
    `timeout_seconds`), cancelled. On Ctrl-C it is cancelled there; without `cancel_on_interrupt` it
    goes on, as it does when this process is killed.
    """
    end = f"end of {script.name} {uuid.uuid4().hex}"
    text = compose(script, arguments, end)
    names = registered(aws, stack) if instances is None else list(dict.fromkeys(instances))
    if not names:
        raise Problem(
            f"{script.name} has no instance to run on: SSM knows none of the stack {stack}. "
            f"{advice.make('setup', ON='ec2')} starts them."
        )
    errand = _Errand(aws, stack, script.name, end, timeout_seconds, on_line)
    try:
        for start in range(0, len(names), _INSTANCES_AT_ONCE):
            errand.send(text, names[start : start + _INSTANCES_AT_ONCE])
        errand.wait()
    except KeyboardInterrupt:
        if cancel_on_interrupt:
            errand.cancel()
        elif errand.running:
            status = advice.make("status", ON="ec2")
            say(f"{script.name} goes on on {_listed(errand.running)}: {status} shows it.")
        raise
    except Problem as problem:
        if not errand.running:
            raise
        raise Problem(
            f"{problem} What was sent goes on on {_listed(errand.running)}; it may be sent again."
        ) from None
    return {one.instance: one.code for one in errand.invocations.values()}


def registered(aws: Aws, stack: str) -> list[str]:
    """The instances with the stack's tag that SSM knows, in the order of their ids."""
    with explained("SSM cannot be asked for its instances"):
        return sorted(_pings(aws, "tag:bustimes:stack", [stack]))


def compose(script: Path, arguments: Sequence[str], end: str) -> str:
    """What is sent: the file's text with its arguments, then the line `end` and its exit code.

    Raises `Problem` for an argument with a character that is not allowed.
    """
    for argument in arguments:
        if not _ARGUMENT.fullmatch(argument):
            raise Problem(
                f"{argument!r} is not sent to instances: use letters, digits and . _ : / = , @ + - "
                "* ? [ ] only."
            )
    text = script.read_text(encoding="utf-8")
    if "{{" in text:
        raise ValueError(f"{script} has {{{{, which SSM takes for a parameter of its own")
    # In a subshell, so that what follows it is said however the script ends.
    return (
        f"#!/bin/bash\n(\nset -- {shlex.join(arguments)}\n{text}\n) 2>&1\n"
        f"code=$?\necho {shlex.quote(end)}\nexit $code\n"
    )


@dataclass
class _Errand:
    """A script that is sent to instances, and waited for."""

    aws: Aws
    stack: str
    script: str
    end: str
    timeout_seconds: int
    on_line: OnLine
    invocations: dict[str, Invocation] = field(default_factory=dict)

    @property
    def running(self) -> list[str]:
        """The instances on which it runs, as far as is known."""
        return [name for name, one in self.invocations.items() if not one.has_ended]

    def send(self, text: str, names: list[str]) -> None:
        group = f"/{self.stack}"
        with explained(f"{self.script} cannot be sent to {_listed(names)}"):
            try:
                answer = self.aws.client("ssm").send_command(
                    InstanceIds=names,
                    DocumentName="AWS-RunShellScript",
                    Comment=f"bustimes {self.script}",
                    TimeoutSeconds=DELIVERY_SECONDS,
                    Parameters={
                        "commands": [text],
                        "executionTimeout": [str(self.timeout_seconds)],
                    },
                    CloudWatchOutputConfig={
                        "CloudWatchLogGroupName": group,
                        "CloudWatchOutputEnabled": True,
                    },
                    MaxConcurrency="100%",
                    MaxErrors="100%",  # a failure on one instance says nothing of the others
                )
            except aws_errors.ClientError as error:
                if code_of(error) != "InvalidInstanceId":
                    raise
                lost = re.findall(r"m?i-[0-9a-f]+", message_of(error)) or names
                raise Problem(
                    f"{self.script} cannot be sent: SSM does not know {_listed(lost)}, or has lost "
                    "sight of it. Terminate it, and the fleet puts another in its place; then run "
                    "this again."
                ) from None
        command = answer["Command"]["CommandId"]
        sent = Sent(self.script, command, group, self.end, self.timeout_seconds)
        for name in names:
            self.invocations[name] = Invocation(self.aws, sent, name, self._line_of(name))

    def _line_of(self, instance: str) -> Callable[[str], None]:
        return lambda line: self.on_line(instance, line)

    def wait(self) -> None:
        """Until it is over everywhere; raises `Problem` where it did not run to its end."""
        longest = DELIVERY_SECONDS + self.timeout_seconds + _SPARE_SECONDS
        deadline = time.monotonic() + longest
        next_look = time.monotonic() + _LOOK_SECONDS
        waits = pauses()
        while True:
            with explained(f"It is not known how far {self.script} is"):
                self._ask()
                for one in self.invocations.values():
                    if not one.is_over and one.read():
                        waits = pauses()  # where one line is, others are near
                if time.monotonic() > next_look:
                    self._look_for_lost()
                    next_look = time.monotonic() + _LOOK_SECONDS
            if all(one.is_over for one in self.invocations.values()):
                break
            if time.monotonic() > deadline:
                raise Problem(
                    f"SSM has not said for {longest:,} s that {self.script} has ended, although it "
                    "should have by then."
                )
            time.sleep(next(waits))
        failures = [one.failure for one in self.invocations.values() if one.failure]
        if failures:
            raise Problem("\n".join(failures))

    def cancel(self) -> None:
        """Have it stop wherever it runs; says whether that was possible."""
        commands = {one.sent.command for one in self.invocations.values() if not one.has_ended}
        try:
            with explained(f"{self.script} cannot be cancelled"):
                for command in commands:
                    self.aws.client("ssm").cancel_command(CommandId=command)
        except Problem as problem:
            say(f"{problem} It goes on on {_listed(self.running)}.")
        else:
            if commands:
                say(f"{self.script} is cancelled on {_listed(self.running)}.")

    def _ask(self) -> None:
        """Ask SSM how far it is."""
        for command in {one.sent.command for one in self.invocations.values() if not one.has_ended}:
            for found in unless_throttled(lambda it=command: self._states(it)) or []:  # type: ignore[misc]
                self.invocations[found["InstanceId"]].note(found)

    def _states(self, command: str) -> "list[CommandInvocationTypeDef]":
        ssm = self.aws.client("ssm")
        pages = ssm.get_paginator("list_command_invocations").paginate(CommandId=command)
        return [one for page in pages for one in page["CommandInvocations"]]

    def _look_for_lost(self) -> None:
        """Give up instances that are gone."""
        names = self.running
        if names:
            pings = unless_throttled(lambda: _pings(self.aws, "InstanceIds", names))
            for name in names if pings is not None else []:
                self.invocations[name].note_ping((pings or {}).get(name), _LOOKS_TO_LOSE)


def _pings(aws: Aws, key: str, values: list[str]) -> dict[str, str]:
    """What SSM hears from the instances it knows: `Online`, `ConnectionLost` or `Inactive`."""
    where: Any = [{"Key": key, "Values": values}]
    pages = aws.client("ssm").get_paginator("describe_instance_information").paginate(Filters=where)
    found = [one for page in pages for one in page["InstanceInformationList"]]
    return {one["InstanceId"]: one["PingStatus"] for one in found}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
