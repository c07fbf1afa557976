"""A call's events, read to the end: in order, each once, over as many connections as it takes.

Every event has a number (`seq`). When the connection breaks, or is silent for 30 s although the gateway sends something
at least every 10 s, the stream is opened again after the last number seen, and what comes twice is skipped.
"""

from __future__ import annotations

import json
import random
import threading
import time
from typing import Any, Protocol

from . import _api, _wire
from ._config import Endpoint
from ._errors import ApiError, TransportError
from ._http import Body

SILENCE_SECONDS = 30.0
# Waits in the caller's thread are at most this long at a time: CPython overlooks a signal that comes just before a
# blocking call until that call is over.
NOTICE_SECONDS = 1.0
# How long to try to reach the gateway again before the call is given up: a gateway lets a call that nobody reads go on
# for as long (`--grace`). And when the user is told.
LOST_SECONDS = 300.0
_TOLD_SECONDS = 5.0
_LINE_BYTES = 64
_FIRST_PAUSE_SECONDS = 0.05
_LAST_PAUSE_SECONDS = 3.0


class Sink(Protocol):
    """Takes a call's events."""

    def outputs(self, first: int, attempt: int, outputs: _wire.Outputs) -> None:
        """Inputs `first ...` have ended with these (status, item)."""

    def printed(self, index: int, stream: int, data: bytes) -> None:
        """Input `index` printed `data`."""

    def event(self, event: dict[str, Any]) -> None:
        """Any other event; after `end` nothing comes."""

    def received(self, last: int) -> None:
        """All that arrived together was handed over; `last` is the number of the last event."""

    def notice(self, line: str) -> None:
        """Tell the user this."""

    def patience(self) -> float | None:
        """Seconds until the sink wants its `tick`; None if it wants none."""

    def tick(self) -> bool:
        """Called when that time is over: False to stop reading."""


class _Lost(Exception):
    """The connection is of no use any more; another may be."""


class Stream:
    """Reads the events of one call into a sink, in the thread that calls `run`.

    It does not hold the sink, which may well hold it: what a call leaves behind is free at once when nobody wants it.
    """

    def __init__(self, endpoint: Endpoint, call_id: str, body: Body | None = None) -> None:
        self.last = 0
        self._endpoint = endpoint
        self._call_id = call_id
        self._body = body
        self._stopped = threading.Event()

    def run(self, sink: Sink) -> bool:
        """Read until `end`: True. False if stopped before. `TransportError` if the gateway is lost for good."""
        lost_since: float | None = None
        told = False
        pause = _FIRST_PAUSE_SECONDS
        while not self._stopped.is_set():
            before = self.last
            try:
                body = self._body = self._body or self._open()
                if self._stopped.is_set():
                    break
                ended = self._read(sink, body)
            except _Lost as error:
                self._hang_up()
                if self._stopped.is_set():
                    break
                now = time.monotonic()
                if self.last != before or lost_since is None:
                    lost_since, told, pause = now, False, _FIRST_PAUSE_SECONDS
                if now - lost_since > LOST_SECONDS:
                    raise TransportError(
                        f"call {self._call_id} was lost: {error}. It may still run: muster.Call({self._call_id!r})"
                    ) from error
                if now - lost_since > _TOLD_SECONDS and not told:
                    told = True
                    sink.notice(
                        f"muster: {self._endpoint.url} cannot be reached; trying again for up to "
                        f"{LOST_SECONDS / 60:.0f} minutes"
                    )
                if not self._wait(sink, pause * random.uniform(0.5, 1.0)):
                    break
                pause = min(pause * 2, _LAST_PAUSE_SECONDS)
            except BaseException:
                self._hang_up()
                raise
            else:
                self._body = None
                if ended:
                    body.connection.release()
                else:
                    body.connection.close()
                return ended
        self._hang_up()
        return False

    def stop(self) -> None:
        """Make `run` return soon; from any thread."""
        self._stopped.set()
        body = self._body
        if body is not None:
            body.connection.abort()

    def _wait(self, sink: Sink, seconds: float) -> bool:
        """Wait between two tries; False where the sink wants no more."""
        until = time.monotonic() + seconds
        while not self._stopped.is_set():
            if not sink.tick():
                return False
            left = until - time.monotonic()
            if left <= 0:
                return True
            patience = sink.patience()
            self._stopped.wait(min(left, NOTICE_SECONDS if patience is None else patience))
        return False

    def _open(self) -> Body:
        try:
            return _api.events(self._endpoint, self._call_id, self.last)
        except TransportError as error:
            raise _Lost(str(error)) from error
        except ApiError as error:
            if error.status < 500 and error.status not in (408, 429):
                raise
            raise _Lost(str(error)) from error

    def _hang_up(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.connection.close()

    def _read(self, sink: Sink, body: Body) -> bool:
        decoder = _wire.Decoder()
        heard = time.monotonic()
        while True:
            patience = sink.patience()
            silence = heard + SILENCE_SECONDS - time.monotonic()
            wanted = min(silence, NOTICE_SECONDS if patience is None else patience)
            try:
                came = _receive(body, decoder, max(wanted, 0.001))
            except (OSError, TransportError) as error:
                raise _Lost(str(error)) from error
            if came is None:
                if not sink.tick():
                    return False
                if time.monotonic() - heard >= SILENCE_SECONDS:
                    raise _Lost(f"the gateway was silent for {SILENCE_SECONDS:.0f} seconds")
                continue
            if not came:
                raise _Lost("the gateway ended the stream of events before the call's end")
            ended = False
            try:
                for kind, seq, content in decoder:
                    ended = self._handle(sink, kind, seq, content)
                    # A view of a body that is kept costs the next one memory of its own.
                    content = b""
                    if ended:
                        break
            except _wire.WireError as error:
                raise TransportError(f"the gateway broke the protocol: {error}") from error
            sink.received(self.last)
            if ended:
                return True
            heard = time.monotonic()
            if not sink.tick():
                return False

    def _handle(self, sink: Sink, kind: int, seq: int, content: _wire.Item) -> bool:
        """Hand one frame over, unless it was; True at the end of the call."""
        if kind == _wire.OUTPUTS:
            first, attempt, outputs = _wire.read_outputs(content)
            known = self.last - seq + 1
            if known >= len(outputs):
                return False
            if known > 0:
                first, outputs = first + known, outputs.after(known)
            sink.outputs(first, attempt, outputs)
            self.last += len(outputs) if known > 0 else seq - 1 - self.last + len(outputs)
            return False
        content = bytes(content)
        if kind == _wire.PRINT:
            if seq > self.last:
                index, _attempt, stream, data = _wire.decode_print(content)
                sink.printed(index, stream, data)
                self.last = seq
            return False
        if kind == _wire.EVENT:
            event = json.loads(content)
            if event.get("type") == "progress":
                sink.event(event)
            elif seq > self.last:
                sink.event(event)
                self.last = seq
                return bool(event.get("type") == "end")
        return False


def _receive(body: Body, decoder: _wire.Decoder, seconds: float) -> bool | None:
    """Feed the decoder; False at the end of the body, None if nothing came within `seconds`."""
    room = decoder.room()
    if room is None:
        data = body.read(seconds)
    else:
        count = body.read_into(room, seconds)
        if count is None:
            return None
        if count:
            decoder.wrote(count)
            return True
        # The line between two chunks; what comes with it is copied.
        data = body.read(seconds, _LINE_BYTES)
    if data is None:
        return None
    decoder.push(data)
    return len(data) > 0
