"""Inputs that once were read wrong, or made trouble: what a search has found stays found."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from both_ways import converted, read_records

from ops.fuzz.search import fault_of
from ops.fuzz.worker import all_targets
from tasks.bustimes import json_records, python_repr, snapshot
from tasks.bustimes.hour import LONGEST_NAMES, MOST_NAMES
from tasks.bustimes.snapshot import Refused


def new_fields(count: int) -> str:
    return ",".join(f'{{"f{number}":1}}' for number in range(count))


BODIES = {
    # The kernel knew of a field how it had begun before it knew whether there was room for it.
    "one field more than are counted, and the last one again": (
        f'[{new_fields(256)},{{"vehicleID":7}},{{"f255":3}},{{"f255":900}}]'
    ),
    "a field in place of another, and that one again": '[{"a":1},{"vehicleID":"x"},{"a":5}]',
    "names that end early": '[{"a":1},{"a\\u0041":2},{"a":3},{"a" 4},{"a":5}]',
    # Python's way for records that are many
    "JSON after repr": """[{"a":1},{'b':1},{},{},{}]""",
    "a list after half a surrogate": '[{"a":"\\ud800"},[]]',
    "behind half a surrogate": '[{"a":"\\ud800"}] x',
    "a comma behind half a surrogate": '[{"a":"\\ud800"},]',
    "nothing behind half a surrogate": '[{"a":"\\ud800"},',
    "half a surrogate in a name": '[{"\\ud800":1,"vehicleID":[1,"\\ud801",1e400,12345678901]}]',
    "a vehicle that is half a surrogate": '[{"vehicleID":"\\ud800"},{"vehicleID":"\\ud801"}]',
    "two vehicles in one": '[{"vehicleID":1,"vehicleID":"x"},{"vehicleID":"x","vehicleID":1}]',
    "a vehicle in disguise": '[{"vehicle\\u0049D":5},{"vehicleID":3}]',
    "a time in disguise": '[{"snapshot\\u005ftime":5}]',
    "a time behind half a surrogate": '[{"a":"\\ud800","snapshot_time":1}]',
    "empty": "[{},{},{}]",
}


DEEP = b"[" * 100_000
INPUTS = {
    "manifests": [DEEP, b'{"version":2,"week":"\\ud800"}', b'{"version":2,"week":' + DEEP],
    "records": [DEEP, b"../x\t5\te\t1\n", b"raw/../../x\t5\te\t1\n"],
    "kept files": [
        *(DEEP, b'{"bytes_a_second_and_core":Infinity}', b'{"bytes_a_second_and_core":-1}'),
        *(b'{"bytes_a_second_and_core":1%s}' % (b"0" * 400), b'{"to_do":"x"}', b'{"running":[]}'),
    ],
    # A status, an operation (5 reads), headers and a body: boto3 raises a kind of error for each.
    "answers": [
        *(b"\x00\x05", b"\x00\x03", b"\x00\x05\x1eETag: e\nx-amz-checksum-crc32:u"),
        *(b"\x0a\x05\x1ex-amz-checksum-crc32", b"\x05\x08\x1ex-amz-checksum-crc32:\x85"),
        *(b"\x00\x01\x1e\x1e<a>\xe7</b>", b"\x00\x05\x1eETag: e\nLast-Modified: :"),
        b"\x00\x01\x1e\x1e<a><Contents><Size>1</Size><Size>2</Size></Contents></a>",
    ],
}


@pytest.mark.parametrize(("name", "data"), [(name, one) for name in INPUTS for one in INPUTS[name]])
def test_it_is_understood_or_a_sentence_says_that_it_is_not(name: str, data: bytes) -> None:
    assert fault_of(all_targets()[name], data) == ""


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_the_kernel_reads_it_as_python_does(body: str) -> None:
    with contextlib.suppress(Refused):
        read_records(body.encode())  # which compares them


def test_every_name_that_is_counted_is_text_and_they_are_not_too_many() -> None:
    """Names go into the manifest, which is UTF-8, and which everybody reads."""
    half = '{"\\ud800":1,"vehicleID":"x"}'
    made_up = ",".join(f'{{"n{number}":1,"vehicleID":"x"}}' for number in range(1000))
    long = f'{{"{"n" * 100_000}":1,"vehicleID":"x"}}'
    hour = converted(f"[{half},{made_up},{long}]".encode())
    assert hour.lines == 1002
    assert json.dumps(hour.fields, ensure_ascii=False).encode()
    assert hour.fields["\\ud800"] == {"integer": 1}
    assert hour.fields["vehicleID"] == {"text": 1002}
    assert len(hour.fields) <= 2 * MOST_NAMES
    assert sum(map(len, hour.fields)) <= 2 * LONGEST_NAMES


@pytest.mark.parametrize(
    ("record", "fields"),
    [
        (b"{}", {}),
        (b'{"a":1,"b":[1,{}]}', {"a": b"1", "b": b"[1,{}]"}),
        (b'{"a":1,"a":-2.5e3}', {"a": b"-2.5e3"}),
        (b'{"a":"\\ud800","b":[1,"\\udc00",{}],"c":1e400}', None),
        (b'{"\\ud800":7,"b":12345678901234567890}', None),
    ],
)
def test_the_fields_of_a_record_are_its_values_as_they_stand(
    record: bytes, fields: dict[str, bytes] | None
) -> None:
    found = snapshot.fields_of(record)
    if fields is not None:
        assert found == fields
    read: dict[str, Any] = json.loads(record)
    assert [json.loads(value) for value in found.values()] == list(read.values())
    assert all(name.encode() for name in found)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        *(("null", "null"), ("true", "boolean"), ("false", "boolean"), ("-0", "integer")),
        *(("1.0", "number"), ("1e5", "number"), ("1E5", "number"), ('"1"', "text")),
        *(("[]", "list"), ("{}", "object"), ("9" * 50, "integer")),
    ],
)
def test_python_and_the_kernel_agree_on_what_kind_of_value_it_is(value: str, kind: str) -> None:
    assert snapshot.kind_of(value.encode()) == kind
    by_kernel = converted(f'[{{"a":{value}}}]'.encode()).fields["a"]
    by_python = converted(f'[{{"a":{value},"vehicleID":"x"}}]'.encode()).fields["a"]
    assert by_kernel == by_python == {kind: 1}


def test_what_is_left_of_a_large_text_is_as_much_as_there_was() -> None:
    """`to_json` and `split` go through long texts bit by bit."""
    texts = [f"it's {number} \\ \" é" for number in range(2000)]
    records = [{"a": text, "vehicleID": "x"} for text in texts]
    body = repr(records).encode()
    escapes = python_repr.Escapes(body, "")
    assert json.loads(python_repr.to_json(body, escapes)) == records
    half = json.dumps([*records, {"a": "\ud800"}]).encode()
    assert [json.loads(one) for one in json_records.split(half)][:-1] == records


def test_a_body_longer_than_was_said_is_written_over_nothing(tmp_path: Path) -> None:
    from tasks.bustimes.kernel import LONGEST_LINE_END, Kernel

    kernel = Kernel()
    kernel.begin(10, 2)
    with pytest.raises(ValueError, match="a line end is longer than there is room for"):
        kernel.open(b"[]", b"x" * (LONGEST_LINE_END + 1), is_repr=False)
    for body in (b'[{"a":1}]', b'[{"a":"' + b"x" * 100_000 + b'"}]'):
        kernel.open(body, b"}\n", is_repr=False)
    kernel.sort(by_vehicle=True)
    assert kernel.lines() == b'{"a":1}\n{"a":"' + b"x" * 100_000 + b'"}\n'
    with pytest.raises(ValueError, match="more snapshots than"):
        kernel.open(b"[]", b"}", is_repr=False)
    assert not list(tmp_path.iterdir())
