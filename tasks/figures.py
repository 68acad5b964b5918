"""Figures as people read them: bytes, counts, durations and rates, each with its unit."""


def size(count: float) -> str:
    """Bytes in units of 1,000, as S3's prices are: ``1.9 GB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if round(abs(count)) < 1000:
            digits = 0 if unit == "bytes" or round(abs(count), 1) >= 100 else 1
            return f"{count:,.{digits}f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def money(dollars: float) -> str:
    """``$19.20``; what is less than half a cent is not nothing."""
    return "<$0.01" if 0 < dollars < 0.005 else f"${dollars:,.2f}"


def rate(count: float) -> str:
    """Bytes a second: ``100 MB/s``."""
    return f"{size(count)}/s"


def count(number: int, noun: str) -> str:
    """A number with its noun in the right form: ``1 week``, ``2,000 weeks``."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """Its two largest units: ``12.3 s``, ``3 min 1 s``, ``1 h 2 min``, ``2 days 3 h``."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    if round(seconds) < 3600:
        return _two(round(seconds), 60, "min", "s")
    if round(seconds / 60) < 24 * 60:
        return _two(round(seconds / 60), 60, "h", "min")
    hours = round(seconds / 3600)
    return _two(hours, 24, "day" if hours < 48 else "days", "h")


def _two(number: int, of: int, large: str, small: str) -> str:
    many, few = divmod(number, of)
    return f"{many:,} {large} {few} {small}" if few else f"{many:,} {large}"


def ratio(before: float, after: float) -> str:
    """``15.8 to 1``."""
    return f"{before / after:.1f} to 1" if after else "nothing"
