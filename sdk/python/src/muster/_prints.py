"""Prints of a call, written to this process's `sys.stdout` and `sys.stderr` as they are at that moment.

Bytes go to the stream's `buffer` where it has one, exactly as they were printed; writers of text only (`StringIO`,
notebooks) get them decoded as UTF-8. What arrived together is written together.
"""

from __future__ import annotations

import codecs
import sys
from typing import Any

from . import _screen
from ._lines import STDERR, STDOUT, Lines


class Prints:
    """What one call prints here. Used by the one thread that reads the call's events."""

    def __init__(self) -> None:
        self._lines = Lines()
        self._ready: list[tuple[int, bytes]] = []
        self._decoders: dict[int, codecs.IncrementalDecoder] = {}

    def feed(self, index: int, stream: int, data: bytes) -> None:
        """Input `index` printed `data`; it is written by the next `flush` if its line is complete."""
        self._ready += self._lines.feed(index, stream, data)

    def ended(self, first: int, count: int) -> None:
        """Inputs `first .. first+count` have ended."""
        self._ready += self._lines.ended(first, count)

    def total(self, total: int) -> None:
        """The call has `total` inputs."""
        self._ready += self._lines.total(total)

    def flush(self) -> None:
        """Write what is ready. Raises what `print` would raise, for example `BrokenPipeError`."""
        if not self._ready:
            return
        ready, self._ready = self._ready, []
        run: list[bytes] = []
        stream = ready[0][0]
        for next_stream, data in ready:
            if next_stream != stream:
                self._write(stream, b"".join(run))
                stream, run = next_stream, []
            run.append(data)
        self._write(stream, b"".join(run))

    def end(self) -> None:
        """The call has ended: write all that is left."""
        self._ready += self._lines.end()
        self.flush()
        for stream, decoder in self._decoders.items():
            rest = decoder.decode(b"", final=True)
            if rest:
                self._write_text(_target(stream), rest)
        self._decoders.clear()

    def _write(self, stream: int, data: bytes) -> None:
        target = _target(stream)
        if target is None or not data:
            return
        with _screen.printing(target, ends_line=data.endswith(b"\n")):
            buffer = getattr(target, "buffer", None)
            if buffer is None:
                decoder = self._decoders.get(stream)
                if decoder is None:
                    decoder = codecs.getincrementaldecoder("utf-8")("replace")
                    self._decoders[stream] = decoder
                self._write_text(target, decoder.decode(data))
                return
            target.flush()  # what the user printed before comes before
            view = memoryview(data)
            while view:
                # Raw streams (`python -u`) may take less than they are given.
                written = buffer.write(view)
                view = view[len(view) if written is None else written :]
            buffer.flush()

    def _write_text(self, target: Any, text: str) -> None:
        if target is None or not text:
            return
        target.write(text)
        flush = getattr(target, "flush", None)
        if flush is not None:
            flush()


def _target(stream: int) -> Any:
    return {STDOUT: sys.stdout, STDERR: sys.stderr}.get(stream)
