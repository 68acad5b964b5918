"""The local AWS's policies allow what IAM would, and nothing more."""

from typing import Any

import pytest

from ops.local_aws.policies import Policies


def decide(
    action: str, resource: str = "*", context: dict[str, str] | None = None, *statements: Any
) -> str:
    return Policies([{"Statement": list(statements)}]).decide(action, resource, context or {})


def allow(action: Any, resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


@pytest.mark.parametrize(
    ("action", "resource", "expected"),
    [
        ("s3:GetObject", "arn:aws:s3:::b/v2/x", "allowed"),
        ("S3:getobject", "arn:aws:s3:::b/v2/x", "allowed"),  # actions know no case
        ("s3:GetObject", "arn:aws:s3:::b/V2/x", "implicitDeny"),  # resources do
        ("s3:GetObject", "arn:aws:s3:::b/raw/x", "implicitDeny"),
        ("s3:GetObjectAcl", "arn:aws:s3:::b/v2/x", "implicitDeny"),
        ("s3:PutObject", "arn:aws:s3:::b/v2/x", "implicitDeny"),
        ("s3:GetObject", "arn:aws:s3:::bb/v2/x", "implicitDeny"),
        ("s3:GetObject", "arn:aws:s3:::b/v2/secret", "explicitDeny"),
    ],
)
def test_actions_and_resources(action: str, resource: str, expected: str) -> None:
    statements = [
        allow(["s3:GetObject"], ["arn:aws:s3:::b/v2/*"]),
        {"Effect": "Deny", "Action": "s3:*", "Resource": "arn:aws:s3:::?/v2/secret"},
    ]
    assert decide(action, resource, None, *statements) == expected


def test_a_dot_in_a_pattern_is_a_dot() -> None:
    assert decide("s3:Get", "aXb", None, allow("s3:Get", "a.b")) == "implicitDeny"


def test_all_but_some() -> None:
    statement = {"Effect": "Allow", "NotAction": "iam:*", "NotResource": "arn:x:*"}
    assert decide("s3:Get", "arn:y:1", None, statement) == "allowed"
    assert decide("iam:Get", "arn:y:1", None, statement) == "implicitDeny"
    assert decide("s3:Get", "arn:x:1", None, statement) == "implicitDeny"


@pytest.mark.parametrize(
    ("condition", "context", "expected"),
    [
        ({"StringEquals": {"k": ["a", "b"]}}, {"k": "b"}, "allowed"),
        ({"StringEquals": {"k": "a"}}, {"k": "b"}, "implicitDeny"),
        ({"StringEquals": {"k": "a"}}, {}, "implicitDeny"),
        ({"StringEqualsIfExists": {"k": "a"}}, {}, "allowed"),
        ({"StringNotEquals": {"k": ["a", "b"]}}, {"k": "b"}, "implicitDeny"),
        ({"StringNotEquals": {"k": "a"}}, {}, "allowed"),
        ({"StringLike": {"k": "v2/*"}}, {"k": "v2/x"}, "allowed"),
        ({"ArnLike": {"k": "arn:*:x"}, "Bool": {"t": "true"}}, {"k": "arn:1:x"}, "implicitDeny"),
        ({"NumericLessThanEquals": {"k": "5"}}, {"k": "4"}, "allowed"),
        ({"NotKnownHere": {"k": "5"}}, {"k": "5"}, "implicitDeny"),
    ],
)
def test_conditions(condition: Any, context: dict[str, str], expected: str) -> None:
    assert decide("s3:Get", "*", context, allow("s3:*", Condition=condition)) == expected


def test_a_condition_that_fails_takes_nothing_away_from_other_statements() -> None:
    statements = [allow("s3:*", Condition={"StringEquals": {"k": "a"}}), allow("s3:Get")]
    assert decide("s3:Get", "*", {}, *statements) == "allowed"
