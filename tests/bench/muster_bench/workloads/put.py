"""Shared data: a large object that every input reads, sent and kept once."""

from __future__ import annotations

import os
import threading
import time
import zlib
from typing import TYPE_CHECKING

from muster_bench import functions
from muster_bench.systems.base import WORKERS

from .base import Workload, check

if TYPE_CHECKING:
    from muster_bench.meter import Meter
    from muster_bench.systems.base import System

MIB = 1 << 20
INPUTS = 64
WORKER_ROLES = ("workers", "containers")
# When all workers have the data mapped and read, and for how long they then hold it: at least, and for each GiB more.
READ_WITHIN_S, READ_GIB_WITHIN_S = 2.0, 4.0
HOLD_S, HOLD_GIB_S = 1.0, 3.0


def run(system: System, size: int, meter: Meter) -> dict[str, float]:
    """`size` MiB, other ones each time. What hosts fetched is told by Muster alone; peers are this machine."""
    before = meter.memory()
    data = bytearray(os.urandom(MIB) * size)
    expected = [zlib.crc32(data[at :: functions.PAGE]) for at in range(INPUTS)]
    seconds, fetched = [], [system.fetched()]
    with meter.measure():
        started = time.perf_counter()
        shared = system.share(data)
        seconds.append(time.perf_counter() - started)
        for _ in range(2):
            started = time.perf_counter()
            outputs = system.each(functions.read_shared, [(shared, at) for at in range(INPUTS)])
            seconds.append(time.perf_counter() - started)
            check(outputs == expected, "an input has read something else")
            fetched.append(system.fetched())
    held = held_by_all(system, shared, size / 1024, meter)
    system.unshare(shared)
    used = {role: max(0.0, held[role] - before.get(role, 0)) / MIB / size for role in held}
    found = {
        "copies": sum(used.get(role, 0.0) for role in WORKER_ROLES),
        "copies_with_client": used["total"],
        **dict(zip(("put_s", "first_call_s", "second_call_s"), seconds)),
    }
    for which, (earlier, later) in zip(("first", "second"), zip(fetched, fetched[1:])):
        if earlier is not None and later is not None:
            found[f"transfers_{which}"] = (later - earlier) / MIB / size
    return found


def held_by_all(system: System, shared: object, gib: float, meter: Meter) -> dict[str, int]:
    """Memory by role while every worker has all of the data mapped."""
    read_by = time.time() + READ_WITHIN_S + READ_GIB_WITHIN_S * gib
    until = read_by + HOLD_S + HOLD_GIB_S * gib
    read_at: list[float] = []

    def hold() -> None:
        read_at.extend(system.each(functions.hold_shared, [(shared, until)] * WORKERS))

    holding = threading.Thread(target=hold)
    holding.start()
    time.sleep(max(0.0, read_by - time.time()))
    seen = meter.memory()
    seen_at = time.time()
    holding.join()
    check(len(read_at) == WORKERS and max(read_at) < read_by, "a worker had not read the data yet")
    check(seen_at < until, "looking at the memory took longer than the workers held it")
    return seen


WORKLOAD = Workload(
    name="put",
    title=f"{{size}} MiB of shared data, read by {INPUTS} inputs twice: copies in the memory of all workers",
    headline="copies",
    better="lower",
    goal="one, and one transfer to the host",
    sizes=(1024,),
    quick_size=128,
    entries=("muster/warm", "executor/fork", "joblib/memmap", "ray/put"),
    run=run,
)
