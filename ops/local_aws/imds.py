"""The metadata service of one simulated instance, version 2 as on EC2.

A session token is required for everything. Knows the identity of the instance, the credentials of
its instance profile's role, its tags never, its user data, and a spot interruption notice once
there is one.
"""

import json
import secrets
import socket
import threading
import time
from collections.abc import Callable
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Look = Callable[[str], str | None]
"""The text at a path below /latest/, or None where there is nothing."""


class MetadataService:
    """Answers at a listening socket until it is closed."""

    def __init__(self, listening: socket.socket, look: Look) -> None:
        tokens: dict[str, float] = {}

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                if self.path != "/latest/api/token":
                    return self._say(404, "")
                if self.headers.get("X-Forwarded-For"):
                    return self._say(403, "")
                asked = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
                if not asked.isdigit() or not 1 <= int(asked) <= 21600:
                    return self._say(400, "")
                token = secrets.token_urlsafe(40)
                tokens[token] = time.monotonic() + int(asked)
                return self._say(200, token)

            def do_GET(self) -> None:
                given = self.headers.get("X-aws-ec2-metadata-token", "")
                if tokens.get(given, 0.0) < time.monotonic():
                    return self._say(401, "")
                path = self.path.partition("?")[0].removeprefix("/latest/")
                text = look(path.rstrip("/"))
                return self._say(404, "") if text is None else self._say(200, text)

            def _say(self, status: int, text: str) -> None:
                content = text.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(
            listening.getsockname(), Handler, bind_and_activate=False
        )
        self._server.socket.close()
        self._server.socket = listening
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def identity(facts: dict[str, str]) -> dict[str, str]:
    """The paths that say what an instance is; `facts` as `instances.Machine.facts` gives them."""
    document = {
        "accountId": facts["account"],
        "architecture": facts["architecture"],
        "availabilityZone": facts["zone"],
        "imageId": facts["image"],
        "instanceId": facts["instance"],
        "instanceType": facts["type"],
        "pendingTime": facts["launched"],
        "privateIp": facts["address"],
        "region": facts["region"],
        "version": "2017-09-30",
    }
    return {
        "dynamic/instance-identity/document": json.dumps(document, indent=2),
        "meta-data/ami-id": facts["image"],
        "meta-data/hostname": f"ip-{facts['address'].replace('.', '-')}.ec2.internal",
        "meta-data/instance-id": facts["instance"],
        "meta-data/instance-life-cycle": facts["lifecycle"],
        "meta-data/instance-type": facts["type"],
        "meta-data/local-ipv4": facts["address"],
        "meta-data/placement/availability-zone": facts["zone"],
        "meta-data/placement/region": facts["region"],
        "meta-data/services/domain": "amazonaws.com",
        "meta-data/services/partition": "aws",
    }


def instance_action(at: datetime) -> str:
    """What spot/instance-action says once the instance is wanted back."""
    return json.dumps({"action": "terminate", "time": at.strftime("%Y-%m-%dT%H:%M:%SZ")})
