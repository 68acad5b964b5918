"""What `make plan` says: work, time by a measured rate, money; and instances side by side."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from ops.ec2 import comparison
from ops.ec2.costs import Prices
from tasks.bustimes import plan as planning
from tasks.bustimes.archive import Archive
from tasks.bustimes.plan import Plan, PlannedWeek, cost_of_requests, keep_rate, kept_rate
from tasks.weeks import Week, span

WEEKS = list(span(Week(2017, 1), Week(2026, 12)))[:481]


def planned(rate: float, is_measured: bool = True) -> Plan:
    """A plan of all nine years."""
    each = PlannedWeek(WEEKS[0], 4_840_000 // 481, 909 * 10**9 // 481)
    to_do = [PlannedWeek(week, each.snapshots, each.raw_bytes) for week in WEEKS]
    return Plan("in", "out", WEEKS, [], 0, [], to_do, rate, is_measured, cores=2)


def compared(plan: Plan) -> dict[str, str]:
    """The line of each type."""
    lines = list(comparison.lines(plan, Prices()))
    return {line.split()[0]: line for line in lines if line.split()[0] in comparison.COMPARED}


def test_a_plan_of_a_folder_counts_what_is_there(
    raw_week: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUSTIMES_SOURCE", str(raw_week))
    monkeypatch.setenv("BUSTIMES_DESTINATION", str(tmp_path / "out"))
    listed: list[None] = []
    weeks = [Week(2021, 44), Week(2021, 45)]
    made = planning.plan(Archive.open(), weeks, 2, None, lambda: listed.append(None))
    assert (made.snapshots, len(made.to_do), made.gaps) == (168, 1, [Week(2021, 44)])
    assert made.raw_bytes == sum(path.stat().st_size for path in raw_week.rglob("*.json"))
    assert listed == [None]
    text = "\n".join(made.lines())
    assert "200 MB/s each, for nothing was measured yet" in text
    assert "weeks        2021-W44 to 2021-W45: 2, of which 1 has raw snapshots or a file" in text
    assert "output       about " in text
    assert "$" not in text  # nobody asks money for a folder
    assert not made.is_all_s3
    assert not (tmp_path / "out").exists()


def test_time_follows_from_the_rate_that_was_measured_here(tmp_path: Path) -> None:
    assert kept_rate(tmp_path) is None
    keep_rate(tmp_path / "state", 120e6)
    rate = kept_rate(tmp_path / "state")
    assert rate == 120e6
    line = next(line for line in planned(rate).lines() if line.startswith("time"))
    assert (
        line
        == "time         about 1 h 3 min on this machine: 2 cores, 120 MB/s each, as measured here"
    )


@pytest.mark.parametrize("damaged", ["", "{}", "[1]", '{"bytes_a_second_and_core": "fast"}'])
def test_a_damaged_rate_counts_as_none(tmp_path: Path, damaged: str) -> None:
    (tmp_path / planning.RATE_FILE).write_text(damaged)
    assert kept_rate(tmp_path) is None


def test_requests_cost_what_s3_asks_for_them() -> None:
    """$0.0004 for a thousand GETs; $0.005 for a thousand PUTs and LISTs, of which a week has 75."""
    assert cost_of_requests(1_000_000, 0) == pytest.approx(0.4)
    assert cost_of_requests(0, 1000) == pytest.approx(75 * 0.005)


def test_types_are_compared_by_time_money_and_what_binds() -> None:
    lines = compared(planned(60e6))
    assert list(lines) == list(comparison.COMPARED)
    for line in lines.values():
        assert re.search(r" \d+ h \d+ min  +\$\d\.\d\d  \S", line)
    assert "CPU" in lines["c7i.large"]
    assert "network, 0.256 Gbit/s but for the first minutes" in lines["t3.medium"]


@pytest.mark.parametrize(
    ("source", "destination", "costs"),
    [
        (
            "s3://raw",
            "s3://raw/v2",
            ["$2.12 of requests", "$20.91 a month raw, about $1.39 "],
        ),
        ("s3://raw", "out", ["$2.12 of requests", "$20.91 a month raw, in S3"]),
        ("in", "s3://v2", ["$0.18 of requests", "$1.39 a month converted, in S3"]),
        ("in", "out", []),
    ],
)
def test_only_what_is_in_s3_has_s3s_prices(source: str, destination: str, costs: list[str]) -> None:
    made = replace(planned(60e6), source=source, destination=destination)
    lines = [line for line in made.lines() if line.startswith(("cost", "storage"))]
    assert len(lines) == len(costs)
    assert all(cost in line for cost, line in zip(costs, lines, strict=True))
    assert made.is_all_s3 == all(url.startswith("s3://") for url in (source, destination))


def test_a_faster_core_makes_no_instance_slower_or_dearer() -> None:
    for name in comparison.COMPARED:
        slow, fast = (
            float(re.findall(r"\$(\d+\.\d\d)", compared(planned(rate))[name])[0])
            for rate in (60e6, 200e6)
        )
        assert fast <= slow


def test_cpu_credits_are_billed_for_what_is_beyond_the_share_that_is_paid_for() -> None:
    """At 60 MB/s a core the network lets t3.medium's CPU be busy for more than its fifth."""
    assert re.search(r"CPU credits are billed, \$0\.\d\d$", compared(planned(60e6))["t3.medium"])
    assert compared(planned(200e6))["t3.medium"].endswith("CPU credits are not needed")
    assert not any(
        "credits" in line for name, line in compared(planned(60e6)).items() if "t3" not in name
    )


def test_the_comparison_says_what_it_is_modelled_from() -> None:
    *_, measured = comparison.lines(planned(200e6))
    assert "a core of this machine does 200 MB/s" in measured
    *_, default = comparison.lines(planned(200e6, is_measured=False))
    assert "(modelled: a core does 200 MB/s" in default


def test_of_a_short_run_the_longest_part_is_to_get_ready() -> None:
    one = replace(planned(60e6), to_do=[PlannedWeek(WEEKS[0], 100, 1_000_000)])
    assert all(line.endswith("  getting ready") for line in compared(one).values())


def test_with_nothing_to_do_nothing_is_compared() -> None:
    nothing = Plan("in", "out", WEEKS, WEEKS, 10, [], [], 60e6, False, 2)
    assert list(comparison.lines(nothing)) == []
    assert list(nothing.lines())[-1] == "to do        nothing"
