"""The local AWS's run command and sessions behave as SSM's."""

import json
import os
import signal
import subprocess
import urllib.request
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ops.local_aws import LocalAws
from tests.local_cloud import Result, RunInLab, wait_for


def test_a_script_runs_and_says_how_it_ended(run_in_lab: RunInLab, result: Result) -> None:
    found = result(run_in_lab("echo $((6 * 7)); echo no >&2; [[ a == a ]]; exit 7"))
    assert (found["Status"], found["StatusDetails"], found["ResponseCode"]) == (
        "Failed",
        "Failed",
        7,
    )
    assert (found["StandardOutputContent"], found["StandardErrorContent"]) == ("42\n", "no\n")


def test_output_is_cut_where_ssm_cuts_it_and_whole_in_the_logs(
    cloud: LocalAws, fleet: str, lab_instances: list[str], run_in_lab: RunInLab, result: Result
) -> None:
    command = run_in_lab(
        "echo; seq 1 20000",
        CloudWatchOutputConfig={
            "CloudWatchOutputEnabled": True,
            "CloudWatchLogGroupName": f"/{fleet}",
        },
    )
    shown = result(command)["StandardOutputContent"]
    assert len(shown) == 24_000
    assert shown.endswith("--output truncated--")
    logs = cloud.client("logs")
    text = ""
    token: dict[str, str] = {}
    while True:
        page = logs.get_log_events(
            logGroupName=f"/{fleet}",
            logStreamName=f"{command}/{lab_instances[0]}/aws-runShellScript/stdout",
            startFromHead=True,
            **token,
        )
        text += "".join(one["message"] for one in page["events"])
        if page["nextForwardToken"] == token.get("nextToken"):
            break
        token = {"nextToken": page["nextForwardToken"]}
    assert text == "\n".join(["", *map(str, range(1, 20_001))])


def test_a_tag_names_every_instance(
    cloud: LocalAws, fleet: str, lab_instances: list[str], run_in_lab: RunInLab, result: Result
) -> None:
    targets = [{"Key": "tag:lab", "Values": [fleet]}]
    command = run_in_lab("echo $BUSTIMES_HOME", InstanceIds=[], Targets=targets)
    homes = {one: machine["home"] for one, machine in cloud.machines_of(fleet).items()}
    for instance in lab_instances:
        assert result(command, instance)["StandardOutputContent"] == homes[instance] + "\n"
    nobody = run_in_lab("true", InstanceIds=[], Targets=[{"Key": "tag:lab", "Values": ["no"]}])

    def whole() -> Any:
        [one] = cloud.client("ssm").list_commands(CommandId=nobody)["Commands"]
        return one["Status"] != "Pending" and one

    assert wait_for(whole, "a command to nobody ended")["StatusDetails"] == "NoInstancesInTag"


def test_what_runs_too_long_or_is_cancelled_ends_but_what_left_stays(
    cloud: LocalAws, lab_instances: list[str], run_in_lab: RunInLab, result: Result
) -> None:
    late = result(run_in_lab("setsid sleep 500 >/dev/null 2>&1 & sleep 100", seconds="1"))
    assert (late["Status"], late["StatusDetails"]) == ("TimedOut", "ExecutionTimedOut")
    command = run_in_lab("sleep 100")
    cloud.client("ssm").cancel_command(CommandId=command)
    assert result(command)["Status"] == "Cancelled"
    [left] = cloud.machines()[lab_instances[0]]["processes"]
    os.kill(left, signal.SIGKILL)


def test_an_invocation_takes_a_moment_to_exist(
    cloud: LocalAws, lab_instances: list[str], run_in_lab: RunInLab
) -> None:
    cloud.trouble("ssm", settle_seconds=60)
    with pytest.raises(ClientError, match="InvocationDoesNotExist"):
        cloud.client("ssm").get_command_invocation(
            CommandId=run_in_lab("true"), InstanceId=lab_instances[0]
        )


def test_an_agent_that_is_lost_or_cannot_be_reached(
    cloud: LocalAws, lab_instances: list[str], run_in_lab: RunInLab, result: Result
) -> None:
    cloud.trouble("ssm", lost=lab_instances[:1], delivery_seconds=0.3)
    shown = cloud.client("ssm").describe_instance_information(
        Filters=[{"Key": "InstanceIds", "Values": lab_instances}]
    )["InstanceInformationList"]
    ping = {one["InstanceId"]: one["PingStatus"] for one in shown}
    assert ping == {lab_instances[0]: "ConnectionLost", lab_instances[1]: "Online"}
    assert result(run_in_lab("true"))["StatusDetails"] == "DeliveryTimedOut"
    cloud.trouble("ssm", lost=[], undeliverable=lab_instances[:1])
    found = result(run_in_lab("true"))
    assert (found["Status"], found["StatusDetails"]) == ("Failed", "Undeliverable")
    with pytest.raises(ClientError, match=r"Instances \[\[i-0\]\] not in a valid state"):
        run_in_lab("true", InstanceIds=["i-0"])


def test_a_session_brings_a_port_here(
    cloud: LocalAws, fleet: str, lab_instances: list[str], run_in_lab: RunInLab, result: Result
) -> None:
    address = cloud.machines_of(fleet)[lab_instances[0]]["address"]
    server = run_in_lab(
        "dnf install -y python3.11 >/dev/null; cd $HOME; echo hello >said\n"
        f"setsid python3.11 -m http.server 8099 --bind {address} >log 2>&1 </dev/null &\n"
        f"until curl -s http://{address}:8099/said; do sleep 0.1; done"
    )
    assert result(server)["StandardOutputContent"] == "hello\n"
    asked: dict[str, Any] = {
        "Target": lab_instances[1],  # from there it is one hop to the other
        "DocumentName": "AWS-StartPortForwardingSessionToRemoteHost",
        "Parameters": {"host": [address], "portNumber": ["8099"], "localPortNumber": ["0"]},
    }
    client = cloud.client("ssm")
    answer = client.start_session(**asked)
    given = {name: answer[name] for name in ("SessionId", "TokenValue", "StreamUrl")}
    where = ["us-east-1", "StartSession", "", json.dumps(asked), cloud.endpoint]
    with subprocess.Popen(
        ["session-manager-plugin", json.dumps(given), *where], stdout=subprocess.PIPE, text=True
    ) as plugin:
        assert plugin.stdout is not None
        opened = next(line for line in plugin.stdout if line.startswith("Port "))
        url = f"http://127.0.0.1:{opened.split()[1]}/said"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        assert opener.open(url, timeout=20).read() == b"hello\n"
        assert client.describe_sessions(State="Active")["Sessions"]
        client.terminate_session(SessionId=answer["SessionId"])
        assert plugin.wait(20) == 255
    cloud.trouble("ssm", lost=lab_instances)
    with pytest.raises(ClientError, match="TargetNotConnected"):
        client.start_session(**asked)
