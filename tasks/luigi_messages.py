"""What luigi prints when a task fails: the sentence of a `Problem`, without its traceback.

luigi logs every exception with a traceback. For a mistake that a person can make, the sentence is
all there is to say, so a filter on luigi's own logger takes the rest away. Every other exception
keeps its traceback. Imported by the graph modules, it works for plain ``luigi --module tasks`` too.
"""

import logging
import re

from tasks.problem import Problem

_TRACEBACK_OF_PROBLEM = re.compile(
    rf"Traceback \(most recent call last\):\n(?:.*\n)*?{Problem.__module__}\.{Problem.__name__}: ",
)


class _SentencesOnly(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, Problem):
            record.msg, record.args = f"{record.getMessage().strip()}: {error}", None
            record.exc_info = record.exc_text = None
        elif isinstance(record.msg, str) and "Traceback" in record.msg:
            record.msg = _TRACEBACK_OF_PROBLEM.sub("", record.msg).rstrip()
        return True


def install() -> None:
    """Filter luigi's messages; calling it again changes nothing."""
    logger = logging.getLogger("luigi-interface")
    if not any(isinstance(one, _SentencesOnly) for one in logger.filters):
        logger.addFilter(_SentencesOnly())
