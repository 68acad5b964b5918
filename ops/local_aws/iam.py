"""Who makes a request, and whether that identity may.

Identities are those that moto keeps: users with access keys, and roles through temporary
credentials. What is kept of them is dropped whenever anything in IAM changes. Signatures are not
checked: a wrong secret goes unnoticed here. Policies of buckets, boundaries and organizations do
not exist here; another account's bucket is closed.
"""

import itertools
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from ops.local_aws.actions import needed
from ops.local_aws.backends import Backends
from ops.local_aws.identity import Identity
from ops.local_aws.policies import Policies
from ops.local_aws.wire import JSON_SERVICES, Call, Refused


class Access:
    """Identities by access key, and what they may do."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._known: dict[str, Identity] = {}
        self._lock = threading.Lock()
        self.expired: set[str] = set()
        """Access keys that are no longer good."""

    def changed(self) -> None:
        """Something in IAM may have changed."""
        self._known = {}

    def identify(self, call: Call) -> Identity:
        """Whose request it is. Raises `Refused` where AWS would not know, or no longer."""
        identity = self._known.get(call.access_key)
        if identity is None:
            with self._backends.lock:
                identity = next(self._look_up(call.access_key), None)
            if identity is None or not call.access_key:
                raise _unknown(call)
            self._known[call.access_key] = identity
        if identity.token != call.token:
            raise _unknown(call)
        over = identity.expires is not None and datetime.now(UTC) >= identity.expires
        if over or call.access_key in self.expired:
            raise _expired(call)
        return identity

    def _look_up(self, key: str) -> Iterator[Identity]:
        from moto.iam.models import iam_backends
        from moto.sts.models import sts_backends

        for account in list(iam_backends):
            iam = iam_backends[account]["aws"]
            for user in list(iam.users.values()):
                if any(one.access_key_id == key for one in user.access_keys):
                    policies = Policies(self._documents(iam, user))
                    yield Identity(user.arn, account, policies, "", None, "")
            for taken in list(sts_backends[account]["aws"].assumed_roles):
                if taken.access_key_id == key:
                    role = _role(iam, taken.role_arn)
                    policies = Policies(self._documents(iam, role) if role else [])
                    ends = taken.expiration.replace(tzinfo=UTC)
                    session = taken.session_name
                    instance = session if session.startswith("i-") else ""
                    yield Identity(
                        taken.arn, account, policies, taken.session_token, ends, instance
                    )

    def _documents(self, iam: Any, owner: Any) -> Iterator[Any]:
        """The policies of a user or role, its own and those attached to it."""
        inline = owner.policies
        for document in inline.values():
            yield _document(document)
        for policy in owner.managed_policies.values():
            default = next(one for one in policy.versions if one.is_default)
            yield _document(default.document)
        for group in iam.groups.values():
            if owner in group.users:
                yield from self._documents(iam, group)

    def authorize(self, identity: Identity, call: Call) -> None:
        """Raise `Refused` unless the identity may do all that the call needs."""
        context = {"aws:RequestedRegion": call.region, "aws:PrincipalArn": identity.arn}
        for action, resource, more in needed(call, identity.account):
            decision = identity.policies.decide(action, resource, context | more)
            if decision != "allowed" and action != "sts:GetCallerIdentity":
                raise _denied(call, identity, action, resource, decision)

    def instance_may(self, instance: str, action: str, resource: str) -> bool:
        """Whether the role of an instance's profile allows an action now."""
        with self._backends.lock:
            try:
                found = self._backends.ec2.get_instance(instance)
            except Exception:
                return False
            role = self._backends.role_of(found)
            if role is None:
                return False
            policies = Policies(self._documents(self._backends.iam, role))
        return policies.decide(action, resource, {}) == "allowed"

    def simulate_principal_policy(self, call: Call) -> dict[str, Any]:
        asked = call.parameters
        arn = asked["PolicySourceArn"]
        account, kind = arn.split(":")[4], arn.split(":")[5].split("/")[0]
        if kind not in ("user", "role", "group"):
            message = f"Invalid Entity Arn: {arn} does not clearly define entity type and name."
            raise Refused("InvalidInput", message)
        with self._backends.lock:
            iam = self._backends.of_account("iam", account, "aws")
            owners = [*iam.users.values(), *iam.roles.values(), *iam.groups.values()]
            owner = next((one for one in owners if one.arn == arn), None)
            if owner is None:
                raise Refused("NoSuchEntity", f"The entity {arn} cannot be found.", 404)
            documents = list(self._documents(iam, owner))
        documents += [_document(one) for one in asked.get("PolicyInputList") or []]
        policies = Policies(documents)
        context = {"aws:PrincipalArn": arn}
        for entry in asked.get("ContextEntries") or []:
            context[entry["ContextKeyName"]] = entry["ContextKeyValues"][0]
        results = []
        for action, resource in itertools.product(
            asked["ActionNames"], asked.get("ResourceArns") or ["*"]
        ):
            decision = policies.decide(action, resource, context)
            missing = policies.missing(action, resource, context)
            of_resource = {
                "EvalResourceName": resource,
                "EvalResourceDecision": decision,
                "MissingContextValues": missing,
            }
            results.append(
                {
                    "EvalActionName": action,
                    "EvalResourceName": resource,
                    "EvalDecision": decision,
                    "MatchedStatements": [],
                    # Where a resource is named, it is there that the real one says what is missing.
                    "MissingContextValues": missing if resource == "*" else [],
                    "ResourceSpecificResults": [] if resource == "*" else [of_resource],
                }
            )
        return {"EvaluationResults": results, "IsTruncated": False}


def _role(iam: Any, arn: str) -> Any:
    return next((one for one in iam.roles.values() if one.arn == arn), None)


def _document(written: Any) -> Any:
    return json.loads(written) if isinstance(written, str) else written


def _unknown(call: Call) -> Refused:
    if call.service == "s3":
        if not call.access_key:
            return Refused("AccessDenied", "Access Denied", 403)
        said = "The AWS Access Key Id you provided does not exist in our records."
        return Refused("InvalidAccessKeyId", said, 403)
    if call.service == "ec2":
        said = "AWS was not able to validate the provided access credentials"
        return Refused("AuthFailure", said, 401)
    said = "The security token included in the request is invalid."
    if call.service in JSON_SERVICES:
        return Refused("UnrecognizedClientException", said)
    return Refused("InvalidClientTokenId", said, 403)


def _expired(call: Call) -> Refused:
    if call.service == "s3":
        return Refused("ExpiredToken", "The provided token has expired.")
    if call.service == "ec2":
        return Refused("RequestExpired", "Request has expired.")
    said = "The security token included in the request is expired"
    if call.service in JSON_SERVICES:
        return Refused("ExpiredTokenException", said)
    return Refused("ExpiredToken", said, 403)


def _denied(call: Call, who: Identity, action: str, resource: str, decision: str) -> Refused:
    why = (
        "with an explicit deny in an identity-based policy"
        if decision == "explicitDeny"
        else f"because no identity-based policy allows the {action} action"
    )
    on = "" if resource == "*" else f" on resource: {resource}"
    if call.service == "s3" and resource != "*":
        on = f' on resource: "{resource}"'
    said = f"User: {who.arn} is not authorized to perform: {action}{on} {why}"
    if call.service == "ec2":
        said = f"You are not authorized to perform this operation. {said}"
        return Refused("UnauthorizedOperation", said, 403)
    if call.service in JSON_SERVICES:
        return Refused("AccessDeniedException", said)
    if call.service == "sns":
        return Refused("AuthorizationError", said, 403)
    return Refused("AccessDenied", said, 403)
