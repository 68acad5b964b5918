"""make report ON=ec2, on a local AWS: made on this machine, of the archive in the bucket."""

from pathlib import Path

import pytest

from ops.local_aws import LocalAws
from tasks.storage import open_root
from tasks.weeks import Week
from tests import report_manifests as made_up
from tests.conftest import Run

pytestmark = pytest.mark.soak


def test_it_needs_no_fleet_and_changes_nothing_but_the_page(
    cloud: LocalAws, cloud_bucket: str, ops: Run, tmp_path: Path
) -> None:
    made_up.write(tmp_path, made_up.manifest(Week(2021, 45)))
    destination = open_root(f"s3://{cloud_bucket}/v2")
    for name in ("_manifests/2021-W45.json", "2021-W45.jsonl.gz"):
        destination.write(name, (tmp_path / name).read_bytes())
    places = {
        "BUSTIMES_SOURCE": f"s3://{cloud_bucket}",
        "BUSTIMES_DESTINATION": f"s3://{cloud_bucket}/v2",
    }
    to = f"s3://{cloud_bucket}/pages"
    planned = ops("report", "--on", "ec2", "--dry-run", "--to", to, **places)
    assert planned.returncode == 0, planned.stderr
    assert f"{to}/report.html would be written, of s3://{cloud_bucket}/v2." in planned.stdout
    assert not list(open_root(to).top_objects())
    ran = ops("report", "--on", "ec2", "--to", to, **places)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(f"{to}/report.html\n")
    assert "in 1 weekly file, 2021-W45." in ran.stdout
    head = cloud.client("s3").head_object(Bucket=cloud_bucket, Key="pages/report.html")
    assert head["ContentType"] == "text/html"
