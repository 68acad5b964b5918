"""Standard input, output and error of this process: there, and able to take any text.

A shell, cron or a supervisor may have closed any of them (`>&-`), and where the locale is not
UTF-8 they refuse characters that names and sentences may hold. `prepare` is called before anything
is opened: a file must not get the number of a closed stream.
"""

import contextlib
import io
import os
import sys


def prepare() -> None:
    """Open what is closed on the null device, and have no character refused."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed; open() takes the lowest number that is free
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
