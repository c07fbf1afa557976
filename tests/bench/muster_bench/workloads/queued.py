"""Memory of what is queued: inputs that wait while every worker is held."""

from __future__ import annotations

from typing import TYPE_CHECKING

from muster_bench import functions

from .base import Workload

if TYPE_CHECKING:
    from muster_bench.meter import Meter
    from muster_bench.systems.base import System

MIB = 1 << 20
SERVICES = ("gateway", "agent")


def run(system: System, size: int, meter: Meter) -> dict[str, float]:
    """For Muster what its services hold; for the others everything, because their clients hold the queue."""
    before = meter.memory()
    with meter.measure():
        system.queue(functions.hold, size)
    peak = meter.peak
    held = [role for role in SERVICES if role in peak] or ["total"]
    most, idle = (sum(seen[role] for role in held) for seen in (peak, before))
    return {
        "services_MiB": most / MIB,
        "idle_MiB": idle / MIB,
        "bytes_per_input": max(0.0, (most - idle) / size),
        "inputs_per_s": size / meter.seconds,
    }


WORKLOAD = Workload(
    name="queued",
    title="{size} queued inputs: memory of the services (of all processes, for peers without)",
    headline="services_MiB",
    better="lower",
    goal="under 200 MB, the same at 100,000 and at 10,000,000",
    sizes=(100_000, 1_000_000, 10_000_000),
    quick_size=1_000_000,
    entries=(
        "muster/warm",
        "pool/single",
        "executor/single",
        "dask/single",
        "ray/single",
        "parsl/single",
    ),
    run=run,
    repeats=1,
    limit_single=20_000,
)
