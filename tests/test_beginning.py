"""How commands begin: quickly, with nothing that they do not need, and with nothing forgotten."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import botocore.loaders
import botocore.session
import pytest
from botocore import exceptions as aws

from ops import beginning
from tasks.storage import open_root
from tasks.storage.aws_models import load_quickly
from tests.conftest import PROJECT

DESCRIPTIONS = ("service-2", "endpoint-rule-set-1", "paginators-1", "waiters-2")

# A whole run, and then what it had to load for that.
RUN = """
import sys
from ops.__main__ import main
code = main(["full", "--local-scheduler"])
print(*sorted(set(sys.argv[1:]) & set(sys.modules)))
sys.exit(code)
"""
NOT_FOR_FOLDERS = ["botocore", "boto3", "tqdm", "requests", "tornado", "jsonschema"]
NOT_FOR_A_SCHEDULER = ["wasmtime", "pycurl", "sqlalchemy", "flask", "moto"]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    gc.unfreeze()


def unneeded_of_a_run(source: str, destination: Path, *unneeded: str) -> list[str]:
    """Those of the modules that a run has loaded nevertheless."""
    places = {"SOURCE": source, "DESTINATION": str(destination)}
    ran = subprocess.run(
        [sys.executable, "-c", RUN, *unneeded],
        cwd=PROJECT,
        env=os.environ | {f"BUSTIMES_{name}": place for name, place in places.items()},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert (destination / "2021-W45.jsonl.gz").exists()
    return ran.stdout.split()


def test_a_run_from_folder_to_folder_loads_only_what_it_needs(
    tmp_path: Path, make_snapshots: Callable[..., list[Path]]
) -> None:
    make_snapshots(tmp_path / "in", "2021-W45")
    unneeded = [*NOT_FOR_FOLDERS, *NOT_FOR_A_SCHEDULER]
    assert unneeded_of_a_run(str(tmp_path / "in"), tmp_path / "out", *unneeded) == []


def test_a_run_from_s3_loads_only_what_it_needs(
    bucket: str, tmp_path: Path, make_snapshots: Callable[..., list[Path]]
) -> None:
    for path in make_snapshots(tmp_path / "in", "2021-W45"):
        open_root(bucket).write(f"raw/{path.name}", path.read_bytes())
    assert unneeded_of_a_run(bucket, tmp_path / "out", *NOT_FOR_A_SCHEDULER) == []


def test_a_quick_beginning_hides_modules_only_for_its_time() -> None:
    with beginning.quick(without=("wave", "json")):
        assert not gc.isenabled()
        with pytest.raises(ImportError):
            import wave
        import json  # was there before
    import wave

    assert (wave.__name__, json.__name__) == ("wave", "json")
    assert gc.isenabled()


def test_a_beginning_that_fails_leaves_nothing_behind() -> None:
    with pytest.raises(ZeroDivisionError), beginning.quick(without=("sunau",)):
        raise ZeroDivisionError
    assert gc.isenabled()
    assert "sunau" not in sys.modules


def test_aws_is_described_as_by_botocore() -> None:
    quick = botocore.session.get_session()
    load_quickly(quick)
    # Not a session's, which botocore changes as soon as that makes a client.
    ours, botocores = quick.get_component("data_loader"), botocore.loaders.Loader()
    for service in ("s3", "sts", "sso", "sso-oidc"):
        for kind in DESCRIPTIONS:
            try:
                expected = botocores.load_service_model(service, kind)
            except aws.UnknownServiceError:
                with pytest.raises(aws.DataNotFoundError):
                    ours.load_service_model(service, kind)
            else:
                assert ours.load_service_model(service, kind) == expected
    for name in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
        assert ours.load_data(name) == botocores.load_data(name)


def test_a_service_that_aws_does_not_have_is_unknown() -> None:
    session = botocore.session.get_session()
    load_quickly(session)
    with pytest.raises(aws.UnknownServiceError, match="s33"):
        session.create_client("s33", region_name="us-east-1")


def test_descriptions_of_ones_own_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine/2021-11-10").mkdir(parents=True)
    (tmp_path / "mine/2021-11-10/service-2.json").write_text('{"version": "é"}', encoding="utf-8")
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    monkeypatch.setattr(botocore.session, "create_loader", botocore.loaders.create_loader)
    session = botocore.session.get_session()
    load_quickly(session)
    loader = session.get_component("data_loader")
    assert loader.load_service_model("mine", "service-2") == {"version": "é"}
    assert loader.load_service_model("s3", "service-2")["metadata"]["serviceId"] == "S3"
