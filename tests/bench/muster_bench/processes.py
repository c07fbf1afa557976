"""What the kernel knows of processes and cgroups: trees, CPU seconds, memory."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Collection
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
TICKS = os.sysconf("SC_CLK_TCK")
CGROUPS = Path("/sys/fs/cgroup")


def adopt_orphans() -> None:
    """From now on, a descendant whose parent ends becomes this process's child, and so stays in its tree."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the kernel does not let this process adopt orphans")


def tree(root: int, without: Collection[int] = ()) -> set[int]:
    """The process and its descendants, but for the subtrees of `without`."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat(int(name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(name))
    found, waiting = set(), [root]
    while waiting:
        pid = waiting.pop()
        if pid not in without:
            found.add(pid)
            waiting.extend(children.get(pid, ()))
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time of the process and of the children it has waited for; 0 when it is gone."""
    fields = _stat(pid)
    if not fields:
        return 0.0
    reaped = (int(fields[13]) + int(fields[14])) / TICKS
    try:
        # The kernel's own number of the clock of another process (see clock_getcpuclockid(3)): in nanoseconds, where
        # /proc counts in hundredths.
        own = time.clock_gettime((~pid << 3) | 2)
    except OSError:
        own = (int(fields[11]) + int(fields[12])) / TICKS
    return own + reaped


def pss_bytes(pid: int) -> int:
    """Proportional set size: pages shared by n processes count as one n-th. 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def engine_processes() -> set[int]:
    """The container engine that this machine's clients reach, and all below it; empty if there is none."""
    try:
        return tree(int(Path("/run/docker.pid").read_text()))
    except (OSError, ValueError):
        return set()


class Cgroup:
    """The cgroup an agent puts its containers below; version 1 and 2, cgroupfs and systemd."""

    def __init__(self, host: str) -> None:
        below = (f"muster/{host}", f"muster_{host.replace('-', '_')}.slice")
        tops = ("cpuacct", "cpu,cpuacct", "")
        candidates = [CGROUPS / top / path for path in below for top in tops]
        # Asked again each time: it appears with the first container.
        self._candidates = candidates

    def cpu_seconds(self) -> float:
        """What all its containers used, those that are gone included."""
        for folder in self._candidates:
            nanoseconds = folder / "cpuacct.usage"
            statistics = folder / "cpu.stat"
            if nanoseconds.exists():
                return int(nanoseconds.read_text()) / 1e9
            if statistics.exists():
                return int(statistics.read_text().partition("usage_usec ")[2].split()[0]) / 1e6
        return 0.0

    def processes(self) -> set[int]:
        """Those that are in it or below it now."""
        for folder in self._candidates:
            if folder.exists():
                # Unlike a glob, a walk does not mind that folders go away meanwhile.
                return {
                    pid
                    for path, _, _ in os.walk(folder)
                    for pid in _pids(Path(path) / "cgroup.procs")
                }
        return set()


def _pids(path: Path) -> list[int]:
    try:
        return [int(line) for line in path.read_text().split()]
    except OSError:
        return []


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on: [1] is the parent, [11] to [14] are CPU ticks."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()
