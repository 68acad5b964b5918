"""The stack: made, changed and removed whole, whatever was there before, whoever else is at it."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ops.ec2 import remains
from ops.ec2.aws import Aws
from ops.ec2.stack import TAG, TEMPLATE, Stack
from ops.local_aws import LocalAws
from tasks.problem import Problem
from tests.local_cloud import wait_for

pytestmark = pytest.mark.soak

SMALL = """
Parameters: {LogDays: {Type: Number, Default: 30}}
Resources:
  LogGroup:
    Type: AWS::Logs::LogGroup
    Properties: {LogGroupName: !Sub "/${AWS::StackName}", RetentionInDays: !Ref LogDays}
"""
"""For what does not depend on what is in a stack."""

QUICK, SLOW = 0.1, 1.5
"""Seconds that CloudFormation takes: where it does not matter, and where two should meet."""

LEFT_BEHIND = {
    "REVIEW_IN_PROGRESS": "was begun and never made",
    "CREATE_FAILED": "was left half made",
    "ROLLBACK_COMPLETE": "was left empty by an attempt that failed",
    "ROLLBACK_FAILED": "was left half made",
    "DELETE_FAILED": "was left half deleted",
}


@pytest.fixture(autouse=True)
def _quick_stacks(cloud: LocalAws) -> None:
    """Else whatever CloudFormation does takes a second."""
    cloud.trouble("stacks", seconds=QUICK)


@pytest.fixture
def aws(cloud: LocalAws) -> Aws:  # noqa: ARG001, its environment is needed
    return Aws("us-east-1")


@pytest.fixture
def stack(aws: Aws, stack_name: str, cloud: LocalAws) -> Iterator[Stack]:
    yield Stack(aws, stack_name)
    cloud.trouble("reset")
    cloud.trouble("stacks", seconds=QUICK)
    cloud.client("cloudformation").delete_stack(StackName=stack_name)
    wait_for(lambda: Stack(aws, stack_name).describe() is None, "no stack")


@pytest.fixture(scope="session")
def network(local_aws: LocalAws) -> dict[str, str]:
    ec2 = local_aws.client("ec2")
    [vpc] = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    subnets = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc["VpcId"]]}])
    ids = [one["SubnetId"] for one in subnets["Subnets"]]
    return {"Vpc": vpc["VpcId"], "Subnets": ",".join(ids)}


@pytest.fixture
def parameters(network: dict[str, str]) -> dict[str, str]:
    return network | {"CodeUrl": "s3://bustimes-data/_ops/bustimes-0123456789abcdef.tar.gz"}


def ignore(_: str) -> None:
    """What happens on the way is of no interest."""


def status(cloud: LocalAws, name: str) -> str:
    stacks = cloud.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
    return str(stacks[0]["StackStatus"])


def test_made_once_then_left_alone_then_changed_where_it_differs(
    cloud: LocalAws, stack: Stack, parameters: dict[str, str]
) -> None:
    said: list[str] = []
    assert stack.describe() is None
    assert stack.ensure(TEMPLATE.read_text(), parameters, said.append)
    assert set(said) == {
        f"{name} made"
        for name in (
            *("Role", "InstanceProfile", "LogGroup", "SecurityGroup", "LuigidAmongThem"),
            *("LaunchTemplate", "Fleet"),
        )
    }
    state = stack.describe()
    assert state is not None
    assert (state.status, state.tags) == ("CREATE_COMPLETE", {TAG: stack.name})
    said.clear()
    assert not stack.ensure(TEMPLATE.read_text(), parameters, said.append)
    assert said == []
    assert stack.describe() == state
    topic = {"NotifyTopic": "arn:aws:sns:us-east-1:123456789012:ended", "LogDays": "7"}
    assert stack.ensure(TEMPLATE.read_text(), parameters | topic, said.append)
    assert set(said) == {"NotifyPolicy made", "LogGroup changed"}
    policies = cloud.client("iam").list_role_policies(RoleName=stack.name)["PolicyNames"]
    assert set(policies) == {"archive", "fleet", "notify"}


@pytest.mark.parametrize("prune", ["no", "yes"])
def test_the_role_may_write_weeks_and_delete_only_if_asked(
    cloud: LocalAws, stack: Stack, parameters: dict[str, str], prune: str
) -> None:
    stack.ensure(TEMPLATE.read_text(), parameters | {"AllowPrune": prune}, ignore)
    iam = cloud.client("iam")
    role = iam.get_role(RoleName=stack.name)["Role"]["Arn"]
    bucket = "arn:aws:s3:::bustimes-data"

    def may(action: str, resource: str) -> bool:
        [result] = iam.simulate_principal_policy(
            PolicySourceArn=role, ActionNames=[action], ResourceArns=[resource]
        )["EvaluationResults"]
        return str(result["EvalDecision"]) == "allowed"

    raw, week = f"{bucket}/raw/bustimes__2021-11-08__00-00-05.json", f"{bucket}/v2/2021-W45"
    assert may("s3:ListBucket", bucket)
    assert all(may("s3:GetObject", one) for one in (raw, week))
    assert all(may(f"s3:{one}", week) for one in ("PutObject", "AbortMultipartUpload"))
    assert not any(may("s3:PutObject", one) for one in (raw, f"{bucket}/v2", f"{bucket}/v20/x"))
    assert not any(may("s3:DeleteObject", one) for one in (week, f"{bucket}/_ops/x"))
    assert not may("s3:GetObject", "arn:aws:s3:::another/raw/x")
    assert may("s3:DeleteObject", raw) == (prune == "yes")
    group = "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:x:autoScalingGroupName/"
    assert may("autoscaling:SetDesiredCapacity", group + stack.name)
    assert not may("autoscaling:SetDesiredCapacity", group + "another")


def test_what_cannot_be_made_is_explained_and_taken_away_again(
    cloud: LocalAws, aws: Aws, stack: Stack, parameters: dict[str, str]
) -> None:
    why = 'Resource handler returned message: "You\'ve reached your quota (Service: Ec2)"'
    cloud.trouble("fail-resource", deed="create", resource="LaunchTemplate", reason=why)
    with pytest.raises(Problem) as problem:
        stack.ensure(TEMPLATE.read_text(), parameters, ignore)
    assert f"{stack.name} could not be made: LaunchTemplate failed (\"You've reached your" in str(
        problem.value
    )
    assert str(problem.value).endswith("removed again, and nothing is being paid for.")
    assert "handler" not in str(problem.value)
    assert remains.look_for(aws, stack.name) == []


def test_what_cannot_be_changed_stays_as_it_was(cloud: LocalAws, stack: Stack) -> None:
    stack.ensure(SMALL, {"LogDays": "30"}, ignore)
    cloud.trouble("fail-resource", deed="update", resource="LogGroup", reason="Not today")
    with pytest.raises(Problem, match=r"LogGroup failed \(Not today\)\. It is as it was before\.$"):
        stack.ensure(SMALL, {"LogDays": "7"}, ignore)
    state = stack.describe()
    assert state is not None
    assert (state.status, state.parameters) == ("UPDATE_ROLLBACK_COMPLETE", {"LogDays": "30"})
    assert stack.ensure(SMALL, {"LogDays": "7"}, ignore)


def test_a_change_that_cannot_be_taken_back_says_what_to_do(cloud: LocalAws, stack: Stack) -> None:
    def fail(sentence: str = "LogGroup failed") -> None:
        if "failed" in sentence:
            cloud.trouble("fail-resource", deed="update", resource="LogGroup", reason="Not today")

    stack.ensure(SMALL, {"LogDays": "30"}, ignore)
    fail()
    cloud.trouble("stack", name=stack.name, status="UPDATE_ROLLBACK_FAILED")
    for _ in range(2):
        with pytest.raises(
            Problem, match=r"make teardown ON=ec2\) and make it again \(make setup ON=ec2"
        ):
            stack.ensure(SMALL, {"LogDays": "7"}, fail)
    assert stack.delete(ignore)


def test_wrong_parameters_are_explained(stack: Stack, parameters: dict[str, str]) -> None:
    with pytest.raises(Problem, match=r"cannot be made: AWS answers ValidationError .*LogDays"):
        stack.ensure(TEMPLATE.read_text(), parameters | {"LogDays": "2"}, ignore)
    assert stack.describe() is None


# What earlier attempts have left


@pytest.fixture(scope="module")
def remade(local_aws: LocalAws) -> Iterator[dict[str, tuple[bool, list[str], str]]]:
    """For each state: whether making a stack over it changed it, what was said, the id before."""
    local_aws.trouble("stacks", seconds=QUICK)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in local_aws.environment().items():
            environment.setenv(name, value)
        aws = Aws("us-east-1")

        def run(left: str) -> tuple[bool, list[str], str]:
            stack, said = Stack(aws, f"left-{left.lower().replace('_', '-')}"), []
            stack.ensure(SMALL, {}, ignore)
            before = stack.describe()
            assert before is not None
            local_aws.trouble("stack", name=stack.name, status=left)
            return stack.ensure(SMALL, {}, said.append), said, before.id

        with ThreadPoolExecutor(len(LEFT_BEHIND)) as threads:
            yield dict(zip(LEFT_BEHIND, threads.map(run, LEFT_BEHIND), strict=True))
            names = [f"left-{one.lower().replace('_', '-')}" for one in LEFT_BEHIND]
            list(threads.map(lambda name: Stack(aws, name).delete(ignore), names))


@pytest.mark.parametrize("left", LEFT_BEHIND)
def test_what_was_left_is_removed_first(
    remade: dict[str, tuple[bool, list[str], str]], cloud: LocalAws, left: str
) -> None:
    changed, said, before = remade[left]
    assert changed
    name = f"left-{left.lower().replace('_', '-')}"
    assert said[0] == f"The stack {name} {LEFT_BEHIND[left]}: it is removed first."
    [now] = cloud.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
    assert now["StackStatus"] == "CREATE_COMPLETE"
    assert now["StackId"] != before


def test_a_real_attempt_that_failed_is_replaced(cloud: LocalAws, stack: Stack) -> None:
    client = cloud.client("cloudformation")
    cloud.trouble("stacks", seconds=SLOW)
    cloud.trouble("fail-resource", deed="create", resource="LogGroup", reason="Not today")
    client.create_stack(
        StackName=stack.name, TemplateBody=SMALL, Tags=[{"Key": TAG, "Value": stack.name}]
    )
    said: list[str] = []

    def hurry(sentence: str) -> None:
        said.append(sentence)
        cloud.trouble("stacks", seconds=QUICK)

    assert stack.ensure(SMALL, {}, hurry)  # while the first is under way
    assert "Somebody else is at the stack" in said[0]
    assert any("was left empty by an attempt that failed" in one for one in said)


def test_a_deletion_that_is_under_way_is_waited_for(cloud: LocalAws, stack: Stack) -> None:
    stack.ensure(SMALL, {}, ignore)
    cloud.trouble("stacks", seconds=SLOW)
    cloud.client("cloudformation").delete_stack(StackName=stack.name)
    cloud.trouble("stacks", seconds=QUICK)
    said: list[str] = []
    assert stack.ensure(SMALL, {}, said.append)
    assert "(DELETE_IN_PROGRESS): waiting for them." in said[0]
    assert status(cloud, stack.name) == "CREATE_COMPLETE"


@pytest.mark.parametrize("act", ["ensure", "delete"])
def test_a_stack_of_somebody_elses_is_left_alone(cloud: LocalAws, stack: Stack, act: str) -> None:
    client = cloud.client("cloudformation")
    client.create_stack(StackName=stack.name, TemplateBody=SMALL)
    client.get_waiter("stack_create_complete").wait(
        StackName=stack.name, WaiterConfig={"Delay": 0, "MaxAttempts": 1000}
    )
    acts: dict[str, Callable[[], Any]] = {
        "ensure": lambda: stack.ensure(SMALL, {"LogDays": "7"}, ignore),
        "delete": lambda: stack.delete(ignore),
    }
    with pytest.raises(Problem, match=r"did not make \(it has no tag .*EC2_STACK\) to another"):
        acts[act]()
    assert status(cloud, stack.name) == "CREATE_COMPLETE"


# Several people


def test_two_setups_at_once_make_one_stack(aws: Aws, stack: Stack, cloud: LocalAws) -> None:
    begin = threading.Barrier(2)

    def setup(_: int) -> bool:
        begin.wait(10)
        return Stack(aws, stack.name).ensure(SMALL, {}, ignore)

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(setup, range(2))) == [False, True]
    events = cloud.client("cloudformation").describe_stack_events(StackName=stack.name)
    made = [
        one
        for one in events["StackEvents"]
        if (one["LogicalResourceId"], one["ResourceStatus"]) == ("LogGroup", "CREATE_COMPLETE")
    ]
    assert len(made) == 1


def test_two_different_changes_at_once_come_one_after_the_other(aws: Aws, stack_name: str) -> None:
    Stack(aws, stack_name).ensure(SMALL, {}, ignore)
    begin = threading.Barrier(2)

    def change(days: str) -> bool:
        mine = Stack(aws, stack_name)
        begin.wait(10)
        return mine.ensure(SMALL, {"LogDays": days}, ignore)

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(change, ("7", "14"))) == [True, True]
    state = Stack(aws, stack_name).describe()
    assert state is not None
    assert state.status == "UPDATE_COMPLETE"


def test_teardown_in_the_middle_of_a_setup_leaves_nothing(
    aws: Aws, stack: Stack, cloud: LocalAws
) -> None:
    cloud.trouble("stacks", seconds=SLOW)
    with ThreadPoolExecutor(1) as threads:
        made = threads.submit(stack.ensure, SMALL, {}, ignore)
        wait_for(stack.describe, "a stack that is being made")
        cloud.trouble("stacks", seconds=QUICK)
        said: list[str] = []
        assert Stack(aws, stack.name).delete(said.append)
        with contextlib.suppress(Problem):  # it may have been gone before it was seen to be ready
            made.result()
    assert said == [
        f"Somebody else is at the stack {stack.name} (CREATE_IN_PROGRESS): waiting for them.",
        "LogGroup made",
        "LogGroup removed",
    ]
    assert remains.look_for(aws, stack.name) == []


# Taking it away


def test_everything_goes_and_nothing_else(
    cloud: LocalAws, aws: Aws, stack: Stack, parameters: dict[str, str], cloud_bucket: str
) -> None:
    neighbour = Stack(aws, f"{stack.name}-of-a-neighbour")
    with ThreadPoolExecutor(2) as threads:
        list(
            threads.map(
                lambda one: one.ensure(TEMPLATE.read_text(), parameters, ignore),
                (stack, neighbour),
            )
        )
    s3 = cloud.client("s3")
    for key in ("raw/bustimes__2021-11-08__00-00-05.json", "v2/2021-W45.jsonl.gz"):
        s3.put_object(Bucket=cloud_bucket, Key=key, Body=b"[]")
    theirs = remains.look_for(aws, neighbour.name)
    assert len(theirs) == 7
    said: list[str] = []
    assert stack.delete(said.append)
    assert "Role removed" in said
    assert remains.look_for(aws, stack.name) == []
    assert remains.look_for(aws, neighbour.name) == theirs
    assert s3.list_objects_v2(Bucket=cloud_bucket)["KeyCount"] == 2
    assert not stack.delete(ignore)
    assert neighbour.delete(ignore)


def test_what_cannot_be_removed_at_once_is_tried_again(cloud: LocalAws, stack: Stack) -> None:
    stack.ensure(SMALL, {}, ignore)
    cloud.trouble("fail-resource", deed="delete", resource="LogGroup", reason="still in use")
    said: list[str] = []
    assert stack.delete(said.append)
    assert said == ["LogGroup failed: still in use", "LogGroup removed"]


def test_what_cannot_be_removed_at_all_is_named(cloud: LocalAws, stack: Stack) -> None:
    def fail_again(sentence: str = "LogGroup failed") -> None:
        if "failed" in sentence:
            cloud.trouble("fail-resource", deed="delete", resource="LogGroup", reason="locked")

    stack.ensure(SMALL, {}, ignore)
    fail_again()
    with pytest.raises(
        Problem, match=r"removed whole: LogGroup failed \(locked\)\. Mend that, then run make tear"
    ):
        stack.delete(fail_again)
    assert status(cloud, stack.name) == "DELETE_FAILED"


def test_credentials_that_expire_on_the_way_are_explained(
    cloud: LocalAws, stack: Stack, parameters: dict[str, str]
) -> None:
    cloud.trouble("stacks", seconds=SLOW)
    key = cloud.environment()["AWS_ACCESS_KEY_ID"]
    with pytest.raises(Problem, match="cannot be made: the credentials have expired; log in again"):
        stack.ensure(
            TEMPLATE.read_text(), parameters, lambda _: cloud.trouble("expire", access_key=key)
        )
    cloud.trouble("expire", access_key=key, expired=False)
    cloud.trouble("stacks", seconds=QUICK)
    said: list[str] = []
    stack.ensure(TEMPLATE.read_text(), parameters, said.append)
    assert "Somebody else is at the stack" in said[0]  # it goes on from there
