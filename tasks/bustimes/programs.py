"""The programs whose forks do the archive's work; to name one loads nothing of it."""

from dataclasses import replace

from tasks.forks import Program
from tasks.settings import PROJECT
from tasks.storage.address import is_s3

CHECKER = Program("tasks.bustimes.verify.checker", "A process that reads week files", PROJECT)

_CONVERTER = Program("tasks.bustimes.converter", "A converter process", PROJECT)


def converter(source: str) -> Program:
    """What converts the snapshots at an address: those of S3 come by libcurl."""
    return replace(_CONVERTER, ahead=("tasks.storage.gets",)) if is_s3(source) else _CONVERTER
