"""What setup looks at before it makes anything: whatever is missing, in one clear message."""

import dataclasses
import itertools
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ops.ec2 import permissions, preflight
from ops.ec2.aws import Aws
from ops.local_aws import LocalAws
from tasks.problem import Problem
from tasks.settings import load, load_ec2
from tasks.storage.s3 import S3Prefix
from tests.conftest import forget, free_port

pytestmark = pytest.mark.soak

Check = Callable[..., preflight.Found]
_numbers = itertools.count(1)


@pytest.fixture
def bucket_of(cloud: LocalAws) -> Iterator[Callable[..., str]]:
    """Makes an empty bucket, of a user's and in a region."""
    made = []

    def make(user: str = "admin", region: str = "us-east-1") -> str:
        name = f"preflight-{os.getpid()}-{next(_numbers)}"
        there: Any = {"CreateBucketConfiguration": {"LocationConstraint": region}}
        client = cloud.client("s3", user)
        client.create_bucket(Bucket=name, **({} if region == "us-east-1" else there))
        made.append((client, name))
        return name

    yield make
    for client, name in made:
        client.delete_bucket(Bucket=name)  # it must still be empty


@pytest.fixture
def check(cloud: LocalAws, bucket_of: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> Check:
    """Checks as a user, with settings; by default all is well."""

    def run(user: str = "admin", variables: dict[str, str] | None = None, **ec2: Any) -> Any:
        bucket = bucket_of() if "BUSTIMES_SOURCE" not in (variables or {}) else ""
        environment = cloud.environment(user) | {
            "BUSTIMES_SOURCE": f"s3://{bucket}",
            "BUSTIMES_DESTINATION": f"s3://{bucket}/v2",
        }
        for name, value in (environment | (variables or {})).items():
            monkeypatch.setenv(name, value)
            if not value:
                monkeypatch.delenv(name)
        forget()
        settings = dataclasses.replace(load_ec2(), **ec2)
        return preflight.check(Aws(settings.region), load(), settings)

    return run


def in_bucket(name: str) -> dict[str, str]:
    return {"BUSTIMES_SOURCE": f"s3://{name}", "BUSTIMES_DESTINATION": f"s3://{name}/v2"}


# All is well


def test_what_a_fleet_needs_is_found(check: Check) -> None:
    found = check()
    assert found.architecture == "x86_64"
    assert found.image_parameter.endswith("/al2023-ami-kernel-default-x86_64")
    assert found.vpc.startswith("vpc-")
    assert len(found.subnets) == len(found.zones) > 1
    assert (found.vcpus, found.memory_mib) == (2, 4096)
    assert found.notes == ()


def test_the_same_is_found_every_time(check: Check) -> None:
    assert check() == check()


def test_types_of_arm_get_the_image_for_arm(check: Check) -> None:
    found = check(instance_types=("c7g.large", "m6g.xlarge"))
    assert found.architecture == "arm64"
    assert found.image_parameter.endswith("/al2023-ami-kernel-default-arm64")
    assert found.vcpus == 4


def test_zones_that_lack_the_types_are_left_out(check: Check, cloud: LocalAws) -> None:
    offered = cloud.client("ec2").describe_instance_type_offerings(
        LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": ["c6i.large"]}],
    )["InstanceTypeOfferings"]
    zones = {
        one["ZoneName"]
        for one in cloud.client("ec2").describe_availability_zones()["AvailabilityZones"]
    }
    assert set(check(instance_types=("c6i.large",)).zones) == {one["Location"] for one in offered}
    assert len(offered) < len(zones)  # or this would prove nothing


# Who calls


def test_no_credentials(check: Check) -> None:
    none = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    with pytest.raises(Problem, match=r"there are no AWS credentials. Set AWS_PROFILE"):
        check(variables=none)


def test_expired_credentials(check: Check) -> None:
    with pytest.raises(Problem, match="the credentials have expired; log in again") as problem:
        check("expired")
    assert "\n" not in str(problem.value)


def test_a_profile_that_does_not_exist(check: Check) -> None:
    with pytest.raises(Problem, match=r"\(nobody\) could not be found. Correct AWS_PROFILE"):
        check(variables={"AWS_PROFILE": "nobody"})


def test_a_key_that_aws_does_not_know(check: Check) -> None:
    with pytest.raises(Problem, match="does not know this access key; check AWS_PROFILE"):
        check(variables={"AWS_ACCESS_KEY_ID": "AKIANOBODYNOBODYNOBO"})


def test_somebody_who_may_only_read(check: Check) -> None:
    with pytest.raises(Problem) as problem:
        check("reader")
    first, *lines = str(problem.value).splitlines()
    assert first == "2 things are missing, and nothing was made:"
    assert "/_ops/bustimes-conversion cannot be written: access is denied" in lines[0]
    assert "user/reader) may not cloudformation:CreateStack, " in lines[1]
    for action in ("iam:CreateRole", "PassRole", "ec2:RunInstances", "ssm:SendCommand", "s3:Put"):
        assert action in lines[1]
    assert "Describe" not in lines[1]
    assert "name another profile in AWS_PROFILE" in lines[1]


def test_somebody_who_may_not_even_ask_what_they_may(
    check: Check, cloud: LocalAws, bucket_of: Callable[..., str]
) -> None:
    bucket, iam = bucket_of(), cloud.client("iam")
    may = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}
    iam.create_user(UserName="mixedneeds")
    iam.put_user_policy(
        UserName="mixedneeds",
        PolicyName="read",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [may]}),
    )
    key = iam.create_access_key(UserName="mixedneeds")["AccessKey"]
    keys = {
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
    }
    try:
        with pytest.raises(Problem) as problem:
            check(variables=in_bucket(bucket) | keys)
    finally:
        iam.delete_access_key(UserName="mixedneeds", AccessKeyId=key["AccessKeyId"])
        iam.delete_user_policy(UserName="mixedneeds", PolicyName="read")
        iam.delete_user(UserName="mixedneeds")
    text = str(problem.value)
    assert f"s3://{bucket}/_ops/bustimes-conversion cannot be written: access is denied" in text
    assert "you lack the permission ec2:DescribeInstanceTypeOfferings" in text


def test_the_session_of_a_role_is_judged_by_the_role(
    check: Check, cloud: LocalAws, bucket_of: Callable[..., str]
) -> None:
    bucket, iam = bucket_of(), cloud.client("iam")
    trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    all_but_one = [
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": "iam:PassRole", "Resource": "*"},
    ]
    role = iam.create_role(
        RoleName="engineer",
        Path="/people/",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
    )["Role"]
    iam.put_role_policy(
        RoleName="engineer",
        PolicyName="most",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": all_but_one}),
    )
    taken = cloud.client("sts").assume_role(RoleArn=role["Arn"], RoleSessionName="michael")
    session = {
        "AWS_ACCESS_KEY_ID": taken["Credentials"]["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": taken["Credentials"]["SecretAccessKey"],
        "AWS_SESSION_TOKEN": taken["Credentials"]["SessionToken"],
    }
    try:
        with pytest.raises(Problem, match=r"engineer/michael\) may not iam:PassRole\. Have that"):
            check(variables=in_bucket(bucket) | session)
    finally:
        iam.delete_role_policy(RoleName="engineer", PolicyName="most")
        iam.delete_role(RoleName="engineer")


def test_what_depends_on_the_request_is_no_permission_that_is_missing(
    check: Check, cloud: LocalAws, bucket_of: Callable[..., str]
) -> None:
    """A rule that wants a second factor is met by whoever has logged in with one."""
    bucket, iam = bucket_of(), cloud.client("iam")
    without = {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}
    rules = [
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": "ec2:RunInstances", "Resource": "*", "Condition": without},
        {"Effect": "Deny", "Action": "iam:PassRole", "Resource": "*", "Condition": without},
    ]
    iam.create_user(UserName="careful")
    iam.put_user_policy(
        UserName="careful",
        PolicyName="with-a-second-factor",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": rules}),
    )
    key = iam.create_access_key(UserName="careful")["AccessKey"]
    keys = {
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
    }
    try:
        [note] = check(variables=in_bucket(bucket) | keys).notes
    finally:
        iam.delete_access_key(UserName="careful", AccessKeyId=key["AccessKeyId"])
        iam.delete_user_policy(UserName="careful", PolicyName="with-a-second-factor")
        iam.delete_user(UserName="careful")
    assert "you may iam:PassRole; ec2:RunInstances depends on" in note
    assert "(aws:MultiFactorAuthPresent)" in note


def test_the_first_group_of_an_account_needs_one_permission_more(
    check: Check, cloud: LocalAws
) -> None:
    def needed() -> list[str]:
        settings = load_ec2()
        found = permissions.needed(Aws(settings.region), settings, S3Prefix("s3://bucket/v2"))
        return [action for actions in found.values() for action in actions]

    check()  # whose settings these are
    iam = cloud.client("iam")
    assert "iam:CreateServiceLinkedRole" in needed()
    iam.create_role(RoleName="AWSServiceRoleForAutoScaling", AssumeRolePolicyDocument="{}")
    try:
        assert "iam:CreateServiceLinkedRole" not in needed()
    finally:
        iam.delete_role(RoleName="AWSServiceRoleForAutoScaling")


# Buckets


def test_a_bucket_in_another_region(check: Check, bucket_of: Callable[..., str]) -> None:
    bucket = bucket_of(region="eu-west-1")
    with pytest.raises(Problem, match=f"{bucket} is in eu-west-1.*EC2_REGION=eu-west-1") as problem:
        check(variables=in_bucket(bucket))
    assert "\n" not in str(problem.value)


def test_a_bucket_of_another_account(check: Check, bucket_of: Callable[..., str]) -> None:
    bucket = bucket_of("stranger")
    with pytest.raises(Problem, match=f"bucket {bucket}.* belongs to another account"):
        check(variables=in_bucket(bucket))


def test_a_bucket_that_is_not_there(check: Check) -> None:
    with pytest.raises(
        Problem, match="There is no bucket nowhere-at-all: correct SOURCE"
    ) as problem:
        check(variables=in_bucket("nowhere-at-all"))
    assert "\n" not in str(problem.value)


def test_a_destination_among_the_raw_snapshots(check: Check) -> None:
    theirs = {"BUSTIMES_SOURCE": "s3://theirs/x", "BUSTIMES_DESTINATION": "s3://theirs/x/raw/v2"}
    with pytest.raises(Problem, match=r"among the raw snapshots.*Give another prefix"):
        check(variables=theirs)


# Types, quota, network


def test_a_type_that_is_not_offered(check: Check) -> None:
    with pytest.raises(Problem, match=r"us-east-1 does not offer c99.large.*TYPE=c6i.large"):
        check(instance_types=("c6i.large", "c99.large"))


def test_types_of_two_architectures(check: Check) -> None:
    with pytest.raises(Problem, match=r"2 architectures \(x86_64: c6i.large; arm64: c7g.large, "):
        check(instance_types=("c6i.large", "c7g.large", "m7g.large"))


def test_more_types_than_there_is_room_for(check: Check) -> None:
    with pytest.raises(Problem, match="9 types of instances are too many: give 8 at most"):
        check(instance_types=tuple(f"c{number}.large" for number in range(9)))


def test_a_quota_of_zero(check: Check, cloud: LocalAws) -> None:
    cloud.trouble("capacity", quota_vcpus=0)
    with pytest.raises(Problem, match=r"may have 0 vCPUs in spot .* 1 instance need 2") as problem:
        check()
    assert "request-service-quota-increase --service-code ec2 --quota-code L-34B43A08" in str(
        problem.value
    )


def test_a_quota_that_is_enough_for_fewer(check: Check, cloud: LocalAws) -> None:
    cloud.trouble("capacity", quota_vcpus=4)
    assert check(instances=2).vcpus == 2
    with pytest.raises(Problem, match=r"may have 4 vCPUs in spot .* 3 instances need 6"):
        check(instances=3)


def test_no_default_network(check: Check, cloud: LocalAws, bucket_of: Callable[..., str]) -> None:
    keys = cloud.environment()
    region = "eu-north-1"
    import boto3

    ec2 = boto3.client(
        "ec2",
        region_name=region,
        endpoint_url=cloud.endpoint,
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
    )
    [vpc] = ec2.describe_vpcs()["Vpcs"]
    for subnet in ec2.describe_subnets()["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    ec2.delete_vpc(VpcId=vpc["VpcId"])
    bucket = bucket_of(region=region)
    with pytest.raises(
        Problem, match=r"no default VPC.*aws ec2 create-default-vpc --region eu-nor"
    ):
        check(variables=in_bucket(bucket), region=region, instance_types=("c6i.large",))


# All together


def test_all_that_is_missing_is_said_at_once(check: Check, cloud: LocalAws) -> None:
    cloud.trouble("capacity", quota_vcpus=0)
    with pytest.raises(Problem) as problem:
        check("reader", in_bucket("nowhere-at-all"), instances=2)
    text = str(problem.value)
    assert text.startswith("3 things are missing, and nothing was made:\n  1. There is no bucket")
    assert "vCPUs in spot instances" in text
    assert "may not cloudformation:CreateStack" in text


def test_what_is_throttled_is_asked_again(check: Check, cloud: LocalAws) -> None:
    cloud.trouble("throttle", service="ec2", times=1)
    cloud.trouble("throttle", service="iam", action="SimulatePrincipalPolicy", times=1)
    assert check().notes == ()


def test_nothing_answers(check: Check) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Problem, match=r"Check the network and.* AWS_ENDPOINT_URL") as problem:
        check(variables={"AWS_ENDPOINT_URL": nowhere})
    assert nowhere in str(problem.value)


def test_nothing_is_made(check: Check, cloud: LocalAws, bucket_of: Callable[..., str]) -> None:
    bucket = bucket_of()
    check(variables=in_bucket(bucket))
    s3 = cloud.client("s3")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    assert cloud.client("cloudformation").describe_stacks()["Stacks"] == []
