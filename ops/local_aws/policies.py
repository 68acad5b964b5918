"""What identity-based policies of IAM allow: one evaluator, for requests and for simulations.

A policy grants what one of its statements allows and none denies. Actions and resources match with
* and ?; conditions are those on strings, ARNs, numbers and booleans. A condition that is not known
here is never met, so it can only take rights away.
"""

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Context = Mapping[str, str]


class Policies:
    """The policies of one identity together."""

    def __init__(self, documents: Iterable[Mapping[str, Any]]) -> None:
        self._statements = [
            _Statement(one) for each in documents for one in _list(each.get("Statement", []))
        ]
        self._about: dict[str, list[_Statement]] = {}

    def decide(self, action: str, resource: str, context: Context) -> str:
        """allowed, implicitDeny or explicitDeny, as IAM's simulator names them."""
        about = self._about.get(action)
        if about is None:
            about = [one for one in self._statements if one.is_about(action)]
            self._about[action] = about
        decision = "implicitDeny"
        for statement in about:
            if statement.covers(resource) and statement.holds(context):
                if not statement.allows:
                    return "explicitDeny"
                decision = "allowed"
        return decision

    def missing(self, action: str, resource: str, context: Context) -> list[str]:
        """What conditions ask about that is not known of the request."""
        about = [one for one in self._statements if one.is_about(action) and one.covers(resource)]
        return sorted({key for one in about for key in one.keys} - set(context))


class _Statement:
    def __init__(self, written: Mapping[str, Any]) -> None:
        self.allows = written["Effect"] == "Allow"
        self._actions = _any_of(written.get("Action", written.get("NotAction", [])), re.IGNORECASE)
        self._all_but_actions = "NotAction" in written
        self._resources = _any_of(written.get("Resource", written.get("NotResource", [])))
        self._all_but_resources = "NotResource" in written
        self._conditions: Mapping[str, Mapping[str, Any]] = written.get("Condition", {})

    @property
    def keys(self) -> Iterable[str]:
        """What its conditions ask about."""
        return [key for keys in self._conditions.values() for key in keys]

    def is_about(self, action: str) -> bool:
        return bool(self._actions(action)) != self._all_but_actions

    def covers(self, resource: str) -> bool:
        return bool(self._resources(resource)) != self._all_but_resources

    def holds(self, context: Context) -> bool:
        return all(
            _condition(operator, context.get(key), [str(one) for one in _list(wanted)])
            for operator, keys in self._conditions.items()
            for key, wanted in keys.items()
        )


def _condition(operator: str, value: str | None, wanted: list[str]) -> bool:
    name, _, rest = operator.partition("IfExists")
    if rest or name not in _OPERATORS:
        return False
    if value is None:
        return name != operator or "Not" in name
    met = any(_OPERATORS[name.replace("Not", "")](value, one) for one in wanted)
    return met != ("Not" in name)


def _like(value: str, pattern: str) -> bool:
    return bool(_regex(pattern, 0).fullmatch(value))


_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda value, wanted: value == wanted,
    "StringEqualsIgnoreCase": lambda value, wanted: value.lower() == wanted.lower(),
    "StringLike": _like,
    "ArnEquals": _like,
    "ArnLike": _like,
    "Bool": lambda value, wanted: value.lower() == wanted.lower(),
    "NumericEquals": lambda value, wanted: float(value) == float(wanted),
    "NumericLessThanEquals": lambda value, wanted: float(value) <= float(wanted),
}
_OPERATORS |= {
    name: _OPERATORS[name.replace("Not", "")]
    for name in ("StringNotEquals", "StringNotLike", "ArnNotEquals", "ArnNotLike")
}


def _any_of(patterns: Any, flags: int = 0) -> Callable[[str], object]:
    joined = "|".join(f"(?:{_regex(one, flags).pattern})" for one in _list(patterns))
    return re.compile(joined or "(?!)", flags | re.DOTALL).fullmatch


@functools.lru_cache(maxsize=4096)
def _regex(pattern: str, flags: int) -> "re.Pattern[str]":
    parts = (".*" if one == "*" else "." if one == "?" else re.escape(one) for one in pattern)
    return re.compile("".join(parts), flags | re.DOTALL)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
