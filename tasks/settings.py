"""The settings of luigi.cfg, each of which an environment variable may override for one run.

Knows where luigi.cfg is (LUIGI_CONFIG_PATH, else the current folder, else beside `tasks/`), which
settings there are and what values they take. `load` and `load_local` promise complete, checked
settings or a `Problem` that names the setting. Nothing else reads luigi.cfg, luigi itself aside.
"""

import configparser
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from tasks.compression import LEVELS
from tasks.problem import Problem

PROJECT = Path(__file__).resolve().parent.parent
_Section = TypeVar("_Section", "Settings", "LocalSettings")
ORDERS = ("vehicle", "snapshot")


@dataclass(frozen=True)
class Settings:
    """What `[bustimes]` holds; luigi.cfg says what each setting does."""

    source: str
    destination: str
    spool: Path
    order: str
    max_errors: int
    compression_level: int
    max_snapshot_mb: int
    processes: int
    reads_at_once: int
    spot_checks: int


@dataclass(frozen=True)
class LocalSettings:
    """What `[local]` holds: this machine's files, and its services' ports on 127.0.0.1."""

    state: Path
    s3_port: int
    luigid_port: int


def load(environment: Mapping[str, str] = os.environ) -> Settings:
    """`[bustimes]`, overridden by BUSTIMES_<SETTING> variables that are not empty."""
    return _load(Settings, "bustimes", environment)


def load_local(environment: Mapping[str, str] = os.environ) -> LocalSettings:
    """`[local]`, overridden by LOCAL_<SETTING> variables that are not empty."""
    return _load(LocalSettings, "local", environment)


def _load(kind: type[_Section], section: str, environment: Mapping[str, str]) -> _Section:
    path = config_path(environment)
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"), source=str(path))
        given = dict(parser[section]) if parser.has_section(section) else {}
    except OSError as error:
        raise Problem(
            f"The settings cannot be read from {path}: {error.strerror}. Run this in the project's "
            "folder, or let LUIGI_CONFIG_PATH name its luigi.cfg."
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
        overriding = environment.get(variable, "").strip()
        text = overriding or given.get(name, "").strip()
        if not text:
            raise Problem(
                f"{name} is not set: give it in [{section}] of {path}, or as {variable} for one "
                "run."
            )
        values[name] = _READERS[name](
            text, variable if overriding else f"{name} in [{section}] of {path}"
        )
    return kind(**values)


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


def _order(text: str, where: str) -> str:
    if text not in ORDERS:
        raise Problem(f"{where} is {text!r}: give {' or '.join(ORDERS)}.")
    return text


def _text(text: str, _where: str) -> str:
    return text


def _folder(text: str, _where: str) -> Path:
    path = Path(text).expanduser()
    return path if path.is_absolute() else PROJECT / path


_READERS: dict[str, Callable[[str, str], object]] = {
    "source": _text,
    "destination": _text,
    "spool": _folder,
    "order": _order,
    "max_errors": _whole_number(0, 10_000_000),
    "compression_level": _whole_number(LEVELS.start, LEVELS.stop - 1),
    "max_snapshot_mb": _whole_number(1, 1024),
    "processes": _whole_number(0, 256),
    "reads_at_once": _whole_number(1, 512),
    "spot_checks": _whole_number(0, 1000),
    "state": _folder,
    "s3_port": _whole_number(1, 65535),
    "luigid_port": _whole_number(1, 65535),
}
