"""Commands of make to copy into a shell: what was meant arrives, whatever characters it has."""

import shlex
from collections.abc import Mapping


def make_command(target: str, given: Mapping[str, str]) -> str:
    """``make TARGET NAME=value …``; options that are empty are left out.

    Quoted for the shell alone: the Makefile takes values as they were typed, ``$`` included.
    """
    words = [f"{name}={shlex.quote(value)}" for name, value in given.items() if value]
    return " ".join(["make", target, *words])
