"""What luigi prints when a task fails: the sentence of a `Problem`, without its traceback.

luigi logs every exception with a traceback. For a mistake that a person can make, the sentence is
all there is to say, so a filter on luigi's own logger takes the rest away. Every other exception
keeps its traceback. Imported by the graph modules, it works for plain ``luigi --module tasks`` too.
"""

import logging
import re

from tasks.problem import Problem

_PROBLEM_IN_TRACEBACK = re.compile(
    rf"Traceback \(most recent call last\):\n.*^{Problem.__module__}\.{Problem.__name__}: (.*)",
    re.DOTALL | re.MULTILINE,
)


class _SentencesOnly(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, Problem):
            task = record.args[-1] if isinstance(record.args, tuple) and record.args else None
            record.msg, record.args = f"{task} failed: {error}" if task else str(error), None
            record.exc_info = record.exc_text = None
        elif isinstance(record.msg, str):
            in_message = _PROBLEM_IN_TRACEBACK.search(record.msg)
            if in_message:
                record.msg, record.args = in_message[1].strip(), None
        return True


def install() -> None:
    """Filter luigi's messages; calling it again changes nothing."""
    logger = logging.getLogger("luigi-interface")
    if not any(isinstance(one, _SentencesOnly) for one in logger.filters):
        logger.addFilter(_SentencesOnly())
