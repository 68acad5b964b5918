"""AWS's control plane: one session, its clients, and what its errors mean for a person.

Credentials come from where every AWS tool takes them (AWS_PROFILE, AWS_ACCESS_KEY_ID, …), endpoints
from AWS_ENDPOINT_URL; the region is said by whoever makes an `Aws`. Every call is tried again with
backoff; what still fails becomes a `Problem` inside `explained`. Objects in S3 are not dealt with
here but in `tasks.storage`. Changes nothing in AWS.
"""

import contextlib
import functools
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import boto3
from botocore import exceptions as aws
from botocore.config import Config

from tasks.problem import Problem
from tasks.storage.refusal import remedy
from tasks.storage.s3 import explained as explained_without_answer
from tasks.storage.s3_credentials import refuse_unfit
from tasks.storage.unusable_settings import unusable
from tasks.storage.wire_logs import keep_credentials_out

if TYPE_CHECKING:
    from mypy_boto3_autoscaling.client import AutoScalingClient
    from mypy_boto3_cloudformation.client import CloudFormationClient
    from mypy_boto3_ec2.client import EC2Client
    from mypy_boto3_iam.client import IAMClient
    from mypy_boto3_logs.client import CloudWatchLogsClient
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_service_quotas.client import ServiceQuotasClient
    from mypy_boto3_sns.client import SNSClient
    from mypy_boto3_ssm.client import SSMClient
    from mypy_boto3_sts.client import STSClient

Answer = TypeVar("Answer")

_UNREACHABLE = (
    aws.EndpointConnectionError,
    aws.ConnectTimeoutError,
    aws.ReadTimeoutError,
    aws.ConnectionClosedError,
    aws.ProxyConnectionError,
)
_PATIENCE_SECONDS = 300.0
_DENIED = (
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "UnauthorizedOperation",
    "NotAuthorized",
)
_THROTTLED = (
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "TooManyRequestsException",
    "PriorRequestNotComplete",
)
_SAME_AS_S3 = {  # the same mistake has other names outside S3
    "AuthFailure": "InvalidAccessKeyId",
    "ExpiredTokenException": "ExpiredToken",
    "IncompleteSignature": "SignatureDoesNotMatch",
    "InvalidClientTokenId": "InvalidAccessKeyId",
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "RequestExpired": "ExpiredToken",
    "UnrecognizedClientException": "InvalidAccessKeyId",
}
_CREDENTIALS = (
    "ExpiredToken",
    "InvalidToken",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "RequestTimeTooSkewed",
)
_DENIED_ACTION = re.compile(r"not authorized to perform: ([\w-]+:\w+)")


class Aws:
    """One caller in one region. Clients may be used by several threads."""

    def __init__(self, region: str) -> None:
        keep_credentials_out()
        self.region = region
        self._lock = threading.Lock()  # boto3 makes one client at a time
        self._clients: dict[str, Any] = {}

    @overload
    def client(self, service: Literal["autoscaling"]) -> "AutoScalingClient": ...
    @overload
    def client(self, service: Literal["cloudformation"]) -> "CloudFormationClient": ...
    @overload
    def client(self, service: Literal["ec2"]) -> "EC2Client": ...
    @overload
    def client(self, service: Literal["iam"]) -> "IAMClient": ...
    @overload
    def client(self, service: Literal["logs"]) -> "CloudWatchLogsClient": ...
    @overload
    def client(self, service: Literal["s3"]) -> "S3Client": ...
    @overload
    def client(self, service: Literal["service-quotas"]) -> "ServiceQuotasClient": ...
    @overload
    def client(self, service: Literal["sns"]) -> "SNSClient": ...
    @overload
    def client(self, service: Literal["ssm"]) -> "SSMClient": ...
    @overload
    def client(self, service: Literal["sts"]) -> "STSClient": ...
    def client(self, service: Any) -> Any:
        """The client of a service; raises `Problem` if the profile or an address is wrong."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._make_client(service, max_attempts=6)
            return self._clients[service]

    @property
    def account(self) -> str:
        """The twelve digits of the caller's account; raises `Problem` without credentials."""
        return str(self._identity["Account"])

    @property
    def arn(self) -> str:
        """Who calls: the ARN of a user, or of a role's session."""
        return str(self._identity["Arn"])

    @property
    def partition(self) -> str:
        """``aws``, ``aws-cn`` or ``aws-us-gov``."""
        return self.arn.split(":")[1]

    @functools.cached_property
    def _identity(self) -> Any:
        with explained("AWS cannot be asked who you are"):
            # The first call of all: a wrong address should not take a minute to find out.
            return self._make_client("sts", max_attempts=2).get_caller_identity()

    @functools.cached_property
    def _session(self) -> boto3.session.Session:
        return boto3.session.Session(region_name=self.region)

    def _make_client(self, service: Any, max_attempts: int) -> Any:
        config = Config(
            retries={"mode": "standard", "total_max_attempts": max_attempts},
            connect_timeout=10,
            read_timeout=60,
        )
        with explained("AWS cannot be reached"):
            try:
                refuse_unfit(self._session.get_credentials())
                client: Any = self._session.client(service, config=config)
            except aws.InvalidRegionError:
                raise Problem(
                    f"{self.region!r} is no region of AWS: correct region in [ec2] of luigi.cfg, "
                    "or EC2_REGION."
                ) from None
            except ValueError as error:
                session: Any = self._session
                raise unusable(session._session, error, ("AWS_ENDPOINT_URL",)) from None
        return client


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what boto3 raises into a `Problem` that starts with `what` and ends with the remedy."""
    with explained_without_answer(what):
        try:
            yield
        except aws.ClientError as error:
            raise Problem(f"{what}: {_meaning(error)}.") from None
        except _UNREACHABLE as error:
            raise Problem(
                f"{what}: {str(error).rstrip('. ')}. Check the network and, if it is set, "
                "AWS_ENDPOINT_URL; then run it again: it goes on from there."
            ) from None


def _meaning(error: aws.ClientError) -> str:
    """The rest of a sentence that says what AWS's answer means and what to do."""
    code, message = code_of(error), message_of(error)
    if is_denied(error):
        by = "" if " with an explicit deny" not in message else "explicitly "
        return (
            f"access is {by}denied: you lack the permission {denied_action(error)}. Have it "
            "granted, or name another profile in AWS_PROFILE"
        )
    if code in _THROTTLED:
        return (
            f"AWS asks to slow down ({code}), still after several tries; run it again in a "
            "minute: it goes on from there"
        )
    if code in ("OptInRequired", "PendingVerification"):
        return f"AWS has not opened this service to your account yet ({message.rstrip('. ')})"
    code = _SAME_AS_S3.get(code, code)
    if code in _CREDENTIALS:
        return remedy(code, message)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if status >= 500:
        return f"AWS answers {code}, still after several tries; run it again later"
    return f"AWS answers {code} ({message.rstrip('. ')}); mend that and run it again"


def code_of(error: aws.ClientError) -> str:
    """AWS's code of what went wrong, such as ValidationError."""
    return str(error.response.get("Error", {}).get("Code", "")).removeprefix("Client.")


def message_of(error: aws.ClientError) -> str:
    """AWS's own sentence."""
    return str(error.response.get("Error", {}).get("Message", ""))


def is_denied(error: aws.ClientError) -> bool:
    """Whether the caller lacks a permission (and not, say, valid credentials)."""
    return code_of(error) in _DENIED


def denied_action(error: aws.ClientError) -> str:
    """The permission that is lacking, such as ec2:RunInstances, as far as AWS says it."""
    found = _DENIED_ACTION.search(message_of(error))
    return found[1] if found else f"for {error.operation_name}"


def patiently(ask: Callable[[], Answer]) -> Answer:
    """What `ask` returns; asks again for five minutes while nothing answers.

    For whatever waits a long time: a laptop that wakes from its sleep needs a moment to find its
    network again. Raises what `ask` raises.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    for pause in pauses():
        try:
            return ask()
        except _UNREACHABLE:
            if time.monotonic() > deadline:
                raise
        time.sleep(pause)
    raise AssertionError("pauses never end")


def pauses() -> Iterator[float]:
    """Seconds to wait between two looks at something: short ones first, then three seconds."""
    seconds = 0.2
    while True:
        yield seconds
        seconds = min(3.0, seconds * 1.3)
