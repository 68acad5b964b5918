"""What an EC2 instance can ask of itself: which one it is, and whether AWS wants it back soon.

Speaks IMDSv2 only: every question carries a token that a PUT request has got. The address is the
usual one unless AWS_EC2_METADATA_SERVICE_ENDPOINT names another, as for every AWS tool. Asks
nothing outside this machine, and knows no credentials: boto3 fetches those by itself.
"""

import datetime as dt
import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

from tasks import advice
from tasks.problem import Problem

_ENDPOINT = "http://169.254.169.254"
_TIMEOUT_SECONDS = 1.0
_TOKEN_SECONDS = 21_600
_TRIES = 2

# The answer is always this machine's own: no proxy has it.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Identity:
    """The instance: its id, type, zone, private IPv4 address, region, and when it was launched.

    `launched` is ISO 8601 in UTC.
    """

    instance: str
    type: str
    zone: str
    address: str
    region: str
    launched: str


@dataclass(frozen=True)
class Interruption:
    """AWS takes the instance back: what it does (`terminate`, `stop`, `hibernate`), and when."""

    action: str
    at: dt.datetime


class Metadata:
    """The metadata service of this machine."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        named = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "").strip()
        self._endpoint = (named or _ENDPOINT).rstrip("/")
        self._token = ""

    def identity(self) -> Identity:
        """Who this is; raises `Problem` where there is no metadata service, so outside EC2."""
        try:
            found = json.loads(self._get("dynamic/instance-identity/document") or b"")
            return Identity(
                instance=found["instanceId"],
                type=found["instanceType"],
                zone=found["availabilityZone"],
                address=found["privateIp"],
                region=found["region"],
                launched=_time(found["pendingTime"]).isoformat(timespec="seconds"),
            )
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
            raise Problem(
                f"{self._endpoint} does not say which EC2 instance this is ({_short(error)}). "
                f"It is only there on an instance; {advice.make('full', ON='ec2')} starts the run "
                "on a fleet."
            ) from None

    def interruption(self) -> Interruption | None:
        """When AWS takes this instance back; None while it does not, or cannot be asked."""
        try:
            found = self._get("meta-data/spot/instance-action")
            if found is None:
                return None
            notice = json.loads(found)
            return Interruption(notice["action"], _time(notice["time"]))
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            return None  # asked again in a moment

    def _get(self, path: str) -> bytes | None:
        """The answer to a question; None where there is nothing of the kind."""
        for attempt in range(_TRIES):
            try:
                if not self._token:
                    self._token = self._new_token()
                header = {"X-aws-ec2-metadata-token": self._token}
                return self._ask(urllib.request.Request(self._url(path), headers=header))
            except urllib.error.HTTPError as error:
                if error.code == 404:
                    return None
                if error.code == 401:  # the token has expired
                    self._token = ""
                if attempt == _TRIES - 1:
                    raise
            except (OSError, http.client.HTTPException):
                if attempt == _TRIES - 1:
                    raise
        raise AssertionError("the last try either answers or raises")

    def _new_token(self) -> str:
        header = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
        asked = urllib.request.Request(self._url("api/token"), method="PUT", headers=header)
        return self._ask(asked).decode("ascii")

    def _ask(self, asked: urllib.request.Request) -> bytes:
        with _direct.open(asked, timeout=_TIMEOUT_SECONDS) as answer:
            return bytes(answer.read())

    def _url(self, path: str) -> str:
        return f"{self._endpoint}/latest/{path}"


def _time(text: str) -> dt.datetime:
    return dt.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=dt.UTC)


def _short(error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"it answers {error.code}"
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return str(error) or type(error).__name__
