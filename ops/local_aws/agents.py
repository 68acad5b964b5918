"""SSM's agents: which instances SSM knows, and which of them answer.

An agent registers a moment after its instance has booted, if the instance's role lets it, and is
online while its instance can reach AWS. SSM forgets an instance when it has been terminated.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ops.local_aws.backends import Backends
from ops.local_aws.hypervisor import Hypervisor
from ops.local_aws.instances import Machine
from ops.local_aws.wire import Call, Refused


@dataclass
class Behaviour:
    """How long things take here, and what is wrong."""

    registration_seconds: float = 0.5
    settle_seconds: float = 0.1
    """So long after SendCommand an invocation does not exist yet."""
    delivery_seconds: float | None = None
    """The delivery timeout, instead of the command's own (30 seconds at least)."""
    lost: set[str] = field(default_factory=set)
    """Instances whose agents do not answer any more."""
    undeliverable: set[str] = field(default_factory=set)
    """Instances to which no command can be delivered, though SSM shows them online."""
    never: set[str] = field(default_factory=set)
    """Instances whose agents never register."""


@dataclass
class Agents:
    """The agents of a region."""

    backends: Backends
    hypervisor: Hypervisor
    may: Callable[[str, str, str], bool]
    """Whether an instance may do an action to a resource."""
    behaviour: Behaviour
    _registered: dict[str, datetime] = field(default_factory=dict)
    _seen: dict[str, datetime] = field(default_factory=dict)

    def boot(self, machine: Machine) -> None:
        """An instance came up: its agent registers in a moment."""

        def register() -> None:
            time.sleep(self.behaviour.registration_seconds)
            while not machine.ended:
                allowed = self.may(machine.id, "ssm:UpdateInstanceInformation", "*")
                if allowed and not machine.cut and machine.id not in self.behaviour.never:
                    self._registered[machine.id] = now()
                    return
                time.sleep(0.2)

        threading.Thread(target=register, daemon=True).start()

    def knows(self, instance: str) -> bool:
        """Whether the agent of an instance has registered, and the instance is still there."""
        return instance in self._registered and instance in self.hypervisor.machines

    def online(self, instance: str) -> Machine | None:
        """The machine of an instance whose agent answers."""
        machine = self.hypervisor.machines.get(instance)
        lost = instance in self.behaviour.lost or instance not in self._registered
        if machine is None or machine.ended or machine.cut or lost:
            return None
        self._seen[instance] = now()
        return machine

    def tagged(self, key: str, values: list[str]) -> set[str]:
        """The instances with a tag: `key` is ``tag:NAME``."""
        name = key.removeprefix("tag:")
        with self.backends.lock:
            return {
                one.id
                for one in self.backends.instances()
                if any(tag["key"] == name and tag["value"] in values for tag in one.get_tags())
            }

    def describe_instance_information(self, call: Call) -> dict[str, Any]:
        wanted = list(call.parameters.get("Filters") or [])
        wanted += [
            {"Key": one["key"], "Values": one["valueSet"]}
            for one in call.parameters.get("InstanceInformationFilterList") or []
        ]
        found = []
        for instance, since in list(self._registered.items()):
            machine = self.hypervisor.machines.get(instance)
            if machine is None:
                continue
            ping = "Online" if self.online(instance) else "ConnectionLost"
            shown = {
                "InstanceId": instance,
                "PingStatus": ping,
                "LastPingDateTime": self._seen.get(instance, since),
                "AgentVersion": "3.3.0.0",
                "IsLatestVersion": True,
                "PlatformType": "Linux",
                "PlatformName": "Amazon Linux",
                "PlatformVersion": "2023",
                "ResourceType": "EC2Instance",
                "IPAddress": machine.address,
                "ComputerName": f"ip-{machine.address.replace('.', '-')}.ec2.internal",
            }
            if all(self._matches(shown, one["Key"], one["Values"]) for one in wanted):
                found.append(shown)
        return {"InstanceInformationList": found}

    def _matches(self, shown: dict[str, Any], key: str, values: list[str]) -> bool:
        if key.startswith("tag:"):
            return shown["InstanceId"] in self.tagged(key, values)
        name = {"InstanceIds": "InstanceId", "PlatformTypes": "PlatformType"}.get(key, key)
        if name not in shown:
            raise Refused("InvalidFilterKey", f"The specified key {key} is not valid.")
        return shown[name] in values


def now() -> datetime:
    """The time as moto writes it: UTC, without saying so."""
    return datetime.now(UTC).replace(tzinfo=None)
