"""The single steps of CloudFormation's work on a stack: a resource made, changed or removed.

Each step has its events, takes a moment, needs the rights of whoever began the work, and fails with
the reason that AWS gives. Whoever begins other work on the same stack overtakes what goes on.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ops.local_aws import resources, templates
from ops.local_aws.backends import Backends
from ops.local_aws.identity import Identity


class Failed(Exception):
    """A resource could not be made, changed or removed: its name, or AWS's reason."""


class Overtaken(Exception):
    """Somebody has begun a deletion in the meantime."""


@dataclass
class Entry:
    """A resource of a stack."""

    name: str
    kind: str
    resource: Any
    properties: dict[str, Any]
    status: str
    since: datetime

    @property
    def physical(self) -> str:
        """Its name in its own service."""
        return str(getattr(self.resource, "physical_resource_id", "") or "")


@dataclass
class Work:
    """What goes on with one stack: who began it, and as which of all works on that stack."""

    who: Identity
    turn: int


@dataclass
class Workshop:
    """Does the steps. `activities` gives those of an Auto Scaling group, the newest first."""

    backends: Backends
    activities: Callable[[str], list[dict[str, Any]]]
    seconds: float = 0.5
    """About how long the work on a whole stack takes."""
    stabilize_seconds: float = 10.0
    """How long the instances of a group may take to come."""
    failures: dict[tuple[str, str], str] = field(default_factory=dict)
    """What fails next: (create, update or delete; name of the resource) and AWS's reason."""
    entries: dict[str, dict[str, Entry]] = field(default_factory=dict)
    """The resources of each stack, by its id."""
    turns: dict[str, int] = field(default_factory=dict)
    """The number of the latest work on each stack."""

    def wanted(self, stack: Any) -> list[str]:
        """The resources that a stack should have, each after those that it refers to."""
        conditions = stack.resource_map.lazy_condition_map
        written = stack.template_dict["Resources"]
        return [
            name
            for name in templates.order(stack.template_dict)
            if "Condition" not in written[name] or conditions[written[name]["Condition"]]
        ]

    def _resolved(self, stack: Any, name: str) -> dict[str, Any]:
        from moto.cloudformation.parsing import clean_json

        written = stack.template_dict["Resources"][name].get("Properties", {})
        found: dict[str, Any] = clean_json(written, stack.resource_map)
        return found

    def make(self, stack: Any, work: Work, name: str, of: int) -> None:
        """Make one of `of` resources. Raises `Failed` with its name."""
        kind = stack.template_dict["Resources"][name]["Type"]
        self._step(stack, work, name, kind, "CREATE_IN_PROGRESS", "", of)
        resource: Any = None
        try:
            with self.backends.lock:
                properties = self._resolved(stack, name)
                self._check(work, "create", name, kind, properties)
                resources.check_creation(self.backends, kind, properties)
                resource = stack.resource_map[name]
                if resource is None:
                    raise Failed(f"Resource type {kind} is not supported here")
                now = datetime.now(UTC)
                entry = Entry(name, kind, resource, properties, "CREATE_IN_PROGRESS", now)
                self.entries[stack.stack_id][name] = entry
                resources.finish_creation(self.backends, resource, kind, properties)
            self._settle(stack, work, resource, kind)
        except Overtaken:
            raise
        except Exception as error:
            self._fail(stack, name, kind, "CREATE_FAILED", error)
        self._event(stack, name, kind, "CREATE_COMPLETE", "")

    def change(self, stack: Any, work: Work, name: str, of: int) -> None:
        """Bring a resource to what the template says now, unless it is so already."""
        from moto.cloudformation.parsing import parse_and_update_resource

        entry = self.entries[stack.stack_id][name]
        with self.backends.lock:
            properties = self._resolved(stack, name)
        if properties == entry.properties:
            return
        self._step(stack, work, name, entry.kind, "UPDATE_IN_PROGRESS", "", of)
        try:
            with self.backends.lock:
                self._check(work, "update", name, entry.kind, properties)
                if not resources.update(self.backends, entry.resource, entry.kind, properties):
                    written = stack.template_dict["Resources"][name]
                    changed = parse_and_update_resource(
                        name,
                        written,
                        stack.resource_map,
                        self.backends.account,
                        self.backends.region,
                    )
                    entry.resource = changed or entry.resource
                    entry.resource.logical_resource_id = name
                    stack.resource_map._parsed_resources[name] = entry.resource
                entry.properties = properties
            self._settle(stack, work, entry.resource, entry.kind)
        except Overtaken:
            raise
        except Exception as error:
            self._fail(stack, name, entry.kind, "UPDATE_FAILED", error)
        self._event(stack, name, entry.kind, "UPDATE_COMPLETE", "")

    def remove(self, stack: Any, work: Work, name: str, of: int) -> None:
        """Remove a resource, if the template does not say that it stays."""
        entry = self.entries[stack.stack_id][name]
        written = stack.template_dict["Resources"].get(name, {})
        self._step(stack, work, name, entry.kind, "DELETE_IN_PROGRESS", "", of)
        if written.get("DeletionPolicy") == "Retain":
            self._event(stack, name, entry.kind, "DELETE_SKIPPED", "")
            del self.entries[stack.stack_id][name]
            return
        try:
            with self.backends.lock:
                self._check(work, "delete", name, entry.kind, entry.properties)
                _remove_from_moto(self.backends, stack, entry)
            while not self._looked(
                lambda: resources.is_gone(self.backends, entry.resource, entry.kind)
            ):
                time.sleep(0.05)
        except Exception as error:
            self._fail(stack, name, entry.kind, "DELETE_FAILED", error)
        self._event(stack, name, entry.kind, "DELETE_COMPLETE", "")
        with self.backends.lock:
            del self.entries[stack.stack_id][name]
            stack.resource_map._parsed_resources.pop(name, None)

    def _looked(self, look: Callable[[], bool]) -> bool:
        with self.backends.lock:
            return look()

    def _settle(self, stack: Any, work: Work, resource: Any, kind: str) -> None:
        deadline = time.monotonic() + self.stabilize_seconds
        while not self._looked(lambda: resources.is_settled(self.backends, resource, kind)):
            self._go_on(stack, work)
            if time.monotonic() > deadline:
                activities = self.activities(resource.name)
                raise Failed(resources.why_unsettled(resource, activities))
            time.sleep(0.05)

    def _check(
        self, work: Work, deed: str, name: str, kind: str, properties: dict[str, Any]
    ) -> None:
        failure = self.failures.pop((deed, name), "")
        if failure:
            raise Failed(failure)
        arn = resources.arn_of(self.backends, kind, properties)
        for action in resources.RIGHTS.get(kind, {}).get(deed, ()):
            if work.who.policies.decide(action, arn, {}) != "allowed":
                service = action.partition(":")[0]
                on = "" if arn == "*" else f" on resource: {arn}"
                raise Failed(
                    f"User: {work.who.arn} is not authorized to perform: {action}{on} because no "
                    f"identity-based policy allows the {action} action (Service: {service}, Status "
                    "Code: 403)"
                )

    def _step(
        self, stack: Any, work: Work, name: str, kind: str, status: str, why: str, of: int
    ) -> None:
        self._go_on(stack, work)
        self._event(stack, name, kind, status, why)
        time.sleep(self.seconds / max(of, 1))
        self._go_on(stack, work)

    def _go_on(self, stack: Any, work: Work) -> None:
        if self.turns[stack.stack_id] != work.turn:
            raise Overtaken

    def _fail(self, stack: Any, name: str, kind: str, status: str, error: Exception) -> None:
        said = getattr(error, "message", None) or str(error)
        self._event(stack, name, kind, status, said)
        raise Failed(name) from error

    def _event(self, stack: Any, name: str, kind: str, status: str, why: str) -> None:
        from moto.cloudformation.models import Event

        with self.backends.lock:
            entry = self.entries.get(stack.stack_id, {}).get(name)
            if entry is not None:
                entry.status, entry.since = status, datetime.now(UTC)
            physical = entry.physical if entry else ""
            stack.events.append(
                Event(stack.stack_id, stack.name, name, physical, kind, status, why or None, None)
            )


def _remove_from_moto(backends: Backends, stack: Any, entry: Entry) -> None:
    resources.prepare_deletion(backends, entry.resource, entry.kind)
    if entry.kind == "AWS::EC2::SecurityGroupIngress":
        return
    written = {"Type": entry.kind, "Properties": entry.properties}
    try:
        stack.resource_map._delete_resource(entry.resource, written)
    except Exception as error:
        if "not found" not in str(error).lower() and "cannot be found" not in str(error).lower():
            raise
