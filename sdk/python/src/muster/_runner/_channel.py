"""The data channel and the shared page (PROTOCOL.md 6.1 to 6.3)."""

from __future__ import annotations

import fcntl
import io
import json
import mmap
import os
import sys
from contextlib import suppress
from typing import List, Optional, Tuple, Union

from .._pieces import Pieces
from .._wire import HEADER, HELLO, INPUTS, MAX_FRAME, RECORD, RESULTS, Buffer, Item, Reused

PAGE_BYTES = 1 << 20
PENDING = 4096
# Offsets of the page's words, in words.
READ_SEQ = 0
STATE_SEQ, INDEX, OUT_START, ERR_START, RUNNING = 8, 9, 10, 11, 12
PENDING_EPOCH, PENDING_LEN = 13, 14
_LARGE = 1 << 20
"""Batches of so many bytes are read into memory that is used again."""

_HIGH = 500
"""Descriptors of ours are moved to this number or above, out of the way of code that closes 3 to 255."""


def move_high(descriptor: int, close: bool = True) -> int:
    """The same descriptor under a high number that children do not inherit."""
    try:
        moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    except OSError:  # the limit on open files is lower than that
        moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    if close:
        os.close(descriptor)
    return moved


class Channel:
    """Frames in and out, and the page. All records go out in the order they were added."""

    def __init__(self, channel: int, page: int) -> None:
        self._fd = move_high(channel)
        os.set_blocking(self._fd, True)
        self._reader = io.BufferedReader(io.FileIO(self._fd, "rb", closefd=False), 1 << 18)
        self.page = mmap.mmap(page, PAGE_BYTES)
        os.close(page)
        self._reused = Reused()
        self.view = memoryview(self.page)
        self.words = self.view[:PENDING].cast("Q")
        # A forked child must not be able to speak for its parent.
        os.register_at_fork(after_in_child=self._close_in_child)

    def _close_in_child(self) -> None:
        with suppress(OSError):
            os.close(self._fd)

    def hello(self) -> None:
        """Says that this runner is there."""
        python = f"{sys.version_info[0]}.{sys.version_info[1]}"
        body = json.dumps({"role": "python", "version": 1, "python": python}).encode()
        self._write([HEADER.pack(len(body), HELLO, 0), body])

    def next_frame(self) -> Optional[Tuple[int, Item]]:
        """The next frame as (kind, body); None at the end of the channel. A large batch is a view."""
        head = self._reader.read(HEADER.size)
        if len(head) < HEADER.size:
            return None
        length, kind, _ = HEADER.unpack(head)
        if length > MAX_FRAME:
            return None
        if kind == INPUTS and length >= _LARGE:
            room = self._reused.view(length)
            return (kind, room) if self._reader.readinto(room) == length else None
        body = self._reader.read(length)
        return (kind, body) if len(body) == length else None

    # The page

    def set_running(self, index: int, out_start: int, err_start: int, running: int) -> None:
        """Writes the four words that say which input runs, under their sequence number."""
        words = self.words
        words[STATE_SEQ] += 1
        words[INDEX] = index
        words[OUT_START] = out_start
        words[ERR_START] = err_start
        words[RUNNING] = running
        words[STATE_SEQ] += 1

    # Results

    def send_pending(self, end: int) -> None:
        """Sends the records that lie in pending up to `end`, and empties it."""
        if end > PENDING:
            # The frame's header goes right before the records, so that all is one write.
            start = PENDING - HEADER.size
            HEADER.pack_into(self.page, start, end - PENDING, RESULTS, 0)
            self._write([self.view[start:end]])
            # In this order: a reader that sees the old length must see the epoch change before the bytes do.
            self.words[PENDING_LEN] = 0
            self.words[PENDING_EPOCH] += 1

    def send_record(
        self, index: int, out_end: int, err_end: int, status: int, item: Union[bytes, Pieces]
    ) -> None:
        """Sends one record that does not fit into pending; what is pending must have been sent."""
        head = RECORD.pack(index, out_end, err_end, 1, len(item), status)
        parts = item.parts if isinstance(item, Pieces) else [item]
        self._write([HEADER.pack(len(head) + len(item), RESULTS, 0) + head, *parts])

    def _write(self, parts: List[Buffer]) -> None:
        """Writes all of it. An agent that is gone ends this process."""
        try:
            for part in parts:
                view = memoryview(part)
                while len(view):
                    view = view[os.write(self._fd, view) :]
        except OSError:
            os._exit(1)
