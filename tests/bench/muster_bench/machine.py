"""What the machine is, and how much of it is there just now."""

from __future__ import annotations

import datetime
import multiprocessing
import os
import platform
import re
import subprocess
import time
from pathlib import Path

LOOPS = 1_500_000


def facts() -> dict[str, str]:
    """What a reader must know to judge the figures."""
    model = _first(r"model name\s*: (.*)", "/proc/cpuinfo")
    memory_kib = int(_first(r"MemTotal:\s*(\d+)", "/proc/meminfo") or 0)
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{model}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{memory_kib / (1 << 20):.1f} GiB",
        "kernel": platform.release(),
        "system": _first(r'PRETTY_NAME="(.*)"', "/etc/os-release"),
        "Python": platform.python_version(),
        "Docker": _output("docker", "version", "--format", "{{.Server.Version}}"),
        "cgroups": "version 2"
        if Path("/sys/fs/cgroup/cgroup.controllers").exists()
        else "version 1",
        "revision": _output("git", "describe", "--always", "--dirty"),
        "load": f"{os.getloadavg()[0]:.2f} at the beginning",
    }


def calibrate() -> float:
    """Seconds that a fixed loop takes on every core at once: the slowest of them.

    More than the least of a run means that the machine was doing something else."""
    cores = len(os.sched_getaffinity(0))
    with multiprocessing.get_context("fork").Pool(cores) as pool:
        return max(pool.map(_loop, [LOOPS] * cores, chunksize=1))


def _loop(count: int) -> float:
    started = time.perf_counter()
    total = 0
    for number in range(count):
        total ^= number
    return time.perf_counter() - started


def _first(pattern: str, path: str) -> str:
    try:
        match = re.search(pattern, Path(path).read_text())
    except OSError:
        match = None
    return match[1] if match else ""


def _output(*command: str) -> str:
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()
