"""What the kernel promises: its bytes come from its sources, are gzip, and are always the same.

That it reads what Python reads, and orders it, is held in `test_snapshot` and `test_hour` by
`both_ways`.
"""

import contextlib
import importlib.util
import itertools
import json
import random
import zlib
from pathlib import Path

import deflate
import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from ops.kernel import build
from tasks import compression
from tasks.bustimes import kernel as kernel_module
from tasks.bustimes.kernel import (
    NOT_READ,
    ODD,
    READ,
    WASM,
    Kernel,
    OutOfMemory,
    digest_of_sources,
    section,
)

END = b',"snapshot_time":"2021-11-08T00:00:05+00:00"}\n'
LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage")
needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None,
    reason="needs the compiler that make kernel installs",
)


def hour_of(bodies: list[bytes], kernel: Kernel | None = None, by_vehicle: bool = True) -> Kernel:
    kernel = kernel or Kernel()
    kernel.begin(max(map(len, bodies)), len(bodies))
    for body in bodies:
        assert kernel.open(body, END, is_repr=False) == READ
    kernel.sort(by_vehicle)
    return kernel


def body_of(records: list[dict[str, object]]) -> bytes:
    return json.dumps(records).encode()


def plain_hour(seed: int = 1, snapshots: int = 6, vehicles: int = 40) -> list[bytes]:
    """Vehicles that move: most fields stay, some digits change."""
    chance = random.Random(seed)
    state = {
        vehicle: {"vehicleID": vehicle, "sign": f"{vehicle % 7} to the east", "delay": 0, "at": 1.5}
        for vehicle in chance.sample(range(100, 9000), vehicles)
    }
    bodies = []
    for minute in range(snapshots):
        for record in state.values():
            record["delay"] = chance.randint(-300, 300)
            record["at"] = round(45 + chance.random(), 7)
            record["time"] = 1636588800000 + 60_000 * minute + chance.randint(0, 999)
            if chance.random() < 0.05:
                record["sign"] = f"{chance.randint(1, 99)} to the west"
        bodies.append(body_of(list(state.values())))
    return bodies


@needs_compiler
def test_the_compiled_kernel_is_what_its_sources_give(tmp_path: Path) -> None:
    made = tmp_path / "kernel.wasm"
    build(made)
    assert made.read_bytes() == WASM.read_bytes(), "run make kernel and commit kernel.wasm"


def test_the_compiled_kernel_was_made_of_the_sources_beside_it() -> None:
    assert WASM.read_bytes().endswith(section(digest_of_sources())), "run make kernel"


def test_the_kernel_asks_for_nothing_from_outside() -> None:
    engine = wasmtime.Engine()
    assert wasmtime.Module(engine, WASM.read_bytes()).imports == []


def shapes() -> dict[str, list[bytes]]:
    """Hours whose text is as unlike bus positions as can be, or larger than each buffer."""
    chance = random.Random(7)
    noise = "".join(map(chr, range(0x20, 0x7F)))
    numbers = range(400)

    def records(*texts: str) -> list[dict[str, object]]:
        return [{"vehicleID": number % 9, "a": text} for number, text in enumerate(texts)]

    fibonacci = [1, 1]
    while sum(fibonacci) < 300_000:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    skewed = list(
        itertools.chain.from_iterable(
            noise[3 + place] * times for place, times in enumerate(fibonacci)
        )
    )
    chance.shuffle(skewed)
    skewed_text = "".join(skewed).replace('"', "").replace("\\", "")
    return {
        "one record": [body_of([{"vehicleID": 1}])],
        "no fields": [b"[{}, {}]"],
        "bus positions": plain_hour(),
        "more than the window and its fresh text": plain_hour(2, 60, 200),
        "noise": [body_of(records(*("".join(chance.choices(noise, k=900)) for _ in numbers)))],
        "the same again and again": [body_of(records(*["x" * 700] * 400))] * 3,
        "one line longer than the window": [body_of(records("a" * 40_000, "b" + "a" * 40_000))] * 2,
        "one line longer than all buffers": [
            body_of(records("".join(chance.choices(noise, k=3_000_000)), "short"))
        ],
        "lines of the window's length": [
            body_of(records(*("q" * (32768 - 80 + length) for length in range(60))))
        ],
        "digits only": [
            body_of(records(*(str(chance.randrange(10**600)) for _ in numbers)))
        ],
        "codes longer than gzip has": [body_of(records(skewed_text))],
        "commas": [body_of(records(*("," * chance.randint(0, 900) for _ in numbers)))],
        "not ascii": [
            json.dumps(
                records(*("é’😀" * chance.randint(0, 99) for _ in numbers)), ensure_ascii=False
            ).encode()
        ],
    }  # fmt: skip


SHAPES = shapes()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("by_vehicle", [True, False])
def test_a_segment_holds_the_lines_for_every_reader(shape: str, by_vehicle: bool) -> None:
    kernel = hour_of(SHAPES[shape], by_vehicle=by_vehicle)
    lines = kernel.lines()
    assert len(lines) == kernel.lines_bytes
    segment, adler32 = kernel.segment()
    assert adler32 == zlib.adler32(lines)
    assert compression.checked_segment(segment, len(lines), adler32) == zlib.crc32(lines)
    must_hold(segment, lines)


def must_hold(segment: bytes, text: bytes) -> None:
    """Alone, and between others, of which the one before is text that could be referred to."""
    assert b"".join(compression.unpack_segment(segment, len(text), zlib.crc32(text))) == text
    alone = segment + compression.NO_MORE
    assert zlib.decompress(alone, wbits=-15) == text
    assert deflate.deflate_decompress(alone, len(text)) == text
    assert zlib.decompress(segment * 2 + alone, wbits=-15) == text * 3


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("level", [1, 6, 9])
def test_a_stream_of_libdeflates_becomes_a_segment(shape: str, level: int) -> None:
    kernel = hour_of(SHAPES[shape])
    lines = kernel.lines()
    stream = compression.deflate_stream(lines, level)
    segment = kernel.segment_of(stream)
    assert len(segment) <= len(stream) + 5
    must_hold(segment, lines)


@given(
    text=st.one_of(st.binary(max_size=300), st.text("ab01,", max_size=3000).map(str.encode)),
    again=st.integers(1, 300),
    level=st.integers(0, 9),
    strategy=st.sampled_from([zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED, zlib.Z_HUFFMAN_ONLY]),
    flush=st.booleans(),
)
def test_any_deflate_stream_becomes_a_segment(
    text: bytes, again: int, level: int, strategy: int, flush: bool
) -> None:
    """Of blocks of all three kinds, with codes that nobody uses, ending at any bit."""
    stream = zlib.compressobj(level, zlib.DEFLATED, -15, 1, strategy)
    parts = [stream.compress(text) + (stream.flush(zlib.Z_SYNC_FLUSH) if flush else b"")]
    parts += [stream.compress(text * again), stream.flush()]
    kernel = kernel_module.kernel()
    kernel.begin(0, 0)
    kernel.sort(by_vehicle=False)
    must_hold(kernel.segment_of(b"".join(parts)), text + text * again)


def test_what_is_no_whole_stream_becomes_no_segment() -> None:
    text = b"".join(plain_hour())
    stream = compression.deflate_stream(text, 6)
    kernel = hour_of(plain_hour())
    unfinished = zlib.compressobj(wbits=-15)
    sync = unfinished.compress(text) + unfinished.flush(zlib.Z_SYNC_FLUSH)
    stored = b"\x01\x05\x00\xfa\xff1234"
    for bad in (b"", stream[:-1], stream[:9], stream + b"\0", sync, stored, b"\x07", b"\xff" * 99):
        with pytest.raises(ValueError, match="no whole deflate stream"):
            kernel.segment_of(bad)
    must_hold(kernel.segment_of(stored + b"5"), b"12345")


@given(st.binary(max_size=200), st.data())
def test_bytes_of_any_kind_do_no_harm_to_who_makes_segments(
    noise: bytes, data: st.DataObject
) -> None:
    kernel = kernel_module.kernel()
    kernel.begin(0, 0)
    kernel.sort(by_vehicle=False)
    stream = bytearray(compression.deflate_stream(b"a stop, a stop and a stop" * 9 + noise, 6))
    at = data.draw(st.integers(0, len(stream) - 1))
    stream[at] ^= 1 << data.draw(st.integers(0, 7))
    for bad in (noise, bytes(stream)):
        with contextlib.suppress(ValueError):
            kernel.segment_of(bad)


def test_bytes_are_the_same_whatever_the_kernel_did_before() -> None:
    used = Kernel()
    for shape, bodies in SHAPES.items():
        again = hour_of(bodies, used).segment()
        assert again == hour_of(bodies).segment(), shape
        stream = compression.deflate_stream(used.lines(), 6)
        assert used.segment_of(stream) == hour_of(bodies).segment_of(stream), shape


def test_compresses_bus_positions_better_than_zlib_does() -> None:
    kernel = hour_of(plain_hour(3, 60, 40))
    assert len(kernel.segment()[0]) < len(zlib.compress(kernel.lines(), 6))


def test_a_record_that_is_left_out_is_named_and_can_be_put_in_its_place() -> None:
    kernel = Kernel()
    body = b'[{"vehicleID": 1}, {"vehicleID": "x"}, {"vehicleID": 2}]'
    kernel.begin(len(body), 1)
    assert kernel.open(body, END, is_repr=False) == ODD
    start, stop = kernel.odd_record()
    assert body[start:stop] == b'{"vehicleID": "x"}'
    address = kernel.add(b'{"vehicleID":"x"}', 0)
    assert kernel.read() == READ
    kernel.set_vehicle(address, 7)
    assert kernel.sort(by_vehicle=True) == [1, 2, 7]
    assert kernel.lines().splitlines()[2].startswith(b'{"vehicleID":"x",')


def test_a_snapshot_that_is_undone_leaves_nothing_behind() -> None:
    kernel = Kernel()
    good, bad = b'[{"vehicleID": 1, "a": null}]', b'[{"vehicleID": 2, "b": 1.5}, nothing'
    kernel.begin(99, 3)
    for body in (good, bad, good):
        if kernel.open(body, END, is_repr=False) == NOT_READ:
            kernel.undo()
    assert kernel.sort(by_vehicle=True) == [1]
    assert kernel.lines() == 2 * (b'{"vehicleID":1,"a":null' + END)
    assert kernel.fields() == {"vehicleID": {"integer": 2}, "a": {"null": 2}}


def test_fields_are_counted_by_kind() -> None:
    record = {"vehicleID": 1, "n": None, "b": True, "i": -3, "f": 1e5, "t": "é", "l": [1], "o": {}}
    kernel = hour_of([json.dumps([record, {"i": 2.5}], ensure_ascii=False).encode()])
    assert kernel.fields() == {
        "vehicleID": {"integer": 1},
        "n": {"null": 1},
        "b": {"boolean": 1},
        "i": {"integer": 1, "number": 1},
        "f": {"number": 1},
        "t": {"text": 1},
        "l": {"list": 1},
        "o": {"object": 1},
    }


def test_an_hour_that_memory_cannot_hold_says_so_and_the_next_one_is_read() -> None:
    kernel = Kernel()
    kernel._store.set_limits(memory_size=4 << 20)
    with pytest.raises(OutOfMemory):
        kernel.begin(5 << 20, 1)
    large = body_of([{"vehicleID": 1, "a": "x" * 900_000}] * 3)
    with pytest.raises(OutOfMemory):
        hour_of([large], kernel)
    small = [body_of([{"vehicleID": 1}])]
    assert hour_of(small, kernel).lines() == hour_of(small).lines()


def test_more_fields_than_the_kernel_counts_are_left_to_python() -> None:
    body = body_of([{"vehicleID": 1} | {f"f{number}": number for number in range(300)}])
    kernel = Kernel()
    kernel.begin(len(body), 1)
    assert kernel.open(body, END, is_repr=False) == ODD


def test_a_segment_that_does_not_hold_what_went_into_it_is_a_fault() -> None:
    kernel = hour_of(plain_hour())
    good, adler32 = kernel.segment()
    lines = kernel.lines()
    assert compression.checked_segment(good, len(lines), adler32) == zlib.crc32(lines)
    for bad in (b"", good[:-9], good[:12] + b"\xff" + good[13:]):
        with pytest.raises(RuntimeError, match="segment that was just made"):
            compression.checked_segment(bad, len(lines), adler32)
    for size, check in ((len(lines) - 1, adler32), (len(lines) + 1, adler32), (len(lines), 1)):
        with pytest.raises(RuntimeError, match="segment that was just made"):
            compression.checked_segment(good, size, check)


def test_one_kernel_serves_a_process() -> None:
    assert kernel_module.kernel() is kernel_module.kernel()


@pytest.mark.skipif(not LARGE_PAGES.exists(), reason="this system has no pages of 2 MB")
def test_a_kernel_asks_for_large_pages() -> None:
    def mappings_that_asked() -> int:
        lines = Path("/proc/self/smaps").read_text().splitlines()
        return sum("hg" in line.split() for line in lines if line.startswith("VmFlags:"))

    before = mappings_that_asked()
    kernel = Kernel()
    assert mappings_that_asked() > before
    assert hour_of([body_of([{"vehicleID": 1}])], kernel).records == 1
