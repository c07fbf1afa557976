"""Watches the memory of a system's processes, from a process of its own: `python -m muster_bench.sampler`.

Reads lines of JSON: `{"begin": Scope}` starts to watch, `{"now": Scope}` looks once, `{"end": null}` stops. Answers
`now` and `end` with one line, the peak bytes by role; "total" is the largest sum seen at one moment, which is less than
the sum of the roles' own peaks.
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import time
from dataclasses import dataclass, field

from .processes import Cgroup, pss_bytes, tree

INTERVAL_S = 0.1
# Looking at pages costs what it looks at: at most this part of one core goes there.
MAX_SHARE = 0.02


@dataclass(frozen=True)
class Scope:
    """Which processes belong to the system: the tree below `root` without `excluded`, and `host`'s containers."""

    root: int
    roles: dict[str, int] = field(default_factory=dict)
    """Processes of the tree that are counted by name; the root is the client, the rest are workers."""
    excluded: list[int] = field(default_factory=list)
    host: str = ""

    def members(self) -> dict[str, set[int]]:
        """Who is there now, by role."""
        named = {"client": {self.root}, **{role: {pid} for role, pid in self.roles.items()}}
        everybody = tree(self.root, self.excluded)
        # Named processes may hide below an excluded one that started them.
        rest = everybody - set().union(*named.values())
        found = {**named, "workers": rest}
        if self.host:
            found["containers"] = Cgroup(self.host).processes()
        return found


def look(scope: Scope) -> dict[str, int]:
    """The memory of each role now, and of all together, in bytes."""
    found = {role: sum(map(pss_bytes, pids)) for role, pids in scope.members().items()}
    return {**found, "total": sum(found.values())}


def highest(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    """The larger of each role."""
    return {role: max(one.get(role, 0), other.get(role, 0)) for role in {*one, *other}}


class Requests:
    """Lines of stdin, with a patience. Unbuffered, because a buffer would hide lines from `select`."""

    def __init__(self) -> None:
        self._held = b""

    def next(self, patience: float | None) -> bytes | None:
        """The next line, empty at the end; None when there is none in time."""
        while b"\n" not in self._held:
            if not select.select([0], [], [], patience)[0]:
                return None
            data = os.read(0, 1 << 16)
            if not data:
                return b""
            self._held += data
        line, _, self._held = self._held.partition(b"\n")
        return line


def main() -> None:
    requests = Requests()
    scope: Scope | None = None
    peak: dict[str, int] = {}
    pause = INTERVAL_S
    while True:
        line = requests.next(pause if scope else None)
        if line == b"":
            return
        if line is not None:
            ((command, given),) = json.loads(line).items()
            if command == "begin":
                scope, peak = Scope(**given), {}
            elif command == "now":
                print(json.dumps(look(Scope(**given))), flush=True)
            elif scope is not None:
                print(json.dumps(highest(peak, look(scope))), flush=True)
                scope = None
        if scope is not None:
            started = time.perf_counter()
            peak = highest(peak, look(scope))
            pause = max(INTERVAL_S, (time.perf_counter() - started) / MAX_SHARE)


def as_message(command: str, scope: Scope | None) -> str:
    """One line of input."""
    return json.dumps({command: dataclasses.asdict(scope) if scope else None}) + "\n"


if __name__ == "__main__":
    main()
