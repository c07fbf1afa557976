"""What every system can do for a workload."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from muster_bench import functions

WORKERS = len(os.sched_getaffinity(0))
"""Every system gets as many workers as there are cores."""
CHUNKS_PER_WORKER = 8
"""Where users chunk by hand: enough chunks that the last ones do not leave a worker idle for long."""

Function = Callable[[Any], Any]


@dataclass(frozen=True)
class Parts:
    """Which processes of the tree are what; see `sampler.Scope`."""

    roles: dict[str, int] = field(default_factory=dict)
    excluded: list[int] = field(default_factory=list)
    host: str = ""


class System:
    """One system, used in one way. `start` to `stop` happen once, in a process of its own."""

    name: ClassVar[str]
    package: ClassVar[str] = ""
    """The distribution whose version is reported."""

    def __init__(self, variant: str) -> None:
        self.variant = variant

    def start(self) -> None:
        """Starts all its services and workers. How long this and `warm_up` take is reported as the start-up."""

    def stop(self) -> None:
        """Stops them; nothing is measured any more."""

    def warm_up(self) -> None:
        """Has every worker run something once, so that lazy parts are there."""
        self.each(functions.noop, list(range(4 * WORKERS)))

    def each(self, function: Function, inputs: list[Any]) -> list[Any]:
        """One task for each input; the outputs in order."""
        raise NotImplementedError(f"{self.name} cannot do this")

    def map(self, function: Function, inputs: list[Any]) -> list[Any]:
        """The outputs in order, in the way the variant says."""
        if self.variant != "chunked":
            return self.each(function, inputs)
        chunks = self.each(over_chunk(function), chunked(inputs))
        return [output for chunk in chunks for output in chunk]

    def call(self, function: Function, value: Any) -> Any:
        """One input alone."""
        return self.each(function, [value])[0]

    def queue(self, function: Function, count: int) -> None:
        """Submits the inputs `range(count)` and leaves them queued."""
        raise NotImplementedError(f"{self.name} cannot do this")

    def share(self, data: bytearray) -> Any:
        """Puts data where every worker reads it without a copy of its own; what it gives goes into inputs, where its
        `get` gives a buffer."""
        raise NotImplementedError(f"{self.name} cannot do this")

    def unshare(self, shared: Any) -> None:
        """Removes what `share` has made."""

    def fetched(self) -> float | None:
        """Bytes of shared data that hosts have had sent so far, where the system knows."""
        return None

    def settle(self) -> None:
        """Waits until nothing is going on in the background that the next call would compete with."""

    def parts(self) -> Parts:
        return Parts()

    def version(self) -> str:
        from importlib import metadata

        return metadata.version(self.package) if self.package else ""


def over_chunk(function: Function) -> Function:
    """What users write by hand: the function over a list."""

    # Not `inputs`: Parsl keeps that name for itself.
    def run(values: list[Any]) -> list[Any]:
        return [function(value) for value in values]

    return run


def chunk_size(count: int) -> int:
    return max(1, -(-count // (WORKERS * CHUNKS_PER_WORKER)))


def chunked(inputs: list[Any]) -> list[list[Any]]:
    size = chunk_size(len(inputs))
    return [inputs[at : at + size] for at in range(0, len(inputs), size)]
