"""How boto3 reaches the objects of a bucket, found out without asking anybody.

Host, path, the region that is signed for, proxy and certificates follow from a profile, variables
and rules of AWS's, which only boto3 knows in full. So they are resolved there and nowhere else: a
GET of boto3's is stopped before it is signed, and looked at; `tasks.storage.gets` goes by that.
"""

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from botocore.httpsession import get_cert_path

from tasks.problem import Problem

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_KEY = "key"
_SIGNED_LIKE = ("s3v4", "v4")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True)
class Resolution:
    """`bucket_url` ends in ``/``; `proxy` is a URL, which may hold a password."""

    bucket_url: str
    region: str
    proxy: str | None = field(repr=False)
    ca_bundle: str


class _Stopped(Exception):
    def __init__(self, request: Any, signature_version: str) -> None:
        super().__init__()
        self.request = request
        self.signature_version = signature_version


class _Here(threading.local):
    is_looking = False


_here = _Here()


def make_resolvable(client: "S3Client") -> None:
    """Prepare a client for `resolved`."""
    client.meta.events.register("before-sign.s3.GetObject", _stop)


def resolved(client: "S3Client", bucket: str) -> Resolution:
    """How this client would get an object; raises `Problem` where nobody else can sign for it."""
    _here.is_looking = True
    try:
        client.get_object(Bucket=bucket, Key=_KEY)
        raise AssertionError("a client that is not resolvable")
    except _Stopped as stopped:
        request, signed_like = stopped.request, stopped.signature_version
    finally:
        _here.is_looking = False
    if signed_like not in _SIGNED_LIKE:
        raise Problem(
            f"s3://{bucket} is of a kind (S3 Express, a Multi-Region Access Point) that signs "
            "requests in a way of its own, which is not known here. Give an ordinary bucket."
        )
    session: Any = client._endpoint.http_session  # type: ignore[attr-defined]  # as it will send it
    parts = urlsplit(request.url)
    host = parts.netloc.rpartition("@")[2].removesuffix(_DEFAULT_PORTS[parts.scheme])
    path = parts.path.removesuffix(_KEY)
    return Resolution(
        urlunsplit((parts.scheme, host, path, "", "")),
        request.context["signing"]["region"],
        session._proxy_config.proxy_url_for(request.url),
        str(get_cert_path(session._verify)),
    )


def _stop(request: Any, signature_version: str, **_: object) -> None:
    if _here.is_looking:
        raise _Stopped(request, signature_version)
