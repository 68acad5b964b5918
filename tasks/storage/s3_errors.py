"""What boto3 raises, said to a person: what cannot be done, why, and what to do about it."""

import contextlib
from collections.abc import Iterator, Mapping

from botocore import exceptions as aws
from botocore.parsers import ResponseParserError

from tasks.out_of_memory import is_out_of_memory
from tasks.problem import Problem
from tasks.storage.listed import Unreadable
from tasks.storage.refusal import CODES_OF_ONE_OBJECT, remedy
from tasks.storage.s3_attempts import GivenUp

_NONSENSE = (
    *(ResponseParserError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError),
    RuntimeError,
)
"""What boto3, and whoever reads its answers, may raise for one that is none of S3's."""


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what boto3 raises into a `Problem` that starts with `what` and ends with the remedy."""
    try:
        yield
    except GivenUp as error:
        raise Problem(f"{what}: {error}") from None
    except aws.ClientError as error:
        kind = Unreadable if code_of(error) in CODES_OF_ONE_OBJECT else Problem
        raise kind(f"{what}: {remedy(code_of(error), message_of(error))}.") from None
    except aws.ProfileNotFound as error:
        raise Problem(f"{what}: {error}. Correct AWS_PROFILE, or unset it.") from None
    except aws.PartialCredentialsError as error:
        raise Problem(f"{what}: {error}. Set what is missing, or use AWS_PROFILE.") from None
    except aws.NoCredentialsError:
        raise Problem(
            f"{what}: there are no AWS credentials. Set AWS_PROFILE (aws configure list-profiles "
            "shows what there is), or run it where an instance role provides them."
        ) from None
    except (aws.CredentialRetrievalError, aws.SSOError, aws.UnauthorizedSSOTokenError) as error:
        raise Problem(f"{what}: {error}. Log in again (aws sso login).") from None
    except (
        aws.EndpointConnectionError,
        aws.ConnectTimeoutError,
        aws.ConnectionClosedError,
    ) as error:
        raise Problem(
            f"{what}: {_ended(error)} Check the network and AWS_ENDPOINT_URL_S3, then run it again."
        ) from None
    except aws.ParamValidationError as error:
        report = str(error).partition("\n")[2].strip()
        mistake = report.partition(": Bucket name must")[0]  # and not the pattern that it must
        raise Problem(f"{what}: {_ended(mistake)} Correct the address.") from None
    except (aws.ConfigParseError, aws.ConfigNotFound) as error:
        raise Problem(f"{what}: {_ended(error)} Correct that file of AWS's.") from None
    except (aws.BotoCoreError, aws.HTTPClientError) as error:
        if is_out_of_memory(error):
            raise
        raise Problem(f"{what}: {_ended(error)} Run it again when that is mended.") from None
    except _NONSENSE as error:  # which is not told: it may repeat what was sent, and signed
        if is_out_of_memory(error):
            raise
        raise Problem(
            f"{what}: the answer is none of AWS's ({type(error).__name__}). Check the network, a "
            "proxy in it, and AWS_ENDPOINT_URL_S3, then run it again."
        ) from None


def _ended(message: object) -> str:
    """A message of boto3's as a sentence: they end in a full stop or not."""
    return str(message).rstrip(" .") + "."


def message_of(error: aws.ClientError) -> str:
    """What S3 says itself; some servers say why in a second element."""
    told: Mapping[str, object] = error.response.get("Error", {})
    return " ".join(str(told[name]) for name in ("Message", "Details") if told.get(name))


def code_of(error: aws.ClientError) -> str:
    """S3's code of an error; the status where an answer, as one to a HEAD, had none."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
    return str(error.response.get("Error", {}).get("Code") or status)


def answer_of(error: aws.ClientError | GivenUp) -> tuple[int, str]:
    """The status and the code of a refusal; 0 where no answer came, no code where none did."""
    if isinstance(error, GivenUp):
        return int(error.kwargs["status"]), ""
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = code_of(error)
    return status, "" if code.isdecimal() else code
