"""The settings of luigi.cfg, each of which an environment variable may override for one run.

Knows where luigi.cfg is (LUIGI_CONFIG_PATH, else the current folder, else beside `tasks/`), which
settings there are and what values they take. `load` and `load_local` promise complete, checked
settings or a `Problem` that names the setting. Nothing else reads luigi.cfg, luigi itself aside.
"""

import ast
import configparser
import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from tasks.problem import Problem
from tasks.storage.address import folder_of
from tasks.storage.patience import Patience
from tasks.storage.s3_parameters import Parameters

PROJECT = Path(__file__).resolve().parent.parent
_Section = TypeVar("_Section", "Settings", "LocalSettings", "Ec2Settings", "NotifySettings")
ORDERS = ("vehicle", "snapshot")
PYTHON_ESCAPES = ("utf-8", "code-points")


@dataclass(frozen=True)
class Settings:
    """What `[bustimes]` holds; luigi.cfg says what each setting does."""

    source: str
    destination: str
    spool: Path
    order: str
    max_errors: int
    max_refused_share: float
    compression_level: int
    max_snapshot_mb: int
    python_escapes: str
    processes: int
    reads_at_once: int
    spot_checks: int
    not_ours: tuple[str, ...]
    allow_prune: bool
    connect_seconds: float
    stall_seconds: float
    request_seconds: float
    retry_budget: int
    request_payer: str
    server_side_encryption: str
    kms_key_id: str

    @property
    def s3_parameters(self) -> Parameters:
        """What they make of who pays and how S3 encrypts; raises `Problem` where they differ."""
        if self.kms_key_id and not self.server_side_encryption.startswith("aws:kms"):
            raise Problem(
                "kms_key_id is set, and server_side_encryption is not aws:kms or aws:kms:dsse: set "
                "that as well, or no key."
            )
        return Parameters(self.request_payer, self.server_side_encryption, self.kms_key_id)

    @property
    def patience(self) -> Patience:
        """What they make of the patience with S3."""
        usual = Patience()
        return Patience(
            connect=self.connect_seconds,
            stall=self.stall_seconds,
            attempt=min(usual.attempt, self.request_seconds),
            request=self.request_seconds,
            retries=self.retry_budget,
        )


@dataclass(frozen=True)
class LocalSettings:
    """What `[local]` holds: this machine's files, and its services' ports on 127.0.0.1."""

    state: Path
    s3_port: int
    luigid_port: int


@dataclass(frozen=True)
class Ec2Settings:
    """What `[ec2]` holds: the fleet that `ON=ec2` means."""

    stack: str
    region: str
    instance_types: tuple[str, ...]
    instances: int
    disk_gb: int
    code_prefix: str
    takeover_seconds: int
    idle_minutes: int
    log_days: int


@dataclass(frozen=True)
class NotifySettings:
    """What `[notify]` holds: who is told when a run on EC2 has ended; empty for nobody."""

    webhook: str
    sns_topic: str


def load(environment: Mapping[str, str] = os.environ) -> Settings:
    """`[bustimes]`, overridden by BUSTIMES_<SETTING> variables that are not empty."""
    return _load(Settings, "bustimes", environment)


def load_local(environment: Mapping[str, str] = os.environ) -> LocalSettings:
    """`[local]`, overridden by LOCAL_<SETTING> variables that are not empty."""
    return _load(LocalSettings, "local", environment)


def load_ec2(environment: Mapping[str, str] = os.environ) -> Ec2Settings:
    """`[ec2]`, overridden by EC2_<SETTING> variables that are not empty."""
    return _load(Ec2Settings, "ec2", environment)


def load_notify(environment: Mapping[str, str] = os.environ) -> NotifySettings:
    """`[notify]`, overridden by NOTIFY_<SETTING> variables that are not empty."""
    return _load(NotifySettings, "notify", environment)


def _load(kind: type[_Section], section: str, environment: Mapping[str, str]) -> _Section:
    path = config_path(environment)
    parser = configparser.ConfigParser(interpolation=None)
    try:
        text = path.read_text(encoding="utf-8")
        if text.startswith("\ufeff"):  # which luigi, too, would take for a part of the first line
            raise Problem(
                f"{path} begins with a byte order mark, as some editors on Windows write it: save "
                "it as UTF-8 without one."
            )
        parser.read_string(text, source=str(path))
        _check_sections(parser, path)
        given = dict(parser[section]) if parser.has_section(section) else {}
    except OSError as error:
        raise Problem(
            f"The settings cannot be read from {path}: {error.strerror}. Run this in the project's "
            "folder, or let LUIGI_CONFIG_PATH name its luigi.cfg."
        ) from None
    except configparser.MissingSectionHeaderError as error:
        raise Problem(
            f"{path}, line {error.lineno}: {error.line.strip()!r} stands before any [section]. "
            "Correct it there."
        ) from None
    except configparser.ParsingError as error:
        number, line = error.errors[0]
        raise Problem(
            f"{path}, line {number}: {ast.literal_eval(line).strip()!r} has no =, as in name = "
            "value. Correct it there."
        ) from None
    except (configparser.Error, UnicodeDecodeError) as error:
        why = " ".join(str(error).split())
        raise Problem(f"{path} is no file of settings: {why}. Correct it there.") from None
    names = [field.name for field in fields(kind)]
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise Problem(
            f"[{section}] of {path} has settings that do not exist: {', '.join(unknown)}. Correct "
            f"or remove them; there are: {', '.join(names)}."
        )
    values: dict[str, Any] = {}
    for name in names:
        variable = variable_of(section, name)
        overriding = environment.get(variable, "")
        if name not in _PLACES or not overriding.strip():
            overriding = overriding.strip()
        text = overriding or given.get(name, "").strip()
        if not text and name not in _MAY_BE_EMPTY:
            raise Problem(
                f"{name} is not set: give it in [{section}] of {path}, or as {variable} for one "
                "run."
            )
        values[name] = _READERS[name](
            text, variable if overriding else f"{name} in [{section}] of {path}"
        )
    return kind(**values)


_OWN_SECTIONS = ("bustimes", "local", "ec2", "notify")
_TASKS = ("WeekTask", "AllWeeks", "Verify")
_SECTIONS_OF_LUIGI = (
    *(
        "core",
        "cors",
        "worker",
        "scheduler",
        "retcode",
        "resources",
        "execution_summary",
        "logging",
    ),
    *("batch_notifier", "email", "smtp", "sendgrid", "task_history", "datadog", "s3", "gcs"),
    *("elasticsearch", "hadoop", "hdfs", "hive", "kubernetes", "mysql", "postgres", "prestodb"),
    *("redshift", "salesforce", "scalding", "spark", "webhdfs", "range_by_date", "loadtask"),
)
"""As its documentation of configuration lists them."""


def _check_sections(parser: configparser.ConfigParser, path: Path) -> None:
    """Raise `Problem` for a section that nobody reads, and for a line that belongs to another."""
    known = (*_OWN_SECTIONS, *_TASKS, *_SECTIONS_OF_LUIGI)
    for section in parser.sections():
        if section not in known:
            close = difflib.get_close_matches(section.lower(), known, 1)
            meant = f"[{close[0]}] was probably meant" if close else "nothing reads it"
            raise Problem(
                f"{path} has a section [{section}], which does not exist: {meant}. Correct or "
                f"remove it. There are {', '.join(f'[{name}]' for name in _OWN_SECTIONS)}, and "
                "luigi's own."
            )
        for name, value in parser[section].items():
            if section in _OWN_SECTIONS and "\n" in value:
                line = value.split("\n")[1]
                raise Problem(
                    f"{path}: the line {line!r} in [{section}] is indented, so that it continues "
                    f"{name}, the line above it. Remove the spaces before it."
                )


def config_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Where luigi.cfg is."""
    named = environment.get("LUIGI_CONFIG_PATH")
    if named:
        return Path(named)
    here = Path("luigi.cfg")
    return here.absolute() if here.exists() else PROJECT / "luigi.cfg"


def variable_of(section: str, setting: str) -> str:
    """The environment variable that overrides a setting for one run."""
    return f"{section}_{setting}".upper()


def check(setting: str, text: str, where: str) -> None:
    """Raise `Problem`, which begins with `where`, for a text that a setting cannot have."""
    _READERS[setting](text, where)


def variables_of(section: str, kind: type[Any]) -> list[str]:
    """The environment variables that override the settings of a section."""
    return [variable_of(section, field.name) for field in fields(kind)]


def _whole_number(low: int, high: int) -> Callable[[str, str], int]:
    def read(text: str, where: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise Problem(f"{where} is {text!r}: give a whole number from {low:,} to {high:,}.")
        return number

    return read


def _seconds(text: str, where: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise Problem(f"{where} is {text!r}: give a number of seconds from 0.1 to 3,600.")
    return seconds


def switch(text: str) -> bool:
    """What a switch says; raises `ValueError`, with what to give instead, where it says nothing."""
    said = {"1": True, "true": True, "yes": True, "on": True}
    said |= {"0": False, "false": False, "no": False, "off": False}
    if text.lower() not in said:
        raise ValueError("give 1 or 0, true or false, yes or no, on or off")
    return said[text.lower()]


def _switch(text: str, where: str) -> bool:
    try:
        return switch(text)
    except ValueError as error:
        raise Problem(f"{where} is {text!r}: {error}.") from None


def _share(text: str, where: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise Problem(f"{where} is {text!r}: give a share from 0 to 1, such as 0.5.")
    return share


def _order(text: str, where: str) -> str:
    if text not in ORDERS:
        raise Problem(f"{where} is {text!r}: give {' or '.join(ORDERS)}.")
    return text


def _python_escapes(text: str, where: str) -> str:
    if text and text not in PYTHON_ESCAPES:
        raise Problem(f"{where} is {text!r}: give {' or '.join(PYTHON_ESCAPES)}, or nothing.")
    return text


def _name(text: str, where: str) -> str:
    if not re.fullmatch("(?!(?i:aws|ssm|sg-))[A-Za-z][A-Za-z0-9-]{2,62}", text):
        raise Problem(
            f"{where} is {text!r}: give a name of 3 to 63 letters, digits and hyphens that "
            "begins with a letter, and not with aws, ssm or sg-, which AWS keeps for itself."
        )
    return text


def _region(text: str, where: str) -> str:
    if not re.fullmatch("[a-z]{2,}(-[a-z]+)+-[0-9]+", text):
        raise Problem(f"{where} is {text!r}: give a region of AWS, such as us-east-1.")
    return text


def _instance_types(text: str, where: str) -> tuple[str, ...]:
    types = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    wrong = [one for one in types if not re.fullmatch(r"[a-z][a-z0-9-]*\.[a-z0-9-]+", one)]
    if wrong or not types:
        raise Problem(
            f"{where} is {text!r}: give types of instances with commas between them, such as "
            "c6i.large,c6a.large."
        )
    return types


def _log_days(text: str, where: str) -> int:
    if text not in ("1", "3", "5", "7", "14", "30", "60", "90"):
        raise Problem(f"{where} is {text!r}: CloudWatch takes 1, 3, 5, 7, 14, 30, 60 or 90.")
    return int(text)


def _prefix(text: str, where: str) -> str:
    prefix = text.strip("/")
    if not re.fullmatch("[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*", prefix) or ".." in prefix:
        raise Problem(f"{where} is {text!r}: give a prefix such as _ops, of letters, digits, _.-/.")
    return prefix


def _webhook(text: str, where: str) -> str:
    if text and not re.fullmatch(r"https?://[^\s'\"]+", text):
        raise Problem(f"{where} is no address: give one that begins with https://, or nothing.")
    return text


def _topic(text: str, where: str) -> str:
    if text and not re.fullmatch(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]+", text):
        raise Problem(
            f"{where} is {text!r}: give the ARN of an SNS topic, such as "
            "arn:aws:sns:us-east-1:123456789012:conversions, or nothing."
        )
    return text


_MAY_BE_EMPTY = {
    *("python_escapes", "not_ours", "request_payer", "server_side_encryption", "kms_key_id"),
    *("webhook", "sns_topic"),
}
_PLACES = {"source", "destination"}
"""In whose names a space means itself, too."""


def _patterns(text: str, _where: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _one_of(*values: str) -> Callable[[str, str], str]:
    def read(text: str, where: str) -> str:
        if text and text not in values:
            raise Problem(f"{where} is {text!r}: give {' or '.join(values)}, or nothing.")
        return text

    return read


def _kms_key(text: str, where: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9:/_-]*", text):
        raise Problem(
            f"{where} is {text!r}: give the ARN of a KMS key, its ID or its alias, or nothing."
        )
    return text


def _text(text: str, _where: str) -> str:
    return text


def _folder(text: str, where: str) -> Path:
    path = folder_of(text, where)
    return path if path.is_absolute() else PROJECT / path


_READERS: dict[str, Callable[[str, str], object]] = {
    "source": _text,
    "destination": _text,
    "spool": _folder,
    "order": _order,
    "max_errors": _whole_number(0, 10_000_000),
    "max_refused_share": _share,
    "compression_level": _whole_number(0, 12),
    "max_snapshot_mb": _whole_number(1, 1024),
    "python_escapes": _python_escapes,
    "processes": _whole_number(0, 256),
    "reads_at_once": _whole_number(1, 512),
    "not_ours": _patterns,
    "spot_checks": _whole_number(0, 1000),
    "allow_prune": _switch,
    "connect_seconds": _seconds,
    "stall_seconds": _seconds,
    "request_seconds": _seconds,
    "request_payer": _one_of("requester"),
    "server_side_encryption": _one_of("AES256", "aws:kms", "aws:kms:dsse"),
    "kms_key_id": _kms_key,
    "retry_budget": _whole_number(0, 1_000_000_000),
    "state": _folder,
    "s3_port": _whole_number(1, 65535),
    "luigid_port": _whole_number(1, 65535),
    "stack": _name,
    "region": _region,
    "instance_types": _instance_types,
    "instances": _whole_number(1, 100),
    "disk_gb": _whole_number(8, 16_000),
    "code_prefix": _prefix,
    "takeover_seconds": _whole_number(2, 3600),
    "idle_minutes": _whole_number(1, 10_080),
    "log_days": _log_days,
    "webhook": _webhook,
    "sns_topic": _topic,
}
