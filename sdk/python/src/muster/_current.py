"""Which input is running, and what it has, for code inside a container.

All of it is in the environment, so it is the same in the function, in what it imports and in its child processes. The
agent says what the worker has, the runner which input runs, and, where the call has a time limit, until when.
"""

from __future__ import annotations

import dataclasses
import os
import time
from typing import Any, Callable, Optional

from ._errors import NotInCall

_DEADLINE = "MUSTER_DEADLINE"
"""When the input's time is up, by the clock that all processes of a machine share (`time.monotonic`)."""


@dataclasses.dataclass(frozen=True)
class Current:
    """One attempt of one input; (call_id, index) stays the same when an input is tried again."""

    call_id: str
    index: int
    attempt: int
    host: str
    cores: float
    """Cores this worker may use: `func_cpu`."""
    memory: int
    """Memory this worker may use, in bytes: `func_ram`."""
    scratch: str
    """A writable folder of this worker alone, which goes with it; what is there counts as memory."""
    time_left: Optional[float]
    """Seconds until the input's `timeout`, as of now; None without one."""


def current() -> Current:
    """The input this code runs for. Raises `NotInCall` outside a container of Muster.

    Use `call_id` and `index` as an idempotency key for side effects, since an input may run more than once.
    """
    environ = os.environ
    try:
        deadline = environ.get(_DEADLINE)
        return Current(
            call_id=environ["MUSTER_CALL_ID"],
            index=int(environ["MUSTER_INPUT_INDEX"]),
            attempt=int(environ["MUSTER_ATTEMPT"]),
            host=environ["MUSTER_HOST"],
            cores=float(environ["MUSTER_CPU"]),
            memory=int(environ["MUSTER_RAM_BYTES"]),
            scratch=environ.get("TMPDIR") or "/tmp",
            time_left=float(deadline) - time.monotonic() if deadline else None,
        )
    except (KeyError, ValueError):
        raise NotInCall(
            "muster.current() was called outside of a call; it is for code that remote_parallel_map runs in a container"
        ) from None


class Timed:
    """`function`, with its time limit told to `current`; for calls that have one."""

    __slots__ = ("_function", "_seconds")

    def __init__(self, function: Callable[[Any], Any], seconds: float) -> None:
        self._function = function
        self._seconds = seconds

    def __call__(self, value: Any) -> Any:
        os.environ[_DEADLINE] = repr(time.monotonic() + self._seconds)
        return self._function(value)
