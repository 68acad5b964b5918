"""What to say of a setting of AWS's that boto3 cannot use, though boto3 itself rarely says which.

Making a client reads dozens of settings, and a number that is none, or a URL without a port, comes
out as a ValueError like any other. Here it is found which setting that was.
"""

import botocore.session
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES

from tasks.problem import Problem

_OF_ENDPOINTS = ("Invalid endpoint", "Port ", "Invalid IPv6 URL")


def unusable(
    session: botocore.session.Session, error: Exception, endpoints: tuple[str, ...]
) -> Problem:
    """For what was raised while a client was made.

    `endpoints` are the variables that may name the address of the service, the usual one first.
    """
    told = "".join(one if one.isprintable() else repr(one)[1:-1] for one in str(error))
    if any(word in told for word in _OF_ENDPOINTS):
        usual, *others = endpoints
        or_others = "".join(f" (or {other})" for other in others)
        return Problem(
            f"{told}. Correct {usual}{or_others}: it looks like http://127.0.0.1:5555. For AWS "
            "itself, unset it."
        )
    for name, (in_file, in_environment, *_) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items():
        try:
            session.get_config_variable(name)
        except ValueError as why:
            return Problem(
                f"AWS's setting {in_file or name} has a value that boto3 cannot use ({why}). "
                f"Correct or unset it: {in_environment} in the environment, {in_file or name} in "
                "AWS's config file."
            )
    return Problem(
        f"boto3 cannot use an AWS setting of this machine ({type(error).__name__}: {told}). Look "
        "through the variables that begin with AWS_, and through the files below ~/.aws."
    )
