"""Figures as people read them: bytes, counts, durations and rates, each with its unit."""

import datetime as dt


def size(count: float) -> str:
    """Bytes in units of 1,000, as S3's prices are: ``1.9 GB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return (
                f"{count:,.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
            )
        count /= 1000
    return f"{count:,.1f} TB"


def count(number: int, noun: str) -> str:
    """A number with its noun in the right form: ``1 week``, ``2,000 weeks``."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """``12.3 s``, or ``1:02:03`` from a minute on."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return str(dt.timedelta(seconds=round(seconds)))


def ratio(before: float, after: float) -> str:
    """``15.8 to 1``."""
    return f"{before / after:.1f} to 1" if after else "nothing"
