"""Money and time on EC2: what is counted, what the model says; and the README says the same."""

import datetime as dt
import re
from dataclasses import replace

import boto3
import pytest
from botocore.config import Config
from moto import mock_aws

from ops.ec2 import costs
from ops.ec2.board import Member
from ops.ec2.costs import Cost, Estimate, Prices, cost_so_far, dollars, estimate
from ops.ec2.fleet import Instance
from tasks.problem import Problem
from tasks.settings import load_ec2
from tests.conftest import PROJECT, free_port

NOW = dt.datetime(2026, 2, 11, 15, 0, tzinfo=dt.UTC)

ARCHIVE = (909e9, 4_840_000, 481)
"""Raw bytes, snapshots and weeks of nine years of TriMet."""

LINE_OF_README = {"this archive": 1, "a hundred such feeds": 100}
INSTANCES = (1, 4, 16)


def instance(name: str, minutes: float, **given: object) -> Instance:
    launched = NOW - dt.timedelta(minutes=minutes)
    one = Instance(name, "c6i.large", "us-east-1a", "10.0.0.4", launched, "running", True, "")
    return replace(one, **given)  # type: ignore[arg-type]


def member(name: str, launched: float, seen: float, **given: object) -> Member:
    """A record, launched and last seen so many minutes ago."""

    def ago(minutes: float) -> str:
        return (NOW - dt.timedelta(minutes=minutes)).isoformat(timespec="seconds")

    one = Member(name, "c6i.large", "us-east-1a", launched=ago(launched), seen=ago(seen))
    return replace(one, **given)  # type: ignore[arg-type]


def archive(times: int, instances: int, kind: str = "c6i.large") -> Estimate:
    raw_bytes, snapshots, weeks = ARCHIVE
    return estimate(raw_bytes * times, snapshots * times, weeks * times, instances, kind)


def test_an_instance_that_is_gone_costs_until_its_last_sign_of_life() -> None:
    prices = Prices(spot={("c6i.large", "us-east-1a"): 0.03})
    cost = cost_so_far([member("i-1", launched=120, seen=60)], [], prices, 20, NOW)
    assert cost.instances == pytest.approx(0.03)
    assert cost.addresses == pytest.approx(0.005)
    assert cost.disks == pytest.approx(20 * 0.08 / 730)


def test_an_instance_that_runs_costs_until_now_even_if_it_is_silent_or_never_said_a_word() -> None:
    prices = Prices(spot={("c6i.large", "us-east-1a"): 0.03})
    silent = [member("i-1", launched=120, seen=60)]
    running = [instance("i-1", 120), instance("i-2", 60)]
    cost = cost_so_far(silent, running, prices, 20, NOW)
    assert cost.instances == pytest.approx(0.03 * 3)


def test_one_that_ec2_is_taking_away_costs_no_more_than_it_has() -> None:
    gone = instance("i-1", 120, state="shutting-down")
    record = member("i-1", launched=120, seen=60)
    prices = Prices(spot={("c6i.large", "us-east-1a"): 0.03})
    assert cost_so_far([record], [gone], prices, 20, NOW).instances == pytest.approx(0.03)


def test_requests_cost_by_what_was_read_and_written() -> None:
    converted = ["2021-W45", "2021-W46"]
    worked = member("i-1", 60, 0, snapshots=20_160, weeks_done=converted)
    idle = member("i-1", 60, 0)
    more = cost_so_far([worked], [], Prices(), 20, NOW).requests
    less = cost_so_far([idle], [], Prices(), 20, NOW).requests
    assert more - less == pytest.approx(20_160 * 0.0004 / 1000 + 2 * 75 * 0.005 / 1000)


def test_less_than_a_minute_is_billed_as_a_minute() -> None:
    prices = Prices(spot={("c6i.large", "us-east-1a"): 0.06})
    cost = cost_so_far([], [instance("i-1", 0.1)], prices, 20, NOW)
    assert cost.instances == pytest.approx(0.001)


def test_a_type_without_a_price_is_named_and_not_passed_over() -> None:
    cost = cost_so_far([], [instance("i-1", 60, type="x9.huge")], Prices(), 20, NOW)
    assert cost.instances == 0
    assert "without x9.huge" in cost.parts()


def test_a_zone_without_a_price_costs_what_the_others_do() -> None:
    prices = Prices(spot={("c6i.large", "us-east-1a"): 0.02, ("c6i.large", "us-east-1b"): 0.04})
    assert prices.hourly("c6i.large", "us-east-1b") == 0.04
    assert prices.hourly("c6i.large", "us-east-1f") == pytest.approx(0.03)


def test_where_aws_says_nothing_a_share_of_the_price_on_demand_stands_in() -> None:
    assert Prices().hourly("c6i.large") == pytest.approx(0.034)
    assert Prices().origin == "typical spot prices"


def test_a_burstable_type_costs_its_surcharge_as_well() -> None:
    """Which makes it dearer than the types that luigi.cfg names, against all appearances."""
    named = [Prices().hourly(name) or 0.0 for name in load_ec2().instance_types]
    assert (Prices().hourly("t3.medium") or 0.0) > max(named)


def test_every_type_of_luigi_cfg_is_known() -> None:
    assert set(load_ec2().instance_types) <= set(costs.TYPES)


def test_costs_add_up() -> None:
    cost = Cost(1, 2, 3, 4, ("b",)) + Cost(requests=1, unknown=("a", "b")) * 2
    assert cost == Cost(1, 2, 3, 6, ("a", "b"))
    assert cost.total == 12
    assert cost.parts() == (
        "$6.00 requests, $3.00 addresses, $2.00 disks, $1.00 instances, without a, b"
    )


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "$0.00"), (0.004, "<$0.01"), (0.04, "$0.04"), (12.3, "$12.30"), (1234.5, "$1,234")],
)
def test_money_is_written_as_people_do(amount: float, text: str) -> None:
    assert dollars(amount) == text


@mock_aws
def test_aws_is_asked_for_prices_and_for_types_that_are_not_known() -> None:
    client = boto3.client("ec2", region_name="us-east-1")
    prices = costs.ask(client, ["c6i.large", "r5.xlarge", "m6g.large"], NOW)
    assert prices.origin == "today's spot prices"
    zones = {zone for name, zone in prices.spot if name == "r5.xlarge"}
    assert "us-east-1a" in zones
    found = prices.types["r5.xlarge"]
    assert (found.vcpus, found.memory, found.architecture) == (4, 32, "x86_64")
    arm = prices.types["m6g.large"]
    assert arm.architecture == "arm64"
    assert arm.speed > found.speed  # whole cores
    assert estimate(*ARCHIVE, 1, "r5.xlarge", prices).seconds > 0


def test_prices_that_aws_does_not_tell_are_no_reason_to_fail() -> None:
    client = boto3.client(
        "ec2",
        region_name="us-east-1",
        endpoint_url=f"http://127.0.0.1:{free_port()}",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(retries={"total_max_attempts": 1}),
    )
    prices = costs.ask(client, ["c6i.large", "r5.xlarge"], NOW)
    assert prices == Prices()


def test_a_type_that_nobody_knows_is_no_traceback() -> None:
    with pytest.raises(Problem, match=r"x9\.huge.*choose with TYPE="):
        estimate(*ARCHIVE, 1, "x9.huge")


def test_more_instances_are_never_slower_and_never_beat_what_they_share() -> None:
    runs = [archive(1, count) for count in (1, 2, 4, 8, 16, 32, 64)]
    assert [run.seconds for run in runs] == sorted((run.seconds for run in runs), reverse=True)
    assert all(run.seconds > ARCHIVE[1] / 5500 for run in runs)
    assert runs[0].binds == costs.NETWORK
    assert runs[-1].binds == costs.GETS


def test_one_instance_with_a_slow_network_is_bound_by_it() -> None:
    assert archive(1, 1, "t3.medium").binds == costs.NETWORK


def test_a_week_is_not_divided() -> None:
    ten, hundred = (estimate(19e9, 10_080, 10, count, "c6i.large") for count in (10, 100))
    assert hundred.binds == costs.WEEKS
    assert hundred.seconds == pytest.approx(ten.seconds)
    assert hundred.cost.total > ten.cost.total


def test_very_many_weeks_are_bound_by_luigid() -> None:
    assert estimate(1e9, 100_000, 100_000, 16, "c6i.large").binds == costs.LUIGID


def test_a_run_without_weeks_costs_next_to_nothing() -> None:
    assert estimate(0, 0, 0, 4, "c6i.large").cost.total < 0.05


def test_the_readme_says_what_the_model_says() -> None:
    """Each row of the table under "How far it goes": a name, then a cell for 1, 4 and 16."""
    section = (PROJECT / "README.md").read_text().partition("\n## How far it goes\n")[2]
    rows = re.findall(r"^\| \*\*(.+?)\*\*.*?\|(.+)\|$", section.partition("\n## ")[0], re.M)
    said = {name: [cell.strip() for cell in cells.split("|")] for name, cells in rows}
    expected = {
        name: [_cell(archive(times, count)) for count in INSTANCES]
        for name, times in LINE_OF_README.items()
    }
    assert said == expected


def _cell(taken: Estimate) -> str:
    hours = taken.seconds / 3600
    if hours < 1:
        time = f"{hours * 60:.0f} minutes"
    elif hours < 48:
        time = f"{hours:.1f} hours"
    else:
        time = f"{hours / 24:.1f} days"
    return f"{time}, {dollars(taken.cost.total)}: {taken.binds}"
