"""One call while its client sends inputs and reads events, from the first request to the end.

- A call whose inputs are all there at once goes out in ONE request, and its events are read by the thread that called.
  No thread is started: this is the fast path.
- Otherwise a *sender* creates the call and appends inputs, and a *reader* reads events, so that prints appear while
  the user's iterable is slow. A list-returning call iterates in the caller's thread, for iterables that are
  bound to it; a generator-returning call iterates in a third.
- A plain container is known not to block, so it is iterated without a sender until it proves large. Any other iterable
  may block at any item: a sender stands by from the start and takes over after `SMALL_SECONDS`. Whoever claims the
  start first has it.

A session ends once, with the first of: the `end` event; a failed input, when that stops the call; or a reason of this
side (`fail`): the iterable raised, the gateway is lost or refuses, stdout is closed, the user interrupted or dropped
the generator. A reason of this side cancels the call at the gateway. No signal handler is touched.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from . import _api, _wire
from ._config import Endpoint
from ._display import Display
from ._errors import CallNotFound
from ._http import Body, Buffer
from ._opening import Opening
from ._options import Options
from ._outcome import Loader, call_error, missing_events
from ._sender import Sender
from ._stream import NOTICE_SECONDS, Stream
from ._upload import SMALL_BYTES, SMALL_SECONDS, Inputs, Queue
from ._wire import Outputs

CANCEL_SECONDS = 3.0
# After the first failure the gateway ends the call at once; a host that does not answer is not waited for.
_STOP_SECONDS = 2.0
# How long `fail` waits for the reader to notice.
_READER_SECONDS = 1.0


class Collector(Protocol):
    """Where outputs go. Used by the thread that reads events."""

    def add(self, loader: Loader, first: int, attempt: int, outputs: Outputs) -> bool:
        """Take outputs; True if one of them means that the call should stop."""

    def finish(self) -> None:
        """Nothing more comes; the session's `verdict` says why."""


class Session:
    """See the module."""

    def __init__(
        self,
        endpoint: Endpoint,
        options: Options,
        function: bytes,
        display: Display,
        collector: Collector,
        used: set[str],
    ) -> None:
        self.options = options
        self.display = display
        self.queue = Queue()
        self.finished = threading.Event()
        self._endpoint = endpoint
        self._function = function
        self._used = used
        self._collector = collector
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._claimed = False
        self._cancelled = False
        self._opening = Opening(endpoint, options.key)
        self._sender: Sender | None = None
        # Set while no thread sends; so a call that is submitted again has one sender.
        self._sending = threading.Event()
        self._sending.set()
        # The gateway is gone, or going, and the call with it.
        self._lost = False
        self._stream: Stream | None = None
        self._reader: int | None = None
        self._read_to_end = threading.Event()
        self._loader: Loader | None = None
        self._arrived: list[tuple[int, int, Outputs]] = []
        self._end: dict[str, Any] | None = None
        # Outputs.
        self._came = 0
        self._reason: BaseException | None = None
        self._stop_at: float | None = None

    @property
    def call_id(self) -> str | None:
        """The call's id, once the gateway has said it."""
        return self._opening.call_id

    @property
    def verdict(self) -> BaseException | None:
        """Once finished: what went wrong with the call as a whole."""
        if self._reason is not None:
            return self._reason
        if self._end is None:
            return None
        return call_error(self._end, self.call_id or "", self._came)

    @property
    def stopped_early(self) -> bool:
        """Whether the gateway ended the call at its first failed input."""
        return bool(self._end and (self._end.get("error") or {}).get("code") == "input_failed")

    # The three ways to run.

    def run(self, inputs: Inputs) -> bool:
        """See the call to its end, iterating in this thread. False if there were no inputs, and so no call."""
        begun = time.monotonic()
        self.queue.kept = inputs.kept()
        if inputs.plain:
            if not inputs.pump(self.queue, lambda: self._large(begun)):
                self._claimed = True
                self._in_thread(self._start_sending)
                inputs.pump(self.queue)
        else:
            self._in_thread(self._send_standing_by, begun + SMALL_SECONDS)
            inputs.pump(self.queue)
        if self.queue.closed and self._claims():
            if not self.queue.count:
                return False
            if not self._begin():
                self._in_thread(self._send)
            self._read()
        self._wait()
        return True

    def start(self, inputs: Inputs) -> bool:
        """Create the call and go on in other threads. False if there were no inputs, and so no call."""
        self._claimed = True
        begun = time.monotonic()
        self.queue.kept = inputs.kept()
        if (
            inputs.plain
            and inputs.pump(self.queue, lambda: self._large(begun))
            and not self.queue.count
        ):
            return False
        whole = self._begin()
        self._in_thread(self._read)
        if not whole:
            self._in_thread(self._send)
            self._in_thread(inputs.pump, self.queue)
        return True

    def upload(self, inputs: Inputs) -> str:
        """Create a background call and send all inputs, iterating in this thread; its id."""
        self._claimed = True
        begun = time.monotonic()
        if inputs.plain:
            inputs.pump(self.queue, lambda: self._large(begun))
        if not self._begin():
            self._in_thread(self._send)
            if not self.queue.closed:
                inputs.pump(self.queue)
            self._wait()
        if self._reason is not None:
            raise self._reason
        return self.call_id or ""

    # Ending.

    def fail(self, reason: BaseException) -> None:
        """End the session for a reason of this side; the first one counts."""
        if self._pid != os.getpid():  # a forked child leaves its parent's calls alone
            return
        with self._lock:
            if self.finished.is_set() or self._reason is not None:
                return
            self._reason = reason
        if self.options.key is None:
            self.cancel()
        else:  # it can be submitted again, and goes on where it was
            self._stop_threads()
        if self._reader is not None and self._reader != threading.get_ident():
            self._read_to_end.wait(_READER_SECONDS)
        self._finish()

    def cancel(self) -> None:
        """Cancel the call at the gateway, unless it has ended. Never raises, never takes long."""
        if self._pid != os.getpid():
            return
        with self._lock:
            if self._cancelled or self._end is not None:
                return
            self._cancelled = True
            self._claimed = True  # who stands by stays there
        self.queue.stop()
        with contextlib.suppress(Exception):
            call_id = self._opening.find(CANCEL_SECONDS)
            if call_id is not None:
                _api.cancel(self._endpoint, call_id, CANCEL_SECONDS)
        self._stop_threads()

    def touch(self) -> None:
        """Tell the gateway that this client is alive though it does not read."""
        if self._stream is not None:
            with contextlib.suppress(Exception):
                _api.events(
                    self._endpoint, self.call_id or "", self._stream.last
                ).connection.close()

    def _wait(self) -> None:
        while not self.finished.wait(NOTICE_SECONDS):
            pass

    def _finish(self) -> None:
        self.finished.set()
        self._collector.finish()

    def _stop_threads(self) -> None:
        self.queue.stop()
        if self._stream is not None:
            self._stream.stop()
        if self._sender is not None:
            self._sender.stop()

    # Starting and sending.

    def _claims(self) -> bool:
        with self._lock:
            claimed, self._claimed = self._claimed, True
            return not claimed

    def _large(self, begun: float) -> bool:
        return (
            self.queue.waiting_bytes >= SMALL_BYTES
            or self.queue.full
            or time.monotonic() - begun > SMALL_SECONDS
        )

    def _begin(self) -> bool:
        """Create the call with the inputs that are there; True if those are all."""
        first, runs, whole = self.queue.take()
        body: list[Buffer] = [
            _wire.frame(_wire.SPEC, self.options.frame_body(not whole, self._used.copy())),
            _wire.frame(_wire.FUNCTION, self._function),
        ]
        if runs:
            body += _wire.inputs_parts(first, runs)
        if whole:
            body.append(_wire.number_frame(_wire.INPUTS_END, self.queue.count))
            self.display.total(self.queue.count)
        self._opened(self._opening.create(body))
        return whole

    def _opened(self, answer: Body) -> None:
        call_id = self.call_id or ""
        self._loader = Loader(self._endpoint, call_id, self._function, self.options.results)
        known = 0
        if self.options.spec.get("background"):
            # A call that was begun under this key before has inputs already.
            known = int(_api.read_object(answer).get("inputs") or 0)
        else:
            self._stream = Stream(self._endpoint, call_id, answer)
        self._sender = Sender(self._endpoint, call_id, self.queue, known)
        if self._cancelled:  # by another thread, just before the request went out
            self._stop_threads()
            with contextlib.suppress(Exception):
                _api.cancel(self._endpoint, call_id, CANCEL_SECONDS)

    def _send_standing_by(self, until: float) -> None:
        """The sender of a list: starts the call if the caller is still iterating at `until`."""
        if self.queue.wait(until, SMALL_BYTES) and self.queue.count and self._claims():
            self._start_sending()

    def _start_sending(self) -> None:
        whole = self._begin()
        self._in_thread(self._read)
        if not whole:
            self._send()

    def _send(self, again: bool = False) -> None:
        self._sending.clear()
        try:
            if self._sender is not None:
                self._sender.run(again)
        finally:
            self._sending.set()
        if self.options.spec.get("background"):
            self.queue.stop()
            self._finish()

    def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> None:
        """Run `work` in a thread of this session; what it raises ends the session."""
        # In the caller's context, which is where notebooks keep the cell that prints belong to.
        context = contextvars.copy_context()

        def guarded() -> None:
            try:
                context.run(work, *arguments)
            except BaseException as error:
                self.fail(error)

        threading.Thread(target=guarded, name="muster", daemon=True).start()

    # Reading: the sink of the stream.

    def _read(self) -> None:
        self._reader = threading.get_ident()
        try:
            ended = self._run_stream()
            while self._lost and not self._cancelled:
                self._submit_again()
                ended = self._run_stream()
        finally:
            try:
                self.display.close()
            finally:
                self._read_to_end.set()
        if not ended:
            self.cancel()
        self._stop_threads()
        self._finish()

    def _run_stream(self) -> bool:
        """Read to the end, or until the call is lost with its gateway."""
        stream = self._stream
        if stream is None:
            raise AssertionError("a call is read after it is opened")
        self._lost = False
        try:
            return stream.run(self)
        except CallNotFound:
            # The gateway was started anew, or has forgotten the call.
            self._lost = True
            return False

    def _submit_again(self) -> None:
        """Give the gateway that is there now what has no output yet; a sender of its own sends it."""
        lost, before = self.call_id, self._sender
        if before is not None:
            before.stop()
        self._sending.wait()
        print(
            f"muster: call {lost} was lost with its gateway; submitting again what has no output",
            file=sys.stderr,
        )
        body: list[Buffer] = [
            _wire.frame(_wire.SPEC, self.options.frame_body(True, self._used.copy())),
            _wire.frame(_wire.FUNCTION, self._function),
        ]
        self._opened(self._opening.again(body, lambda: self._cancelled))
        self._in_thread(self._send, True)

    def outputs(self, first: int, attempt: int, outputs: Outputs) -> None:
        if self.queue.kept is not None:
            self.queue.kept.done(first, len(outputs))
        self._came += len(outputs)
        self.display.ended(first, len(outputs))
        self._arrived.append((first, attempt, outputs))

    def printed(self, index: int, stream: int, data: bytes) -> None:
        self.display.printed(index, stream, data)

    def event(self, event: dict[str, Any]) -> None:
        kind = event.get("type")
        if kind == "progress":
            self.display.progress(event)
        elif kind == "receipt":
            self.display.receipt(event)
        elif kind == "end" and (event.get("error") or {}).get("code") == "stopping":
            self._lost = True
        elif kind == "end":
            self._end = event
            self.queue.stop()
        else:
            self.display.say(missing_events(event))

    def received(self, last: int) -> None:  # noqa: ARG002
        # Prints of an input are shown before its output is handed on.
        self.display.flush()
        arrived, self._arrived = self._arrived, []
        for first, attempt, outputs in arrived:
            if self._loader is not None and self._collector.add(
                self._loader, first, attempt, outputs
            ):
                self.queue.stop()
                self._stop_at = self._stop_at or time.monotonic() + _STOP_SECONDS

    def notice(self, line: str) -> None:
        self.display.say(line)

    def patience(self) -> float | None:
        if self._stop_at is not None:
            return max(
                min(self.display.patience or _STOP_SECONDS, self._stop_at - time.monotonic()), 0.0
            )
        return self.display.patience

    def tick(self) -> bool:
        if self.queue.closed:
            self.display.total(self.queue.count)
            self.display.flush()
        self.display.tick()
        return self._stop_at is None or time.monotonic() < self._stop_at
