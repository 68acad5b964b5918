"""Looks at a fleet from all sides at once, for `status` and whoever needs to know what it costs.

Asks CloudFormation, EC2, SSM, the board and the archive itself; puts together, and changes nothing.
"""

import argparse
import datetime as dt

from ops.ec2 import costs, record, traces
from ops.ec2.board import last_alive
from ops.ec2.site import Site
from ops.ec2.view import View


def view(site: Site, options: argparse.Namespace) -> View:
    """All that `status` shows, as of now."""
    from tasks.bustimes.archive import Archive
    from tasks.bustimes.listing import weeks_with_snapshots

    state = site.stack.describe()
    instances = site.fleet.instances()
    sightings, order = site.board.members(), site.board.run()
    given = [getattr(options, name, "") for name in ("weeks", "first", "last")]
    if not any(given) and order is not None:
        given = [order.weeks, order.first, order.last]
    archive = Archive.open()
    weeks = archive.chosen_weeks(*given)
    done = [week for week in weeks if week in archive.weeks_written()]
    missing = [week for week in weeks if week not in archive.weeks_written()]
    left = list(weeks_with_snapshots(archive.source, missing)) if order is not None else []
    types = sorted({*site.ec2.instance_types, *(one.type for one in instances)})
    prices = costs.ask(site.aws.client("ec2"), types, utc_now())
    members = [one.member for one in sightings]
    desired = site.fleet.desired() or 0
    few = len([one for one in instances if one.is_ready]) < desired
    return View(
        stack=site.ec2.stack,
        region=site.ec2.region,
        destination=site.destination.url,
        now=utc_now(),
        stack_state=state.status if state is not None else "",
        looked_for=traces.LOOKED_FOR,
        left_over=traces.find(site) if state is None else [],
        wanted=desired,
        waiting=site.fleet.why_fewer() if few else "",
        instances=instances,
        sightings=sightings,
        run=order,
        done=done,
        left=left,
        cost=costs.cost_so_far(members, instances, prices, site.ec2.disk_gb, utc_now()),
        prices=prices,
        disk_gb=site.ec2.disk_gb,
        takeover_seconds=site.ec2.takeover_seconds,
        idle_minutes=site.ec2.idle_minutes,
        last=record.last(site.destination),
    )


def price_an_hour(site: Site) -> str:
    """What the fleet costs an hour, in words."""
    prices = costs.ask(site.aws.client("ec2"), site.ec2.instance_types, utc_now())
    each = [costs.an_hour_of(name, prices, site.ec2.disk_gb) for name in site.ec2.instance_types]
    known = [cost.total for cost in each if not cost.unknown]
    if not known:
        return f"at a price that nobody knows ({', '.join(site.ec2.instance_types)})"
    price = sum(known) / len(known) * site.ec2.instances
    return f"about {costs.dollars(price)} an hour ({prices.origin})"


def working(site: Site) -> list[str]:
    """The members that have given a sign of life and take part in the run."""
    alive = last_alive(site.board.members(), site.ec2.takeover_seconds)
    return [one.instance for one in alive if one.state in ("working", "phasing out")]


def utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
