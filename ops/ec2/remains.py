"""What there is in AWS of a fleet: asked for thing by thing, and not taken from the stack's word.

`look_for` is the proof after a teardown that nothing is left that runs or costs money. The bucket
is not looked at here. Changes nothing.
"""

from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import ClientError

from ops.ec2.aws import Aws, code_of, explained
from ops.ec2.notify import webhook_parameter
from ops.ec2.stack import TAG

LOOKED_FOR = (
    "stack",
    "Auto Scaling group",
    "instance",
    "disk",
    "launch template",
    "security group",
    "role",
    "instance profile",
    "log group",
    "webhook parameter",
)
"""What `look_for` names if it is there."""

_ALIVE = ["pending", "running", "shutting-down", "stopping", "stopped"]
_GOING = ("deleting", "deleted")
_ABSENT = ("NoSuchEntity", "ParameterNotFound")


def look_for(aws: Aws, name: str) -> list[str]:
    """What is there of the stack `name`, each with its kind: ``role bustimes-conversion``."""
    with explained(f"What there is of {name} cannot be looked up"):
        return [
            *_of_the_stack(aws, name),
            *_in_ec2(aws, name),
            *_in_iam(aws, name),
            *_of_the_logs(aws, name),
            *_of_the_webhook(aws, name),
        ]


def _of_the_stack(aws: Aws, name: str) -> Iterator[str]:
    try:
        [stack] = aws.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        if stack["StackStatus"] != "DELETE_COMPLETE":
            yield f"stack {name} ({stack['StackStatus']})"
    except ClientError as error:
        if code_of(error) != "ValidationError":  # there is none
            raise
    groups = aws.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[name])
    yield from (f"Auto Scaling group {name}" for _ in groups["AutoScalingGroups"])


def _in_ec2(aws: Aws, name: str) -> Iterator[str]:
    ec2 = aws.client("ec2")
    tagged: Any = {"Name": f"tag:{TAG}", "Values": [name]}
    alive: Any = {"Name": "instance-state-name", "Values": _ALIVE}
    for page in ec2.get_paginator("describe_instances").paginate(Filters=[tagged, alive]):
        for one in (one for each in page["Reservations"] for one in each["Instances"]):
            yield f"instance {one['InstanceId']} ({one['State']['Name']})"
    for disk in ec2.describe_volumes(Filters=[tagged])["Volumes"]:
        if disk["State"] not in _GOING:
            yield f"disk {disk['VolumeId']}"
    of_name: Any = {"Name": "launch-template-name", "Values": [name]}
    for template in ec2.describe_launch_templates(Filters=[of_name])["LaunchTemplates"]:
        yield f"launch template {template['LaunchTemplateId']}"
    in_group: Any = {"Name": "group-name", "Values": [name]}
    for group in ec2.describe_security_groups(Filters=[in_group])["SecurityGroups"]:
        yield f"security group {group['GroupId']}"


def _in_iam(aws: Aws, name: str) -> Iterator[str]:
    iam = aws.client("iam")
    if _is_there(lambda: iam.get_role(RoleName=name)):
        yield f"role {name}"
    if _is_there(lambda: iam.get_instance_profile(InstanceProfileName=name)):
        yield f"instance profile {name}"


def _of_the_logs(aws: Aws, name: str) -> Iterator[str]:
    groups = aws.client("logs").describe_log_groups(logGroupNamePrefix=f"/{name}")["logGroups"]
    if any(group.get("logGroupName") == f"/{name}" for group in groups):
        yield f"log group /{name}"


def _of_the_webhook(aws: Aws, name: str) -> Iterator[str]:
    parameter = webhook_parameter(name)
    if _is_there(lambda: aws.client("ssm").get_parameter(Name=parameter)):  # not decrypted
        yield f"webhook parameter {parameter}"


def _is_there(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except ClientError as error:
        if code_of(error) in _ABSENT:
            return False
        raise
    return True
