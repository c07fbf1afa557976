"""Work that takes time: uneven inputs, and inputs that use the cores."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from muster_bench import functions
from muster_bench.figures import efficiency_percent, ideal_seconds
from muster_bench.systems.base import WORKERS

from .base import Workload, check, every

if TYPE_CHECKING:
    from muster_bench.meter import Meter
    from muster_bench.systems.base import System

SEED = 20
MEAN_S = 0.05
CPU_S = 0.1


def durations(size: int) -> list[float]:
    """Exponential, mean 50 ms, the same in every run."""
    source = random.Random(SEED)
    return [source.expovariate(1 / MEAN_S) for _ in range(size)]


def run_naps(system: System, size: int, meter: Meter) -> dict[str, float]:
    inputs = durations(size)
    with meter.measure():
        outputs = system.map(functions.nap, inputs)
    check(outputs == inputs, "the outputs did not come back in order")
    ideal = ideal_seconds(inputs, WORKERS)
    return {
        "over_ideal_percent": 100 * (meter.seconds / ideal - 1),
        "wall_s": meter.seconds,
        "ideal_s": ideal,
    }


def run_cpu(system: System, size: int, meter: Meter) -> dict[str, float]:
    with meter.measure():
        outputs = system.map(functions.spin, [CPU_S] * size)
    check(outputs == [CPU_S] * size, "some outputs were lost")
    return {
        "efficiency_percent": efficiency_percent(size * CPU_S, meter.seconds, WORKERS),
        "wall_s": meter.seconds,
    }


NAPS = Workload(
    name="uneven",
    title="{size} inputs of exponential duration, mean 50 ms",
    headline="over_ideal_percent",
    better="lower",
    goal="4 % over the ideal; then Pool's",
    sizes=(100,),
    quick_size=100,
    entries=("muster/warm", *every("single")),
    run=run_naps,
)

CPU = Workload(
    name="cpu",
    title="{size} inputs of 0.1 s CPU each",
    headline="efficiency_percent",
    better="higher",
    goal="96 % of both cores; then 98 %, the machine's own ceiling",
    sizes=(200,),
    quick_size=40,
    entries=("muster/warm", *every("single"), "lithops/single"),
    run=run_cpu,
)
