"""Who a request to AWS comes from, as far as anything here needs to know. Decides nothing."""

from dataclasses import dataclass
from datetime import datetime

from ops.local_aws.policies import Policies


@dataclass
class Identity:
    """The one that a key belongs to."""

    arn: str
    account: str
    policies: Policies
    token: str
    expires: datetime | None
    instance: str
    """The instance whose credentials these are, or nothing."""
