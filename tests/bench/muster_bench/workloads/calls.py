"""Calls of one input: how long a user waits for one output."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from muster_bench import functions
from muster_bench.figures import percentile

from .base import Workload, check, every

if TYPE_CHECKING:
    from muster_bench.meter import Meter
    from muster_bench.systems.base import System


def timed_call(system: System, value: int) -> float:
    """Milliseconds of one call."""
    started = time.perf_counter()
    output = system.call(functions.noop, value)
    elapsed = time.perf_counter() - started
    check(output == value, f"{value} came back as {output!r}")
    return elapsed * 1000


def paced(system: System, size: int, meter: Meter) -> dict[str, float]:
    """Each call begins when the system is at rest, so that warm workers are there."""
    times = []
    with meter.measure():
        for value in range(size):
            system.settle()
            times.append(timed_call(system, value))
    return {
        "p50_ms": percentile(times, 50),
        "p90_ms": percentile(times, 90),
        "p99_ms": percentile(times, 99),
    }


def back_to_back(system: System, size: int, meter: Meter) -> dict[str, float]:
    """Each call begins when the one before it has returned. The first ten are the burst a full pool can serve."""
    system.settle()
    with meter.measure():
        times = [timed_call(system, value) for value in range(size)]
    return {
        "calls_per_s": size / meter.seconds,
        "p50_ms": percentile(times, 50),
        "p99_ms": percentile(times, 99),
        "first_ms": times[0],
    }


PACED = Workload(
    name="warm-call",
    title="a warm call of one input, {size} in turn, each begun at rest",
    headline="p50_ms",
    better="lower",
    goal="3 ms (p99: 10 ms); then Ray's",
    sizes=(100,),
    quick_size=10,
    entries=("muster/warm", *every("single"), "ray/actor", "lithops/single"),
    run=paced,
    repeats=1,
)

SUSTAINED = Workload(
    name="sustained",
    title="{size} calls of one input, back to back",
    headline="calls_per_s",
    better="higher",
    goal="the engine's own start rate (about 10 a second)",
    sizes=(100,),
    quick_size=15,
    entries=("muster/warm", *every("single"), "ray/actor", "docker/bridge", "docker/none"),
    not_quick=("ray/actor", "docker/bridge"),
    run=back_to_back,
    repeats=1,
)

COLD = Workload(
    name="cold-call",
    title="a cold call of one input (image there, nothing warm), {size} in turn",
    headline="p50_ms",
    better="lower",
    goal="1.2 x `docker run` of the same image; then 1.0 x",
    sizes=(10,),
    quick_size=5,
    entries=("muster/cold", "docker/bridge", "docker/none"),
    run=paced,
    repeats=1,
)
