"""The programs whose forks do the archive's work; to name one loads nothing of it."""

from tasks.forks import Program
from tasks.settings import PROJECT

CONVERTER = Program("tasks.bustimes.converter", "A converter process", PROJECT)
CHECKER = Program("tasks.bustimes.verify.checker", "A process that reads week files", PROJECT)
