"""What CloudFormation does with the single resources of a stack, on top of moto.

moto makes and removes each kind of resource. What it leaves out is here: that a role has managed
policies, that a change happens to the resource where it is (moto would replace a group of
instances, or a security group in use, or forget the change), which rights each kind needs, and
that a group counts as made when its instances are there and as removed when they have gone.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ops.local_aws.backends import Backends
from ops.local_aws.wire import Refused

GROUP = "AWS::AutoScaling::AutoScalingGroup"
Properties = Mapping[str, Any]

NAMED_IAM = {
    "AWS::IAM::Role": "RoleName",
    "AWS::IAM::InstanceProfile": "InstanceProfileName",
    "AWS::IAM::ManagedPolicy": "ManagedPolicyName",
    "AWS::IAM::User": "UserName",
    "AWS::IAM::Group": "GroupName",
    "AWS::IAM::Policy": "",
}
"""The kinds that need the capability of IAM, with the property that names one."""

RIGHTS: dict[str, dict[str, tuple[str, ...]]] = {
    "AWS::IAM::Role": {
        "create": ("iam:CreateRole", "iam:PutRolePolicy", "iam:AttachRolePolicy"),
        "update": ("iam:PutRolePolicy",),
        "delete": ("iam:DeleteRole", "iam:DeleteRolePolicy", "iam:DetachRolePolicy"),
    },
    "AWS::IAM::Policy": {
        "create": ("iam:PutRolePolicy",),
        "update": ("iam:PutRolePolicy",),
        "delete": ("iam:DeleteRolePolicy",),
    },
    "AWS::IAM::InstanceProfile": {
        "create": ("iam:CreateInstanceProfile", "iam:AddRoleToInstanceProfile", "iam:PassRole"),
        "delete": ("iam:RemoveRoleFromInstanceProfile", "iam:DeleteInstanceProfile"),
    },
    "AWS::Logs::LogGroup": {
        "create": ("logs:CreateLogGroup", "logs:PutRetentionPolicy"),
        "update": ("logs:PutRetentionPolicy",),
        "delete": ("logs:DeleteLogGroup",),
    },
    "AWS::EC2::SecurityGroup": {
        "create": ("ec2:CreateSecurityGroup",),
        "delete": ("ec2:DeleteSecurityGroup",),
    },
    "AWS::EC2::SecurityGroupIngress": {
        "create": ("ec2:AuthorizeSecurityGroupIngress",),
        "update": ("ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"),
        "delete": ("ec2:RevokeSecurityGroupIngress",),
    },
    "AWS::EC2::LaunchTemplate": {
        "create": ("ec2:CreateLaunchTemplate",),
        "update": ("ec2:CreateLaunchTemplateVersion",),
        "delete": ("ec2:DeleteLaunchTemplate",),
    },
    GROUP: {
        "create": ("autoscaling:CreateAutoScalingGroup", "ec2:RunInstances", "iam:PassRole"),
        "update": ("autoscaling:UpdateAutoScalingGroup",),
        "delete": ("autoscaling:DeleteAutoScalingGroup",),
    },
}
"""The rights that each kind needs of whoever works on the stack."""


def arn_of(backends: Backends, kind: str, properties: Properties) -> str:
    """What rights on a resource are looked up for: the resource, as far as it has a name."""
    where = f"{backends.region}:{backends.account}"
    named: dict[str, tuple[str, str]] = {
        "AWS::IAM::Role": ("RoleName", f"arn:aws:iam::{backends.account}:role/"),
        "AWS::IAM::InstanceProfile": (
            "InstanceProfileName",
            f"arn:aws:iam::{backends.account}:instance-profile/",
        ),
        "AWS::Logs::LogGroup": ("LogGroupName", f"arn:aws:logs:{where}:log-group:"),
    }
    if kind == "AWS::IAM::Policy" and properties.get("Roles"):
        return f"arn:aws:iam::{backends.account}:role/{properties['Roles'][0]}"
    name, prefix = named.get(kind, ("", ""))
    return f"{prefix}{properties[name]}" if name in properties else "*"


def check_creation(backends: Backends, kind: str, properties: Properties) -> None:
    """Refuse a group whose name is taken, which moto would replace."""
    name = properties.get("AutoScalingGroupName")
    if kind == GROUP and name in backends.autoscaling.autoscaling_groups:
        raise Refused(
            "AlreadyExists",
            f"AutoScalingGroup by this name already exists - A group with the name {name} already "
            "exists",
        )


def finish_creation(backends: Backends, resource: Any, kind: str, properties: Properties) -> None:
    """What is still missing of a resource that moto has made."""
    if kind == "AWS::IAM::Role":
        resource.from_template = set(resource.policies)
        _set_managed_policies(backends, resource, properties)


def update(backends: Backends, resource: Any, kind: str, properties: Properties) -> bool:
    """Change a resource where it is. False where moto's own way is right."""
    change = _CHANGES.get(kind)
    if change is None:
        return False
    change(backends, resource, properties)
    return True


def prepare_deletion(backends: Backends, resource: Any, kind: str) -> None:
    """Take away what would keep moto from removing a resource."""
    if kind == "AWS::IAM::Role":
        for policy in list(resource.managed_policies.values()):
            policy.detach_from(resource)
    elif kind == "AWS::EC2::SecurityGroupIngress":
        _revoke(backends, resource)


def is_settled(backends: Backends, resource: Any, kind: str) -> bool:
    """Whether a resource that was made or changed is as it should be."""
    if kind != GROUP:
        return True
    group = backends.autoscaling.autoscaling_groups.get(resource.name)
    return group is None or len(group.active_instances()) >= group.desired_capacity


def is_gone(backends: Backends, resource: Any, kind: str) -> bool:
    """Whether nothing is left of a resource that was removed."""
    if kind != GROUP:
        return True
    # moto calls one terminated at once, and its machine is shutting down from the next moment on.
    return all(
        one.state == "terminated" and not getattr(one, "has_machine", False)
        for one in backends.instances()
        if getattr(one, "autoscaling_group", None) is resource
    )


def why_unsettled(resource: Any, activities: list[dict[str, Any]]) -> str:
    """What CloudFormation says of a group whose instances do not come."""
    sizes = f"{len(resource.active_instances())}/{resource.min_size}/{resource.desired_capacity}"
    failed = next((one["StatusMessage"] for one in activities if "StatusMessage" in one), "")
    said = f"Group did not stabilize. {{current/minSize/desired group size = {sizes}}}."
    return f"{said} Failed Scaling Activity: {failed}" if failed else said


def _set_managed_policies(backends: Backends, role: Any, properties: Properties) -> None:
    wanted = properties.get("ManagedPolicyArns", [])
    for arn, policy in list(role.managed_policies.items()):
        if arn not in wanted:
            policy.detach_from(role)
    for arn in wanted:
        if arn not in role.managed_policies:
            backends.iam.attach_role_policy(arn, role.name)


def _change_role(backends: Backends, role: Any, properties: Properties) -> None:
    own = {one["PolicyName"]: one["PolicyDocument"] for one in properties.get("Policies", [])}
    before = getattr(role, "from_template", set(role.policies))
    for name in before - set(own):
        role.policies.pop(name, None)
    for name, document in own.items():
        role.put_policy(name, document)
    role.from_template = set(own)
    role.description = properties.get("Description", "")
    role.assume_role_policy_document = properties["AssumeRolePolicyDocument"]
    _set_managed_policies(backends, role, properties)


def _change_log_group(_backends: Backends, group: Any, properties: Properties) -> None:
    days = properties.get("RetentionInDays")
    group.set_retention_policy(int(days) if days else None)


def _change_security_group(_backends: Backends, group: Any, properties: Properties) -> None:
    group.description = properties.get("GroupDescription")


def _change_ingress(backends: Backends, rule: Any, properties: Properties) -> None:
    _revoke(backends, rule)
    source = properties.get("SourceSecurityGroupId")
    backends.ec2.authorize_security_group_ingress(
        group_name_or_id=properties["GroupId"],
        ip_protocol=properties["IpProtocol"],
        from_port=properties.get("FromPort"),
        to_port=properties.get("ToPort"),
        ip_ranges=[{"CidrIp": properties["CidrIp"]}] if "CidrIp" in properties else [],
        source_groups=[{"GroupId": source}] if source else [],
    )
    rule.properties = properties


def _revoke(backends: Backends, rule: Any) -> None:
    old = rule.properties
    source = old.get("SourceSecurityGroupId")
    backends.ec2.revoke_security_group_ingress(
        group_name_or_id=old["GroupId"],
        ip_protocol=old["IpProtocol"],
        from_port=old.get("FromPort"),
        to_port=old.get("ToPort"),
        ip_ranges=[{"CidrIp": old["CidrIp"]}] if "CidrIp" in old else [],
        source_groups=[{"GroupId": source}] if source else [],
    )


def _change_group(_backends: Backends, group: Any, properties: Properties) -> None:
    def number(name: str) -> int | None:
        return int(properties[name]) if name in properties else None

    group.update(
        availability_zones=properties.get("AvailabilityZones", []),
        desired_capacity=number("DesiredCapacity"),
        max_size=number("MaxSize"),
        min_size=number("MinSize"),
        launch_config_name=properties.get("LaunchConfigurationName"),
        launch_template=properties.get("LaunchTemplate", {}),
        vpc_zone_identifier=",".join(properties.get("VPCZoneIdentifier", [])) or None,
        health_check_period=number("HealthCheckGracePeriod"),
        health_check_type=properties.get("HealthCheckType"),
        mixed_instances_policy=properties.get("MixedInstancesPolicy"),
    )
    group.tags = properties.get("Tags", [])


_CHANGES: dict[str, Callable[[Backends, Any, Properties], None]] = {
    "AWS::IAM::Role": _change_role,
    "AWS::Logs::LogGroup": _change_log_group,
    "AWS::EC2::SecurityGroup": _change_security_group,
    "AWS::EC2::SecurityGroupIngress": _change_ingress,
    GROUP: _change_group,
}
