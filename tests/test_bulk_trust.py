"""What makes S3 and its bytes believe each other: signatures, certificates and checksums."""

import base64
import datetime as dt
import hashlib
import ipaddress
import os
import ssl
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import boto3
import certifi
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tasks.problem import Problem
from tasks.storage import gets, open_root
from tasks.storage.address import Credentials
from tasks.storage.bulk import BulkReader
from tasks.storage.kept_checksums import Check, checks_of
from tasks.storage.patience import Patience
from tasks.storage.signing import Signer
from tests.scripted_s3 import ScriptedS3

PATIENCE = Patience(attempts=2, first_pause=0.001)
ODD_KEYS = [
    "raw/bustimes__2021-11-11__00-00-05.json",
    "a b+c%20d",
    "~tilde-_.!*'()",
    "\u00fcber/\u4ea4\u901a/\U0001f68c",
    "q?x=1&y#z;a:b@c=,$",
    '"quoted" <&> \\ ^`{|}[]',
    "two//slashes/",
    "dots/../and/./more..",
    "tab\tand\x7fdel",
]


def signed_by_botocore(url: str, who: Credentials, region: str) -> dict[str, str]:
    request = AWSRequest("GET", url, headers={"x-amz-checksum-mode": "ENABLED"})
    of_boto = BotoCredentials(who.access_key, who.secret_key, who.token)
    S3SigV4Auth(of_boto, "s3", region).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


@pytest.mark.parametrize("token", [None, "a/token+with=odd//letters=="])
@pytest.mark.parametrize("key", ODD_KEYS)
def test_a_signature_is_the_one_that_botocore_makes(
    key: str, token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token)
    host, path = "bucket.s3.eu-west-1.amazonaws.com", "/" + quote(key)
    expected = signed_by_botocore(f"http://{host}{path}", who, "eu-west-1")
    moment = dt.datetime.strptime(expected["x-amz-date"], "%Y%m%dT%H%M%SZ")
    seconds = moment.replace(tzinfo=dt.UTC).timestamp()
    monkeypatch.setattr("time.time", lambda: seconds + 0.9)
    signer = Signer("eu-west-1", host, {"x-amz-checksum-mode": "ENABLED"})
    for _ in range(2):  # the second from what is kept of the first
        lines = signer.headers(path, who)
        ours = dict(line.split(": ", 1) for line in lines)
        assert ours.pop("host") == host
        assert ours == expected
    other = Credentials("AKIDOTHER", "other", None)
    assert signer.headers(path, other) != lines


@pytest.mark.parametrize("key", ODD_KEYS)
def test_keys_of_all_kinds_are_read(bucket: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    root = open_root(f"{bucket}/some prefix")
    root.write(key, key.encode())
    [listed] = root.objects(key)
    reader = BulkReader(root.bulk_source(), 2, check_etag=True)
    assert reader.read([listed], root.credentials()) == [key.encode()]
    assert b"".join(reader.stream(listed, root.credentials())) == key.encode()
    assert reader.traffic().retries == {}


# Certificates


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the key and the certificate of a server on 127.0.0.1 that signs for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    pem = serialization.Encoding.PEM
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(pem, *form) + signed.public_bytes(pem))
    return path


@pytest.fixture
def secure(certificate: Path) -> Iterator[ScriptedS3]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with ScriptedS3({"b": os.urandom(100_000)}, tls=context) as server:
        yield server


def test_a_server_is_trusted_by_the_bundle_that_is_given(
    secure: ScriptedS3, certificate: Path
) -> None:
    reader = BulkReader(replace(secure.source, ca_bundle=str(certificate)), 1, PATIENCE)
    assert reader.read(secure.listed("b"), None) == [secure.objects["b"]]


def test_any_other_server_is_not_trusted(secure: ScriptedS3, tmp_path: Path) -> None:
    for bundle in ("", certifi.where(), str(tmp_path / "missing.pem")):
        reader = BulkReader(replace(secure.source, ca_bundle=bundle), 1, PATIENCE)
        with pytest.raises(Problem, match=r"AWS_ENDPOINT_URL_S3 and AWS_CA_BUNDLE, then"):
            reader.read(secure.listed("b"), None)
        assert reader.traffic().attempts == 1
    assert secure.requests == []


# Checksums

BODY = bytes(range(256)) * 100
ETAG = hashlib.md5(BODY).hexdigest()


def in_base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


CRC32 = in_base64(zlib.crc32(BODY).to_bytes(4, "big"))
KEPT = {
    "CRC32": ({"x-amz-checksum-crc32": CRC32, "x-amz-checksum-type": "FULL_OBJECT"}, None),
    "SHA256": ({"x-amz-checksum-sha256": in_base64(hashlib.sha256(BODY).digest())}, None),
    "SHA1": ({"x-amz-checksum-sha1": in_base64(hashlib.sha1(BODY).digest())}, None),
    "MD5": ({"x-amz-server-side-encryption": "AES256"}, ETAG),
}
NOT_OURS = {
    "nothing": ({}, None),
    "CRC64NVME": ({"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="}, None),
    "parts": ({"x-amz-checksum-sha256": "DUoRhQ==-3"}, None),
    "parts by name": (
        {"x-amz-checksum-crc32": "DUoRhQ==", "x-amz-checksum-type": "COMPOSITE"},
        None,
    ),
    "ETag of parts": ({}, f"{ETAG}-2"),
    "a key of KMS's": ({"x-amz-server-side-encryption": "aws:kms"}, ETAG),
    "two keys of KMS's": ({"x-amz-server-side-encryption": "aws:kms:dsse"}, ETAG),
    "a key of the customer's": (
        {"x-amz-server-side-encryption-customer-algorithm": "AES256"},
        ETAG,
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_a_checksum_is_met_by_the_bytes_it_was_made_of_and_no_others(name: str) -> None:
    headers, etag = KEPT[name]
    for body, is_met in ((BODY, True), (BODY[:-1], False), (BODY[:-1] + b"\0", False)):
        [check] = checks_of(headers, etag)
        assert check.name == name
        for start in range(0, len(body), 1000):
            check.update(body[start : start + 1000])
        assert check.is_met() is is_met


@pytest.mark.parametrize(("headers", "etag"), NOT_OURS.values(), ids=NOT_OURS)
def test_what_is_no_checksum_of_the_whole_is_left_alone(
    headers: dict[str, str], etag: str | None
) -> None:
    assert checks_of(headers, etag) == []


def test_s3_sends_the_checksum_that_it_keeps(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded server as the real one: otherwise nothing would be checked, and nobody know."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    found: list[Check] = []

    def noted(headers: Mapping[str, str], etag: str | None) -> list[Check]:
        found.extend(checks_of(headers, etag))
        return found

    monkeypatch.setattr(gets, "checks_of", noted)
    root = open_root(bucket)
    client = boto3.client("s3", region_name="us-east-1")
    name = bucket.removeprefix("s3://")
    client.put_object(Bucket=name, Key="a", Body=BODY, ChecksumAlgorithm="CRC32")
    reader = BulkReader(root.bulk_source(), 1)
    assert reader.read(list(root.objects("a")), root.credentials()) == [BODY]
    assert [check.name for check in found] == ["CRC32"]
    assert found[0].is_met()
