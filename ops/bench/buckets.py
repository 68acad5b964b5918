"""What an S3 endpoint says: folders as buckets, and the answer to every request.

Knows the part of S3 that reading takes: lists of objects, page by page, a look at one, and its
bytes as long as its ETag is the expected one. All else is answered as not implemented. What is
there is listed once, at the start. Never writes, and never touches a socket: an `Answer` says what
to send.
"""

import bisect
import email.utils
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

USED = "/-/used"
"""Where to ask how many requests came, and what answering them took."""

_PAGE = 1000
_LAST = "\U0010ffff"  # sorts behind every other character of a key
_REASONS = {200: "OK", 404: "Not Found", 412: "Precondition Failed", 501: "Not Implemented"}


@dataclass(frozen=True)
class _Object:
    path: Path
    size: int
    etag: str
    written: float


@dataclass
class Answer:
    """What is still to be sent: the head (with a small body), then `left` bytes of a file."""

    head: bytes
    file: int | None = None
    offset: int = 0
    left: int = 0

    def close(self) -> None:
        if self.file is not None:
            os.close(self.file)
            self.file = None


class Buckets:
    """The folders by the name of their bucket, and how often they were asked for what."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self.requests = 0
        self._objects = {name: _objects(folder) for name, folder in folders.items()}
        self._keys = {name: sorted(objects) for name, objects in self._objects.items()}

    def answer(self, method: str, target: str, headers: Mapping[str, str]) -> Answer:
        """What to send for a request; the names of `headers` are in lower case."""
        if target == USED:
            used = {"requests": self.requests, "cpu_seconds": time.process_time()}
            return _answer(json.dumps(used).encode())
        parts = urlsplit(target)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        self.requests += 1
        if method not in ("GET", "HEAD") or "range" in headers:
            return _error(501, "NotImplemented", method)
        if bucket not in self._objects:
            return _error(404, "NoSuchBucket", method)
        if not key:
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            return _answer(self._page(bucket, query) if method == "GET" else b"")
        found = self._objects[bucket].get(key)
        if found is None:
            return _error(404, "NoSuchKey", method)
        if headers.get("if-match", "").strip('"') not in ("", found.etag):
            return _error(412, "PreconditionFailed", method)
        head = _head(200, found.size, found)
        if method == "HEAD":
            return Answer(head)
        return Answer(head, os.open(found.path, os.O_RDONLY), 0, found.size)

    def _page(self, bucket: str, query: Mapping[str, str]) -> bytes:
        """One page of ListObjectsV2."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = unquote(query.get("continuation-token", "")) or query.get("start-after", "")
        largest = min(_PAGE, int(query.get("max-keys", _PAGE)))
        listed: list[str] = []
        token = last = ""
        for entry in self._entries(bucket, prefix, delimiter, after):
            if len(listed) == largest:
                token = f"<NextContinuationToken>{quote(last)}</NextContinuationToken>"
                break
            found = self._objects[bucket].get(entry)
            listed.append(_listed_folder(entry) if found is None else _listed(entry, found))
            last = entry + _LAST if found is None else entry
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{bucket}</Name><Prefix>{quote(prefix)}</Prefix>"
            f"<KeyCount>{len(listed)}</KeyCount><MaxKeys>{largest}</MaxKeys>"
            "<EncodingType>url</EncodingType>"
            f"<IsTruncated>{'true' if token else 'false'}</IsTruncated>{token}"
            f"{''.join(listed)}</ListBucketResult>"
        ).encode()

    def _entries(self, bucket: str, prefix: str, delimiter: str, after: str) -> Iterator[str]:
        """Keys, and in place of those with the delimiter behind the prefix what is before it."""
        keys = self._keys[bucket]
        at = max(bisect.bisect_left(keys, prefix), bisect.bisect_right(keys, after))
        while at < len(keys) and keys[at].startswith(prefix):
            end = keys[at].find(delimiter, len(prefix)) if delimiter else -1
            if end < 0:
                yield keys[at]
                at += 1
            else:
                folder = keys[at][: end + len(delimiter)]
                yield folder
                at = bisect.bisect_left(keys, folder + _LAST)


def _objects(folder: Path) -> dict[str, _Object]:
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            status = path.stat()
            etag = f"{status.st_mtime_ns:x}-{status.st_size:x}"
            key = path.relative_to(folder).as_posix()
            found[key] = _Object(path, status.st_size, etag, status.st_mtime)
    return found


def _head(status: int, length: int, found: _Object | None = None) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {_REASONS[status]}",
        f"Content-Length: {length}",
        f"Content-Type: {'application/json' if found else 'application/xml'}",
        "x-amz-bucket-region: us-east-1",
    ]
    if found is not None:
        lines.append(f'ETag: "{found.etag}"')
        lines.append(f"Last-Modified: {email.utils.formatdate(found.written, usegmt=True)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _answer(body: bytes) -> Answer:
    return Answer(_head(200, len(body)) + body)


def _error(status: int, code: str, method: str) -> Answer:
    body = f"<Error><Code>{code}</Code><Message>{_REASONS[status]}</Message></Error>"
    if method == "HEAD":
        body = ""
    return Answer(_head(status, len(body)) + body.encode())


def _listed(key: str, found: _Object) -> str:
    written = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(found.written))
    return (
        f"<Contents><Key>{quote(key)}</Key><LastModified>{written}</LastModified>"
        f"<ETag>&quot;{found.etag}&quot;</ETag><Size>{found.size}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
    )


def _listed_folder(prefix: str) -> str:
    return f"<CommonPrefixes><Prefix>{quote(prefix)}</Prefix></CommonPrefixes>"
