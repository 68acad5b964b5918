"""The AWS settings of a machine, and an environment in which none of them counts.

Settings that were made for AWS must not decide how a server of this machine's own is reached, nor
whether. They stand in environment variables and in files below ~/.aws, and boto3 reads them all by
itself. So whoever talks to such a server runs in the environment that `without_aws` gives, in which
there are neither. Pure: nothing is changed here.
"""

import os
from collections.abc import Mapping

_PREFIXES = ("AWS_", "BOTO")
_OTHERS = ("REQUESTS_CA_BUNDLE", "_X_AMZN_TRACE_ID")
"""What boto3 reads, too."""


def without_aws(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without any AWS setting: no variable, no file, no instance's metadata."""
    kept = {name: value for name, value in environment.items() if not _is_of_aws(name)}
    return kept | {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def without_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without a proxy, and without those that a system has set elsewhere."""
    kept = {name: value for name, value in environment.items() if not _is_of_proxies(name)}
    return kept | {"NO_PROXY": "*", "no_proxy": "*"}


def _is_of_aws(name: str) -> bool:
    return name.startswith(_PREFIXES) or name in _OTHERS


def _is_of_proxies(name: str) -> bool:
    return name.lower().endswith("_proxy")
