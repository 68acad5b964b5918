"""AWS Signature Version 4 for GETs without a body: the headers that prove who asks.

Pure but for the clock, and for `tasks.secrets`, which remembers whose requests are signed. What is
the same for all requests of a second is made once in it, so that a signature costs two hashes. What
is signed is the host and every ``x-amz-`` header, as S3 demands. The headers are for S3, and nobody
else may see them.
"""

import hashlib
import hmac
import time

from tasks import secrets
from tasks.storage.address import Credentials

_NO_BODY = hashlib.sha256(b"").hexdigest()


class Signer:
    """Signs GETs to one host in one region."""

    def __init__(self, region: str, host: str, more: dict[str, str]) -> None:
        """`more` are ``x-amz-`` headers of all requests, by their names in lower case."""
        self.clock_offset = 0.0
        """Seconds that S3's clock is ahead of this machine's; added to the time that is signed."""
        self._region = region
        self._headers = {"host": host, "x-amz-content-sha256": _NO_BODY} | more
        self._prepared_for: tuple[int, Credentials] | None = None

    def headers(self, path: str, credentials: Credentials) -> list[str]:
        """The header lines of a request for `path`, which is as it stands in the request's line."""
        now = int(time.time() + self.clock_offset)
        if self._prepared_for != (now, credentials):
            self._prepare(now, credentials)
            self._prepared_for = now, credentials
        digest = hashlib.sha256(f"GET\n{path}{self._behind_path}".encode()).hexdigest()
        signature = hmac.digest(self._key, (self._before_digest + digest).encode(), "sha256").hex()
        return [*self._lines, self._authorization + signature]

    def _prepare(self, now: int, credentials: Credentials) -> None:
        secrets.remember(credentials.access_key, credentials.secret_key, credentials.token)
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        sent = self._headers | {"x-amz-date": moment}
        if credentials.token:
            sent["x-amz-security-token"] = credentials.token
        names = sorted(sent)
        signed = ";".join(names)
        lines = "".join(f"{name}:{sent[name]}\n" for name in names)
        scope = [moment[:8], self._region, "s3", "aws4_request"]
        key = f"AWS4{credentials.secret_key}".encode()
        for part in scope:
            key = hmac.digest(key, part.encode(), "sha256")
        self._key = key
        self._lines = [f"{name}: {value}" for name, value in sent.items()]
        self._behind_path = f"\n\n{lines}\n{signed}\n{_NO_BODY}"
        self._before_digest = f"AWS4-HMAC-SHA256\n{moment}\n{'/'.join(scope)}\n"
        self._authorization = (
            f"authorization: AWS4-HMAC-SHA256 Credential={credentials.access_key}/"
            f"{'/'.join(scope)}, SignedHeaders={signed}, Signature="
        )
