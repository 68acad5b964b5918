"""Auto Scaling groups: bring the instances of each to its desired number, and keep the record.

As the real ones do, a group launches spot instances of the types that its mixed instances policy
names, in the zones of its subnets; replaces what has ended, whoever ended it; ends the oldest where
it has too many; and where AWS has no capacity to give, writes a failed activity and tries again.
"""

import itertools
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ops.local_aws.backends import Backends
from ops.local_aws.wire import Call, Refused

SPOT_QUOTA = "L-34B43A08"
_LOST = (
    "an instance was taken out of service in response to an EC2 health check indicating it has "
    "been terminated or stopped."
)
_NO_CAPACITY = (
    "Could not launch Spot Instances. UnfulfillableCapacity - Unable to fulfill capacity due to "
    "your request configuration. Please adjust your request and try again. Launching EC2 instance "
    "failed."
)
_QUOTA = (
    "Could not launch Spot Instances. MaxSpotInstanceCountExceeded - Max spot instance count "
    "exceeded. Launching EC2 instance failed."
)
_NOT_OFFERED = (
    "Could not launch Spot Instances. InvalidFleetConfiguration - Your requested instance type "
    "({type}) is not supported in your requested Availability Zone ({zone}). Launching EC2 "
    "instance failed."
)


_NO_KEY = (
    "Instance became unhealthy while waiting for instance to be in InService state. Termination "
    "Reason: Client.InternalError: Client error on launch"
)


class _Failed(Exception):
    """No instance: the argument is AWS's status message."""


@dataclass
class Capacity:
    """What AWS has to give."""

    spot: int | None = None
    """How many more spot instances there are; None for as many as anybody wants."""
    quota_vcpus: float = 64.0
    """vCPUs that the account may have in spot instances at once."""
    unregistered: int = 0
    """How many of the next instances never show up in SSM."""
    has_disk_key: bool = True
    """Whether Auto Scaling may use the key of the account's disks; else no instance starts."""
    retry_seconds: float = 1.0
    """After a failed launch, this long until the next."""


@dataclass
class Groups:
    """Every group of the account. `adopt` is told each new instance before anybody sees it."""

    backends: Backends
    capacity: Capacity
    adopt: Callable[[Any], None]
    _activities: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _not_before: dict[str, float] = field(default_factory=dict)
    _turn: "itertools.count[int]" = field(default_factory=itertools.count)

    def reconcile(self) -> None:
        """One step for every group. The caller holds the lock of the backends."""
        self._do_what_is_due()
        for group in list(self.backends.autoscaling.autoscaling_groups.values()):
            self._forget_lost(group)
            surplus = len(group.instance_states) - group.desired_capacity
            if surplus > 0:
                self._end(group, surplus)
            elif surplus < 0 and time.monotonic() >= self._not_before.get(group.arn, 0.0):
                self._launch(group, -surplus)
            for state in group.instance_states:
                if state.lifecycle_state == "Pending" and state.instance.state == "running":
                    state.lifecycle_state = "InService"

    def activities(self, call: Call) -> dict[str, Any]:
        """DescribeScalingActivities: the newest first."""
        name = call.parameters.get("AutoScalingGroupName")
        with self.backends.lock:
            names = [name] if name else list(self._activities)
            found = [one for each in names for one in self._activities.get(each, [])]
        found.reverse()
        return {"Activities": found[: call.parameters.get("MaxRecords") or 100]}

    def of(self, group: str) -> list[dict[str, Any]]:
        """The activities of one group, the newest first."""
        return self._activities.get(group, [])[::-1]

    def check_size(self, call: Call) -> None:
        """Raise `Refused` where a group is to be larger or smaller than it may."""
        asked = call.parameters
        with self.backends.lock:
            group = self.backends.autoscaling.autoscaling_groups.get(asked["AutoScalingGroupName"])
            if group is None:
                said = "AutoScalingGroup name not found - AutoScalingGroup "
                raise Refused(
                    "ValidationError", f"{said}'{asked['AutoScalingGroupName']}' not found"
                )
            low, high = asked.get("MinSize", group.min_size), asked.get("MaxSize", group.max_size)
        wanted = asked.get("DesiredCapacity")
        if wanted is None or low <= wanted <= high:
            return
        if call.action == "SetDesiredCapacity":
            side, bound = ("above max", high) if wanted > high else ("below min", low)
            said = f"New SetDesiredCapacity value {wanted} is {side} value {bound} for the "
            raise Refused("ValidationError", f"{said}AutoScalingGroup.")
        said = f"Desired capacity:{wanted} must be between the specified min size:{low} and max "
        raise Refused("ValidationError", f"{said}size:{high}")

    def _do_what_is_due(self) -> None:
        """Scheduled actions: each happens once, at its time."""
        autoscaling = self.backends.autoscaling
        for name, action in list(autoscaling.scheduled_actions.items()):
            start = action.start_time
            if isinstance(start, str):
                start = datetime.fromisoformat(start)
            if start is None or start.replace(tzinfo=start.tzinfo or UTC) > datetime.now(UTC):
                continue
            del autoscaling.scheduled_actions[name]
            group = autoscaling.autoscaling_groups.get(action.auto_scaling_group_name)
            if group is not None:
                for size in ("min_size", "max_size", "desired_capacity"):
                    if getattr(action, size) is not None:
                        setattr(group, size, getattr(action, size))

    def _forget_lost(self, group: Any) -> None:
        for state in list(group.instance_states):
            if state.instance.state in ("shutting-down", "terminated", "stopped"):
                group.instance_states.remove(state)
                self._note(group, f"Terminating EC2 instance: {state.instance.id}", _LOST)

    def _end(self, group: Any, count: int) -> None:
        oldest = sorted(group.instance_states, key=lambda state: state.instance.launch_time)
        for state in oldest[:count]:
            group.instance_states.remove(state)
            self.backends.ec2.terminate_instances([state.instance.id])
            cause = "an instance was taken out of service in response to a difference between "
            cause += "desired and actual capacity, shrinking the capacity."
            self._note(group, f"Terminating EC2 instance: {state.instance.id}", cause)

    def _launch(self, group: Any, count: int) -> None:
        cause = "an instance was started in response to a difference between desired and actual "
        cause += "capacity, increasing the capacity."
        for _ in range(count):
            try:
                instance = self._launch_one(group)
            except _Failed as failed:
                self._not_before[group.arn] = time.monotonic() + self.capacity.retry_seconds
                text = f"Launching a new EC2 instance.  Status Reason: {failed}"
                self._note(group, text, cause, str(failed))
                return
            self._note(group, f"Launching a new EC2 instance: {instance.id}", cause)

    def _launch_one(self, group: Any) -> Any:
        from moto.autoscaling.models import InstanceState

        ec2 = self.backends.ec2
        template = group.ec2_launch_template.get_version(group.launch_template_version)
        spot = _is_spot(group, template)
        subnets = self._subnets(group)
        subnet = subnets[next(self._turn) % len(subnets)]
        instance_type = self._choose_type(group, template, subnet.availability_zone)
        self._check_capacity(instance_type, spot)
        if not self.capacity.has_disk_key:
            raise _Failed(_NO_KEY)
        tags = group.get_propagated_tags() | group.instance_tags
        tags |= {"aws:autoscaling:groupName": group.name}
        nics = [dict(one) for one in template.data.get("NetworkInterfaces", [])]
        in_nics = [group for one in nics for group in one.pop("Groups", [])]
        reservation = ec2.run_instances(
            template.image_id,
            1,
            template.user_data,
            [],
            security_group_ids=in_nics or template.data.get("SecurityGroupIds", []),
            instance_type=instance_type,
            is_instance_type_default=False,
            tags={"instance": tags},
            subnet_id=subnet.id,
            nics=nics,
            launch_template={
                "LaunchTemplateId": template.template.id,
                "Version": str(template.number),
            },
            metadata_options=template.data.get("MetadataOptions", {}),
            lifecycle="spot" if spot else None,
        )
        [instance] = reservation.instances
        instance.autoscaling_group = group
        profile = template.data.get("IamInstanceProfile", {})
        if profile:
            ec2.associate_iam_instance_profile(instance.id, profile.get("Name"), profile.get("Arn"))
        self.adopt(instance)
        group.instance_states.append(InstanceState(instance, lifecycle_state="Pending"))
        return instance

    def _subnets(self, group: Any) -> list[Any]:
        if group.vpc_zone_identifier:
            return [self.backends.ec2.get_subnet(o) for o in group.vpc_zone_identifier.split(",")]
        default = self.backends.ec2.get_default_subnets()
        return [default[zone] for zone in group.availability_zones]

    def _choose_type(self, group: Any, template: Any, zone: str) -> str:
        policy = (group.mixed_instances_policy or {}).get("LaunchTemplate", {})
        overrides = [one["InstanceType"] for one in policy.get("Overrides") or []]
        types = overrides or [template.instance_type]
        offered = self.backends.ec2.describe_instance_type_offerings(
            "availability-zone", {"instance-type": types, "location": [zone]}
        )
        known = {one["InstanceType"] for one in offered}
        for one in types:
            if one in known:
                return str(one)
        raise _Failed(_NOT_OFFERED.format(type=types[0], zone=zone))

    def _check_capacity(self, instance_type: str, spot: bool) -> None:
        if not spot:
            return
        used = sum(
            self._vcpus(one.instance_type)
            for one in self.backends.instances()
            if one.lifecycle == "spot" and one.state in ("pending", "running")
        )
        if used + self._vcpus(instance_type) > self.capacity.quota_vcpus:
            raise _Failed(_QUOTA)
        if self.capacity.spot is not None:
            if self.capacity.spot <= 0:
                raise _Failed(_NO_CAPACITY)
            self.capacity.spot -= 1

    def _vcpus(self, instance_type: str) -> int:
        [found] = self.backends.ec2.describe_instance_types([instance_type])
        return int(found["VCpuInfo"]["DefaultVCpus"])

    def _note(self, group: Any, description: str, cause: str, failure: str = "") -> None:
        now = datetime.now(UTC).replace(tzinfo=None)
        activity = {
            "ActivityId": str(uuid.uuid4()),
            "AutoScalingGroupName": group.name,
            "AutoScalingGroupARN": group.arn,
            "Description": description,
            "Cause": f"At {now:%Y-%m-%dT%H:%M:%SZ} {cause}",
            "StartTime": now,
            "EndTime": now,
            "StatusCode": _ENDS.get(failure, "Failed" if failure else "Successful"),
            "Progress": 100,
            "Details": "{}",
        }
        if failure:
            activity["StatusMessage"] = failure
        self._activities.setdefault(group.name, []).append(activity)


_ENDS = {_NO_KEY: "Cancelled"}
"""What the real one calls neither failed nor successful."""


def _is_spot(group: Any, template: Any) -> bool:
    if template.data.get("InstanceMarketOptions", {}).get("MarketType") == "spot":
        return True
    distribution = (group.mixed_instances_policy or {}).get("InstancesDistribution", {})
    percentage = int(distribution.get("OnDemandPercentageAboveBaseCapacity", 100))
    base = int(distribution.get("OnDemandBaseCapacity", 0))
    return percentage == 0 and len(group.instance_states) >= base
