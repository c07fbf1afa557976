"""Following a call that runs without this process: its events from the first on, into a sink, to the end."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from ._collect import Listed, Queued
from ._config import Endpoint
from ._lines import Lines
from ._outcome import Loader, call_error, missing_events
from ._stream import Stream
from ._wire import Outputs


class Ended:
    """A sink that waits for the end."""

    def __init__(self) -> None:
        self.end: dict[str, Any] = {}
        self._deadline: float | None = None

    def until(self, deadline: float | None) -> None:
        """Stop reading at this monotonic time."""
        self._deadline = deadline

    def outputs(self, first: int, attempt: int, outputs: Outputs) -> None:
        pass

    def printed(self, index: int, stream: int, data: bytes) -> None:
        pass

    def event(self, event: dict[str, Any]) -> None:
        if event.get("type") == "end":
            self.end = event

    def received(self, last: int) -> None:
        pass

    def notice(self, line: str) -> None:
        print(line, file=sys.stderr)

    def patience(self) -> float | None:
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    def tick(self) -> bool:
        return self._deadline is None or time.monotonic() < self._deadline


class Into(Ended):
    """A sink that collects outputs."""

    def __init__(self, loader: Loader, collector: Listed | Queued) -> None:
        super().__init__()
        self.came = 0
        self._loader = loader
        self._collector = collector

    def outputs(self, first: int, attempt: int, outputs: Outputs) -> None:
        self.came += len(outputs)
        self._collector.add(self._loader, first, attempt, outputs)


class Logged(Ended):
    """A sink that keeps prints, up to the event `last`."""

    def __init__(self, index: int | None, stream: int | None, last: int) -> None:
        super().__init__()
        self._index = index
        self._stream = stream
        self._last = last
        self._reached = False
        self._lines = Lines()
        self._parts: list[bytes] = []

    def printed(self, index: int, stream: int, data: bytes) -> None:
        if self._index in (None, index) and self._stream in (None, stream):
            self._parts += [data for _, data in self._lines.feed(index, stream, data)]

    def event(self, event: dict[str, Any]) -> None:
        super().event(event)
        missing = missing_events(event)
        if missing:
            self._parts += [data for _, data in self._lines.end()]
            self._parts.append(f"{missing}\n".encode())

    def received(self, last: int) -> None:
        self._reached = last >= self._last

    def tick(self) -> bool:
        return not self._reached

    def text(self) -> str:
        """What was printed."""
        self._parts += [data for _, data in self._lines.end()]
        return b"".join(self._parts).decode("utf-8", "replace")


def follow(endpoint: Endpoint, call_id: str, sink: Ended, timeout: float | None) -> dict[str, Any]:
    """Read a call's events into `sink`, to the end event, which is returned; `TimeoutError` after `timeout` seconds."""
    sink.until(None if timeout is None else time.monotonic() + timeout)
    ended = Stream(endpoint, call_id).run(sink)
    if not ended and timeout is not None:
        raise TimeoutError(f"call {call_id} has not ended within {timeout:g} seconds")
    return sink.end


def as_they_come(
    endpoint: Endpoint, loader: Loader, timeout: float | None, return_exceptions: bool
) -> Iterator[tuple[int, Any]]:
    """Outputs with their indexes, as they are produced; a thread reads them, not too far ahead of the consumer."""
    queued = Queued()
    sink = Into(loader, queued)
    stream = Stream(endpoint, loader.call_id)
    problems: list[BaseException] = []

    def read() -> None:
        try:
            sink.until(None if timeout is None else time.monotonic() + timeout)
            if not stream.run(sink):
                problems.append(
                    TimeoutError(f"call {loader.call_id} has not ended within {timeout} seconds")
                )
        except BaseException as error:
            problems.append(error)
        finally:
            queued.finish()

    threading.Thread(target=read, name="muster", daemon=True).start()
    try:
        for first, values, failed in queued.batches():
            for position, value in enumerate(values):
                if not return_exceptions and position in failed:
                    raise value
                yield first + position, value
        problem = problems[0] if problems else call_error(sink.end, loader.call_id, sink.came)
        if problem is not None:
            raise problem
    finally:
        queued.abandon()
        stream.stop()
