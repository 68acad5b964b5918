"""What requests to AWS and their answers look like on the wire.

Knows how each protocol names the service, the action and the caller, how parameters are written
and how results and refusals are. Nothing here decides what a request does.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from ops.local_aws.identity import Identity

SERVICES = {"monitoring": "cloudwatch", "servicequotas": "service-quotas"}
"""botocore's name of a service where the one that requests are signed for is another."""

JSON_SERVICES = ("ssm", "logs", "servicequotas", "pricing")


class Refused(Exception):
    """An error of AWS's: `code` and `message` as AWS words them, and the HTTP status."""

    def __init__(
        self, code: str, message: str, status: int = 400, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.headers = dict(headers or {})
        self.code = code
        self.message = message
        self.status = status


@dataclass
class Call:
    """One request: which service is asked to do what, and by whose key."""

    service: str
    """As requests are signed for it: s3, ssm, servicequotas, …"""
    action: str
    """As its documentation names it; empty for S3, whose requests have no name of their own."""
    region: str
    access_key: str
    token: str
    environ: "WSGIEnvironment"
    caller: "Identity | None" = None
    _parameters: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters, as boto3 takes them."""
        if self._parameters is None:
            self._parameters = _parse(self)
        return self._parameters

    @property
    def body(self) -> bytes:
        """The body, which stays readable for whoever comes next."""
        stream = self.environ["wsgi.input"]
        content: bytes = stream.read()
        stream.seek(0)
        return content


def identify(environ: "WSGIEnvironment") -> Call:
    """Who asks what of which service; without a signature it is nobody, asking S3."""
    authorization = environ.get("HTTP_AUTHORIZATION", "")
    token = environ.get("HTTP_X_AMZ_SECURITY_TOKEN", "")
    scope = authorization.partition("Credential=")[2].partition(",")[0]
    if not scope and "X-Amz-Credential=" in environ["QUERY_STRING"]:
        query = parse_qs(environ["QUERY_STRING"])
        scope = query["X-Amz-Credential"][0]
        token = query.get("X-Amz-Security-Token", [""])[0]
    parts = scope.split("/")
    if len(parts) != 5:
        return Call("s3", "", "us-east-1", "", "", environ)
    access_key, _, region, service, _ = parts
    call = Call(service, "", region, access_key, token, environ)
    if service != "s3":
        call.action = _action(call)
    return call


def _action(call: Call) -> str:
    target: str = call.environ.get("HTTP_X_AMZ_TARGET", "")
    if target:
        return target.rpartition(".")[2]
    body = call.body.decode("utf-8", "replace")
    named = parse_qs(body).get("Action") or parse_qs(call.environ["QUERY_STRING"]).get("Action")
    return named[0] if named else ""


def _parse(call: Call) -> dict[str, Any]:
    from moto.core.parse import PROTOCOL_PARSERS

    operation, protocol = _operation(call)
    values = {key: given[0] for key, given in parse_qs(call.body.decode(), True).items()}
    request: Any = {
        "method": call.environ["REQUEST_METHOD"],
        "values": values,
        "headers": {},
        "body": call.body,
        "url_path": call.environ["PATH_INFO"],
        "url_params": {},
    }
    parsed: dict[str, Any] = PROTOCOL_PARSERS[protocol](operation).parse(request)
    return parsed


def _operation(call: Call) -> tuple[Any, str]:
    from moto.core.utils import get_service_model

    model = get_service_model(SERVICES.get(call.service, call.service))
    return model.operation_model(call.action), str(model.protocol)


def answer(call: Call, result: dict[str, Any], start_response: "StartResponse") -> Iterable[bytes]:
    """`result`, as boto3 returns it, in the protocol of the call's service."""
    from moto.core.serialize import get_serializer_class

    operation, protocol = _operation(call)
    service = SERVICES.get(call.service, call.service)
    written = get_serializer_class(service, protocol)(operation_model=operation).serialize(result)
    body = written["body"]
    content = body.encode() if isinstance(body, str) else body
    start_response(f"{written['status_code']} OK", list(written["headers"].items()))
    return [content]


def refuse(call: Call, refused: Refused, start_response: "StartResponse") -> Iterable[bytes]:
    """A refusal in the protocol of the call's service."""
    code, message = escape(refused.code), escape(refused.message)
    content_type = "text/xml"
    if call.service in JSON_SERVICES:
        content_type = "application/x-amz-json-1.1"
        body = json.dumps({"__type": refused.code, "message": refused.message})
    elif call.service == "s3":
        content_type = "application/xml"
        body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    elif call.service == "ec2":
        body = (
            f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error>"
            "</Errors><RequestID>local</RequestID></Response>"
        )
    else:
        body = (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}"
            "</Message></Error><RequestId>local</RequestId></ErrorResponse>"
        )
    headers = [("Content-Type", content_type), *refused.headers.items()]
    start_response(f"{refused.status} Refused", headers)
    return [body.encode()]
