"""What Python 2 printed is read as it meant it: held against what a real Python 2.7 says.

`python2_answers.tsv` has its answers, and tells how it was made. Each goes through the kernel, the
thorough reader and verify's own.
"""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from both_ways import read_records

from tasks.bustimes.snapshot import Refused
from tasks.bustimes.verify.second_reader import NotRead, text_of, texts_of
from tests.conftest import PROJECT

ROWS = [
    line.split("\t")
    for line in (PROJECT / "tests/python2_answers.tsv").read_text().splitlines()
    if not line.startswith("#")
]
PRINTED = [(json.loads(text), json.loads(value)) for kind, text, value in ROWS if kind == "printed"]
READ = {json.loads(text): json.loads(value) for kind, text, value in ROWS if kind == "read"}

REFUSED = {
    # Only Python 3 prints these, so the u beside them cannot be.
    *(r"'\u00e9'", r"'\U0001f600'", r"'\u'"),
    # No Python prints these, though Python 2 reads them.
    *(r"'\400'", r"'\777'", r"'\N{DASH}'", r"u'\N{EM DASH}'", "'over \\\r\ntwo'"),
    *(r"b'\xc3\xa9'", "B'plain'", r"r'\xc3\xa9'", r"br'\xc3'", r"ur'\u0041'"),
    *("'a' 'b'", "u'a' 'b'", "'''three'''", "`1`"),
    *("00", "0777", "0777L", "0o17", "0x1F", "0x1FL", "0b1", "- 5", "+5", "1.", ".5", "05.5"),
    *("(1)", "(1,)", "{1, 2}", "[1,]", "{'a': 1,}", "1 # one", "not 1", "1 + 1", "1j"),
    # Its bytes are no text.
    *(r"'\xe9'", r"'\200'", r"'\377'"),
}
"""Sources that Python 2 reads, and that are refused all the same."""

READ_THOUGH_OTHERWISE = {"null", "true", "1e999"}
"""Words of JSON, which no Python reads, and a number that is kept though no double holds it."""


class NoText(Exception):
    """Bytes that are not UTF-8, or a value that JSON cannot hold."""


def meant(value: list[Any]) -> Any:
    """A value of the table, texts and bytes as UTF-16 and floats as their bits."""
    kind, *rest = value
    match kind:
        case "bytes":
            try:
                return "text", bytes.fromhex(rest[0]).decode().encode("utf-16-le")
            except UnicodeDecodeError:
                raise NoText from None
        case "text":
            text = "".join(map(chr, rest[0]))
            return "text", text.encode("utf-16-le", "surrogatepass")
        case "int" | "long":
            return "int", int(rest[0])
        case "float" if rest[0] not in ("inf", "nan"):
            return "float", struct.pack("d", float.fromhex(rest[0]))
        case "constant":
            return "constant", rest[0]
        case "list":
            return "list", [meant(one) for one in rest[0]]
        case "dict" if all(name[0] in ("text", "bytes") for name, _ in rest[0]):
            return "dict", [(meant(name), meant(one)) for name, one in rest[0]]
    raise NoText


def found(value: Any) -> Any:
    """The same of what JSON holds."""
    match value:
        case str():
            return "text", value.encode("utf-16-le", "surrogatepass")
        case bool() | None:
            return "constant", repr(value)
        case int():
            return "int", value
        case float():
            return "float", struct.pack("d", value)
        case list():
            return "list", [found(one) for one in value]
        case dict():
            return "dict", [(found(name), found(one)) for name, one in value.items()]
    raise TypeError(value)


def read(body: str, setting: str = "") -> list[Any]:
    """The field `a` of every record, by all readers; raises `Refused`."""
    records = read_records(body.encode(), setting).records
    texts = [text_of(record) or b"" for record in records]
    assert sorted(texts_of(body.encode(), setting)) == sorted(texts)
    return [found(json.loads(record)["a"]) for record in records]


def parted(rows: list[tuple[str, list[Any]]]) -> tuple[dict[str, Any], list[str]]:
    """What is printed of values that JSON can hold, with those; and of others."""
    good, bad = {}, []
    for text, value in rows:
        try:
            good[text] = meant(value)
        except NoText:
            bad.append(text)
    return good, bad


@pytest.mark.parametrize("setting", ["", "utf-8", "code-points"])
def test_what_python_2_prints_is_read_as_it_was(setting: str) -> None:
    """A body with a mark of Python 2 needs no setting, and heeds none."""
    good, _ = parted(PRINTED)
    body = ", ".join(f"{{u'a': {text}}}" for text in good)
    assert read(f"[{body}]", setting) == list(good.values())


def test_bytes_that_are_no_text_and_values_that_json_cannot_hold_are_refused() -> None:
    _, bad = parted(PRINTED)
    assert len(bad) > 128  # every byte above ASCII alone
    for text in bad:
        body = f"[{{u'a': {text}}}]"
        with pytest.raises(Refused) as refused:
            read(body)
        is_bytes = text[0] in "'\""
        assert ("holds bytes, as in Python 2, that are not UTF-8" in str(refused.value)) == is_bytes
        with pytest.raises(NotRead):
            texts_of(body.encode())


def test_without_a_mark_the_setting_says_that_bytes_are_utf_8() -> None:
    good, bad = parted([row for row in PRINTED if row[1][0] == "bytes"])
    body = ", ".join(f"{{'a': {text}}}" for text in good)
    assert read(f"[{body}]", "utf-8") == list(good.values())
    for text in bad:
        with pytest.raises(Refused, match="holds bytes, as in Python 2, that are not UTF-8"):
            read(f"[{{'a': {text}}}]", "utf-8")


def test_a_source_is_read_as_python_2_reads_it_or_refused() -> None:
    refused = set()
    for source, value in READ.items():
        try:
            [outcome] = read(f"[{{u'a': {source}}}]")
        except Refused:
            refused.add(source)
            continue
        if source not in READ_THOUGH_OTHERWISE:
            assert outcome == meant(value), source
    in_error = {source for source, value in READ.items() if value[0] == "error"}
    assert refused == (REFUSED | in_error) - READ_THOUGH_OTHERWISE


def test_the_table_tells_how_it_was_made() -> None:
    header = Path(PROJECT / "tests/python2_answers.tsv").read_text().splitlines()[:2]
    assert "make_python2_answers.py" in header[0]
    assert "CPython 2.7" in header[1]
