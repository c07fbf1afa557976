"""Appends inputs to a call, as they come out of the queue."""

from __future__ import annotations

import random
import threading
import time

from . import _api, _wire
from ._config import Endpoint
from ._errors import ApiError, TransportError
from ._http import REQUEST_SECONDS, Buffer, Connection
from ._kept import Kept
from ._stream import LOST_SECONDS
from ._upload import REQUEST_BYTES, Queue

# How many small frames go into one request.
_FRAMES = 1000
_FIRST_PAUSE_SECONDS = 0.1
_LAST_PAUSE_SECONDS = 3.0

# The call needs no more inputs, or there is no such call any more; who reads its events learns why.
_OVER = ("call_ended", "inputs_closed", "unknown_call")


class Sender:
    """Sends what is in the queue over a connection of its own until the last input, or until the call is over.

    Inputs are numbered, and the gateway ignores those it has: so a request whose answer was lost is sent again.
    """

    def __init__(self, endpoint: Endpoint, call_id: str, queue: Queue, known: int = 0) -> None:
        """The gateway has the first `known` inputs: what lies wholly among them is not sent."""
        self._known = known
        self._endpoint = endpoint
        self._call_id = call_id
        self._queue = queue
        self._stopped = threading.Event()
        self._connection: Connection | None = None

    def run(self, again: bool = False) -> None:
        """Send to the end, with `again` from the first input on: those that were sent before and have no output.

        `ApiError` if the gateway refuses, `TransportError` if it is lost.
        """
        kept = self._queue.kept
        try:
            if again and kept is not None and not self._send_again(kept):
                return
            while self._queue.wait():
                if kept is not None:
                    kept.wait(lambda: self._stopped.is_set() or self._queue.stopped)
                first, runs, last = self._queue.take()
                end = first + sum(run.number for run in runs)
                body: list[Buffer] = _wire.inputs_parts(first, runs) if end > self._known else []
                if last:
                    body.append(_wire.number_frame(_wire.INPUTS_END, self._queue.count))
                if (body and not self._append(body)) or last:
                    break
        finally:
            if self._connection is not None:
                self._connection.close()

    def _send_again(self, kept: Kept) -> bool:
        """Send what was sent to a gateway that is gone; False if the call takes no more."""
        body: list[Buffer] = []
        size = 0
        for first, count, runs in kept.missing():
            body += _wire.inputs_parts(first, runs) if runs else [_wire.skip_frame(first, count)]
            size += sum(run.size for run in runs)
            if size >= REQUEST_BYTES or len(body) >= _FRAMES:
                if not self._append(body):
                    return False
                body, size = [], 0
        closed = self._queue.closed and kept.count == self._queue.count
        if closed:
            body.append(_wire.number_frame(_wire.INPUTS_END, kept.count))
        return (not body or self._append(body)) and not closed

    def stop(self) -> None:
        """Make `run` return soon; from any thread."""
        self._stopped.set()
        if self._connection is not None:
            self._connection.abort()

    def _append(self, body: list[Buffer]) -> bool:
        """Send one request; False if the call takes no more."""
        give_up = time.monotonic() + LOST_SECONDS
        pause = _FIRST_PAUSE_SECONDS
        while not self._stopped.is_set():
            if self._connection is None:
                self._connection = Connection(self._endpoint)
            try:
                answer = _api.append(self._endpoint, self._call_id, body, self._connection)
                answer.read_all(REQUEST_SECONDS)
                if not self._connection.ready():
                    self._connection.close()
                    self._connection = None
                return True
            except (OSError, TransportError, ApiError) as error:
                self._connection = None
                if self._stopped.is_set() or (isinstance(error, ApiError) and error.code in _OVER):
                    return False
                passing = (
                    not isinstance(error, ApiError)
                    or error.status >= 500
                    or error.status in (408, 429)
                )
                if not passing or time.monotonic() > give_up:
                    raise
                # A slow answer is no loss: the time counts from the first failure in a row.
                give_up = max(give_up, time.monotonic() + pause)
                self._stopped.wait(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, _LAST_PAUSE_SECONDS)
        return False
