"""The local AWS's control plane behaves as AWS's: stacks, groups, rights, errors."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from ops.local_aws import LocalAws
from tests.local_cloud import small_stack, wait_for

pytestmark = pytest.mark.soak


def status_of(cloud: LocalAws, name: str) -> str:
    [stack] = cloud.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
    return str(stack["StackStatus"])


def settled(cloud: LocalAws, name: str) -> str:
    wait_for(lambda: not status_of(cloud, name).endswith("_PROGRESS"), f"{name} settled")
    return status_of(cloud, name)


def empty(name: str) -> dict[str, Any]:
    """A stack whose fleet has no instances."""
    wanted = [{"ParameterKey": "Instances", "ParameterValue": "0"}]
    return small_stack(name, "no-bucket") | {"Parameters": wanted}


def events(cloud: LocalAws, name: str) -> list[tuple[str, str, str]]:
    found = cloud.client("cloudformation").describe_stack_events(StackName=name)["StackEvents"]
    return [
        (one["LogicalResourceId"], one["ResourceStatus"], one.get("ResourceStatusReason", ""))
        for one in reversed(found)
    ]


def refusal(do: Any, **asked: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as refused:
        do(**asked)
    error = refused.value.response["Error"]
    return error["Code"], error["Message"]


def test_a_stack_is_made_changed_in_place_and_removed(cloud: LocalAws, stack_name: str) -> None:
    client = cloud.client("cloudformation")
    asked = empty(stack_name)
    cloud.trouble("stacks", seconds=15)  # so that it is still at it when it is asked for more
    client.create_stack(**asked)
    assert status_of(cloud, stack_name) == "CREATE_IN_PROGRESS"
    assert refusal(client.create_stack, **asked)[0] == "AlreadyExistsException"
    code, said = refusal(client.update_stack, **asked)
    assert (code, "is in CREATE_IN_PROGRESS state" in said) == ("ValidationError", True)
    cloud.trouble("stacks", seconds=0.5)
    assert settled(cloud, stack_name) == "CREATE_COMPLETE"
    said_of = [name for name, status, _ in events(cloud, stack_name) if "COMPLETE" in status]
    assert said_of == ["Role", "Profile", "Logs", "Template", "Fleet", stack_name]
    [output] = client.describe_stacks(StackName=stack_name)["Stacks"][0]["Outputs"]
    assert (output["OutputKey"], output["OutputValue"]) == ("Group", stack_name)

    assert refusal(client.update_stack, **asked)[1] == "No updates are to be performed."
    days = [{"ParameterKey": "Days", "ParameterValue": "30"}]
    client.update_stack(**asked | {"Parameters": [*asked["Parameters"], *days]})
    assert settled(cloud, stack_name) == "UPDATE_COMPLETE"
    changed = [name for name, status, _ in events(cloud, stack_name) if status == "UPDATE_COMPLETE"]
    assert changed == ["Logs", stack_name]
    logs = cloud.client("logs").describe_log_groups(logGroupNamePrefix=f"/{stack_name}")
    assert logs["logGroups"][0]["retentionInDays"] == 30

    identity = client.describe_stacks(StackName=stack_name)["Stacks"][0]["StackId"]
    client.delete_stack(StackName=stack_name)
    wait_for(lambda: status_of(cloud, identity) == "DELETE_COMPLETE", "deleted")
    assert "does not exist" in refusal(client.describe_stacks, StackName=stack_name)[1]
    assert refusal(cloud.client("iam").get_role, RoleName=stack_name)[0] == "NoSuchEntity"


def test_a_stack_whose_resource_fails_is_taken_back(cloud: LocalAws, stack_name: str) -> None:
    cloud.trouble("fail-resource", deed="create", resource="Template", reason="No luck today.")
    cloud.client("cloudformation").create_stack(**empty(stack_name))
    assert settled(cloud, stack_name) == "ROLLBACK_COMPLETE"
    found = events(cloud, stack_name)
    assert ("Template", "CREATE_FAILED", "No luck today.") in found
    assert ("Role", "DELETE_COMPLETE", "") in found
    assert refusal(cloud.client("iam").get_role, RoleName=stack_name)[0] == "NoSuchEntity"


def test_an_update_that_fails_leaves_the_stack_as_it_was(cloud: LocalAws, stack_name: str) -> None:
    client = cloud.client("cloudformation")
    asked = empty(stack_name)
    client.create_stack(**asked)
    assert settled(cloud, stack_name) == "CREATE_COMPLETE"
    cloud.trouble("fail-resource", deed="update", resource="Logs", reason="No luck today.")
    days = [{"ParameterKey": "Days", "ParameterValue": "30"}]
    client.update_stack(**asked | {"Parameters": [*asked["Parameters"], *days]})
    assert settled(cloud, stack_name) == "UPDATE_ROLLBACK_COMPLETE"
    logs = cloud.client("logs").describe_log_groups(logGroupNamePrefix=f"/{stack_name}")
    assert logs["logGroups"][0]["retentionInDays"] == 7


def test_cloudformation_refuses_what_makes_no_sense(cloud: LocalAws, stack_name: str) -> None:
    create = cloud.client("cloudformation").create_stack
    asked = empty(stack_name)
    code, said = refusal(create, **asked | {"Capabilities": []})
    assert (code, said) == (
        "InsufficientCapabilitiesException",
        "Requires capabilities : [CAPABILITY_NAMED_IAM]",
    )
    for name, value, expected in (
        ("Days", "8", "must be one of AllowedValues"),
        ("Instances", "many", "must be a number"),
        ("Colour", "red", "[Colour] do not exist in the template"),
    ):
        wrong = [{"ParameterKey": name, "ParameterValue": value}]
        assert expected in refusal(create, **asked | {"Parameters": wrong})[1]
    assert "at least one" in refusal(create, **asked | {"TemplateBody": "{}"})[1].lower()


def test_a_stack_needs_the_rights_for_its_resources(cloud: LocalAws, stack_name: str) -> None:
    iam = cloud.client("iam")
    iam.create_user(UserName=stack_name)
    policy = (
        '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Resource": "*", "Action": '
        '["cloudformation:*", "iam:CreateRole", "iam:DeleteRole", "ssm:GetParameters"]}]}'
    )
    iam.put_user_policy(UserName=stack_name, PolicyName="some", PolicyDocument=policy)
    key = iam.create_access_key(UserName=stack_name)["AccessKey"]
    cloud.client_with("cloudformation", key["AccessKeyId"], key["SecretAccessKey"]).create_stack(
        **empty(stack_name)
    )
    assert settled(cloud, stack_name) == "ROLLBACK_COMPLETE"
    [why] = [why for _, status, why in events(cloud, stack_name) if status == "CREATE_FAILED"]
    assert "is not authorized to perform: iam:PutRolePolicy on resource" in why


def test_a_group_launches_replaces_and_shrinks(cloud: LocalAws, stack_name: str) -> None:
    client = cloud.client("autoscaling")
    cloud.client("cloudformation").create_stack(**empty(stack_name))
    assert settled(cloud, stack_name) == "CREATE_COMPLETE"

    def here() -> set[str]:
        groups = client.describe_auto_scaling_groups(AutoScalingGroupNames=[stack_name])
        found = groups["AutoScalingGroups"][0]["Instances"]
        return {one["InstanceId"] for one in found if one["LifecycleState"] == "InService"}

    def resize(n: int) -> None:
        client.set_desired_capacity(AutoScalingGroupName=stack_name, DesiredCapacity=n)

    assert (
        "above max value 3"
        in refusal(client.set_desired_capacity, AutoScalingGroupName=stack_name, DesiredCapacity=4)[
            1
        ]
    )
    cloud.trouble("capacity", spot=0, retry_seconds=0.2)
    resize(1)

    def latest() -> Any:
        return client.describe_scaling_activities(AutoScalingGroupName=stack_name)["Activities"]

    failed = wait_for(latest, "a scaling activity")[0]
    assert failed["StatusCode"] == "Failed"
    assert "UnfulfillableCapacity" in failed["StatusMessage"]
    cloud.trouble("capacity", spot=None, quota_vcpus=1)
    wait_for(lambda: "MaxSpotInstanceCount" in latest()[0]["StatusMessage"], "quota")
    quota = cloud.client("service-quotas").get_service_quota(
        ServiceCode="ec2", QuotaCode="L-34B43A08"
    )
    assert quota["Quota"]["Value"] == 1
    cloud.trouble("capacity", quota_vcpus=64)

    wait_for(lambda: len(here()) == 1, "one instance")
    [first] = here()
    cloud.trouble("kill", instance=first)
    [second] = wait_for(lambda: here() - {first}, "a replacement")
    reservations = cloud.client("ec2").describe_instances(InstanceIds=[second])["Reservations"]
    instance = reservations[0]["Instances"][0]
    assert instance["InstanceLifecycle"] == "spot"
    assert instance["PrivateIpAddress"] == cloud.machines()[second]["address"]
    assert {"Key": "lab", "Value": stack_name} in instance["Tags"]
    client.update_auto_scaling_group(AutoScalingGroupName=stack_name, MinSize=0, DesiredCapacity=0)
    wait_for(lambda: second not in cloud.machines(), "no machine")


@pytest.mark.parametrize(
    ("service", "call", "code"),
    [
        ("s3", "list_buckets", "ExpiredToken"),
        ("ec2", "describe_instances", "RequestExpired"),
        ("ssm", "describe_instance_information", "ExpiredTokenException"),
        ("cloudformation", "list_stacks", "ExpiredToken"),
    ],
)
def test_expired_credentials(cloud: LocalAws, service: str, call: str, code: str) -> None:
    assert refusal(getattr(cloud.client(service, "expired"), call))[0] == code


def test_unknown_credentials(cloud: LocalAws) -> None:
    unknown = cloud.client_with("sts", "AKIAIOSFODNN7EXAMPLE", "no secret")
    assert refusal(unknown.get_caller_identity)[0] == "InvalidClientTokenId"


def test_a_reader_may_look_and_not_touch(cloud: LocalAws, cloud_bucket: str) -> None:
    cloud.client("s3").put_object(Bucket=cloud_bucket, Key="raw/x", Body=b"1")
    reader = cloud.client("s3", "reader")
    assert reader.get_object(Bucket=cloud_bucket, Key="raw/x")["Body"].read() == b"1"
    code, said = refusal(reader.put_object, Bucket=cloud_bucket, Key="raw/x", Body=b"2")
    assert (code, "user/reader is not authorized to perform: s3:PutObject" in said) == (
        "AccessDenied",
        True,
    )
    results = cloud.client("iam", "reader").simulate_principal_policy(
        PolicySourceArn="arn:aws:iam::123456789012:user/reader",
        ActionNames=["s3:GetObject", "cloudformation:CreateStack"],
    )["EvaluationResults"]
    assert [one["EvalDecision"] for one in results] == ["allowed", "implicitDeny"]


def test_a_bucket_is_closed_to_other_accounts_and_regions(
    cloud: LocalAws, cloud_bucket: str
) -> None:
    stranger = cloud.client("s3", "stranger")
    assert refusal(stranger.list_objects_v2, Bucket=cloud_bucket)[0] == "AccessDenied"
    admin = cloud.client("s3")
    assert (
        refusal(admin.head_bucket, Bucket=cloud_bucket, ExpectedBucketOwner="210987654321")[0]
        == "403"
    )
    far = f"far-{cloud_bucket}"
    admin.create_bucket(Bucket=far, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    answer = admin.head_bucket(Bucket=far)  # boto3 follows to the region that S3 names
    assert answer["BucketRegion"] == "eu-west-1"
    admin.delete_bucket(Bucket=far)


def test_too_many_requests_are_refused_as_each_service_does(cloud: LocalAws) -> None:
    for service, call, code in (
        ("ssm", "list_commands", "ThrottlingException"),
        ("ec2", "describe_instances", "RequestLimitExceeded"),
        ("autoscaling", "describe_auto_scaling_groups", "Throttling"),
    ):
        cloud.trouble("throttle", service=service, times=100)
        assert refusal(getattr(cloud.client(service), call))[0] == code
