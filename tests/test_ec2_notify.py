"""Who is told how a run ended, and that trouble with it is never more than a sentence."""

import json
from collections.abc import Callable

import boto3
import pytest

from ops.ec2.notify import notify, on_instance, webhook_parameter
from tasks.settings import NotifySettings
from tests.conftest import free_port
from tests.ec2_services import REGION, Webhook, aws_environment

NOBODY = NotifySettings(webhook="", sns_topic="")


@pytest.fixture
def aws(aws_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in aws_environment(aws_server).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def said() -> list[str]:
    return []


Say = Callable[[str], None]


def test_nobody_is_told_where_nobody_is_named(said: list[str]) -> None:
    notify("done", NOBODY, said.append)
    assert said == []


def test_a_webhook_is_told_as_slack_is(said: list[str]) -> None:
    with Webhook() as webhook:
        notify("zwei Wörter", NotifySettings(webhook.url, ""), said.append)
    assert webhook.told == ["zwei Wörter"]
    assert said == []


@pytest.mark.parametrize("status", [404, 500])
def test_a_webhook_that_refuses_is_said_without_its_address(said: list[str], status: int) -> None:
    with Webhook(status) as webhook:
        notify("done", NotifySettings(webhook.url, ""), said.append)
    [sentence] = said
    assert f"it answers {status}" in sentence
    assert "a-secret" not in sentence


@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}/a-secret", "http://a secret/"])
def test_a_webhook_that_is_not_there_is_said_without_its_address(
    said: list[str], address: str
) -> None:
    notify("done", NotifySettings(address.format(port=free_port()), ""), said.append)
    [sentence] = said
    assert sentence.startswith("The webhook was not told: ")
    assert "secret" not in sentence


@pytest.mark.usefixtures("aws")
def test_a_topic_is_told_with_a_subject(said: list[str]) -> None:
    topic = boto3.client("sns").create_topic(Name="conversions")["TopicArn"]
    queues = boto3.client("sqs")
    queue = queues.create_queue(QueueName="told")["QueueUrl"]
    boto3.client("sns").subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:123456789012:told"
    )
    notify("all is well\nreally", NotifySettings("", topic), said.append, "a run " + "x" * 200)
    [message] = queues.receive_message(QueueUrl=queue)["Messages"]
    told = json.loads(message["Body"])
    assert told["Message"] == "all is well\nreally"
    assert told["Subject"] == ("a run " + "x" * 200)[:100]
    assert said == []


@pytest.mark.usefixtures("aws")
def test_a_topic_that_is_not_there_is_said_and_the_webhook_is_told_all_the_same(
    said: list[str],
) -> None:
    topic = f"arn:aws:sns:{REGION}:123456789012:nowhere"
    with Webhook() as webhook:
        notify("done", NotifySettings(webhook.url, topic), said.append)
    assert webhook.told == ["done"]
    [sentence] = said
    assert sentence.startswith(f"{topic} was not told: ")


@pytest.mark.usefixtures("aws")
def test_an_instance_finds_the_webhook_in_parameter_store(said: list[str]) -> None:
    topic = NotifySettings("", f"arn:aws:sns:{REGION}:123456789012:conversions")
    assert on_instance(topic, "a-stack", REGION, said.append) == topic
    name = webhook_parameter("a-stack")
    boto3.client("ssm").put_parameter(Name=name, Value="https://a-secret/", Type="SecureString")
    found = on_instance(topic, "a-stack", REGION, said.append)
    assert found == NotifySettings("https://a-secret/", topic.sns_topic)
    boto3.client("ssm").delete_parameter(Name=name)
    assert said == []
