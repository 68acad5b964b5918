"""What ISO weeks promise: the calendar's own weeks, and a clear word about any other."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.problem import Problem
from tasks.weeks import Week, chosen, ranges, span

NOON = dt.datetime(2021, 11, 10, 12, tzinfo=dt.UTC)  # a Wednesday in 2021-W45
FIRST = Week(2016, 49)

weeks = st.dates(dt.date(1990, 1, 1), dt.date(2100, 12, 31)).map(Week.of)


def week(label: str) -> Week:
    return Week.parse(label)


def test_every_date_of_a_century_is_in_the_week_that_the_calendar_says() -> None:
    date = dt.date(1990, 1, 1)
    while date.year <= 2100:
        year, number, weekday = date.isocalendar()
        of_date = Week.of(date)
        assert (of_date.year, of_date.number) == (year, number)
        assert of_date.label == f"{year:04d}-W{number:02d}"
        assert of_date.dates[weekday - 1] == date
        date += dt.timedelta(days=1)


@pytest.mark.parametrize(
    ("label", "monday", "sunday"),
    [
        ("2020-W53", dt.date(2020, 12, 28), dt.date(2021, 1, 3)),
        ("2021-W01", dt.date(2021, 1, 4), dt.date(2021, 1, 10)),
        ("2018-W01", dt.date(2018, 1, 1), dt.date(2018, 1, 7)),
        ("2016-W52", dt.date(2016, 12, 26), dt.date(2017, 1, 1)),
        ("2017-W01", dt.date(2017, 1, 2), dt.date(2017, 1, 8)),
        ("2016-W49", dt.date(2016, 12, 5), dt.date(2016, 12, 11)),
        ("2015-W53", dt.date(2015, 12, 28), dt.date(2016, 1, 3)),
        ("2019-W01", dt.date(2018, 12, 31), dt.date(2019, 1, 6)),
    ],
)
def test_a_week_at_the_turn_of_a_year_has_its_seven_dates(
    label: str, monday: dt.date, sunday: dt.date
) -> None:
    assert week(label).monday == monday
    assert week(label).dates == [monday + dt.timedelta(days=day) for day in range(7)]
    assert week(label).dates[-1] == sunday
    assert Week.of(monday) == Week.of(sunday) == week(label)
    assert str(week(label)) == week(label).label == label


@given(weeks)
def test_weeks_follow_each_other_without_gap_or_overlap(week: Week) -> None:
    assert week.next.previous == week.previous.next == week
    assert week.previous < week < week.next
    assert week.next.start == week.end
    assert week.dates[-1] + dt.timedelta(days=1) == week.next.monday
    assert Week.parse(week.label) == week


@given(weeks)
def test_a_week_begins_on_monday_at_midnight_utc_and_is_over_seven_days_later(week: Week) -> None:
    moment = dt.timedelta(microseconds=1)
    assert week.start == dt.datetime.combine(week.monday, dt.time(), dt.UTC)
    assert Week.of(week.start) == Week.of(week.end - moment) == week
    assert Week.of(week.start - moment) == week.previous
    assert not week.is_over(week.end - moment)
    assert week.is_over(week.end)


@pytest.mark.parametrize("label", ["2021-W45", " 2021-W45 ", "2021-W45\n"])
def test_space_around_a_label_does_not_matter(label: str) -> None:
    assert Week.parse(label) == Week(2021, 45)


@pytest.mark.parametrize(
    "label",
    [
        "",
        " ",
        "2021",
        "2021-45",
        "2021-W5",
        "2021-W045",
        "2021W45",
        "2021-w45",
        "2021 -W45",
        "21-W45",
        "-2021-W45",
        "2021-W45-1",
        "2021-W45,2021-W46",
        "W45-2021",
        "2021-11-10",
        "２０２１-W45",
        "2021-W٤٥",
        "last",
    ],
)
def test_a_label_of_another_form_is_shown_the_right_one(label: str) -> None:
    with pytest.raises(Problem, match=r"is not an ISO week: .*2021-W45") as problem:
        Week.parse(label)
    assert repr(label) in str(problem.value)


@pytest.mark.parametrize(
    ("label", "weeks"),
    [
        ("2021-W00", "2021 has weeks W01 to W52"),
        ("2021-W53", "2021 has weeks W01 to W52"),
        ("2020-W54", "2020 has weeks W01 to W53"),
        ("2020-W99", "2020 has weeks W01 to W53"),
        ("0000-W01", "the year is out of range"),
    ],
)
def test_a_week_that_its_year_does_not_have_is_named_with_those_it_has(
    label: str, weeks: str
) -> None:
    with pytest.raises(Problem) as problem:
        Week.parse(label)
    assert str(problem.value) == f"There is no ISO week {label}: {weeks}."


@given(weeks, st.integers(0, 200))
def test_a_span_holds_every_week_from_its_first_to_its_last(first: Week, count: int) -> None:
    last = Week.of(first.monday + dt.timedelta(weeks=count))
    given_weeks = list(span(first, last))
    assert len(given_weeks) == count + 1
    assert given_weeks[0] == first
    assert given_weeks[-1] == last
    assert given_weeks == sorted(set(given_weeks))


def test_a_span_that_ends_before_it_starts_is_empty() -> None:
    assert list(span(Week(2021, 2), Week(2021, 1))) == []


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([], ""),
        (["2021-W45"], "2021-W45"),
        (["2021-W45", "2022-W01", "2022-W02", "2022-W03"], "2021-W45, 2022-W01 to 2022-W03"),
        (["2022-W02", "2021-W52", "2022-W01"], "2021-W52 to 2022-W02"),
        (["2020-W52", "2020-W53", "2021-W01"], "2020-W52 to 2021-W01"),
        (["2020-W52", "2021-W01"], "2020-W52, 2021-W01"),
        (["2021-W01", "2021-W03", "2021-W05"], "2021-W01, 2021-W03, 2021-W05"),
    ],
)
def test_ranges_draw_neighbours_together(labels: list[str], words: str) -> None:
    assert ranges([week(label) for label in labels]) == words


@given(st.sets(weeks, max_size=10))
def test_ranges_name_exactly_the_weeks_given(given_weeks: set[Week]) -> None:
    named = []
    for part in filter(None, ranges(list(given_weeks)).split(", ")):
        first, _, last = part.partition(" to ")
        named += span(week(first), week(last or first))
    assert named == sorted(given_weeks)


def test_by_default_every_finished_week_since_the_first_is_chosen() -> None:
    weeks = chosen([], "", "", NOON, FIRST)
    assert weeks == list(span(FIRST, Week(2021, 44)))
    assert weeks[0].label == "2016-W49"


def test_the_current_week_is_chosen_only_on_request() -> None:
    assert Week(2021, 45) not in chosen([], "", "", NOON, FIRST)
    assert chosen(["2021-W45"], "", "", NOON, FIRST) == [Week(2021, 45)]
    assert chosen([], "2021-W44", "2021-W45", NOON, FIRST) == [Week(2021, 44), Week(2021, 45)]


def test_a_week_is_finished_from_the_next_monday_at_midnight_utc() -> None:
    monday = dt.datetime(2021, 11, 15, tzinfo=dt.UTC)
    assert chosen([], "", "", monday, FIRST)[-1] == Week(2021, 45)
    just_before = monday - dt.timedelta(microseconds=1)
    assert chosen([], "", "", just_before, FIRST)[-1] == Week(2021, 44)


def test_labels_are_chosen_once_each_and_in_order() -> None:
    labels = ["2021-W01", " 2018-W25", "2021-W01", "2020-W53"]
    assert chosen(labels, "", "", NOON, FIRST) == [
        Week(2018, 25),
        Week(2020, 53),
        Week(2021, 1),
    ]


@pytest.mark.parametrize(
    ("first", "last", "ends"),
    [
        ("2021-W40", "", ("2021-W40", "2021-W44")),
        ("", "2017-W03", ("2016-W49", "2017-W03")),
        ("2016-W51", "2017-W01", ("2016-W51", "2017-W01")),
        ("2018-W25", "2018-W25", ("2018-W25", "2018-W25")),
        ("2016-W01", "2016-W02", ("2016-W01", "2016-W02")),
    ],
)
def test_a_range_is_chosen_from_its_first_to_its_last_week(
    first: str, last: str, ends: tuple[str, str]
) -> None:
    weeks = chosen([], first, last, NOON, FIRST)
    assert weeks == list(span(week(ends[0]), week(ends[1])))


@pytest.mark.parametrize(
    ("labels", "first", "last", "words"),
    [
        (["2021-W46"], "", "", "2021-W46 lies in the future (this is 2021-W45)"),
        (["2018-W25", "9999-W52"], "", "", "9999-W52 lies in the future"),
        ([], "2021-W40", "2021-W46", "2021-W46 lies in the future"),
        ([], "", "9999-W52", "9999-W52 lies in the future"),
        ([], "2021-W40", "2021-W39", "2021-W40, after its end in 2021-W39: swap FROM and TO."),
        ([], "2021-W45", "", "2021-W45, after its end in 2021-W44: choose other weeks"),
        ([], "", "2016-W48", "2016-W49, after its end in 2016-W48: choose other weeks"),
        (["2021-W01"], "2021-W01", "", "not both"),
        (["2021-W01"], "", "2021-W02", "not both"),
        (["2021-W01", "nonsense"], "", "", "'nonsense' is not an ISO week"),
        ([], "2021-W53", "", "There is no ISO week 2021-W53"),
        ([], "", "2021", "'2021' is not an ISO week"),
    ],
)
def test_a_choice_that_cannot_be_met_says_why(
    labels: list[str], first: str, last: str, words: str
) -> None:
    with pytest.raises(Problem) as problem:
        chosen(labels, first, last, NOON, FIRST)
    assert words in str(problem.value)
