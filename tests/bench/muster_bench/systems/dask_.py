"""Dask distributed: a scheduler and workers on this machine, with futures."""

from __future__ import annotations

from typing import Any

import dask
from distributed import Client, LocalCluster

from .base import WORKERS, Function, System


class Dask(System):
    """`Client.map` and `Client.submit`."""

    name = "dask"
    package = "distributed"

    def start(self) -> None:
        # Inputs by value are what the workload is about; Dask would rather have them scattered, and says so.
        dask.config.set({"distributed.admin.large-graph-warning-threshold": "10GB"})
        self._cluster = LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            host="127.0.0.1",
        )
        self._client = Client(self._cluster)
        self._queued: list[Any] = []

    def stop(self) -> None:
        if self._queued:
            return  # held workers would be waited for; the end of the process ends them
        self._client.close()
        self._cluster.close()

    def each(self, function: Function, inputs: list[Any]) -> list[Any]:
        # `pure` would run equal inputs once.
        outputs: list[Any] = self._client.gather(self._client.map(function, inputs, pure=False))
        return outputs

    def call(self, function: Function, value: Any) -> Any:
        return self._client.submit(function, value, pure=False).result()

    def queue(self, function: Function, count: int) -> None:
        self._queued = self._client.map(function, range(count), pure=False)


SYSTEMS: dict[str, type[System]] = {"dask": Dask}
