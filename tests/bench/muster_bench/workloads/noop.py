"""No-op integers: what one input costs when the work itself costs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from muster_bench import functions

from .base import Workload, check, every

if TYPE_CHECKING:
    from muster_bench.meter import Meter
    from muster_bench.systems.base import System


def run(system: System, size: int, meter: Meter) -> dict[str, float]:
    inputs = list(range(size))
    with meter.measure():
        outputs = system.map(functions.noop, inputs)
    check(outputs == inputs, "the integers did not come back in order")
    return {"seconds": meter.seconds}


WORKLOAD = Workload(
    name="noop",
    title="{size} no-op integers, list in, list out",
    headline="seconds",
    better="lower",
    goal="1,000,000 in 2 s; then 1.0 x ProcessPoolExecutor with its best chunk size",
    sizes=(100_000, 1_000_000),
    quick_size=1_000_000,
    entries=("muster/warm", *every("chunked"), *every("single")),
    run=run,
    limit_single=10_000,
)
