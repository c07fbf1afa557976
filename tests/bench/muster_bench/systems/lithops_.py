"""Lithops with its localhost backend."""

from __future__ import annotations

import sys
from typing import Any

import lithops

from .base import WORKERS, Function, System


class Lithops(System):
    """`FunctionExecutor.map`."""

    name = "lithops"
    package = "lithops"

    def start(self) -> None:
        self._executor = lithops.FunctionExecutor(
            config={
                "lithops": {"backend": "localhost", "storage": "localhost", "telemetry": False},
                "localhost": {
                    "runtime": sys.executable,
                    "max_workers": WORKERS,
                    "worker_processes": WORKERS,
                },
            },
            log_level="ERROR",
        )

    def stop(self) -> None:
        self._executor.clean()

    def each(self, function: Function, inputs: list[Any]) -> list[Any]:
        self._executor.map(function, inputs)
        outputs: list[Any] = self._executor.get_result(show_progressbar=False)
        return outputs


SYSTEMS: dict[str, type[System]] = {"lithops": Lithops}
