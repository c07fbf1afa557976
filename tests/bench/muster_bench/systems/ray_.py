"""Ray on this machine: tasks, and an actor."""

from __future__ import annotations

import logging
import os
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# By default Ray shows equal lines of several workers only once.
os.environ["RAY_DEDUP_LOGS"] = "0"
os.environ["RAY_COLOR_PREFIX"] = "0"

import numpy
import ray

from .base import WORKERS, Function, System


class Put:
    """Stands for an array in Ray's shared memory."""

    def __init__(self, reference: Any) -> None:
        self.reference = reference

    def get(self) -> Any:
        return ray.get(self.reference)


class Ray(System):
    """`single` and `chunked` are tasks; `actor` calls a method of one actor that lives on."""

    name = "ray"
    package = "ray"

    def start(self) -> None:
        ray.init(num_cpus=WORKERS, include_dashboard=False, logging_level=logging.ERROR)
        self._remote: dict[Function, Any] = {}
        self._actor: Any = None
        self._queued: list[Any] = []

    def stop(self) -> None:
        ray.shutdown()

    def each(self, function: Function, inputs: list[Any]) -> list[Any]:
        task = self._task(function)
        outputs: list[Any] = ray.get([task.remote(value) for value in inputs])
        return outputs

    def call(self, function: Function, value: Any) -> Any:
        if self.variant != "actor":
            return ray.get(self._task(function).remote(value))
        if self._actor is None:
            self._actor = ray.remote(Caller).remote(function)
        return ray.get(self._actor.call.remote(value))

    def queue(self, function: Function, count: int) -> None:
        task = self._task(function)
        self._queued = [task.remote(index) for index in range(count)]

    def share(self, data: bytearray) -> Put:
        return Put(ray.put(numpy.frombuffer(data, "u1")))

    def _task(self, function: Function) -> Any:
        if function not in self._remote:
            self._remote[function] = ray.remote(function)
        return self._remote[function]


class Caller:
    """An actor that has the function already."""

    def __init__(self, function: Function) -> None:
        self.function = function

    def call(self, value: Any) -> Any:
        return self.function(value)


SYSTEMS: dict[str, type[System]] = {"ray": Ray}
