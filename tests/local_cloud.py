"""Fixtures around a local AWS: one server for all tests, a bucket and an environment for each.

``local_aws`` is the server, started once. ``cloud`` is the same with the environment of its admin
set for the test, and all troubles over afterwards. Tests share it, so each gives its stack a name
of its own (``stack_name``), which is removed after it.
"""

import itertools
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ops.local_aws import LocalAws
from tests.conftest import forget

_NUMBERS = itertools.count(1)
DEADLINE_SECONDS = 60
_FINAL = ("Success", "Failed", "TimedOut", "Cancelled")

RunInLab = Callable[..., str]
"""Sends a bash script to the first instance of `fleet`; gives the command's id."""

Result = Callable[..., dict[str, Any]]
"""Waits for the end of a command; gives what GetCommandInvocation says."""

IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"


def wait_for(condition: Callable[[], object], what: str) -> Any:
    """Wait for what another process brings about; returns what the condition came to."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="session")
def local_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    with LocalAws(tmp_path_factory.mktemp("local-aws")) as aws:
        yield aws


@pytest.fixture
def cloud(local_aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAws]:
    """The local AWS, whose admin this process is."""
    for name, value in local_aws.environment("admin").items():
        monkeypatch.setenv(name, value)
    forget()
    yield local_aws
    local_aws.trouble("reset")


@pytest.fixture
def cloud_bucket(cloud: LocalAws) -> Iterator[str]:
    """The name of an empty bucket of the test's own."""
    name = f"bucket-{next(_NUMBERS)}"
    client = cloud.client("s3")
    client.create_bucket(Bucket=name)
    yield name
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
        for one in page.get("Contents", []):
            client.delete_object(Bucket=name, Key=one["Key"])
    client.delete_bucket(Bucket=name)


@pytest.fixture
def stack_name(cloud: LocalAws) -> Iterator[str]:
    """A name for the test's stack, which is gone afterwards with all its instances."""
    name = f"stack-{next(_NUMBERS)}"
    yield name
    cloud.trouble("reset")
    client = cloud.client("cloudformation")
    client.delete_stack(StackName=name)

    def is_gone() -> bool:
        return not any(
            one["StackName"] == name and one["StackStatus"] != "DELETE_COMPLETE"
            for one in client.list_stacks()["StackSummaries"]
        )

    wait_for(is_gone, f"{name} deleted")


@pytest.fixture(scope="session")
def lab_bucket(local_aws: LocalAws) -> str:
    """The name of the bucket that instances of `_fleet_of_all` may use; never emptied."""
    local_aws.client("s3").create_bucket(Bucket="lab")
    return "lab"


@pytest.fixture(scope="session")
def _fleet_of_all(local_aws: LocalAws, lab_bucket: str) -> str:
    user_data = '#!/bin/bash\necho from user data >"$BUSTIMES_HOME/said"\n'
    local_aws.client("cloudformation").create_stack(**small_stack("lab", lab_bucket, user_data))
    return "lab"


@pytest.fixture
def fleet(local_aws: LocalAws, _fleet_of_all: str) -> str:
    """The name of a group of two instances that tests share; whatever they do to it heals."""
    name = _fleet_of_all
    wait_for(lambda: len(local_aws.machines_of(name, registered=True)) == 2, "two instances")
    return name


@pytest.fixture
def lab_instances(cloud: LocalAws, fleet: str) -> list[str]:
    """The ids of two instances."""
    return sorted(cloud.machines_of(fleet))


@pytest.fixture
def run_in_lab(cloud: LocalAws, lab_instances: list[str]) -> RunInLab:
    """Sends a bash script to the first instance, and gives the command's id."""

    def run(script: str, seconds: str = "60", **more: Any) -> str:
        asked: dict[str, Any] = {
            "InstanceIds": lab_instances[:1],
            "DocumentName": "AWS-RunShellScript",
            "Parameters": {"commands": ["#!/bin/bash", script], "executionTimeout": [seconds]},
        }
        return str(cloud.client("ssm").send_command(**asked | more)["Command"]["CommandId"])

    return run


@pytest.fixture
def result(cloud: LocalAws, lab_instances: list[str]) -> Result:
    """Waits for the end of a command on an instance, and gives what SSM shows of it."""

    def ended(command: str, instance: str = "") -> dict[str, Any]:
        client = cloud.client("ssm")

        def look() -> Any:
            try:
                found = client.get_command_invocation(
                    CommandId=command, InstanceId=instance or lab_instances[0]
                )
            except client.exceptions.InvocationDoesNotExist:
                return None
            return found if found["Status"] in _FINAL else None

        return dict(wait_for(look, f"{command} ended"))

    return ended


def small_stack(name: str, bucket: str, user_data: str = "#!/bin/sh\n") -> dict[str, Any]:
    """What create_stack takes for a role, a log group and a fleet of two without much else.

    The role may read `bucket` and write below v2/ there, and write to the log group.
    """
    allowed = (
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:ListBucket"],
            "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        },
        {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/v2/*"},
    )
    logs = {
        "Effect": "Allow",
        "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
        "Resource": {"Fn::Sub": f"arn:aws:logs:us-east-1:${{AWS::AccountId}}:log-group:/{name}:*"},
    }
    resources: dict[str, Any] = {
        "Role": {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "RoleName": name,
                "AssumeRolePolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Principal": {"Service": "ec2.amazonaws.com"},
                            "Action": "sts:AssumeRole",
                        }
                    ],
                },
                "ManagedPolicyArns": ["arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"],
                "Policies": [
                    {
                        "PolicyName": "archive",
                        "PolicyDocument": {
                            "Version": "2012-10-17",
                            "Statement": [*allowed, logs],
                        },
                    }
                ],
            },
        },
        "Profile": {
            "Type": "AWS::IAM::InstanceProfile",
            "Properties": {"InstanceProfileName": name, "Roles": [{"Ref": "Role"}]},
        },
        "Logs": {
            "Type": "AWS::Logs::LogGroup",
            "Properties": {"LogGroupName": f"/{name}", "RetentionInDays": {"Ref": "Days"}},
        },
        "Template": {
            "Type": "AWS::EC2::LaunchTemplate",
            "Properties": {
                "LaunchTemplateName": name,
                "LaunchTemplateData": {
                    "ImageId": {"Ref": "Image"},
                    "IamInstanceProfile": {"Arn": {"Fn::GetAtt": ["Profile", "Arn"]}},
                    "MetadataOptions": {"HttpTokens": "required"},
                    "BlockDeviceMappings": [
                        {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 20, "Encrypted": True}}
                    ],
                    "UserData": {"Fn::Base64": user_data},
                },
            },
        },
        "Fleet": {
            "Type": "AWS::AutoScaling::AutoScalingGroup",
            "Properties": {
                "AutoScalingGroupName": name,
                "MinSize": "0",
                "MaxSize": "3",
                "DesiredCapacity": {"Ref": "Instances"},
                "AvailabilityZones": ["us-east-1a", "us-east-1b"],
                "MixedInstancesPolicy": {
                    "InstancesDistribution": {"OnDemandPercentageAboveBaseCapacity": 0},
                    "LaunchTemplate": {
                        "LaunchTemplateSpecification": {
                            "LaunchTemplateId": {"Ref": "Template"},
                            "Version": {"Fn::GetAtt": ["Template", "LatestVersionNumber"]},
                        },
                        "Overrides": [{"InstanceType": "c6i.large"}, {"InstanceType": "m5.large"}],
                    },
                },
                "Tags": [{"Key": "lab", "Value": name, "PropagateAtLaunch": True}],
            },
        },
    }
    template = {
        "Parameters": {
            "Image": {"Type": "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>", "Default": IMAGE},
            "Days": {"Type": "Number", "Default": 7, "AllowedValues": [7, 30]},
            "Instances": {"Type": "Number", "Default": 2},
        },
        "Resources": resources,
        "Outputs": {"Group": {"Value": {"Ref": "Fleet"}}},
    }
    return {
        "StackName": name,
        "TemplateBody": json.dumps(template),
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
    }
