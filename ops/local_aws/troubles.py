"""Troubles on demand: what can be made to go wrong, by POST to /_local/NAME with a JSON object.

=============  ================================================  ================================
NAME           what it takes                                     what happens
=============  ================================================  ================================
interrupt      instance, seconds (120)                           spot notice now, the end then
kill           instance                                          its power is cut; EC2 says so
cut, restore   instance                                          off the network; on it again
freeze, thaw   instance                                          its processes are halted; go on
fill-disk      instance                                          ENOSPC for every further byte
free-disk      instance                                          room again
ssm            lost, undeliverable (lists of instances),         how SSM behaves; a list replaces
               registration_seconds, settle_seconds,             the one before
               delivery_seconds (null: as the command says)
capacity       spot (null: plenty), quota_vcpus,                 what AWS has to give; the next so
               unregistered, retry_seconds, has_disk_key         many never register with SSM
throttle       service, action (empty: all), times               refused as too many requests
expire         access_key, expired (true)                        credentials past their time
stack          name, status                                      CloudFormation shows that status
stacks         seconds (0.5), stabilize_seconds (10)             how long work on a stack takes
fail-resource  deed (create, update, delete), resource, reason   next time, with that reason
reset          -                                                 no trouble any more
=============  ================================================  ================================

GET /_local/state says what there is: instances, their addresses, folders and processes.
"""

import contextlib
import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ops.local_aws.agents import Agents, Behaviour
from ops.local_aws.backends import Backends
from ops.local_aws.groups import Capacity
from ops.local_aws.hypervisor import Hypervisor
from ops.local_aws.iam import Access
from ops.local_aws.stacks import Stacks
from ops.local_aws.wire import JSON_SERVICES, Call, Refused


@dataclass
class Troubles:
    """Does what is asked for at /_local/."""

    backends: Backends
    hypervisor: Hypervisor
    capacity: Capacity
    agents: Agents
    access: Access
    stacks: Stacks
    _throttled: dict[tuple[str, str], int] = field(default_factory=dict)

    def check(self, call: Call) -> None:
        """Raise `Refused` where the call is one too many."""
        for key in ((call.service, call.action), (call.service, "")):
            left = self._throttled.get(key, 0)
            if left > 0:
                self._throttled[key] = left - 1
                raise _throttled(call)

    def do(self, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Bring about one trouble. Raises LookupError and ValueError for what makes no sense."""
        known: dict[str, Callable[..., Any]] = {
            "interrupt": self._interrupt,
            "kill": self.hypervisor.kill,
            "cut": lambda instance: self.hypervisor.machine(instance).cut_off(),
            "restore": lambda instance: self.hypervisor.machine(instance).restore(),
            "freeze": lambda instance: self._signal(instance, signal.SIGSTOP),
            "thaw": lambda instance: self._signal(instance, signal.SIGCONT),
            "fill-disk": lambda instance: self.hypervisor.machine(instance).fill_disk(),
            "free-disk": lambda instance: self.hypervisor.machine(instance).free_disk(),
            "ssm": lambda **given: _set(self.agents.behaviour, given),
            "capacity": lambda **given: _set(self.capacity, given),
            "throttle": self._throttle,
            "expire": self._expire,
            "stack": self._stack,
            "stacks": lambda **given: _set(self.stacks.workshop, given),
            "fail-resource": self._fail_resource,
            "reset": self._reset,
        }
        if name == "state":
            return self._state()
        if name not in known:
            raise LookupError(f"there is no {name}; there are {', '.join(known)}")
        known[name](**asked)
        return {}

    def _interrupt(self, instance: str, seconds: float = 120) -> None:
        self.hypervisor.interrupt(instance, seconds)

    def _signal(self, instance: str, number: signal.Signals) -> None:
        for process in self.hypervisor.machine(instance).processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def _throttle(self, service: str, action: str = "", times: int = 1) -> None:
        self._throttled[service, action] = times

    def _expire(self, access_key: str, expired: bool = True) -> None:
        if expired:
            self.access.expired.add(access_key)
        else:
            self.access.expired.discard(access_key)

    def _stack(self, name: str, status: str) -> None:
        with self.backends.lock:
            self.backends.cloudformation.get_stack(name).status = status

    def _fail_resource(self, deed: str, resource: str, reason: str) -> None:
        self.stacks.workshop.failures[deed, resource] = reason

    def _reset(self) -> None:
        _set(self.capacity, vars(Capacity()))
        self.stacks.workshop.failures.clear()
        _set(self.stacks.workshop, {"seconds": 0.5, "stabilize_seconds": 10.0})
        defaults = vars(Behaviour()) | {
            "registration_seconds": self.agents.behaviour.registration_seconds
        }
        _set(self.agents.behaviour, defaults)
        self._throttled.clear()
        self.access.expired.clear()
        for machine in self.hypervisor.all():
            if machine.cut:
                machine.restore()

    def _state(self) -> dict[str, Any]:
        shown = {
            machine.id: {
                "address": machine.address,
                "folder": str(machine.folder),
                "home": str(machine.home),
                "processes": machine.processes(),
                "registered": self.agents.knows(machine.id),
                "group": machine.group,
                "cut": machine.cut,
                "ended": machine.ended,
                "disk": machine.has_disk,
            }
            for machine in self.hypervisor.all()
        }
        return {"instances": shown, "network": self.hypervisor.network.kind}


def _set(settings: Any, given: dict[str, Any]) -> None:
    for name, value in given.items():
        if not hasattr(settings, name):
            raise LookupError(f"there is no {name}; there are {', '.join(vars(settings))}")
        now = getattr(settings, name)
        setattr(settings, name, set(value) if isinstance(now, set) else value)


def _throttled(call: Call) -> Refused:
    if call.service == "ec2":
        return Refused("RequestLimitExceeded", "Request limit exceeded.", 503)
    if call.service == "s3":
        return Refused("SlowDown", "Please reduce your request rate.", 503)
    if call.service in JSON_SERVICES:
        return Refused("ThrottlingException", "Rate exceeded")
    return Refused("Throttling", "Rate exceeded")


def answer_json(problem: Exception | None, result: dict[str, Any]) -> tuple[str, bytes]:
    """Status and body of an answer to /_local/."""
    if problem is None:
        return "200 OK", json.dumps(result).encode()
    said = str(problem.args[0]) if problem.args else repr(problem)
    status = "404 Not Found" if isinstance(problem, LookupError) else "400 Bad Request"
    return status, json.dumps({"problem": said}).encode()
