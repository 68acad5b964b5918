"""The AWS credentials of this process: looked up as by every AWS tool, checked, and renewed.

Those with a character in them that no header may hold, such as a carriage return of Windows at the
end, are refused before anything is signed with them: http.client would refuse them later, and
repeat them in what it says. What is wrong is told without the value. `tasks.secrets` remembers all.
"""

import functools
import os
import threading
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.credentials import Credentials, ReadOnlyCredentials
from botocore.exceptions import BotoCoreError

from tasks import secrets
from tasks.out_of_memory import is_out_of_memory
from tasks.problem import Problem
from tasks.storage.aws_models import load_quickly
from tasks.storage.wire_logs import keep_credentials_out

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

making_clients: dict[int, threading.Lock] = {}
"""By one thread at a time: a session bears no more. A fork has a lock of its own, since the thread
that held this one is not in it."""

_KINDS = {
    "access_key": ("the access key", "AWS_ACCESS_KEY_ID", "aws_access_key_id"),
    "secret_key": ("the secret key", "AWS_SECRET_ACCESS_KEY", "aws_secret_access_key"),
    "token": ("the session token", "AWS_SESSION_TOKEN", "aws_session_token"),
}
_ORIGINS = {
    "shared-credentials-file": "AWS's credentials file",
    "config-file": "AWS's config file",
    "custom-process": "credential_process of AWS's config file",
    "assume-role": "AWS, for an assumed role",
    "assume-role-with-web-identity": "AWS, for a web identity",
    "sso": "AWS, for a login (aws sso login)",
    "iam-role": "the instance's role",
    "container-role": "the container's role",
}
_FAULTS = {
    "\r": "a carriage return (files that were edited on Windows have them)",
    "\n": "a newline",
    "\ufeff": "a byte order mark (files that were edited on Windows have one)",
    " ": "a space",
    "\t": "a tab",
}

_fit: ReadOnlyCredentials | None = None


@functools.lru_cache(maxsize=1)
def session_of_process(_pid: int) -> botocore.session.Session:
    secrets.guard_logs()
    keep_credentials_out()
    session = botocore.session.get_session()
    load_quickly(session)
    return session


def must_be_a_name(variable: str) -> None:
    """Raises `Problem` where white space around a profile's name would be a part of it."""
    value = os.environ.get(variable, "")
    if value != value.strip():
        raise Problem(f"{variable} is {value!r}: give the name of the profile and nothing else.")


def remember_profiles(session: botocore.session.Session) -> None:
    """Remember what stands in AWS's files, which is sent to get other credentials with."""
    for profile in session.full_config.get("profiles", {}).values():
        secrets.remember(*(profile.get(in_file) for _, _, in_file in _KINDS.values()))
        secrets.remember_login(str(profile.get("endpoint_url", "")))


def current_credentials() -> ReadOnlyCredentials | None:
    """Those of now, checked; None where there are none. Raises `Problem`, or what boto3 does."""
    try:
        found = session_of_process(os.getpid()).get_credentials()
        if found is None:
            return None
        now = found.get_frozen_credentials()
    except BotoCoreError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        if is_out_of_memory(error):
            raise
        raise Problem(
            f"AWS's credentials cannot be read where they come from ({type(error).__name__}): look "
            "at credential_process in ~/.aws/config, or log in again."
        ) from None
    global _fit
    if now != _fit:  # as nearly always: each request asks
        secrets.remember(now.access_key, now.secret_key, now.token)
        _must_be_fit(now, found.method)
        _fit = now
    return now


def refuse_unfit(found: Any) -> None:
    """Raises `Problem` for credentials that do not come from AWS itself and cannot be used."""
    if type(found) is Credentials:
        secrets.remember(found.access_key, found.secret_key, found.token)
        _must_be_fit(found.get_frozen_credentials(), found.method)


def check_before_signing(client: "S3Client") -> None:
    """Have a client refuse credentials that are not fit before it signs anything with them."""
    events: Any = client.meta.events  # described without what handlers return
    events.register("before-sign.s3", _check)


def renew_credentials(expired: str) -> bool:
    """Look credentials up afresh, as at the beginning, where those with this token have expired.

    Whether there are others now. Those of a role renew themselves in time.
    """
    with making_clients.setdefault(os.getpid(), threading.Lock()):
        known = session_of_process(os.getpid()).get_credentials()
        if known is None:
            return False
        before = known.get_frozen_credentials()
        if (before.token or "") != expired:
            return True  # another thread was quicker
        found = botocore.session.get_session().get_credentials()
        now = found.get_frozen_credentials() if found is not None else before
        if now == before or type(known) is not Credentials:
            return False
        values = {"access_key": now.access_key, "secret_key": now.secret_key, "token": now.token}
        vars(known).update(values)  # at once: another thread may be about to sign
        return True


def _check(**_: object) -> None:
    current_credentials()


def _must_be_fit(now: ReadOnlyCredentials, method: str) -> None:
    faults = []
    for name, (what, variable, in_file) in _KINDS.items():
        value = getattr(now, name) or ""
        fault = _fault(value, is_sent=name != "secret_key")
        if fault and method == "env":
            is_other = name == "token" and not os.environ.get(variable)
            faults.append(f"{'AWS_SECURITY_TOKEN' if is_other else variable} {fault}")
        elif fault:
            origin = _ORIGINS.get(method, method)
            faults.append(f"{what} ({in_file}) from {origin} {fault}")
    if faults:
        told = "; ".join(faults)
        raise Problem(
            f"AWS's credentials cannot be used: {told}. Give it without that. (What it holds is "
            "not shown here.)"
        )


def _fault(value: str, is_sent: bool) -> str:
    """What is wrong with a value, and where; of one that is sent, every character counts."""
    odd = [one for one in value if not one.isprintable() or (is_sent and not "!" <= one <= "~")]
    if odd:
        what = _FAULTS.get(odd[-1], "a character that cannot be sent")
        return f"{'ends in' if value.endswith(odd[-1]) else 'holds'} {what}"
    return "begins or ends with a space" if value != value.strip() else ""
