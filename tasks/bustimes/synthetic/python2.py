"""What Python 2 printed: the ``repr`` of the plain values that snapshots are made of.

The module knows how 64-bit Python 2.7 wrote them and nothing of vehicles. It promises the text
that Python 2 gave, as ASCII, or a `TypeError` for a value of a type that it does not know. It never
reads such text: `tasks.bustimes.python_repr` does, and the two share no code.
"""

import re
import struct


class Long(int):
    """A whole number that Python 2 kept as a long: `python2_repr` prints it with an L."""


def python2_repr(value: object, *, surrogate_pairs: bool = True) -> bytes:
    r"""What 64-bit Python 2.7's ``repr`` prints for None, bool, int, `Long`, float, str (a
    ``unicode`` there), bytes (a ``str`` there), and lists and dicts of these.

    A character beyond U+FFFF is printed as two escapes (``\ud83d\ude00``), as Python 2 did where
    the halves had arrived apart; without `surrogate_pairs` as one (``\U0001f600``), as it did
    otherwise. Raises `TypeError` for a value of another type.
    """
    return python2_text(value, surrogate_pairs).encode("ascii")


def python2_text(value: object, pairs: bool = True) -> str:
    """What `python2_repr` gives, as text: the writer of snapshots puts records together from it."""
    match value:
        case None | bool() | float():
            return repr(value)
        case int():
            long = isinstance(value, Long) or not -(1 << 63) <= value < 1 << 63
            return int.__repr__(value) + ("L" if long else "")
        case str():
            quote = '"' if "'" in value and '"' not in value else "'"
            text = re.sub("[\U00010000-\U0010ffff]", _halves, value) if pairs else value
            escaped = text.encode("unicode_escape").decode("ascii")
            return "u" + quote + escaped.replace(quote, "\\" + quote) + quote
        case bytes():
            return repr(value)[1:]
        case list():
            return "[" + ", ".join(python2_text(item, pairs) for item in value) + "]"
        case dict():
            texts = [(python2_text(k, pairs), python2_text(v, pairs)) for k, v in value.items()]
            return "{" + ", ".join(f"{key}: {text}" for key, text in texts) + "}"
    raise TypeError(f"python2_repr cannot print a {type(value).__name__}")


def _halves(match: re.Match[str]) -> str:
    return "".join(map(chr, struct.unpack(">2H", match[0].encode("utf-16-be"))))
