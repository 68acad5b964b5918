"""The targets that read what comes from outside: names, settings, S3's answers.

Each takes any bytes and either understands them or says a sentence for a person (`Problem`).
"""

import datetime as dt
import io
import tempfile
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ops.fuzz.changes import BETWEEN_PARTS
from ops.fuzz.targets import Target, in_python, must_be_a_sentence, text_of
from tasks.bustimes import manifest as manifests
from tasks.bustimes import snapshot
from tasks.problem import Problem
from tasks.settings import PROJECT, load, load_ec2, load_local, load_notify
from tasks.storage import StoredObject
from tasks.storage.answers import failure_of
from tasks.storage.kept_checksums import checks_of
from tasks.storage.transfers import Transfer
from tasks.weeks import Week, chosen

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tasks.storage.s3 import S3Prefix

_WEEK = Week(2021, 45)
_NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
_NAMES = (
    *(b"raw/", b"bustimes__", b"2021-11-15", b"__05-00-00", b".json", b"../", b"/", b"\0", b"\n"),
    *(b"2021-W45", b"-W", b"W53", b"0000", b"9999", b"12-31", b"02-30", b"24-00-00", b" ", b"\\"),
    *("٣".encode(), "２".encode(), b"\xff", b"~", b".jsonl.gz", b"_refused/", b"%2e%2e%2f", b"\r"),
)
_ANSWERS = (
    *(b"<Error><Code>", b"</Code>", b"<Message>", b"</Message></Error>", b"<?xml version='1.0'?>"),
    *(b"<ListBucketResult>", b"</ListBucketResult>", b"<Contents><Key>", b"</Key>", b"<ETag>"),
    *(b"<IsTruncated>true</IsTruncated>", b"<NextContinuationToken>a</NextContinuationToken>"),
    *(b"<Size>-1</Size>", b"<Size>x</Size>", b"<LastModified>never</LastModified>", b"&quot;"),
    *(b"&amp;", b"&#0;", b"&x;", b"<![CDATA[", b"<!DOCTYPE a [<!ENTITY x 'y'>]>", b"\0", b"\r\n"),
    *(b"ETag: \r\n", b"Content-Length: -5\r\n", b"Date: yesterday\r\n", b"Retry-After: 1e9\r\n"),
    *(b"x-amz-checksum-crc32: AAAA\r\n", b"SlowDown", b"RequestTimeTooSkewed", b"NoSuchKey"),
)


def targets() -> list[Target]:
    """All of them."""
    in_bustimes = ("tasks/bustimes/snapshot.py", "tasks/bustimes/manifest.py", "tasks/weeks.py")
    in_storage = tuple(
        f"tasks/storage/{name}.py"
        for name in ("s3", "s3_listing", "answers", "refusal", "transfers", "kept_checksums")
    )
    return [
        in_python("names", _names, _example_names, _NAMES, in_bustimes),
        in_python("settings", _settings, _example_settings, _SETTINGS, ("tasks/settings.py",)),
        in_python("answers", _Answers().feed, _example_answers, _ANSWERS, in_storage),
    ]


# ---- names


def _names(data: bytes) -> None:
    name = text_of(data)
    time = snapshot.time_of(name)
    if time is not None:
        assert name in (snapshot.key_of(time), snapshot.key_of(time).removeprefix("raw/"))
    week = manifests.week_of(name)
    assert week is None or manifests.file_of(week) == name
    try:
        week = Week.parse(name)
        assert week.label == name.strip()
        assert len(week.dates) == 7
        chosen([name], "", "", _NOW, _WEEK)
    except Problem as problem:
        must_be_a_sentence(problem)


def _example_names() -> list[bytes]:
    return [
        b"raw/bustimes__2021-11-15__05-00-00.json",
        b"bustimes__2016-12-05__05-00-00.json",
        b"2021-W45",
        b"2021-W45.jsonl.gz",
    ]


# ---- settings


_SHIPPED = (PROJECT / "luigi.cfg").read_bytes()
_SETTINGS = (
    *(b"[bustimes]\n", b"[local]\n", b"[ec2]\n", b"[notify]\n", b"[DEFAULT]\n", b"= ", b"\n", b"%"),
    *(b"%(home)s", b"\0", b"\xff", b"~", b"~nobody/x", b"/", b"..", b"s3://", b"\x1eBUSTIMES_"),
    *(b"\x1eLOCAL_", b"\x1eEC2_", b"spool", b"state", b"SPOOL=", b"ORDER=", b"max_errors = -1"),
    *(b"9" * 5000, "٣".encode(), b"1_0", b"webhook = https://x", b"\n ", b"[", b"]", b":", b"#"),
)


def _settings(data: bytes) -> None:
    config, *variables = data.split(BETWEEN_PARTS)
    given = [text_of(one).partition("=") for one in variables]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "luigi.cfg")
        path.write_bytes(config)
        environment = {name: value for name, _, value in given} | {"LUIGI_CONFIG_PATH": str(path)}
        for read in (load, load_local, load_ec2, load_notify):
            try:
                found = read(environment)
            except Problem as problem:
                must_be_a_sentence(problem)
                continue
            for value in vars(found).values():
                assert not isinstance(value, Path) or value.is_absolute()


def _example_settings() -> list[bytes]:
    lines = [line for line in _SHIPPED.splitlines() if line and not line.startswith(b"#")]
    short = b"\n".join(lines)
    return [short, BETWEEN_PARTS.join((short, b"BUSTIMES_ORDER=snapshot", b"LOCAL_S3_PORT=1"))]


# ---- S3's answers


class _Answers:
    """What S3 answers to either client: a status, headers and a body, all made up.

    An input is `status operation`, the headers, and the body, each a part.
    """

    _OPERATIONS = ("objects", "top", "first", "find", "sha256", "read", "write", "remove", "get")

    def feed(self, data: bytes) -> None:
        first, headers, body, *_ = [*data.split(BETWEEN_PARTS, 2), b"", b""]
        status = (first + b"\0")[0]
        self._status = (200, 200, 206, 400, 403, 404, 412, 416, 429, 500, 503)[status % 11]
        operation = self._OPERATIONS[(first + b"\0\0")[1] % len(self._OPERATIONS)]
        self._head, self._body = headers, body
        try:
            self._ask(operation)
        except Problem as problem:
            must_be_a_sentence(problem)

    def _ask(self, operation: str) -> None:
        root = self._root
        if operation == "objects":
            assert all(isinstance(one.size, int) for one in root.objects("a"))
        elif operation == "top":
            list(root.top_objects())
        elif operation == "first":
            root.first_key("a", "ab")
        elif operation == "find":
            root.find("a")
        elif operation == "sha256":
            root.stored_sha256("a")
        elif operation == "read":
            root.read("a")
        elif operation == "write":
            root.write("a", b"data", "")
        elif operation == "remove":
            root.remove(["a"])
        else:
            self._by_libcurl()

    def _by_libcurl(self) -> None:
        answer = object.__new__(Transfer)
        answer._curl, answer._status, answer.fault = None, self._status, None
        answer._head = io.BytesIO(b"HTTP/1.1 %d Why\r\n%b\r\n\r\n" % (self._status, self._head))
        answer._body = io.BytesIO(self._body)
        failure = failure_of(answer, StoredObject("a", len(self._body), "0" * 32, 0.0), 0)
        assert failure is None or failure.sentence
        for check in checks_of(answer.headers, "0" * 32):
            check.update(self._body)
            check.is_met()

    @cached_property
    def _root(self) -> "S3Prefix":
        import botocore.session
        from botocore.awsrequest import AWSResponse
        from botocore.compat import HTTPHeaders

        from tasks.storage.patience import Patience
        from tasks.storage.refusal import read_refusals
        from tasks.storage.s3 import S3Prefix
        from tasks.storage.s3_attempts import Attempts
        from tasks.storage.s3_listing import list_quickly

        def answer(request: Any) -> Any:
            lines = (line.partition(":") for line in self._head.decode("latin-1").splitlines())
            headers: Any = HTTPHeaders()
            for name, _colon, value in lines:
                headers[name.strip()] = value.strip()
            return AWSResponse(
                request.url, self._status, headers, cast("Any", io.BytesIO(self._body))
            )

        session = botocore.session.Session()
        session.set_credentials("nobody", "nothing")
        client = cast("S3Client", session.create_client("s3", "us-east-1"))
        list_quickly(client)
        read_refusals(client)
        Attempts(replace(Patience(), attempts=1), lambda _: False).attach(client)
        cast("Any", client)._endpoint.http_session.send = answer
        return S3Prefix("s3://bucket/prefix", lambda _: client)


def _example_answers() -> list[bytes]:
    headers = (
        b'ETag: "00000000000000000000000000000000"\r\nContent-Length: %d\r\n'
        b"Last-Modified: Mon, 08 Nov 2021 00:00:05 GMT\r\nDate: Mon, 08 Nov 2021 00:00:05 GMT\r\n"
        b"x-amz-checksum-crc32: AAAAAA==\r\nx-amz-request-id: 1\r\n"
    )
    item = (
        b"<Contents><Key>prefix/a%20b</Key><LastModified>2021-11-08T00:00:05.000Z</LastModified>"
        b"<ETag>&quot;00000000000000000000000000000000&quot;</ETag><Size>2</Size>"
        b"<StorageClass>STANDARD</StorageClass></Contents>"
    )
    listing = (
        b'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult><Name>b</Name><Prefix/>'
        b"<EncodingType>url</EncodingType><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>"
        b"%b</ListBucketResult>" % (item * 2)
    )
    error = b"<Error><Code>SlowDown</Code><Message>Reduce your rate</Message></Error>"
    removed = b"<DeleteResult><Error><Key>a</Key><Code>AccessDenied</Code></Error></DeleteResult>"
    operations = range(len(_Answers._OPERATIONS))
    return [
        BETWEEN_PARTS.join((bytes([status, operation]), headers % len(body), body))
        for operation in operations
        for status, body in ((0, listing), (10, error), (5, b""), (0, removed))
    ]
