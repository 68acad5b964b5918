"""Prices of spot instances here: about what they are in us-east-1, and the same every day."""

from datetime import timedelta
from typing import Any

from ops.local_aws.agents import now
from ops.local_aws.backends import Backends
from ops.local_aws.wire import Call

_DOLLARS_AN_HOUR = {
    "c5.large": 0.0341,
    "c5a.large": 0.0312,
    "c6a.large": 0.0298,
    "c6i.large": 0.0335,
    "m5.large": 0.0373,
    "m6i.large": 0.0382,
}
_DOLLARS_A_VCPU = 0.0175
"""Of types that are not in the list."""


def history(call: Call, backends: Backends) -> dict[str, Any]:
    """DescribeSpotPriceHistory: one price for each type and zone, as of an hour ago."""
    asked = call.parameters
    given = {one["Name"]: one["Values"] for one in asked.get("Filters") or []}
    types = asked.get("InstanceTypes") or given.get("instance-type") or list(_DOLLARS_AN_HOUR)
    zones = given.get("availability-zone") or [asked.get("AvailabilityZone")]
    with backends.lock:
        offered = backends.ec2.describe_instance_type_offerings(
            "availability-zone", {"instance-type": types}
        )
        names = sorted({one["InstanceType"] for one in offered})
        known = backends.ec2.describe_instance_types(names) if names else []
    cores = {one["InstanceType"]: one["VCpuInfo"]["DefaultVCpus"] for one in known}
    at = now().replace(microsecond=0) - timedelta(hours=1)
    found = [
        {
            "AvailabilityZone": one["Location"],
            "InstanceType": one["InstanceType"],
            "ProductDescription": "Linux/UNIX",
            "SpotPrice": f"{_price(one['InstanceType'], cores):.6f}",
            "Timestamp": at,
        }
        for one in offered
        if zones == [None] or one["Location"] in zones
    ]
    return {"SpotPriceHistory": found}


def _price(name: str, cores: dict[str, int]) -> float:
    return _DOLLARS_AN_HOUR.get(name, _DOLLARS_A_VCPU * cores[name])
