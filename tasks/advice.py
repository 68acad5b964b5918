"""The command to type next, with what this one was given: the places, and settings for one run.

A setting that was given for one run, as an option of make or as an environment variable, has to be
given to the next command as well: without SOURCE and DESTINATION that one means another archive.
What stands in luigi.cfg needs no repeating, and is not read here. What `make` returns can be pasted
into a shell; so no sentence goes on right behind it with a full stop or a comma, which would become
part of the last value. Knows the names of options only, and runs nothing.
"""

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import fields

from tasks.settings import LocalSettings, Settings, variable_of

ON = "BUSTIMES_ON"
"""The environment variable that says where commands are run, such as ``ec2``, if not here."""

_NEVER_REPEATED = {"allow_prune"}  # a person says it each time
_OF_THIS_MACHINE = {"spool"}
_OF_EC2 = {
    "INSTANCES": "instances",
    "TYPE": "instance_types",
    "REGION": "region",
    "STACK": "stack",
}


def make(command: str, environment: Mapping[str, str] = os.environ, /, **options: object) -> str:
    """``make full SOURCE=… DESTINATION=… WEEKS=2021-W45``, quoted for a shell.

    `options` are make's, and come last; one that is empty or None is left out. They take the place
    of what this command was given under the same name.
    """
    where = str(options.pop("ON", "") or environment.get(ON, ""))
    given = {"ON": where, **dict(_given(environment, where)), **options}
    words = [f"{name}={shlex.quote(str(value))}" for name, value in given.items() if value]
    return " ".join(["make", command, *words])


def lines(commands: list[tuple[str, str]], width: int = 11) -> Iterator[str]:
    """What to run next, as lines to print: commands from `make`, each with what it does.

    They begin with a label of so many characters.
    """
    longest = max((len(command) for command, _ in commands), default=0)
    for at, (command, what) in enumerate(commands):
        yield f"{'' if at else 'next':{width}}{command:{longest}}  {what}"


def _given(environment: Mapping[str, str], where: str) -> Iterator[tuple[str, str]]:
    """What this command was given for one run, in the order of luigi.cfg."""
    away = _OF_THIS_MACHINE if where else set()
    for field in fields(Settings):
        if field.name not in _NEVER_REPEATED | away:
            yield field.name.upper(), _value(environment, "bustimes", field.name)
    if where:
        for option, name in _OF_EC2.items():
            yield option, _value(environment, "ec2", name)
        return
    for field in fields(LocalSettings):
        yield field.name.upper(), _value(environment, "local", field.name)


def _value(environment: Mapping[str, str], section: str, name: str) -> str:
    value = environment.get(variable_of(section, name), "")
    return value if value.strip() else ""  # as it was given: a place may end in a space
