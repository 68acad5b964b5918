"""The embedded S3-compatible server: an S3 on this machine, with nothing but Python needed.

It is moto's S3 behind a small HTTP server of its own, on 127.0.0.1 only, for any credentials and
without a password. Everything it holds is in memory and gone when it stops: about 0.2 MB for an
object of 0.18 MB. It is stricter than moto where the pipeline relies on it: a body that does not
match its checksums is refused, and checksums are kept and shown as S3 does. It is for tests and for
trying things out; it never speaks to AWS.
"""

import argparse
import base64
import binascii
import hashlib
import io
import os
import re
import resource
import sys
import threading
import traceback
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ops.aws_settings import without_aws
from ops.service import CARD_PATH, Service, card, python_path

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from werkzeug.serving import ThreadedWSGIServer

_DIGESTS: dict[str, Callable[[bytes], bytes]] = {
    "Content-MD5": lambda body: hashlib.md5(body, usedforsecurity=False).digest(),
    "x-amz-checksum-crc32": lambda body: zlib.crc32(body).to_bytes(4, "big"),
    "x-amz-checksum-sha1": lambda body: hashlib.sha1(body, usedforsecurity=False).digest(),
    "x-amz-checksum-sha256": lambda body: hashlib.sha256(body).digest(),
}
_ALGORITHM = re.compile(r"HTTP_X_AMZ_CHECKSUM_(CRC32|CRC32C|CRC64NVME|SHA1|SHA256)")


class StrictS3:
    """What moto's S3 leaves out of S3, put around it as a WSGI application.

    - A PUT whose body differs from its Content-MD5, x-amz-checksum-crc32, -sha1 or -sha256 is
      answered with 400 BadDigest. (CRC32C and CRC64NVME are kept, but not checked: Python has
      neither. Checksums in the trailer of an aws-chunked body are left to moto, which keeps them.)
    - A checksum is kept although the request did not name its algorithm a second time.
    - HEAD shows the checksum of a multipart upload with the number of its parts, as GET does.
    - A part for, or the completion of, an upload that is not there (any more): 404 NoSuchUpload.
    - If-Match and If-None-Match of a PUT, or of the completion of an upload: 412 PreconditionFailed
      where the object is another, 404 NoSuchKey where there is none to match.
    - One request at a time: moto's dictionaries and buffers are not safe for threads; a listing
      reads the very buffer that a GET of the same object reads.
    """

    def __init__(self, moto: "WSGIApplication") -> None:
        self._moto = moto
        self._lock = threading.Lock()

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "PUT":
            refusal = _refusal_of_body(environ)
            if refusal:
                return _error(start_response, "400 Bad Request", *refusal)
            _name_algorithm(environ)
        elif environ["REQUEST_METHOD"] == "HEAD":
            start_response = _with_part_count(start_response)
        try:
            with self._lock:
                if refused := self._refused_condition(environ):
                    return _error(start_response, *refused)
                return list(self._moto(environ, start_response))
        except KeyError:
            if "uploadId=" not in environ["QUERY_STRING"]:
                raise
            return _error(
                start_response,
                "404 Not Found",
                "NoSuchUpload",
                "The specified upload does not exist. The upload ID may be invalid, or the upload "
                "may have been aborted or completed.",
            )

    def _refused_condition(self, environ: "WSGIEnvironment") -> tuple[str, str, str] | None:
        """The status, code and message for an object that is not as its writer expects."""
        match = environ.get("HTTP_IF_MATCH", "").strip('"')
        must_be_absent = environ.get("HTTP_IF_NONE_MATCH") == "*"
        if environ["REQUEST_METHOD"] not in ("PUT", "POST") or not (match or must_be_absent):
            return None
        found: dict[str, str] = {}
        head = environ | {
            "REQUEST_METHOD": "HEAD",
            "QUERY_STRING": "",
            "CONTENT_LENGTH": "0",
            "wsgi.input": io.BytesIO(),
        }
        for name in ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"):
            head.pop(name, None)

        def note(status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> Any:
            if status.startswith("200"):
                found.update({name.lower(): value for name, value in headers})

        list(self._moto(head, note))
        etag = found.get("etag", "").strip('"')
        if (must_be_absent and not etag) or (match and match == etag):
            return None
        if match and not etag:
            return "404 Not Found", "NoSuchKey", "The specified key does not exist."
        return (
            "412 Precondition Failed",
            "PreconditionFailed",
            "At least one of the pre-conditions you specified did not hold",
        )


def _refusal_of_body(environ: "WSGIEnvironment") -> tuple[str, str] | None:
    """The error code and message for a body that is not what its headers say."""
    if "aws-chunked" in environ.get("HTTP_CONTENT_ENCODING", ""):
        return None  # the digests are of what the chunks hold
    promised = {
        header: environ[name]
        for header in _DIGESTS
        if (name := "HTTP_" + header.upper().replace("-", "_")) in environ
    }
    if not promised:
        return None
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    for header, value in promised.items():
        try:
            expected = base64.b64decode(value, validate=True)
        except binascii.Error:
            return "InvalidDigest", f"The {header} you specified is not valid."
        if _DIGESTS[header](body) != expected:
            return "BadDigest", f"The {header} you specified did not match what we received."
    return None


def _name_algorithm(environ: "WSGIEnvironment") -> None:
    """Say which checksum a PUT carries: moto keeps it only if this header names it as well."""
    for name in environ:
        if found := _ALGORITHM.fullmatch(name):
            environ.setdefault("HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM", found[1])
            return


def _with_part_count(start_response: "StartResponse") -> "StartResponse":
    """Put the number of parts, which the ETag of a multipart upload ends in, on its checksum."""

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        etag = next((value for name, value in headers if name.lower() == "etag"), "")
        parts = etag.strip('"').partition("-")[2]
        composite = ("x-amz-checksum-sha1", "x-amz-checksum-sha256")
        shown = [
            (name, f"{value}-{parts}" if parts and name.lower() in composite else value)
            for name, value in headers
        ]
        return start_response(status, shown, exc_info)

    return start


def _error(
    start_response: "StartResponse", status: str, code: str, message: str
) -> Iterable[bytes]:
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    ).encode()
    start_response(status, [("Content-Type", "application/xml")])
    return [xml]


def serve(port: int) -> None:
    """Serve on 127.0.0.1 until the process is told to end. Ends at once if the port is taken."""
    forget_aws()
    from moto.moto_server.werkzeug_app import create_backend_app  # slow to import

    server = make_server("127.0.0.1", port, _with_card(StrictS3(create_backend_app("s3"))))
    print(f"S3 on http://127.0.0.1:{server.port}", flush=True)
    server.serve_forever()


def _with_card(app: "WSGIApplication") -> "WSGIApplication":
    """The same, and at a path of its own what the service tells of itself."""

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["PATH_INFO"] != CARD_PATH:
            return app(environ, start_response)
        start_response("200 OK", [("Content-Type", "application/json")])
        return [card()]

    return answer


def forget_aws() -> None:
    """Make this process moto's own; must come before moto is imported."""
    # Nothing of AWS's is of use here, and moto answers 500 if AWS_PROFILE names no profile.
    environment = without_aws(os.environ)
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)
    from botocore.loaders import Loader

    Loader.CUSTOMER_DATA_PATH = os.devnull  # in place of ~/.aws/models, which moto would read
    # No web page may read what is here; moto allows every one by default.
    os.environ["MOTO_DISABLE_GLOBAL_CORS"] = "true"


def make_server(address: str, port: int, app: "WSGIApplication") -> "ThreadedWSGIServer":
    """A server of threads that keeps connections open; port 0 takes a free one."""
    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from werkzeug.serving import ThreadedWSGIServer

    class Handler(MotoRequestHandler):
        """Keeps connections open, which werkzeug's own handler never does.

        A request is read to its end before it is answered, so that the next one can follow, and an
        answer is sent in one go. Both halves of a small answer would otherwise wait for each other
        (Nagle's algorithm and delayed acknowledgement).
        """

        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def run_wsgi(self) -> None:
            environ = self.make_environ()
            if environ.pop("HTTP_TRANSFER_ENCODING", None):
                body = environ["wsgi.input"].read()
            else:
                length = int(environ.get("CONTENT_LENGTH") or 0)
                body = self.rfile.read(length)
                if len(body) < length:  # whoever sent it has gone; S3 keeps no half of an object
                    self.close_connection = True
                    return
            environ["wsgi.input"] = io.BytesIO(body)
            environ["CONTENT_LENGTH"] = str(len(body))
            started: list[tuple[str, list[tuple[str, str]]]] = []
            parts: list[bytes] = []

            def start_response(
                status: str, headers: list[tuple[str, str]], _exc_info: object = None
            ) -> Callable[[bytes], object]:
                started.append((status, headers))
                return parts.append

            try:
                parts.extend(self.server.app(environ, start_response))
                status, headers = started[-1]
            except Exception:
                traceback.print_exc()
                status, headers, parts = "500 Internal Server Error", [], []
            self._answer(status, headers, b"".join(parts))

        def _answer(self, status: str, headers: list[tuple[str, str]], content: bytes) -> None:
            no_content = status.startswith(("204", "304"))
            names = {name.lower() for name, _ in headers}
            if cast(Any, self.server).is_crowded():
                self.close_connection = True
                headers = [*headers, ("Connection", "close")]
            if "content-length" not in names and not no_content:
                headers = [*headers, ("Content-Length", str(len(content)))]
            lines = [f"{self.protocol_version} {status}", f"Date: {self.date_time_string()}"]
            lines += [f"{name}: {value}" for name, value in headers]
            head = "\r\n".join([*lines, "", ""]).encode("latin-1")
            self.wfile.write(head if no_content or self.command == "HEAD" else head + content)

    class Server(ThreadedWSGIServer):
        """Where few files may be open (ulimit -n), connections are closed after one request once
        half of them are taken: the rest would wait for ever for those that are kept open."""

        request_queue_size = 1024
        _connections = 0
        _counting = threading.Lock()
        _enough = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2

        def process_request(self, request: Any, client_address: Any) -> None:
            with self._counting:
                self._connections += 1
            super().process_request(request, client_address)

        def close_request(self, request: Any) -> None:
            with self._counting:
                self._connections -= 1
            super().close_request(request)

        def is_crowded(self) -> bool:
            return 0 < self._enough <= self._connections

    return Server(address, port, app, Handler)


def make_service(state_folder: Path, port: int) -> Service:
    """The server as a background service, with its log and pid file in `state_folder`/s3."""
    folder = state_folder.resolve() / "s3"
    return Service(
        name="local S3 server",
        command=[sys.executable, "-m", "ops.embedded_s3", "--port", str(port)],
        port=port,
        port_setting="s3_port in [local] of luigi.cfg",
        ready_url=f"http://127.0.0.1:{port}/",
        log_path=folder / "s3.log",
        pid_path=folder / "s3.pid",
        env={"PYTHONPATH": python_path(), "PYTHONUNBUFFERED": "1"},
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m ops.embedded_s3", description=__doc__)
    parser.add_argument("--port", type=int, default=5555, help="on 127.0.0.1 (%(default)s)")
    serve(parser.parse_args(arguments).port)


if __name__ == "__main__":
    main()
