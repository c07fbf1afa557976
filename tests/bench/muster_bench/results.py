"""A whole run: what the machine was, and every sample."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

from .samples import Sample


@dataclass(frozen=True)
class Results:
    """Read and written as JSON."""

    facts: dict[str, str]
    samples: list[Sample]

    def of(self, workload: str, size: int) -> dict[str, list[Sample]]:
        """The samples of one row of the tables, by entry; each list holds the rounds."""
        found: dict[str, list[Sample]] = {}
        for sample in self.samples:
            if sample.job.workload == workload and sample.job.size == size:
                found.setdefault(sample.job.entry, []).append(sample)
        return found

    def sizes(self, workload: str) -> list[int]:
        return sorted(
            {sample.job.size for sample in self.samples if sample.job.workload == workload}
        )

    def noise(self) -> float | None:
        """How much longer the calibration loop took at its worst than at its best: 0.1 is a tenth."""
        times = [sample.calibration_s for sample in self.samples if sample.calibration_s]
        return max(times) / min(times) - 1 if times else None

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @staticmethod
    def from_json(text: str) -> Results:
        found = json.loads(text)
        return Results(found["facts"], [Sample.from_dict(sample) for sample in found["samples"]])
