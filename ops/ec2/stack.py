"""The CloudFormation stack: made, changed and removed, in whatever state an earlier try left it.

Whoever calls says what the stack should be; this module gets there: it waits for what somebody else
has under way, clears away what was left half made, and says which resource failed and why. A stack
of the same name that this project did not make is never touched. It knows nothing of what the
stack's resources are for, and never starts or ends an instance by itself.
"""

import contextlib
import itertools
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from ops.ec2.aws import Aws, code_of, explained, message_of, patiently, pauses
from tasks import advice
from tasks.problem import Problem

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import ParameterTypeDef, StackEventTypeDef

TEMPLATE = Path(__file__).resolve().parent.parent / "stack.yaml"
TAG = "bustimes:stack"
"""On the stack and on all that is in it; its value is the stack's name."""

_WAIT_SECONDS = 30 * 60.0
_TRIES = 50
_GONE = "DELETE_COMPLETE"
_UNUSABLE = {
    "REVIEW_IN_PROGRESS": "was begun and never made",
    "CREATE_FAILED": "was left half made",
    "ROLLBACK_COMPLETE": "was left empty by an attempt that failed",
    "ROLLBACK_FAILED": "was left half made",
    "DELETE_FAILED": "was left half deleted",
}
"""What cannot be updated any more, only deleted."""

_STUCK = "UPDATE_ROLLBACK_FAILED"

_VERBS = {"CREATE": "made", "UPDATE": "changed", "DELETE": "removed"}
_FOLLOWING = re.compile(r"^Resource (creation|update|deletion) cancelled")
_INTERNALS = re.compile(r" \((RequestToken|Service): [^()]*\)|^Resource handler returned message: ")

OnEvent = Callable[[str], None]


@dataclass(frozen=True)
class State:
    """A stack as it is now; `status` is CloudFormation's."""

    id: str
    status: str
    parameters: dict[str, str]
    tags: dict[str, str]

    @property
    def is_under_way(self) -> bool:
        return self.status.endswith("_IN_PROGRESS") and self.status not in _UNUSABLE


@dataclass
class _Events:
    """The events of one stack since this was made, oldest first."""

    seen: set[str] = field(default_factory=set)
    failure: str = ""
    """The first resource that failed, and why."""


class Stack:
    """The stack of one name, which may or may not be there."""

    def __init__(self, aws: Aws, name: str) -> None:
        self._aws = aws
        self.name = name

    def describe(self) -> State | None:
        """The stack as it is now; None where there is none."""
        with explained(f"The stack {self.name} cannot be looked at"):
            return self._describe(self.name)

    def ensure(self, template: str, parameters: Mapping[str, str], on_event: OnEvent) -> bool:
        """Have the stack be as the template and the parameters say; whether that changed it.

        `on_event` is given a sentence for whatever happens on the way. Raises `Problem` with the
        first resource that failed; a stack that could not be made is removed again, one that could
        not be changed is as it was before.
        """
        with explained(f"The stack {self.name} cannot be made"):
            for pause in itertools.islice(pauses(), _TRIES):
                changed = self._try_to_ensure(template, parameters, on_event)
                if changed is not None:
                    return changed
                time.sleep(pause)
        raise Problem(
            f"Somebody else goes on changing the stack {self.name}. Talk to them, then run it "
            "again."
        )

    def delete(self, on_event: OnEvent) -> bool:
        """Remove the stack with all that is in it; False where there was none."""
        with explained(f"The stack {self.name} cannot be removed"):
            state = self._describe(self.name)
            if state is None:
                return False
            self._remove(state, on_event)
            return True

    def _try_to_ensure(
        self, template: str, parameters: Mapping[str, str], on_event: OnEvent
    ) -> bool | None:
        """One step; None where the stack must be looked at afresh."""
        state = patiently(lambda: self._describe(self.name))
        if state is None:
            return self._create(template, parameters, on_event)
        self._must_be_ours(state)
        if state.is_under_way:
            self._wait_for_others(state, on_event)
            return None
        if state.status in _UNUSABLE:
            on_event(f"The stack {self.name} {_UNUSABLE[state.status]}: it is removed first.")
            self._remove(state, on_event)
            return None
        if state.status == _STUCK:
            raise Problem(f"The stack {self.name} {_stuck()}")
        return self._update(state, template, parameters, on_event)

    def _create(
        self, template: str, parameters: Mapping[str, str], on_event: OnEvent
    ) -> bool | None:
        try:
            answer = self._aws.client("cloudformation").create_stack(
                StackName=self.name,
                TemplateBody=template,
                Parameters=_as_list(parameters),
                Capabilities=["CAPABILITY_NAMED_IAM"],
                OnFailure="DELETE",  # so that nothing stays even if nobody waits for it any more
                Tags=[{"Key": TAG, "Value": self.name}],
                ClientRequestToken=str(uuid.uuid4()),
            )
        except ClientError as error:
            if code_of(error) == "AlreadyExistsException":
                return None  # somebody else was first
            raise
        events = _Events()
        status = self._wait(answer["StackId"], events, on_event)
        if status == "CREATE_COMPLETE":
            return True
        if status != _GONE:
            left = patiently(lambda: self._describe(answer["StackId"]))
            if left is not None:
                self._remove(left, on_event)
        raise Problem(
            f"The stack {self.name} could not be made: "
            f"{events.failure or 'somebody else removed it meanwhile'}. What was half made is "
            "removed again, and nothing is being paid for."
        )

    def _update(
        self, state: State, template: str, parameters: Mapping[str, str], on_event: OnEvent
    ) -> bool | None:
        events = self._events_from_now(state)
        try:
            self._aws.client("cloudformation").update_stack(
                StackName=state.id,
                TemplateBody=template,
                Parameters=_as_list(parameters),
                Capabilities=["CAPABILITY_NAMED_IAM"],
                Tags=[{"Key": TAG, "Value": self.name}],
                ClientRequestToken=str(uuid.uuid4()),
            )
        except ClientError as error:
            if "No updates are to be performed" in message_of(error):
                return False
            if _is_overtaken(error):
                return None
            raise
        status = self._wait(state.id, events, on_event)
        if status == "UPDATE_COMPLETE":
            return True
        why = events.failure or "somebody else was at it"
        after = f"It {_stuck()}" if status == _STUCK else "It is as it was before."
        raise Problem(f"The stack {self.name} could not be changed: {why}. {after}")

    def _remove(self, state: State, on_event: OnEvent) -> None:
        self._must_be_ours(state)
        if state.is_under_way and state.status != "DELETE_IN_PROGRESS":
            self._wait_for_others(state, on_event)
        events = self._events_from_now(state)
        for _ in range(2):  # what depends on something is at times gone a moment later
            events.failure = ""
            # By its id, or one that somebody has just made under this name would go.
            self._aws.client("cloudformation").delete_stack(StackName=state.id)
            if self._wait(state.id, events, on_event) == _GONE:
                return
        raise Problem(
            f"The stack {self.name} could not be removed whole: {events.failure}. Mend that, then "
            f"run {advice.make('teardown', ON='ec2')}"
        )

    def _must_be_ours(self, state: State) -> None:
        if state.tags.get(TAG) != self.name:
            raise Problem(
                f"There is a stack {self.name} in {self._aws.region} that this project did not "
                f"make (it has no tag {TAG}). It is left alone: set stack in [ec2] of luigi.cfg "
                "(or EC2_STACK) to another name."
            )

    def _wait_for_others(self, state: State, on_event: OnEvent) -> None:
        on_event(f"Somebody else is at the stack {self.name} ({state.status}): waiting for them.")
        self._wait(state.id, self._events_from_now(state), on_event)

    def _wait(self, stack_id: str, events: _Events, on_event: OnEvent) -> str:
        """The status in which the stack comes to rest."""
        deadline = time.monotonic() + _WAIT_SECONDS
        for pause in pauses():
            state = patiently(lambda: self._describe(stack_id))
            for event in patiently(lambda: self._new_events(stack_id, events)):
                self._take(event, events, on_event)
            if state is None:
                return _GONE
            if not state.is_under_way:
                return state.status
            if time.monotonic() > deadline:
                raise Problem(
                    f"The stack {self.name} is still in the state {state.status}, after half an "
                    "hour. Run it again: it goes on waiting."
                )
            time.sleep(pause)
        raise AssertionError("pauses never end")

    def _take(self, event: "StackEventTypeDef", events: _Events, on_event: OnEvent) -> None:
        name, status = event.get("LogicalResourceId", ""), str(event.get("ResourceStatus", ""))
        reason = _INTERNALS.sub("", event.get("ResourceStatusReason", "")).rstrip(". ")
        if event.get("PhysicalResourceId") == event["StackId"]:
            return  # the stack itself: its resources say more
        kind, _, result = status.partition("_")
        if result == "COMPLETE" and kind in _VERBS:
            on_event(f"{name} {_VERBS[kind]}")
        elif result == "FAILED" and not _FOLLOWING.match(reason):
            events.failure = events.failure or f"{name} failed ({reason})"
            on_event(f"{name} failed: {reason}")

    def _describe(self, name: str) -> State | None:
        try:
            answer = self._aws.client("cloudformation").describe_stacks(StackName=name)
        except ClientError as error:
            if code_of(error) == "ValidationError" and "does not exist" in message_of(error):
                return None
            raise
        found = answer["Stacks"][0]
        if found["StackStatus"] == _GONE:
            return None
        return State(
            found.get("StackId", name),
            found["StackStatus"],
            {one["ParameterKey"]: one["ParameterValue"] for one in found.get("Parameters", [])},
            {tag["Key"]: tag["Value"] for tag in found.get("Tags", [])},
        )

    def _events_from_now(self, state: State) -> _Events:
        events = _Events()
        with contextlib.suppress(ClientError):  # gone meanwhile
            self._new_events(state.id, events)
        return events

    def _new_events(self, stack_id: str, events: _Events) -> list["StackEventTypeDef"]:
        """Those that were not seen yet, oldest first; AWS gives the newest first."""
        new: list[StackEventTypeDef] = []
        pages = self._aws.client("cloudformation").get_paginator("describe_stack_events")
        try:
            for page in pages.paginate(StackName=stack_id):
                for event in page["StackEvents"]:
                    if event["EventId"] in events.seen:
                        return new
                    new.insert(0, event)
        finally:
            events.seen |= {event["EventId"] for event in new}
        return new


def _as_list(parameters: Mapping[str, str]) -> list["ParameterTypeDef"]:
    return [{"ParameterKey": name, "ParameterValue": parameters[name]} for name in parameters]


def _is_overtaken(error: ClientError) -> bool:
    """Whether somebody else has begun something, or removed the stack, since it was looked at."""
    said = ("can not be updated", "cannot be updated", "does not exist", "in progress")
    return code_of(error) == "OperationInProgressException" or (
        code_of(error) == "ValidationError" and any(one in message_of(error) for one in said)
    )


def _stuck() -> str:
    """What to say of one that can only be removed; not done unasked, for a run may be on."""
    return (
        "is neither as it was nor as it should be, and cannot be changed any more. Remove it "
        f"({advice.make('teardown', ON='ec2')}) and make it again "
        f"({advice.make('setup', ON='ec2')}); the weeks that are done stay."
    )
