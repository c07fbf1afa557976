"""Prints: lines from the workers to the client's stdout, a pipe that is read and verified."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from muster_bench import functions
from muster_bench.stdout_reader import StdoutReader

from .base import Workload, check, every

if TYPE_CHECKING:
    from muster_bench.meter import Meter
    from muster_bench.systems.base import System

LINES = 10_000
GRACE_S = 2.0
"""How long lines may come after the call has returned, before they count as missing."""

reader: StdoutReader | None = None
"""Set by the worker before the system starts, because workers inherit the descriptor."""


def run(system: System, size: int, meter: Meter) -> dict[str, float]:
    """Lines that are there when the call returns count; the others are late, or missing."""
    assert reader is not None
    with meter.measure():
        outputs = system.map(functions.print_lines, [(index, LINES) for index in range(size)])
        sys.stdout.flush()
        arrived = reader.arrived()
    check(outputs == list(range(size)), "the outputs did not come back in order")
    expected = size * LINES
    deadline = time.monotonic() + GRACE_S
    while reader.arrived() < expected and time.monotonic() < deadline:
        time.sleep(0.05)
    verdict = reader.verdict()
    return {
        "lines_per_s": arrived / meter.seconds,
        "late_lines": float(expected - arrived),
        "missing_lines": float(expected - verdict.right),
        "wrong_lines": float(verdict.wrong + verdict.twice),
    }


WORKLOAD = Workload(
    name="prints",
    title="{size} inputs that print 10,000 lines of 80 characters each, to the client's stdout",
    headline="lines_per_s",
    better="higher",
    goal="1,000,000 lines/s, none late, none wrong",
    sizes=(16,),
    quick_size=16,
    entries=("muster/warm", *every("single")),
    run=run,
    # What stays in a worker's buffer would come in the next repeat.
    repeats=1,
    reads_stdout=True,
)
