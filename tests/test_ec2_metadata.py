"""What an instance learns of itself from its metadata service, of which version 2 is spoken."""

import datetime as dt
import json
import socket
from collections.abc import Iterator

import pytest

from ops.ec2.metadata import Identity, Interruption, Metadata
from ops.local_aws.imds import MetadataService, identity, instance_action
from tasks.problem import Problem
from tests.conftest import free_port

FACTS = {
    "account": "123456789012",
    "architecture": "x86_64",
    "zone": "us-east-1b",
    "image": "ami-1",
    "instance": "i-1",
    "type": "c6i.large",
    "launched": "2021-11-08T00:00:05Z",
    "address": "10.0.0.7",
    "region": "us-east-1",
    "lifecycle": "spot",
}


class Service:
    """The service, with what it knows, and how often it was asked for a token."""

    def __init__(self) -> None:
        self.paths = identity(FACTS)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        self._service = MetadataService(self.listening, self.paths.get)

    def restart(self) -> None:
        """Forget all tokens."""
        self._service.close()
        address = ("127.0.0.1", int(self.url.rpartition(":")[2]))
        self._service = MetadataService(socket.create_server(address), self.paths.get)

    def close(self) -> None:
        self._service.close()


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.close()


@pytest.fixture
def metadata(service: Service) -> Metadata:
    return Metadata({"AWS_EC2_METADATA_SERVICE_ENDPOINT": service.url + "/"})


def test_an_instance_knows_who_it_is(metadata: Metadata) -> None:
    assert metadata.identity() == Identity(
        instance="i-1",
        type="c6i.large",
        zone="us-east-1b",
        address="10.0.0.7",
        region="us-east-1",
        launched="2021-11-08T00:00:05+00:00",
    )


def test_a_notice_is_seen_once_there_is_one(metadata: Metadata, service: Service) -> None:
    assert metadata.interruption() is None
    at = dt.datetime(2021, 11, 8, 12, 0, tzinfo=dt.UTC)
    service.paths["meta-data/spot/instance-action"] = instance_action(at)
    assert metadata.interruption() == Interruption("terminate", at)


def test_a_token_that_has_expired_is_replaced(metadata: Metadata, service: Service) -> None:
    metadata.identity()
    service.restart()
    assert metadata.identity().instance == "i-1"


def test_outside_ec2_that_is_said(service: Service) -> None:
    nowhere = Metadata({"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{free_port()}"})
    with pytest.raises(Problem, match="does not say which EC2 instance this is"):
        nowhere.identity()
    assert nowhere.interruption() is None
    del service.paths["dynamic/instance-identity/document"]
    with pytest.raises(Problem, match="does not say which EC2 instance this is"):
        Metadata({"AWS_EC2_METADATA_SERVICE_ENDPOINT": service.url}).identity()


@pytest.mark.parametrize("answer", ["", "{", "[]", json.dumps({"action": "terminate"})])
def test_a_notice_that_cannot_be_read_is_asked_for_again(
    metadata: Metadata, service: Service, answer: str
) -> None:
    service.paths["meta-data/spot/instance-action"] = answer
    assert metadata.interruption() is None
