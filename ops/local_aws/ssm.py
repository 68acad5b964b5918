"""SSM's run command: sends scripts to the agents of instances, which truly run them.

A command waits until the agent takes it, at most its delivery timeout; runs in an orchestration
folder of its own as AWS-RunShellScript does; and ends as Success, Failed, TimedOut or Cancelled
with all processes of its session but those that left it. What it printed is cut where AWS cuts it,
and shipped to CloudWatch Logs while it runs, if the instance's role may do that.
"""

import signal
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from ops.local_aws.agent import Run
from ops.local_aws.agents import Agents, now
from ops.local_aws.commands import Command, Invocation
from ops.local_aws.instances import Machine
from ops.local_aws.wire import Call, Refused

_LONGEST = 200_000
_TICK_SECONDS = 0.1
_KNOWN = {"commands", "executionTimeout", "workingDirectory"}


@dataclass
class RunCommand:
    """The commands of a region, and the API's calls about them."""

    agents: Agents
    _commands: dict[str, Command] = field(default_factory=dict)

    # What callers ask for

    def send_command(self, call: Call) -> dict[str, Any]:
        asked = call.parameters
        document = asked.get("DocumentName", "").rpartition("/")[2]
        if document != "AWS-RunShellScript":
            raise Refused("InvalidDocument", f"Document {document} does not exist.")
        parameters = asked.get("Parameters", {})
        unknown = sorted(set(parameters) - _KNOWN)
        if unknown or not parameters.get("commands"):
            raise Refused("InvalidParameters", f"Invalid parameters: {', '.join(unknown)}")
        if len(call.body) > _LONGEST:
            raise Refused("ValidationException", "1 validation error detected: too long")
        command = Command(
            str(uuid.uuid4()),
            document,
            asked,
            now(),
            {instance: Invocation(instance) for instance in self._targets(asked)},
            self.agents.behaviour.settle_seconds,
        )
        self._commands[command.id] = command
        for one in command.invocations.values():
            threading.Thread(target=self._deliver, args=(command, one), daemon=True).start()
        return {"Command": command.shown()}

    def _targets(self, asked: dict[str, Any]) -> list[str]:
        named = list(asked.get("InstanceIds") or [])
        chosen: set[str] | None = None
        for target in asked.get("Targets") or []:
            key, values = target["Key"], target["Values"]
            if key == "InstanceIds":
                named += values
            elif key.startswith("tag:"):
                found = {one for one in self.agents.tagged(key, values) if self.agents.knows(one)}
                chosen = found if chosen is None else chosen & found
            else:
                raise Refused("InvalidTarget", f"The target {key} is not valid.")
        gone = [one for one in named if not self.agents.knows(one)]
        if gone:
            account = self.agents.backends.account
            raise Refused(
                "InvalidInstanceId",
                f"Instances [[{', '.join(gone)}]] not in a valid state for account {account}",
            )
        return sorted((chosen or set()) | set(named))

    def get_command_invocation(self, call: Call) -> dict[str, Any]:
        command = self._commands.get(call.parameters["CommandId"])
        invocation = command and command.invocations.get(call.parameters["InstanceId"])
        if not command or not invocation or not command.is_settled:
            raise Refused("InvocationDoesNotExist", "")
        return command.got(invocation)

    def list_command_invocations(self, call: Call) -> dict[str, Any]:
        asked = call.parameters
        found = [
            command.listed(invocation, bool(asked.get("Details")))
            for command in self._chosen(call)
            if command.is_settled
            for invocation in command.invocations.values()
            if asked.get("InstanceId") in (None, "", invocation.instance)
        ]
        return {"CommandInvocations": found}

    def list_commands(self, call: Call) -> dict[str, Any]:
        return {"Commands": [command.shown() for command in reversed(self._chosen(call))]}

    def _chosen(self, call: Call) -> list[Command]:
        one = call.parameters.get("CommandId")
        return [self._command(one)] if one else list(self._commands.values())

    def cancel_command(self, call: Call) -> dict[str, Any]:
        command = self._command(call.parameters["CommandId"])
        for instance in call.parameters.get("InstanceIds") or list(command.invocations):
            if instance in command.invocations:
                command.invocations[instance].cancelled = True
        return {}

    def _command(self, identity: str) -> Command:
        if identity not in self._commands:
            raise Refused("InvalidCommandId", "The command ID is not valid.")
        return self._commands[identity]

    # What becomes of a command

    def _deliver(self, command: Command, invocation: Invocation) -> None:
        behaviour = self.agents.behaviour
        seconds = behaviour.delivery_seconds
        if seconds is None:
            seconds = command.delivery_seconds
        if invocation.instance in behaviour.undeliverable:
            time.sleep(min(seconds, 0.3))
            return invocation.end("Failed", "Undeliverable")
        while (machine := self.agents.online(invocation.instance)) is None:
            if invocation.cancelled:
                return invocation.end("Cancelled")
            if not self.agents.knows(invocation.instance):
                return invocation.end("Failed", "Undeliverable")
            if time.monotonic() > command.born + seconds:
                return invocation.end("TimedOut", "DeliveryTimedOut")
            if time.monotonic() > command.born + 1 and invocation.status == "Pending":
                invocation.status = invocation.details = "Delayed"
            time.sleep(0.05)
        return self._execute(command, invocation, machine)

    def _execute(self, command: Command, invocation: Invocation, machine: Machine) -> None:
        parameters = command.asked["Parameters"]
        [place] = parameters.get("workingDirectory") or [""]
        try:
            run = Run(machine, command.id, "\n".join(parameters["commands"]), place)
        except OSError:
            return invocation.end("Failed", "Undeliverable")
        invocation.run = run
        invocation.status = invocation.details = "InProgress"
        deadline = time.monotonic() + command.execution_seconds
        while not run.ended:
            self._ship(command, machine, run)
            # An agent that cannot reach AWS goes on, and hears of a cancellation later.
            if invocation.cancelled and self.agents.online(machine.id):
                return self._stop(command, invocation, machine, "Cancelled", "")
            if time.monotonic() > deadline:
                return self._stop(command, invocation, machine, "TimedOut", "ExecutionTimedOut")
            run.wait(_TICK_SECONDS)
        invocation.code = run.code
        return self._end(command, invocation, machine, "Failed" if run.code else "Success", "")

    def _stop(
        self, command: Command, invocation: Invocation, machine: Machine, status: str, why: str
    ) -> None:
        assert invocation.run is not None
        invocation.run.stop(signal.SIGKILL)
        invocation.run.wait(5)
        self._end(command, invocation, machine, status, why)

    def _end(
        self, command: Command, invocation: Invocation, machine: Machine, status: str, why: str
    ) -> None:
        """The agent reports the end, as soon as it can; one whose instance has gone never does."""
        while self.agents.online(machine.id) is None:
            if machine.ended:
                return invocation.end("Failed", "Terminated")
            time.sleep(0.05)
        assert invocation.run is not None
        self._ship(command, machine, invocation.run, last=True)
        return invocation.end(status, why)

    def _ship(self, command: Command, machine: Machine, run: Run, last: bool = False) -> None:
        """Write what is new to the log group's streams, as far as the instance may."""
        backends, group = self.agents.backends, command.log_group
        if not group or machine.cut or machine.ended:
            return
        arn = f"arn:aws:logs:{backends.region}:{backends.account}:log-group:{group}:*"
        for name, pieces in run.new_text(last).items():
            if not pieces or not self.agents.may(machine.id, "logs:PutLogEvents", arn):
                continue
            stream = f"{command.id}/{machine.id}/aws-runShellScript/{name}"
            with backends.lock:
                logs = backends.logs
                if group not in logs.groups:
                    if not self.agents.may(machine.id, "logs:CreateLogGroup", arn):
                        continue
                    logs.create_log_group(group, {})
                if stream not in logs.groups[group].streams:
                    if not self.agents.may(machine.id, "logs:CreateLogStream", arn):
                        continue
                    logs.create_log_stream(group, stream)
                at = int(time.time() * 1000)
                events = [{"timestamp": at, "message": piece} for piece in pieces]
                logs.put_log_events(group, stream, events)
