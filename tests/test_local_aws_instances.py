"""The local AWS's instances are machines: with metadata, rights, disks and ends of their own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ops.local_aws import LocalAws
from tests.conftest import PROJECT
from tests.local_cloud import Result, RunInLab, small_stack, wait_for

pytestmark = pytest.mark.soak

IMDS = """
imds=${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254}/latest
token=$(curl -s -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' $imds/api/token)
look() { curl -s -H "X-aws-ec2-metadata-token: $token" "$imds/meta-data/$1"; echo; }
"""


def test_user_data_has_run(cloud: LocalAws, fleet: str) -> None:
    for machine in cloud.machines_of(fleet).values():
        said = Path(machine["home"]) / "said"
        wait_for(said.exists, "user data")
        assert said.read_text() == "from user data\n"


def test_the_metadata_service_wants_a_token(
    fleet: str, lab_instances: list[str], run_in_lab: RunInLab, result: Result
) -> None:
    script = IMDS + (
        "curl -s -o /dev/null -w '%{http_code}\\n' $imds/meta-data/instance-id\n"
        "look instance-id; look placement/region; look iam/security-credentials/\n"
        "curl -s -o /dev/null -w '%{http_code}\\n' -H \"X-aws-ec2-metadata-token: $token\" "
        "$imds/meta-data/spot/instance-action\n"
    )
    said = result(run_in_lab(script))["StandardOutputContent"].split()
    assert said == ["401", lab_instances[0], "us-east-1", fleet, "404"]


def test_an_instance_may_what_its_role_may(
    lab_bucket: str, run_in_lab: RunInLab, result: Result
) -> None:
    found = result(
        run_in_lab(
            f"echo 1 | aws s3 cp - s3://{lab_bucket}/v2/x && aws s3 cp s3://{lab_bucket}/v2/x -\n"
            f"echo 1 | aws s3 cp - s3://{lab_bucket}/raw/x\n"
        )
    )
    assert (found["ResponseCode"], found["StandardOutputContent"]) == (1, "1\n")
    assert "not authorized to perform: s3:PutObject on resource" in found["StandardErrorContent"]


def test_there_is_no_python_before_dnf(run_in_lab: RunInLab, result: Result) -> None:
    script = (
        "command -v python3 pip3 && exit 1\n"
        "dnf install -y python3.11 && dnf install -y python3.11\n"
        "python3.11 -c 'import sys; print(sys.version_info >= (3, 11))'\n"
        "dnf install -y emacs\n"
    )
    found = result(run_in_lab(script))
    assert "True" in found["StandardOutputContent"]
    assert found["StandardErrorContent"] == "Error: Unable to find a match: emacs\n"


def test_a_disk_can_be_full(
    cloud: LocalAws, lab_instances: list[str], run_in_lab: RunInLab, result: Result
) -> None:
    if not cloud.machines()[lab_instances[0]]["disk"]:
        pytest.skip("this user may not mount disks")
    write = "head -c 100000 /dev/zero >$BUSTIMES_HOME/zeros"
    cloud.trouble("fill-disk", instance=lab_instances[0])
    assert "No space left on device" in result(run_in_lab(write))["StandardErrorContent"]
    cloud.trouble("free-disk", instance=lab_instances[0])
    assert result(run_in_lab(write))["Status"] == "Success"


def test_what_is_cut_off_hears_nothing_until_it_is_back(
    cloud: LocalAws, lab_instances: list[str], run_in_lab: RunInLab, result: Result
) -> None:
    ask = "timeout 1 aws sts get-caller-identity --region us-east-1 >/dev/null; echo $?"
    command = run_in_lab(f"until [[ -e $HOME/cut ]]; do sleep 0.05; done\n{ask}\ntouch $HOME/asked")
    root = Path(cloud.machines()[lab_instances[0]]["folder"]) / "root"
    wait_for(lambda: cloud.machines()[lab_instances[0]]["processes"], "the script runs")
    cloud.trouble("cut", instance=lab_instances[0])
    (root / "cut").touch()
    wait_for((root / "asked").exists, "the instance has asked in vain")
    client = cloud.client("ssm")
    shown = client.get_command_invocation(CommandId=command, InstanceId=lab_instances[0])
    assert shown["Status"] == "InProgress"  # its end cannot be reported
    cloud.trouble("restore", instance=lab_instances[0])
    assert result(command)["StandardOutputContent"] == "124\n"


def test_a_spot_instance_that_is_wanted_back(
    cloud: LocalAws, fleet: str, lab_instances: list[str], run_in_lab: RunInLab, result: Result
) -> None:
    folder = Path(cloud.machines()[lab_instances[0]]["folder"])
    waiting = (
        IMDS
        + "until look spot/instance-action | grep -q terminate; do sleep 0.1; done\n"
        + "trap 'echo TERM >$HOME/term; exit' TERM; touch $HOME/noticed; sleep 100 & wait\n"
    )
    command = run_in_lab(waiting)
    cloud.trouble("interrupt", instance=lab_instances[0], seconds=2)
    wait_for((folder / "root/noticed").exists, "noticed")
    wait_for((folder / "root/term").exists, "SIGTERM before the end")
    assert result(command)["StatusDetails"] == "Terminated"
    wait_for(lambda: lab_instances[0] not in cloud.machines(), "gone")
    described = cloud.client("ec2").describe_instances(InstanceIds=[lab_instances[0]])
    reason = described["Reservations"][0]["Instances"][0]["StateReason"]["Code"]
    assert reason == "Server.SpotInstanceTermination"
    wait_for(lambda: len(cloud.machines_of(fleet, registered=True)) == 2, "a replacement")


def test_nothing_is_left_of_a_machine_without_power(
    cloud: LocalAws, fleet: str, lab_instances: list[str], run_in_lab: RunInLab
) -> None:
    run_in_lab("setsid sleep 300 & sleep 300")
    alive = wait_for(
        lambda: len(found := cloud.machines()[lab_instances[0]]["processes"]) > 2 and found,
        "running",
    )
    cloud.trouble("kill", instance=lab_instances[0])
    wait_for(lambda: not any(Path(f"/proc/{one}").exists() for one in alive), "dead")
    wait_for(lambda: len(cloud.machines_of(fleet, registered=True)) == 2, "a replacement")


def test_an_instance_that_never_registers(cloud: LocalAws, fleet: str) -> None:
    cloud.trouble("capacity", unregistered=1)
    [first, _] = cloud.machines_of(fleet)
    cloud.trouble("kill", instance=first)
    wait_for(
        lambda: len(cloud.machines_of(fleet)) == 2 and first not in cloud.machines(), "replaced"
    )
    [new] = [one for one, it in cloud.machines_of(fleet).items() if not it["registered"]]
    wait_for((Path(cloud.machines()[new]["home"]) / "said").exists, "its user data has run")
    assert not cloud.machines()[new]["registered"]
    cloud.trouble("capacity", unregistered=0)
    cloud.trouble("kill", instance=new)
    wait_for(lambda: len(cloud.machines_of(fleet, registered=True)) == 2, "one that does")


def test_a_server_that_was_killed_leaves_nothing_to_the_next(tmp_path: Path) -> None:
    """On loopback addresses, as for somebody who is not root."""
    user_data = "#!/bin/bash\nsetsid sleep 1000 &\n"
    first = LocalAws(tmp_path, "loopback")
    first.start()
    first.client("cloudformation").create_stack(**small_stack("left", "no-bucket", user_data))
    alive = wait_for(
        lambda: (
            len(first.machines()) == 2
            and [one for it in first.machines().values() for one in it["processes"]]
        ),
        "processes of instances",
    )
    assert all(it["address"].startswith("127.") for it in first.machines().values())
    os.kill(first.process, signal.SIGKILL)
    first.stop()
    assert all(Path(f"/proc/{one}").exists() for one in alive)
    with LocalAws(tmp_path, "loopback"):
        assert not any(_runs(one) for one in alive)
        assert str(tmp_path) not in Path("/proc/mounts").read_text()


def _runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_network_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    """Without `ip` there are no namespaces."""
    done = subprocess.run(
        [sys.executable, "-m", "ops.local_aws", "--state", tmp_path, "--network", "namespaces"],
        cwd=PROJECT,
        env={"PATH": str(tmp_path), "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "Network namespaces cannot be made here" in done.stderr
    assert "Traceback" not in done.stderr
