"""Keeps botocore from logging credentials, at whatever level somebody has logs written.

At DEBUG botocore logs each request as it signs and sends it, session token and signature included,
and each answer, among them those of STS, which are credentials. `keep_credentials_out` drops just
these messages; what went wrong is logged at other levels, and the names of things by other loggers.
"""

import logging

_TELL_ALL = (
    "botocore.auth",
    "botocore.awsrequest",
    "botocore.crt.auth",
    "botocore.endpoint",
    "botocore.httpchecksum",
    "botocore.httpsession",
    "botocore.parsers",
    "botocore.signers",
    "botocore.tokens",
)


def keep_credentials_out() -> None:
    """Have the loggers that show requests and answers drop them; again changes nothing."""
    for name in _TELL_ALL:
        logging.getLogger(name).addFilter(_is_no_detail)


def _is_no_detail(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG
