"""Whose keys a person here can use: the users that every local AWS has from its start.

admin may do everything; reader may look at everything and change nothing; stranger may do
everything in another account; expired had credentials that were good until a minute ago.
"""

from datetime import timedelta
from typing import Any

from ops.local_aws.backends import ACCOUNT, Backends

OTHER_ACCOUNT = "210987654321"
_USERS = (
    ("admin", ACCOUNT, "AdministratorAccess"),
    ("reader", ACCOUNT, "ReadOnlyAccess"),
    ("stranger", OTHER_ACCOUNT, "AdministratorAccess"),
)


def make_users(backends: Backends) -> dict[str, dict[str, str]]:
    """Each user's name with the environment variables of its credentials."""
    made = {}
    managed = backends.iam.managed_policies
    for name, account, policy in _USERS:
        iam = backends.of_account("iam", account, "aws")
        arn = f"arn:aws:iam::aws:policy/{policy}"
        iam.managed_policies.setdefault(arn, managed[arn])
        iam.create_user(backends.region, name)
        iam.attach_user_policy(arn, name)
        key = iam.create_access_key(name)
        made[name] = _variables(key.access_key_id, key.secret_access_key)
    taken: Any = backends.sts.assume_role(
        backends.region, "expired", f"arn:aws:iam::{ACCOUNT}:role/visitor", "", 900, ""
    )
    taken.expiration -= timedelta(seconds=960)
    made["expired"] = _variables(taken.access_key_id, taken.secret_access_key)
    made["expired"]["AWS_SESSION_TOKEN"] = taken.session_token
    return made


def _variables(key: str, secret: str) -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
