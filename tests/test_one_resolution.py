"""How S3 is reached is resolved once, by boto3, and the GETs by the thousand go the same way."""

import base64
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import md5
from pathlib import Path
from typing import Any

import certifi
import pytest

from tasks.problem import Problem
from tasks.storage import StoredObject, open_root, s3_clients, s3_resolution
from tasks.storage.bulk import BulkReader
from tasks.storage.checksum import PART_BYTES
from tasks.storage.deletion import delete, keeps_versions
from tasks.storage.patience import Patience
from tasks.storage.s3 import S3Prefix
from tests.aws_by_name import AwsByName
from tests.conftest import Run, forget, free_port
from tests.explained import FULL, WEEK, assert_done
from tests.scripted_s3 import ScriptedS3

SOURCE, DESTINATION = "source-of-snapshots", "destination-of-weeks"
PATIENCE = Patience(attempts=3, first_pause=0.001, longest_pause=0.01)

Aws = Callable[..., AwsByName]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's proxies, if it has any, are none of the tests'."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name == "REQUESTS_CA_BUNDLE":
            monkeypatch.delenv(name)


@pytest.fixture
def buckets(s3_resource: Any) -> Iterator[None]:
    names = (SOURCE, DESTINATION)
    for name in names:
        s3_resource.Bucket(name).create()
    yield
    for name in names:
        bucket = s3_resource.Bucket(name)
        bucket.objects.all().delete()
        bucket.delete()


@pytest.fixture
def aws(
    s3_server: str,
    buckets: None,  # noqa: ARG001
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Aws]:
    """Starts an S3 of AWS's, and has the environment lead there."""
    started: list[AwsByName] = []

    def start(source: str = "eu-west-1", destination: str = "eu-west-1", **how: bool) -> AwsByName:
        lies = {SOURCE: source, DESTINATION: destination}
        server = AwsByName(s3_server, bundle, lies, **how)
        started.append(server.__enter__())
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
        (tmp_path / "aws-config").write_text(f"[default]\nca_bundle = {bundle}\n")
        monkeypatch.setenv("HTTPS_PROXY", server.url)
        forget()
        return server

    yield start
    for server in started:
        server.__exit__()
    forget()


def settings(tmp_path: Path, text: str) -> None:
    with (tmp_path / "aws-config").open("a") as file:
        file.write(text)
    forget()


def read_both_ways(bucket: str, body: bytes = b"body") -> S3Prefix:
    """Write, list and read an object, by boto3 and by libcurl."""
    root = open_root(f"s3://{bucket}/deep")
    assert isinstance(root, S3Prefix)
    root.write("a b", body)
    listed = list(root.objects(""))
    assert [one.key for one in listed] == ["a b"]
    assert root.read("a b") == body
    reader = BulkReader(root.bulk_source(), 2, PATIENCE)
    assert reader.read(listed, root.credentials()) == [body]
    assert b"".join(reader.stream(listed[0], root.credentials())) == body
    assert reader.traffic().retries == {}
    return root


# Hosts


WAYS = {
    "as it is": ("", {}, "{}.s3.eu-west-1.amazonaws.com"),
    "FIPS": ("use_fips_endpoint = true\n", {}, "{}.s3-fips.eu-west-1.amazonaws.com"),
    "FIPS by variable": (
        *("", {"AWS_USE_FIPS_ENDPOINT": "true"}),
        "{}.s3-fips.eu-west-1.amazonaws.com",
    ),
    "both stacks": (
        *("use_dualstack_endpoint = true\n", {}),
        "{}.s3.dualstack.eu-west-1.amazonaws.com",
    ),
    "both": (
        *("use_fips_endpoint = true\n", {"AWS_USE_DUALSTACK_ENDPOINT": "true"}),
        "{}.s3-fips.dualstack.eu-west-1.amazonaws.com",
    ),
    "acceleration": (
        *("s3 =\n  use_accelerate_endpoint = true\n", {}),
        "{}.s3-accelerate.amazonaws.com",
    ),
    "a bucket in the path": (
        *("s3 =\n  addressing_style = path\n", {}),
        "s3.eu-west-1.amazonaws.com",
    ),
}


@pytest.mark.parametrize(("text", "variables", "host"), WAYS.values(), ids=WAYS)
def test_both_go_to_the_host_that_boto3_resolves(
    aws: Aws,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    text: str,
    variables: dict[str, str],
    host: str,
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    server = aws()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings(tmp_path, text)
    read_both_ways(SOURCE)
    assert set(server.connected) == {host.format(SOURCE)}
    assert {one.signed_for for one in server.asked} == {"eu-west-1"}


def test_a_style_that_a_profile_names_counts_for_a_server_that_is_not_aws_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.example.test:443/base")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
    (tmp_path / "aws-config").write_text("[default]\n")
    for style, url in (
        ("auto", "https://s3.example.test/base/maps/"),
        ("virtual", "https://maps.s3.example.test/base/"),
        ("path", "https://s3.example.test/base/maps/"),
    ):
        (tmp_path / "aws-config").write_text(f"[default]\ns3 =\n  addressing_style = {style}\n")
        forget()
        client = s3_clients.client_of_process(os.getpid())
        assert s3_resolution.resolved(client, "maps").bucket_url == url


def test_what_only_boto3_can_sign_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    client = s3_clients.client_of_process(os.getpid())
    with pytest.raises(Problem, match=r"is of a kind \(S3 Express, .* Give an ordinary bucket"):
        s3_resolution.resolved(client, "logs--use1-az4--x-s3")


# Regions


@pytest.mark.parametrize(
    ("region", "in_header"),
    [("", True), ("", False), ("us-east-1", True), ("us-west-2", True), ("ap-southeast-2", True)],
)
def test_a_run_finds_two_buckets_in_two_regions(
    ops: Run,
    aws: Aws,
    source: Path,
    s3_resource: Any,
    monkeypatch: pytest.MonkeyPatch,
    region: str,
    in_header: bool,
) -> None:
    for path in (source / "raw").iterdir():
        s3_resource.Bucket(SOURCE).put_object(Key=f"raw/{path.name}", Body=path.read_bytes())
    server = aws("eu-west-1", "ap-southeast-2", in_header=in_header)
    if region:
        monkeypatch.setenv("AWS_REGION", region)
    places = {"BUSTIMES_SOURCE": f"s3://{SOURCE}", "BUSTIMES_DESTINATION": f"s3://{DESTINATION}"}
    assert_done(ops(*FULL, "--weeks", WEEK, **places))
    keys = {one.key for one in s3_resource.Bucket(DESTINATION).objects.all()}
    assert f"{WEEK}.jsonl.gz" in keys
    for bucket, right in ((SOURCE, "eu-west-1"), (DESTINATION, "ap-southeast-2")):
        done = [one for one in server.asked if one.bucket == bucket and one.status < 300]
        assert {one.signed_for for one in done} == {right}
        assert {one.host for one in done} <= {f"{bucket}.s3.{right}.amazonaws.com"}
        wrong = [one for one in server.refused(bucket) if one.signed_for != right]
        assert len(wrong) == (region != right)  # once in the whole run
    gets = [one for one in server.asked if "/raw/bustimes__" in one.target]
    assert len(gets) >= 12


def _write_in_parts(root: S3Prefix) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large"
        path.write_bytes(bytes(PART_BYTES + 1))
        root.write_file("large", path)


FIRST_CALLS: dict[str, Callable[[S3Prefix], object]] = {
    "list": lambda root: list(root.objects("")),
    "check": lambda root: root.check_readable(),
    "find": lambda root: root.find("there"),
    "read": lambda root: root.read("there"),
    "write": lambda root: root.write("there", b"again"),
    "write if": lambda root: root.write("new", b"new", expected_etag=""),
    "write in parts": lambda root: _write_in_parts(root),
    "versions": keeps_versions,
    "delete": lambda root: delete(root, [StoredObject("there", 4, md5(b"body").hexdigest(), 0)]),
    "remove": lambda root: root.remove(["there"]),
    "bulk": lambda root: BulkReader(root.bulk_source(), 1, PATIENCE).read(
        list(root.objects("there")), root.credentials()
    ),
    "where": lambda root: root.bulk_source(),
}
TELLS = {
    "as AWS does": {},
    "in the document only": {"in_header": False},
    "in MinIO's sentence": {"in_header": False, "like_minio": True},
    "with a denial": {"denies": True},
}


# No document comes with an answer to a HEAD: without a header, nobody could know.
ASKED_FIRST = {
    f"{call}, {how}": (FIRST_CALLS[call], TELLS[how])
    for call in FIRST_CALLS
    for how in TELLS
    if call != "find" or TELLS[how].get("in_header", True)
}


@pytest.mark.parametrize(("call", "how"), ASKED_FIRST.values(), ids=ASKED_FIRST)
def test_whatever_is_asked_first_finds_the_region(
    aws: Aws, s3_resource: Any, call: Callable[[S3Prefix], object], how: dict[str, bool]
) -> None:
    s3_resource.Bucket(SOURCE).put_object(Key="there", Body=b"body")
    server = aws(**how)
    root = open_root(f"s3://{SOURCE}")
    assert isinstance(root, S3Prefix)
    call(root)
    assert root.bulk_source().region == "eu-west-1"
    before = len(server.asked)
    read_both_ways(SOURCE)
    assert {one.signed_for for one in server.asked[before:]} == {"eu-west-1"}
    assert {one.status for one in server.asked[before:]} <= {200, 206}


def test_a_denial_by_the_region_of_the_bucket_is_one(aws: Aws) -> None:
    """That of another region is not the last word; this one is."""
    server = aws(denies=True, denies_everywhere=True)
    root = open_root(f"s3://{SOURCE}")
    for _ in range(2):
        with pytest.raises(Problem, match="access is denied"):
            root.check_readable()
    assert [one.signed_for for one in server.asked] == ["us-east-1", "eu-west-1", "eu-west-1"]


# Proxies and certificates


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
def test_both_go_through_the_proxy_and_log_in_there(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    server = aws()
    monkeypatch.delenv("HTTPS_PROXY")
    monkeypatch.setenv(variable, server.url.replace("//", "//some%40body:secret@"))
    root = read_both_ways(SOURCE)
    login = base64.b64encode(b"some@body:secret").decode()
    assert set(server.logins) == {f"Basic {login}"}
    assert "secret" not in repr(root.bulk_source())


def test_what_boto3_does_not_take_for_a_proxy_is_none() -> None:
    """ALL_PROXY is libcurl's; and what NO_PROXY excepts is excepted for both."""
    dead = f"http://127.0.0.1:{free_port()}"
    excepted = {"http_proxy": dead, "NO_PROXY": "127.0.0.1"}
    for variables in (
        {"ALL_PROXY": dead, "all_proxy": dead},
        excepted,
        excepted | {"NO_PROXY": "*"},
    ):
        with ScriptedS3({"b": b"b"}) as server, pytest.MonkeyPatch.context() as environment:
            for name, value in variables.items():
                environment.setenv(name, value)
            environment.setenv("AWS_ENDPOINT_URL_S3", server.url)
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                environment.setenv(name, "test")
            forget()
            client = s3_clients.client_of_process(os.getpid())
            assert client.get_object(Bucket="bucket", Key="deep/b")["Body"].read() == b"b"
            way = s3_resolution.resolved(client, "bucket")
            source = replace(server.source, bucket_url=way.bucket_url, proxy=way.proxy)
            assert BulkReader(source, 1, PATIENCE).read(server.listed("b"), None) == [b"b"]
            assert [one.target for one in server.requests] == ["/bucket/deep/b"] * 2


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", ""])
def test_both_trust_the_bundle_that_boto3_is_given(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Path, variable: str
) -> None:
    aws()
    if variable:  # else it is the profile's
        (tmp_path / "aws-config").write_text("[default]\nregion = eu-west-1\n")
        monkeypatch.setenv(variable, str(bundle))
    forget()
    read_both_ways(SOURCE)


def test_neither_trusts_another(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    aws()
    root = open_root(f"s3://{SOURCE}")
    root.write("a", b"a")
    listed = list(root.objects(""))
    source = root.bulk_source()
    monkeypatch.setenv("AWS_CA_BUNDLE", certifi.where())
    forget()
    with pytest.raises(Problem, match="CERTIFICATE_VERIFY_FAILED"):
        open_root(f"s3://{SOURCE}").check_readable()
    reader = BulkReader(replace(source, ca_bundle=certifi.where()), 1, PATIENCE)
    with pytest.raises(Problem, match="certificate"):
        reader.read(listed, None)


# Settings that boto3 cannot use


UNUSABLE = {
    "AWS_METADATA_SERVICE_TIMEOUT": (
        *("soon", "setting metadata_service_timeout has a value", "'soon'"),
        "AWS_METADATA_SERVICE_TIMEOUT in the environment",
    ),
    "AWS_CREDENTIAL_EXPIRATION": ("yesterday", "boto3 cannot use an AWS setting of this machine"),
    "AWS_CSM_PORT": ("a port", "csm_port has a value"),
    "AWS_DEFAULTS_MODE": ("odd", "odd"),
    "AWS_REQUEST_CHECKSUM_CALCULATION": ("odd", "odd"),
}


@pytest.mark.parametrize(("variable", "told"), UNUSABLE.items(), ids=UNUSABLE)
def test_a_setting_that_boto3_cannot_use_is_no_wrong_endpoint(
    bucket: str, monkeypatch: pytest.MonkeyPatch, variable: str, told: tuple[str, ...]
) -> None:
    value, *words = told
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("AWS_CSM_ENABLED", "true")
    forget()
    with pytest.raises(Problem) as raised:
        open_root(bucket).check_readable()
    for word in words:
        assert word in str(raised.value)
    assert "AWS_ENDPOINT_URL" not in str(raised.value)
    forget()


@pytest.mark.parametrize("url", ["banana", "http://[::1", "http://127.0.0.1:port", "http://a b/"])
def test_an_endpoint_that_is_none_is_told_as_that(
    bucket: str, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
    forget()
    with pytest.raises(Problem, match="Correct AWS_ENDPOINT_URL_S3"):
        open_root(bucket).check_readable()
    forget()


def test_aws_region_comes_before_a_profile_as_the_sentences_promise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "no-aws-config").write_text("[default]\nregion = eu-west-1\n")
    for region, expected in (("", "eu-west-1"), ("ap-southeast-2", "ap-southeast-2")):
        monkeypatch.setenv("AWS_REGION", region)
        forget()
        assert s3_clients.client_of_process(os.getpid()).meta.region_name == expected
    forget()
