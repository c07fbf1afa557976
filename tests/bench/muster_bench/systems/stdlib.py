"""The standard library's two process pools."""

from __future__ import annotations

import multiprocessing
import platform
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

from .base import WORKERS, Function, System, chunk_size

_inherited: bytearray | None = None


class Inherited:
    """Stands for what workers have from the process that they were forked from."""

    def get(self) -> bytearray:
        assert _inherited is not None
        return _inherited


class Executor(System):
    """`concurrent.futures.ProcessPoolExecutor`."""

    name = "executor"

    def start(self) -> None:
        self._executor = ProcessPoolExecutor(WORKERS)
        self._queued: list[Future[Any]] = []

    def stop(self) -> None:
        for process in self._executor._processes.values():
            if self._queued:
                process.kill()
        self._executor.shutdown(wait=not self._queued, cancel_futures=True)

    def each(self, function: Function, inputs: list[Any]) -> list[Any]:
        return list(self._executor.map(function, inputs))

    def map(self, function: Function, inputs: list[Any]) -> list[Any]:
        size = chunk_size(len(inputs)) if self.variant == "chunked" else 1
        return list(self._executor.map(function, inputs, chunksize=size))

    def call(self, function: Function, value: Any) -> Any:
        return self._executor.submit(function, value).result()

    def queue(self, function: Function, count: int) -> None:
        self._queued = [self._executor.submit(function, index) for index in range(count)]

    def share(self, data: bytearray) -> Inherited:
        """As users do who know: workers that are forked when the data is there."""
        global _inherited
        self._executor.shutdown()
        _inherited = data
        fork = multiprocessing.get_context("fork")
        self._executor = ProcessPoolExecutor(WORKERS, mp_context=fork)
        return Inherited()

    def unshare(self, shared: Any) -> None:
        global _inherited
        _inherited = None
        # Its workers have inherited everything else, too.
        self._executor.shutdown()
        self._executor = ProcessPoolExecutor(WORKERS)

    def version(self) -> str:
        return f"Python {platform.python_version()}"


class Pool(System):
    """`multiprocessing.Pool`."""

    name = "pool"

    def start(self) -> None:
        self._pool = multiprocessing.Pool(WORKERS)

    def stop(self) -> None:
        self._pool.terminate()

    def each(self, function: Function, inputs: list[Any]) -> list[Any]:
        return self._pool.map(function, inputs, chunksize=1)

    def map(self, function: Function, inputs: list[Any]) -> list[Any]:
        return (
            self._pool.map(function, inputs)
            if self.variant == "chunked"
            else self.each(function, inputs)
        )

    def call(self, function: Function, value: Any) -> Any:
        return self._pool.apply(function, (value,))

    def queue(self, function: Function, count: int) -> None:
        self._outputs = self._pool.imap(function, range(count))

    def version(self) -> str:
        return f"Python {platform.python_version()}"


SYSTEMS: dict[str, type[System]] = {"executor": Executor, "pool": Pool}
