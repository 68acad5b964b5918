"""EC2's other half: for each instance that EC2 knows to be there, a machine that is.

An instance gets its address when it is launched; a moment later it runs and its machine boots. One
that EC2 has terminated shuts its machine down. A machine can also be wanted back (a spot
interruption: the notice first, the end when its time has come) or die (power cut), and EC2 then
says so of the instance.
"""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ops.local_aws.backends import Backends
from ops.local_aws.instances import Image, Machine
from ops.local_aws.network import Network, Port

_INTERRUPTED = "Server.SpotInstanceTermination"


@dataclass
class Hypervisor:
    """The machines of all instances. All methods but `step` may be called by any thread."""

    backends: Backends
    network: Network
    image: Image
    folder: Path
    launch_seconds: float = 0.3
    """How long an instance is pending."""
    grace_seconds: float = 2.0
    """How long its processes have between SIGTERM and SIGKILL when an instance is terminated."""
    credential_seconds: int = 3600
    """How long the credentials of an instance are good for."""
    on_boot: Callable[[Machine], None] = lambda _machine: None
    machines: dict[str, Machine] = field(default_factory=dict)
    _ports: dict[str, Port] = field(default_factory=dict)
    _due: dict[str, float] = field(default_factory=dict)
    _ending: dict[str, threading.Thread] = field(default_factory=dict)

    def adopt(self, instance: Any) -> None:
        """Give a new instance of EC2's its address; it stays pending for a moment."""
        port = self.network.attach()
        self._ports[instance.id] = port
        self._due[instance.id] = time.monotonic() + self.launch_seconds
        instance._state.name, instance._state.code = "pending", 0
        nic = instance.nics[0]
        nic.private_ip_address = port.address
        nic.private_ip_addresses = [{"Primary": True, "PrivateIpAddress": port.address}]

    def step(self) -> None:
        """Bring machines and instances together once. The caller holds the backends' lock."""
        for instance in self.backends.instances():
            if instance.state in ("pending", "running") and not self._knows(instance.id):
                self.adopt(instance)
            if instance.id in self._due and time.monotonic() >= self._due[instance.id]:
                del self._due[instance.id]
                if instance.state == "pending":
                    self._boot(instance)
            machine = self.machines.get(instance.id)
            if instance.state == "terminated":
                self._forget_port(instance.id)
                if machine is not None:
                    _set_state(instance, "shutting-down", 32)
                    self._start_ending(machine, instance)
            elif machine is not None and instance.state == "running" and machine.is_wanted_back():
                self._terminate(instance, _INTERRUPTED, "Spot instance termination")

    def _knows(self, instance: str) -> bool:
        return instance in self._ports or instance in self.machines

    def _boot(self, instance: Any) -> None:
        role = self.backends.role_of(instance)
        facts = {
            "account": self.backends.account,
            "architecture": instance.architecture,
            "zone": instance.placement.zone,
            "image": instance.image_id,
            "instance": instance.id,
            "type": instance.instance_type,
            "launched": instance.launch_time.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "address": instance.private_ip,
            "region": self.backends.region,
            "lifecycle": instance.lifecycle or "on-demand",
            "group": instance.autoscaling_group.name if _is_of_group(instance) else "",
        }
        machine = Machine(
            self.image,
            self.folder / instance.id,
            self._ports.pop(instance.id),
            facts,
            self._credentials_of(role, instance.id),
            role.name if role else "",
        )
        self.machines[instance.id] = machine
        instance.has_machine = True
        sizes = [
            self.backends.ec2.get_volume(one.volume_id).size
            for _, one in instance.get_block_device_mapping
        ]
        machine.boot(str(instance.user_data or ""), max(sizes, default=8) << 30)
        _set_state(instance, "running", 16)
        self.on_boot(machine)

    def _credentials_of(self, role: Any, session: str) -> Callable[[], dict[str, str] | None]:
        kept: list[tuple[float, dict[str, str]]] = []

        def credentials() -> dict[str, str] | None:
            if role is None:
                return None
            if not kept or time.monotonic() > kept[-1][0]:
                with self.backends.lock:
                    fresh = self.backends.credentials(role, session, self.credential_seconds)
                kept.append((time.monotonic() + self.credential_seconds / 2, fresh))
            return kept[-1][1]

        return credentials

    def _start_ending(self, machine: Machine, instance: Any) -> None:
        if machine.id in self._ending:
            return

        def end() -> None:
            machine.shut_down(self.grace_seconds)
            with self.backends.lock:
                self.machines.pop(machine.id, None)
                del self._ending[machine.id]
                instance.has_machine = False
                _set_state(instance, "terminated", 48)
            shutil.rmtree(machine.folder / "opt", ignore_errors=True)

        self._ending[machine.id] = threading.Thread(target=end, daemon=True)
        self._ending[machine.id].start()

    def _forget_port(self, instance: str) -> None:
        port = self._ports.pop(instance, None)
        if port is not None:
            port.close()

    def _terminate(self, instance: Any, code: str, message: str) -> None:
        self.backends.ec2.terminate_instances([instance.id])
        instance.state_reason = _reason(f"{code}: {message}", code)

    # What can happen to a machine

    def machine(self, instance: str) -> Machine:
        """The machine of an instance; KeyError if there is none (any more)."""
        return self.machines[instance]

    def interrupt(self, instance: str, seconds: float) -> None:
        """The notice that a spot instance ends after `seconds` (120 on EC2)."""
        self.machine(instance).interruption = datetime.now(UTC) + timedelta(seconds=seconds)

    def kill(self, instance: str) -> None:
        """The machine's power is cut, and EC2 finds that it has gone."""
        machine = self.machine(instance)
        machine.kill()
        with self.backends.lock:
            found = self.backends.ec2.get_instance(instance)
            if found.state != "terminated":
                self._terminate(found, "Server.InternalError", "Internal error on launch")

    def by_address(self, address: str) -> Machine | None:
        """The machine with that address."""
        return next((one for one in list(self.machines.values()) if one.address == address), None)

    def all(self) -> Iterator[Machine]:
        yield from list(self.machines.values())

    def close(self) -> None:
        """End every machine at once."""
        for machine in self.all():
            machine.kill()
        for port in self._ports.values():
            port.close()


def _is_of_group(instance: Any) -> bool:
    return getattr(instance, "autoscaling_group", None) is not None


def _set_state(instance: Any, name: str, code: int) -> None:
    instance._state.name, instance._state.code = name, code


def _reason(message: str, code: str) -> Any:
    from moto.ec2.models.instances import StateReason

    return StateReason(message, code)
