"""Places as people write them, and what a converter process is told about one.

`place_of` is the only reader of an address: a bucket with a prefix, or a folder. S3's keys are no
URLs, so of ``s3://bucket/prefix`` the bucket ends at the first slash, and every character behind it
means itself. One slash at the end may be left away. An address in a form that other tools use is
refused with the one to write, and never taken for the name of a folder. Kept apart from
`tasks.storage.bulk`, which loads libcurl, so that the process that schedules can use it without.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote

from tasks.problem import Problem

_S3 = "s3://"
_SCHEME = re.compile(r"[\s\"'<(]*([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_LIKE_S3 = ("s3", "s3a", "s3n")
_CONTROL = re.compile("[\0-\x1f\x7f]")
_ARN = re.compile(r"arn:aws[a-z-]*:s3:::(.*)", re.DOTALL)
_OF_AWS = re.compile(
    r"(?:(?P<bucket>[a-z0-9][a-z0-9.-]*)\.)?s3(?:[.-](?!console)[a-z0-9-]+)*\.amazonaws\.com(?:\.cn)?"
)
_CONSOLE = re.compile(r"(?:[a-z0-9-]+\.)*console\.(?:aws\.amazon\.com|amazonaws\.cn)")
_GOOGLE = "storage.googleapis.com"


@dataclass(frozen=True)
class S3Place:
    """A bucket, or what lies below a prefix of it; `prefix` is empty or ends with a slash."""

    bucket: str
    prefix: str

    @property
    def url(self) -> str:
        """The address that means this place and no other."""
        return self.address_of("").removesuffix("/") if _is_plain(self) else self.address_of("")

    def address_of(self, key: str) -> str:
        """The address of an object, by its key below the place."""
        return f"{_S3}{self.bucket}/{self.prefix}{key}"


def place_of(address: str) -> S3Place | Path:
    """The bucket and prefix, or the absolute path of the folder, that an address means.

    Raises `Problem` where it means neither.
    """
    if not address.strip():
        raise Problem("An address is empty: give s3://bucket/prefix or the path of a folder.")
    if is_s3(address):
        return _s3_place(address)
    _must_be_a_path(address)
    try:
        return Path(address).expanduser().absolute()
    except RuntimeError:
        raise Problem(
            f"{address}: there is no user of that name. Write the folder's path from / on, or "
            f"./{address} for a folder of that name."
        ) from None


def is_s3(address: str) -> bool:
    """Whether an address is that of a bucket, or of a prefix in one."""
    return address.startswith(_S3)


def s3_place(address: str) -> S3Place:
    """The bucket and prefix that an address means; raises `Problem` where it does not."""
    place = place_of(address)
    if isinstance(place, Path):
        raise Problem(f"{address} is a folder: give s3://bucket or s3://bucket/prefix.")
    return place


def folder_of(address: str, what: str) -> Path:
    """The path of a folder as it was given, ``~`` replaced; raises `Problem` where it is none."""
    place = place_of(address)
    if not isinstance(place, Path):
        raise Problem(f"{what} is {address}: give a folder of this machine.")
    return Path(address).expanduser()


def object_of(address: str) -> tuple[str, str]:
    """Bucket and key of an object's address."""
    bucket, _, key = address.removeprefix(_S3).partition("/")
    return bucket, key


def _s3_place(address: str) -> S3Place:
    bucket, prefix = object_of(address)
    if not bucket:
        better = f": write {_S3}{prefix}" if prefix else ": write s3://bucket or s3://bucket/prefix"
        raise Problem(f"{address} names no bucket{better}.")
    if bucket.startswith("arn:"):
        raise Problem(
            f"{address} names an access point by its ARN: write s3:// and the access point's "
            "alias, which ends with -s3alias."
        )
    if _CONTROL.search(address):
        raise Problem(
            f"{address!a} has a line break, a tab or another control character in it: give a place "
            "without."
        )
    try:  # what Python takes for no text may be some, where the locale does not say UTF-8
        prefix = prefix.encode(errors="surrogateescape").decode()
    except UnicodeError:
        raise Problem(f"{address!a} is not UTF-8, as all names in S3 are. Correct it.") from None
    if prefix and not prefix.endswith("/"):
        prefix += "/"
    return S3Place(bucket, prefix)


def _is_plain(place: S3Place) -> bool:
    """Whether the last slash may be left away: not where that would name another place."""
    return place.prefix != "/" and not place.prefix.endswith("//")


def _must_be_a_path(address: str) -> None:
    """Raises `Problem` for what looks like the address of another kind of place."""
    if "\0" in address:
        raise Problem(f"{address!a} has a NUL in it, which no folder's path has. Correct it.")
    match = _SCHEME.fullmatch(address)
    if match is None:
        return
    scheme, rest = match[1].lower(), match[2]
    if scheme == "arn":
        arn = _ARN.fullmatch(address.strip())
        better = f"{_S3}{arn[1]}" if arn else "s3://bucket/prefix"
        raise Problem(f"{address} is an ARN: write {better}.")
    if scheme in _LIKE_S3:
        name = rest.lstrip("/\\")
        better = f"{_S3}{name}" if name else "s3://bucket/prefix"
        folder = "" if rest.startswith("//") else f" (A folder of that name is ./{address}.)"
        raise Problem(f"{address}: write {better}, with s3:// in small letters.{folder}")
    if not rest.startswith(("/", "\\")):
        return  # a colon in the name of a folder
    if scheme == "file":
        raise Problem(f"{address}: a folder is given by its path alone: write {_path_in(rest)}.")
    if scheme in ("gs", "gcs"):
        raise Problem(
            f"{address}: only s3://bucket/prefix and folders can be read and written. Google's "
            "Cloud Storage answers S3's requests as well: set "
            f"AWS_ENDPOINT_URL_S3=https://{_GOOGLE}, use an HMAC key of it, and write "
            f"{_S3}{rest.lstrip('/')}."
        )
    if scheme in ("http", "https"):
        _explain_web_address(scheme, rest.lstrip("/"))
    raise Problem(f"{address}: only s3://bucket/prefix and folders can be read and written.")


def _path_in(rest: str) -> str:
    """The path that a file: address means; ``//host/path`` may name a host."""
    if not rest.startswith("//"):
        return unquote(rest)
    host, slash, path = rest[2:].partition("/")
    return unquote(slash + path if host in ("", "localhost") else f"/{host}{slash}{path}")


def _explain_web_address(scheme: str, rest: str) -> None:
    """Raises `Problem`; whatever may be a secret in the address is not repeated."""
    rest, _, query = rest.partition("#")[0].partition("?")
    server, _, path = rest.partition("/")
    server = server.rpartition("@")[2]
    host, name = server.partition(":")[0].lower(), unquote(path)
    shown = f"{scheme}://{server}/{path}".rstrip("/")
    what = "only s3://bucket/prefix and folders can be read and written"
    if aws := _OF_AWS.fullmatch(host):
        place = f"{aws['bucket']}/{name}" if aws["bucket"] else name
        raise Problem(f"{shown}: {what}: write {_S3}{place or 'bucket/prefix'}.")
    if _CONSOLE.fullmatch(host):
        bucket = name.rstrip("/").rpartition("/")[2] if "buckets/" in name else "bucket"
        [prefix] = parse_qs(query).get("prefix", [""])[:1]
        raise Problem(f"{shown} is a page of AWS's console: write {_S3}{bucket}/{prefix}.")
    endpoint = f"AWS_ENDPOINT_URL_S3={scheme}://{server}"
    raise Problem(
        f"{shown}: {what}. If a server of S3's kind is there, set {endpoint} and write "
        f"{_S3}{name or 'bucket/prefix'}."
    )


@dataclass(frozen=True)
class Credentials:
    """AWS credentials as they are now; `token` only where they are temporary."""

    access_key: str
    secret_key: str
    token: str | None

    def __repr__(self) -> str:
        return "Credentials(...)"  # never in a log or a traceback


@dataclass(frozen=True)
class BulkSource:
    """Where to read: a folder, or below a prefix in a bucket, reached as boto3 would reach it."""

    url: str
    folder: Path | None = None
    prefix: str = ""
    bucket_url: str = ""
    """What the path of every object begins with; ends in ``/``."""
    region: str = ""
    """What is signed for."""
    proxy: str | None = field(default=None, repr=False)  # it may hold a password
    ca_bundle: str = ""
    """The file of the authorities to trust."""
    endpoint: str | None = None
    """The server's, by which `tasks.storage.dialect` knows it."""
    asks_for_checksums: bool = True
    """Unless the server is known to refuse that."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """More ``x-amz-`` headers of every GET, by their names in lower case."""

    def address_of(self, key: str) -> str:
        """The full address of an object."""
        if self.folder is not None:
            return str(self.folder / key)
        return s3_place(self.url).address_of(key)
