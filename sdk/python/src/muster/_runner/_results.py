"""The records of a batch on the shared page, until they are sent (PROTOCOL.md, 6.2 and 6.3).

What is there survives a crash of this process. Results that follow one another in one length, with nothing printed
between them, share one record: a run. The last run is open while it grows, so that one word written, PENDING_LEN,
adds a result.
"""

from __future__ import annotations

import json
import struct
import time
from typing import Any, Tuple, Union

from .. import _numbers, _wire
from .._pieces import Pieces
from ._channel import PAGE_BYTES, PENDING, PENDING_LEN, Channel

SEND_AFTER = 0.005
"""Seconds after the last sending from which the end of an input sends what is pending."""
NO_COLUMN = memoryview(bytearray()).cast("q")
"""A column without room."""
_COLUMN = 4096
"""How many numbers are made ready at once; and how many inputs must be left to make it worth while."""
_LEFT = 8
_COUNT = struct.Struct("<I")
_COUNT_AT = 24


class Results:
    """The records of one batch. `at` is where the next byte goes; `large`, whether one did not fit into the page."""

    def __init__(self, channel: Channel) -> None:
        self.at = PENDING
        self.sent = time.monotonic()
        self.large = False
        self._channel = channel
        self._page = channel.page
        self._run = 0
        self._like: Tuple[int, int, int, int] = (0, 0, 0, 0)

    def add(
        self, index: int, out_end: int, err_end: int, status: int, item: Union[bytes, Pieces]
    ) -> None:
        """The next result; in pieces only if it is larger than the page."""
        size = len(item)
        if size > _wire.MAX_ITEM:
            status, item = _wire.FAILURE, _too_large(size)
            size = len(item)
        like = (out_end, err_end, status, size)
        if not self._run or like != self._like or self.at + size > PAGE_BYTES:
            self._close()
            if self.at + _wire.RECORD.size + size > PAGE_BYTES:
                self.send()
            if self.at + _wire.RECORD.size + size > PAGE_BYTES:
                self.large = True
                self._channel.send_record(index, out_end, err_end, status, item)
                return
            if size:
                self._run, self._like = self.at, like
            count = 0 if size else 1
            _wire.RECORD.pack_into(
                self._page, self.at, index, out_end, err_end, count, size, status
            )
            self.at += _wire.RECORD.size
        self._page[self.at : self.at + size] = item  # type: ignore[assignment]
        self.at += size
        self._channel.words[PENDING_LEN] = self.at - PENDING

    def column(self, left: int) -> memoryview:
        """Where the ints after the one just added may be written, each as one number; every other word is one.

        Whoever writes one moves `at` and PENDING_LEN.
        """
        count = min((PAGE_BYTES - self.at) // _numbers.SIZE, left, _COLUMN)
        if left < _LEFT or count <= 0 or self._like[3] != _numbers.SIZE:
            return NO_COLUMN
        end = self.at + count * _numbers.SIZE
        self._page[self.at : end] = _numbers.INT * count
        return _numbers.words(self._channel.view[self.at : end])

    def send(self) -> None:
        """Sends what is there."""
        self._close()
        self._channel.send_pending(self.at)
        self.at = PENDING
        self.sent = time.monotonic()

    def _close(self) -> None:
        """The open run, if there is one, gets its count."""
        if self._run:
            count = (self.at - self._run - _wire.RECORD.size) // self._like[3]
            _COUNT.pack_into(self._page, self._run + _COUNT_AT, count)
            self._run = 0


def number_item(value: Any, dumps: Any) -> bytes:
    """The pickle of an int or float."""
    try:
        return _numbers.item(value)
    except struct.error:  # an int of more than 64 bits
        return dumps(value, 5)  # type: ignore[no-any-return]


def _too_large(size: int) -> bytes:
    failure = {
        "code": "too_large",
        "message": f"the output is {size} bytes, and one output may have {_wire.MAX_ITEM}",
        "limit_bytes": _wire.MAX_ITEM,
        "size_bytes": size,
    }
    return json.dumps(failure).encode()
