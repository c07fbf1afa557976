"""What a job is and what it measured; written and read as JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Job:
    """One system, used in one way, on one workload of one size.

    `count` is how many inputs really run: less than `size` where the whole would take too long.
    """

    system: str
    variant: str
    workload: str
    size: int
    count: int
    repeats: int

    @property
    def entry(self) -> str:
        """How the command line and the tables name system and variant."""
        return f"{self.system}/{self.variant}"


@dataclass(frozen=True)
class Repeat:
    """One measured run: the workload's own values (units in their names), CPU seconds and peak bytes by role."""

    values: dict[str, float]
    cpu_s: dict[str, float]
    peak_bytes: dict[str, int]


@dataclass(frozen=True)
class Sample:
    """What came of one job: repeats, or the reason why there are none."""

    job: Job
    startup_s: float = 0.0
    version: str = ""
    repeats: list[Repeat] = field(default_factory=list)
    error: str = ""
    calibration_s: float = 0.0
    """Seconds the calibration loop took just before; filled in by the driver."""

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_dict(found: dict[str, object]) -> Sample:
        """The inverse of `dataclasses.asdict`."""
        fields = dict(found)
        fields["job"] = Job(**fields["job"])  # type: ignore[arg-type]
        fields["repeats"] = [Repeat(**repeat) for repeat in fields["repeats"]]  # type: ignore[attr-defined]
        return Sample(**fields)  # type: ignore[arg-type]
