"""Weeks, places, settings and S3 that are not right: a sentence that helps, and no loss."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from aws_refusals import ELSEWHERE, GET, LIST, PUT, REFUSALS, WRITES, NoS3, RefusingS3

from tests.conftest import PROJECT, Run, free_port
from tests.explained import (
    FULL,
    WEEK,
    assert_done,
    assert_explained,
    files_below,
    keys_in,
    text_of,
    upload,
    week_files,
)

pytestmark = pytest.mark.soak

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


def test_plain_luigi_without_a_scheduler_says_what_to_do(source: Path, destination: Path) -> None:
    assert source.exists()
    port = free_port()
    command = [sys.executable, "-m", "tasks", "WeekTask", "--week", WEEK.label]
    result = subprocess.run(
        [*command, "--scheduler-port", str(port)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    words = (f"scheduler at 127.0.0.1:{port} does not answer", "make luigid", "--local-scheduler")
    assert_explained(result, *words)
    assert "NoneType" not in text_of(result)
    assert week_files(destination) == []
    again = subprocess.run([*command, "--local-scheduler"], cwd=PROJECT, check=False)
    assert again.returncode == 0
    assert week_files(destination) == [f"{WEEK}.jsonl.gz"]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_the_tasks_say_what_can_be_run(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "tasks", *arguments]
    said = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    import tasks.bustimes.graph as graph

    tasks = [name for name in graph.__all__ if name != "run"]
    assert tasks
    for name in (*tasks, "--local-scheduler", "make luigid", "BUSTIMES_SOURCE"):
        assert name in said


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
    *(("BUSTIMES_COMPRESSION_LEVEL", value, "from 0 to 12") for value in ("-1", "99")),
    ("BUSTIMES_MAX_SNAPSHOT_MB", "0", "from 1 to 1,024"),
    *(("BUSTIMES_MAX_REFUSED_SHARE", one, "from 0 to 1") for one in ("2", "-0.1", "nan", "half")),
    *(("BUSTIMES_PYTHON_ESCAPES", one, "utf-8 or code-points") for one in ("utf8", "latin-1", "2")),
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
    "a section that does not end": (
        "[bustimes]\n",
        "[bustimes\n",
        ("'[bustimes' stands before any [section]",),
    ),
    "a line without =": ("order = vehicle\n", "order vehicle\n", ("'order vehicle' has no =",)),
    "a section misspelt": ("[bustimes]\n", "[bustime]\n", ("[bustimes] was probably meant",)),
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
    what = f"{bucket}/out/_inventories/{WEEK}/"
    assert_explained(result, what, "cannot be written", "waits in", "make sync")
    assert keys_in(bucket) == {}
    assert_done(ops("sync"))
    file, inventory, manifest, seal = sorted(keys_in(bucket))
    assert inventory.startswith(f"out/_inventories/{WEEK}/")
    assert (manifest, file) == (f"out/_manifests/{WEEK}.json", f"out/{WEEK}.jsonl.gz")
    assert seal.startswith(f"out/_seals/{WEEK}/")
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
