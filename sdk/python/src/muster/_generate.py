"""`generator=True`: outputs as they arrive; closing or dropping the generator cancels the call."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Generator
from typing import Any

from ._collect import Queued
from ._session import Session

_running: weakref.WeakSet[Session] = weakref.WeakSet()


def generate(session: Session, queued: Queued) -> Generator[Any, None, None]:
    """A generator of the outputs of a session that has started."""
    queued.touch = session.touch
    _running.add(session)
    outputs = _outputs(session, queued)
    # A generator that was never started runs no `finally` when it is closed or dropped: so it is started here.
    next(outputs)
    return outputs


def nothing() -> Generator[Any, None, None]:
    """The generator of a call without inputs."""
    yield from ()


def _outputs(session: Session, queued: Queued) -> Generator[Any, None, None]:
    keep = session.options.return_exceptions
    try:
        yield None  # for `generate`
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
        _running.discard(session)
        queued.abandon()
        # Cancels the call, unless it has ended.
        session.fail(GeneratorExit("the generator was closed"))


@atexit.register
def _cancel_all() -> None:
    for session in list(_running):
        session.cancel()
