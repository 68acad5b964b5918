"""Figures and other people's texts as the page shows them."""

import math
import unicodedata

_LONGEST = 300
_SHAPELESS = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Categories of characters that nobody sees: controls, directions, half surrogates."""


def shown(text: str, longest: int = _LONGEST) -> str:
    """Somebody else's text, shortened to so many characters, and all of it to be seen."""
    return visible(text if len(text) <= longest else f"{text[: longest - 1]}…")


def visible(text: str) -> str:
    """A text with what changes the text around it, or has no shape at all, as ``\\u202e``."""
    return "".join(
        f"\\u{ord(one):04x}" if unicodedata.category(one) in _SHAPELESS else one for one in text
    )


def number(value: int | None) -> str:
    """``2,870,380``; nothing where it is not known."""
    return "" if value is None else f"{value:,}"


def about(value: int) -> str:
    """``4.84 million``; exact below a million."""
    for unit, name in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:,}"


def percent(share: float) -> str:
    """Cut off and not rounded: only all of it is 100 %."""
    if 0 < share < 1:
        return f"{math.floor(share * 1000) / 10:.1f} %"
    return f"{share * 100:,.0f} %"
