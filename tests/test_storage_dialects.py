"""Stores that do not know all of S3: asked once, then served another way, which is said once."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.problem import Problem
from tasks.storage import Overtaken, budget, checksum, dialect, s3_clients, tally
from tasks.storage.bulk import BulkReader
from tasks.storage.deletion import delete
from tasks.storage.dialect import CHECKSUMS_REFUSED, Dialect, Feature
from tasks.storage.patience import Patience
from tasks.storage.s3 import S3Prefix
from tests.conftest import Run
from tests.faults import Fault, FaultyS3, Request
from tests.scripted_s3 import Exchange, ScriptedS3, error, fine
from tests.test_storage_attempts import PATIENCE

BODY = bytes(range(256)) * 100
LONG = os.urandom(checksum.PART_BYTES + 1000)

B2 = ("400 Bad Request", "InvalidArgument", "Unsupported header received for this API call.")
AWS_OF_2023 = (
    "501 Not Implemented",
    "NotImplemented",
    "A header you provided implies functionality that is not implemented",
)
OTHER_400 = ("400 Bad Request", "InvalidRequest", "Missing required header for this request")


@pytest.fixture(autouse=True)
def own_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test counts what another one did."""
    monkeypatch.setattr(tally, "of_process", tally.Tally())
    monkeypatch.setattr(budget, "of_run", budget.RetryBudget())


@pytest.fixture
def root(bucket: str, faulty_s3: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Prefix]:
    """A root behind the proxy, which may lack something."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", faulty_s3.url)
    s3_clients.forget()
    client = s3_clients._make_client(dataclasses.replace(PATIENCE, stall=10, attempt=20))
    monkeypatch.setattr(s3_clients, "_FIRST_LOOK", 2)
    yield S3Prefix(bucket, lambda _: client)
    s3_clients.forget()


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """What was said of servers since it was asked last."""
    return lambda: [line for line in capfd.readouterr().err.splitlines() if "The server" in line]


@pytest.fixture
def long_file(tmp_path: Path) -> Path:
    """Goes up in two parts."""
    path = tmp_path / "long"
    path.write_bytes(LONG)
    return path


def asked(s3: FaultyS3, operation: str) -> list[Request]:
    return [one for one in s3.control.requests() if one.operation == operation]


# The right to write

UNCLEAR = {
    "Ceph": ("500 Internal Server Error", "UnknownError", ""),
    "400": ("400 Bad Request", "InvalidArgument", "Invalid upload id"),
    "404": ("404 Not Found", "NoSuchKey", "The specified key does not exist."),
    "404 without a code": ("404 Not Found", "", ""),
    "405": ("405 Method Not Allowed", "MethodNotAllowed", ""),
    "501": AWS_OF_2023,
}


@pytest.mark.parametrize("answer", UNCLEAR.values(), ids=UNCLEAR)
def test_an_unclear_answer_to_who_may_write_is_no_refusal(
    root: S3Prefix,
    faulty_s3: FaultyS3,
    said: Callable[[], list[str]],
    answer: tuple[str, str, str],
) -> None:
    faulty_s3.control.lack("uploadId", *answer, operation="CompleteMultipartUpload")
    root.check_writable()
    [told] = said()
    assert f"it answers {answer[0][:3]}" in told
    assert "one was begun and given up instead, which it allows" in told
    probes = len(asked(faulty_s3, "CompleteMultipartUpload"))
    root.check_writable()
    assert len(asked(faulty_s3, "CompleteMultipartUpload")) == probes
    assert said() == []
    assert not root.client.list_multipart_uploads(Bucket=root.bucket).get("Uploads")
    assert list(root.objects("")) == []


def test_an_upload_that_an_earlier_look_was_killed_over_is_given_up(
    root: S3Prefix, faulty_s3: FaultyS3
) -> None:
    root.client.create_multipart_upload(Bucket=root.bucket, Key="_probe/write")
    faulty_s3.control.lack("uploadId", *UNCLEAR["400"], operation="CompleteMultipartUpload")
    root.check_writable()
    assert not root.client.list_multipart_uploads(Bucket=root.bucket).get("Uploads")


@pytest.mark.parametrize("code", ["AccessDenied", ""])
@pytest.mark.parametrize("on", ["CompleteMultipartUpload", "CreateMultipartUpload"])
def test_access_denied_stays_a_refusal(
    root: S3Prefix, faulty_s3: FaultyS3, said: Callable[[], list[str]], on: str, code: str
) -> None:
    denied = "403 Forbidden", code, "no"
    faulty_s3.control.lack("authorization", *denied, operation=on)
    faulty_s3.control.lack("uploadId", *UNCLEAR["400"], operation="CompleteMultipartUpload")
    with pytest.raises(Problem, match="cannot be written: access is denied"):
        root.check_writable()
    assert len(asked(faulty_s3, "CreateMultipartUpload")) == (on == "CreateMultipartUpload")
    assert said() == []


def test_a_bucket_that_there_is_not_stays_a_refusal(root: S3Prefix, faulty_s3: FaultyS3) -> None:
    client = root.client
    nowhere = S3Prefix("s3://there-is-no-such-bucket", lambda _: client)
    with pytest.raises(Problem, match="cannot be written: there is no such bucket"):
        nowhere.check_writable()
    assert not asked(faulty_s3, "CreateMultipartUpload")


# Checksums


@pytest.mark.parametrize("answer", [B2, AWS_OF_2023, ("400 Bad Request", "", "")])
def test_without_checksums_uploads_carry_an_md5_and_are_read_back(
    root: S3Prefix,
    faulty_s3: FaultyS3,
    said: Callable[[], list[str]],
    long_file: Path,
    answer: tuple[str, str, str],
) -> None:
    faulty_s3.control.lack("x-amz-checksum-", *answer)
    root.write("small", BODY)
    [told] = said()
    assert f"does not keep SHA-256 checksums (it answers {answer[0][:3]}" in told
    assert [one.head.get("content-md5") != "" for one in asked(faulty_s3, "PutObject")] == [
        *(False, False),  # refused, and refused again: then it is believed
        True,
    ]
    root.write_file("long", long_file, "")
    root.write_file("file", long_file.with_name("empty").touch() or long_file.with_name("empty"))
    assert root.read("long") == LONG
    assert root.read("small", 5, 10) == BODY[5:15]
    assert b"".join(root.stream("small")) == BODY
    assert root.stored_sha256("small") is None
    assert root.read_with_etag("small") is not None
    for operation in ("UploadPart", "PutObject"):
        sent = asked(faulty_s3, operation)[-1]
        assert sent.head.get("content-md5")
        assert not sent.head.has("x-amz-checksum-")
    read = [one.key for one in asked(faulty_s3, "GetObject")]
    assert read[:2] == ["small", "long"]
    assert delete(root, list(root.objects("small"))) == 0
    root.remove(["long"])
    assert [one.key for one in root.objects("")] == ["file"]
    assert said() == []


@pytest.mark.parametrize("first", ["read", "look", "remove", "long file"])
def test_whatever_is_asked_first_finds_out_that_there_are_no_checksums(
    root: S3Prefix,
    faulty_s3: FaultyS3,
    said: Callable[[], list[str]],
    long_file: Path,
    first: str,
) -> None:
    root.client.put_object(Bucket=root.bucket, Key="there", Body=BODY)
    calls: dict[str, Callable[[], object]] = {
        "read": lambda: root.read("there"),
        "look": lambda: root.stored_sha256("there"),
        "remove": lambda: root.remove(["there"]),
        "long file": lambda: root.write_file("long", long_file),
    }
    faulty_s3.control.lack("x-amz-checksum-", *B2)
    calls[first]()
    assert len(said()) == 1
    before = len(faulty_s3.control.requests())
    root.write("next", BODY)
    sent = faulty_s3.control.requests()[before:]
    assert [one.operation for one in sent] == ["PutObject", "GetObject"]


def test_parts_alone_may_be_refused_their_checksums(
    root: S3Prefix, faulty_s3: FaultyS3, said: Callable[[], list[str]], long_file: Path
) -> None:
    faulty_s3.control.lack("x-amz-checksum-", *B2, operation="UploadPart")
    root.write_file("long", long_file, "")
    assert root.read("long") == LONG
    assert len(said()) == 1
    assert not root.client.list_multipart_uploads(Bucket=root.bucket).get("Uploads")


def test_checksums_that_are_ignored_are_missed_as_well(
    root: S3Prefix, faulty_s3: FaultyS3, said: Callable[[], list[str]], long_file: Path
) -> None:
    faulty_s3.control.lack("x-amz-checksum-")
    root.write("small", BODY)
    [told] = said()
    assert "does not keep SHA-256 checksums (it shows none of an object that has one)" in told
    root.write_file("long", long_file)
    assert [one.key for one in asked(faulty_s3, "GetObject")] == ["small", "long"]
    assert said() == []


@pytest.mark.parametrize("is_long", [False, True])
def test_what_did_not_arrive_as_it_was_sent_is_found_by_reading_it_back(
    root: S3Prefix, faulty_s3: FaultyS3, long_file: Path, is_long: bool
) -> None:
    faulty_s3.control.lack("x-amz-checksum-", *B2)
    faulty_s3.control.fail(Fault.FLIPPED_BYTE, operation="GetObject")
    with pytest.raises(Problem, match="a did not arrive as it was sent"):
        root.write_file("a", long_file) if is_long else root.write("a", BODY)


# Conditions

CONDITIONS = {"if-none-match": "If-None-Match", "if-match": "If-Match"}
REFUSED = {"B2": B2, "501": AWS_OF_2023, "ignored": ("", "", "")}


@pytest.mark.parametrize("header", CONDITIONS)
@pytest.mark.parametrize("answer", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("is_long", [False, True])
def test_without_conditions_objects_are_looked_at_before_they_are_written(
    root: S3Prefix,
    faulty_s3: FaultyS3,
    said: Callable[[], list[str]],
    long_file: Path,
    header: str,
    answer: tuple[str, str, str],
    is_long: bool,
) -> None:
    other = long_file.with_name("other")
    other.write_bytes(LONG[::-1] if is_long else BODY)
    long_file.write_bytes(LONG if is_long else BODY[::-1])
    etag = ""
    if header == "if-match":
        root.write("a", b"before")
        etag = root.find("a").etag  # type: ignore[union-attr]
        root.write("b", b"before")
    faulty_s3.control.lack(header, *answer)
    root.write("b", b"small", etag)
    [told] = said()
    assert f"does not know {CONDITIONS[header]} for writing (it " in told
    assert "two runs at once are not safe there" in told
    root.write_file("a", long_file, etag)
    assert root.read("a") == long_file.read_bytes()
    for write in (
        lambda: root.write_file("a", other, etag),
        lambda: root.write("a", b"other", etag),
        lambda: root.write("b", b"other", etag),
    ):
        with pytest.raises(Overtaken):
            write()
    root.write("b", b"small", etag)  # the same again is no conflict
    root.write_file("a", long_file, etag)
    assert root.read("a") == long_file.read_bytes()
    assert said() == []


def test_the_very_first_write_leaves_what_is_there_where_conditions_are_ignored(
    root: S3Prefix, faulty_s3: FaultyS3, long_file: Path
) -> None:
    root.write("a", b"before")
    faulty_s3.control.lack("if-none-match")
    for write in (lambda: root.write("a", b"x", ""), lambda: root.write_file("a", long_file, "")):
        dialect.forget()
        with pytest.raises(Overtaken):
            write()
    assert root.read("a") == b"before"
    assert len(asked(faulty_s3, "PutObject")) == 1


def test_all_of_it_may_be_lacking_at_once(
    root: S3Prefix, faulty_s3: FaultyS3, said: Callable[[], list[str]], long_file: Path
) -> None:
    for named in ("x-amz-checksum-", "if-match", "if-none-match"):
        faulty_s3.control.lack(named, *B2)
    root.write_file("a", long_file, "")
    root.write("b", BODY, "")
    with pytest.raises(Overtaken):
        root.write("b", BODY[::-1], "")
    assert (root.read("a"), root.read("b")) == (LONG, BODY)
    told = said()
    assert len(told) == len(set(told)) == 2  # nothing was to be replaced


# Stores that do know


def test_a_store_that_knows_all_is_believed_and_not_asked_again(
    root: S3Prefix, faulty_s3: FaultyS3, said: Callable[[], list[str]]
) -> None:
    root.write("a", b"one", "")
    one = root.find("a")
    assert one is not None
    root.write("a", b"two", one.etag)
    before = len(faulty_s3.control.requests())
    for data in (b"three", b"four"):
        with pytest.raises(Overtaken):
            root.write("a", data, one.etag)
        with pytest.raises(Overtaken):
            root.write("a", data, "")
    root.write("b", b"b", "")
    sent = faulty_s3.control.requests()[before:]
    assert [one.operation for one in sent] == ["PutObject", "GetObject"] * 4 + ["PutObject"]
    assert root.read("a") == b"two"
    assert said() == []


@pytest.mark.parametrize(
    "code", ["InvalidRequest", "InvalidArgument", "BadDigest", "InvalidDigest", "EntityTooLarge"]
)
def test_a_refusal_for_another_reason_stays_one_and_nothing_is_learnt(
    root: S3Prefix,
    faulty_s3: FaultyS3,
    said: Callable[[], list[str]],
    long_file: Path,
    code: str,
) -> None:
    faulty_s3.control.lack("content-type", "400 Bad Request", code, "Something else")
    for write in (lambda: root.write("a", BODY, ""), lambda: root.write_file("a", long_file, "")):
        with pytest.raises(Problem, match=f"a cannot be written: S3 answers {code} "):
            write()
    faulty_s3.control.calm()
    root.write("a", BODY, "")
    assert root.stored_sha256("a")
    with pytest.raises(Overtaken):
        root.write("a", b"other", "")
    assert said() == []


@pytest.mark.parametrize("named", ["x-amz-checksum-", "if-none-match"])
def test_what_is_refused_once_and_passes_is_no_habit(
    root: S3Prefix, faulty_s3: FaultyS3, said: Callable[[], list[str]], named: str
) -> None:
    faulty_s3.control.lack(named, *OTHER_400, operation="PutObject", times=1)
    root.write("a", BODY, "")
    assert root.stored_sha256("a")
    assert said() == []
    assert root.dialect.knows(Feature.IF_NONE_MATCH)


def test_nothing_is_ever_missed_of_aws(said: Callable[[], list[str]]) -> None:
    for endpoint in (None, "https://s3.eu-west-1.amazonaws.com", "https://s3.amazonaws.com"):
        one = Dialect(endpoint)
        for feature in Feature:
            one.missed(feature, "it answers 501")
            assert one.knows(feature)
            assert not one.lacks(feature)
    assert said() == []
    assert not Dialect("https://s3.amazonaws.com.example.org").is_aws


def test_a_completion_whose_answer_was_lost_counts_where_uploads_are_forgotten_oddly(
    root: S3Prefix, faulty_s3: FaultyS3, long_file: Path
) -> None:
    """Asked again, a server may answer of an upload that is done that it never heard of it."""
    root.write("known", b"x", "")
    faulty_s3.control.fail(Fault.ANSWER_LOST, operation="CompleteMultipartUpload")
    faulty_s3.control.lack("uploadId", *UNCLEAR["400"], operation="CompleteMultipartUpload")
    root.write_file("long", long_file, "")
    assert root.read("long") == LONG


def test_an_earlier_upload_that_cannot_be_given_up_hinders_nobody(
    root: S3Prefix, faulty_s3: FaultyS3, long_file: Path
) -> None:
    long_file.with_name("long.upload").write_text("of-long-ago")
    faulty_s3.control.lack("uploadId", *UNCLEAR["400"], operation="AbortMultipartUpload")
    root.write_file("long", long_file)
    assert root.read("long") == LONG


# Listings


@pytest.mark.parametrize(
    "answer",
    [("500 Internal Server Error", "InternalError", ""), UNCLEAR["400"], AWS_OF_2023],
)
def test_a_server_that_cannot_list_one_lists_a_page(
    root: S3Prefix,
    faulty_s3: FaultyS3,
    said: Callable[[], list[str]],
    answer: tuple[str, str, str],
) -> None:
    for key in ("raw/b1", "raw/b3", "raw/c1"):
        root.write(key, b"x")
    faulty_s3.control.lack("max-keys", *answer)
    root.check_readable()
    [told] = said()
    assert f"cannot list a single object (it answers {answer[0][:3]}" in told
    refused = sum("max-keys" in one.head.first for one in faulty_s3.control.requests())
    assert root.first_key("raw/b", "raw/b1") == "raw/b3"
    assert root.first_key("raw/b", "raw/b3") is None
    root.check_readable()
    assert sum("max-keys" in one.head.first for one in faulty_s3.control.requests()) == refused
    assert said() == []


def test_a_listing_that_is_denied_stays_denied(root: S3Prefix, faulty_s3: FaultyS3) -> None:
    faulty_s3.control.lack("max-keys", "403 Forbidden", "AccessDenied", "no")
    with pytest.raises(Problem, match="cannot be listed: access is denied"):
        root.check_readable()
    assert len(faulty_s3.control.requests()) == 1


# Many GETs

WHO = None


def unless_asked_for_checksums(exchange: Exchange) -> bool:
    """As Backblaze answers."""
    if "x-amz-checksum-mode" in exchange.request.headers:
        return error(*B2)(exchange)
    return fine(exchange)


def test_gets_go_on_without_asking_for_checksums(said: Callable[[], list[str]]) -> None:
    bodies = {f"raw/{number}": os.urandom(100 + number) for number in range(20)}
    with ScriptedS3(bodies) as server:
        for key in bodies:
            server.answers(key, *[unless_asked_for_checksums] * 6)
        reader = BulkReader(server.source, 4, Patience())
        assert reader.read(server.listed(), WHO) == list(bodies.values())
        traffic = reader.traffic()
        assert traffic.retries[CHECKSUMS_REFUSED] == 1
        assert traffic.requests == 20
        before = len(server.requests)
        assert reader.read(server.listed(), WHO) == list(bodies.values())
        listed = server.listed("raw/7")[0]
        assert b"".join(reader.stream(listed, WHO)) == bodies["raw/7"]
        assert len(server.requests) == before + 21
        assert reader.traffic().retries == {}
        for _ in range(3):
            dialect.learn(server.url, traffic)
        [told] = said()
        assert "(it refuses x-amz-checksum-mode)" in told
        told_source = dataclasses.replace(server.source, asks_for_checksums=False)
        server.answers("raw/1", unless_asked_for_checksums)
        assert BulkReader(told_source, 4).read(server.listed("raw/1"), WHO) == [bodies["raw/1"]]
        assert len(server.requests) == before + 22


def test_a_get_that_is_refused_for_another_reason_stays_so() -> None:
    with ScriptedS3({"a": BODY}) as server:
        server.answers("a", *[error(*B2)] * 9)
        reader = BulkReader(server.source, 4, Patience())
        with pytest.raises(Problem, match=r"a cannot be read: S3 answers InvalidArgument \(Unsu"):
            reader.read(server.listed(), WHO)
        assert len(server.requests) == 3
        server.script.clear()
        reader.read(server.listed(), WHO)
        assert "x-amz-checksum-mode" in server.requests[-1].headers


def test_an_empty_object_is_never_fetched() -> None:
    with ScriptedS3({"a": BODY, "empty": b""}) as server:
        reader = BulkReader(server.source, 4, Patience())
        assert reader.read(server.listed(), WHO) == [BODY, b""]
        assert list(reader.stream(server.listed("empty")[0], WHO)) == []
        assert [one.target for one in server.requests] == ["/bucket/deep/a"]


# A whole run


def test_what_several_processes_find_out_is_said_once(said: Callable[[], list[str]]) -> None:
    children = []
    for _ in range(4):
        if not (child := os.fork()):
            dialect.of("http://127.0.0.1:1").missed(Feature.CHECKSUMS, "it answers 400")
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    assert len(said()) == 1
    assert dialect.of("http://127.0.0.1:1").lacks(Feature.CHECKSUMS)
    assert not dialect.of("http://127.0.0.1:2").lacks(Feature.CHECKSUMS)


def test_a_store_that_lacks_everything_is_served_and_each_lack_is_said_once(
    root: S3Prefix, faulty_s3: FaultyS3, luigi: Run, make_snapshots: Callable[..., list[Path]]
) -> None:
    weeks = ("2021-W43", "2021-W44", "2021-W45")
    for week in weeks:
        for path in make_snapshots(long_folder := Path(os.environ["LOCAL_STATE"]) / week, week):
            key = path.relative_to(long_folder).as_posix()
            root.client.put_object(Bucket=root.bucket, Key=key, Body=path.read_bytes())
    for operation in ("PutObject", "CompleteMultipartUpload"):
        for named in ("if-match", "if-none-match"):
            faulty_s3.control.lack(named, *B2, operation=operation)
    faulty_s3.control.lack("x-amz-checksum-", *B2)
    faulty_s3.control.lack("max-keys", *B2)
    faulty_s3.control.lack("uploadId", *UNCLEAR["Ceph"], key="_probe/write")
    place = f"s3://{root.bucket}"
    places = {"BUSTIMES_SOURCE": place, "BUSTIMES_DESTINATION": place}
    ran = luigi("AllWeeks", "--workers", "2", "--weeks", ",".join(weeks), **places)
    assert ran.returncode == 0, ran.stderr
    told = [line for line in ran.stderr.splitlines() if "The server at" in line]
    lacking = ("SHA-256 checksums", "If-None-Match", "a single object", "who may write")
    assert all(any(what in line for line in told) for what in lacking), told
    assert len(told) == len(lacking), told
    checked = luigi("Verify", "--weeks", ",".join(weeks), "--deep", "--share", "1.0", **places)
    assert checked.returncode == 0, checked.stdout + checked.stderr
