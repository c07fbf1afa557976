"""Which input is running, for code inside a container."""

from __future__ import annotations

import dataclasses
import os
from typing import Optional


@dataclasses.dataclass(frozen=True)
class Current:
    """One attempt of one input; (call_id, index) stays the same when an input is tried again."""

    call_id: str
    index: int
    attempt: int


def current() -> Optional[Current]:
    """The input this code runs for, or None outside a container of Muster.

    Use `call_id` and `index` as an idempotency key for side effects, since an input may run more than once.
    """
    environ = os.environ
    try:
        return Current(
            environ["MUSTER_CALL_ID"],
            int(environ["MUSTER_INPUT_INDEX"]),
            int(environ.get("MUSTER_ATTEMPT", "1")),
        )
    except (KeyError, ValueError):
        return None
