"""The settings of `[bustimes]` in luigi.cfg, each of which an environment variable may override.

Knows where luigi.cfg is (LUIGI_CONFIG_PATH, else the current folder, else beside `tasks/`), which
settings there are and what values they take. `load` promises a complete, checked `Settings` or a
`Problem` that names the setting. Nothing else reads luigi.cfg, luigi itself aside.
"""

import configparser
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from tasks.compression import LEVELS
from tasks.problem import Problem

SECTION = "bustimes"
PROJECT = Path(__file__).resolve().parent.parent
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


def load(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of luigi.cfg, overridden by BUSTIMES_<SETTING> variables that are not empty."""
    path = config_path(environment)
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(path)
        given = dict(parser[SECTION]) if parser.has_section(SECTION) else {}
    except configparser.Error as error:
        raise Problem(f"{path} cannot be read: {error}") from None
    values: dict[str, object] = {}
    for field in fields(Settings):
        variable = variable_of(field.name)
        text = environment.get(variable, "").strip()
        where = variable if text else f"{field.name} in [{SECTION}] of {path}"
        text = text or given.pop(field.name, "").strip()
        given.pop(field.name, None)
        if not text:
            raise Problem(f"{field.name} is not set: give it in [{SECTION}] of {path}.")
        values[field.name] = _READERS[field.name](text, where)
    if given:
        raise Problem(
            f"[{SECTION}] of {path} has settings that do not exist: {', '.join(sorted(given))}. "
            f"There are: {', '.join(field.name for field in fields(Settings))}."
        )
    return Settings(**values)  # type: ignore[arg-type]


def config_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Where luigi.cfg is."""
    named = environment.get("LUIGI_CONFIG_PATH")
    if named:
        return Path(named)
    here = Path("luigi.cfg")
    return here.absolute() if here.exists() else PROJECT / "luigi.cfg"


def variable_of(setting: str) -> str:
    """The environment variable that overrides a setting for one run."""
    return f"{SECTION}_{setting}".upper()


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
}
