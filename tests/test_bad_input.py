"""Whatever is wrong with what it is given: a sentence that helps, an honest exit code, no loss."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import boto3
import pytest
from aws_refusals import ELSEWHERE, GET, LIST, PUT, REFUSALS, WRITES, NoS3, RefusingS3

from tasks.bustimes.archive import Archive
from tasks.bustimes.listing import list_week
from tasks.bustimes.weekfile import Spool, finish
from tasks.problem import Problem
from tasks.settings import load
from tasks.storage import open_root
from tasks.weeks import Week
from tests.conftest import PROJECT, Run, forget, free_port

WEEK = Week(2021, 46)  # JSON bodies only
FULL = ("full", "--local-scheduler")
Result = subprocess.CompletedProcess[str]
Snapshots = Callable[..., list[Path]]


def text_of(result: Result) -> str:
    return result.stdout + result.stderr


def assert_explained(result: Result, *words: str) -> None:
    """It did not do what was asked, and says why in plain words."""
    assert result.returncode != 0
    assert "Traceback" not in text_of(result)
    for word in words:
        assert word in text_of(result)


def assert_done(result: Result) -> None:
    assert result.returncode == 0, text_of(result)
    assert "Traceback" not in text_of(result)


def files_below(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in files)


def week_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*jsonl*"))


def comparable(records: Iterable[object]) -> list[str]:
    return sorted(map(json.dumps, records))


def records_of(week_file: bytes) -> list[str]:
    return comparable(json.loads(line) for line in gzip.decompress(week_file).splitlines())


def expected_records(snapshots: list[Path]) -> list[str]:
    records: list[object] = []
    for path in snapshots:
        date, time = path.stem.split("__")[1:]
        moment = f"{date}T{time.replace('-', ':')}+00:00"
        records += [one | {"snapshot_time": moment} for one in json.loads(path.read_bytes())]
    return comparable(records)


def upload(folder: Path, bucket: str) -> None:
    client = boto3.client("s3")
    for key in files_below(folder):
        path = folder / key
        client.put_object(Bucket=bucket.removeprefix("s3://"), Key=key, Body=path.read_bytes())


def keys_in(bucket: str) -> dict[str, bytes]:
    objects = boto3.resource("s3").Bucket(bucket.removeprefix("s3://")).objects.all()
    return {one.key: one.get()["Body"].read() for one in objects}


def name_of(second: int, day: int = 15) -> str:
    return f"bustimes__2021-11-{day:02}__05-{second // 60:02}-{second % 60:02}.json"


@pytest.fixture
def source(tmp_path: Path, make_snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with twelve snapshots of WEEK, which is the source."""
    folder = tmp_path / "raw-snapshots"
    make_snapshots(folder, WEEK.label)
    monkeypatch.setenv("BUSTIMES_SOURCE", str(folder))
    return folder


@pytest.fixture
def destination(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is not there yet, which is the destination."""
    folder = tmp_path / "archive"
    monkeypatch.setenv("BUSTIMES_DESTINATION", str(folder))
    return folder


# Weeks


NO_SUCH_WEEKS = {
    "a week that its year has not": (["--weeks", "2021-W99"], "2021 has weeks W01 to W52"),
    "a word": (["--weeks", "banana"], "'banana' is not an ISO week: write the year"),
    "one digit": (["--weeks", "2021-W5"], "'2021-W5' is not an ISO week"),
    "one of several": (["--weeks", "2021-W46,2021-W60"], "There is no ISO week 2021-W60"),
    "no week at all": (["--weeks", ","], "',' names no week: write WEEKS="),
    "the future": (["--weeks", "2199-W01"], "2199-W01 lies in the future"),
    "a range into the future": (["--to", "2199-W01"], "2199-W01 lies in the future"),
    "a range from the future": (["--from", "2199-W01"], "choose other weeks with FROM and TO"),
    "a range backwards": (["--from", "2021-W50", "--to", "2021-W40"], "swap FROM and TO"),
    "a range of nonsense": (["--from", "yesterday"], "'yesterday' is not an ISO week"),
    "weeks and a range": (["--weeks", "2021-W46", "--from", "2021-W40"], "not both"),
}


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize(("options", "sentence"), NO_SUCH_WEEKS.values(), ids=NO_SUCH_WEEKS)
def test_weeks_that_cannot_be_are_explained(
    ops: Run, destination: Path, options: list[str], sentence: str
) -> None:
    result = ops(*FULL, *options)
    assert result.returncode == 2
    assert_explained(result, sentence)
    assert not destination.exists()


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("command", ["plan", "status", "verify"])
def test_every_command_explains_a_week_that_cannot_be(
    ops: Run, destination: Path, command: str
) -> None:
    assert_explained(ops(command, "--weeks", "2021-W99"), "There is no ISO week 2021-W99")
    assert not destination.exists()


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["AllWeeks", "--weeks", "2021-W99"], "There is no ISO week 2021-W99"),
        (["AllWeeks", "--weeks", "2021-W46", "--to", "2021-W47"], "not both"),
        (["AllWeeks", "--workers", "many"], "luigi cannot use its setting workers"),
        (["Verify", "--from", "2021-W50", "--to", "2021-W40"], "swap FROM and TO"),
        (["WeekTask", "--week", "banana"], "'banana' is not an ISO week"),
        (["WeekTask", "--week", "2199-W01"], "2199-W01 lies in the future"),
        (["WeekTask"], "WeekTask needs --week"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_plain_luigi_explains_mistakes_at_its_usual_level_of_detail(
    destination: Path, arguments: list[str], sentence: str
) -> None:
    script = "import sys; from luigi.cmdline import luigi_run; sys.exit(luigi_run())"
    result = subprocess.run(
        [sys.executable, "-c", script, "--module", "tasks", *arguments, "--local-scheduler"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert_explained(result, sentence)
    assert not destination.exists()


# Places


def test_a_source_without_a_destination_asks_for_both(
    ops: Run, source: Path, tmp_path: Path
) -> None:
    words = ("SOURCE is given without DESTINATION", "Give both", "or neither")
    assert_explained(ops(*FULL), *words)
    alone = ops(*FULL, BUSTIMES_SOURCE="", BUSTIMES_DESTINATION=str(tmp_path / "archive"))
    assert_explained(alone, "DESTINATION is given without SOURCE")
    assert files_below(source) != []


@pytest.mark.parametrize("command", [FULL, ("plan",), ("verify",)], ids=lambda parts: parts[0])
def test_a_source_that_does_not_exist_is_named(
    ops: Run, destination: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    missing = str(tmp_path / "missing")
    result = ops(*command, "--weeks", WEEK, BUSTIMES_SOURCE=missing)
    assert_explained(result, missing, "does not exist: create it, or correct the path")
    assert not destination.exists()


def test_a_source_that_is_a_file_is_named(ops: Run, destination: Path, tmp_path: Path) -> None:
    file = tmp_path / "a-file"
    file.touch()
    result = ops(*FULL, BUSTIMES_SOURCE=str(file))
    assert_explained(result, f"{file} is a file; give the folder")
    assert not destination.exists()


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("below", ["a-file", "a-file/and/more", "/proc/self/archive"])
def test_a_destination_that_cannot_be_written_is_found_before_the_work(
    ops: Run, tmp_path: Path, below: str
) -> None:
    if below.startswith("/proc") and not Path("/proc/self").is_dir():
        pytest.skip("there is no /proc here")
    (tmp_path / "a-file").write_text("precious")
    place = str(tmp_path / below)
    result = ops(*FULL, "--weeks", WEEK, BUSTIMES_DESTINATION=place)
    assert_explained(result, f"{place} cannot be written: ", "choose another")
    assert not (tmp_path / "spool").exists()
    assert (tmp_path / "a-file").read_text() == "precious"


@pytest.mark.usefixtures("source")
def test_a_destination_without_permission_is_found_before_the_work(
    ops: Run, destination: Path, tmp_path: Path
) -> None:
    destination.mkdir()
    destination.chmod(0o500)
    # root may write everywhere, but not without this one of its rights
    without = ("setpriv", "--bounding-set=-dac_override", "--") if os.geteuid() == 0 else ()
    result = ops(*FULL, "--weeks", WEEK, before=without)
    assert_explained(result, f"{destination} cannot be written: access is denied")
    assert not (tmp_path / "spool").exists()


@pytest.mark.usefixtures("source")
def test_a_week_that_cannot_be_published_is_kept_and_published_by_sync(
    ops: Run, luigi: Run, destination: Path, tmp_path: Path
) -> None:
    destination.write_text("in the way")
    result = luigi("WeekTask", "--week", WEEK)
    assert_explained(result, str(destination), "a part of the path is a file", "make sync")
    assert list((tmp_path / "spool").glob(f"*/{WEEK}/manifest.json"))
    destination.unlink()
    assert_done(ops("sync"))
    assert week_files(destination) == [f"{WEEK}.jsonl.gz"]


@pytest.mark.parametrize(
    ("variable", "address", "sentence"),
    [
        ("SOURCE", "https://example.org/raw", "only s3://bucket/prefix and folders"),
        ("SOURCE", "s3://", "names no bucket: write s3://bucket"),
        ("DESTINATION", "gs://bucket", "gs://bucket: only s3://bucket/prefix and folders"),
        ("SOURCE", "s3://Bad!Bucket", 'Invalid bucket name "Bad!Bucket". Correct the address'),
    ],
)
@pytest.mark.usefixtures("source", "destination", "bucket")
def test_an_address_that_is_none_is_named(
    ops: Run, variable: str, address: str, sentence: str
) -> None:
    assert_explained(ops(*FULL, **{f"BUSTIMES_{variable}": address}), sentence)


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("command", [FULL, ("plan",), ("luigid",)], ids=lambda parts: parts[0])
def test_a_folder_for_logs_that_cannot_be_made_is_named(
    ops: Run, destination: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "a-file").touch()
    state = str(tmp_path / "a-file" / "state")
    result = ops(*command, LOCAL_STATE=state)
    assert_explained(result, f"{state}, for the logs", "Set state in [local] of luigi.cfg")
    assert not destination.exists()


@pytest.mark.usefixtures("source")
def test_a_spool_that_cannot_be_written_is_named(
    ops: Run, destination: Path, tmp_path: Path
) -> None:
    (tmp_path / "a-file").touch()
    spool = str(tmp_path / "a-file" / "spool")
    result = ops(*FULL, "--weeks", WEEK, BUSTIMES_SPOOL=spool)
    assert_explained(result, spool, "set spool to another folder")
    assert week_files(destination) == []


# Settings


WRONG_VALUES = [
    *(("BUSTIMES_ORDER", value, "give vehicle or snapshot") for value in ("random", "Vehicle")),
    *(("BUSTIMES_MAX_ERRORS", value, "from 0 to 10,000,000") for value in ("-1", "many")),
    *(("BUSTIMES_COMPRESSION_LEVEL", value, "from 1 to 12") for value in ("0", "99")),
    ("BUSTIMES_MAX_SNAPSHOT_MB", "0", "from 1 to 1,024"),
    ("BUSTIMES_PROCESSES", "x", "from 0 to 256"),
    ("BUSTIMES_READS_AT_ONCE", "0", "from 1 to 512"),
    ("BUSTIMES_SPOT_CHECKS", "1.5", "from 0 to 1,000"),
    ("LOCAL_S3_PORT", "x", "from 1 to 65,535"),
    ("LOCAL_LUIGID_PORT", "70000", "from 1 to 65,535"),
]


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize(("variable", "value", "sentence"), WRONG_VALUES)
def test_a_setting_with_a_wrong_value_is_named(
    ops: Run, destination: Path, variable: str, value: str, sentence: str
) -> None:
    result = ops(*FULL, "--weeks", WEEK, **{variable: value})
    assert result.returncode == 2
    assert_explained(result, f"{variable} is {value!r}: give ", sentence)
    assert not destination.exists()


@pytest.mark.usefixtures("source")
def test_plain_luigi_names_a_setting_with_a_wrong_value(luigi: Run, destination: Path) -> None:
    result = luigi("AllWeeks", "--weeks", WEEK, BUSTIMES_ORDER="random")
    assert_explained(result, "BUSTIMES_ORDER is 'random': give vehicle or snapshot")
    assert not destination.exists()


BROKEN_CONFIGURATIONS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "an unknown setting": (
        "order = vehicle\n",
        "order = vehicle\ncolour = red\n",
        ("[bustimes]", "settings that do not exist: colour", "remove them", "compression_level"),
    ),
    "a missing setting": (
        "order = vehicle\n",
        "",
        ("order is not set: give it in [bustimes] of", "BUSTIMES_ORDER"),
    ),
    "a wrong value": (
        "order = vehicle\n",
        "order = random\n",
        ("order in [bustimes] of", "is 'random': give vehicle or snapshot"),
    ),
    "the same setting twice": (
        "order = vehicle\n",
        "order = vehicle\norder = snapshot\n",
        ("option 'order' in section 'bustimes' already exists", "Correct it there"),
    ),
    "an unknown setting of this machine": (
        "s3_port = 5555\n",
        "s3_port = 5555\nport = 1\n",
        ("[local]", "settings that do not exist: port"),
    ),
    "a section that does not end": ("[bustimes]\n", "[bustimes\n", ("is no file of settings",)),
    "bytes that are no text": ("[bustimes]\n", "[bustimes]\n# \udcff\n", ("can't decode byte",)),
    "a wrong value for luigi itself": (
        "remove_delay = 604800\n",
        "remove_delay = soon\n",
        ("luigi cannot use its setting remove_delay", "Correct it in [scheduler] of luigi.cfg"),
    ),
}


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize(
    ("old", "new", "words"), BROKEN_CONFIGURATIONS.values(), ids=BROKEN_CONFIGURATIONS
)
def test_a_broken_luigi_cfg_is_explained(
    ops: Run, destination: Path, tmp_path: Path, old: str, new: str, words: tuple[str, ...]
) -> None:
    text = (PROJECT / "luigi.cfg").read_text()
    assert old in text
    broken = tmp_path / "broken.cfg"
    broken.write_text(text.replace(old, new), errors="surrogateescape")
    result = ops(*FULL, "--weeks", WEEK, LUIGI_CONFIG_PATH=str(broken))
    assert_explained(result, *words)
    assert "luigi.cfg" in text_of(result) or str(broken) in text_of(result)
    assert week_files(destination) == []


@pytest.mark.usefixtures("source", "destination")
def test_a_luigi_cfg_that_is_not_there_is_named(ops: Run, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.cfg")
    result = ops(*FULL, LUIGI_CONFIG_PATH=missing)
    assert_explained(result, missing, "No such file", "LUIGI_CONFIG_PATH")


# S3


WHAT_TO_DO = {
    "AccessDenied": ("s3:ListBucket", "s3:GetObject", "s3:PutObject", "AWS_PROFILE"),
    "AllAccessDisabled": ("All access to this object has been disabled", "mend that"),
    "PermanentRedirect": ("the bucket lies in another region; set AWS_REGION",),
    "AuthorizationHeaderMalformed": ("the bucket lies in another region; set AWS_REGION",),
    "IllegalLocationConstraintException": ("the bucket lies in another region; set AWS_REGION",),
    "ExpiredToken": ("the credentials have expired; log in again",),
    "InvalidToken": ("the session token is wrong; log in again",),
    "InvalidAccessKeyId": ("AWS does not know this access key; check AWS_PROFILE",),
    "SignatureDoesNotMatch": ("the secret key is not that of the access key; check AWS_PROFILE",),
    "RequestTimeTooSkewed": ("this machine's clock is wrong; set it",),
    "NoSuchBucket": ("there is no such bucket; create it, or correct its name",),
}


REFUSALS_OF_SNAPSHOTS = [
    *("AccessDenied", "PermanentRedirect", "AuthorizationHeaderMalformed", "ExpiredToken"),
    *("InvalidAccessKeyId", "NoSuchBucket"),
]


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refused_listing_says_what_to_do(
    ops: Run, bucket: str, destination: Path, code: str
) -> None:
    with RefusingS3(code) as refusing:
        result = ops(*FULL, BUSTIMES_SOURCE=bucket, AWS_ENDPOINT_URL_S3=refusing.url)
    assert refusing.refused[LIST]
    assert_explained(result, f"{bucket} cannot be listed: ", *WHAT_TO_DO[code])
    assert not destination.exists()


@pytest.mark.parametrize("code", REFUSALS_OF_SNAPSHOTS)
def test_refused_snapshots_are_named_and_say_what_to_do(
    ops: Run, s3_server: str, bucket: str, source: Path, destination: Path, code: str
) -> None:
    upload(source, bucket)
    with RefusingS3(code, (GET,), s3_server) as refusing:
        result = ops(
            *(*FULL, "--weeks", WEEK), BUSTIMES_SOURCE=bucket, AWS_ENDPOINT_URL_S3=refusing.url
        )
    assert refusing.refused[GET]
    assert_explained(result, f"{bucket}/raw/bustimes__2021-11-15__0", *WHAT_TO_DO[code])
    assert week_files(destination) == []


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("code", ["AccessDenied", "PermanentRedirect", "ExpiredToken"])
def test_a_bucket_that_may_not_be_written_is_found_before_the_work(
    ops: Run, s3_server: str, bucket: str, tmp_path: Path, code: str
) -> None:
    with RefusingS3(code, WRITES, s3_server) as refusing:
        result = ops(
            *(*FULL, "--weeks", WEEK),
            BUSTIMES_DESTINATION=f"{bucket}/out",
            AWS_ENDPOINT_URL_S3=refusing.url,
        )
    assert_explained(result, f"{bucket}/out cannot be written: ", *WHAT_TO_DO[code])
    assert not (tmp_path / "spool").exists()
    assert keys_in(bucket) == {}


@pytest.mark.usefixtures("source")
def test_a_week_whose_upload_is_refused_is_kept_and_uploaded_by_sync(
    ops: Run, s3_server: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUSTIMES_DESTINATION", f"{bucket}/out")
    with RefusingS3("AccessDenied", (PUT,), s3_server) as refusing:
        result = ops(*FULL, "--weeks", WEEK, AWS_ENDPOINT_URL_S3=refusing.url)
    manifest, file = f"out/_manifests/{WEEK}.json", f"out/{WEEK}.jsonl.gz"
    assert_explained(result, f"{bucket}/{manifest} cannot be written", "waits in", "make sync")
    assert keys_in(bucket) == {}
    assert_done(ops("sync"))
    assert set(keys_in(bucket)) == {manifest, file}
    assert_done(ops("verify", "--weeks", WEEK))


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("AccessDenied", ("access is denied",)),
        ("ExpiredToken", ("does not say why", "expired (log in again)", "AWS_REGION")),
        ("PermanentRedirect", ("the bucket lies in another region",)),
    ],
)
def test_a_refusal_without_a_body_is_explained_too(
    ops: Run, s3_server: str, bucket: str, code: str, words: tuple[str, ...]
) -> None:
    with RefusingS3(code, ("head",), s3_server) as refusing:
        result = ops(
            *(*FULL, "--weeks", WEEK),
            BUSTIMES_DESTINATION=f"{bucket}/out",
            AWS_ENDPOINT_URL_S3=refusing.url,
        )
    assert_explained(result, f"{bucket}/out/{WEEK}.jsonl.gz cannot be looked at: ", *words)
    assert keys_in(bucket) == {}


@pytest.mark.parametrize("code", ["PermanentRedirect", "AuthorizationHeaderMalformed"])
def test_a_bucket_in_another_region_is_found_there(
    ops: Run, s3_server: str, bucket: str, source: Path, code: str
) -> None:
    upload(source, bucket)
    with RefusingS3(code, real=s3_server, region=ELSEWHERE) as elsewhere:
        result = ops(
            *(*FULL, "--weeks", WEEK),
            BUSTIMES_SOURCE=bucket,
            BUSTIMES_DESTINATION=f"{bucket}/out",
            AWS_ENDPOINT_URL_S3=elsewhere.url,
        )
    assert elsewhere.refused[LIST]
    assert_done(result)
    assert f"out/{WEEK}.jsonl.gz" in keys_in(bucket)


@pytest.mark.usefixtures("bucket", "source", "destination")
@pytest.mark.parametrize("variable", ["BUSTIMES_SOURCE", "BUSTIMES_DESTINATION"])
def test_a_bucket_that_does_not_exist_is_named(ops: Run, variable: str) -> None:
    result = ops(*FULL, "--weeks", WEEK, **{variable: "s3://there-is-no-such-bucket/x"})
    sentence = "s3://there-is-no-such-bucket/x cannot be listed: there is no such bucket; create it"
    assert_explained(result, sentence)


def test_missing_credentials_say_how_to_give_them(
    ops: Run, bucket: str, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    half = ops(*FULL, BUSTIMES_SOURCE=bucket)
    assert_explained(half, "S3 cannot be reached", "missing: AWS_SECRET_ACCESS_KEY. Set what is")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    none = ops(*FULL, BUSTIMES_SOURCE=bucket)
    assert_explained(none, f"{bucket} cannot be listed", "no AWS credentials. Set AWS_PROFILE")
    assert not destination.exists()


def test_a_profile_that_does_not_exist_is_named(ops: Run, bucket: str, destination: Path) -> None:
    result = ops(*FULL, BUSTIMES_SOURCE=bucket, AWS_PROFILE="ghost")
    assert_explained(result, "(ghost) could not be found. Correct AWS_PROFILE, or unset it")
    assert not destination.exists()


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("AWS_REGION", "not a region", ("'not a region' is no region of AWS: correct AWS_REGION",)),
        ("AWS_ENDPOINT_URL_S3", "banana", ("Invalid endpoint: banana", "http://127.0.0.1:5555")),
    ],
)
def test_an_aws_variable_that_makes_no_sense_is_named(
    ops: Run, bucket: str, destination: Path, variable: str, value: str, words: tuple[str, ...]
) -> None:
    assert_explained(ops(*FULL, BUSTIMES_SOURCE=bucket, **{variable: value}), *words)
    assert not destination.exists()


def test_an_endpoint_that_is_down_is_named(ops: Run, bucket: str, destination: Path) -> None:
    down = f"http://127.0.0.1:{free_port()}"
    result = ops(*FULL, BUSTIMES_SOURCE=bucket, AWS_ENDPOINT_URL_S3=down)
    words = ("cannot be listed: Could not connect", down, "Check the network and AWS_ENDPOINT_URL")
    assert_explained(result, *words)
    assert not destination.exists()


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (200, "names an S3 server"),
        (404, "there is nothing of that name"),
        (403, "access is denied"),
    ],
)
def test_an_endpoint_that_is_no_s3_is_suspected(
    ops: Run, bucket: str, destination: Path, status: int, why: str
) -> None:
    with NoS3(status) as web:
        result = ops(*FULL, BUSTIMES_SOURCE=bucket, AWS_ENDPOINT_URL_S3=web.url)
    assert_explained(result, f"{bucket} cannot be listed: ", why, "AWS_")
    assert not destination.exists()


# Bodies


UNREADABLE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it is empty"),
    "space": (b" \r\n\t", "it is empty"),
    "HTML": (b"<html><title>503</title></html>", "it is HTML or XML, such as an error page"),
    "cut JSON": (b'[{"vehicleID": 1}, {"vehicleI', "it ends in the middle (cut off)"),
    "cut repr": (b"[{u'vehicleID': 1}, {u'vehicleI", "it ends in the middle (cut off)"),
    "number": (b"42", "it is a number, not a list of records"),
    "text": (b'"busy"', "it is a text, not a list of records"),
    "null": (b"null", "it is null, not a list of records"),
    "no records": (b"[1, 2]", "it is a list that holds a number where a record should be"),
    "one object": (b'{"vehicleID": 1}', "it is one object, not a list of records"),
    "no UTF-8": (b'[{"vehicleID": 1, "sign": "\xff"}]', "byte 27 is not UTF-8 text"),
    "NaN": (b'[{"vehicleID": 1, "delay": NaN}]', "it holds NaN, which JSON cannot hold"),
    "own time": (
        b'[{"vehicleID": 1, "snapshot_time": "now"}]',
        "record 1 has a field snapshot_time of its own",
    ),
    "too long": (b"[" + b" " * (2 << 20) + b"]", "it is 2.0 MB long, and max_snapshot_mb is 1"),
}


def add_unreadable(folder: Path) -> dict[str, tuple[bytes, str]]:
    """Adds all of them; key to body and reason."""
    added = {f"raw/{name_of(at)}": case for at, case in enumerate(UNREADABLE.values())}
    for key, (body, _) in added.items():
        (folder / key).write_bytes(body)
    return added


def assert_set_aside(
    result: Result, output: dict[str, bytes], added: dict[str, tuple[bytes, str]]
) -> None:
    assert_done(result)
    manifest = json.loads(output[f"_manifests/{WEEK}.json"])
    reasons = {one["key"]: one["reason"] for one in manifest["refused"]}
    assert set(reasons) == set(added)
    for key, (body, reason) in added.items():
        assert reason in reasons[key]
        assert f"{WEEK}: {key} is set aside: {reasons[key]}" in result.stderr
        assert output[f"_refused/{WEEK}/{key}"] == body


@pytest.fixture
def limit_of_one_mb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUSTIMES_MAX_SNAPSHOT_MB", "1")


@pytest.mark.usefixtures("limit_of_one_mb")
def test_unreadable_bodies_in_a_folder_are_set_aside_and_all_others_converted(
    ops: Run, source: Path, destination: Path
) -> None:
    good = expected_records(sorted((source / "raw").iterdir()))
    added = add_unreadable(source)
    result = ops(*FULL, "--weeks", WEEK)
    output = {name: (destination / name).read_bytes() for name in files_below(destination)}
    assert_set_aside(result, output, added)
    assert records_of(output[f"{WEEK}.jsonl.gz"]) == good
    assert_done(ops("verify", "--weeks", WEEK, "--deep", BUSTIMES_SPOT_CHECKS="30"))


@pytest.mark.usefixtures("limit_of_one_mb")
def test_unreadable_bodies_in_a_bucket_are_set_aside_and_all_others_converted(
    luigi: Run, bucket: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = expected_records(sorted((source / "raw").iterdir()))
    added = add_unreadable(source)
    upload(source, bucket)
    monkeypatch.setenv("BUSTIMES_SOURCE", bucket)
    monkeypatch.setenv("BUSTIMES_DESTINATION", f"{bucket}/out")
    result = luigi("AllWeeks", "--weeks", WEEK)
    output = {key.removeprefix("out/"): body for key, body in keys_in(bucket).items()}
    assert_set_aside(result, output, added)
    assert records_of(output[f"{WEEK}.jsonl.gz"]) == good
    assert_done(luigi("Verify", "--weeks", WEEK, "--deep"))


def test_a_body_of_200_mb_never_lies_in_memory(source: Path, destination: Path) -> None:
    size = 200 << 20
    key = f"raw/{name_of(0)}"
    with (source / key).open("wb") as file:
        file.truncate(size)
    script = (
        "import resource, subprocess, sys\n"
        "subprocess.run([sys.executable, '-m', 'ops', *sys.argv[1:]], check=True)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, *FULL, "--weeks", str(WEEK)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert_done(result)
    assert f"{key} is set aside: it is 200.0 MB long, and max_snapshot_mb is 64" in result.stderr
    assert (destination / f"_refused/{WEEK}/{key}").stat().st_size == size
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(result.stdout.split()[-1]) * unit < size / 2


# max_errors


def make_unreadable(folder: Path, count: int, day: int = 15) -> None:
    (folder / "raw").mkdir(parents=True, exist_ok=True)
    for at in range(count):
        (folder / "raw" / name_of(at, day)).touch()


@pytest.mark.parametrize(("refused", "allowed"), [(3, 2), (1, 0)])
def test_more_unreadable_bodies_than_max_errors_stop_the_run(
    ops: Run, source: Path, destination: Path, tmp_path: Path, refused: int, allowed: int
) -> None:
    make_unreadable(source, refused)
    result = ops(*FULL, "--weeks", WEEK, BUSTIMES_MAX_ERRORS=str(allowed))
    assert_explained(
        result,
        f"max_errors allows {allowed}",
        f"{refused} snapshot",
        f"raw/{name_of(refused - 1)}, because it is empty",
        "MAX_ERRORS=1000",
    )
    assert week_files(destination) == []
    assert not list((tmp_path / "spool").glob(f"*/{WEEK}/manifest.json"))
    again = ops(*FULL, "--weeks", WEEK, BUSTIMES_MAX_ERRORS=str(refused))
    assert_done(again)
    assert week_files(destination) == [f"{WEEK}.jsonl.gz"]


@pytest.mark.parametrize("workers", [1, 2])
def test_max_errors_holds_for_all_weeks_of_a_run_together(
    ops: Run, source: Path, destination: Path, workers: int
) -> None:
    make_unreadable(source, 60, day=15)
    make_unreadable(source, 60, day=22)
    result = ops(*FULL, "--weeks", f"{WEEK},{WEEK.next}", "--workers", workers)
    assert_explained(
        result, "snapshots could not be read, and max_errors allows 100", "MAX_ERRORS="
    )
    written = week_files(destination)
    assert len(written) == 1 or (not written and workers == 2)
    for name in written:
        assert gzip.decompress((destination / name).read_bytes()) is not None
        assert (destination / "_manifests" / name.replace("jsonl.gz", "json")).exists()


# Weeks with little or nothing in them


@pytest.mark.parametrize("body", [b"<html></html>", b"{}", b"[]"], ids=["unreadable", "{}", "[]"])
def test_a_week_without_any_record_is_an_empty_gzip_file(
    ops: Run, tmp_path: Path, destination: Path, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    folder = tmp_path / "bare"
    make_unreadable(folder, 3)
    for path in (folder / "raw").iterdir():
        path.write_bytes(body)
    monkeypatch.setenv("BUSTIMES_SOURCE", str(folder))
    assert_done(ops(*FULL, "--weeks", WEEK))
    assert gzip.decompress((destination / f"{WEEK}.jsonl.gz").read_bytes()) == b""
    manifest = json.loads((destination / f"_manifests/{WEEK}.json").read_bytes())
    assert (manifest["snapshots"], manifest["records"]) == (3, 0)
    assert len(manifest["refused"]) == (3 if body.startswith(b"<") else 0)
    verified = ops("verify", "--weeks", WEEK, "--deep")
    assert_done(verified)
    assert "Complete and correct." in verified.stdout


def nearly_snapshots(date: str) -> list[str]:
    name = f"bustimes__{date}__05-00-00.json"
    wrong = [
        *(f"{name}.gz", f"{name}~", f"{name}.tmp", name.replace(".json", ".JSON")),
        name.replace("05-00-00", "25-00-00"),
        name.replace("05-00-00", "05-60-00"),
        name.replace("05-00-00", "5-0-0"),
        name.replace(date, f"{date[:8]}31"),
        name.upper(),
        name.replace("bustimes", "Bustimes"),
    ]
    folders = ("every_minute", "data_test", "raw/every_minute", f"raw/bustimes__{date}")
    return [
        *wrong,
        *(f"raw/{one}" for one in wrong),
        *(f"{folder}/{name}" for folder in folders),
        *(f"RAW/{name}", f"raw/{name}/{name}"),
    ]


@pytest.mark.parametrize("place", ["a folder", "a bucket"])
def test_names_that_nearly_match_are_no_snapshots(
    ops: Run, request: pytest.FixtureRequest, source: Path, destination: Path, place: str
) -> None:
    good = expected_records(sorted((source / "raw").iterdir()))
    for name in nearly_snapshots("2021-11-15") + nearly_snapshots("2021-11-24"):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'[{"vehicleID":666}]')
    environment = {}
    if place == "a bucket":
        environment = {"BUSTIMES_SOURCE": request.getfixturevalue("bucket")}
        upload(source, environment["BUSTIMES_SOURCE"])
    weeks = ("--weeks", f"{WEEK},{WEEK.next}")
    result = ops(*FULL, *weeks, **environment)
    assert_done(result)
    assert f"No raw snapshots, so no file: {WEEK.next}." in result.stderr
    assert week_files(destination) == [f"{WEEK}.jsonl.gz"]
    assert records_of((destination / f"{WEEK}.jsonl.gz").read_bytes()) == good
    verified = ops("verify", *weeks, "--deep", **environment)
    assert_done(verified)
    assert f"gaps       {WEEK.next}" in verified.stdout


@pytest.mark.usefixtures("destination")
def test_a_folder_named_like_a_snapshot_is_none(ops: Run, source: Path) -> None:
    (source / "raw" / name_of(0, day=22)).mkdir()
    result = ops(*FULL, "--weeks", f"{WEEK},{WEEK.next}")
    assert_done(result)
    assert f"No raw snapshots, so no file: {WEEK.next}." in result.stderr


def test_two_snapshots_of_the_same_second_are_both_converted(
    ops: Run, source: Path, destination: Path
) -> None:
    good = sorted((source / "raw").iterdir())
    twin = source / good[0].name
    twin.write_bytes(b'[{"vehicleID":7,"twin":true}]')
    assert_done(ops(*FULL, "--weeks", WEEK))
    records = records_of((destination / f"{WEEK}.jsonl.gz").read_bytes())
    assert records == expected_records([*good, twin])
    assert_done(ops("verify", "--weeks", WEEK, "--deep", BUSTIMES_SPOT_CHECKS="30"))


@pytest.mark.usefixtures("source")
def test_a_week_without_snapshots_among_others_is_a_gap_and_no_failure(
    ops: Run, luigi: Run, destination: Path
) -> None:
    gap = f"No raw snapshots, so no file: {WEEK.previous}, {WEEK.next}."
    result = ops(*FULL, "--from", WEEK.previous, "--to", WEEK.next)
    assert_done(result)
    assert gap in result.stderr
    again = luigi("AllWeeks", "--from", WEEK.previous, "--to", WEEK.next)
    assert_done(again)
    assert gap in again.stderr
    assert week_files(destination) == [f"{WEEK}.jsonl.gz"]


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("task", ["AllWeeks", "Verify", "full", "verify"])
def test_a_range_without_any_snapshots_is_a_mistake(
    ops: Run, luigi: Run, destination: Path, task: str
) -> None:
    weeks = ("--from", "2018-W01", "--to", "2018-W03")
    options = (*FULL, *weeks) if task == "full" else (task, *weeks)
    result = (luigi if task[0].isupper() else ops)(*options)
    words = ("There is nothing to", "no raw snapshots in 2018-W01 to 2018-W03", "Check SOURCE")
    assert_explained(result, *words)
    assert week_files(destination) == []


# A raw object that changes between being listed and being read


CHANGES: dict[str, tuple[Callable[[bytes], bytes | None], str]] = {
    "deleted": (lambda _: None, "was listed but is gone now"),
    "longer": (lambda body: body + b"\n", "was replaced while its week was converted"),
    "shorter": (lambda body: body[:-1], "was replaced while its week was converted"),
    "of the same length": (
        lambda body: body.replace(b"1", b"2"),
        "was replaced while its week was converted",
    ),
}


def change(root: str, key: str, to: Callable[[bytes], bytes | None]) -> None:
    if root.startswith("s3://"):
        stored = boto3.resource("s3").Object(root.removeprefix("s3://"), key)
        body = to(stored.get()["Body"].read())
        stored.put(Body=body) if body is not None else stored.delete()
        return
    path = Path(root) / key
    body = to(path.read_bytes())
    if body is None:
        path.unlink()
        return
    changed = path.stat().st_mtime_ns + 1_000_000  # whatever the clock of the file system
    path.write_bytes(body)
    os.utime(path, ns=(changed, changed))


@pytest.mark.usefixtures("limit_of_one_mb")
@pytest.mark.parametrize("place", ["a folder", "a bucket"])
@pytest.mark.parametrize("which", ["a snapshot", "one that is too long"])
@pytest.mark.parametrize(("to", "sentence"), CHANGES.values(), ids=CHANGES)
def test_an_object_that_changes_after_it_was_listed_spoils_no_week(
    request: pytest.FixtureRequest,
    source: Path,
    destination: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    which: str,
    to: Callable[[bytes], bytes | None],
    sentence: str,
) -> None:
    key = f"raw/{name_of(0)}"
    body = b'[{"vehicleID":1}]' if which == "a snapshot" else b'[{"vehicleID":1' + b" " * (1 << 20)
    (source / key).write_bytes(body)
    root = str(source)
    if place == "a bucket":
        root = request.getfixturevalue("bucket")
        upload(source, root)
    monkeypatch.setenv("BUSTIMES_SOURCE", root)
    forget()
    archive = Archive.open()
    listing = list_week(archive.source, WEEK)
    assert key in {one.stored.key for one in listing.snapshots}
    change(root, key, to)
    spooled = Spool(archive.settings.spool, archive.destination.url).week(WEEK)
    with pytest.raises(Problem) as problem:
        finish(listing, True, archive.source, spooled, archive.settings, 2, lambda _: None)
    assert f"{root}/{key} {sentence}" in str(problem.value)
    assert "run it again" in str(problem.value)
    assert not spooled.is_finished()
    assert not destination.exists()

    afresh = list_week(open_root(root), WEEK)
    manifest = finish(afresh, True, archive.source, spooled, load(), 2, lambda _: None)
    assert spooled.is_finished()
    assert manifest.snapshots == len(afresh.snapshots) == 12 + (to(b"") is not None)
