"""Small records: a dict of 1 KiB in, another one back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from muster_bench import functions

from .base import Workload, check, every

if TYPE_CHECKING:
    from muster_bench.meter import Meter
    from muster_bench.systems.base import System


def record(index: int) -> dict[str, Any]:
    """About 1 KiB when pickled, with values of its own."""
    return {
        "seen": index,
        "name": f"record {index}",
        "tags": ["a", "b", str(index)],
        "text": f"{index:08d}" * 118,
    }


def run(system: System, size: int, meter: Meter) -> dict[str, float]:
    inputs = [record(index) for index in range(size)]
    with meter.measure():
        outputs = system.map(functions.touch, inputs)
    check(
        [output["seen"] for output in outputs] == list(range(1, size + 1)),
        "the records did not come back",
    )
    return {"seconds": meter.seconds}


WORKLOAD = Workload(
    name="dicts",
    title="{size} dicts of 1 KiB in, as many back",
    headline="seconds",
    better="lower",
    goal="100,000 in 2 s; then 1.2 x ProcessPoolExecutor with its best chunk size",
    sizes=(100_000,),
    quick_size=50_000,
    entries=("muster/warm", *every("chunked"), *every("single", "pool", "executor", "ray")),
    run=run,
    limit_single=10_000,
)
