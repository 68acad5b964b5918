"""One HTML file from what is known: no address in it is ever asked for, nothing else is needed.

The plotting library, styles, script and data all stand in the page, and its own policy lets the
browser run those two scripts and nothing else, nor fetch anything. Every text is escaped, and what
a reader could not see (control characters, half surrogates) is spelled out.
"""

import base64
import datetime as dt
import functools
import hashlib
import re
from pathlib import Path
from typing import Any

import jinja2
import vl_convert
from markupsafe import Markup

from ops.report.text import number, percent, shown, visible
from tasks import figures

_HERE = Path(__file__).parent
_TOGETHER = re.compile(
    r"(\b\d{4}-W\d\d\b|\b\d\d? [A-Z][a-z]+ \d{4}\b"
    r"|(?:\d+ (?:days?|h|min) )?[\d.,]*\d "
    r"(?:%|s|min|h|[kMGT]B(?:/s)?|hours?|days?|weeks?)(?![\w/]))"
)
_LIBRARY = "window.vegaEmbed = vegaEmbed;"


def render(values: dict[str, Any]) -> bytes:
    """The page, in UTF-8; `values` are the template's."""
    library = _library()
    script = Markup(_as_script((_HERE / "page.js").read_text(encoding="utf-8")))
    page = _environment().get_template("page.html")
    text = page.render(
        values,
        css=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        library=library,
        script=script,
        script_hashes=Markup(f"{_hash(library)} {_hash(script)}"),
    )
    return text.encode()


@functools.cache
def _library() -> Markup:
    """Vega and all that it needs, which takes two seconds of CPU to put together."""
    return Markup(_as_script(vl_convert.javascript_bundle(_LIBRARY)))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters |= {
        "count": figures.count,
        "money": figures.money,
        "number": number,
        "percent": percent,
        "shown": shown,
        "unbroken": _unbroken,
        "rate": lambda value: "" if value is None else figures.rate(value),
        "size": lambda value: "" if value is None else figures.size(value),
        "minute": lambda moment: moment.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M"),
    }
    return environment


def _unbroken(sentence: str) -> Markup:
    """A sentence of which weeks' names and figures with their units stay on one line each."""
    pieces = _TOGETHER.split(visible(sentence))
    return Markup("").join(
        Markup('<span class="unbroken">{}</span>').format(piece) if at % 2 else piece
        for at, piece in enumerate(pieces)
    )


def _as_script(text: str) -> str:
    """A script that cannot end its element early; neither `<` is ever outside a string or regex."""
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
