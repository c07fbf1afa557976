"""Where a session's outputs go: into a list, or to a generator's consumer."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ._errors import TransportError
from ._outcome import Loader
from ._stream import NOTICE_SECONDS
from ._wire import Outputs

if TYPE_CHECKING:
    from ._session import Session

_MISSING: Any = object()

# How far outputs may run ahead of the consumer of a generator.
AHEAD_BYTES = 32 << 20
AHEAD_COUNT = 100_000
# A client that reads nothing for so long tells the gateway that it is still there.
_TOUCH_SECONDS = 60.0


class Listed:
    """Outputs in input order; the first failure, if failures are not wanted in their places."""

    def __init__(self, return_exceptions: bool) -> None:
        self.failure: BaseException | None = None
        self._return_exceptions = return_exceptions
        self._values: list[Any] = []
        self._failed: set[int] = set()
        self.count = 0

    def add(self, loader: Loader, first: int, attempt: int, outputs: Outputs) -> bool:
        """Take outputs; True at a failure that stops the call."""
        values, failed = loader.load(first, attempt, outputs)
        have = len(self._values)
        if first > have:
            self._values.extend([_MISSING] * (first - have))
        self._values[first : first + len(values)] = values
        self.count += len(values)
        if failed and not self._return_exceptions:
            self._failed.update(first + position for position in failed)
            if self.failure is None:
                self.failure = values[failed[0]]
        return self.failure is not None

    def finish(self) -> None:
        """Nobody waits here."""

    def values(self, expected: int) -> list[Any]:
        """All `expected` outputs in input order."""
        if self.count != expected or len(self._values) != expected:
            raise TransportError(
                f"the gateway ended the call after {self.count} of {expected} outputs"
            )
        return self._values

    def returned(self) -> dict[int, Any]:
        """What the inputs that did not fail returned, by index."""
        failed = self._failed
        return {
            index: value
            for index, value in enumerate(self._values)
            if value is not _MISSING and index not in failed
        }


def _nothing() -> None:
    """Nobody has to be told anything."""


class Queued:
    """Outputs on their way to a generator's consumer; decoded in the consumer's thread."""

    def __init__(self) -> None:
        self.touch: Callable[[], None] = _nothing
        self._changed = threading.Condition()
        self._batches: deque[tuple[Loader, int, int, Outputs]] = deque()
        self._bytes = 0
        self._count = 0
        self._finished = False
        self._abandoned = False

    def follow(self, session: Session) -> None:
        """Take the outputs of this session, which has not begun."""
        self.touch = session.touch

    def add(self, loader: Loader, first: int, attempt: int, outputs: Outputs) -> bool:
        """Take outputs; waits while the consumer is far behind."""
        size = outputs.item_bytes
        while True:
            with self._changed:
                if self._abandoned or self._finished:
                    return False
                if not self._batches or (self._bytes < AHEAD_BYTES and self._count < AHEAD_COUNT):
                    self._batches.append((loader, first, attempt, outputs))
                    self._bytes += size
                    self._count += len(outputs)
                    self._changed.notify_all()
                    return False
                waited = self._changed.wait(_TOUCH_SECONDS)
            if not waited:
                self.touch()

    def finish(self) -> None:
        """Nothing more comes."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Nobody consumes any more."""
        with self._changed:
            self._abandoned = True
            self._batches.clear()
            # It holds the session, which holds this.
            self.touch = _nothing
            self._changed.notify_all()

    def empty(self) -> bool:
        """Whether the consumer would have to wait."""
        return not self._batches and not self._finished

    def missing(self) -> int | None:
        """Once finished: an input whose output is waited for in vain, as far as that can be known here."""
        return None

    def batches(self) -> Iterator[tuple[int, list[Any], list[int]]]:
        """(first index, values, positions of failures), as they arrive, to the end."""
        while True:
            with self._changed:
                while not self._batches and not self._finished:
                    self._changed.wait(NOTICE_SECONDS)
                if not self._batches:
                    return
                loader, first, attempt, outputs = self._batches.popleft()
                self._bytes -= outputs.item_bytes
                self._count -= len(outputs)
                self._changed.notify_all()
            values, failed = loader.load(first, attempt, outputs)
            yield first, values, failed
