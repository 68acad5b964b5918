"""What instances talk to beside S3: the rest of AWS, a webhook, and a board behind a gate.

All of AWS's services are moto's server; an Auto Scaling group of it can be scaled.
"""

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ops.ec2.aws import Aws
from ops.ec2.board import Board
from ops.service import Service
from tasks.storage.s3 import S3Prefix
from tests.conftest import PROJECT, forget, free_port
from tests.gate import Gate

REGION = "us-east-1"

_AWS = """
from ops.embedded_s3 import forget_aws, make_server
forget_aws()
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
server = make_server("127.0.0.1", {port}, DomainDispatcherApplication(create_backend_app))
server.serve_forever()
"""


@pytest.fixture(scope="session")
def aws_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of moto's server of all services."""
    port, folder = free_port(), tmp_path_factory.mktemp("aws")
    service = Service(
        name="AWS",
        command=[sys.executable, "-c", _AWS.format(port=port)],
        port=port,
        port_setting="the test's port",
        ready_url=f"http://127.0.0.1:{port}/moto-api/",
        log_path=folder / "log",
        pid_path=folder / "pid",
        env={"PYTHONPATH": str(PROJECT)},
    )
    service.start()
    yield f"http://127.0.0.1:{port}"
    service.stop()


def aws_environment(aws_url: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": aws_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }


def make_group(aws: Aws, name: str) -> None:
    """An Auto Scaling group that is to have one instance."""
    group = aws.client("autoscaling")
    if not group.describe_launch_configurations()["LaunchConfigurations"]:
        image = aws.client("ec2").describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        group.create_launch_configuration(
            LaunchConfigurationName="one", ImageId=image, InstanceType="c6i.large"
        )
    group.create_auto_scaling_group(
        AutoScalingGroupName=name,
        LaunchConfigurationName="one",
        MinSize=0,
        MaxSize=3,
        DesiredCapacity=1,
        AvailabilityZones=[f"{REGION}a"],
    )


def desired(aws: Aws, group: str) -> int:
    """How many instances a group is to have."""
    found = aws.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[group])
    return found["AutoScalingGroups"][0]["DesiredCapacity"]


class Webhook:
    """What Slack would be: keeps what it is told."""

    def __init__(self, status: int = 200) -> None:
        told: list[str] = []
        self.told = told

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                told.append(body["text"])
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/a-secret"

    def __enter__(self) -> "Webhook":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def gated_board(bucket: str, gate: Gate) -> Iterator[Board]:
    """A board, with the gate between it and this very process."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL_S3", gate.url)
        forget()
        yield Board(S3Prefix(f"{bucket}/v2"))
    forget()
