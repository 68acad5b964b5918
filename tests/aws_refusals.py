"""A stand-in for S3 that refuses: the error documents, status codes and headers of the real one.

`RefusingS3` answers the kinds of request it is told to refuse as S3 would, and passes all others
on to a real server. A HEAD is refused without a body, as S3 does. With a `region` it is a bucket
that lies there: it refuses only requests that were signed for another region.
"""

import http.client
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

LIST, GET, HEAD, PUT, OTHER = "list", "get", "head", "put", "other"
WRITES = (PUT, OTHER)
EVERYTHING = (LIST, GET, HEAD, *WRITES)

ELSEWHERE = "eu-west-1"
"""The region that the redirects name."""

REFUSALS: dict[str, tuple[int, str, str]] = {
    "AccessDenied": (403, "Access Denied", ""),
    "AllAccessDisabled": (403, "All access to this object has been disabled", ""),
    "PermanentRedirect": (
        301,
        "The bucket you are attempting to access must be addressed using the specified endpoint. "
        "Please send all future requests to this endpoint.",
        f"<Endpoint>s3-{ELSEWHERE}.amazonaws.com</Endpoint>",
    ),
    "AuthorizationHeaderMalformed": (
        400,
        f"The authorization header is malformed; the region is wrong; expecting '{ELSEWHERE}'",
        f"<Region>{ELSEWHERE}</Region>",
    ),
    "IllegalLocationConstraintException": (
        400,
        f"The {ELSEWHERE} location constraint is incompatible for the region specific endpoint "
        "this request was sent to.",
        "",
    ),
    "ExpiredToken": (400, "The provided token has expired.", ""),
    "InvalidToken": (400, "The provided token is malformed or otherwise invalid.", ""),
    "InvalidAccessKeyId": (
        403,
        "The AWS Access Key Id you provided does not exist in our records.",
        "<AWSAccessKeyId>test</AWSAccessKeyId>",
    ),
    "SignatureDoesNotMatch": (
        403,
        "The request signature we calculated does not match the signature you provided. Check your "
        "key and signing method.",
        "",
    ),
    "RequestTimeTooSkewed": (
        403,
        "The difference between the request time and the current time is too large.",
        "<MaxAllowedSkewMilliseconds>900000</MaxAllowedSkewMilliseconds>",
    ),
    "NoSuchBucket": (404, "The specified bucket does not exist", ""),
}

_REDIRECTS = ("PermanentRedirect", "AuthorizationHeaderMalformed")
_REASONS = {301: "Moved Permanently", 400: "Bad Request", 403: "Forbidden", 404: "Not Found"}
_SIGNED_FOR = re.compile(r"Credential=[^/]+/\d{8}/([^/]+)/s3/")


class RefusingS3:
    """Serves inside a ``with`` block at `url`; `refused` counts what it refused, by kind."""

    def __init__(
        self,
        code: str,
        kinds: tuple[str, ...] = EVERYTHING,
        real: str = "",
        region: str = "",
        message: str = "",
        allows: Callable[[str, str, Mapping[str, str]], bool] = lambda *_: False,
    ) -> None:
        """`allows` gets method, path and headers of a request that would be refused."""
        self.refused: Counter[str] = Counter()
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                kind = _kind(self.command, self.path)
                signed_for = _SIGNED_FOR.search(self.headers.get("Authorization", ""))
                at_home = bool(region and signed_for and signed_for[1] == region)
                may_pass = at_home or allows(self.command, self.path, self.headers)
                if kind in kinds and not may_pass:
                    stand_in.refused[kind] += 1
                    self._refuse()
                else:
                    self._pass_on(body)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

            def _refuse(self) -> None:
                status, usual, more = REFUSALS[code]
                said = escape(message or usual, {'"': "&quot;"})
                xml = (
                    '<?xml version="1.0" encoding="UTF-8"?>\n'
                    f"<Error><Code>{code}</Code><Message>{said}</Message>{more}"
                    "<RequestId>4442587FB7D0A2F9</RequestId><HostId>aG9zdA==</HostId></Error>"
                ).encode()
                headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(xml)))]
                if code in _REDIRECTS:
                    headers.append(("x-amz-bucket-region", ELSEWHERE))
                self._send(status, _REASONS[status], headers, xml)

            def _pass_on(self, body: bytes) -> None:
                link = http.client.HTTPConnection(urlsplit(real).netloc)
                sent = {name: value for name, value in self.headers.items() if name != "Host"}
                link.request(self.command, self.path, body, sent)
                answer = link.getresponse()
                own = ("connection", "transfer-encoding", "x-amz-bucket-region")
                headers = [one for one in answer.getheaders() if one[0].lower() not in own]
                if region:
                    headers.append(("x-amz-bucket-region", region))
                content = answer.read()
                if not any(name.lower() == "content-length" for name, _ in headers):
                    headers.append(("Content-Length", str(len(content))))
                self._send(answer.status, answer.reason, headers, content)
                link.close()

            def _send(
                self, status: int, reason: str, headers: list[tuple[str, str]], content: bytes
            ) -> None:
                self.send_response_only(status, reason)
                for name, value in headers:
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "RefusingS3":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class NoS3(RefusingS3):
    """A web server that is no S3: it answers everything with a page, as a captive portal does."""

    def __init__(self, status: int = 200) -> None:
        page = b"<html><head><title>Welcome</title><body><p>Log in<br></html>"

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response_only(status)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(page)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        pass  # a client that was told no may hang up in the middle


def _kind(method: str, path: str) -> str:
    if method == "GET":
        return LIST if "list-type=" in path else GET
    return {"HEAD": HEAD, "PUT": PUT}.get(method, OTHER)
