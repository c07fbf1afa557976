"""A batch as it came: where its inputs are."""

from __future__ import annotations

import struct
from itertools import accumulate
from typing import Any, List, Optional

from .. import _numbers, _wire

_VIEW_FROM = 1 << 20
"""Bytes of a batch from which its inputs are unpickled in place rather than from a copy."""
_NUMBERS_FROM = 8
"""Inputs of a batch from which it is worth looking whether all are numbers."""


class Batch:
    """Inputs `first .. first + count`: as `numbers`, if all are, else input n is `view[ends[n] : ends[n + 1]]`."""

    def __init__(self, body: _wire.Item, is_pickle: bool) -> None:
        self.first, _, self.count = _wire.BATCH.unpack_from(body)
        self.numbers: Optional[List[Any]] = None
        self.ends: List[int] = []
        # JSON is read from bytes.
        self.view: Any = body if is_pickle else bytes(body)
        start = _wire.BATCH.size + 4 * self.count
        lengths = bytes(body[_wire.BATCH.size : start])
        if is_pickle and self.count >= _NUMBERS_FROM and lengths == _numbers.LENGTH * self.count:
            self.numbers = _numbers.unpack(memoryview(body)[start:], self.count)
        if self.numbers is None:
            self.ends = list(accumulate(struct.unpack(f"<{self.count}I", lengths), initial=start))
            if is_pickle and len(body) > _VIEW_FROM:
                self.view = memoryview(body)
