"""Tells a person how a run ended: a webhook that takes what Slack's do, and an SNS topic.

Both may be left out. The webhook's address is as good as a password: on an instance it comes from
Parameter Store, where `setup` puts it encrypted, and nothing here ever prints it. That somebody
cannot be told is said in a sentence and is never a reason for anything else to fail.
"""

import contextlib
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace

from ops.ec2.aws import Aws, explained
from tasks.problem import Problem
from tasks.settings import NotifySettings

_TIMEOUT_SECONDS = 10.0
_SUBJECT_LENGTH = 100  # SNS takes no longer one


def notify(
    text: str, settings: NotifySettings, say: Callable[[str], None], subject: str = ""
) -> None:
    """Send `text` wherever the settings say; `say` is told of whatever could not be sent."""
    if settings.webhook:
        _post(settings.webhook, text, say)
    if settings.sns_topic:
        with _said(say), explained(f"{settings.sns_topic} was not told"):
            topic = settings.sns_topic
            Aws(topic.split(":")[3]).client("sns").publish(  # a topic may be in another region
                TopicArn=topic, Message=text, Subject=(subject or "bustimes")[:_SUBJECT_LENGTH]
            )


def on_instance(
    settings: NotifySettings, stack: str, region: str, say: Callable[[str], None]
) -> NotifySettings:
    """The settings with the webhook that `setup` has put into Parameter Store, if any."""
    name = webhook_parameter(stack)
    with _said(say), explained(f"The webhook cannot be read from {name} in Parameter Store"):
        client = Aws(region).client("ssm")
        try:
            found = client.get_parameter(Name=name, WithDecryption=True)
        except client.exceptions.ParameterNotFound:
            return settings
        return replace(settings, webhook=found["Parameter"].get("Value", "").strip())
    return settings


def webhook_parameter(stack: str) -> str:
    """Where in Parameter Store a stack's webhook lies, as a SecureString."""
    return f"/{stack}/webhook"


def _post(webhook: str, text: str, say: Callable[[str], None]) -> None:
    try:
        asked = urllib.request.Request(
            webhook,
            data=json.dumps({"text": text}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=_TIMEOUT_SECONDS):
            return
    except urllib.error.HTTPError as error:
        why = f"it answers {error.code}"
    except urllib.error.URLError as error:
        why = str(error.reason)
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = type(error).__name__  # whose words may hold the address
    say(f"The webhook was not told: {why}. Correct webhook in [notify] of luigi.cfg.")


@contextlib.contextmanager
def _said(say: Callable[[str], None]) -> Iterator[None]:
    try:
        yield
    except Problem as problem:
        say(str(problem))
