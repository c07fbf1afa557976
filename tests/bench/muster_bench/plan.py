"""Which jobs run, in which order. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from .samples import Job
from .workloads import WORKLOADS
from .workloads.base import Workload

QUICK_SYSTEMS = ("muster", "executor", "ray", "docker")
"""What `make bench-quick` measures; `docker run` is the cold call's only peer."""


@dataclass(frozen=True)
class Choice:
    """What the user asked for; empty means everything."""

    quick: bool = False
    systems: Collection[str] = ()
    workloads: Collection[str] = ()


def jobs(choice: Choice) -> list[Job]:
    """One round: workload by workload, so that what is compared is measured close together."""
    return [
        _job(workload, entry, size, choice)
        for workload in WORKLOADS.values()
        if not choice.workloads or workload.name in choice.workloads
        for size in _sizes(workload, choice)
        for entry in workload.entries
        if _wanted(entry, workload, size, choice)
    ]


def rotated(planned: list[Job], round_number: int) -> list[Job]:
    """The same jobs with the systems of each workload in another order, so that nobody always follows the same one."""
    groups: dict[tuple[str, int], list[Job]] = {}
    for job in planned:
        groups.setdefault((job.workload, job.size), []).append(job)
    found = []
    for group in groups.values():
        at = round_number % len(group)
        found.extend(group[at:] + group[:at])
    return found


def _sizes(workload: Workload, choice: Choice) -> tuple[int, ...]:
    if choice.quick:
        return (workload.quick_size,)
    return workload.sizes


def _wanted(entry: str, workload: Workload, size: int, choice: Choice) -> bool:
    system, _, variant = entry.partition("/")
    if choice.systems and system not in choice.systems:
        return False
    if choice.quick and not choice.systems and system not in QUICK_SYSTEMS:
        return False
    if choice.quick and entry in workload.not_quick:
        return False
    if not _limited(workload, system, variant):
        return True
    # Projections from the same count differ in nothing: one size is enough. A quick run has only the better variant.
    better = f"{system}/chunked" in workload.entries
    return size == _sizes(workload, choice)[0] and not (choice.quick and better)


def _limited(workload: Workload, system: str, variant: str) -> bool:
    return workload.limit_single is not None and variant == "single" and system != "muster"


def _job(workload: Workload, entry: str, size: int, choice: Choice) -> Job:
    system, _, variant = entry.partition("/")
    count = (
        min(size, workload.limit_single or size) if _limited(workload, system, variant) else size
    )
    # What takes a worker minutes in full is not repeated within a round.
    repeats = 1 if choice.quick or count < size else workload.repeats
    return Job(system, variant, workload.name, size, count, repeats)
