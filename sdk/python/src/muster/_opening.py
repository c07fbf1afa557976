"""Creating a call, and finding out which one it was when that was interrupted."""

from __future__ import annotations

import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence

from . import _api, _http
from ._config import Endpoint
from ._errors import ApiError, TransportError
from ._http import Body, Buffer
from ._stream import LOST_SECONDS

_TRIES = 4
_PAUSE_SECONDS = 0.2
_LAST_PAUSE_SECONDS = 3.0
_PASSING = (408, 429, 502, 503, 504)


class Opening:
    """The first request of one call; sent again under the same key as often as it takes, so that one call is made."""

    def __init__(self, endpoint: Endpoint, key: str | None = None) -> None:
        self.call_id: str | None = None
        self._endpoint = endpoint
        self._key = key or uuid.uuid4().hex
        self._body: Sequence[Buffer] | None = None
        self._thread: int | None = None
        self._answered = threading.Event()

    def again(self, body: Sequence[Buffer], stopped: Callable[[], bool]) -> Body:
        """Create the call anew, under the same key, with a gateway that may only be starting, and have no hosts yet."""
        give_up = time.monotonic() + LOST_SECONDS
        pause = _PAUSE_SECONDS
        while True:
            try:
                return self.create(body)
            except (TransportError, ApiError) as error:
                passing = not isinstance(error, ApiError) or error.status in _PASSING
                if not passing or stopped() or time.monotonic() > give_up:
                    raise
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, _LAST_PAUSE_SECONDS)

    def create(self, body: Sequence[Buffer]) -> Body:
        """Create the call; the answer's head has come. `ApiError` or `TransportError`."""
        self._body = body
        self._thread = threading.get_ident()
        try:
            answer = self._create(body)
            self.call_id = answer.call_id
            if self.call_id is None:
                answer.connection.close()
                raise TransportError(f"{self._endpoint.url} answers, but is no Muster gateway")
        except Exception:
            self._body = None
            raise
        finally:
            self._answered.set()
        self._body = None
        return answer

    def find(self, seconds: float) -> str | None:
        """The id of the call that was made, or perhaps made; None if there is none. From any thread."""
        if (
            self.call_id is None
            and self._body is not None
            and self._thread != threading.get_ident()
        ):
            self._answered.wait(seconds)
        if self.call_id is None and self._body is not None:
            # Interrupted before the answer: the same request under the same key gets the same call.
            answer = _api.create(self._endpoint, self._key, self._body, seconds)
            self.call_id = answer.call_id
            answer.connection.close()
        return self.call_id

    def _create(self, body: Sequence[Buffer]) -> Body:
        for left in reversed(range(_TRIES)):
            try:
                return _api.create(self._endpoint, self._key, body, _http.REQUEST_SECONDS)
            except TransportError as error:
                # Nobody there is an answer; a connection that broke is not.
                if not left or isinstance(
                    error.__cause__, (ConnectionRefusedError, socket.gaierror)
                ):
                    raise
            except ApiError as error:
                if not left or error.status not in _PASSING or error.code == "no_hosts":
                    raise
            time.sleep(_PAUSE_SECONDS * (_TRIES - left))
        raise AssertionError("the last try returns or raises")
