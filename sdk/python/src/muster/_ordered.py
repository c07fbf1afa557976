"""`ordered=True`: a generator's outputs in input order, with a bounded look-ahead.

Outputs arrive as inputs end. Those whose turn it is go on to the consumer as `Queued` has it, where the reader waits
while the consumer is far behind. Those that came before their turn are *held*, and for them the reader never waits: the
missing one may be behind whatever is not read yet, and then nothing would ever move again.

What is bounded instead is how far inputs are given ahead. An input goes out only when its index is below the *horizon*:
the oldest input whose output is missing, plus a *window*. So one slow input stops the iterable, and with it the growth
of what is held, after a window. That oldest input is itself always below the horizon: it is given, it runs, its
output is read. So the call moves on.

The window is as many inputs as make `AHEAD_BYTES` of outputs, at the mean size so far: at most `AHEAD_COUNT`, at
least `LEAST`, so that large outputs do not leave hosts idle. What was given is not taken back: outputs that
suddenly grow may take more memory than `AHEAD_BYTES`, until those inputs have ended.

A failure is raised when its turn comes. The inputs before it must end first, so the call goes on past it (its SPEC says
`on_error: continue`), but the horizon stays where it is from then on; raising cancels the call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ._collect import AHEAD_BYTES, AHEAD_COUNT, Queued
from ._outcome import Loader
from ._wire import Outputs

if TYPE_CHECKING:
    from ._session import Session

# How many inputs may be given ahead, whatever the size of their outputs, and before any size is known.
LEAST = 4_000
# What outputs take in memory beside their bytes, each and for those that come together.
_OUTPUT_COST = 64
_BATCH_COST = 512
# The horizon moves by this part of a window at a time, so that inputs go out many at once.
_STEPS = 8


class Ordered(Queued):
    """Outputs on their way to a generator's consumer, in input order. See the module."""

    def __init__(self, return_exceptions: bool) -> None:
        super().__init__()
        self._set_horizon: Callable[[int], None] = lambda _index: None
        self._return_exceptions = return_exceptions
        self._held: dict[int, tuple[Loader, int, Outputs]] = {}
        self._next = 0
        self._seen_bytes = 0
        self._seen_count = 0
        self._failed = False
        self._horizon = LEAST

    def follow(self, session: Session) -> None:
        """Take the outputs of this session, which has not begun, and hold its inputs back."""
        super().follow(session)
        self._set_horizon = session.queue.set_horizon
        self._set_horizon(self._horizon)

    def add(self, loader: Loader, first: int, attempt: int, outputs: Outputs) -> bool:
        """Take outputs; hold them, or hand on all whose turn it is. Waits only while the consumer is far behind."""
        self._seen_bytes += outputs.item_bytes + _BATCH_COST + _OUTPUT_COST * len(outputs)
        self._seen_count += len(outputs)
        if not self._return_exceptions and not outputs.all_values:
            self._failed = True
        self._held[first] = loader, attempt, outputs
        while (ready := self._held.pop(self._next, None)) is not None:
            loader, attempt, outputs = ready
            super().add(loader, self._next, attempt, outputs)
            self._next += len(outputs)
        self._move_horizon()
        return False

    def missing(self) -> int | None:
        """Once finished: the input that held outputs wait for in vain, if any."""
        return self._next if self._held else None

    def _move_horizon(self) -> None:
        window = window_of(self._seen_bytes, self._seen_count)
        horizon = self._next + window
        if not self._failed and abs(horizon - self._horizon) >= window // _STEPS:
            self._horizon = horizon
            self._set_horizon(horizon)


def window_of(seen_bytes: int, seen_count: int) -> int:
    """How many inputs may be given ahead, after so many outputs of so many bytes."""
    return max(LEAST, min(AHEAD_COUNT, AHEAD_BYTES * seen_count // seen_bytes))
