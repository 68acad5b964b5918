"""What a run would take on one spot instance of several types, side by side: a part of `make plan`.

Time and money are `ops.ec2.costs`'s, by the rate that was measured on this machine where there is
one. Asks nobody and changes nothing.
"""

from collections.abc import Iterator

from ops.ec2.costs import NETWORK, Estimate, Prices, dollars, estimate
from tasks import advice, figures
from tasks.bustimes.plan import Plan

COMPARED = ("t3.medium", "c7i.large", "c7g.large", "c7i.2xlarge")
"""A burstable one that looks cheap, Intel and ARM with two vCPUs, and one of eight."""

_INDENT = 13 * " "


def lines(plan: Plan, prices: Prices | None = None, disk_gb: int = 20) -> Iterator[str]:
    """The table, with what it goes by; nothing where there is nothing to do."""
    if not plan.to_do:
        return
    prices = prices or Prices()
    yield f"on EC2       with one instance, from setup to the verified archive, at {prices.origin}:"
    what = plan.raw_bytes, plan.snapshots, len(plan.to_do)
    estimates = [estimate(*what, 1, name, prices, plan.rate, disk_gb) for name in COMPARED]
    rows = [("", "time", "cost", "what binds")]
    for one in estimates:
        time, cost = figures.duration(one.seconds), dollars(one.cost.total)
        rows.append((one.type.name, time, cost, _what_binds(one)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, time, cost, binds in rows:
        yield f"{_INDENT}{name:<{widths[0]}}  {time:>{widths[1]}}  {cost:>{widths[2]}}  {binds}"
    speeds = [one.type.speed for one in estimates]
    core = "a core of this machine" if plan.rate_is_measured else "a core"
    yield (
        f"{_INDENT}(modelled: {core} does {figures.size(plan.rate)}/s, a vCPU of these "
        f"{min(speeds):.0%} to {max(speeds):.0%} of it; "
        f"{advice.make('smoke', ON='ec2')} measures)"
    )


def _what_binds(taken: Estimate) -> str:
    """What binds, and for a burstable type what its bursts are worth in a run of hours."""
    kind = taken.type
    if max(taken.bounds.values()) < taken.seconds / 2:
        return "getting ready"
    words = taken.binds
    if taken.binds == NETWORK:
        words += f", {kind.network:g} Gbit/s but for the first minutes"
    if kind.paid < 1:
        extra = f"billed, {dollars(taken.credits)}" if taken.credits else "not needed"
        words += f"; CPU credits are {extra}"
    return words
