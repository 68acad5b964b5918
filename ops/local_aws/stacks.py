"""CloudFormation: stacks that take their time, fail and are rolled back as the real ones are.

moto knows the resources; the life of a stack is here. A resource after the other is made, changed
or removed, each with its events; a failure takes back what was done, with the reason in the events;
while something is under way nothing else can be begun but a deletion. What is unchanged, its
references resolved, is left alone.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ops.local_aws import templates
from ops.local_aws.backends import Backends
from ops.local_aws.stack_work import Failed, Overtaken, Work, Workshop
from ops.local_aws.wire import Call, Refused

_UPDATABLE = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE")


@dataclass
class Stacks:
    """Every stack of the region."""

    workshop: Workshop
    changed: Callable[[], None]
    """Told whenever something in IAM may have changed."""

    @property
    def backends(self) -> Backends:
        return self.workshop.backends

    # What callers ask for

    def create_stack(self, call: Call) -> dict[str, Any]:
        from moto.cloudformation.models import Stack
        from moto.cloudformation.utils import generate_stack_id

        asked, backend = call.parameters, self.backends.cloudformation
        name = asked["StackName"]
        with self.backends.lock:
            if any(one.name == name for one in backend.stacks.values()):
                raise Refused("AlreadyExistsException", f"Stack [{name}] already exists")
            template = templates.read(asked.get("TemplateBody", ""))
            templates.check_capabilities(template, asked.get("Capabilities") or [])
            values = templates.parameters(template, asked.get("Parameters") or [], {})
            identity = generate_stack_id(name, self.backends.region, self.backends.account)
            stack = Stack(  # type: ignore[abstract]
                stack_id=identity,
                name=name,
                template=asked["TemplateBody"],
                parameters=values,
                account_id=self.backends.account,
                region_name=self.backends.region,
                tags={one["Key"]: one["Value"] for one in asked.get("Tags") or []},
            )
            stack.output_map = _no_outputs(stack)
            backend.stacks[identity] = stack
            self.workshop.entries[identity] = {}
            self._set(stack, "CREATE_IN_PROGRESS", "User Initiated")
        on_failure = "DO_NOTHING" if asked.get("DisableRollback") else asked.get("OnFailure")
        self._begin(stack, call, lambda work: self._create(stack, work, on_failure or "ROLLBACK"))
        return {"StackId": identity}

    def update_stack(self, call: Call) -> dict[str, Any]:
        asked = call.parameters
        with self.backends.lock:
            stack = self._find(asked["StackName"])
            if stack.status not in _UPDATABLE:
                raise Refused(
                    "ValidationError",
                    f"Stack:{stack.stack_id} is in {stack.status} state and can not be updated.",
                )
            body = asked.get("TemplateBody") or ""
            body = stack.template if asked.get("UsePreviousTemplate") else body
            template = templates.read(body)
            templates.check_capabilities(template, asked.get("Capabilities") or [])
            values = templates.parameters(template, asked.get("Parameters") or [], stack.parameters)
            tags = {one["Key"]: one["Value"] for one in asked.get("Tags") or []} or stack.tags
            if (template, values, tags) == (stack.template_dict, stack.parameters, stack.tags):
                raise Refused("ValidationError", "No updates are to be performed.")
            before = (stack.template, stack.parameters, stack.tags)
            self._set(stack, "UPDATE_IN_PROGRESS", "User Initiated")
        self._begin(
            stack, call, lambda work: self._update(stack, work, (body, values, tags), before)
        )
        return {"StackId": stack.stack_id}

    def delete_stack(self, call: Call) -> dict[str, Any]:
        with self.backends.lock:
            try:
                stack = self._find(call.parameters["StackName"])
            except Refused:
                return {}  # as AWS: what is not there is deleted
            if stack.status in ("DELETE_IN_PROGRESS", "DELETE_COMPLETE"):
                return {}
            self._set(stack, "DELETE_IN_PROGRESS", "User Initiated")
        self._begin(stack, call, lambda work: self._delete(stack, work))
        return {}

    def describe_stack_resources(self, call: Call) -> dict[str, Any]:
        asked = call.parameters
        shown = self._shown(asked["StackName"])
        wanted = asked.get("LogicalResourceId")
        return {"StackResources": [o for o in shown if wanted in (None, o["LogicalResourceId"])]}

    def list_stack_resources(self, call: Call) -> dict[str, Any]:
        shown = self._shown(call.parameters["StackName"])
        return {
            "StackResourceSummaries": [
                one | {"LastUpdatedTimestamp": one["Timestamp"]} for one in shown
            ]
        }

    def _shown(self, name: str) -> list[dict[str, Any]]:
        with self.backends.lock:
            stack = self._find(name)
            return [
                {
                    "StackName": stack.name,
                    "StackId": stack.stack_id,
                    "LogicalResourceId": one.name,
                    "PhysicalResourceId": one.physical,
                    "ResourceType": one.kind,
                    "ResourceStatus": one.status,
                    "Timestamp": one.since,
                }
                for one in self.workshop.entries.get(stack.stack_id, {}).values()
            ]

    def _find(self, name: str) -> Any:
        backend = self.backends.cloudformation
        for stack in [*backend.stacks.values(), *backend.deleted_stacks.values()]:
            if name == stack.stack_id or (name == stack.name and stack.status != "DELETE_COMPLETE"):
                return stack
        raise Refused("ValidationError", f"Stack [{name}] does not exist")

    # What is done then

    def _begin(self, stack: Any, call: Call, do: Callable[[Work], None]) -> None:
        turn = self.workshop.turns[stack.stack_id] = self.workshop.turns.get(stack.stack_id, 0) + 1
        assert call.caller is not None
        work = Work(call.caller, turn)

        def run() -> None:
            try:
                do(work)
            except Overtaken:
                pass
            finally:
                self.changed()

        threading.Thread(target=run, daemon=True).start()

    def _create(self, stack: Any, work: Work, on_failure: str) -> None:
        names = self.workshop.wanted(stack)
        try:
            for name in names:
                self.workshop.make(stack, work, name, len(names))
        except Failed as failed:
            said = f"The following resource(s) failed to create: [{failed}]. "
            if on_failure == "DO_NOTHING":
                return self._set(stack, "CREATE_FAILED", said)
            if on_failure == "DELETE":
                self._set(stack, "DELETE_IN_PROGRESS", said + "Delete requested by user.")
                return self._delete(stack, work)
            self._set(stack, "ROLLBACK_IN_PROGRESS", said + "Rollback requested by user.")
            left = self._remove_all(stack, work)
            return self._set(stack, "ROLLBACK_FAILED" if left else "ROLLBACK_COMPLETE", "")
        with self.backends.lock:
            stack.output_map = stack._create_output_map()
        return self._set(stack, "CREATE_COMPLETE", "")

    def _update(
        self, stack: Any, work: Work, new: tuple[Any, ...], before: tuple[Any, ...]
    ) -> None:
        try:
            self._apply(stack, work, *new)
        except Failed as failed:
            said = f"The following resource(s) failed to update: [{failed}]."
            self._set(stack, "UPDATE_ROLLBACK_IN_PROGRESS", said)
            try:
                self._apply(stack, work, *before)
            except Failed:
                return self._set(stack, "UPDATE_ROLLBACK_FAILED", "")
            return self._set(stack, "UPDATE_ROLLBACK_COMPLETE", "")
        return self._set(stack, "UPDATE_COMPLETE", "")

    def _apply(
        self, stack: Any, work: Work, body: str, values: dict[str, str], tags: dict[str, str]
    ) -> None:
        entries = self.workshop.entries[stack.stack_id]
        with self.backends.lock:
            stack.template, stack.parameters, stack.tags = body, values, tags
            stack._parse_template()
            made = {name: entry.resource for name, entry in entries.items()}
            stack.resource_map = stack._create_resource_map()
            stack.resource_map._parsed_resources.update(made)
            wanted = self.workshop.wanted(stack)
        for name in wanted:
            if name not in entries:
                self.workshop.make(stack, work, name, len(wanted))
            else:
                self.workshop.change(stack, work, name, len(wanted))
        for name in [name for name in reversed(list(entries)) if name not in wanted]:
            self.workshop.remove(stack, work, name, len(wanted))
        with self.backends.lock:
            stack.output_map = stack._create_output_map()

    def _delete(self, stack: Any, work: Work) -> None:
        left = self._remove_all(stack, work)
        if left:
            said = f"The following resource(s) failed to delete: [{', '.join(left)}]. "
            return self._set(stack, "DELETE_FAILED", said)
        with self.backends.lock:
            self._set(stack, "DELETE_COMPLETE", "")
            backend = self.backends.cloudformation
            stack.output_map = _no_outputs(stack)
            backend.deleted_stacks[stack.stack_id] = backend.stacks.pop(stack.stack_id)
        return None

    def _remove_all(self, stack: Any, work: Work) -> list[str]:
        left = []
        entries = self.workshop.entries.get(stack.stack_id, {})
        for name in reversed(list(entries)):
            try:
                self.workshop.remove(stack, work, name, len(entries))
            except Failed:
                left.append(name)
        return left

    def _set(self, stack: Any, status: str, why: str) -> None:
        with self.backends.lock:
            stack.status = status
            stack._add_stack_event(status, resource_status_reason=why or None)


def _no_outputs(stack: Any) -> Any:
    from moto.cloudformation.parsing import OutputMap

    return OutputMap(stack.resource_map, {}, stack.stack_id)
