"""The Auto Scaling group of the stack: how many instances it should have, and which there are.

Promises that no instance goes on costing money that is of no use: where new ones do not come, or do
not report to SSM in time, the fleet is set back to what it was, and AWS itself sets it back if
whoever waits for them has gone (a laptop that was closed). Does not know what the instances do.
"""

import contextlib
import datetime as dt
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from ops.ec2.aws import Aws, code_of, explained, patiently, pauses
from ops.ec2.stack import TAG
from tasks import advice, figures
from tasks.problem import Problem

if TYPE_CHECKING:
    from mypy_boto3_autoscaling.type_defs import AutoScalingGroupTypeDef

_ALIVE = ["pending", "running", "shutting-down", "stopping", "stopped"]
_IDS_AT_ONCE = 50
_BUSY_SECONDS = 60.0
_ACTIVITIES = 20
_SAFEGUARD = "set-back-if-nobody-waits-any-more"
_SAFEGUARD_MINUTES = 10
_NO_QUOTA = re.compile(
    r"VcpuLimitExceeded|MaxSpotInstanceCountExceeded|vCPU (capacity|limit)", re.I
)
_LAUNCH = re.compile("Launching ")
_NO_KEY = re.compile("Client.InternalError|KMS")
_NO_CAPACITY = re.compile(r"InsufficientInstanceCapacity|UnfulfillableCapacity|capacity", re.I)


@dataclass(frozen=True)
class Instance:
    """An instance that EC2 still has.

    `address` is its private one, empty while it has none. `state` is EC2's word (pending, running,
    shutting-down, stopping, stopped), `lifecycle` the group's (such as InService), empty where the
    group has given it up. `registered` says whether SSM can reach it now.
    """

    id: str
    type: str
    zone: str
    address: str
    launched: dt.datetime
    state: str
    registered: bool
    lifecycle: str

    @property
    def is_ready(self) -> bool:
        return self.registered and self.state == "running"


@dataclass(frozen=True)
class _Before:
    """What a fleet goes back to if it cannot grow: its size, and the ids of what SSM reached."""

    size: int
    ready: set[str]


class Fleet:
    """The instances of the stack `name`."""

    def __init__(self, aws: Aws, name: str) -> None:
        self._aws = aws
        self.name = name
        # As of the latest `resize`: what had failed before it, and the size if that was smaller.
        self._known_failures: frozenset[str] | None = None
        self._smaller: int | None = None

    def instances(self) -> list[Instance]:
        """Every instance that still costs money or has just ended, the oldest first."""
        with explained(f"The instances of {self.name} cannot be listed"):
            return self._instances()

    def desired(self) -> int | None:
        """How many instances there should be; None where there is no fleet."""
        with explained(f"The fleet {self.name} cannot be looked at"):
            group = self._group()
        return None if group is None else group["DesiredCapacity"]

    def resize(self, n: int) -> None:
        """Have AWS bring the fleet to `n` instances; does not wait for them.

        Raises `Problem` where there is no fleet, or one that may not be so large.
        """
        with explained(f"The fleet {self.name} cannot be set to {figures.count(n, 'instance')}"):
            group = self._group()
            if group is None:
                raise Problem(
                    f"There is no fleet {self.name} in {self._aws.region}: "
                    f"{advice.make('setup', ON='ec2')} makes one."
                )
            if n > group["MaxSize"]:
                most = figures.count(group["MaxSize"], "instance")
                raise Problem(
                    f"The fleet {self.name} was set up for {most} at most: "
                    f"{advice.make('setup', ON='ec2', INSTANCES=n)} allows for more."
                )
            self._known_failures = frozenset(self._failures())
            now = group["DesiredCapacity"]
            self._smaller = now if now < n else None
            if now != n:
                self._set(n)

    def keep(self) -> None:
        """Have the fleet stay as it is: nobody waits for it any more, but it is of use."""
        with explained(f"The fleet {self.name} cannot be kept"):
            self._end_safeguard()

    def why_fewer(self) -> str:
        """What AWS said if its last try to start an instance failed, else nothing."""
        with explained(f"The fleet {self.name} cannot be looked at"):
            return next(iter(self._failures(only_latest=True).values()), "")

    def wait_until_registered(
        self, n: int, timeout: float, on_change: Callable[[str], None]
    ) -> list[Instance]:
        """Wait until `n` instances run and SSM reaches them; returns those it reaches.

        `resize` comes first. `on_change` is given a sentence whenever there is news. If it takes
        longer than `timeout` seconds, or AWS has no instances to give for a quarter of that, the
        fleet is set back to what it was before `resize` (or to those that are of use), and a
        `Problem` says why. If the caller is gone by then, AWS sets it back by itself ten minutes
        later.
        """
        with explained(f"The instances of {self.name} cannot be waited for"):
            kept = {one.id for one in self._instances() if one.is_ready}
            size = len(kept) if self._smaller is None else self._smaller
            before = _Before(min(size, n), kept)
            if self._known_failures is None:
                self._known_failures = frozenset(self._failures())
            with self._safeguard(timeout, before.size):
                return self._wait(n, timeout, on_change, before)

    def _wait(
        self, n: int, timeout: float, on_change: Callable[[str], None], before: _Before
    ) -> list[Instance]:
        began, said = time.monotonic(), ""
        for pause in pauses():
            instances = patiently(self._instances)
            ready = [one for one in instances if one.is_ready]
            if len(ready) >= n:
                return ready
            alive = sum(one.state in ("pending", "running") for one in instances)
            failure = self._new_failure() if alive < n else ""
            sentence = _standing(n, instances, failure)
            if sentence != said:
                on_change(sentence)
                said = sentence
            self._must_still_be_wanted(n)
            waited = time.monotonic() - began
            if failure and (_NO_QUOTA.search(failure) or waited > timeout / 4):
                raise self._given_up(_of_failure(failure), instances, before)
            if waited > timeout:
                raise self._given_up(_of_silence(n, instances, timeout), instances, before)
            time.sleep(pause)
        raise AssertionError("pauses never end")

    def _given_up(self, why: str, instances: list[Instance], before: _Before) -> Problem:
        if before.size:  # what is at work stays: AWS would not know which that is
            for one in instances:
                if one.id not in before.ready and one.lifecycle:
                    self._end(one)
        self._set(before.size)
        if before.size:
            size = figures.count(before.size, "instance")
            return Problem(f"{why} The fleet is set back to {size}, as before.")
        return Problem(f"{why} The fleet is set back to 0, so that nothing is being paid for.")

    def _end(self, instance: Instance) -> None:
        try:
            self._aws.client("autoscaling").terminate_instance_in_auto_scaling_group(
                InstanceId=instance.id, ShouldDecrementDesiredCapacity=True
            )
        except ClientError as error:  # gone already, or the group is busy: then its size decides
            if code_of(error) not in ("ValidationError", "ScalingActivityInProgress"):
                raise

    def _must_still_be_wanted(self, n: int) -> None:
        group = patiently(self._group)
        if group is None:
            raise Problem(f"The fleet {self.name} was removed meanwhile, by somebody's teardown.")
        if group["DesiredCapacity"] < n:
            raise Problem(
                f"The fleet {self.name} was set to {group['DesiredCapacity']} meanwhile: by "
                "somebody else, or because this machine was asleep for long. Run it again."
            )

    @contextlib.contextmanager
    def _safeguard(self, timeout: float, back_to: int) -> Iterator[None]:
        """As long as this is held and for a while, AWS would set the fleet back by itself."""
        client = self._aws.client("autoscaling")
        due = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=timeout, minutes=_SAFEGUARD_MINUTES)
        client.put_scheduled_update_group_action(
            AutoScalingGroupName=self.name,
            ScheduledActionName=_SAFEGUARD,
            StartTime=due,
            DesiredCapacity=back_to,
        )
        given_up = None
        try:
            yield  # an error of AWS's, or Ctrl-C, leaves the safeguard: that is what it is for
        except Problem as problem:
            given_up = problem
        self._end_safeguard()
        if given_up is not None:
            raise given_up

    def _end_safeguard(self) -> None:
        try:
            patiently(
                lambda: self._aws.client("autoscaling").delete_scheduled_action(
                    AutoScalingGroupName=self.name, ScheduledActionName=_SAFEGUARD
                )
            )
        except ClientError as error:
            if code_of(error) != "ValidationError":  # gone, with its fleet or another's wait
                raise

    def _instances(self) -> list[Instance]:
        group = self._group()
        in_group = group["Instances"] if group is not None else []
        lifecycles = {one["InstanceId"]: one["LifecycleState"] for one in in_group}
        pages = self._aws.client("ec2").get_paginator("describe_instances")
        mine = [
            {"Name": f"tag:{TAG}", "Values": [self.name]},
            {"Name": "instance-state-name", "Values": _ALIVE},
        ]
        found = [
            one
            for page in pages.paginate(Filters=mine)  # type: ignore[arg-type]
            for reservation in page["Reservations"]
            for one in reservation["Instances"]
        ]
        online = self._online([one["InstanceId"] for one in found])
        instances = [
            Instance(
                id=one["InstanceId"],
                type=one["InstanceType"],
                zone=one["Placement"]["AvailabilityZone"],
                address=one.get("PrivateIpAddress", ""),
                launched=one["LaunchTime"],
                state=one["State"]["Name"],
                registered=one["InstanceId"] in online,
                lifecycle=lifecycles.get(one["InstanceId"], ""),
            )
            for one in found
        ]
        return sorted(instances, key=lambda one: (one.launched, one.id))

    def _online(self, ids: list[str]) -> set[str]:
        online = set()
        pages = self._aws.client("ssm").get_paginator("describe_instance_information")
        for start in range(0, len(ids), _IDS_AT_ONCE):
            some = ids[start : start + _IDS_AT_ONCE]
            for page in pages.paginate(Filters=[{"Key": "InstanceIds", "Values": some}]):
                for one in page["InstanceInformationList"]:
                    if one.get("PingStatus") == "Online":
                        online.add(one["InstanceId"])
        return online

    def _group(self) -> "AutoScalingGroupTypeDef | None":
        groups = self._aws.client("autoscaling").describe_auto_scaling_groups(
            AutoScalingGroupNames=[self.name]
        )["AutoScalingGroups"]
        # One that is being deleted is still listed, with the word for it.
        return next((one for one in groups if not one.get("Status")), None)

    def _set(self, n: int) -> None:
        deadline = time.monotonic() + _BUSY_SECONDS
        for pause in pauses():
            try:
                self._aws.client("autoscaling").set_desired_capacity(
                    AutoScalingGroupName=self.name, DesiredCapacity=n, HonorCooldown=False
                )
                return
            except ClientError as error:
                if code_of(error) != "ScalingActivityInProgress" or time.monotonic() > deadline:
                    raise
            time.sleep(pause)

    def _failures(self, only_latest: bool = False) -> dict[str, str]:
        """The latest failed attempts to start an instance, newest first: id and AWS's words."""
        try:
            activities = self._aws.client("autoscaling").describe_scaling_activities(
                AutoScalingGroupName=self.name, MaxRecords=1 if only_latest else _ACTIVITIES
            )["Activities"]
        except ClientError as error:
            if code_of(error) == "ValidationError":  # there is no such group
                return {}
            raise
        return {
            one["ActivityId"]: one.get("StatusMessage") or one.get("Description", "")
            for one in activities
            # Cancelled is what ended while it started, for want of the key of its disk, say.
            if one["StatusCode"] == "Failed"
            or (one["StatusCode"] == "Cancelled" and _LAUNCH.match(one.get("Description", "")))
        }

    def _new_failure(self) -> str:
        """AWS's words for the newest failure since `resize`; empty while there is none."""
        known = self._known_failures or frozenset()
        failures = patiently(self._failures)
        return next((text for one, text in failures.items() if one not in known), "")


def _standing(n: int, instances: list[Instance], failure: str) -> str:
    running = sum(one.state == "running" for one in instances)
    ready = sum(one.is_ready for one in instances)
    sentence = f"{running} of {figures.count(n, 'instance')} running, {ready} reached by SSM"
    if failure:
        sentence += f"; AWS cannot start more yet: {failure}"
    return sentence


def _of_failure(failure: str) -> str:
    said = f'AWS says: "{failure}"'
    if _NO_QUOTA.search(failure):
        return (
            f"No instance could be started: your account's quota for spot instances is used up. "
            f"{said} Ask for more (Service Quotas, L-34B43A08), or for fewer (INSTANCES=1)."
        )
    if _NO_CAPACITY.search(failure):
        return (
            f"No instance could be started: AWS has no spot capacity to give right now. {said} "
            "Allow for more types (TYPE=c6i.large,m6i.large,r6i.large,…), or try again later."
        )
    if _NO_KEY.search(failure):
        return (
            f"No instance lived to see its start. {said} As a rule its disk could not be "
            "encrypted: let Auto Scaling's role AWSServiceRoleForAutoScaling use the key that your "
            "account has for disks, or make AWS's own the default (aws ec2 "
            "reset-ebs-default-kms-key-id)."
        )
    return f"No instance could be started. {said} Mend that, then run it again."


def _of_silence(n: int, instances: list[Instance], timeout: float) -> str:
    missing = [f"{one.id} ({one.state})" for one in instances if not one.is_ready]
    named = ", ".join(missing) or "none was started"
    return (
        f"After {figures.duration(timeout)} SSM does not reach {figures.count(n, 'instance')}: "
        f"{named}. As a rule the subnet has no way to the internet, or the image no SSM agent; "
        "aws ec2 get-console-output --instance-id … shows what an instance said. Run it again."
    )
