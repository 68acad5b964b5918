"""The secrets that this process knows, and text without them.

A library says what it likes when something goes wrong: http.client repeats a header that it cannot
send, with the session token in it. So each secret that comes in is remembered here, and each door
by which text leaves asks `without`: a `Problem`, every record of Python's logs, the traceback of an
exception that nobody has caught. Knows the environment's secrets by itself. Values of fewer than
eight characters are not taken out: as parts of other words they would be everywhere.
"""

import base64
import json
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote, quote_plus, unquote

_SHORTEST = 8
_INSTEAD = "(secret)"
_OF_AWS = re.compile(r"AWS_.*(ACCESS_KEY|SECRET|TOKEN|PASSWORD)")
_PLACES = re.compile(r".*_PROXY|AWS_ENDPOINT_URL.*")
"""Variables whose value is a URL, in which a name and a password may stand."""

_known: set[str] = set()
_pattern: re.Pattern[str] | None = None


def remember(*values: str | None) -> None:
    """Take these out of all text from now on, in every form in which libraries write them down."""
    global _pattern
    new = {part for value in values if value for part in (value.strip(), *value.split())}
    new = {value for value in new if len(value) >= _SHORTEST} - _known
    if not new:
        return
    _known.update(new)
    forms = {form for value in _known for form in _forms(value)}
    longest_first = sorted(forms, key=len, reverse=True)
    _pattern = re.compile("|".join(map(re.escape, longest_first)))


def remember_environment(environment: Mapping[str, str]) -> None:
    """Remember what AWS's variables, and the URLs of proxies and endpoints, hold of secrets."""
    for name, value in environment.items():
        if _PLACES.fullmatch(name.upper()):
            remember_login(value)
        elif _OF_AWS.fullmatch(name):
            remember(value)


def remember_login(url: str) -> None:
    """Remember the password of a URL, if it has one, and the login that it makes."""
    login, at, _ = url.partition("//")[2].partition("/")[0].rpartition("@")
    if at:
        name, _, password = login.partition(":")
        both = f"{unquote(name)}:{unquote(password)}"
        remember(password, unquote(password), base64.b64encode(both.encode()).decode())


def without(text: str) -> str:
    """The text with every known secret taken out."""
    return text if _pattern is None else _pattern.sub(_INSTEAD, text)


def _forms(value: str) -> set[str]:
    in_xml = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {
        *(value, repr(value)[1:-1], json.dumps(value)[1:-1], in_xml, in_xml.replace('"', "&quot;")),
        *(quote(value), quote(value, safe=""), quote_plus(value)),
    }


# Doors


def guard_logs() -> None:
    """Have every log record of this process made without secrets; again changes nothing."""
    remember_environment(os.environ)
    make = logging.getLogRecordFactory()
    if not isinstance(make, _Records):
        logging.setLogRecordFactory(_Records(make))


def guard() -> None:
    """For a program: its logs, and the tracebacks with which it or a thread of it ends."""
    guard_logs()
    sys.excepthook = print_traceback
    threading.excepthook = _print_of_thread
    sys.unraisablehook = _print_of_nobody


def traceback_of(error: BaseException) -> str:
    """The traceback of an exception as Python writes it, without secrets."""
    return without("".join(traceback.format_exception(error)))


def print_traceback(
    _kind: type[BaseException], error: BaseException, _where: TracebackType | None
) -> None:
    print(traceback_of(error), end="", file=sys.stderr)


def _print_of_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None and not isinstance(ended.exc_value, SystemExit):
        print(traceback_of(ended.exc_value), end="", file=sys.stderr)


def _print_of_nobody(ignored: Any) -> None:
    if ignored.exc_value is not None:
        print(f"Exception ignored:\n{traceback_of(ignored.exc_value)}", end="", file=sys.stderr)


class _Records:
    """Makes log records as `make` does, and takes the secrets out of their text."""

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make

    def __call__(self, *given: Any, **more: Any) -> logging.LogRecord:
        record = self._make(*given, **more)
        if _pattern is None:
            return record
        try:
            message = record.getMessage()
        except Exception:  # of which the handler would print all that was given
            message = f"{record.msg} {record.args!r}"
            record.msg, record.args = message, None
        if (clean := without(message)) != message:
            record.msg, record.args = clean, None
        if record.exc_info and record.exc_info[1] is not None:
            told = "".join(traceback.format_exception(record.exc_info[1]))
            if without(told) != told:
                record.exc_text = without(told).rstrip("\n")  # which formatters take as it is
        return record
