"""Listings read quickly: the same objects as botocore reads, whatever an S3 answers."""

import datetime as dt
import io
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.problem import Problem
from tasks.storage import StoredObject, s3_clients, s3_credentials
from tasks.storage.patience import Patience
from tasks.storage.s3 import S3Prefix
from tasks.storage.s3_listing import ARCHIVE_CLASSES
from tests.conftest import forget

TIME = "2021-11-08T00:00:05.000Z"
ETAG = "d41d8cd98f00b204e9800998ecf8427e"


def item(key: str = "k", size: int = 2, etag: str = f"&quot;{ETAG}&quot;", time: str = TIME) -> str:
    return (
        f"<Contents><Key>{key}</Key><LastModified>{time}</LastModified><ETag>{etag}</ETag>"
        f"<Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
    )


def item_with(more: str) -> str:
    return item().replace("<Size>", f"{more}<Size>")


def page(*items: str, is_quoted: bool = True) -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix/>'
        f"{'<EncodingType>url</EncodingType>' if is_quoted else ''}<MaxKeys>1000</MaxKeys>"
        f"<IsTruncated>false</IsTruncated>{''.join(items)}</ListBucketResult>"
    ).encode()


TWO = page(item("first"), item("last"))


class _Raw(io.BytesIO):
    def stream(self, **_: object) -> Iterator[bytes]:
        yield self.read()


class Answers:
    """What every listing gets, by our client and by boto3's."""

    def __init__(self) -> None:
        self._body, self._status = b"", 200
        self._ours = self._answered(s3_clients._make_client(Patience(attempts=1)))
        self._botocores = self._answered(boto3.client("s3", region_name="us-east-1"))

    def by_us(self, body: bytes, status: int = 200) -> list[StoredObject]:
        self._body, self._status = body, status
        return list(S3Prefix("s3://b", lambda _: self._ours).objects(""))

    def by_botocore(self, body: bytes) -> list[StoredObject]:
        self._body, self._status = body, 200
        return [
            StoredObject(
                one["Key"],
                one["Size"],
                one["ETag"].strip('"'),
                one["LastModified"].timestamp(),
                archived=kind if (kind := one.get("StorageClass")) in ARCHIVE_CLASSES else "",
            )
            for one in self._botocores.list_objects_v2(Bucket="b").get("Contents", [])
        ]

    def _answered(self, client: Any) -> Any:
        def answer(request: Any, **_: object) -> AWSResponse:
            return AWSResponse(request.url, self._status, {}, _Raw(self._body))

        client._endpoint.http_session = SimpleNamespace(send=answer)
        return client


@pytest.fixture(scope="module")
def answers() -> Iterator[Answers]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        forget()
        yield Answers()


objects = st.builds(
    StoredObject,
    st.text(st.characters(exclude_categories=["Cc", "Cs"], codec="utf-8"), min_size=1, max_size=9),
    st.integers(0, 5 * 10**12),
    st.from_regex(r"[0-9a-f]{32}(-[1-9][0-9]{0,3})?", fullmatch=True),
    st.integers(1_136_073_600_000, 4_102_444_800_000).map(lambda milliseconds: milliseconds / 1000),
    no_file=st.just(""),
    archived=st.just(""),
)


@given(st.lists(objects, max_size=4), st.booleans())
@settings(max_examples=50, deadline=None)
def test_what_is_listed_is_what_is_there(
    answers: Answers, listed: list[StoredObject], is_quoted: bool
) -> None:
    def written(one: StoredObject) -> str:
        key = quote_plus(one.key, safe="/") if is_quoted else escape(one.key)
        time = dt.datetime.fromtimestamp(one.written, dt.UTC).isoformat(timespec="milliseconds")
        return item(key, one.size, f"&quot;{one.etag}&quot;", time.replace("+00:00", "Z"))

    body = page(*map(written, listed), is_quoted=is_quoted)
    assert answers.by_us(body) == listed
    assert answers.by_botocore(body) == listed


ODD = {
    "as S3 writes it": item(),
    "checksums": item_with(
        "<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType>"
    ),
    "quotes as they are": item(etag=f'"{ETAG}"'),
    "quotes by number": item(etag=f"&#34;{ETAG}&#34;"),
    "no quotes": item(etag=ETAG),
    "an owner": item_with("<Owner><ID>1</ID><DisplayName>&lt;Contents></DisplayName></Owner>"),
    "an entity in the key": item("a&amp;b"),
    "a character by number": item("a&#x26;b"),
    "space in the key": item("a b"),
    "percent in the key": item("a%2Fb%20c+d"),
    "no milliseconds": item(time="2021-11-08T00:00:05Z"),
    "another time zone": item(time="2021-11-08T02:00:05+02:00"),
    "a time in words": item(time="Mon, 08 Nov 2021 00:00:05 GMT"),
    "lines and tabs": item().replace("><", ">\n\t<"),
    "another order": f"<Contents><Size>2</Size><ETag>&quot;{ETAG}&quot;</ETag><Key>k</Key>"
    f"<LastModified>{TIME}</LastModified></Contents>",
    "a comment": item_with("<!-- <Size>3</Size> -->"),
    "an object in a comment": f"<!-- {item('no')} -->{item()}",
    "marked as text": item("<![CDATA[k<]]>"),
    "restored": item_with(
        "<RestoreStatus><IsRestoreInProgress>true</IsRestoreInProgress></RestoreStatus>"
    ),
}


@pytest.mark.parametrize("is_quoted", [True, False])
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_however_an_object_is_written_it_is_read_as_by_botocore(
    answers: Answers, odd: str, is_quoted: bool
) -> None:
    body = page(item("first"), odd, item("last"), is_quoted=is_quoted)
    assert len(answers.by_botocore(body)) == 3
    assert answers.by_us(body) == answers.by_botocore(body)


def test_elements_with_a_prefix_are_read_as_by_botocore(answers: Answers) -> None:
    declared = TWO.replace(b"xmlns=", b"xmlns:s3=").replace(b"</", b"</s3:")
    body = declared.replace(b"<", b"<s3:").replace(b"<s3:/", b"</").replace(b"<s3:?", b"<?")
    assert answers.by_us(body) == answers.by_botocore(body) == answers.by_us(TWO)


def test_folders_are_no_objects(answers: Answers) -> None:
    folder = "<CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes>"
    assert [one.key for one in answers.by_us(page(item("a"), folder, item("e")))] == ["a", "e"]
    assert answers.by_us(page(folder)) == []
    assert answers.by_us(page()) == []


@pytest.mark.parametrize("at", range(1, len(TWO) - 1, 29))
def test_a_listing_that_is_cut_off_is_none(answers: Answers, at: int) -> None:
    with pytest.raises(Problem, match="s3://b cannot be listed"):
        answers.by_us(TWO[:at])


@pytest.mark.parametrize("status", [200, 403, 503])
def test_an_error_in_place_of_a_listing_is_an_error(answers: Answers, status: int) -> None:
    with pytest.raises(Problem, match="s3://b cannot be listed"):
        answers.by_us(b"<Error><Code>SlowDown</Code><Message>Not now</Message></Error>", status)
    with pytest.raises(Problem, match="s3://b cannot be listed"):
        answers.by_us(TWO.replace(b"</ListBucketResult>", b"<Error/>"), status)


@pytest.mark.parametrize("odd", [b"", b"<a/>", TWO.replace(b">false<", b">true<")])
def test_an_answer_that_is_no_whole_listing_is_none(answers: Answers, odd: bytes) -> None:
    no_listing = r"(the answer (is no|of 0 bytes)|what came is no answer of S3's)"
    with pytest.raises(Problem, match=rf"s3://b cannot be listed: {no_listing}"):
        answers.by_us(odd)


def test_pages_follow_each_other(bucket: str) -> None:
    keys = [f"raw/{number:02} ü&+%" for number in range(5)]
    root = S3Prefix(bucket)
    for key in keys:
        root.write(key, b"[]")
    client = s3_clients.client_of_process(os.getpid())
    asked: list[dict[str, Any]] = []

    def ask_for_two(params: dict[str, Any], **_: object) -> None:
        params["MaxKeys"] = 2
        asked.append(params)

    client.meta.events.register("provide-client-params.s3.ListObjectsV2", ask_for_two)
    assert [one.key for one in root.objects("raw/")] == keys
    assert len(asked) == 3


def test_many_threads_make_one_client(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    make, together = s3_clients._make_client, threading.Barrier(8)

    def count(patience: Patience) -> Any:
        made.append(make(patience))
        return made[-1]

    def use(_: int) -> object:
        together.wait(30)
        return S3Prefix(bucket).client

    forget()
    monkeypatch.setattr(s3_clients, "_make_client", count)
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(use, range(8))) == set(made)
    assert len(made) == 1


def test_a_fork_makes_a_client_of_its_own_while_the_parent_makes_one(bucket: str) -> None:
    process = os.getpid()
    with s3_credentials.making_clients.setdefault(process, threading.Lock()):
        child = os.fork()
        if not child:
            threading.Timer(60, os._exit, [1]).start()  # rather than wait for ever
            os._exit(0 if S3Prefix(bucket).client else 2)
        assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(
    ("storage_class", "status", "archived"),
    [
        ("STANDARD", "", ""),
        ("GLACIER_IR", "", ""),
        ("GLACIER", "", "GLACIER"),
        ("DEEP_ARCHIVE", "", "DEEP_ARCHIVE"),
        (
            "GLACIER",
            "<RestoreStatus><IsRestoreInProgress>true</IsRestoreInProgress></RestoreStatus>",
            "GLACIER, being restored",
        ),
        (
            "DEEP_ARCHIVE",
            "<RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress>"
            f"<RestoreExpiryDate>{TIME}</RestoreExpiryDate></RestoreStatus>",
            "",
        ),
    ],
)
def test_a_listing_tells_what_is_archived_and_what_is_restored(
    answers: Answers, storage_class: str, status: str, archived: str
) -> None:
    for end in (f"{status}<StorageClass>{storage_class}<", f"<StorageClass>{storage_class}<"):
        if end.startswith("<StorageClass") and status:
            continue
        odd = item("k").replace("<StorageClass>STANDARD<", end)
        assert [one.archived for one in answers.by_us(page(odd, item("l")))] == [archived, ""]
