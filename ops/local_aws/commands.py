"""What SSM knows of a command, and how it shows it."""

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ops.local_aws.agent import Run

FINAL = ("Success", "Failed", "TimedOut", "Cancelled")
OUTPUT_CHARACTERS = 24_000
_PLUGIN_CHARACTERS = 2_500
_PLUGIN = "aws:runShellScript"


@dataclass
class Invocation:
    """One command on one instance."""

    instance: str
    status: str = "Pending"
    details: str = "Pending"
    run: Run | None = None
    code: int = -1
    cancelled: bool = False

    def end(self, status: str, details: str = "") -> None:
        if self.status not in FINAL:
            self.status, self.details = status, details or status

    def text(self, stream: str) -> str:
        """What it printed; nothing is known before its end, or if its instance has gone first."""
        known = self.status in FINAL and self.details != "Terminated"
        return self.run.text(stream) if self.run and known else ""


@dataclass
class Command:
    """What SendCommand was asked for, and how far each instance is."""

    id: str
    document: str
    asked: dict[str, Any]
    sent: datetime
    invocations: dict[str, Invocation]
    settle_seconds: float
    born: float = field(default_factory=time.monotonic)

    @property
    def is_settled(self) -> bool:
        """Whether its invocations exist for those who ask."""
        return time.monotonic() >= self.born + self.settle_seconds

    @property
    def execution_seconds(self) -> float:
        [given] = self.asked.get("Parameters", {}).get("executionTimeout") or ["3600"]
        return float(given)

    @property
    def delivery_seconds(self) -> float:
        return float(self.asked.get("TimeoutSeconds") or 3600)

    @property
    def log_group(self) -> str:
        """Where its output goes in CloudWatch Logs; nothing if it does not go there."""
        config = self.asked.get("CloudWatchOutputConfig") or {}
        if not config.get("CloudWatchOutputEnabled"):
            return ""
        return config.get("CloudWatchLogGroupName") or f"/aws/ssm/{self.document}"

    def _status(self) -> tuple[str, str]:
        """Status and details of the whole, from those of its invocations."""
        found = [one.status for one in self.invocations.values()]
        if not found:
            return ("Success", "NoInstancesInTag") if self.is_settled else ("Pending", "Pending")
        if any(one not in FINAL for one in found):
            started = any(one != "Pending" for one in found)
            return ("InProgress", "InProgress") if started else ("Pending", "Pending")
        for bad in ("Failed", "TimedOut", "Cancelled"):
            if bad in found:
                details = next(o.details for o in self.invocations.values() if o.status == bad)
                return bad, details
        return "Success", "Success"

    def shown(self) -> dict[str, Any]:
        """As SendCommand and ListCommands show it."""
        status, details = self._status()
        found = [one.status for one in self.invocations.values()]
        late = [one.details for one in self.invocations.values()]
        seconds = self.delivery_seconds + self.execution_seconds
        return {
            "CommandId": self.id,
            "DocumentName": self.document,
            "Comment": self.asked.get("Comment", ""),
            "Parameters": self.asked.get("Parameters", {}),
            "InstanceIds": self.asked.get("InstanceIds") or [],
            "Targets": self.asked.get("Targets") or [],
            "RequestedDateTime": self.sent,
            "ExpiresAfter": self.sent + timedelta(seconds=seconds),
            "TimeoutSeconds": int(self.delivery_seconds),
            "Status": status,
            "StatusDetails": details,
            "TargetCount": len(found),
            "CompletedCount": sum(one in FINAL for one in found),
            "ErrorCount": sum(one in ("Failed", "TimedOut") for one in found),
            "DeliveryTimedOutCount": late.count("DeliveryTimedOut"),
            "CloudWatchOutputConfig": self.asked.get("CloudWatchOutputConfig") or {},
        }

    def _shown_of(self, invocation: Invocation) -> dict[str, Any]:
        return {
            "CommandId": self.id,
            "InstanceId": invocation.instance,
            "DocumentName": self.document,
            "Comment": self.asked.get("Comment", ""),
            "RequestedDateTime": self.sent,
            "Status": invocation.status,
            "StatusDetails": invocation.details,
            "CloudWatchOutputConfig": self.asked.get("CloudWatchOutputConfig") or {},
        }

    def listed(self, invocation: Invocation, with_details: bool) -> dict[str, Any]:
        """As ListCommandInvocations shows it."""
        shown = self._shown_of(invocation)
        if with_details:
            text = invocation.text("stdout") + invocation.text("stderr")
            plugin = {
                "Name": _PLUGIN,
                "Status": invocation.status,
                "StatusDetails": invocation.details,
                "ResponseCode": invocation.code,
                "Output": cut(text, _PLUGIN_CHARACTERS, "stdout"),
            }
            shown["CommandPlugins"] = [plugin]
        return shown

    def got(self, invocation: Invocation) -> dict[str, Any]:
        """As GetCommandInvocation shows it."""
        run = invocation.run
        return self._shown_of(invocation) | {
            "StandardOutputContent": cut(invocation.text("stdout"), OUTPUT_CHARACTERS, "stdout"),
            "StandardErrorContent": cut(invocation.text("stderr"), OUTPUT_CHARACTERS, "stderr"),
            "PluginName": _PLUGIN,
            "ResponseCode": invocation.code,
            "ExecutionStartDateTime": run.started.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if run else "",
        }


def cut(text: str, characters: int, stream: str) -> str:
    """`text` as SSM shows it: no longer than that, and where it was cut it says so."""
    if len(text) <= characters:
        return text
    note = "--error truncated--" if stream == "stderr" else "--output truncated--"
    return text[: characters - len(note)] + note
