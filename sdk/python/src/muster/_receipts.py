"""What inputs cost: receipts as the gateway tells them, one by one, and what a whole call used of what it asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from ._follow import Ended
from ._wire import Outputs

_GB = 1 << 30
_WORTH_SECONDS = 5.0
"""Calls that ran shorter, in all, are not worth a line."""
_MARGIN = 1.25
"""How much more memory than was needed a proposal leaves."""


@dataclasses.dataclass(frozen=True)
class Receipt:
    """What one input cost, at the attempt that gave its output.

    Inputs of less than 5 ms share what was measured of them together, each in even parts. `peak_bytes` is the most that
    the input's worker has held by then.
    """

    index: int
    attempt: int
    host: str
    started: str
    """When the first of those that were measured together began, as RFC 3339."""
    queue_seconds: float
    """From the creation of the call to the input's start."""
    run_seconds: float
    cpu_seconds: float
    peak_bytes: int


class Receipts(Ended):
    """A sink that keeps what inputs cost."""

    def __init__(self) -> None:
        super().__init__()
        self._attempts: dict[int, int] = {}
        self._told: list[dict[str, Any]] = []

    def outputs(self, first: int, attempt: int, outputs: Outputs) -> None:
        self._attempts.update(dict.fromkeys(range(first, first + len(outputs)), attempt))

    def event(self, event: dict[str, Any]) -> None:
        super().event(event)
        if event.get("type") == "receipt":
            self._told.append(event)

    def list(self) -> list[Receipt]:
        """In input order."""
        found = {one.index: one for event in self._told for one in self._each(event)}
        return [found[index] for index in sorted(found)]

    def _each(self, event: dict[str, Any]) -> Iterable[Receipt]:
        first, count, attempt = event["first"], event["count"], event["attempt"]
        run, cpu = event["run_s"] / count, event["cpu_s"] / count
        for position in range(count):
            if self._attempts.get(first + position) == attempt:
                yield Receipt(
                    first + position, attempt, event["host"], event["started"],
                    event["queue_s"] + position * run, run, cpu, event["peak_bytes"],
                )  # fmt: skip


class Used:
    """What a call has used so far."""

    def __init__(self, cores: float, memory_gb: float) -> None:
        self._cores = cores
        self._memory_gb = memory_gb
        self._run = self._cpu = 0.0
        self._peak = 0

    def add(self, event: dict[str, Any]) -> None:
        """A receipt came."""
        self._run += event["run_s"]
        self._cpu += event["cpu_s"]
        self._peak = max(self._peak, event["peak_bytes"])

    def line(self) -> str | None:
        """One line for people; None where there is nothing to say."""
        if self._run < _WORTH_SECONDS or not self._peak:
            return None
        peak = self._peak / _GB
        said = f"asked {_number(self._memory_gb)} GB, largest peak {_number(peak)} GB"
        enough = _enough(peak)
        times = self._memory_gb / enough
        if times >= 2:
            said += f": func_ram={_number(enough)} would fit {int(times)} x more"
        cores = f"{_number(self._cores)} {'core' if self._cores == 1 else 'cores'}"
        return f"{said}; used {_number(self._cpu / self._run)} of {cores}"


def _enough(peak: float) -> float:
    """The next round number of GB that leaves a margin."""
    wanted = peak * _MARGIN
    for enough in (0.25, 0.5):
        if wanted <= enough:
            return enough
    return float(-int(-wanted // 1))


def _number(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"
