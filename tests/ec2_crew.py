"""Two simulated instances of a local AWS to send scripts to, and what was heard from them."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ops.ec2.aws import Aws
from ops.local_aws import LocalAws
from tests.local_cloud import wait_for

STACK = "crew"


@dataclass
class Crew:
    """Two instances with the tag of a stack, its log group, and what was heard from them."""

    aws: LocalAws
    instances: list[str]
    caller: Aws
    """The admin's; clients take long to make."""

    def home(self, instance: str) -> Path:
        """Instances share this machine's file system: what lies there both sides see."""
        return Path(self.aws.machines()[instance]["home"])

    def processes(self, instance: str) -> list[int]:
        return list(self.aws.machines()[instance]["processes"])


def start_instance(aws: LocalAws) -> str:
    answer = aws.client("ec2").run_instances(
        ImageId="ami-03cf127a",
        MinCount=1,
        MaxCount=1,
        IamInstanceProfile={"Name": STACK},
        TagSpecifications=[
            {"ResourceType": "instance", "Tags": [{"Key": "bustimes:stack", "Value": STACK}]}
        ],
    )
    return str(answer["Instances"][0]["InstanceId"])


@pytest.fixture(scope="module")
def crew_of_module(local_aws: LocalAws) -> Iterator[Crew]:
    iam = local_aws.client("iam")
    who = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}}
    what = {"Effect": "Allow", "Action": "logs:*", "Resource": "*"}
    trust = {"Version": "2012-10-17", "Statement": [who | {"Action": "sts:AssumeRole"}]}
    iam.create_role(RoleName=STACK, AssumeRolePolicyDocument=json.dumps(trust))
    managed = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
    iam.attach_role_policy(RoleName=STACK, PolicyArn=managed)
    policy = json.dumps({"Version": "2012-10-17", "Statement": [what]})
    iam.put_role_policy(RoleName=STACK, PolicyName="logs", PolicyDocument=policy)
    iam.create_instance_profile(InstanceProfileName=STACK)
    iam.add_role_to_instance_profile(InstanceProfileName=STACK, RoleName=STACK)
    local_aws.client("logs").create_log_group(logGroupName=f"/{STACK}")
    instances = sorted(start_instance(local_aws) for _ in range(2))
    wait_for(
        lambda: all(local_aws.machines().get(one, {}).get("registered") for one in instances),
        "instances registered",
    )
    yield Crew(local_aws, instances, Aws("us-east-1"))
    local_aws.client("ec2").terminate_instances(InstanceIds=instances)
    wait_for(lambda: not set(instances) & set(local_aws.machines()), "instances gone")
    local_aws.client("logs").delete_log_group(logGroupName=f"/{STACK}")
    iam.remove_role_from_instance_profile(InstanceProfileName=STACK, RoleName=STACK)
    iam.delete_instance_profile(InstanceProfileName=STACK)
    iam.delete_role_policy(RoleName=STACK, PolicyName="logs")
    iam.detach_role_policy(RoleName=STACK, PolicyArn=managed)
    iam.delete_role(RoleName=STACK)


@pytest.fixture
def crew(crew_of_module: Crew, cloud: LocalAws) -> Crew:  # noqa: ARG001
    """The instances without files of other tests, and the environment of the local AWS's admin."""
    for instance in crew_of_module.instances:
        for path in crew_of_module.home(instance).glob("*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return crew_of_module


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return tmp_path / "try.sh"


class Heard:
    """What instances printed, in the order in which it came."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __call__(self, instance: str, line: str) -> None:
        self.lines.append((instance, line))

    def of(self, instance: str) -> list[str]:
        return [line for one, line in self.lines if one == instance]
