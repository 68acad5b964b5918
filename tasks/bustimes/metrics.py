"""What luigid is told of a week, for its metrics: how far the conversion is, and what came out.

All counts are from the beginning of one conversion on, so that a message that is lost, or comes
twice, falsifies nothing. Plain values, which travel as JSON. What becomes of them luigid decides
(`ops.metrics`).
"""

import uuid
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.bustimes.manifest import Manifest
from tasks.storage.traffic import Traffic

if TYPE_CHECKING:
    from tasks.bustimes.hour import ConvertedHour


@dataclass(frozen=True)
class FinishedWeek:
    """A week that has just been put at the destination, as its manifest describes it."""

    snapshots: int
    refused_snapshots: int
    records: int
    raw_bytes: int
    output_bytes: int
    vehicles: int | None
    conversion_seconds: float | None


@dataclass
class WeekFigures:
    """One conversion of a week until now; `conversion` tells it from every other.

    `conversion_seconds` is wall time, without that of listing and upload. `requests` is what each
    operation on S3 came to, with those of listing and upload.
    """

    destination: str
    week: str
    conversion: str = field(default_factory=lambda: uuid.uuid4().hex)
    snapshots: int = 0
    refused_snapshots: int = 0
    records: int = 0
    raw_bytes: int = 0
    conversion_seconds: float = 0.0
    requests: dict[str, Traffic] = field(default_factory=dict)
    finished: FinishedWeek | None = None

    def add(self, hour: "ConvertedHour", seconds: float) -> None:
        """An hour more is converted, so many seconds after the conversion began."""
        self.snapshots += hour.snapshots
        self.refused_snapshots += len(hour.refused)
        self.records += hour.lines
        self.raw_bytes += hour.raw_bytes
        self.conversion_seconds = seconds

    def finish(self, manifest: Manifest) -> None:
        """The week is at the destination, converted by this conversion or by an earlier one."""
        conversion = manifest.conversion
        self.finished = FinishedWeek(
            snapshots=manifest.snapshots,
            refused_snapshots=len(manifest.refused),
            records=manifest.records,
            raw_bytes=manifest.raw_bytes,
            output_bytes=manifest.output.bytes,
            vehicles=manifest.vehicles,
            conversion_seconds=None if conversion is None else conversion.seconds,
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
