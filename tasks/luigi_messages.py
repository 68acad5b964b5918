"""What luigi prints when a task fails: the sentence of a `Problem`, without its traceback.

luigi logs every exception with a traceback. For a mistake that a person can make, the sentence is
all there is to say, so a filter on luigi's own logger takes the rest away. Every other exception
keeps its traceback. Imported by the graph modules, it works for plain ``luigi --module tasks`` too.
Where bars are drawn, messages have to go through whoever draws them: `print_with`.
"""

import logging
import re
from collections.abc import Callable

from tasks import advice, secrets
from tasks.out_of_memory import SENTENCE, is_out_of_memory
from tasks.problem import Problem

_PROBLEM_IN_TRACEBACK = re.compile(
    rf"Traceback \(most recent call last\):\n.*^{Problem.__module__}\.{Problem.__name__}: (.*)",
    re.DOTALL | re.MULTILINE,
)


_ADDRESS = re.compile(r"remote scheduler '(?:https?://)?([^']*?)/?'")

# What luigi says of a parameter that was not given, and of a setting or option that it cannot use.
_MISSING = re.compile(r"(\w+)\[.*\]: requires the '(\w+)' parameter", re.DOTALL)
_WRONG = re.compile(r"(\w+)\[.*\]: Error when parsing the default value of '(\w+)'", re.DOTALL)


def sentence_of(error: BaseException | None) -> str | None:
    """What to tell of a mistake that a person can make; None for every other error."""
    if isinstance(error, Problem):
        return str(error)
    if is_out_of_memory(error):
        return SENTENCE
    if isinstance(error, OSError) and _is_of_a_lock(error):
        return (
            f"/dev/shm, where luigi's locks are made, cannot be used: {error.strerror}. Mount it "
            "so that it can be written (docker: --tmpfs /dev/shm), and run it again."
        )
    if type(error).__name__ == "RPCError":
        address = _ADDRESS.search(str(error))
        where = f" at {address[1]}" if address else ""
        return (
            f"the Luigi scheduler{where} does not answer. Start it ({advice.make('luigid')}), name "
            "another (--scheduler-host, --scheduler-port), or do without it (--local-scheduler)."
        )
    if missing := _MISSING.match(str(error)):
        task, name = missing.groups()
        return f"{task} needs --{name}; luigi --module tasks {task} --help tells what that is."
    if wrong := _WRONG.match(str(error)):
        section, name = wrong.groups()
        why = error.__cause__ if error else None
        return (
            f"luigi cannot use its setting {name}: {why}. Correct it in [{section}] of luigi.cfg, "
            "or as an option of the command."
        )
    return None


def _is_of_a_lock(error: OSError) -> bool:
    """Whether multiprocessing could not make a lock, which on Linux is a file in /dev/shm."""
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    made_in = where.tb_frame.f_code.co_filename if where is not None else ""
    return made_in.endswith("multiprocessing/synchronize.py")


class _SentencesOnly(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, KeyboardInterrupt | SystemExit):
            return False  # whoever stopped the run knows
        sentence = sentence_of(error)
        if sentence:
            task = record.args[-1] if isinstance(record.args, tuple) and record.args else None
            record.msg, record.args = f"{task} failed: {sentence}" if task else sentence, None
            record.exc_info = record.exc_text = None
        elif isinstance(record.msg, str):
            in_message = _PROBLEM_IN_TRACEBACK.search(record.msg)
            if in_message:
                record.msg, record.args = in_message[1].strip(), None
        return True


def install() -> None:
    """Filter luigi's messages, in a process that tells no secret; again changes nothing."""
    secrets.guard()
    logger = logging.getLogger("luigi-interface")
    if not any(isinstance(one, _SentencesOnly) for one in logger.filters):
        logger.addFilter(_SentencesOnly())


def print_with(say: Callable[[str, int], None]) -> None:
    """Have `say` print luigi's warnings and errors, instead of all else that may print them.

    It is given the message and its level.
    """
    logger = logging.getLogger("luigi-interface")
    logger.setLevel(logging.WARNING)
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
    logger.addHandler(_Saying(say))


class _Saying(logging.Handler):
    def __init__(self, say: Callable[[str, int], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(self.format(record), record.levelno)
