"""Muster itself: a gateway and an agent of the benchmark's own, and the SDK as its client.

The service is started by a helper process (`muster_bench.service`), so that the client has nothing loaded that a user's
program has not.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import muster

from .base import Function, Parts, System
from .fleet_ import VARIANTS, Simulated

RAM_GB = 1.0
# How long a host must look at rest to be so.
REST_S = 0.3
# A warm pool that has not filled up by then never will.
PATIENCE_S = 60.0


class Muster(System):
    """`warm` keeps warm workers as the agent does by default; `cold` keeps none."""

    name = "muster"
    package = "muster"

    def __init__(self, variant: str) -> None:
        super().__init__(variant)
        self._queued: muster.Call | None = None

    def start(self) -> None:
        warm = ["--warm", "0"] if self.variant == "cold" else []
        self._service = subprocess.Popen(
            [sys.executable, "-m", "muster_bench.service", *warm],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._service.stdout is not None
        line = self._service.stdout.readline()
        if not line:
            raise RuntimeError("the service did not start; what it said is above")
        self._facts = json.loads(line)

    def stop(self) -> None:
        if self._queued is not None:
            self._queued.cancel()
        assert self._service.stdin is not None
        assert self._service.stdout is not None
        self._service.stdin.close()
        if self._service.wait(120) != 0:
            raise RuntimeError("the service did not stop cleanly; what it said is above")
        self._service.stdout.close()

    def each(self, function: Function, inputs: Any) -> list[Any]:
        outputs: list[Any] = muster.remote_parallel_map(
            function,
            inputs,
            func_ram=RAM_GB,
            spinner=False,
            url=self._facts["url"],
            token=self._facts["token"],
        )
        return outputs

    def map(self, function: Function, inputs: list[Any]) -> list[Any]:
        return self.each(function, inputs)

    def share(self, data: bytearray) -> Any:
        buffer = pickle.PickleBuffer(data)
        return muster.put(buffer, url=self._facts["url"], token=self._facts["token"])

    def unshare(self, shared: Any) -> None:
        shared.delete()

    def fetched(self) -> float | None:
        lines = self._ask("/metrics").decode().splitlines()
        sent = [line for line in lines if line.startswith('muster_blob_bytes_total{way="out"}')]
        return sum(float(line.rpartition(" ")[2]) for line in sent)

    def queue(self, function: Function, count: int) -> None:
        self._queued = muster.remote_parallel_map(
            function,
            (index for index in range(count)),
            func_ram=RAM_GB,
            spinner=False,
            background=True,
            url=self._facts["url"],
            token=self._facts["token"],
        )

    def settle(self) -> None:
        """The pool is full again, no worker of a call is left, and it stays so for a moment.

        For what the gateway knows of its hosts is a little older than what it knows of a call."""
        deadline = time.monotonic() + PATIENCE_S
        rested = time.monotonic()
        while time.monotonic() - rested < REST_S:
            time.sleep(0.02)
            host = self._host()
            # The agent keeps as many of each image that is made for it.
            wanted = self._facts["warm"] * sum(
                image["python"] is not None for image in host["images"]
            )
            if host["workers"] or host["warm"] < wanted or host["free_cores"] < host["cores"]:
                rested = time.monotonic()
            if rested > deadline:
                raise RuntimeError(f"after {PATIENCE_S:g} s the host is still not at rest: {host}")

    def parts(self) -> Parts:
        roles = {"gateway": self._facts["gateway"], "agent": self._facts["agent"]}
        return Parts(roles, [self._service.pid], self._facts["host"])

    def _ask(self, path: str) -> bytes:
        request = urllib.request.Request(
            self._facts["url"] + path,
            headers={"Authorization": f"Bearer {self._facts['token']}"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            body: bytes = answer.read()
        return body

    def _host(self) -> dict[str, Any]:
        found: Any = json.loads(self._ask("/v1/hosts"))
        hosts: list[dict[str, Any]] = found["hosts"] if isinstance(found, dict) else found
        return hosts[0]


def _of(variant: str) -> System:
    return Simulated(variant) if variant in VARIANTS else Muster(variant)


SYSTEMS: dict[str, Callable[[str], System]] = {"muster": _of}
