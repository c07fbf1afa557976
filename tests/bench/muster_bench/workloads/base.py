"""What a workload is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from muster_bench.meter import Meter
    from muster_bench.systems.base import System

Run = Callable[["System", int, "Meter"], "dict[str, float]"]
"""One repeat: runs so many inputs, checks the outputs, and returns values with their unit in the name."""

PEERS = ("pool", "executor", "joblib", "dask", "ray", "parsl")


class WrongOutputs(Exception):
    """A system returned something else than it should; its figures mean nothing."""


@dataclass(frozen=True)
class Workload:
    """One kind of work, and who does it."""

    name: str
    title: str
    """With `{size}` for how much."""
    headline: str
    """The value that the tables compare, with its unit at its end."""
    better: str
    """`lower` or `higher`."""
    goal: str
    """What is wanted of Muster, in words."""
    sizes: tuple[int, ...]
    quick_size: int
    entries: tuple[str, ...]
    """Systems and variants that take part."""
    run: Run
    repeats: int = 3
    limit_single: int | None = None
    """The largest count for peers' `single`, where `chunked` is measured too; times are projected from it."""
    not_quick: tuple[str, ...] = ()
    """Entries that a quick run leaves out, as they take long."""
    reads_stdout: bool = False
    """The client's stdout is a pipe that is read and verified."""


def every(variant: str, *systems: str) -> tuple[str, ...]:
    """Entries of so many systems in one variant."""
    return tuple(f"{system}/{variant}" for system in systems or PEERS)


def check(right: bool, what: str) -> None:
    """Complains about wrong outputs."""
    if not right:
        raise WrongOutputs(what)
