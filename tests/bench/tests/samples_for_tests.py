"""Made-up samples."""

from __future__ import annotations

from muster_bench.samples import Job, Repeat, Sample


def sample(
    entry: str, seconds: list[float], *, size: int = 1000, count: int = 0, **more: object
) -> Sample:
    """A run of the workload `noop` whose repeats took so long."""
    system, _, variant = entry.partition("/")
    job = Job(system, variant, "noop", size, count or size, len(seconds))
    cpu = {"client": 1.0, "workers": 2.0, "engine": 4.0}
    repeats = [Repeat({"seconds": value}, cpu, {"client": 10, "total": 30}) for value in seconds]
    return Sample(job, startup_s=0.5, version="1.0", repeats=repeats, **more)  # type: ignore[arg-type]
