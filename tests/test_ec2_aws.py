"""What AWS's errors are to a person: a sentence that names the remedy, and never a traceback."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore import exceptions as raised

from ops.ec2 import aws
from ops.ec2.aws import Aws, explained, patiently
from tasks.problem import Problem
from tests.conftest import free_port

NOT_ALLOWED = (
    "User: arn:aws:iam::123456789012:user/reader is not authorized to perform: "
    "cloudformation:CreateStack on resource: arn:aws:cloudformation:us-east-1:123456789012:stack/x "
)
ANSWERS = {  # code, message, status: what to say
    "denied": (
        ("AccessDenied", f"{NOT_ALLOWED}because no identity-based policy allows it", 403),
        "access is denied: you lack the permission cloudformation:CreateStack. Have it granted, or",
    ),
    "denied, by a rule that says so": (
        ("AccessDeniedException", f"{NOT_ALLOWED}with an explicit deny", 400),
        "access is explicitly denied: you lack the permission cloudformation:CreateStack",
    ),
    "denied, by EC2": (
        (
            "UnauthorizedOperation",
            "You are not authorized to perform this operation. User: arn:aws:iam::1:user/x is not "
            "authorized to perform: ec2:RunInstances on resource: arn. Encoded: abc",
            403,
        ),
        "you lack the permission ec2:RunInstances",
    ),
    "denied, for no reason": (("AccessDenied", "", 403), "lack the permission for DoSomething"),
    "expired": (("ExpiredToken", "expired", 403), "the credentials have expired; log in again"),
    "expired, as JSON": (("ExpiredTokenException", "expired", 400), "credentials have expired"),
    "expired, by EC2": (("RequestExpired", "Request has expired.", 400), "have expired; log in"),
    "a key of nobody's": (("InvalidClientTokenId", "", 403), "AWS does not know this access key"),
    "a key of nobody's, JSON": (("UnrecognizedClientException", "", 400), "not know this access"),
    "a key of nobody's, EC2": (("AuthFailure", "", 401), "AWS does not know this access key"),
    "a wrong secret": (("SignatureDoesNotMatch", "", 403), "the secret key is not that of"),
    "throttled": (
        ("Throttling", "Rate exceeded", 400),
        "AWS asks to slow down (Throttling), still",
    ),
    "throttled, by EC2": (("RequestLimitExceeded", "", 503), "AWS asks to slow down"),
    "not opened": (("OptInRequired", "not subscribed.", 403), "not opened this service to your"),
    "broken": (("InternalFailure", "", 500), "AWS answers InternalFailure, still after several"),
    "anything else": (
        ("ValidationError", "Stack is odd.", 400),
        "AWS answers ValidationError (Stack is odd); mend that and run it again",
    ),
}


@pytest.mark.parametrize(("answer", "sentence"), ANSWERS.values(), ids=ANSWERS)
def test_every_answer_is_a_sentence(answer: tuple[str, str, int], sentence: str) -> None:
    code, message, status = answer
    response = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    with pytest.raises(Problem) as problem, explained("The thing cannot be done"):
        raise raised.ClientError(response, "DoSomething")  # type: ignore[arg-type]
    assert str(problem.value).startswith("The thing cannot be done: ")
    assert sentence in str(problem.value)
    assert str(problem.value).endswith(".")
    assert problem.value.__cause__ is None


def test_no_answer_at_all_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", nowhere)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    with pytest.raises(Problem, match=r"who you are: .*\. Check the network and, .*goes on from"):
        _ = Aws("us-east-1").account


@pytest.mark.parametrize("setting", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS"])
def test_an_endpoint_that_is_none(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv(setting, "localhost:5555")
    with pytest.raises(Problem, match=r"localhost:5555.*Correct AWS_ENDPOINT_URL: it looks like"):
        _ = Aws("us-east-1").account


def test_a_setting_that_is_none_is_no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_METADATA_SERVICE_TIMEOUT", "soon")
    with pytest.raises(Problem, match=r"metadata_service_timeout has a value.*'soon'") as told:
        _ = Aws("us-east-1").account
    assert "ENDPOINT" not in str(told.value)


def test_a_token_of_windows_is_neither_sent_nor_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "planted-token\r")
    with pytest.raises(Problem, match="AWS_SESSION_TOKEN ends in a carriage return") as told:
        _ = Aws("us-east-1").account
    assert "planted" not in str(told.value)


def test_a_region_that_is_none() -> None:
    with pytest.raises(Problem, match=r"'mars north' is no region of AWS: .*or EC2_REGION"):
        Aws("mars north").client("ec2")


def test_threads_share_their_clients() -> None:
    mine, begin = Aws("us-east-1"), threading.Barrier(8)

    def ask(_: int) -> object:
        begin.wait(10)
        return mine.client("sns")

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(ask, range(8)))) == 1


def test_a_network_that_comes_back_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws, "pauses", lambda: iter([0.0] * 9))
    asked = []

    def ask() -> str:
        asked.append(1)
        if len(asked) < 4:
            raise raised.EndpointConnectionError(endpoint_url="https://ssm.us-east-1")
        return "awake"

    assert patiently(ask) == "awake"
    assert len(asked) == 4


def test_an_error_is_not_waited_out() -> None:
    with pytest.raises(raised.NoCredentialsError):
        patiently(lambda: (_ for _ in ()).throw(raised.NoCredentialsError()))
