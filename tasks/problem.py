"""The one kind of error a person is meant to read.

A `Problem` says what happened, to which object, and what to do about it, in plain sentences.
Whoever catches one prints it without a traceback; every other exception is a fault of ours and
keeps its traceback. What it says of a library's words it says without secrets.
"""

from tasks import secrets


class Problem(Exception):
    """Something a person can act on; ``str()`` of it is the whole message."""

    def __str__(self) -> str:
        return secrets.without(super().__str__())
