"""Arithmetic on samples: medians, ratios, projections, efficiencies. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .samples import Repeat, Sample

FIXED_PART = {"seconds": "", "services_MiB": "idle_MiB"}
"""Values that grow with the number of inputs, and the value that says which part of them does not."""


@dataclass(frozen=True)
class Spread:
    """The middle of several measurements, and how far they lie apart."""

    median: float
    low: float
    high: float
    count: int


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the middle two."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of 100 of the values do not exceed (nearest rank)."""
    if not values:
        raise ValueError("no values")
    rank = max(1, math.ceil(percent / 100 * len(values)))
    return sorted(values)[rank - 1]


def spread(values: Sequence[float]) -> Spread:
    return Spread(median(values), min(values), max(values), len(values))


def ratio(ours: float, theirs: float) -> float | None:
    """How many times theirs ours is; None where theirs is nothing."""
    return ours / theirs if theirs > 0 else None


def projected(value: float, count: int, size: int) -> float:
    """What a time that `count` inputs took would be for `size`."""
    return value * size / count


def ideal_seconds(durations: Sequence[float], workers: int) -> float:
    """No schedule on so many workers can be shorter: the work shared out evenly, or the longest piece."""
    return max(sum(durations) / workers, max(durations))


def efficiency_percent(cpu_seconds: float, wall_seconds: float, workers: int) -> float:
    """How much of what the workers could have computed in that time was the user's own work."""
    return 100 * cpu_seconds / (wall_seconds * workers)


def values_of(samples: Iterable[Sample], name: str) -> list[float]:
    """A value's measurements in all rounds; what grows with the inputs is projected from a part to the whole."""
    return [
        _whole(sample, repeat, name)
        for sample in samples
        for repeat in sample.repeats
        if name in repeat.values
    ]


def _whole(sample: Sample, repeat: Repeat, name: str) -> float:
    value, job = repeat.values[name], sample.job
    if name not in FIXED_PART or job.count == job.size:
        return value
    fixed = repeat.values.get(FIXED_PART[name], 0.0)
    return fixed + projected(value - fixed, job.count, job.size)


def cpu_of(samples: Iterable[Sample], roles: Sequence[str] | None = None) -> list[float]:
    """CPU seconds of the roles (all but the engine without any), one for each repeat, projected as times are."""
    found = []
    for sample in samples:
        for repeat in sample.repeats:
            used = sum(
                seconds
                for role, seconds in repeat.cpu_s.items()
                if (role in roles if roles is not None else role != "engine")
            )
            found.append(projected(used, sample.job.count, sample.job.size))
    return found


def peaks_of(samples: Iterable[Sample], role: str = "total") -> list[float]:
    """Peak bytes, one for each repeat."""
    return [
        float(repeat.peak_bytes[role])
        for sample in samples
        for repeat in sample.repeats
        if role in repeat.peak_bytes
    ]
