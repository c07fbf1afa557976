"""`generator=True`: outputs as they arrive; closing or dropping the generator cancels the call."""

from __future__ import annotations

import atexit
import contextlib
import weakref
from collections.abc import Generator
from typing import Any

from ._collect import Queued
from ._session import Session

_running: weakref.WeakSet[Session] = weakref.WeakSet()


class _Guard:
    """Lives as long as the generator: a generator that was never started runs no `finally`, but drops its arguments."""

    def __init__(self, session: Session, queued: Queued) -> None:
        self._session = session
        self._queued = queued
        _running.add(session)

    def release(self) -> None:
        """The generator is over: cancel the call unless it has ended."""
        _running.discard(self._session)
        self._queued.abandon()
        self._session.fail(GeneratorExit("the generator was closed"))

    def __del__(self) -> None:
        # At the interpreter's end anything may be gone already; the gateway then cancels after its grace period.
        with contextlib.suppress(Exception):
            self.release()


def generate(session: Session, queued: Queued) -> Generator[Any, None, None]:
    """A generator of the outputs of a session that has started."""
    queued.touch = session.touch
    return _outputs(_Guard(session, queued), session, queued)


def nothing() -> Generator[Any, None, None]:
    """The generator of a call without inputs."""
    yield from ()


def _outputs(guard: _Guard, session: Session, queued: Queued) -> Generator[Any, None, None]:
    keep = session.options.return_exceptions
    try:
        for _first, values, failed in queued.batches():
            session.display.pause()
            if failed and not keep:
                yield from values[: failed[0]]
                raise values[failed[0]]
            yield from values
            if queued.empty():
                session.display.resume()
        error = session.verdict
        if error is not None:
            raise error
    finally:
        guard.release()


@atexit.register
def _cancel_all() -> None:
    for session in list(_running):
        session.cancel()
