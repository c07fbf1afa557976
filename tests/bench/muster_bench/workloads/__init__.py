"""One module for each kind of work; together the rows of the tables."""

from __future__ import annotations

from . import calls, dicts, fleet, large, noop, prints, put, queued, uneven
from .base import Workload

WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        noop.WORKLOAD,
        dicts.WORKLOAD,
        calls.PACED,
        calls.SUSTAINED,
        calls.COLD,
        large.IN,
        large.OUT,
        put.WORKLOAD,
        prints.WORKLOAD,
        uneven.NAPS,
        uneven.CPU,
        queued.WORKLOAD,
        fleet.FLOW,
        fleet.SLOTS,
        fleet.SHARES,
    )
}
"""By name, in the order of the tables."""
