"""The fleet: instances that come, that do not come, and that are never paid for in vain."""

import dataclasses
import datetime as dt
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from ops.ec2 import bundle, permissions, preflight, remains
from ops.ec2.aws import Aws
from ops.ec2.fleet import Fleet, Instance
from ops.ec2.stack import TAG, TEMPLATE, Stack
from ops.local_aws import LocalAws
from tasks.problem import Problem
from tasks.settings import load, load_ec2
from tasks.storage.s3 import S3Prefix
from tests.conftest import forget
from tests.local_cloud import wait_for

pytestmark = pytest.mark.soak

NAME = "fleet-under-test"
MOST = 3
PARAMETERS = {
    "CodeUrl": "s3://no-such-bucket-at-all/_ops/bustimes-0123456789abcdef.tar.gz",
    "InstanceTypes": "c6i.large,c5.large",
    "Instances": str(MOST),
}


@pytest.fixture(scope="module")
def parameters(local_aws: LocalAws) -> dict[str, str]:
    ec2 = local_aws.client("ec2")
    [vpc] = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    zones: Any = [{"Name": "availability-zone", "Values": ["us-east-1a", "us-east-1b"]}]
    subnets = [one["SubnetId"] for one in ec2.describe_subnets(Filters=zones)["Subnets"]]
    return PARAMETERS | {"Vpc": vpc["VpcId"], "Subnets": ",".join(subnets)}


@pytest.fixture(scope="module")
def aws(local_aws: LocalAws) -> Iterator[Aws]:
    with pytest.MonkeyPatch.context() as environment:
        for name, value in local_aws.environment().items():
            environment.setenv(name, value)
        admin = Aws("us-east-1")
        _ = admin.account, admin.client("autoscaling"), admin.client("ec2"), admin.client("ssm")
        yield admin


@pytest.fixture(scope="module")
def stack(local_aws: LocalAws, aws: Aws, parameters: dict[str, str]) -> Iterator[Stack]:
    made = Stack(aws, NAME)
    local_aws.trouble("stacks", seconds=0.1)
    made.ensure(TEMPLATE.read_text(), parameters, ignore)
    yield made
    made.delete(ignore)


@pytest.fixture
def fleet(stack: Stack, aws: Aws, cloud: LocalAws) -> Iterator[Fleet]:
    """The fleet of no instances, which it is again afterwards."""
    yield Fleet(aws, stack.name)
    cloud.trouble("reset")
    after = Fleet(aws, stack.name)
    if after.desired() is not None:
        after.resize(0)
        wait_for(lambda: not after.instances(), "no instances")


def ignore(_: str) -> None:
    """What happens on the way is of no interest."""


def started(fleet: Fleet, n: int) -> list[Instance]:
    fleet.resize(n)
    return fleet.wait_until_registered(n, 60, ignore)


def safeguards(cloud: LocalAws) -> list[dict[str, Any]]:
    answer = cloud.client("autoscaling").describe_scheduled_actions(AutoScalingGroupName=NAME)
    found: list[dict[str, Any]] = answer["ScheduledUpdateGroupActions"]
    return found


def test_a_new_fleet_has_no_instance_until_it_is_told(fleet: Fleet) -> None:
    assert fleet.desired() == 0
    assert fleet.instances() == []


def test_instances_come_and_go(fleet: Fleet, cloud: LocalAws) -> None:
    said: list[str] = []
    fleet.resize(2)
    ready = fleet.wait_until_registered(2, 60, said.append)
    assert fleet.desired() == 2
    assert len(ready) == 2
    assert {(one.type, one.state, one.lifecycle, one.registered) for one in ready} == {
        ("c6i.large", "running", "InService", True)
    }
    assert all(one.zone in ("us-east-1a", "us-east-1b") and one.address for one in ready)
    assert all(one.launched.tzinfo is not None for one in ready)
    assert said[-1].startswith(("0 of 2", "1 of 2", "2 of 2 instances running"))
    assert len(said) == len(set(said))
    shown = cloud.client("ec2").describe_instances(InstanceIds=[one.id for one in ready])
    for one in (one for each in shown["Reservations"] for one in each["Instances"]):
        assert one["InstanceLifecycle"] == "spot"
        assert {tag["Key"]: tag["Value"] for tag in one["Tags"]}[TAG] == NAME
        assert one["MetadataOptions"]["HttpTokens"] == "required"
    fleet.resize(0)
    wait_for(lambda: not fleet.instances(), "no instances")
    assert fleet.desired() == 0


def test_no_more_than_it_was_set_up_for(fleet: Fleet) -> None:
    with pytest.raises(Problem, match=r"for 3 instances at most: make setup ON=ec2 INSTANCES=4"):
        fleet.resize(MOST + 1)
    assert fleet.desired() == 0


def test_what_ssm_has_lost_is_not_ready(fleet: Fleet, cloud: LocalAws) -> None:
    [instance] = started(fleet, 1)
    cloud.trouble("ssm", lost=[instance.id])
    [lost] = fleet.instances()
    assert (lost.id, lost.registered, lost.is_ready) == (instance.id, False, False)


def test_a_change_of_the_stack_neither_starts_nor_ends_instances(
    fleet: Fleet, stack: Stack, parameters: dict[str, str], cloud: LocalAws
) -> None:
    cloud.trouble("stacks", seconds=0.1)
    [before] = started(fleet, 1)
    assert stack.ensure(TEMPLATE.read_text(), parameters | {"DiskGb": "30"}, ignore)
    assert fleet.desired() == 1
    assert fleet.instances() == [before]
    fleet.resize(0)
    assert stack.ensure(TEMPLATE.read_text(), parameters, ignore)
    assert fleet.desired() == 0


# Instances that do not come


def test_no_spot_capacity(fleet: Fleet, cloud: LocalAws) -> None:
    cloud.trouble("capacity", spot=0)
    said: list[str] = []
    fleet.resize(2)
    with pytest.raises(Problem, match=r"no spot capacity to give.*UnfulfillableCapacity") as it:
        fleet.wait_until_registered(2, 4, said.append)
    assert "TYPE=" in str(it.value)
    assert str(it.value).endswith("set back to 0, so that nothing is being paid for.")
    assert fleet.desired() == 0
    assert fleet.instances() == []
    assert "AWS cannot start more yet" in said[-1]
    assert "Unfulfillable" in fleet.why_fewer()


def test_no_capacity_for_more_leaves_what_there_is(fleet: Fleet, cloud: LocalAws) -> None:
    [before] = started(fleet, 1)
    cloud.trouble("capacity", spot=1)
    fleet.resize(3)
    with pytest.raises(Problem, match=r"The fleet is set back to 1 instance, as before\.$"):
        fleet.wait_until_registered(3, 4, ignore)
    assert fleet.desired() == 1
    wait_for(lambda: fleet.instances() == [before], "only the first instance")


def test_capacity_that_comes_a_little_later_is_waited_for(fleet: Fleet, cloud: LocalAws) -> None:
    cloud.trouble("capacity", spot=0, retry_seconds=0.3)
    fleet.resize(1)

    def relent(sentence: str) -> None:
        if "cannot start more yet" in sentence:
            cloud.trouble("capacity", spot=None)

    assert len(fleet.wait_until_registered(1, 60, relent)) == 1


def test_no_quota(fleet: Fleet, cloud: LocalAws) -> None:
    cloud.trouble("capacity", quota_vcpus=0)
    fleet.resize(1)
    with pytest.raises(Problem, match=r"quota for spot instances is used up\. AWS says: .Could"):
        fleet.wait_until_registered(1, 3600, ignore)  # says so at once
    assert fleet.desired() == 0
    assert safeguards(cloud) == []  # what was given up needs none


def test_instances_that_end_while_they_start(fleet: Fleet, cloud: LocalAws) -> None:
    cloud.trouble("capacity", has_disk_key=False, retry_seconds=0.3)
    fleet.resize(1)
    with pytest.raises(Problem, match=r"Client error on launch.*use the key that your account has"):
        fleet.wait_until_registered(1, 4, ignore)
    assert fleet.desired() == 0


def test_an_instance_that_never_registers(fleet: Fleet, cloud: LocalAws) -> None:
    cloud.trouble("capacity", unregistered=1)
    fleet.resize(1)
    with pytest.raises(
        Problem, match=r"SSM does not reach 1 instance: i-\w+ \((running|pending)\)\."
    ):
        fleet.wait_until_registered(1, 1.5, ignore)
    assert fleet.desired() == 0
    wait_for(lambda: not fleet.instances(), "no instances")


def test_one_of_several_that_never_registers_goes_and_the_others_stay(
    fleet: Fleet, cloud: LocalAws
) -> None:
    [good] = started(fleet, 1)
    cloud.trouble("capacity", unregistered=1)
    fleet.resize(2)
    with pytest.raises(Problem, match="The fleet is set back to 1 instance"):
        fleet.wait_until_registered(2, 1.5, ignore)
    wait_for(lambda: [one.id for one in fleet.instances()] == [good.id], "the good one only")


def test_a_fleet_that_somebody_ends_meanwhile(fleet: Fleet, aws: Aws, cloud: LocalAws) -> None:
    cloud.trouble("capacity", unregistered=1)
    fleet.resize(1)
    with pytest.raises(Problem, match="was set to 0 meanwhile: by somebody else, or because this"):
        fleet.wait_until_registered(1, 60, lambda _: Fleet(aws, NAME).resize(0))


# Whoever waits may be gone


def test_aws_sets_the_fleet_back_if_whoever_waits_is_gone(fleet: Fleet, cloud: LocalAws) -> None:
    seen: list[dict[str, Any]] = []

    def look(_: str) -> None:
        seen.extend(safeguards(cloud))

    fleet.resize(1)
    before = dt.datetime.now(dt.UTC)
    fleet.wait_until_registered(1, 600, look)
    assert seen
    assert seen[0]["DesiredCapacity"] == 0
    assert dt.timedelta(minutes=19) < seen[0]["StartTime"] - before < dt.timedelta(minutes=21)
    assert safeguards(cloud) == []


def test_what_was_broken_off_is_still_safe(fleet: Fleet, cloud: LocalAws) -> None:
    def break_off(_: str) -> None:
        raise KeyboardInterrupt

    fleet.resize(1)
    with pytest.raises(KeyboardInterrupt):
        fleet.wait_until_registered(1, 60, break_off)
    assert [one["DesiredCapacity"] for one in safeguards(cloud)] == [0]
    fleet.wait_until_registered(1, 60, ignore)  # as when setup is run again
    assert safeguards(cloud) == []


def test_what_was_broken_off_and_is_of_use_after_all_stays(fleet: Fleet, cloud: LocalAws) -> None:
    def break_off(_: str) -> None:
        raise KeyboardInterrupt

    fleet.resize(1)
    with pytest.raises(KeyboardInterrupt):
        fleet.wait_until_registered(1, 60, break_off)
    for _ in range(2):  # the second time there is nothing to end
        Fleet(fleet._aws, NAME).keep()
        assert safeguards(cloud) == []


# No fleet


def test_where_there_is_no_fleet(aws: Aws) -> None:
    nothing = Fleet(aws, "no-such-fleet")
    assert nothing.desired() is None
    assert nothing.instances() == []
    assert nothing.why_fewer() == ""
    with pytest.raises(Problem, match=r"There is no fleet no-such-fleet in us-east-1: make setup"):
        nothing.resize(1)


# From nothing to nothing


@pytest.fixture
def engineer(cloud: LocalAws, stack_name: str, cloud_bucket: str) -> Iterator[dict[str, str]]:
    """The keys of somebody who may do what `permissions.needed` lists, and nothing else.

    Outside S3 to anything: the local AWS does not know each resource by its name.
    """
    ec2 = dataclasses.replace(load_ec2(), stack=stack_name)
    needed = permissions.needed(Aws("us-east-1"), ec2, S3Prefix(f"s3://{cloud_bucket}/v2"))
    statements = [
        {
            "Effect": "Allow",
            "Action": actions,
            "Resource": re.sub("/1$", "/*", resource) if ":s3:" in resource else "*",
        }
        for resource, actions in needed.items()
    ]
    may_ask = ["sts:GetCallerIdentity", "iam:SimulatePrincipalPolicy"]
    statements.append({"Effect": "Allow", "Action": may_ask, "Resource": "*"})
    iam = cloud.client("iam")
    iam.create_user(UserName="engineer")
    iam.put_user_policy(
        UserName="engineer",
        PolicyName="needed",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": statements}),
    )
    key = iam.create_access_key(UserName="engineer")["AccessKey"]
    yield {
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
    }
    iam.delete_access_key(UserName="engineer", AccessKeyId=key["AccessKeyId"])
    iam.delete_user_policy(UserName="engineer", PolicyName="needed")
    iam.delete_user(UserName="engineer")


def test_whoever_has_the_permissions_that_are_asked_for_can_make_and_remove_all(
    cloud: LocalAws,
    engineer: dict[str, str],
    stack_name: str,
    cloud_bucket: str,
    parameters: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in engineer.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BUSTIMES_SOURCE", f"s3://{cloud_bucket}")
    monkeypatch.setenv("BUSTIMES_DESTINATION", f"s3://{cloud_bucket}/v2")
    forget()
    cloud.trouble("stacks", seconds=0.1)
    aws, ec2 = Aws("us-east-1"), dataclasses.replace(load_ec2(), stack=stack_name, instances=2)
    assert aws.arn.endswith(":user/engineer")
    found = preflight.check(aws, load(), ec2)
    assert [note for note in found.notes if "quota" not in note] == []
    code = bundle.root_of(load().destination, ec2)
    assert bundle.upload(bundle.make(), code)
    stack, fleet = Stack(aws, stack_name), Fleet(aws, stack_name)
    assert stack.ensure(TEMPLATE.read_text(), parameters, ignore)
    assert stack.ensure(TEMPLATE.read_text(), parameters | {"LogDays": "7"}, ignore)
    started(fleet, 2)
    assert len(remains.look_for(aws, stack_name)) >= 9  # seven resources, two instances
    assert stack.delete(ignore)
    code.remove(bundle.uploaded(code))
    assert remains.look_for(aws, stack_name) == []
    assert not [one for one in cloud.machines().values() if one["processes"]]
