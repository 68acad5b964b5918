"""The conversion kernel with checks and counters compiled in, to be searched for faults.

`build` makes it from the same C files as `ops.kernel` does, with the same compiler (which `make
kernel` installs). Undefined behaviour, reading or writing past the end of an array that the
compiler knows, and arithmetic that leaves its type trap; every edge of the code is counted. The
functions of `_WRAPS` count modulo 2^32 or 2^64 on purpose.

`CheckedKernel` makes it harder still: memory is filled with rubbish before each hour, so that a
byte that was never written shows; and now and then everything starts afresh with memory that
ends just behind what was asked for, so that a write beyond it traps.
"""

import ctypes
import importlib.util
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import wasmtime

from tasks.bustimes import kernel
from tasks.bustimes.kernel import FOLDER, Kernel

_PAGE = 65536
_AFRESH_EVERY = 8
_RUBBISH = (0xFF, 0x5A, 0x22, 0x7D)  # the last two are a quote and a brace
_MOST_RUBBISH = 1 << 20
_WRAPS = ("hash_of", "comma", "code_lengths")
_FLAGS = [
    *("-target", "wasm32-freestanding", "-std=c11", "-O2", "-msimd128", "-mbulk-memory"),
    *("-nostdlib", "-g0", "-Wl,--no-entry", "-Wl,-z,stack-size=262144"),
    *("-fsanitize=undefined", "-fsanitize-trap=undefined"),
    *("-Xclang", "-fsanitize=unsigned-integer-overflow"),
    *("-Xclang", "-fsanitize-trap=unsigned-integer-overflow"),
    *("-fsanitize-coverage=inline-8bit-counters", "-Wl,--export=__wasm_call_ctors"),
]
# What the compiler's checks and counters call: where the counters are, and 128-bit products.
_SUPPORT = r"""
typedef unsigned long long u64;
typedef struct { u64 low, high; } Wide;
#define UNCHECKED __attribute__((no_sanitize("coverage", "undefined", "unsigned-integer-overflow")))
#define EXPORT(name) __attribute__((export_name(#name))) UNCHECKED
static unsigned char *first, *last;
UNCHECKED void __sanitizer_cov_8bit_counters_init(unsigned char *begin, unsigned char *end) {
    first = begin;
    last = end;
}
EXPORT(counters_at) unsigned char *counters_at(void) { return first; }
EXPORT(counters_size) unsigned counters_size(void) { return (unsigned)(last - first); }
UNCHECKED void __multi3(Wide *product, u64 a, u64 a_high, u64 b, u64 b_high) {
    u64 a0 = a & 0xFFFFFFFF, a1 = a >> 32, b0 = b & 0xFFFFFFFF, b1 = b >> 32;
    u64 middle = (a0 * b0 >> 32) + (a0 * b1 & 0xFFFFFFFF) + (a1 * b0 & 0xFFFFFFFF);
    product->low = middle << 32 | (a0 * b0 & 0xFFFFFFFF);
    product->high =
        a1 * b1 + (a0 * b1 >> 32) + (a1 * b0 >> 32) + (middle >> 32) + a * b_high + a_high * b;
}
"""


def build(target: Path) -> None:
    """Compile the checked kernel to `target`; raises `CalledProcessError`."""
    with tempfile.TemporaryDirectory() as folder:
        support, ignored = Path(folder, "support.c"), Path(folder, "ignored")
        support.write_text(_SUPPORT)
        ignored.write_text(
            "[unsigned-integer-overflow]\n" + "".join(f"fun:{name}\n" for name in _WRAPS)
        )
        sources = [str(path) for path in (*sorted(FOLDER.glob("*.c")), support)]
        exempt = ["-Xclang", f"-fsanitize-ignorelist={ignored}"]
        made = Path(folder, "kernel.wasm")
        subprocess.run(
            [*(sys.executable, "-m", "ziglang", "cc"), *_FLAGS, *exempt, "-o", made, *sources],
            check=True,
        )
        made.replace(target)


class CheckedKernel(Kernel):
    """A `Kernel` from the file that `build` made."""

    def __init__(self, wasm: Path, seed: int = 0) -> None:
        self._module = wasmtime.Module(kernel.engine(), wasm.read_bytes())
        self._chance = random.Random(seed)
        self._hours = 0
        self._start()

    def begin(self, largest_body: int, snapshots: int) -> None:
        self._hours += 1
        if self._hours % _AFRESH_EVERY == 0:
            counted = self.counters()
            self._start()
            self._write(self._counters_at, counted)
            largest_body += self._chance.randrange(_PAGE)
        room = min(_MOST_RUBBISH, self._memory.data_len(self._store) - self._heap)
        ctypes.memset(self._pointer(self._heap), self._chance.choice(_RUBBISH), room)
        super().begin(largest_body, snapshots)

    def counters(self) -> bytes:
        """How often each edge was taken since `forget`, modulo 256."""
        return self._read(self._counters_at, self._counters_size)

    def forget(self) -> None:
        """Set all counters to nought."""
        ctypes.memset(self._pointer(self._counters_at), 0, self._counters_size)

    def _start(self) -> None:
        super().__init__(self._module)
        self._call("__wasm_call_ctors")
        self._counters_at = self._call("counters_at")
        self._counters_size = self._call("counters_size")
        self._heap = self._needed("begin", 0, 0)  # where the first byte of an hour would lie


def is_possible() -> bool:
    """Whether the compiler is there."""
    return importlib.util.find_spec("ziglang") is not None
