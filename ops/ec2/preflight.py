"""What `setup` needs, looked at before anything is made: all that is missing, in one message.

Asks who calls, where the buckets are and whose, which types of instances there are, how many the
account may have, whether the caller may do what setup does, and for a network. Changes nothing:
the right to write is tried with an upload that is given up before it holds anything. What cannot be
found out is not taken for missing; it is noted in what `check` returns.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from ops.ec2 import permissions
from ops.ec2.aws import Aws, code_of, explained
from ops.ec2.bundle import root_of
from tasks import figures
from tasks.problem import Problem
from tasks.settings import Ec2Settings, Settings
from tasks.storage.s3 import S3Prefix

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceTypeInfoTypeDef

SPOT_QUOTA = "L-34B43A08"
"""AWS's name for: vCPUs in spot instances of the standard families at once."""

MOST_TYPES = 8
"""As many as the stack has room for."""

IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-"
"""AWS's public parameter with the newest Amazon Linux 2023, but for the architecture."""

_STANDARD_FAMILIES = re.compile(r"(a|c|d|h|i|im|is|m|r|t|z)\d")


@dataclass(frozen=True)
class Found:
    """What there is for the fleet. `notes` are sentences on what could not be found out."""

    architecture: str
    """``x86_64`` or ``arm64``."""
    image_parameter: str
    """AWS's public parameter with the newest Amazon Linux 2023 of that architecture."""
    vpc: str
    subnets: tuple[str, ...]
    zones: tuple[str, ...]
    vcpus: int
    """Of one instance of the largest type."""
    memory_mib: int
    """Of one instance of the smallest type."""
    notes: tuple[str, ...]


class _Network(NamedTuple):
    vpc: str
    subnets: tuple[str, ...]
    zones: tuple[str, ...]


@dataclass
class _Report:
    """What is missing and what could not be found out, a sentence each."""

    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def collected(self) -> Iterator[None]:
        """A `Problem` in here is one more thing that is missing, and no reason to stop looking."""
        try:
            yield
        except Problem as problem:
            self.missing.append(str(problem))


def check(aws: Aws, settings: Settings, ec2: Ec2Settings) -> Found:
    """Look at everything; raises one `Problem` that names all that is missing, a line each."""
    report = _Report()
    _ = aws.account  # without credentials nothing else can be asked
    source, destination = _addresses(settings)
    types: list[InstanceTypeInfoTypeDef] = []
    network = _Network("", (), ())
    for bucket in dict.fromkeys((source.bucket, destination.bucket)):
        with report.collected():
            _check_bucket(aws, bucket, bucket == destination.bucket, report)
            if bucket == source.bucket:
                source.check_readable()
            if bucket == destination.bucket:
                root_of(settings.destination, ec2).check_writable()
    with report.collected():
        offered = _zones_of_types(aws, ec2)
        types = _known_types(aws, ec2, offered)
        network = _network(aws, offered)
    with report.collected():
        _check_quota(aws, ec2, types, report)
    with report.collected():
        note = permissions.check(aws, ec2, destination)
        report.notes += [note] if note else []
    if report.missing:
        raise Problem(_all_of(report.missing))
    architecture = _architecture(types[0])
    return Found(
        architecture,
        IMAGE + architecture,
        *network,
        max(_vcpus(one) for one in types),
        min(one["MemoryInfo"]["SizeInMiB"] for one in types),
        tuple(report.notes),
    )


def _all_of(missing: list[str]) -> str:
    if len(missing) == 1:
        return missing[0]
    lines = [f"  {number}. {text}" for number, text in enumerate(missing, 1)]
    return "\n".join([f"{len(missing)} things are missing, and nothing was made:", *lines])


def _addresses(settings: Settings) -> tuple[S3Prefix, S3Prefix]:
    source, destination = S3Prefix(settings.source), S3Prefix(settings.destination)
    raw = source.prefix + "raw/"
    if source.bucket == destination.bucket and destination.prefix.startswith(raw):
        raise Problem(
            f"DESTINATION is {settings.destination}, among the raw snapshots: the instances must "
            "not be able to write there. Give another prefix, such as v2."
        )
    return source, destination


def _check_bucket(aws: Aws, bucket: str, is_written: bool, report: _Report) -> None:
    what = f"The bucket {bucket} cannot be looked at"
    client = aws.client("s3")
    with explained(what):
        try:
            region = _region_of(client.head_bucket(Bucket=bucket))
        except ClientError as error:
            region = _region_of(error.response)
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status == 404:
                raise Problem(
                    f"There is no bucket {bucket}: correct SOURCE and DESTINATION, or make it (aws "
                    f"s3 mb s3://{bucket} --region {aws.region})."
                ) from None
            if status == 403:
                raise Problem(
                    f"You ({aws.arn}) may not look at the bucket {bucket}: it belongs to another "
                    "account, or s3:ListBucket is not granted. Name another profile in "
                    "AWS_PROFILE, or another bucket."
                ) from None
            if not region:
                raise
        if region and region != aws.region:
            raise Problem(
                f"The bucket {bucket} is in {region}, but region in [ec2] is {aws.region}: set it "
                f"to {region} (or EC2_REGION={region}), since reading across regions costs about "
                "$20 a terabyte."
            )
        if not _belongs_to_caller(aws, bucket):
            if is_written:
                raise Problem(
                    f"The bucket {bucket} belongs to another account than yours ({aws.account}): "
                    "the instances could not write there. Name that account's profile in "
                    "AWS_PROFILE, or give a DESTINATION of your own."
                )
            report.notes.append(
                f"The bucket {bucket} belongs to another account: whether the instances may read "
                "every snapshot there is decided by its policy, not by the stack."
            )


def _region_of(answer: Any) -> str:
    headers = answer["ResponseMetadata"].get("HTTPHeaders", {})
    return str(headers.get("x-amz-bucket-region", ""))


def _belongs_to_caller(aws: Aws, bucket: str) -> bool:
    try:
        aws.client("s3").head_bucket(Bucket=bucket, ExpectedBucketOwner=aws.account)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 403:
            return False
        raise
    return True


def _zones_of_types(aws: Aws, ec2: Ec2Settings) -> dict[str, set[str]]:
    """In which zones of the region each type is offered."""
    if len(ec2.instance_types) > MOST_TYPES:
        raise Problem(
            f"{len(ec2.instance_types)} types of instances are too many: give {MOST_TYPES} at most "
            "(TYPE=…, or instance_types in [ec2])."
        )
    zones: dict[str, set[str]] = {name: set() for name in ec2.instance_types}
    pages = aws.client("ec2").get_paginator("describe_instance_type_offerings")
    filters: Any = [{"Name": "instance-type", "Values": list(ec2.instance_types)}]
    with explained("The types of instances cannot be looked up"):
        for page in pages.paginate(LocationType="availability-zone", Filters=filters):
            for offering in page["InstanceTypeOfferings"]:
                zones[offering["InstanceType"]].add(offering["Location"])
    missing = [name for name in zones if not zones[name]]
    if missing:
        rest = [name for name in zones if zones[name]]
        raise Problem(
            f"{aws.region} does not offer {', '.join(missing)}: leave "
            f"{'it' if len(missing) == 1 else 'them'} out of instance_types in [ec2], or give "
            f"TYPE={','.join(rest) or 'c6i.large,m6i.large'}."
        )
    return zones


def _known_types(
    aws: Aws, ec2: Ec2Settings, offered: dict[str, set[str]]
) -> list["InstanceTypeInfoTypeDef"]:
    """What AWS says of the types, which must all be of one kind."""
    with explained("The types of instances cannot be looked up"):
        names: Any = list(offered)
        types = aws.client("ec2").describe_instance_types(InstanceTypes=names)["InstanceTypes"]
    kinds: dict[str, list[str]] = {}
    for one in sorted(types, key=lambda one: ec2.instance_types.index(one["InstanceType"])):
        kinds.setdefault(_architecture(one), []).append(one["InstanceType"])
    if len(kinds) > 1:
        named = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds.items())
        raise Problem(
            f"The types of instances are of {len(kinds)} architectures ({named}): one image cannot "
            f"serve both. Give TYPE={','.join(next(iter(kinds.values())))}, say."
        )
    dear = [one["InstanceType"] for one in types if "spot" not in one["SupportedUsageClasses"]]
    if dear:
        raise Problem(f"{', '.join(dear)} cannot be had as spot instances: give other types.")
    return types


def _architecture(info: "InstanceTypeInfoTypeDef") -> str:
    supported = info["ProcessorInfo"]["SupportedArchitectures"]
    return "arm64" if "arm64" in supported else "x86_64"


def _vcpus(info: "InstanceTypeInfoTypeDef") -> int:
    return info["VCpuInfo"]["DefaultVCpus"]


def _network(aws: Aws, offered: dict[str, set[str]]) -> _Network:
    """The default VPC with its subnets, and their zones, that have the most of the types."""
    client = aws.client("ec2")
    with explained("The networks cannot be looked up"):
        vpcs = client.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
        if not vpcs:
            raise Problem(
                f"{aws.region} has no default VPC, the network for the instances: make one (aws "
                f"ec2 create-default-vpc --region {aws.region}); it costs nothing."
            )
        vpc = vpcs[0]["VpcId"]
        subnets = client.describe_subnets(
            Filters=[
                {"Name": "vpc-id", "Values": [vpc]},
                {"Name": "default-for-az", "Values": ["true"]},
            ]
        )["Subnets"]
    types_in = {
        one["SubnetId"]: sum(one["AvailabilityZone"] in zones for zones in offered.values())
        for one in subnets
    }
    most = max(types_in.values(), default=0)
    if not most:
        raise Problem(
            f"The default VPC of {aws.region} has no default subnet in a zone that offers "
            f"{', '.join(offered)}: make one (aws ec2 create-default-subnet --availability-zone …)."
        )
    chosen = sorted(
        (one["AvailabilityZone"], one["SubnetId"])
        for one in subnets
        if types_in[one["SubnetId"]] == most
    )
    return _Network(vpc, tuple(subnet for _, subnet in chosen), tuple(zone for zone, _ in chosen))


def _check_quota(
    aws: Aws, ec2: Ec2Settings, types: list["InstanceTypeInfoTypeDef"], report: _Report
) -> None:
    if not types or not all(_STANDARD_FAMILIES.match(one["InstanceType"]) for one in types):
        return  # others have quotas of their own; what starting them says is clear enough
    needed = ec2.instances * max(_vcpus(one) for one in types)
    with explained("Your quota for spot instances cannot be looked up"):
        try:
            quota = aws.client("service-quotas").get_service_quota(
                ServiceCode="ec2", QuotaCode=SPOT_QUOTA
            )["Quota"]["Value"]
        except ClientError as error:
            report.notes.append(
                f"Your quota for spot instances is not known ({code_of(error)}): {needed} vCPUs "
                "are needed."
            )
            return
    if quota < needed:
        instances = figures.count(ec2.instances, "instance")
        raise Problem(
            f"Your account may have {quota:g} vCPUs in spot instances at once in {aws.region}, but "
            f"{instances} need {needed}: ask for more (aws service-quotas "
            "request-service-quota-increase --service-code ec2 --quota-code "
            f"{SPOT_QUOTA} --desired-value {max(needed, 32)} --region {aws.region}), which takes "
            "AWS minutes to days, or for fewer instances (INSTANCES=1)."
        )
