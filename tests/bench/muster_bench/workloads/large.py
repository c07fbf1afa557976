"""Large values: what a byte costs on its way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from muster_bench import functions

from .base import Workload, check, every

if TYPE_CHECKING:
    from muster_bench.meter import Meter
    from muster_bench.systems.base import System

MIB = 1 << 20
ITEM = 16 * MIB


def run_in(system: System, size: int, meter: Meter) -> dict[str, float]:
    # Each of its own, so that nobody sends the same memory twice.
    inputs = [bytes([index % 256]) * ITEM for index in range(size)]
    with meter.measure():
        outputs = system.map(functions.length, inputs)
    check(outputs == [ITEM] * size, "some bytes were lost")
    return {"MiB_per_s": size * ITEM / MIB / meter.seconds}


def run_out(system: System, size: int, meter: Meter) -> dict[str, float]:
    inputs = [ITEM + index for index in range(size)]
    with meter.measure():
        outputs = system.map(functions.make_bytes, inputs)
    check([len(output) for output in outputs] == inputs, "some bytes were lost")
    return {"MiB_per_s": size * ITEM / MIB / meter.seconds}


IN = Workload(
    name="large-in",
    title="{size} inputs of 16 MiB",
    headline="MiB_per_s",
    better="higher",
    goal="500 MiB/s; then Ray's",
    sizes=(64,),
    quick_size=32,
    entries=("muster/warm", *every("single")),
    run=run_in,
)

OUT = Workload(
    name="large-out",
    title="{size} outputs of 16 MiB",
    headline="MiB_per_s",
    better="higher",
    goal="500 MiB/s; then Ray's",
    sizes=(64,),
    quick_size=32,
    entries=("muster/warm", *every("single")),
    run=run_out,
)
