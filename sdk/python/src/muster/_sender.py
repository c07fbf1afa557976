"""Appends inputs to a call, as they come out of the queue."""

from __future__ import annotations

import threading
import time

from . import _api, _wire
from ._config import Endpoint
from ._errors import ApiError, TransportError
from ._http import REQUEST_SECONDS, Buffer, Connection
from ._upload import Queue

# How long to try to get one request through.
LOST_SECONDS = 60.0
_FIRST_PAUSE_SECONDS = 0.1
_LAST_PAUSE_SECONDS = 3.0

# The call needs no more inputs; its events say why.
_OVER = ("call_ended", "inputs_closed")


class Sender:
    """Sends what is in the queue over a connection of its own until the last input, or until the call is over.

    Inputs are numbered, and the gateway ignores those it has: so a request whose answer was lost is sent again.
    """

    def __init__(self, endpoint: Endpoint, call_id: str, queue: Queue) -> None:
        self._endpoint = endpoint
        self._call_id = call_id
        self._queue = queue
        self._stopped = threading.Event()
        self._connection: Connection | None = None

    def run(self) -> None:
        """Send to the end. `ApiError` if the gateway refuses, `TransportError` if it is lost."""
        try:
            while self._queue.wait():
                first, runs, last = self._queue.take()
                body: list[Buffer] = _wire.inputs_parts(first, runs) if runs else []
                if last:
                    body.append(_wire.number_frame(_wire.INPUTS_END, self._queue.count))
                if not self._append(body) or last:
                    break
        finally:
            if self._connection is not None:
                self._connection.close()

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
                    self._queue.stop()
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
                self._stopped.wait(pause)
                pause = min(pause * 2, _LAST_PAUSE_SECONDS)
        return False
