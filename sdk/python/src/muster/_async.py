"""Calls from coroutines: the same sessions, in threads; the event loop only waits for them.

- A call has one *worker*: a daemon thread with a copy of the caller's context, which does all that the caller's thread
  does in the plain form: it checks and pickles, iterates the inputs, and decodes a generator's outputs, those that came
  together at once. It is none of the loop's executor: that has few threads, which Python waits for when it ends.
- A task that is cancelled, or an asynchronous generator that is closed, ends the session, in another thread as that
  talks to the gateway, and waits for it: seconds at most, so that a program which ends next has cancelled its call.
- An asynchronous iterable is iterated in the event loop, an item at a time, for the worker, which waits for each.
- Errors come back as values: a future does not take every exception, and would leave the coroutine waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from queue import SimpleQueue
from typing import Any, Optional

from ._generate import parts, watch
from ._plan import Plan
from ._session import Session

_Outcome = tuple[Any, Optional[BaseException]]
_END: Any = object()


async def whole(function: Callable[..., Any], inputs: Any, asked: dict[str, Any]) -> Any:
    """The list of outputs, or the `Call` in the background."""
    running = _Running(function, inputs, asked)
    try:
        return await running.worker.run(running.whole)
    except asyncio.CancelledError:
        await running.cancel()
        raise
    finally:
        running.worker.close()


async def stream(
    function: Callable[..., Any], inputs: Any, asked: dict[str, Any]
) -> AsyncGenerator[Any, None]:
    """The outputs as they come; the call starts with the first step."""
    running = _Running(function, inputs, asked)
    try:
        started = await running.worker.run(running.start)
        if started is None:
            return
        coming = parts(*started)
        while (part := await running.worker.run(next, coming, None)) is not None:
            values, failure = part
            for value in values:
                yield value
            if failure is not None:
                raise failure
    finally:
        running.worker.close()
        await running.cancel()


class _Running:
    """One call of a coroutine, and what cancels it."""

    def __init__(self, function: Callable[..., Any], inputs: Any, asked: dict[str, Any]) -> None:
        self.worker = _Worker()
        self._function = function
        self._pulled = None
        if not hasattr(type(inputs), "__iter__") and hasattr(type(inputs), "__aiter__"):
            self._pulled = _Pulled(inputs)
        self._inputs = self._pulled or inputs
        self._asked = asked
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._cancelled = False

    # In the worker.

    def whole(self) -> Any:
        plan = self._plan()
        return plan.call() if self._asked["background"] else plan.outputs()

    def start(self) -> Any:
        return self._plan().start()

    def _plan(self) -> Plan:
        plan = Plan(self._function, self._inputs, **self._asked)
        plan.opened = self._opened
        return plan

    def _opened(self, session: Session) -> None:
        watch(session)
        with self._lock:
            self._session = session
            if self._cancelled:
                raise asyncio.CancelledError("before anything was sent")

    # In the event loop.

    async def cancel(self) -> None:
        """End the call, unless it has ended."""
        with self._lock:
            self._cancelled = True
            session = self._session
        try:
            if session is not None and not session.finished.is_set():
                other = _Worker()
                try:
                    await other.run(session.fail, asyncio.CancelledError())
                finally:
                    other.close()
        finally:
            # Not before: who waits for an input would end the session, and nobody would wait for that.
            if self._pulled is not None:
                self._pulled.stop()


class _Worker:
    """A thread that does one thing after another for a coroutine."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run, args=(self._serve,), name="muster", daemon=True
        ).start()

    async def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What `work` returns or raises. A coroutine that is cancelled meanwhile leaves it running."""
        future: asyncio.Future[_Outcome] = self._loop.create_future()
        self._jobs.put(lambda: self._do(future, work, arguments))
        value, error = await future
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        """The thread ends when it has done what it was given."""
        self._jobs.put(None)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # and with it what was returned, while the next one is waited for

    def _do(
        self, future: asyncio.Future[_Outcome], work: Callable[..., Any], arguments: Any
    ) -> None:
        outcome: _Outcome
        try:
            outcome = work(*arguments), None
        except BaseException as error:
            outcome = None, error
        with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody waits
            self._loop.call_soon_threadsafe(_resolve, future, outcome)


def _resolve(future: asyncio.Future[_Outcome], outcome: _Outcome) -> None:
    if not future.cancelled():
        future.set_result(outcome)


class _Pulled:
    """An asynchronous iterable, for a thread to iterate."""

    def __init__(self, inputs: AsyncIterable[Any]) -> None:
        self._iterator = inputs.__aiter__()
        self._loop = asyncio.get_running_loop()
        self._step: Any = None
        self._stopped = False

    def __iter__(self) -> _Pulled:
        return self

    def __next__(self) -> Any:
        if self._stopped:
            raise StopIteration
        self._step = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
        if self._stopped:
            self._step.cancel()
        value = self._step.result()
        if value is _END:
            raise StopIteration
        return value

    def stop(self) -> None:
        """Nobody wants any more: cancels the item that is waited for."""
        self._stopped = True
        if self._step is not None:
            self._step.cancel()

    async def _next(self) -> Any:
        try:
            return await self._iterator.__anext__()
        except StopAsyncIteration:
            return _END
