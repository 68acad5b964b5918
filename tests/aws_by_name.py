"""AWS's S3 by the names of its hosts: a proxy that is, for its client, all of them at once.

Whoever asks for ``bucket.s3.eu-west-1.amazonaws.com`` through it gets a TLS connection to a server
of that name, with a certificate that `bundle` vouches for. Behind all names is one real server;
before it stand AWS's rules about regions: each bucket lies in one, and a host of another region, or
a request that was signed for another, is refused, and told which one is right.
"""

import datetime as dt
import http.client
import re
import ssl
import threading
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

REGIONS = ("us-east-1", "us-west-2", "eu-west-1", "ap-southeast-2")
_HOST = re.compile(
    r"(?:(?P<bucket>.+)\.)?s3(?P<kind>-accelerate|-fips)?(?:\.dualstack)?"
    r"(?:\.(?P<region>[a-z]+-[a-z]+-\d))?\.amazonaws\.com"
)
_SIGNED_FOR = re.compile(r"Credential=[^/]+/\d{8}/([^/]+)/s3/")
_REASONS = {301: "Moved Permanently", 400: "Bad Request", 403: "Forbidden"}


@dataclass(frozen=True)
class Asked:
    """One request, and the status of its answer."""

    method: str
    host: str
    bucket: str
    target: str
    signed_for: str
    status: int


class AwsByName:
    """Serves inside a ``with`` block at `url`, a proxy; `lies` says which bucket is where."""

    def __init__(
        self,
        real: str,
        certificate: Path,
        lies: dict[str, str],
        denies: bool = False,
        denies_everywhere: bool = False,
        in_header: bool = True,
        like_minio: bool = False,
    ) -> None:
        """A wrong region `denies` with 403 instead; `in_header` is the right one named."""
        self.asked: list[Asked] = []
        self.connected: Counter[str] = Counter()
        self.logins: list[str | None] = []
        here = self
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            host = ""

            def do_CONNECT(self) -> None:
                self.host = self.path.removesuffix(":443")
                here.connected[self.host] += 1
                here.logins.append(self.headers.get("Proxy-Authorization"))
                self.send_response_only(200)
                self.end_headers()
                self.connection = context.wrap_socket(self.connection, server_side=True)
                self.rfile = self.connection.makefile("rb")
                self.wfile: Any = self.connection.makefile("wb", buffering=0)
                self.close_connection = False

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                named = _HOST.fullmatch(self.host)
                assert named, self.host
                bucket, target = named["bucket"], self.path
                if bucket is None:
                    bucket = target.partition("?")[0].split("/")[1]
                else:
                    target = f"/{bucket}{target}"
                signed = _SIGNED_FOR.search(self.headers.get("Authorization", ""))
                signed_for, region = signed[1] if signed else "", lies[bucket]
                status = self._answer(named["region"], signed_for, region, target, body)
                one = Asked(self.command, self.host, bucket, target, signed_for, status)
                here.asked.append(one)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

            def _answer(
                self, of_host: str | None, signed_for: str, region: str, target: str, body: bytes
            ) -> int:
                if (of_host or region) == region == signed_for and not denies_everywhere:
                    return self._pass_on(target, body, region)
                status, code = 301, "PermanentRedirect"
                more = f"<Endpoint>s3.{region}.amazonaws.com</Endpoint>"
                if (of_host or region) == region:
                    status, code = 400, "AuthorizationHeaderMalformed"
                    more = f"<Region>{region}</Region>"
                if denies:
                    status, code, more = 403, "AccessDenied", ""
                message = "So it is"
                if like_minio:
                    status, code, more = 400, "InvalidRegion", ""
                    message = f"Region does not match; expecting '{region}'."
                xml = f"<Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>"
                headers = [("x-amz-bucket-region", region)] if in_header else []
                headers.append(("Content-Length", str(len(xml))))
                self._send(status, _REASONS[status], headers, xml.encode())
                return status

            def _pass_on(self, target: str, body: bytes, region: str) -> int:
                link = http.client.HTTPConnection(urlsplit(real).netloc)
                sent = {name: value for name, value in self.headers.items() if name != "Host"}
                link.request(self.command, target, body, sent)
                answer = link.getresponse()
                own = ("connection", "transfer-encoding", "x-amz-bucket-region")
                headers = [one for one in answer.getheaders() if one[0].lower() not in own]
                headers.append(("x-amz-bucket-region", region))
                content = answer.read()
                if not any(name.lower() == "content-length" for name, _ in headers):
                    headers.append(("Content-Length", str(len(content))))
                self._send(answer.status, answer.reason, headers, content)
                link.close()
                return answer.status

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
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def refused(self, bucket: str) -> list[Asked]:
        return [one for one in self.asked if one.bucket == bucket and one.status >= 300]

    def __enter__(self) -> "AwsByName":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        pass  # a client that was told no may hang up in the middle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the key and the certificate of all hosts of S3's."""
    regional = [f"{kind}.{region}" for region in REGIONS for kind in _kinds("s3", "s3-fips")]
    names = ["s3", *regional, *_kinds("s3-accelerate")]
    hosts = [f"{name}.amazonaws.com" for name in names]
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "S3 of these tests")])
    now = dt.datetime.now(dt.UTC)
    alternatives = [x509.DNSName(one) for host in hosts for one in (host, f"*.{host}")]
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "s3.pem"
    pem = serialization.Encoding.PEM
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(pem, *form) + signed.public_bytes(pem))
    return path


def _kinds(*kinds: str) -> list[str]:
    return [one for kind in kinds for one in (kind, f"{kind}.dualstack")]
