"""moto's inside: where it keeps what, and what it does otherwise than AWS that matters here.

`Backends` names the parts of moto that this package looks into; all of them are looked at and
changed under `Backends.lock` only, since moto is not made for threads. `correct_moto` replaces what
moto gets wrong, once for the process:

- The size of an Auto Scaling group is a number; instances come and go afterwards (`groups`).
- In CloudFormation the default of a parameter is read as a given value is (a list becomes a list),
  and AWS::NoValue takes an item out of a list.
- A change of a group's size keeps its mixed instances policy, and each instance of a group is shown
  with the version of the launch template that it was launched from.
- The managed policies that instances and users here have exist.
"""

import copy
import json
import os
import threading
from typing import Any

REGION = "us-east-1"
ACCOUNT = "123456789012"
_MANAGED_POLICIES = ("AmazonSSMManagedInstanceCore", "AdministratorAccess", "ReadOnlyAccess")


class Backends:
    """What moto keeps for the one account and region that instances are in."""

    def __init__(self, region: str = REGION, account: str = ACCOUNT) -> None:
        os.environ["MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION"] = "true"
        from moto.backends import get_backend

        self.region = region
        self.account = account
        self.lock = threading.RLock()
        self._get = get_backend
        correct_moto()
        _add_managed_policies(self.iam)

    def _of(self, service: str, where: str) -> Any:
        return self._get(service)[self.account][where]  # type: ignore[call-overload]

    @property
    def ec2(self) -> Any:
        return self._of("ec2", self.region)

    @property
    def autoscaling(self) -> Any:
        return self._of("autoscaling", self.region)

    @property
    def logs(self) -> Any:
        return self._of("logs", self.region)

    @property
    def cloudformation(self) -> Any:
        return self._of("cloudformation", self.region)

    @property
    def iam(self) -> Any:
        return self._of("iam", "aws")

    @property
    def sts(self) -> Any:
        return self._of("sts", "aws")

    def of_account(self, service: str, account: str, where: str) -> Any:
        """The same of another account or region."""
        return self._get(service)[account][where]  # type: ignore[call-overload]

    def instances(self) -> list[Any]:
        """EC2's instances, those that have ended as well."""
        return [one for each in self.ec2.reservations.values() for one in each.instances]

    def role_of(self, instance: Any) -> Any:
        """The role of an instance's profile, or None."""
        profile = (instance.iam_instance_profile or {}).get("Arn", "")
        for found in self.iam.instance_profiles.values():
            if found.arn == profile:
                return found.roles[0] if found.roles else None
        return None

    def credentials(self, role: Any, session: str, seconds: int) -> dict[str, str]:
        """Temporary credentials of a role, as the metadata service shows them."""
        taken = self.sts.assume_role(self.region, session, role.arn, "", seconds, "")
        return {
            "Code": "Success",
            "LastUpdated": _iso(taken.expiration, -seconds),
            "Type": "AWS-HMAC",
            "AccessKeyId": taken.access_key_id,
            "SecretAccessKey": taken.secret_access_key,
            "Token": taken.session_token,
            "Expiration": _iso(taken.expiration, 0),
        }


def _iso(moment: Any, seconds: int) -> str:
    from datetime import timedelta

    return str((moment + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ"))


def _add_managed_policies(iam: Any) -> None:
    from moto.iam.aws_managed_policies import aws_managed_policies_data
    from moto.iam.models import AWSManagedPolicy

    known = json.loads(aws_managed_policies_data)
    for name in _MANAGED_POLICIES:
        policy = AWSManagedPolicy.from_data(name, iam.account_id, iam.region_name, known[name])
        iam.managed_policies[policy.arn] = policy


def correct_moto() -> None:
    """Replace what is wrong in moto for this use; once for the process."""
    from moto.autoscaling.models import AutoScalingBackend, FakeAutoScalingGroup, InstanceState
    from moto.cloudformation import parsing
    from moto.cloudformation.parsing import ResourceMap

    if getattr(FakeAutoScalingGroup, "corrected", False):
        return

    def set_desired_capacity(group: Any, new_capacity: int | str | None) -> None:
        group.desired_capacity = int(group.min_size if new_capacity is None else new_capacity)

    def ignore_terminated(_backend: Any, _instances: list[str]) -> None:
        """The group finds out by itself."""

    plain_update = FakeAutoScalingGroup.update

    def update(group: Any, *, mixed_instances_policy: Any = None, **rest: Any) -> None:
        policy = mixed_instances_policy
        if not policy and not rest.get("launch_template") and group.mixed_instances_policy:
            policy = copy.deepcopy(group.mixed_instances_policy)
            policy["LaunchTemplate"]["LaunchTemplateSpecification"].pop("LaunchTemplateName", None)
        plain_update(group, mixed_instances_policy=policy, **rest)

    def delete_group(backend: Any, name: str) -> None:
        group = backend.autoscaling_groups.pop(name)
        for action in list(backend.scheduled_actions.values()):
            if action.auto_scaling_group_name == name:
                del backend.scheduled_actions[action.scheduled_action_name]
        if group.instance_states:
            backend.ec2_backend.terminate_instances([one.instance.id for one in group.instances])

    plain_clean = parsing.clean_json

    def clean_json(written: Any, resources: Any) -> Any:
        cleaned = plain_clean(written, resources)
        if isinstance(cleaned, list):  # AWS::NoValue takes an item away
            return [one for one in cleaned if one is not None]
        return cleaned

    plain_load = ResourceMap.load_parameters

    def load_parameters(resources: Any) -> None:
        slots = resources._template.get("Parameters", {})
        defaults = {name: str(one["Default"]) for name, one in slots.items() if "Default" in one}
        resources.input_parameters = defaults | resources.input_parameters
        plain_load(resources)

    def launch_template(state: Any) -> dict[str, Any] | None:
        template = state.auto_scaling_group.ec2_launch_template
        tags = {one["key"]: one["value"] for one in state.instance.get_tags()}
        version = tags.get("aws:ec2launchtemplate:version")
        if template is None or version is None:
            return None
        return {
            "LaunchTemplateId": template.id,
            "LaunchTemplateName": template.name,
            "Version": version,
        }

    replaced: list[tuple[Any, str, Any]] = [
        (FakeAutoScalingGroup, "set_desired_capacity", set_desired_capacity),
        (FakeAutoScalingGroup, "update", update),
        (AutoScalingBackend, "notify_terminate_instances", ignore_terminated),
        (AutoScalingBackend, "delete_auto_scaling_group", delete_group),
        (ResourceMap, "load_parameters", load_parameters),
        (parsing, "clean_json", clean_json),
        (InstanceState, "launch_template", property(launch_template)),
        (FakeAutoScalingGroup, "corrected", True),
    ]
    for owner, name, new in replaced:
        setattr(owner, name, new)
