"""Counts what a measured part costs: seconds, CPU seconds and peak memory of all processes of a system."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from .processes import Cgroup, cpu_seconds, engine_processes
from .sampler import Scope, as_message
from .samples import Repeat
from .systems.base import System


class Meter:
    """One for each system under measurement; a context manager, because it owns the sampler."""

    def __init__(self, system: System, excluded: list[int]) -> None:
        self._sampler = subprocess.Popen(
            [sys.executable, "-m", "muster_bench.sampler"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._system = system
        self._excluded = [*excluded, self._sampler.pid]
        self._cpu: dict[str, float] = {}
        self._peak: dict[str, int] = {}
        self.seconds = 0.0
        """How long the last measured part took."""

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Measures the block. One block for each repeat."""
        scope = self._scope()
        self._tell("begin", scope)
        before = _used(scope)
        started = time.perf_counter()
        yield
        self.seconds = time.perf_counter() - started
        after = _used(scope)
        # A part that ended between the two has taken its account with it: better nothing than a negative time.
        self._cpu = {role: max(0.0, after[role] - before.get(role, 0.0)) for role in after}
        self._tell("end", None)
        self._peak = self._answer()

    def memory(self) -> dict[str, int]:
        """Bytes by role, now."""
        self._tell("now", self._scope())
        return self._answer()

    @property
    def peak(self) -> dict[str, int]:
        """Peak bytes by role, of the last measured part."""
        return self._peak

    def repeat(self, values: dict[str, float]) -> Repeat:
        """The workload's values with what the last measured part cost."""
        return Repeat(values, self._cpu, self._peak)

    def _scope(self) -> Scope:
        parts = self._system.parts()
        return Scope(os.getpid(), parts.roles, [*self._excluded, *parts.excluded], parts.host)

    def _tell(self, command: str, scope: Scope | None) -> None:
        assert self._sampler.stdin is not None
        self._sampler.stdin.write(as_message(command, scope))
        self._sampler.stdin.flush()

    def _answer(self) -> dict[str, int]:
        assert self._sampler.stdout is not None
        found: dict[str, int] = json.loads(self._sampler.stdout.readline())
        return found

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        assert self._sampler.stdin is not None
        assert self._sampler.stdout is not None
        self._sampler.stdin.close()
        self._sampler.stdout.close()
        self._sampler.wait(10)


def _used(scope: Scope) -> dict[str, float]:
    """CPU seconds since ever, by role."""
    found = {
        role: sum(map(cpu_seconds, pids))
        for role, pids in scope.members().items()
        if role != "containers"
    }
    engine = sum(map(cpu_seconds, engine_processes()))
    if scope.host:
        # Containers are the engine's descendants, and have their own account.
        found["containers"] = Cgroup(scope.host).cpu_seconds()
        engine -= found["containers"]
    return {**found, "engine": engine}
