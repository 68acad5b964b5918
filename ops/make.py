"""What was typed behind `make`, handed to the command: ``python -m ops.make COMMAND``.

The Makefile passes on, as variables of the environment, the names of all that was given on make's
command line (`GIVEN_OPTIONS`), the commands (`GIVEN_GOALS`) and each value as it was typed; no
value is ever part of a line that a shell reads. What a command does not know is refused before
anything is done, with what was probably meant. An option that make's command line does not have may
come from the environment; there, other variables are nobody's mistake.
"""

import difflib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, MutableMapping

from ops.options import COMMANDS, Command, Option
from tasks import settings
from tasks.problem import Problem
from tasks.settings import Ec2Settings, LocalSettings, NotifySettings, Settings, variables_of

_OF_MAKE = {"PYTHON", "MAKE", "MAKEFLAGS", "SHELL", "GIVEN_OPTIONS", "GIVEN_GOALS"}
_OF_PROGRAMS = re.compile(
    # what every AWS tool, every HTTP client and every program knows by these names
    r"AWS_(DEFAULT_)?(PROFILE|REGION|OUTPUT)|AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|"
    r"CONFIG_FILE|SHARED_CREDENTIALS_FILE|CA_BUNDLE|USE_FIPS_ENDPOINT|USE_DUALSTACK_ENDPOINT|"
    r"IGNORE_CONFIGURED_ENDPOINT_URLS|ENDPOINT_URL(_[A-Z0-9_]+)?|MAX_ATTEMPTS|RETRY_MODE|ROLE_ARN|"
    r"ROLE_SESSION_NAME|WEB_IDENTITY_TOKEN_FILE|STS_REGIONAL_ENDPOINTS|SDK_LOAD_CONFIG|DATA_PATH|"
    r"DEFAULTS_MODE|(CONTAINER|EC2_METADATA)_[A-Z0-9_]+)|"
    r"(?i:(https?|all|no)_proxy)|SSL_CERT_(FILE|DIR)|(REQUESTS|CURL)_CA_BUNDLE|"
    r"LUIGI_CONFIG_PATH|LANG|LC_[A-Z]+|TZ|TMPDIR|HOME|PATH|TERM|COLUMNS|NO_COLOR|"
    r"(PYTHON|PIP_|XDG_)[A-Z0-9_]+"
)
_SETTINGS = {
    variable
    for section, kind in (
        ("bustimes", Settings),
        ("local", LocalSettings),
        ("ec2", Ec2Settings),
        ("notify", NotifySettings),
    )
    for variable in variables_of(section, kind)
}
_OPTIONS = {name: one for command in COMMANDS.values() for name, one in command.options.items()}


def check(goals: Iterable[str], given: Iterable[str]) -> None:
    """Raise `Problem` for a command that is none, or an option that one of them does not know."""
    for goal in goals:
        if goal not in COMMANDS:
            raise Problem(_no_command(goal))
    for goal in goals:
        for name in given:
            is_known = name in COMMANDS[goal].options or name in _OF_MAKE
            if not is_known and not _is_variable(name):
                raise Problem(_no_option(goal, name))


def _is_variable(name: str) -> bool:
    """Whether it is a variable of the environment, given to make for convenience."""
    return name in _SETTINGS or _OF_PROGRAMS.fullmatch(name) is not None


def _no_command(goal: str) -> str:
    if goal.upper() in _OPTIONS:
        return f"{goal} is no command of make: as an option it is written {goal.upper()}=…."
    close = difflib.get_close_matches(goal.lower(), COMMANDS, 1)
    if close:
        return f"{goal} is no command of make: make {close[0]} was probably meant. Nothing is done."
    if goal.endswith(".lock"):  # what a rule of the Makefile needs, and not typed by anybody
        return f"{goal} is missing: this is not a whole checkout of the project. Nothing is done."
    return (
        f"{goal} is no command of make. An option is written with =, as in WEEKS=2021-W45; make "
        "help lists both. Nothing is done."
    )


def _no_option(goal: str, name: str) -> str:
    known = COMMANDS[goal].options
    close = difflib.get_close_matches(name.upper(), known, 1, 0.6)
    others = [one.name for one in COMMANDS.values() if name in one.options]
    if close:
        meant = f"{close[0]}= was probably meant"
    elif others:
        more = " and others" if others[3:] else ""
        meant = f"it is an option of make {', make '.join(others[:3])}{more}"
    else:
        meant = "make help lists what there is"
    takes = ", ".join(one.name for one in COMMANDS[goal].options.values() if not one.variable)
    takes = f"It takes {takes}, and settings. " if takes else ""
    return f"make {goal} does not know {name}=: {meant}. {takes}Nothing is done."


def arguments_of(command: Command, environment: MutableMapping[str, str]) -> list[str]:
    """What ``python -m ops`` is given for these options, and settings put into the environment.

    Raises `Problem` where a value is none, or an option means nothing without another.
    """
    given = environment.get("GIVEN_OPTIONS", "").split()
    for one in command.settings:
        value = environment.get(one.name, "").strip()
        if value and (one.name in given or not environment.get(one.variable, "").strip()):
            if one.setting:
                settings.check(one.setting, value, one.name)
            environment[one.variable] = value
    values = {
        one.name: environment.get(one.name, "").strip()
        for one in command.flags
        if environment.get(one.name, "").strip()
    }
    read = {
        one.name: one.read_as(values[one.name], f"{one.name}={values[one.name]}")
        for one in command.flags
        if one.name in values
    }
    if read.get("ON", "local") == "local":
        _must_not_be_for_ec2(command, [name for name in given if environment.get(name, "").strip()])
    return [
        one.flag if one.is_switch else f"{one.flag}={values[one.name]}"
        for one in command.flags
        if one.name in values and not (one.is_switch and not read[one.name])
    ]


def _must_not_be_for_ec2(command: Command, given: list[str]) -> None:
    for name in given:
        option = command.options.get(name)
        if option is not None and option.ec2_only and name != "DRY_RUN":
            raise Problem(
                f"{name}= means something on EC2 only: give ON=ec2 as well, or leave it. Nothing "
                "is done."
            )


def help_text() -> str:
    """What `make help` prints."""
    lines = ["A heap of small raw S3 objects becomes a few hundred checked weekly files.", ""]
    lines += [f"  make {one.name:<9} {one.help}" for one in COMMANDS.values()]
    lines += ["", "Options, written behind the command, as in make verify DEEP=1:", ""]
    shown: set[tuple[str, str]] = set()
    for command in COMMANDS.values():
        for one in command.options.values():
            if one.variable or (one.name, one.help) in shown:
                continue
            shown.add((one.name, one.help))
            takers = [c.name for c in COMMANDS.values() if c.options.get(one.name) == one]
            of = "every command" if len(takers) > 9 else ", ".join(takers)
            where = "with ON=ec2: " if one.ec2_only else ""
            lines.append(f"  {_written(one):<20} {where}{one.help}  ({of})")
    lines += [
        "",
        "  SOURCE= DESTINATION=  where raw snapshots come from and week files go to: s3://bucket/",
        "                        prefix or a folder; and so any setting of luigi.cfg, for one run",
    ]
    return "\n".join(lines)


def _written(option: Option) -> str:
    return f"{option.name}={option.metavar or '…'}"


def run(goal: str = "") -> int:
    """Run a command of the table with what was given to make; returns its exit code.

    Without a command what was given is checked, values as well, and that is all.
    """
    environment = os.environ
    goals = [*([goal] if goal else []), *environment.get("GIVEN_GOALS", "").split()]
    check(goals, environment.get("GIVEN_OPTIONS", "").split())
    if not goal:
        for one in goals:
            arguments_of(COMMANDS[one], dict(environment))
            _more(COMMANDS[one])
        return 0
    command = COMMANDS[goal]
    if goal == "help":
        print(help_text(), flush=True)
        return 0
    arguments = arguments_of(command, environment)
    for name in (
        "MAKEFLAGS",
        "MFLAGS",
        "MAKELEVEL",
        "MAKEOVERRIDES",
        "GIVEN_OPTIONS",
        "GIVEN_GOALS",
    ):
        environment.pop(name, None)  # what is started from here is not told by this make
    if command.programs:
        return _run_programs(command, arguments)
    from ops.__main__ import main

    return main([goal, *arguments])


def _run_programs(command: Command, arguments: list[str]) -> int:
    *before, last = command.programs
    more = _more(command)
    if command.more is not None:
        os.environ.pop(command.more.name, None)
    for program in (*before, (*last, *arguments, *more)):
        ran = subprocess.run([*_program(program[0]), *program[1:]], check=False)
        if ran.returncode:
            return ran.returncode
    return 0


def _more(command: Command) -> list[str]:
    if command.more is None:
        return []
    text = os.environ.get(command.more.name, "")
    try:
        return shlex.split(text)
    except ValueError:
        raise Problem(f"{command.more.name}={text}: a quotation mark is not closed.") from None


def _program(name: str) -> list[str]:
    """A program of this Python's environment; as a module, for a script in `bin` does not begin in
    a folder whose name holds a quotation mark."""
    return [sys.executable] if name == "python" else [sys.executable, "-m", name]


if __name__ == "__main__":
    try:
        sys.exit(run(*sys.argv[1:2]))
    except Problem as problem:
        print(problem, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever read the output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
