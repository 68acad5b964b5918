"""Makes the conversion kernel from its sources: `make kernel`, for those who change it.

`tasks/bustimes/kernel/kernel.wasm` is built, not written, and kept in the repo so that nobody needs
a compiler to use it. `build` compiles the C files beside it with one pinned compiler (Zig's clang,
a wheel), for which the same sources give the same bytes on every machine, and writes the sources'
digest into it; a test holds it to both. Nothing here runs in a conversion.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tasks.bustimes.kernel import FOLDER, WASM, digest_of_sources, section

_FLAGS = [
    "-target", "wasm32-freestanding", "-std=c11", "-O3", "-msimd128", "-mbulk-memory",
    "-nostdlib", "-fno-sanitize=all", "-Wall", "-Wextra", "-Werror", "-g0",
    "-Wl,--no-entry", "-Wl,--strip-all", "-Wl,-z,stack-size=262144",
]  # fmt: skip


def build(target: Path) -> None:
    """Compile the kernel to `target`; raises `CalledProcessError` with the compiler's words out."""
    sources = [str(path) for path in sorted(FOLDER.glob("*.c"))]
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "kernel.wasm"
        subprocess.run(
            [sys.executable, "-m", "ziglang", "cc", *_FLAGS, "-o", str(made), *sources],
            check=True,
            cwd=FOLDER,
        )
        target.write_bytes(made.read_bytes() + section(digest_of_sources()))


if __name__ == "__main__":
    build(WASM)
    print(f"{WASM.name}: {WASM.stat().st_size / 1000:.1f} KB, from {digest_of_sources()[:12]}.")
