"""What CloudFormation makes of a template and its parameters before it does anything.

Refuses what CloudFormation refuses at once: a template that is too long or none, parameters that do
not exist, are missing or break their constraints, IAM without the capability for it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ops.local_aws.resources import NAMED_IAM
from ops.local_aws.wire import Refused

_LONGEST = 51_200


def read(body: str) -> dict[str, Any]:
    """The template, its short functions written out."""
    from moto.cloudformation.models import Stack
    from yaml import YAMLError  # type: ignore[import-untyped]

    if len(body.encode()) > _LONGEST:
        raise _invalid(
            "1 validation error detected: Value at 'templateBody' failed to satisfy constraint: "
            f"Member must have length less than or equal to {_LONGEST}"
        )
    try:
        template = Stack.parse_template(body)
    except (YAMLError, ValueError) as error:
        raise _invalid(f"Template format error: {error}") from None
    if not isinstance(template, dict) or not template.get("Resources"):
        raise _invalid(
            "Template format error: At least one Resources member must be defined."
        ) from None
    return template


def check_capabilities(template: Mapping[str, Any], given: list[str]) -> None:
    """Refuse a template with IAM in it that the caller has not agreed to."""
    kinds = [(one["Type"], one.get("Properties", {})) for one in template["Resources"].values()]
    iam = [(kind, properties) for kind, properties in kinds if kind in NAMED_IAM]
    named = any(NAMED_IAM[kind] in properties for kind, properties in iam if NAMED_IAM[kind])
    needed = "CAPABILITY_NAMED_IAM" if named else "CAPABILITY_IAM"
    if iam and needed not in given and "CAPABILITY_NAMED_IAM" not in given:
        raise Refused("InsufficientCapabilitiesException", f"Requires capabilities : [{needed}]")


def parameters(
    template: Mapping[str, Any], given: list[dict[str, Any]], before: Mapping[str, str]
) -> dict[str, str]:
    """The value of every parameter, as text; `before` holds those of the stack so far."""
    slots: Mapping[str, Mapping[str, Any]] = template.get("Parameters") or {}
    values = {name: _text(slot["Default"]) for name, slot in slots.items() if "Default" in slot}
    unknown = [one["ParameterKey"] for one in given if one["ParameterKey"] not in slots]
    if unknown:
        listed = ", ".join(unknown)
        raise _invalid(f"Parameters: [{listed}] do not exist in the template")
    for one in given:
        name = one["ParameterKey"]
        if one.get("UsePreviousValue"):
            if name in before:
                values[name] = before[name]
        else:
            values[name] = one.get("ParameterValue", "")
    missing = [name for name in slots if name not in values]
    if missing:
        raise _invalid(f"Parameters: [{', '.join(missing)}] must have values")
    for name, slot in slots.items():
        _check(name, slot, values[name])
    return values


def _check(name: str, slot: Mapping[str, Any], value: str) -> None:
    described = slot.get("ConstraintDescription")
    if "AllowedValues" in slot and value not in [_text(one) for one in slot["AllowedValues"]]:
        listed = ", ".join(_text(one) for one in slot["AllowedValues"])
        raise _invalid(
            f"Parameter '{name}' failed to satisfy constraint: {described}"
            if described
            else f"Parameter '{name}' must be one of AllowedValues [{listed}]"
        )
    pattern = slot.get("AllowedPattern")
    if pattern and not re.fullmatch(pattern, value):
        why = described or f"must match pattern {pattern}"
        raise _invalid(f"Parameter {name} failed to satisfy constraint: {why}")
    if slot.get("Type") == "Number":
        try:
            number = float(value)
        except ValueError:
            raise _invalid(f"Parameter '{name}' must be a number.") from None
        if number < float(slot.get("MinValue", number)):
            raise _invalid(f"Parameter '{name}' must be a number not less than {slot['MinValue']}")
        if number > float(slot.get("MaxValue", number)):
            raise _invalid(
                f"Parameter '{name}' must be a number not greater than {slot['MaxValue']}"
            )


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def order(template: Mapping[str, Any]) -> list[str]:
    """The names of the resources, each after those that it refers to."""
    resources = template["Resources"]
    found: list[str] = []

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise _invalid(f"Circular dependency between resources: [{', '.join(above)}]")
        if name in found:
            return
        for other in references(resources[name]):
            if other in resources and other != name:
                visit(other, (*above, name))
        found.append(name)

    for name in resources:
        visit(name, ())
    return found


def references(part: Any) -> Iterator[str]:
    """The names that a part of a template refers to."""
    if isinstance(part, list):
        for one in part:
            yield from references(one)
    if not isinstance(part, dict):
        return
    for key, value in part.items():
        if key == "Ref":
            yield value
        elif key == "Fn::GetAtt":
            yield value[0] if isinstance(value, list) else value.split(".")[0]
        elif key == "DependsOn":
            yield from [value] if isinstance(value, str) else value
        elif key == "Fn::Sub":
            text = value if isinstance(value, str) else value[0]
            yield from re.findall(r"\$\{([A-Za-z0-9]+)[.}]", text)
        yield from references(value)


def _invalid(message: str) -> Refused:
    return Refused("ValidationError", message)
