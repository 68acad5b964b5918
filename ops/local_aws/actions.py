"""Which actions of IAM a request needs, and on which resources.

Named exactly where policies here are written for single resources: S3, Auto Scaling, CloudWatch
Logs, run command, parameters, SNS, IAM and CloudFormation. Everything else needs its action on "*".
"""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import unescape

from ops.local_aws.wire import Call

_PREFIXES = {"monitoring": "cloudwatch"}
Need = tuple[str, str, dict[str, str]]
"""Action, resource, and what conditions may ask about the request."""

_SUBRESOURCES = {
    "acl": ("GetBucketAcl", "PutBucketAcl"),
    "policy": ("GetBucketPolicy", "PutBucketPolicy"),
    "location": ("GetBucketLocation", "GetBucketLocation"),
    "versioning": ("GetBucketVersioning", "PutBucketVersioning"),
    "lifecycle": ("GetLifecycleConfiguration", "PutLifecycleConfiguration"),
    "encryption": ("GetEncryptionConfiguration", "PutEncryptionConfiguration"),
    "tagging": ("GetBucketTagging", "PutBucketTagging"),
    "publicAccessBlock": ("GetBucketPublicAccessBlock", "PutBucketPublicAccessBlock"),
}


def needed(call: Call, account: str) -> Iterator[Need]:
    """Everything that a call needs. An action of S3 follows from its method and address."""
    if call.service == "s3":
        yield from _s3(call)
        return
    action = f"{_PREFIXES.get(call.service, call.service)}:{call.action}"
    for resource in _RESOURCES.get(call.service, _everything)(call, account):
        yield action, resource, {}


def _everything(_call: Call, _account: str) -> list[str]:
    return ["*"]


def _s3(call: Call) -> Iterator[Need]:
    method, path = call.environ["REQUEST_METHOD"], call.environ["PATH_INFO"]
    bucket, _, key = path.lstrip("/").partition("/")
    if not bucket:
        yield "s3:ListAllMyBuckets", "*", {}
        return
    query = call.environ["QUERY_STRING"]
    names = {part.partition("=")[0] for part in query.split("&")}
    arn = f"arn:aws:s3:::{bucket}"
    if not key:
        yield from _bucket(call, method, names, arn)
        return
    if "uploadId" in names and method == "DELETE":
        action = "AbortMultipartUpload"
    elif "uploadId" in names and method == "GET":
        action = "ListMultipartUploadParts"
    elif "tagging" in names:
        action = "GetObjectTagging" if method == "GET" else "PutObjectTagging"
    else:
        action = {"GET": "GetObject", "HEAD": "GetObject", "DELETE": "DeleteObject"}.get(
            method, "PutObject"
        )
    yield f"s3:{action}", f"{arn}/{key}", {}
    copied = call.environ.get("HTTP_X_AMZ_COPY_SOURCE")
    if copied:
        yield "s3:GetObject", f"arn:aws:s3:::{unquote(copied).lstrip('/').partition('?')[0]}", {}


def _bucket(call: Call, method: str, names: set[str], arn: str) -> Iterator[Need]:
    for name, (reading, writing) in _SUBRESOURCES.items():
        if name in names:
            yield f"s3:{reading if method in ('GET', 'HEAD') else writing}", arn, {}
            return
    if "uploads" in names:
        yield "s3:ListBucketMultipartUploads", arn, {}
    elif "delete" in names:
        for key in re.findall(r"<Key>(.*?)</Key>", call.body.decode()):
            yield "s3:DeleteObject", f"{arn}/{unescape(key)}", {}
    elif method in ("GET", "HEAD"):
        given = parse_qs(call.environ["QUERY_STRING"])
        context = {
            f"s3:{name}": given[name][0] for name in ("prefix", "delimiter") if name in given
        }
        yield "s3:ListBucket", arn, context
    else:
        yield f"s3:{'DeleteBucket' if method == 'DELETE' else 'CreateBucket'}", arn, {}


def _autoscaling(call: Call, account: str) -> list[str]:
    name = call.parameters.get("AutoScalingGroupName")
    if not name or call.action.startswith("Describe"):
        return ["*"]
    where = f"arn:aws:autoscaling:{call.region}:{account}:autoScalingGroup"
    from moto.autoscaling.models import autoscaling_backends

    group = autoscaling_backends[account][call.region].autoscaling_groups.get(name)
    return [group.arn if group else f"{where}:unknown:autoScalingGroupName/{name}"]


def _logs(call: Call, account: str) -> list[str]:
    name = call.parameters.get("logGroupName") or call.parameters.get("logGroupIdentifier")
    if not name or call.action == "DescribeLogGroups":
        return [f"arn:aws:logs:{call.region}:{account}:log-group:*"]
    if name.startswith("arn:"):
        return [name]
    arn = f"arn:aws:logs:{call.region}:{account}:log-group:{name}"
    stream = call.parameters.get("logStreamName")
    return [f"{arn}:log-stream:{stream}" if stream else f"{arn}:*"]


def _ssm(call: Call, account: str) -> list[str]:
    asked = call.parameters
    where = f"arn:aws:ssm:{call.region}:{account}"
    named = [asked["Name"]] if "Name" in asked else asked.get("Names", [])
    if named and "Parameter" in call.action:
        return [_parameter(name, call.region, account) for name in named]
    if call.action in ("SendCommand", "StartSession"):
        instances = asked.get("InstanceIds") or ([asked["Target"]] if "Target" in asked else [])
        document = asked.get("DocumentName", "SSM-SessionManagerRunShell")
        owner = "" if document.startswith("AWS-") else account
        return [
            f"arn:aws:ssm:{call.region}:{owner}:document/{document}",
            *(f"arn:aws:ec2:{call.region}:{account}:instance/{one}" for one in instances),
        ]
    if call.action == "TerminateSession":
        return [f"{where}:session/{asked.get('SessionId', '*')}"]
    return ["*"]


def _parameter(name: str, region: str, account: str) -> str:
    owner = "" if name.startswith("/aws/") else account
    return f"arn:aws:ssm:{region}:{owner}:parameter/{name.lstrip('/')}"


def _sns(call: Call, _account: str) -> list[str]:
    return [call.parameters.get("TopicArn") or "*"]


def _iam(call: Call, account: str) -> list[str]:
    asked = call.parameters
    for name, kind in (
        ("RoleName", "role"),
        ("InstanceProfileName", "instance-profile"),
        ("UserName", "user"),
    ):
        if asked.get(name):
            return [f"arn:aws:iam::{account}:{kind}/{asked[name]}"]
    return [asked.get("PolicySourceArn") or asked.get("PolicyArn") or "*"]


def _cloudformation(call: Call, account: str) -> list[str]:
    name = call.parameters.get("StackName")
    if not name:
        return ["*"]
    where = f"arn:aws:cloudformation:{call.region}:{account}:stack"
    return [name if name.startswith("arn:") else f"{where}/{name}/*"]


_RESOURCES: dict[str, Any] = {
    "autoscaling": _autoscaling,
    "logs": _logs,
    "ssm": _ssm,
    "sns": _sns,
    "iam": _iam,
    "cloudformation": _cloudformation,
}
