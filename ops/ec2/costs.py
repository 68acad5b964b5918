"""What a fleet costs: so far, and how much time and money a run of any size would take.

Prices are us-east-1's in US dollars, as AWS listed them on 9 February 2026. What spot instances
cost at the moment, AWS is asked (`ask`); where it does not tell, two fifths of the on-demand price
stand in, for spot prices move between a fifth and a half of it. A lifetime runs from launch to the
last sign of life, so the figures come close to the bill, but the bill they are not. Left out, being
cents or nothing: CloudWatch's logs ($0.50 a GB), storage of what was converted, and transfer, which
is free between S3 and EC2 of one region, whatever the zone. Changes nothing in AWS.
"""

import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from tasks.bustimes.plan import PER_PUT_OR_LIST, RATE, cost_of_requests
from tasks.problem import Problem

if TYPE_CHECKING:
    from mypy_boto3_ec2.client import EC2Client

    from ops.ec2.board import Member
    from ops.ec2.fleet import Instance

_GB_MONTH_OF_DISK = 0.08
_HOUR_OF_ADDRESS = 0.005  # public, IPv4
_SPOT_SHARE = 0.4  # of the on-demand price
_HOURS_A_MONTH = 730
_LEAST_DOLLARS = 0.005  # half a cent
_LEAST_SECONDS = 60  # EC2 bills by the second, from a minute on

_VCPU_HOUR_OF_CREDITS = 0.05
"""For what a burstable instance does beyond what its price pays for."""

_REQUESTS_AN_HOUR = 240
"""PUTs of an instance's signs of life, one every 15 seconds."""

_S3_GETS_A_SECOND = 5500
"""What S3 promises for one prefix. All raw keys share one until S3 has divided it by itself, which
it does under load that lasts, within 30 to 60 minutes."""

_PREPARATION_SECONDS = 180
"""From the order to the first week: boot, packages, code."""
_VERIFY_SECONDS_A_WEEK = 0.2

_LUIGID_SECONDS_A_WEEK = 0.1
"""What luigid spends on a week: some 70 messages about how far it is, of 1.4 ms each."""
_LUIGID_SECONDS_A_WEEK_AND_KNOWN_WEEK = 6.4e-6
"""It looks at every task it knows whenever it gives one away: 1.2 ms at 481, 309 ms at 48,100."""

# What one vCPU does, with all of an instance busy, of what the core did on which RATE was measured
# (EPYC, Zen 4). Modelled, not measured: a vCPU of the Intel and AMD types here is one of the two
# hyperthreads of a core, which together do about a quarter more than one alone.
_SKYLAKE = _ZEN2 = 0.45
_ICE_LAKE = 0.5
_ZEN3 = _SAPPHIRE_RAPIDS = 0.55
_GRAVITON3 = 0.7  # a slower core, but a whole one


@dataclass(frozen=True)
class InstanceType:
    """A type of instance: memory in GiB, network in Gbit/s, prices in dollars an hour.

    `network` is what AWS promises for good; the "up to 12.5" of its lists last for the first 5 to
    60 minutes and are not counted on. `paid` is the share of its CPU that the price pays for; all
    beyond is billed as credits, hour by hour and from the first on (T3's default mode).
    """

    name: str
    vcpus: int
    memory: float
    network: float
    on_demand: float | None
    speed: float
    architecture: str = "x86_64"
    paid: float = 1.0

    def credits_an_hour(self, load: float) -> float:
        """Dollars for CPU credits, with so much of its CPU busy (1 for all of it)."""
        return self.vcpus * max(0.0, load - self.paid) * _VCPU_HOUR_OF_CREDITS

    def bytes_a_second(self, rate: float) -> float:
        """Raw bytes that its vCPUs convert in a second, at `rate` on a core as measured."""
        return self.vcpus * self.speed * rate


TYPES = {
    one.name: one
    for one in (
        InstanceType("c6i.large", 2, 4, 0.781, 0.085, _ICE_LAKE),
        InstanceType("c6a.large", 2, 4, 0.781, 0.0765, _ZEN3),
        InstanceType("c5.large", 2, 4, 0.75, 0.085, _SKYLAKE),
        InstanceType("c5a.large", 2, 4, 0.75, 0.077, _ZEN2),
        InstanceType("m6i.large", 2, 8, 0.781, 0.096, _ICE_LAKE),
        InstanceType("m5.large", 2, 8, 0.75, 0.096, _SKYLAKE),
        InstanceType("c7i.large", 2, 4, 0.781, 0.08925, _SAPPHIRE_RAPIDS),
        InstanceType("c7i.2xlarge", 8, 16, 3.125, 0.357, _SAPPHIRE_RAPIDS),
        InstanceType("c7g.large", 2, 4, 0.937, 0.0725, _GRAVITON3, "arm64"),
        InstanceType("t3.medium", 2, 4, 0.256, 0.0416, _SKYLAKE, paid=0.2),
    )
}
"""Those of luigi.cfg, and some that one may think of instead."""


@dataclass(frozen=True)
class Prices:
    """What is known of types, and what AWS said of spot prices, by type and zone."""

    types: Mapping[str, InstanceType] = field(default_factory=lambda: TYPES)
    spot: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def hourly(self, name: str, zone: str = "", load: float = 1.0) -> float | None:
        """Dollars for an hour of a spot instance alone, so busy; None where nobody knows."""
        known = self.types.get(name)
        zones = [price for (type_, _), price in self.spot.items() if type_ == name]
        price = self.spot.get((name, zone)) or (sum(zones) / len(zones) if zones else None)
        if price is None and known is not None and known.on_demand is not None:
            price = known.on_demand * _SPOT_SHARE
        if price is None:
            return None
        return price + (known.credits_an_hour(load) if known is not None else 0.0)

    @property
    def origin(self) -> str:
        """Where the prices of instances come from, in words."""
        return "today's spot prices" if self.spot else "typical spot prices"


@dataclass(frozen=True)
class Cost:
    """US dollars by what they are spent on; `unknown` are types that no price is known of."""

    instances: float = 0.0
    disks: float = 0.0
    addresses: float = 0.0
    requests: float = 0.0
    unknown: tuple[str, ...] = ()

    @property
    def total(self) -> float:
        return self.instances + self.disks + self.addresses + self.requests

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.instances + other.instances,
            self.disks + other.disks,
            self.addresses + other.addresses,
            self.requests + other.requests,
            tuple(sorted({*self.unknown, *other.unknown})),
        )

    def __mul__(self, times: int) -> "Cost":
        return Cost(
            self.instances * times,
            self.disks * times,
            self.addresses * times,
            self.requests * times,
            self.unknown,
        )

    def parts(self) -> str:
        """``$2.10 requests, $0.52 instances, $0.08 addresses, $0.03 disks``, the dearest first."""
        named = {
            "instances": self.instances,
            "disks": self.disks,
            "addresses": self.addresses,
            "requests": self.requests,
        }
        parts = sorted(named.items(), key=lambda part: -part[1])
        text = ", ".join(
            f"{dollars(amount)} {name}" for name, amount in parts if amount >= _LEAST_DOLLARS
        )
        text = text or f"most of it {parts[0][0]}"
        return text + (f", without {', '.join(self.unknown)}" if self.unknown else "")


def dollars(amount: float) -> str:
    """``$0.04``, ``$12.30``, ``$1,234``: cents as long as they matter."""
    if 0 < amount < _LEAST_DOLLARS:
        return "<$0.01"
    return f"${amount:,.0f}" if amount >= 100 else f"${amount:,.2f}"


def ask(client: "EC2Client", names: Sequence[str], now: dt.datetime) -> Prices:
    """What spot instances of the types cost now, and what those are that `TYPES` does not hold.

    What AWS does not tell (for want of a permission, say) stays as in `TYPES`, or unknown.
    """
    types, spot = dict(TYPES), {}
    wanted: Any = [name for name in names if name not in types]
    every: Any = list(names)
    if wanted:
        with suppress(ClientError, BotoCoreError):
            for found in client.describe_instance_types(InstanceTypes=wanted)["InstanceTypes"]:
                types[str(found["InstanceType"])] = _described(found)
    with suppress(ClientError, BotoCoreError):
        pages = client.get_paginator("describe_spot_price_history").paginate(
            InstanceTypes=every, ProductDescriptions=["Linux/UNIX"], StartTime=now, EndTime=now
        )
        for page in pages:
            for price in page["SpotPriceHistory"]:
                where = str(price["InstanceType"]), price["AvailabilityZone"]
                spot[where] = float(price["SpotPrice"])
    return Prices(types, spot)


def _described(found: Any) -> InstanceType:
    """A type by AWS's own description, which does not say what it costs on demand."""
    cards = found.get("NetworkInfo", {}).get("NetworkCards", [{}])
    whole_cores = found["VCpuInfo"].get("DefaultThreadsPerCore") == 1
    return InstanceType(
        found["InstanceType"],
        found["VCpuInfo"]["DefaultVCpus"],
        found["MemoryInfo"]["SizeInMiB"] / 1024,
        cards[0].get("BaselineBandwidthInGbps", 0.75),
        None,
        _GRAVITON3 if whole_cores else _SKYLAKE,
        found.get("ProcessorInfo", {}).get("SupportedArchitectures", ["x86_64"])[-1],
    )


def cost_so_far(
    members: Iterable["Member"],
    instances: Iterable["Instance"],
    prices: Prices,
    disk_gb: int,
    now: dt.datetime,
) -> Cost:
    """What has been spent: on those that are gone, and on those that EC2 still shows, until `now`.

    An instance that EC2 shows counts even if it has never reported; one that EC2 does not show any
    more counts until its last sign of life.
    """
    alive = {one.id: one for one in instances if one.state in ("pending", "running")}
    cost = Cost()
    for one in members:
        cost += Cost(requests=cost_of_requests(one.snapshots, len(one.weeks_done)))
        if one.instance not in alive and one.launched:
            ended, launched = map(dt.datetime.fromisoformat, (one.seen, one.launched))
            seconds = (ended - launched).total_seconds()
            cost += _of_lifetime(prices, one.type, one.zone, seconds, disk_gb)
    for other in alive.values():
        seconds = (now - other.launched).total_seconds()
        cost += _of_lifetime(prices, other.type, other.zone, seconds, disk_gb)
    return cost


def hourly(instances: Iterable["Instance"], prices: Prices, disk_gb: int) -> float:
    """What instances cost an hour, with their disks and addresses, in dollars."""
    return sum(an_hour_of(one.type, prices, disk_gb, one.zone).total for one in instances)


def an_hour_of(name: str, prices: Prices, disk_gb: int, zone: str = "") -> Cost:
    """What one instance of a type costs an hour, with its disk and address."""
    return _of_lifetime(prices, name, zone, 3600, disk_gb)


def _of_lifetime(
    prices: Prices, name: str, zone: str, seconds: float, disk_gb: int, load: float = 1.0
) -> Cost:
    hours = max(seconds, _LEAST_SECONDS) / 3600
    price = prices.hourly(name, zone, load)
    return Cost(
        instances=(price or 0.0) * hours,
        disks=disk_gb * _GB_MONTH_OF_DISK / _HOURS_A_MONTH * hours,
        addresses=_HOUR_OF_ADDRESS * hours,
        requests=_REQUESTS_AN_HOUR * hours * PER_PUT_OR_LIST,
        unknown=() if price is not None else (name,),
    )


@dataclass(frozen=True)
class Estimate:
    """What a run would take, from setup to the verified archive; see `estimate`."""

    instances: int
    type: InstanceType
    seconds: float
    cost: Cost
    binds: str
    bounds: Mapping[str, float]
    """Seconds that the run would take if it were for each of these alone."""

    @property
    def load(self) -> float:
        """The share of its CPU that an instance has busy: 1 where CPU binds."""
        longest = max(self.bounds.values())
        return self.bounds[CPU] / longest if longest else 0.0

    @property
    def credits(self) -> float:
        """Dollars of `cost` for CPU credits."""
        hours = self.seconds / 3600 * self.instances
        return self.type.credits_an_hour(self.load) * hours


CPU, NETWORK, GETS, LUIGID = "CPU", "network", "S3 GETs", "luigid"
WEEKS = "undivided weeks"


def estimate(
    raw_bytes: float,
    snapshots: int,
    weeks: int,
    instances: int,
    name: str,
    prices: Prices | None = None,
    rate: float = RATE,
    disk_gb: int = 20,
) -> Estimate:
    """Time and money for so many instances of a type, and what binds.

    That is the largest of `bounds`: all vCPUs at work (`rate` is raw bytes a second on a core as
    measured), the instances' networks at their baseline, S3's GETs a second on one prefix, luigid.
    A week is done by one instance, so weeks that do not divide evenly bind where that costs more
    than a tenth. Raises `Problem` for a type that nothing is known of.
    """
    prices = prices or Prices()
    kind = prices.types.get(name)
    if kind is None:
        raise Problem(
            f"Nothing is known of the instance type {name}, so neither is what it would take: "
            f"choose with TYPE= from {', '.join(TYPES)}."
        )
    bounds = {
        CPU: raw_bytes / kind.bytes_a_second(rate) / instances,
        NETWORK: raw_bytes / (kind.network * 1e9 / 8) / instances,
        GETS: snapshots / _S3_GETS_A_SECOND,
        LUIGID: weeks * (_LUIGID_SECONDS_A_WEEK + weeks * _LUIGID_SECONDS_A_WEEK_AND_KNOWN_WEEK),
    }
    uneven = math.ceil(weeks / instances) / (weeks / instances) if weeks else 1.0
    bounds[WEEKS] = max(bounds[CPU], bounds[NETWORK]) * uneven
    shared = {name: seconds for name, seconds in bounds.items() if name != WEEKS}
    binds = max(shared, key=lambda bound: shared[bound])
    if bounds[WEEKS] > 1.1 * bounds[binds]:
        binds = WEEKS
    seconds = max(bounds.values()) + _PREPARATION_SECONDS + weeks * _VERIFY_SECONDS_A_WEEK
    requests = Cost(requests=cost_of_requests(snapshots, weeks))
    made = Estimate(instances, kind, seconds, requests, binds, bounds)
    lifetimes = _of_lifetime(prices, name, "", seconds, disk_gb, made.load) * instances
    return replace(made, cost=requests + lifetimes)
