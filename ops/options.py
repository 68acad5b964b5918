"""Every command and every option that a person gives to make, in one table.

A command is known by its name and takes the options listed with it; an option is a variable of
make, and where the program behind make takes it as well, a flag. `make help`, the parser of
``python -m ops`` and the refusal of what a command does not know are all made of this table.
Knows what may be given and how its text is read; never what a command does with it. Imports the
standard library and `tasks.settings` only, so that it can be asked before anything is installed.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from tasks.problem import Problem
from tasks.settings import LocalSettings, Settings, switch, variable_of

EC2 = "ec2"


@dataclass(frozen=True)
class Option:
    """One variable of make, and the flag of ``python -m ops`` that means the same.

    `read` turns the text into the value, or raises `ValueError` with what to give instead;
    `default` is the value where nothing is given. With `ec2_only` it means something only together
    with ON=ec2. One that has a `variable` is passed on as that; with a `setting`, it is that one of
    luigi.cfg.
    """

    name: str
    help: str
    dest: str = ""
    read: Callable[[str], Any] = str
    default: Any = ""
    metavar: str = ""
    ec2_only: bool = False
    variable: str = ""
    setting: str = ""

    @property
    def is_switch(self) -> bool:
        return self.read is switch

    @property
    def flag(self) -> str:
        return "--" + self.name.lower().replace("_", "-")

    @property
    def attribute(self) -> str:
        """The name of its value among the parsed options."""
        return self.dest or self.name.lower()

    def read_as(self, text: str, shown: str) -> Any:
        """The value of a text that was `shown` so (SHARE=2); raises `Problem`."""
        try:
            return self.read(text)
        except ValueError as error:
            raise Problem(f"{shown}: {error}.") from None


@dataclass(frozen=True)
class Command:
    """One command of make.

    `flags` are options that ``python -m ops`` takes as well, `internal` those that only other
    programs give it, and `settings` those that are passed on as variables. A tool of the project's
    own developers has `programs` instead: what is run, one after the other, by this Python's
    environment; the words of `more` are added to the last of them.
    """

    name: str
    help: str
    flags: tuple[Option, ...] = ()
    settings: tuple[Option, ...] = ()
    internal: tuple[Option, ...] = ()
    programs: tuple[tuple[str, ...], ...] = ()
    more: Option | None = None

    @property
    def options(self) -> dict[str, Option]:
        """All that it takes, by name."""
        more = (self.more,) if self.more else ()
        return {one.name: one for one in (*self.flags, *self.settings, *more)}


def _whole_number(text: str) -> int:
    if not re.fullmatch("[0-9]+", text) or int(text) < 1:
        raise ValueError("give a whole number from 1 up")
    return int(text)


def _seed(text: str) -> int:
    if not re.fullmatch("-?[0-9]{1,18}", text):
        raise ValueError("give the number that verify has printed")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ValueError("give a number above 0 and at most 1: 0.01 is a hundredth, 1.0 is all")
    return share


def _page(text: str) -> str:
    name = text.rstrip("/").rpartition("/")[2]
    if text.endswith("/") or name.lower().endswith((".html", ".htm")):
        return text
    if re.search(
        r"\.(pdf|png|svg|jpe?g|json|jsonl|csv|txt|md|xml|xlsx?|docx?|zip|gz)$", name, re.I
    ):
        raise ValueError(
            "the report is an HTML page: give a name that ends in .html, or a folder (and / behind "
            "its name where that looks like a file's)"
        )
    return text


def _place(text: str) -> str:
    if text not in ("local", EC2):
        raise ValueError("not a place. ON=ec2 is one; without ON= it is this machine")
    return text


def _scheduler(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not re.fullmatch("[0-9]{1,5}", port):
        raise ValueError("give HOST:PORT, such as 10.0.0.5:8082")
    return text


ON = Option("ON", "where it runs: ec2, or this machine (local)", "", _place, "local", "ec2")
_DRY_RUN = Option("DRY_RUN", "say what would be done, and do nothing", "", switch, False, "1", True)
_WEEKS = Option("WEEKS", "only these ISO weeks: 2018-W25,2021-W45", metavar="WEEK,…")
_ONE_WEEK = Option("WEEKS", "which week (default: 2021-W45)", metavar="WEEK")
_FROM = Option("FROM", "the first week (default: 2016-W49)", "first", metavar="WEEK")
_TO = Option("TO", "the last week (default: the last finished one)", "last", metavar="WEEK")
_WORKERS = Option("WORKERS", "weeks at the same time (1)", "", _whole_number, 1, "n")
_REFRESH = Option("REFRESH", "stale and damaged weeks, too, again", "", switch, False, "1")
_CURRENT = Option("CURRENT", "the week that is not over, too", "", switch, False, "1")
_KEEP = Option("KEEP", "keep the fleet when the run is complete", "", switch, False, "1", True)
_FORCE = Option("FORCE", "although a run is on", "", switch, False, "1", True)
_DEEP = Option("DEEP", "read every byte and line of every week file", "", switch, False, "1")
_SHARE = Option(
    "SHARE",
    "and compare so many of the raw snapshots: 0.01 is a hundredth, 1.0 is all",
    "",
    _share,
    0.0,
    "0.01",
)
_SEED = Option("SEED", "draw the snapshots that this number has drawn", "", _seed, None, "n")
_WEEK = Option("WEEK", "which week: 2018-W25", metavar="WEEK")
_SNAPSHOT = Option("SNAPSHOT", "only this one: its key, or its time in UTC", metavar="KEY")
_BACK_TO = Option("TO", "where to: a folder or s3://bucket/prefix", metavar="PLACE")
_PAGE = Option(
    "TO",
    "an .html file, or a folder or s3://bucket/prefix for a report.html in it",
    "",
    _page,
    metavar="PLACE",
)
_CONFIRM = Option(
    "CONFIRM", "delete what the dry run has shown: the words that it prints", metavar="BUCKET:CODE"
)
_LOCAL_SCHEDULER = Option(
    "LOCAL_SCHEDULER", "do without luigid and its web page", "", switch, False
)
_SCHEDULER = Option(
    "SCHEDULER",
    "a luigid that several machines share (default: this machine's own)",
    "",
    _scheduler,
    None,
    "HOST:PORT",
)
_RANGE = (_WEEKS, _FROM, _TO)
_PYTEST = Option("PYTEST", "what else to tell pytest: PYTEST='-k verify'", metavar="OPTIONS")
_RUN = (_WEEKS, _FROM, _TO, _WORKERS, _CURRENT, _KEEP)


def _settings(kind: type, section: str, *names: str) -> tuple[Option, ...]:
    return tuple(
        Option(
            name.upper(),
            f"{name} of [{section}] in luigi.cfg, for one run",
            variable=variable_of(section, name),
            setting=name,
        )
        for name in (names or [one.name for one in fields(kind)])
    )


ARCHIVE_SETTINGS = _settings(Settings, "bustimes")
LOCAL_SETTINGS = _settings(LocalSettings, "local")
EC2_SETTINGS = tuple(
    Option(
        name, f"{setting} of [ec2] in luigi.cfg", ec2_only=True, variable=variable_of(EC2, setting)
    )
    for name, setting in (
        ("INSTANCES", "instances"),
        ("TYPE", "instance_types"),
        ("REGION", "region"),
        ("STACK", "stack"),
    )
)


def _command(name: str, text: str, *flags: Option, internal: tuple[Option, ...] = ()) -> Command:
    settings = (*ARCHIVE_SETTINGS, *LOCAL_SETTINGS, *EC2_SETTINGS)
    return Command(name, text, (ON, *flags, _DRY_RUN), settings, internal)


_TOOLS = (
    Command(
        "demo-ec2",
        "setup to teardown on EC2, on an AWS that is on this machine",
        programs=(("python", "-m", "ops.local_aws.demo"),),
    ),
    Command(
        "kernel",
        "compile the conversion kernel again, after a change of its C files",
        programs=(("python", "-m", "ops.kernel"),),
    ),
    Command(
        "bench",
        "speed, memory and size, against what people would use instead",
        programs=(("python", "-m", "ops.bench"),),
        more=Option(
            "BENCH", "options of the bench: BENCH=--quick, BENCH=--help", metavar="OPTIONS"
        ),
    ),
    Command(
        "fuzz",
        "fuzz the parsers: MINUTES=10",
        programs=(("python", "-m", "ops.fuzz"),),
        flags=(Option("MINUTES", "for how long (10)", metavar="n"),),
    ),
    Command(
        "audit",
        "is a weakness known of anything that is installed here? asks osv.dev",
        programs=(("python", "-m", "ops.audit"),),
    ),
    Command(
        "test",
        "the project's tests, but for the slow ones",
        programs=(("python", "-m", "pytest", "-m", "not soak"),),
        more=_PYTEST,
    ),
    Command(
        "soak",
        "the slow tests: storms, crashes at random, EC2, fuzzing, browsers, other S3 servers",
        programs=(("python", "-m", "tests.servers"), ("python", "-m", "pytest", "-m", "soak")),
        more=_PYTEST,
        settings=tuple(
            Option(name, text, variable=name, metavar="n")
            for name, text in (
                ("CRASHES", "how many crashes to make (50)"),
                ("STORMS", "how many storms at S3 to make"),
            )
        ),
    ),
    Command(
        "lint",
        "style and types: ruff and mypy",
        programs=(("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)),
    ),
    Command("help", "this list"),
)

COMMANDS = {
    one.name: one
    for one in (
        _command(
            "smoke",
            "one week end to end: convert, validate, resume, verify; the figures of a full run",
            _ONE_WEEK,
            internal=(_LOCAL_SCHEDULER,),
        ),
        _command(
            "full",
            "every finished week, or the chosen ones; goes on where an earlier run stopped",
            *_RUN,
            _REFRESH,
            internal=(_LOCAL_SCHEDULER, _SCHEDULER),
        ),
        _command(
            "refresh",
            "stale and damaged weeks again, and nothing else that is there",
            *_RUN,
            internal=(_LOCAL_SCHEDULER, _SCHEDULER),
        ),
        _command(
            "plan",
            "dry run: weeks, snapshots, bytes, what is done, time, cost and savings",
            *_RANGE,
        ),
        _command("status", "weeks done of all, what runs, disk, memory, last log lines", *_RANGE),
        _command("logs", "what the run says; on EC2: of all instances, as it is said"),
        _command("sync", "upload what waits in the spool, check it, free the disk"),
        _command(
            "verify",
            "is the archive complete and correct? DEEP=1 reads every byte, SHARE=1.0 proves it",
            *_RANGE,
            _DEEP,
            _SHARE,
            _SEED,
        ),
        _command("report", "what the archive holds, as one HTML page", _PAGE),
        _command(
            "restore",
            "WEEK=… [SNAPSHOT=…] TO=folder or s3://…: a week back as raw snapshots",
            _WEEK,
            _SNAPSHOT,
            _BACK_TO,
        ),
        _command(
            "prune",
            "delete raw snapshots of proven weeks: says which; CONFIRM=bucket:code does it",
            *_RANGE,
            _CONFIRM,
        ),
        _command("luigid", "the scheduler's web page: every week with its progress"),
        _command("ui", "that page, too; on EC2: forwarded to this machine"),
        _command(
            "setup",
            "install what is needed and start the services; on EC2: the stack and its fleet",
        ),
        _command(
            "teardown",
            "stop the services and remove their files; on EC2: all that setup made",
            _FORCE,
        ),
        *_TOOLS,
    )
}
"""In the order of `make help`."""
