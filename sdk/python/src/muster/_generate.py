"""`generator=True`: outputs as they are handed on; closing or dropping the generator cancels the call.

The plain generator and the asynchronous one (`_async`) take the same `parts`, the latter in a thread.
"""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Generator, Iterator
from typing import Any

from ._collect import Queued
from ._errors import TransportError
from ._session import Session

_running: weakref.WeakSet[Session] = weakref.WeakSet()


def generate(session: Session, queued: Queued) -> Generator[Any, None, None]:
    """A generator of the outputs of a session that has started."""
    outputs = _outputs(session, queued)
    # A generator that was never started runs no `finally` when it is closed or dropped: so it is started here.
    next(outputs)
    return outputs


def nothing() -> Generator[Any, None, None]:
    """The generator of a call without inputs."""
    yield from ()


def _outputs(session: Session, queued: Queued) -> Generator[Any, None, None]:
    watch(session)
    try:
        yield None  # for `generate`
        for values, failure in parts(session, queued):
            yield from values
            if failure is not None:
                raise failure
    finally:
        end(session, queued)


def parts(session: Session, queued: Queued) -> Iterator[tuple[list[Any], BaseException | None]]:
    """Outputs that came together, to the end; the failure is to be raised after them, and is the last."""
    keep = session.options.return_exceptions
    for _first, values, failed in queued.batches():
        session.display.pause()
        if failed and not keep:
            yield values[: failed[0]], values[failed[0]]
            return
        yield values, None
        if queued.empty():
            session.display.resume()
    error: BaseException | None = session.verdict
    missing = queued.missing()
    if error is None and missing is not None:
        error = TransportError(f"the gateway ended the call without the output of input {missing}")
    if error is not None:
        yield [], error


def end(session: Session, queued: Queued) -> None:
    """Nobody consumes any more: cancels the call, unless it has ended. May take seconds."""
    _running.discard(session)
    queued.abandon()
    session.fail(GeneratorExit("the generator was closed"))


def watch(session: Session) -> None:
    """Cancel the session's call at the end of the program, if it still runs then."""
    _running.add(session)


@atexit.register
def _cancel_all() -> None:
    for session in list(_running):
        session.cancel()
