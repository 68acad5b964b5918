"""What reads week files: programs and libraries as they are, and the README's examples.

Some readers of gzip stop where the first of several members ends; some readers of JSON lines decide
by the first lines what a column is. Here they read a week whose columns are null first, appear
later, or change their kind, and must find every line and value. Spark is too heavy to be installed
for this, and Athena runs at AWS only; for both the README goes by their documentation.
"""

import dataclasses
import gzip
import json
import re
import shutil
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas
import polars
import pytest

from tasks.bustimes import manifest as manifests
from tasks.bustimes.archive import Archive, convert_week
from tasks.settings import load
from tasks.storage import open_root
from tests.conftest import PROJECT
from tests.verified_archive import FILE, WEEK

pytestmark = pytest.mark.soak

FIRST_LINES = 24_000  # more than DuckDB's sample, and than pyarrow reads at a time
LAST_LINES = 50
LARGE = (1 << 53) + 1  # which no float can be


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        shutil.which(program) is None, reason=f"{program} is not installed here"
    )


def record(number: int) -> dict[str, object]:
    """Up to `FIRST_LINES` what a reader may take for all that there is; then what is otherwise."""
    is_early = number < FIRST_LINES
    made: dict[str, object] = {
        "vehicleID": number,
        "tripID": None if is_early else f"0{number}",
        "block": None if number % 2 else number,
        "delay": number % 60 if is_early else 1.5,
        "routeNumber": number % 9 if is_early or number % 2 else "7-A",
        "gate": None,
    }
    if not is_early:
        made |= {"platform": LARGE + number, "stops": [{"at": number}]}
    return made


@pytest.fixture(scope="module")
def raw_side(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A week whose second hour is unlike its first one."""
    folder = tmp_path_factory.mktemp("unlike")
    (folder / "raw").mkdir()
    step = FIRST_LINES // 4
    for minute, first in enumerate(range(0, FIRST_LINES, step)):
        body = json.dumps([record(number) for number in range(first, first + step)])
        (folder / f"raw/bustimes__2021-11-08__00-0{minute}-05.json").write_text(body)
    last = [record(number) for number in range(FIRST_LINES, FIRST_LINES + LAST_LINES)]
    (folder / "raw/bustimes__2021-11-08__01-00-05.json").write_text(json.dumps(last))
    return folder


@pytest.fixture(scope="module", params=[0, 6], ids=["by lines", "by libdeflate"])
def week(
    request: pytest.FixtureRequest, raw_side: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The file, converted."""
    folder = tmp_path_factory.mktemp("weeks")
    settings = dataclasses.replace(
        load(), compression_level=request.param, spool=folder / "spool", spot_checks=0
    )
    archive = Archive(settings, open_root(str(raw_side)), open_root(str(folder)))
    convert_week(archive, WEEK, "", 1, lambda _listing: lambda _hour: None, print)
    return folder / FILE


@pytest.fixture(scope="module")
def text(week: Path) -> bytes:
    """All lines."""
    data = gzip.decompress(week.read_bytes())
    assert data.count(b"\n") == FIRST_LINES + LAST_LINES
    return data


# gzip


def test_python_reads_all_of_it_with_one_decompressobj(week: Path, text: bytes) -> None:
    stream = zlib.decompressobj(wbits=31)
    assert stream.decompress(week.read_bytes()) == text
    assert stream.eof


@pytest.mark.parametrize(
    "command", [["zcat"], ["gzip", "-dc"], pytest.param(["pigz", "-dc"], marks=needs("pigz"))]
)
def test_commands_read_all_of_it(week: Path, text: bytes, command: list[str]) -> None:
    assert subprocess.run([*command, week], capture_output=True, check=True).stdout == text


def test_gzip_l_tells_its_size(week: Path, text: bytes) -> None:
    said = subprocess.run(["gzip", "-l", week], capture_output=True, check=True).stdout.split()
    assert [int(said[-4]), int(said[-3])] == [week.stat().st_size, len(text)]


JAVA = """
import java.io.*;
import java.util.zip.GZIPInputStream;

class Lines {
    /** As a network's: short pieces, between which nothing is available. */
    static class Network extends FilterInputStream {
        Network(InputStream in) { super(in); }
        @Override public int available() { return 0; }
        @Override public int read(byte[] to, int at, int length) throws IOException {
            return super.read(to, at, Math.min(length, 1400));
        }
    }

    public static void main(String[] file) throws IOException {
        InputStream network = new Network(new FileInputStream(file[0]));
        byte[] buffer = new byte[1 << 16];
        long lines = 0;
        try (InputStream in = new GZIPInputStream(network)) {
            for (int length; (length = in.read(buffer)) > 0;)
                for (int at = 0; at < length; at++)
                    if (buffer[at] == '\\n') lines++;
        }
        System.out.println(lines);
    }
}
"""


@needs("javac")
def test_java_reads_all_of_it_from_a_stream_that_has_nothing_available(
    week: Path, text: bytes, tmp_path: Path
) -> None:
    (tmp_path / "Lines.java").write_text(JAVA)
    ran = subprocess.run(
        ["java", tmp_path / "Lines.java", week], capture_output=True, text=True, timeout=120
    )
    assert (ran.stdout.strip(), ran.stderr) == (str(text.count(b"\n")), "")


@needs("perl")
def test_perl_reads_all_of_it_without_being_told_of_members(week: Path, text: bytes) -> None:
    program = (
        "use IO::Uncompress::Gunzip; my $in = IO::Uncompress::Gunzip->new($ARGV[0]); "
        "my $lines = 0; $lines++ while <$in>; print $lines"
    )
    ran = subprocess.run(["perl", "-e", program, week], capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr) == (str(text.count(b"\n")), "")


def test_such_readers_stop_early_in_a_file_of_members() -> None:
    """Else the tests above would show nothing."""
    members = gzip.compress(b"first\n") + gzip.compress(b"second\n")
    assert zlib.decompressobj(wbits=31).decompress(members) == b"first\n"


# Columns


def value(found: object) -> object:
    """As JSON has it: what a frame has in place of null, and its own kinds of numbers."""
    if isinstance(found, list | dict):
        return found
    if found is None or found != found or type(found).__name__ == "NAType":
        return None
    item = getattr(found, "item", None)
    return item() if item is not None else found


def must_have_all(
    rows: list[dict[str, Any]], columns: list[str], of_two_kinds: Callable[[object], object]
) -> None:
    """Every value of every record; `of_two_kinds` says what becomes of one of such a column."""
    assert len(rows) == FIRST_LINES + LAST_LINES
    for row in rows:
        expected = record(row["vehicleID"])
        expected["routeNumber"] = of_two_kinds(expected["routeNumber"])
        assert {name: value(row[name]) for name in columns} == {
            name: expected.get(name) for name in columns
        }
    assert {row["vehicleID"] for row in rows} == set(range(FIRST_LINES + LAST_LINES))


ALL = [*record(0), "platform", "stops"]


def examples(language: str) -> list[str]:
    """The README's examples of how to read week files, in their order."""
    section = (PROJECT / "README.md").read_text().partition("\n## What comes out\n")[2]
    section = section.partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def test_duckdb_finds_every_column_and_value(week: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(week.parent)
    [query] = examples("sql")
    routes = duckdb.sql(query.strip().rstrip(";")).fetchall()
    assert {json.loads(route) for route, _ in routes} == {*range(9), "7-A"}
    [file] = re.findall(r"read_json\(.*?\)", query)
    columns = ", ".join(ALL)
    result = duckdb.sql(
        f"SELECT {columns}, epoch(snapshot_time)::BIGINT % 7200 AS time FROM {file}"
    )
    rows = [dict(zip(result.columns, row, strict=True)) for row in result.fetchall()]
    must_have_all(rows, ALL, of_two_kinds=json.dumps)
    assert {row["time"] for row in rows} == {5, 65, 125, 185, 3605}


@pytest.fixture
def frames(week: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the README's example for polars, pandas and pyarrow makes."""
    monkeypatch.chdir(week.parent)
    names: dict[str, Any] = {}
    [example] = [one for one in examples("python") if "polars" in one]
    exec(example, names)
    return names


def test_polars_finds_every_column_and_value(frames: dict[str, Any]) -> None:
    must_have_all(frames["frame"].to_dicts(), ALL, of_two_kinds=str)


def test_pandas_finds_every_column_and_value(frames: dict[str, Any]) -> None:
    columns = [name for name in ALL if name != "platform"]
    rows = frames["data"].to_dict("records")
    must_have_all(rows, columns, of_two_kinds=lambda route: route)
    # The README says that those lose digits.
    large = {record(row["vehicleID"]).get("platform"): value(row["platform"]) for row in rows}
    assert all(one is None or abs(one - large[one]) <= 1 for one in large)


def test_pyarrow_finds_every_column_and_value_that_it_is_told_of(frames: dict[str, Any]) -> None:
    table = frames["table"]
    columns = list(frames["columns"])
    assert table.column_names == columns
    rows = table.to_pylist()
    must_have_all(rows, columns[:-1], of_two_kinds=str)
    assert {row["snapshot_time"].isoformat()[:17] for row in rows} == {
        "2021-11-08T00:00:",
        "2021-11-08T00:01:",
        "2021-11-08T00:02:",
        "2021-11-08T00:03:",
        "2021-11-08T01:00:",
    }


def test_pyarrow_says_so_where_a_column_is_not_what_it_is_told(frames: dict[str, Any]) -> None:
    import pyarrow

    wrong = {"routeNumber": pyarrow.int64()}, {"delay": pyarrow.int64()}
    for columns in wrong:
        options = pyarrow.json.ParseOptions(
            explicit_schema=pyarrow.schema(columns), unexpected_field_behavior="ignore"
        )
        with pytest.raises(pyarrow.ArrowInvalid):
            pyarrow.json.read_json(FILE, parse_options=options)
    assert "routeNumber" not in frames["columns"]


KINDS = [
    (True, 1),
    (1, True),
    (1.5, True),
    (1, 1.5),
    (True, "x"),
    (1, "7-A"),
    ("2021-11-08", "7"),
    ({"a": 1}, 1),
    ({"a": 1}, {"b": 2}),
    ([1], ["x"]),
    (1, (1 << 63) + 1),
    (None, {"a": [None, 1]}),
]


def read_by(reader: str) -> Callable[[], object]:
    """What reads the last value of a file in the way of the README's example."""
    if reader == "duckdb":
        [file] = re.findall(r"read_json\(.*?\)", examples("sql")[0])
        query = f"SELECT to_json(value) FROM {file} WHERE vehicleID = {FIRST_LINES}"
        return lambda: json.loads(duckdb.sql(query).fetchall()[0][0])
    [example] = [one for one in examples("python") if "polars" in one]
    pattern = {"polars": r"polars\.read_ndjson\(.*?\)", "pandas": r"pandas\.read_json\(.*?\n\)"}
    [call] = re.findall(pattern[reader], example, re.DOTALL)
    names: dict[str, Any] = {"polars": polars, "pandas": pandas}
    if reader == "polars":
        return lambda: eval(call, names).row(-1, named=True)["value"]
    return lambda: value(eval(call, names)["value"].iloc[-1])


@pytest.mark.parametrize("reader", ["duckdb", "polars", "pandas"])
def test_no_change_of_kind_changes_a_value_without_a_word(
    reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what JSON says, or text of it, or there is an error."""
    monkeypatch.chdir(tmp_path)
    errors = 0
    for early, late in KINDS:
        records = [{"vehicleID": number, "value": early} for number in range(FIRST_LINES)]
        records.append({"vehicleID": FIRST_LINES, "value": late})
        lines = "".join(json.dumps(one) + "\n" for one in records)
        (tmp_path / FILE).write_bytes(gzip.compress(lines.encode(), 1))
        try:
            found = read_by(reader)()
        except Exception:  # whatever the library calls it
            errors += 1
            continue
        if isinstance(found, dict):  # columns of all names
            found = {name: one for name, one in found.items() if one is not None}
        assert (type(found), found) == (type(late), late), f"{early!r}, then {late!r}"
    assert errors < len(KINDS) // 2


def test_awswrangler_reads_weeks_and_nothing_beside_them(raw_side: Path, bucket: str) -> None:
    for path in (raw_side / "raw").iterdir():
        open_root(bucket).write(f"raw/{path.name}", path.read_bytes())
    archive = Archive(load(), open_root(bucket), open_root(f"{bucket}/v2"))
    convert_week(archive, WEEK, "", 1, lambda _listing: lambda _hour: None, print)
    assert archive.destination.find(manifests.key_of(WEEK)) is not None
    [example] = [one for one in examples("python") if "awswrangler" in one]
    names: dict[str, Any] = {}
    exec(example.replace("s3://bustimes-data/v2/", f"{bucket}/v2/"), names)
    columns = [name for name in ALL if name != "platform"]
    must_have_all(names["weeks"].to_dict("records"), columns, lambda route: route)


def test_the_readmes_other_examples_read_a_week_file(
    week: Path, text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(week.parent)
    by_line, by_hour, _, _ = examples("python")
    names: dict[str, Any] = {"found": []}
    exec(by_line + "        found.append(record)\n", names)
    assert names["found"] == [json.loads(line) for line in text.splitlines()]
    exec(by_hour, names)
    assert names["lines"] == text.splitlines()[:FIRST_LINES]
