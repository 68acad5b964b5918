"""What the caller must be allowed to do for `ON=ec2`, and whether it is.

`needed` is the list: which actions on which resources. `check` has AWS work it out from the
caller's policies, without doing any of it. What the instances may do is not here but in
`ops/stack.yaml`.
"""

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from ops.ec2.aws import Aws, code_of, explained, is_denied
from tasks.problem import Problem
from tasks.settings import Ec2Settings
from tasks.storage.s3 import S3Prefix

if TYPE_CHECKING:
    from mypy_boto3_iam.type_defs import EvaluationResultTypeDef

_ROLE_SESSION = re.compile(r"arn:[\w-]+:sts::\d+:assumed-role/([^/]+)/")

_STACK = "CreateStack UpdateStack DeleteStack DescribeStacks DescribeStackEvents"
_ROLE = (
    "CreateRole DeleteRole GetRole PassRole TagRole PutRolePolicy GetRolePolicy DeleteRolePolicy "
    "ListRolePolicies AttachRolePolicy DetachRolePolicy ListAttachedRolePolicies"
)
_PROFILE = (
    "CreateInstanceProfile GetInstanceProfile DeleteInstanceProfile AddRoleToInstanceProfile "
    "RemoveRoleFromInstanceProfile"
)
_EC2 = (
    "RunInstances CreateTags CreateSecurityGroup DeleteSecurityGroup AuthorizeSecurityGroupIngress "
    "RevokeSecurityGroupIngress CreateLaunchTemplate CreateLaunchTemplateVersion "
    "DeleteLaunchTemplate DescribeLaunchTemplates DescribeLaunchTemplateVersions "
    "DescribeInstances DescribeInstanceTypes DescribeInstanceTypeOfferings DescribeSecurityGroups "
    "DescribeSecurityGroupRules DescribeSpotPriceHistory DescribeSubnets DescribeVolumes "
    "DescribeVpcs"
)
_GROUP = (
    "CreateAutoScalingGroup UpdateAutoScalingGroup DeleteAutoScalingGroup CreateOrUpdateTags "
    "SetDesiredCapacity TerminateInstanceInAutoScalingGroup PutScheduledUpdateGroupAction "
    "DeleteScheduledAction"
)
_GROUPS = "DescribeAutoScalingGroups DescribeScalingActivities"
_LOG = (
    "CreateLogGroup DeleteLogGroup PutRetentionPolicy TagResource DescribeLogStreams GetLogEvents"
)
_SSM = (
    "SendCommand CancelCommand GetCommandInvocation ListCommandInvocations "
    "DescribeInstanceInformation StartSession TerminateSession"
)
_OF_GROUPS = "AWSServiceRoleForAutoScaling"
"""The role of Auto Scaling itself, which an account's very first group makes."""
_IMAGES = "parameter/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"


def needed(aws: Aws, ec2: Ec2Settings, destination: S3Prefix) -> dict[str, list[str]]:
    """The actions that setup to teardown need, by the ARN of what they are done to.

    Where a name is not known before, as a stack's number, 1 stands in.
    """
    name, here = ec2.stack, f"{aws.region}:{aws.account}"
    arn, bucket = f"arn:{aws.partition}", f"arn:{aws.partition}:s3:::{destination.bucket}"
    first = {
        f"{arn}:iam::{aws.account}:role/aws-service-role/autoscaling.amazonaws.com/{_OF_GROUPS}": (
            _actions("iam", "CreateServiceLinkedRole")
        )
    }
    return {
        f"{arn}:cloudformation:{here}:stack/{name}/1": _actions("cloudformation", _STACK),
        f"{arn}:iam::{aws.account}:role/{name}": _actions("iam", _ROLE),
        f"{arn}:iam::{aws.account}:instance-profile/{name}": _actions("iam", _PROFILE),
        "*": [
            *_actions("ec2", _EC2),
            *_actions("autoscaling", _GROUPS),
            *_actions("ssm", _SSM),
            *_actions("logs", "DescribeLogGroups"),
        ],
        f"{arn}:autoscaling:{here}:autoScalingGroup:1:autoScalingGroupName/{name}": _actions(
            "autoscaling", _GROUP
        ),
        f"{arn}:logs:{here}:log-group:/{name}:log-stream:1": _actions("logs", _LOG),
        f"{arn}:ssm:{aws.region}::{_IMAGES}": _actions("ssm", "GetParameters"),
        f"{arn}:ssm:{here}:parameter/{name}/webhook": _actions(
            "ssm", "GetParameter PutParameter DeleteParameter"
        ),
        bucket: _actions("s3", "ListBucket"),
        f"{bucket}/{ec2.code_prefix}/{name}/1": _actions(
            "s3", "GetObject PutObject AbortMultipartUpload DeleteObject"
        ),
        f"{bucket}/{destination.prefix}_fleet/1": _actions(
            "s3", "GetObject PutObject DeleteObject"
        ),
        f"{bucket}/{destination.prefix}_probe/1": _actions("s3", "DeleteObject"),
        f"{bucket}/{destination.prefix}_runs/1": _actions("s3", "GetObject PutObject"),
    } | ({} if _is_there(aws, _OF_GROUPS) else first)


def check(aws: Aws, ec2: Ec2Settings, destination: S3Prefix) -> str:
    """Raises `Problem` with every permission that is lacking.

    Returns a sentence if that cannot be found out, or not for all, else nothing.
    """
    if aws.arn.endswith(":root"):
        return ""  # may do everything, and cannot be simulated
    unknown = "Whether you have all permissions is not known: you may not ask AWS ({}). "
    unknown += "The first step that is denied says which one it needs."
    lacking: list[str] = []
    open_: list[str] = []
    keys: set[str] = set()
    with explained("Your permissions cannot be looked up"):
        try:
            principal = _principal(aws)
            for resource, actions in needed(aws, ec2, destination).items():
                for result in _denied(aws, principal, resource, actions):
                    unmet = _not_known(result)
                    (open_ if unmet else lacking).append(result["EvalActionName"])
                    keys |= unmet
        except ClientError as error:
            if is_denied(error):
                return unknown.format("iam:SimulatePrincipalPolicy")
            if code_of(error) in ("NoSuchEntity", "InvalidInput"):  # somebody from elsewhere
                return unknown.format(aws.arn)
            raise
    if lacking:
        raise Problem(
            f"You ({aws.arn}) may not {_by_service(lacking)}. Have that granted, or name another "
            "profile in AWS_PROFILE."
        )
    if open_:
        return (
            f"Whether you may {_by_service(open_)} depends on what is not known before "
            f"({', '.join(sorted(keys))}). The first step that is denied says so."
        )
    return ""


def _is_there(aws: Aws, role: str) -> bool:
    """Whether a role is there; taken for granted where one may not look."""
    try:
        aws.client("iam").get_role(RoleName=role)
    except ClientError as error:
        if not is_denied(error) and code_of(error) != "NoSuchEntity":
            raise
        return is_denied(error)
    return True


def _principal(aws: Aws) -> str:
    """Whose policies count: for the session of a role that role, which may lie in a path."""
    session = _ROLE_SESSION.match(aws.arn)
    if session is None:
        return aws.arn
    return aws.client("iam").get_role(RoleName=session[1])["Role"]["Arn"]


def _denied(
    aws: Aws, principal: str, resource: str, actions: list[str]
) -> "list[EvaluationResultTypeDef]":
    pages = aws.client("iam").get_paginator("simulate_principal_policy")
    answers = pages.paginate(
        PolicySourceArn=principal,
        ActionNames=actions,
        ResourceArns=[resource],
        ContextEntries=[
            {"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": "string"}
            for key, value in (
                ("aws:RequestedRegion", aws.region),
                ("iam:AWSServiceName", "autoscaling.amazonaws.com"),
                ("iam:PassedToService", f"ec2.{_suffix(aws)}"),
            )
        ],
    )
    return [
        result
        for answer in answers
        for result in answer["EvaluationResults"]
        if result["EvalDecision"] != "allowed"
    ]


def _suffix(aws: Aws) -> str:
    return "amazonaws.com.cn" if aws.partition == "aws-cn" else "amazonaws.com"


def _not_known(result: "EvaluationResultTypeDef") -> set[str]:
    """What a policy asks about a request that only a real one has, such as whether MFA was used."""
    parts: list[Any] = [result, *result.get("ResourceSpecificResults", [])]
    return {key for part in parts for key in part.get("MissingContextValues", [])}


def _actions(service: str, names: str) -> list[str]:
    return [f"{service}:{name}" for name in names.split()]


def _by_service(actions: list[str]) -> str:
    """``iam:CreateRole, PassRole; s3:PutObject``."""
    services: dict[str, list[str]] = defaultdict(list)
    for service, _, name in (action.partition(":") for action in actions):
        if name not in services[service]:
            services[service].append(name)
    return "; ".join(f"{service}:{', '.join(names)}" for service, names in services.items())
