"""What the workloads run on the systems, as a user would have written it.

`as_script` moves them to `__main__`, where users' functions mostly are: systems pickle those by value.
"""

from __future__ import annotations

import os
import sys
import time
import zlib
from typing import Any

LINE = 80
"""Bytes of one printed line, its newline included."""
PAGE = 4096
"""Bytes of memory that are there or not as one."""


def noop(value: Any) -> Any:
    return value


def touch(record: dict[str, Any]) -> dict[str, Any]:
    """A dict in, another of the same size out."""
    return {**record, "seen": record["seen"] + 1}


def length(data: bytes) -> int:
    return len(data)


def make_bytes(size: int) -> bytes:
    return os.urandom(1) * size


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def spin(cpu_seconds: float) -> float:
    """Uses so much CPU time, whatever else the machine does."""
    end = time.thread_time() + cpu_seconds
    while time.thread_time() < end:
        pass
    return cpu_seconds


def print_lines(task: tuple[int, int]) -> int:
    """Prints `task[1]` numbered lines of 80 bytes; `task[0]` is who prints."""
    index, lines = task
    for number in range(lines):
        print(f"{index:04d} {number:06d} {'x' * 67}")
    return index


def read_shared(task: tuple[Any, int]) -> int:
    """Reads a byte of each page of `task[0]`, what a system's `share` gave; `task[1]` is which."""
    shared, at = task
    return zlib.crc32(bytes(memoryview(shared.get())[at::PAGE]))


def hold_shared(task: tuple[Any, float]) -> float:
    """Reads all pages, and keeps them until a time that all processes of the machine share; when they were read."""
    shared, until = task
    view = memoryview(shared.get())
    zlib.crc32(bytes(view[::PAGE]))
    read_at = time.time()
    time.sleep(max(0.0, until - read_at))
    view.release()
    return read_at


def hold(index: int) -> int:
    """Occupies a worker until the system is stopped."""
    time.sleep(3600)
    return index


def as_script() -> None:
    """Makes the functions of this module look as if the running script had defined them."""
    script = sys.modules["__main__"]
    defined = (
        noop,
        touch,
        length,
        make_bytes,
        nap,
        spin,
        print_lines,
        read_shared,
        hold_shared,
        hold,
    )
    script.PAGE = PAGE  # type: ignore[attr-defined]
    for function in defined:
        function.__module__ = "__main__"
        setattr(script, function.__name__, function)
