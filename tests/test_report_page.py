"""The report in a browser without a network: charts, keys, pointer, colours, narrow screens."""

import datetime as dt
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.report import report
from tasks.bustimes.archive import Archive
from tasks.settings import load
from tasks.storage import open_root
from tasks.weeks import Week
from tests import report_manifests as made_up
from tests.browser import Browser, ask, wait_for

pytestmark = pytest.mark.soak

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
CHARTS = ["records", "vehicles", "sizes", "costs", "fields", "speed", "retries"]
HOSTILE = (
    "</script><script>document.title='hacked'</script><img src=x onerror=\"document.title='h'\">"
)

_WATCH = """
window.complaints = [];
for (const kind of ["error", "unhandledrejection", "securitypolicyviolation"])
  addEventListener(kind, (event) => complaints.push(
    `${kind}: ${event.message || event.reason || event.violatedDirective}`), true);
for (const kind of ["error", "warn"])
  console[kind] = (...words) => complaints.push(`${kind}: ${words.join(" ")}`);
"""
"""Keeps what goes wrong in a page, from before its own scripts run."""


class Page(Browser):
    """A tab in which a file is open; scripts run in it, and keys and pointer go to it."""

    def devtools(self, command: str, **given: object) -> Any:
        asked = {"cmd": command, "params": given}
        return ask(f"{self._session}/goog/cdp/execute", asked)["value"]

    def run(self, script: str) -> Any:
        return ask(f"{self._session}/execute/sync", {"script": script, "args": []})["value"]

    def look(self, width: int = 1280, scheme: str = "light") -> None:
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.devtools("Emulation.setEmulatedMedia", media="", features=features)

    def show(self, file: Path) -> None:
        self.open(file.as_uri())
        wait_for(lambda: self.run("return document.documentElement.dataset.ready") == "yes")

    def press(self, *keys: str) -> None:
        for key in keys:
            for kind in ("keyDown", "keyUp"):
                self.devtools("Input.dispatchKeyEvent", type=kind, key=key)

    def mouse(self, kind: str, x: float, y: float) -> None:
        button = "none" if kind == "mouseMoved" else "left"
        self.devtools("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, clickCount=1)

    def box(self, selector: str) -> dict[str, float]:
        """Where an element is, after it was scrolled into sight."""
        name = json.dumps(selector)
        self.run(f"document.querySelector({name}).scrollIntoView({{block: 'center'}})")
        box: dict[str, float] = self.run(
            f"return document.querySelector({name}).getBoundingClientRect().toJSON()"
        )
        return box

    def said(self, selector: str) -> str:
        """What a screen reader says of the value of a chart."""
        name = json.dumps(selector)
        return str(self.run(f"return document.querySelector({name}).ariaValueText"))


@pytest.fixture(scope="module")
def years(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of three years with gaps, proofs and retries, and with hostile names."""
    folder = tmp_path_factory.mktemp("years")
    archive = Archive(load({}), open_root("s3://raw"), open_root(str(folder / "out")))
    made_up.write_years(folder / "out", Week(2018, 20), Week(2021, 20))
    made = made_up.manifest(Week(2019, 30))
    made["fields"][HOSTILE] = {HOSTILE: 1}
    made["refused"] = [{"key": f"raw/{HOSTILE}", "bytes": 1, "reason": HOSTILE}]
    made["conversion"]["requests"]["GET"]["retries"] = {HOSTILE: 3}
    made_up.write(folder / "out", made)
    hours = made_up.manifest(Week(2019, 31))
    hours["hours"] = [one for one in hours["hours"] if not one["hour"].startswith("2019-07-31")]
    made_up.write(folder / "out", hours)
    return Path(report(archive, str(folder / "report.html"), NOW).place)


@pytest.fixture(scope="module")
def page(chromedriver: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A browser that reaches nothing but files."""
    with Page(chromedriver, tmp_path_factory.mktemp("browser")) as page:
        page.devtools("Network.enable")
        off = {"offline": True, "latency": 0, "downloadThroughput": 0}
        page.devtools("Network.emulateNetworkConditions", **off, uploadThroughput=0)
        page.devtools("Page.addScriptToEvaluateOnNewDocument", source=_WATCH)
        yield page


@pytest.fixture
def opened(page: Page, years: Path) -> Page:
    page.look()
    page.show(years)
    return page


def test_everything_is_drawn_without_a_request_and_without_a_complaint(opened: Page) -> None:
    drawn = opened.run(
        "return [...document.querySelectorAll('.plot')].map(plot => [plot.dataset.chart, "
        "plot.querySelectorAll('svg .mark-rect path, svg .mark-symbol path').length])"
    )
    assert [name for name, _ in drawn] == CHARTS
    assert all(marks for _, marks in drawn), drawn
    assert dict(drawn)["records"] > 150
    assert opened.run("return document.querySelectorAll('.year svg').length") == 4
    assert opened.run("return performance.getEntriesByType('resource').map(one => one.name)") == []
    assert opened.run("return complaints") == []


def test_what_is_hostile_is_read_and_not_run(opened: Page) -> None:
    assert opened.run("return document.title").endswith(": what is in it")
    assert opened.run("return document.images.length") == 0
    assert opened.run("return document.scripts.length") == 3
    assert HOSTILE in opened.run("return document.body.textContent")
    labels = opened.run(
        "return [...document.querySelectorAll('[data-chart=fields] text')].map(e => e.textContent)"
    )
    assert any(label.startswith("</script>") for label in labels)
    opened.run("document.querySelector('[data-chart=fields]').focus()")
    opened.press("Home", *["PageUp"] * 4, *["ArrowRight"] * 10)
    assert "2019-W30" in opened.said("[data-chart=fields]")
    assert "</script>" in opened.said("[data-chart=fields]")
    assert opened.run("return complaints") == []


def test_every_chart_is_reached_by_tab_and_read_with_the_arrow_keys(opened: Page) -> None:
    reached: list[str] = []
    for _ in range(60):
        opened.press("Tab")
        where = (
            "const e = document.activeElement; "
            "return [e.dataset.chart || e.className, getComputedStyle(e).outlineStyle, e.role]"
        )
        name, outline, role = opened.run(where)
        if name in reached:
            break
        if role == "slider":
            assert outline == "solid"
            reached.append(name)
            opened.press("End")
            last = opened.run("return document.activeElement.ariaValueText")
            opened.press("ArrowLeft")
            before = opened.run("return document.activeElement.ariaValueText")
            assert "2021-W20" in last
            assert "2021-W19" in before
            assert re.search(r"\d", before.partition(": ")[2])
    assert reached == ["calendar", *CHARTS]


def test_the_calendar_is_read_day_by_day(opened: Page) -> None:
    opened.run("document.querySelector('.calendar').focus()")
    opened.press("Home")
    assert opened.said(".calendar") == "Monday, 14 May 2018, 2018-W20: 1,440 of 1,440 snapshots"
    opened.press("ArrowDown", "ArrowRight")
    assert opened.said(".calendar").startswith("Tuesday, 22 May 2018, 2018-W21:")
    assert opened.text("#calendar ~ .above .readout") == opened.said(".calendar")
    gap = opened.box('[data-year="2019"]')
    x = gap["left"] + gap["width"] * (30.5 / 52)  # 2019-W31
    opened.mouse("mouseMoved", x, gap["top"] + gap["height"] * 2.5 / 7)  # Wednesday
    assert opened.text("#calendar ~ .above .readout") == (
        "Wednesday, 31 July 2019, 2019-W31: no snapshot at all"
    )
    assert opened.text("[data-chart=records]") is not None
    readout = "document.querySelector('[data-chart=records]').closest('figure')"
    assert "2019-W31" in opened.run(f"return {readout}.querySelector('.readout').textContent")


def test_a_year_a_drag_and_keys_show_a_part_of_the_time(opened: Page) -> None:
    def months() -> set[str]:
        """What stands below the first chart, in whatever order it was drawn."""
        return set(
            opened.run(
                "return [...document.querySelectorAll('[data-chart=records] "
                ".role-axis-label text')].map(e => e.textContent)"
            )
        )

    whole = months()
    assert "2019" in whole
    opened.click(".period button:nth-child(3)")
    wait_for(lambda: "March" in months())
    assert opened.text('.period button[aria-pressed="true"]') == "2019"
    opened.click(".period button:first-child")
    wait_for(lambda: months() == whole)
    box = opened.box("[data-chart=records]")
    middle = box["top"] + box["height"] / 2
    opened.mouse("mouseMoved", box["left"] + 500, middle)
    opened.mouse("mousePressed", box["left"] + 500, middle)
    opened.mouse("mouseMoved", box["left"] + 600, middle)
    opened.mouse("mouseReleased", box["left"] + 600, middle)
    wait_for(lambda: months() != whole)
    opened.run("document.querySelector('[data-chart=records]').focus()")
    opened.press("0")
    wait_for(lambda: months() == whole)
    opened.press("+", "+", "+")
    wait_for(lambda: months() != whole)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_and_cells_can_be_told_from_the_page(page: Page, years: Path, scheme: str) -> None:
    page.look(scheme=scheme)
    page.show(years)

    def light(colour: str) -> float:
        """Relative luminance, as WCAG defines it."""
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one: str, other: str) -> float:
        high, low = sorted((light(one), light(other)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    def colour(selector: str, of: str) -> str:
        script = f"getComputedStyle(document.querySelector({json.dumps(selector)})).{of}"
        return str(page.run(f"return {script}"))

    background = colour("body", "backgroundColor")
    assert (light(background) > 0.5) == (scheme == "light")
    for selector, of in {
        "h1": "color",
        ".place": "color",
        ".legend": "color",
        "summary": "color",
        "footer": "color",
        ".state": "color",
        "[data-chart=records] .role-axis-label text": "fill",
        "[data-chart=fields] .role-axis-label text": "fill",
    }.items():
        assert contrast(colour(selector, of), background) >= 4.5, selector
    assert contrast(colour("path.none", "fill"), background) >= 3
    assert contrast(colour("path.full", "fill"), background) >= 3
    assert contrast(colour("path.none", "fill"), colour("path.full", "fill")) >= 1.25


@pytest.mark.parametrize("width", [320, 390])
def test_a_narrow_screen_shows_it_all_without_moving_sideways(
    page: Page, years: Path, width: int
) -> None:
    page.look(width=width)
    page.show(years)
    assert page.run("return document.documentElement.scrollWidth") <= width
    widths = page.run(
        "return [...document.querySelectorAll('.plot svg')].map(e => e.getBoundingClientRect())"
        ".map(box => [box.left, box.right])"
    )
    assert all(left >= 0 and right <= width for left, right in widths), widths
    page.look(width=1280)
    wait_for(lambda: page.box("[data-chart=records] svg")["width"] > 1000)


@pytest.mark.parametrize("width", [400, 1280])
def test_a_table_that_is_cut_off_says_so(page: Page, years: Path, width: int) -> None:
    page.look(width=width)
    page.show(years)
    tables = (
        "return [...document.querySelectorAll('.scroll')].filter(box => box.checkVisibility())"
        ".map(box => [box.scrollWidth > box.clientWidth, !box.nextElementSibling.hidden, "
        "box.nextElementSibling.textContent, getComputedStyle(box).backgroundImage])"
    )

    def shown() -> list[tuple[bool, bool, str, str]]:
        return [tuple(one) for one in page.run(tables)]

    wait_for(lambda: all(cut == said for cut, said, _, _ in shown()))
    assert any(cut for cut, *_ in shown()) == (width == 400)
    assert {words for _, _, words, _ in shown()} == {"More columns: scroll sideways →"}
    assert all("linear-gradient" in image for *_, image in shown())
    page.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    wait_for(lambda: all(cut == said for cut, said, _, _ in shown()))


def labels(page: Page, chart: str) -> list[str]:
    """What stands below a chart."""
    found: list[str] = page.run(
        f"return [...document.querySelectorAll('[data-chart={chart}] .role-axis')].map(axis => "
        "[...axis.querySelectorAll('.role-axis-label text')].map(one => one.textContent))"
        ".find(texts => texts.some(text => /[A-Za-z]{3}/.test(text)))"
    )
    return found


@pytest.fixture(scope="module")
def one_week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a single week."""
    folder = tmp_path_factory.mktemp("week")
    archive = Archive(load({}), open_root(str(folder / "in")), open_root(str(folder / "out")))
    made_up.write(folder / "out", made_up.manifest(Week(2021, 45)))
    return Path(report(archive, str(folder / "report.html"), NOW).place)


@pytest.mark.parametrize(("width", "form"), [(1280, "%a %-d %b"), (400, "%a")])
def test_of_one_week_each_day_is_a_bar_with_its_name(
    page: Page, one_week: Path, width: int, form: str
) -> None:
    page.look(width=width)
    page.show(one_week)
    days = [date.strftime(form) for date in Week(2021, 45).dates]
    for chart, layers in (("records", 1), ("sizes", 2)):
        assert labels(page, chart) == days
        bars = f"document.querySelectorAll('[data-chart={chart}] .mark-rect path').length"
        assert page.run(f"return {bars}") == 7 * layers
    page.run("document.querySelector('[data-chart=records]').focus()")
    page.press("Home", "ArrowRight", "ArrowRight")
    assert re.fullmatch(
        r"Wednesday, 10 November 2021, 2021-W45: [\d,]+ records in 1,440 snapshots",
        page.said("[data-chart=records]").replace("Wednesday 10", "Wednesday, 10"),
    )
    assert page.text(".calendar") is not None
    assert page.said(".calendar").startswith("Wednesday, 10 November 2021")
    assert page.run("return complaints") == []


def test_of_a_few_weeks_no_tick_is_named_otherwise_than_the_next(opened: Page) -> None:
    opened.run("document.querySelector('[data-chart=records]').focus()")
    opened.press("End", "+", "+", "+", "+", "+", "+")
    wait_for(
        lambda: all(re.fullmatch(r"\d+ [A-Z][a-z]{2}", one) for one in labels(opened, "records"))
    )
    assert len(labels(opened, "records")) >= 3
