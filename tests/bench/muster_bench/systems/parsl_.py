"""Parsl with its high-throughput executor, on this machine."""

from __future__ import annotations

import tempfile
from typing import Any

import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

from .base import WORKERS, Function, System


class Parsl(System):
    """One app call for each input."""

    name = "parsl"
    package = "parsl"

    def start(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="muster-bench-parsl-")
        provider = LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1)
        executor = HighThroughputExecutor(
            label="bench",
            address="127.0.0.1",
            loopback_address="127.0.0.1",
            max_workers_per_node=WORKERS,
            cores_per_worker=1,
            provider=provider,
            encrypted=False,
        )
        config = Config(
            executors=[executor],
            strategy="none",
            run_dir=self._folder.name,
            initialize_logging=False,
            usage_tracking=0,
        )
        self._kernel = parsl.load(config)
        self._apps: dict[Function, Any] = {}
        self._queued: list[Any] = []

    def stop(self) -> None:
        if self._queued:
            return  # held workers would be waited for; the end of the process ends them
        self._kernel.cleanup()
        self._folder.cleanup()

    def each(self, function: Function, inputs: list[Any]) -> list[Any]:
        app = self._app(function)
        return [future.result() for future in [app(value) for value in inputs]]

    def queue(self, function: Function, count: int) -> None:
        app = self._app(function)
        self._queued = [app(index) for index in range(count)]

    def _app(self, function: Function) -> Any:
        if function not in self._apps:
            self._apps[function] = parsl.python_app(function, cache=False)
        return self._apps[function]


SYSTEMS: dict[str, type[System]] = {"parsl": Parsl}
