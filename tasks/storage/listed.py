"""What to say of an object that is no more what was listed, or cannot be read: sentences only."""

from tasks.problem import Problem


class Unreadable(Problem):
    """One object that is not to be had (gone, denied, archived); others may well be."""


class CredentialsExpired(Problem):
    """Credentials that were good once; with fresh ones the same will work."""


def gone(place: str) -> Problem:
    """For an object, by its full address, that has been removed since."""
    return Unreadable(
        f"{place} was listed but is gone now. Nothing was written for its week; run it again, and "
        "the week is listed afresh."
    )


def changed(place: str) -> Problem:
    """For an object, by its full address, that has been written since."""
    return Unreadable(
        f"{place} was replaced while its week was converted. Nothing was written for its week; run "
        "it again, and the week is listed afresh."
    )
