"""What the report says of an archive, in sentences and markup: no browser needed here."""

import dataclasses
import json
import re
import sys
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ops.report import FILE, report
from ops.report import page as page_module
from tasks import advice
from tasks.bustimes import prune
from tasks.bustimes.archive import Archive, convert_week
from tasks.bustimes.verify import verify
from tasks.problem import Problem
from tasks.settings import load
from tasks.storage import open_root
from tasks.weeks import Week, span
from tests import report_manifests as made_up
from tests import verified_archive
from tests.report_archive import NOW, WEEK, empty_archive, finding, keep_findings, states_of

HOSTILE = "</script><img src=x onerror='document.title=1'>\u202e\x00{{ 7 * 7 }}"


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return empty_archive(tmp_path)


@pytest.fixture
def out(archive: Archive) -> Path:
    return Path(archive.destination.url)


@pytest.fixture
def page(archive: Archive, tmp_path: Path) -> Callable[[], str]:
    """Writes the report, and gives what it is made of."""

    def write() -> str:
        written = report(archive, str(tmp_path / "page.html"), NOW)
        return Path(written.place).read_text()

    return write


class Elements(HTMLParser):
    """Every element's name, with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, list[tuple[str, str | None]]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, attrs))


def text_of(html: str) -> str:
    """What a person reads, and not the scripts and styles."""
    body = re.sub(r"(?s)<(script|style).*?</\1>", "", html)
    unescaped = re.sub(r"<[^>]+>", " ", re.sub(r"</?(span|bdi|code)\b[^>]*>", "", body))
    for name, sign in (
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&#34;", '"'),
        ("&#39;", "'"),
        ("&amp;", "&"),
    ):
        unescaped = unescaped.replace(name, sign)
    return re.sub(r"\s+", " ", unescaped)


def data_of(html: str) -> Any:
    """What the page's script works with."""
    found = re.search(r'(?s)<script type="application/json" id="data">(.*?)</script>', html)
    assert found is not None
    return json.loads(found[1])


@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_what_was_really_converted_is_reported_without_the_raw_side(
    place: str,
    tmp_path: Path,
    make_snapshots: Callable[..., list[Path]],
    request: pytest.FixtureRequest,
) -> None:
    make_snapshots(tmp_path / "in", "2021-W45", unreadable=1)
    to = str(tmp_path / "out")
    if place == "bucket":
        to = f"{request.getfixturevalue('bucket')}/v2"
    source, destination = open_root(str(tmp_path / "in")), open_root(to)
    archive = Archive(load(), source, destination)
    convert_week(archive, WEEK, "", 1, lambda _listing: lambda _hour: None, print)
    manifest = archive.manifest(WEEK)
    assert manifest is not None
    archive = dataclasses.replace(archive, source=open_root(str(tmp_path / "gone")))
    written = report(archive, to, NOW)
    assert written.place == f"{to}/{FILE}"
    html = destination.read(FILE).decode()
    text = text_of(html)
    assert f"{manifest.records:,} records of 12 snapshots in 1 weekly file, 2021-W45" in text
    assert written.sentences[0].removesuffix(".") in text
    assert "A full day has 144 snapshots (6 in the usual hour)" in text
    assert written.sentences[1].startswith("2021-W45 is as it should be. It is not proven ")
    [refused] = manifest.refused
    assert refused.reason in text
    assert f"{destination.url}/_refused/2021-W45/{refused.key}" in text
    [row] = data_of(html)["weeks"]
    assert (row["records"], row["size"]) == (manifest.records, manifest.output.bytes)
    archive.list_again()
    assert list(archive.weeks_written()) == [WEEK]  # a report beside them is no week


def test_ten_years_are_written_in_seconds_and_below_two_megabytes(
    out: Path,
    page: Callable[[], str],
    record_property: Callable[[str, object], None],
) -> None:
    made_up.write_years(out, Week(2016, 49), Week(2026, 46), old=Week(2017, 10))
    page_module._library.cache_clear()
    started = time.perf_counter()
    html = page()
    taken = time.perf_counter() - started
    size = len(html.encode())
    record_property("report of ten years", f"{taken:.1f} s, {size / 1e6:.2f} MB")
    assert size < 2_000_000
    assert len(data_of(html)["weeks"]) == 519
    text = text_of(html)
    assert "516 weekly files, 2016-W49 to 2026-W46" in text
    assert "3 weeks need a look: 3 without a file" in text
    assert "13 manifests of version 1 (2016-W49 to 2017-W09) have no vehicles" in text


def test_however_much_there_is_the_page_stays_small(out: Path, page: Callable[[], str]) -> None:
    for week in span(Week(2021, 1), Week(2021, 20)):
        made = made_up.manifest(week)
        made["fields"] = {f"field {week} {at} {'x' * 900}": {"text": 1} for at in range(2000)}
        one = {"key": f"raw/{'k' * 900}", "bytes": 1}
        made["refused"] = [one | {"reason": f"{week} {at} {'r' * 900}"} for at in range(2000)]
        made_up.write(out, made)
    html = page()
    assert len(html) < 5_000_000
    assert "and 39,700 more" in text_of(html)


def test_nothing_that_a_manifest_or_a_name_says_becomes_markup(tmp_path: Path) -> None:
    out = tmp_path / HOSTILE.replace("/", "").replace("\x00", "")
    archive = Archive(load(), open_root(str(tmp_path / "nowhere")), open_root(str(out)))
    made = made_up.manifest(WEEK)
    made["fields"] = {f"{HOSTILE}field": {f"{HOSTILE}kind": 5}, "half \ud83d": {"text": 1}}
    refused = {"key": f"raw/{HOSTILE}key", "bytes": 1, "reason": f"{HOSTILE}reason"}
    made["refused"] = [refused]
    requests = {"requests": 1, "attempts": 2, "bytes": 3, "seconds": 0.5}
    requests["retries"] = {f"{HOSTILE}retry": 1}
    made["conversion"]["requests"] = {f"{HOSTILE}operation": requests}
    made_up.write(out, made)
    made_up.write(out, made_up.manifest(WEEK.next))
    other = made_up.manifest(WEEK.next.next) | {"week": f"{HOSTILE}week"}
    (out / f"_manifests/{WEEK.next.next}.json").write_text(json.dumps(other))
    (out / f"{WEEK.next.next}.jsonl.gz").write_bytes(b"")
    made_up.write_json(out / f"_verified/{HOSTILE.replace('/', '')}.json".replace("\0", ""), {})
    stale = finding("stale", f"{HOSTILE}why", made["listing_sha256"])
    keep_findings(out, {str(WEEK): stale, f"{HOSTILE}label": stale})
    written = report(archive, str(tmp_path / "page.html"), NOW)
    html = Path(written.place).read_text()

    parser = Elements()
    parser.feed(html)
    tags = [tag for tag, _ in parser.seen]
    assert tags.count("script") == 3
    assert "img" not in tags
    names = {name for _, attributes in parser.seen for name, _ in attributes}
    assert not [name for name in names if name.startswith("on") or name == "src"]
    text = text_of(html)
    spelled_out = HOSTILE.replace("\u202e", "\\u202e").replace("\x00", "\\u0000")
    for what in ("field", "kind", "key", "reason", "retry", "operation", "week", "why"):
        assert f"{spelled_out}{what}" in text, what
    assert "half \\ud83d" in text
    assert "\u202e" not in html
    assert "\x00" not in html


def test_the_page_names_no_address_that_a_browser_would_ask_for(
    out: Path, page: Callable[[], str]
) -> None:
    made_up.write(out, made_up.manifest(WEEK))
    html = page()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    own = re.sub(r"(?s)<script>.*?</script>", "", html)
    assert "//" not in re.sub(r"(?s)<script type.*?</script>", "", own).replace("s3://", "")
    assert not re.search(r"url\(|@import|<link(?! rel=\"icon\" href=\"data:)", own)


def test_manifests_of_version_1_are_reported_without_what_they_lack(
    out: Path, page: Callable[[], str]
) -> None:
    made_up.write(out, made_up.manifest(WEEK, version=1))
    html = page()
    assert set(data_of(html)["charts"]) == {"records"}
    text = text_of(html)
    assert "1 manifest of version 1 (2021-W45) has no vehicles, fields and speed" in text
    assert "No manifest tells fields" in text
    assert "No manifest tells how long its conversion took" in text


def test_proofs_count_for_the_file_that_was_proven(
    archive: Archive, out: Path, page: Callable[[], str]
) -> None:
    whole, part, rewritten, broken, older = span(WEEK, Week(2021, 49))
    for week in (whole, part, rewritten, broken, older):
        made_up.write(out, made_up.manifest(week))
    made_up.write_json(out / f"_verified/{whole}.json", made_up.proof(made_up.manifest(whole), 1.0))
    made_up.write_json(out / f"_verified/{part}.json", made_up.proof(made_up.manifest(part), 0.02))
    old = made_up.proof(made_up.manifest(rewritten)) | {"sha256": "another"}
    made_up.write_json(out / f"_verified/{rewritten}.json", old)
    (out / f"_verified/{broken}.json").write_text("{")
    by_older = made_up.proof(made_up.manifest(older), 1.0)
    del by_older["readers"]
    made_up.write_json(out / f"_verified/{older}.json", by_older)
    found = states_of(archive)
    assert [one.proof is not None for one in found.values()] == [True, True, False, False, False]
    assert [one.was_proven for one in found.values()] == [False, False, True, False, True]
    text = text_of(page())
    assert (
        "1 of 5 is proven in full, record by record; 1 more was compared with a sample of the raw "
        "snapshots; last on 15 November"
    ) in text
    assert "2 weeks had been verified, but not as the file is now, or by an older version." in text
    assert f"Could not be read, and left out: _verified/{broken}.json." in text


def test_what_verify_found_counts_until_the_week_is_written_again(
    archive: Archive, out: Path, page: Callable[[], str]
) -> None:
    good, stale, refreshed, gap, missing, unseen = span(WEEK, Week(2021, 50))
    for week in (good, stale, refreshed, unseen):
        made_up.write(out, made_up.manifest(week))
    listing = {week: made_up.manifest(week)["listing_sha256"] for week in (good, stale)}
    late = "2 raw snapshots came after it was converted"
    found = {
        str(good): finding("some new word", listing=listing[good]),
        str(stale): finding("stale", late, listing[stale]),
        str(refreshed): finding("stale", "changed", "before"),
        str(gap): finding("gap"),
        str(missing): finding("missing", "60 raw snapshots and no file"),
    }
    keep_findings(out, found)
    states = [one.state for one in states_of(archive).values()]
    assert states == ["written", "stale", "written", "gap", "missing", "written"]
    text = text_of(page())
    assert "verify does that, and ran last on 20 November 2026: what it found counts" in text
    assert f"2021-W46 stale {late} {advice.make('refresh', WEEKS='2021-W46')}" in text
    converting = advice.make("full", WEEKS="2021-W49")
    assert f"2021-W49 missing 60 raw snapshots and no file {converting}" in text
    assert "Gaps, without a raw snapshot and so without a file: 2021-W48." in text
    (out / "_verified/findings.json").unlink()
    assert "it has left no findings here" in text_of(page())


def test_what_verify_and_prune_really_leave_is_understood(bucket: str, tmp_path: Path) -> None:
    """A real week: one snapshot late, then proven without it, then pruned."""
    archive = verified_archive.archive_in(bucket, f"{bucket}/v2", tmp_path / "spool")
    late = "raw/bustimes__2021-11-09__00-00-05.json"

    def told() -> str:
        written = report(archive, str(tmp_path / "page.html"), NOW)
        text = text_of(Path(written.place).read_text())
        assert "Could not be read" not in text
        return text

    archive.source.write(late, b"[]")
    verify(archive, [WEEK], deep=False)
    text = told()
    assert "1 week needs a look: 1 stale." in text
    why = "1 raw snapshot came after it was converted"
    assert f"2021-W45 stale {why} {advice.make('refresh', WEEKS='2021-W45')}" in text
    assert "verify does that, and ran last on " in text

    archive.source.remove([late])
    assert verify(archive, [WEEK], deep=False, share=1.0).recorded == [WEEK]
    assert "2021-W45 is as it should be. It is proven in full, record by record" in told()
    prune.prune(archive, WEEK)
    assert "1 week is pruned (2021-W45): 12 raw objects" in told()


def test_weeks_that_cannot_be_make_no_gap_of_centuries(
    archive: Archive, out: Path, page: Callable[[], str]
) -> None:
    made_up.write(out, made_up.manifest(WEEK))
    for name in ("0001-W01", "9999-W52"):
        (out / f"{name}.jsonl.gz").write_bytes(b"")
    assert list(states_of(archive)) == [str(WEEK)]
    assert "In the future or long past, and so left out: 0001-W01 and 9999-W52." in text_of(page())


def test_where_there_is_nothing_to_report_that_is_one_sentence(
    archive: Archive, tmp_path: Path
) -> None:
    with pytest.raises(
        Problem, match=r"There is nothing to report: .* make full .*makes week files"
    ):
        report(archive, str(tmp_path), NOW)


def test_without_the_plotting_library_that_is_one_sentence(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "ops.report.page", raising=False)
    monkeypatch.delattr("ops.report.page", raising=False)
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(Problem, match=r"needs vl_convert, which is not installed: make report"):
        report(archive, str(tmp_path), NOW)


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("", "state/report/report.html"),
        ("here", "here/report.html"),
        ("here/", "here/report.html"),
        ("here/today.html", "here/today.html"),
    ],
)
def test_it_goes_where_it_is_told(
    archive: Archive,
    out: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    to: str,
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    made_up.write(out, made_up.manifest(WEEK))
    written = report(archive, to, NOW)
    assert (tmp_path / expected).is_file()
    assert (tmp_path / written.place).samefile(tmp_path / expected)


def priced(archive: Archive) -> Archive:
    """The same with a source in S3, which the report does not read."""
    return dataclasses.replace(archive, source=open_root("s3://raw"))


def test_a_folder_has_no_prices_and_a_bucket_has(archive: Archive, out: Path) -> None:
    made_up.write(out, made_up.manifest(WEEK))

    def told(of: Archive) -> tuple[str, set[str]]:
        html = Path(report(of, str(out.parent / "page.html"), NOW).place).read_text()
        return text_of(html), set(data_of(html)["charts"])

    text, charts = told(archive)
    assert "$" not in text
    assert "Size and money" not in text
    made_up.write(out, made_up.manifest(WEEK.next))
    assert "costs" not in told(archive)[1]
    text, charts = told(priced(archive))
    assert (
        "S3 takes $0.023 for a GB a month (STANDARD, us-east-1): $0.08 a month for the raw" in text
    )
    assert "saved once they are deleted. The week files are in a folder." in text
    assert "costs" in charts


def test_few_weeks_are_drawn_day_by_day_and_one_has_no_chart_of_a_single_figure(
    out: Path, page: Callable[[], str]
) -> None:
    made = made_up.manifest(WEEK)
    made_up.write(out, made)
    html = page()
    data = data_of(html)
    assert set(data["charts"]) == {"records", "sizes"} == set(data["daily"])
    assert "Records a day" in text_of(html)
    assert [day["week"] for day in data["days"]] == [str(WEEK)] * 7
    assert sum(day["records"] for day in data["days"]) == made["records"]
    assert sum(day["raw"] for day in data["days"]) == made["raw_bytes"]
    assert sum(day["size"] for day in data["days"]) == made["output"]["bytes"]
    for week in span(WEEK.next, Week(2022, 1)):
        made_up.write(out, made_up.manifest(week))
    html = page()
    assert (data_of(html)["daily"], data_of(html)["days"]) == ([], [])
    assert "Records a week" in text_of(html)


def test_without_bytes_of_hours_only_records_are_drawn_by_the_day(
    out: Path, page: Callable[[], str]
) -> None:
    for week in (WEEK, WEEK.next):
        made_up.write(out, made_up.manifest(week, version=1))
    data = data_of(page())
    assert data["daily"] == ["records"]
    assert "sizes" in data["charts"]


def test_a_gap_is_not_said_to_be_as_it_should_be(out: Path, page: Callable[[], str]) -> None:
    for week in (Week(2021, 40), Week(2021, 41), Week(2021, 44), Week(2021, 45)):
        made_up.write(out, made_up.manifest(week))
    keep_findings(out, {"2021-W42": finding("gap"), "2021-W43": finding("gap")})
    assert (
        "Of 6 weeks from 2021-W40 to 2021-W45, 4 have a file that is as it should be; 2 have "
        "neither raw snapshots nor a file (2021-W42 to 2021-W43)."
    ) in text_of(page())


def test_weeks_after_the_last_are_told_by_its_name_and_a_sample_is_no_proof(
    out: Path, page: Callable[[], str]
) -> None:
    made = made_up.manifest(WEEK)
    made_up.write(out, made)
    made_up.write_json(out / f"_verified/{WEEK}.json", made_up.proof(made, 0.02))
    keep_findings(out, {})
    text = text_of(page())
    after = "After 2021-W45, the last week here, 261 weeks have ended and have no file here: "
    assert f"{after}2021-W46 to 2026-W46." in text
    assert "None is proven in full; 1 was compared with a sample of the raw snapshots" in text
    assert "proven in full 0 of 1 1 by a sample" in text
    assert "proven by a sample" not in text


def test_the_commands_to_run_next_name_the_places(
    archive: Archive, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up.write(out, made_up.manifest(WEEK))
    monkeypatch.setenv("BUSTIMES_SOURCE", "/a folder")
    monkeypatch.setenv("BUSTIMES_DESTINATION", str(out))
    written = report(archive, str(out.parent / "page.html"), NOW)
    proving = advice.make("verify", SHARE="1.0")
    assert f"SOURCE='/a folder' DESTINATION={out} " in proving
    assert any(line.split("  ")[-2].strip() == proving for line in written.lines()[3:])
    assert proving in text_of(Path(written.place).read_text())


def test_rates_have_their_unit(out: Path, page: Callable[[], str]) -> None:
    made = made_up.manifest(WEEK)
    made["conversion"]["seconds"] = made["raw_bytes"] / 99.96e6
    made_up.write(out, made)
    text = text_of(page())
    assert "The week was converted at 100 MB/s of raw snapshots;" in text
    assert re.search(r"2021-W45 written .* 100 MB/s", text)
