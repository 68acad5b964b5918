"""ops/stack.yaml: correct, held to luigi.cfg, and as narrow as it is meant to be."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cfnlint.decode import cfn_yaml

from ops.ec2 import preflight
from ops.ec2.stack import TEMPLATE
from tasks.settings import load, load_ec2, load_local
from tasks.storage.s3 import S3Prefix

ARN = "arn:${AWS::Partition}"
HERE = "${AWS::Region}:${AWS::AccountId}"


@pytest.fixture(scope="module")
def template() -> Any:
    return cfn_yaml.load(str(TEMPLATE))


@pytest.fixture(scope="module")
def resources(template: Any) -> dict[str, Any]:
    return {name: one["Properties"] for name, one in template["Resources"].items()}


@pytest.fixture
def launched(resources: dict[str, Any]) -> Any:
    return resources["LaunchTemplate"]["LaunchTemplateData"]


def test_cfn_lint_has_nothing_to_say() -> None:
    result = subprocess.run(
        [
            *(Path(sys.executable).with_name("cfn-lint"), "--include-checks", "I"),
            *("--regions", "us-east-1", "eu-west-1", "--", TEMPLATE),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_defaults_are_those_of_luigi_cfg(template: Any) -> None:
    settings, local, ec2 = load(), load_local(), load_ec2()
    destination = S3Prefix(settings.destination)
    defaults = {
        name: str(one["Default"])
        for name, one in template["Parameters"].items()
        if "Default" in one
    }
    assert defaults == {
        "SourceBucket": S3Prefix(settings.source).bucket,
        "DestinationBucket": destination.bucket,
        "DestinationPrefix": destination.prefix.rstrip("/"),
        "InstanceTypes": ",".join(ec2.instance_types),
        "ImageId": preflight.IMAGE + "x86_64",
        "Instances": str(ec2.instances),
        "DiskGb": str(ec2.disk_gb),
        "LuigidPort": str(local.luigid_port),
        "LogDays": str(ec2.log_days),
        "NotifyTopic": "",
        "AllowPrune": "yes" if settings.allow_prune else "no",
        "SourcePrefix": S3Prefix(settings.source).prefix,
    }
    assert set(template["Parameters"]) - set(defaults) == {"Vpc", "Subnets", "CodeUrl"}


def test_parameters_take_what_the_settings_take(template: Any) -> None:
    most = template["Parameters"]["InstanceTypes"]["AllowedPattern"]
    types = ["c6i.large", "m7i-flex.8xlarge", "u-6tb1.metal"] * 3
    assert re.fullmatch(most, ",".join(types[: preflight.MOST_TYPES]))
    assert not re.fullmatch(most, ",".join(types[: preflight.MOST_TYPES + 1]))
    days = template["Parameters"]["LogDays"]["AllowedValues"]
    for number in days:
        assert load_ec2(os.environ | {"EC2_LOG_DAYS": str(number)}).log_days == number


@pytest.mark.parametrize("prefix", ["*", "v2/*", "v?", "", "v2//", "/v2", "${aws:username}"])
def test_a_prefix_cannot_mean_more_than_it_says(template: Any, prefix: str) -> None:
    pattern = template["Parameters"]["DestinationPrefix"]["AllowedPattern"]
    assert not re.fullmatch(pattern, prefix)
    assert re.fullmatch(pattern, "v2")
    assert re.fullmatch(pattern, "archive/trimet=1/v2.1")


@pytest.mark.parametrize("prefix", ["*", "a*/", "a?/", "a", "/", "//", "${aws:username}/"])
def test_the_prefix_of_what_may_be_deleted_cannot_mean_more_than_it_says(
    template: Any, prefix: str
) -> None:
    pattern = template["Parameters"]["SourcePrefix"]["AllowedPattern"]
    assert not re.fullmatch(pattern, prefix)
    for url in ("s3://bucket", "s3://bucket/nine/years=9/"):
        assert re.fullmatch(pattern, S3Prefix(url).prefix)


def test_the_right_to_the_bucket_is_exactly_what_is_needed(resources: dict[str, Any]) -> None:
    role = resources["Role"]
    assert role["ManagedPolicyArns"] == [
        {"Fn::Sub": f"{ARN}:iam::aws:policy/AmazonSSMManagedInstanceCore"}
    ]
    [archive, fleet] = role["Policies"]
    assert archive["PolicyName"] == "archive"
    read, write = archive["PolicyDocument"]["Statement"]
    assert read == {
        "Effect": "Allow",
        "Action": ["s3:GetObject", "s3:ListBucket"],
        "Resource": [
            {"Fn::Sub": f"{ARN}:s3:::${{SourceBucket}}"},
            {"Fn::Sub": f"{ARN}:s3:::${{SourceBucket}}/*"},
            {"Fn::Sub": f"{ARN}:s3:::${{DestinationBucket}}"},
            {"Fn::Sub": f"{ARN}:s3:::${{DestinationBucket}}/*"},
        ],
    }
    assert write == {
        "Effect": "Allow",
        "Action": ["s3:PutObject", "s3:AbortMultipartUpload"],
        "Resource": {"Fn::Sub": f"{ARN}:s3:::${{DestinationBucket}}/${{DestinationPrefix}}/*"},
    }
    assert "s3:" not in str(fleet)


def test_whatever_else_the_role_may_do_is_to_things_of_its_own(resources: dict[str, Any]) -> None:
    [_, fleet] = resources["Role"]["Policies"]
    allowed = {
        action: statement["Resource"]
        for statement in fleet["PolicyDocument"]["Statement"]
        for action in (
            [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        )
    }
    group = f"{ARN}:autoscaling:{HERE}:autoScalingGroup:*:autoScalingGroupName/${{AWS::StackName}}"
    log = f"{ARN}:logs:{HERE}:log-group:/${{AWS::StackName}}"
    streams = [{"Fn::Sub": log}, {"Fn::Sub": f"{log}:*"}]
    assert allowed == {
        "autoscaling:SetDesiredCapacity": {"Fn::Sub": group},
        "logs:CreateLogStream": streams,
        "logs:PutLogEvents": streams,
        "logs:DescribeLogStreams": streams,
        "logs:DescribeLogGroups": {"Fn::Sub": f"{ARN}:logs:{HERE}:log-group:*"},
    }
    assert resources["Role"]["AssumeRolePolicyDocument"]["Statement"] == [
        {
            "Effect": "Allow",
            "Principal": {"Service": {"Fn::Sub": "ec2.${AWS::URLSuffix}"}},
            "Action": "sts:AssumeRole",
        }
    ]


def test_deleting_raw_snapshots_must_be_asked_for(template: Any, resources: dict[str, Any]) -> None:
    assert template["Conditions"]["MayPrune"] == {"Fn::Equals": [{"Ref": "AllowPrune"}, "yes"]}
    deleting = [name for name, one in resources.items() if "s3:Delete" in str(one)]
    assert deleting == ["PrunePolicy"]
    assert template["Resources"]["PrunePolicy"]["Condition"] == "MayPrune"
    delete, ask = resources["PrunePolicy"]["PolicyDocument"]["Statement"]
    assert delete == {
        "Effect": "Allow",
        "Action": "s3:DeleteObject",
        "Resource": [
            {"Fn::Sub": f"{ARN}:s3:::${{SourceBucket}}/${{SourcePrefix}}raw/bustimes__*"},
            {"Fn::Sub": f"{ARN}:s3:::${{SourceBucket}}/${{SourcePrefix}}bustimes__*"},
        ],
    }
    assert ask["Action"] == "s3:GetBucketVersioning"
    assert ask["Resource"] == {"Fn::Sub": f"{ARN}:s3:::${{SourceBucket}}"}


def test_a_topic_is_published_to_only_if_it_is_given(
    template: Any, resources: dict[str, Any]
) -> None:
    assert template["Resources"]["NotifyPolicy"]["Condition"] == "Notifies"
    [statement] = resources["NotifyPolicy"]["PolicyDocument"]["Statement"]
    assert (statement["Action"], statement["Resource"]) == ("sns:Publish", {"Ref": "NotifyTopic"})


def test_the_metadata_service_wants_a_token_and_is_for_the_instance_only(launched: Any) -> None:
    assert launched["MetadataOptions"] == {
        "HttpEndpoint": "enabled",
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 1,
    }


def test_disks_are_encrypted_and_go_with_their_instance(launched: Any) -> None:
    [disk] = launched["BlockDeviceMappings"]
    assert disk["Ebs"] == {
        "VolumeType": "gp3",
        "VolumeSize": {"Ref": "DiskGb"},
        "Encrypted": True,
        "DeleteOnTermination": True,
    }


def test_nobody_gets_in(template: Any, resources: dict[str, Any], launched: Any) -> None:
    assert "KeyName" not in launched
    [interface] = launched["NetworkInterfaces"]
    assert interface["Groups"] == [{"Fn::GetAtt": ["SecurityGroup", "GroupId"]}]
    assert "SecurityGroupIngress" not in resources["SecurityGroup"]
    rules = [
        name
        for name, one in template["Resources"].items()
        if one["Type"] == "AWS::EC2::SecurityGroupIngress"
    ]
    assert rules == ["LuigidAmongThem"]
    rule = resources["LuigidAmongThem"]
    assert rule["SourceSecurityGroupId"] == rule["GroupId"] == interface["Groups"][0]
    assert rule["FromPort"] == rule["ToPort"] == {"Ref": "LuigidPort"}
    assert not {"CidrIp", "CidrIpv6", "SourcePrefixListId"} & set(rule)


def test_the_fleet_is_of_spot_instances_and_makes_none_by_itself(resources: dict[str, Any]) -> None:
    fleet = resources["Fleet"]
    assert fleet["MixedInstancesPolicy"]["InstancesDistribution"] == {
        "OnDemandBaseCapacity": 0,
        "OnDemandPercentageAboveBaseCapacity": 0,
        "SpotAllocationStrategy": "capacity-optimized",
    }
    assert (fleet["MinSize"], fleet["MaxSize"]) == ("0", {"Ref": "Instances"})
    assert "DesiredCapacity" not in fleet
    assert fleet["CapacityRebalance"] is False
    assert fleet["TerminationPolicies"] == ["NewestInstance"]


def test_every_type_that_is_given_gets_its_place(template: Any, resources: dict[str, Any]) -> None:
    overrides = resources["Fleet"]["MixedInstancesPolicy"]["LaunchTemplate"]["Overrides"]
    assert len(overrides) == preflight.MOST_TYPES
    padded = {"Fn::Split": [",", {"Fn::Sub": "${InstanceTypes},,,,,,,"}]}
    first, *others = overrides
    assert first == {"InstanceType": {"Fn::Select": [0, padded]}}
    for number, override in enumerate(others, 1):
        one = {"Fn::Select": [number, padded]}
        condition = f"HasType{number + 1}"
        assert override == {"Fn::If": [condition, {"InstanceType": one}, {"Ref": "AWS::NoValue"}]}
        assert template["Conditions"][condition] == {"Fn::Not": [{"Fn::Equals": [one, ""]}]}


def test_all_that_has_a_name_has_the_stacks(resources: dict[str, Any]) -> None:
    names = {
        key: value
        for one in resources.values()
        for key, value in one.items()
        if key.endswith("Name") and key != "PolicyName"
    }
    assert names == {
        "RoleName": {"Ref": "AWS::StackName"},
        "InstanceProfileName": {"Ref": "AWS::StackName"},
        "LogGroupName": {"Fn::Sub": "/${AWS::StackName}"},
        "GroupName": {"Ref": "AWS::StackName"},
        "LaunchTemplateName": {"Ref": "AWS::StackName"},
        "AutoScalingGroupName": {"Ref": "AWS::StackName"},
    }


@pytest.fixture
def user_data(launched: Any) -> str:
    """The script that an instance begins with, as it gets it."""
    text = launched["UserData"]["Fn::Base64"]["Fn::Sub"]
    assert set(re.findall(r"\$\{([^!}]+)\}", text)) == {"AWS::Region", "CodeUrl"}
    return re.sub(r"\$\{[^!}]+\}", "something", text).replace("${!", "${")


def test_user_data_is_a_script_without_secrets(user_data: str) -> None:
    assert user_data.startswith("#!/bin/bash\nset -euo pipefail\n")
    assert "ops/ec2/scripts/prepare.sh" in user_data
    assert user_data.index("prepare.sh") < user_data.index("join.sh")


def test_user_data_is_a_sound_script(
    user_data: str, tmp_path: Path, shellcheck: Callable[..., str]
) -> None:
    (tmp_path / "user-data.sh").write_text(user_data)
    assert shellcheck(tmp_path / "user-data.sh") == ""
