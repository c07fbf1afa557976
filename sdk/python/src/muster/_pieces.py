"""Pickles in pieces.

A pickler that writes to a file hands it large bytes and buffers as they are. `pickle.dumps` copies them into memory
that it makes larger and larger, and then smaller.
"""

from __future__ import annotations

import pickle
from typing import Any, List, Union


class Pieces:
    """The file that a pickler writes to. Its length is in bytes."""

    def __init__(self) -> None:
        self.parts: List[Union[bytes, memoryview]] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def write(self, part: Any) -> None:
        """Takes what comes next."""
        if type(part) is pickle.PickleBuffer:
            part = part.raw()
        elif type(part) is not bytes:
            # A view of text that need not outlive this; or a bytearray, which may be made longer or shorter meanwhile.
            part = bytes(part)
        self.parts.append(part)
        self._size += len(part)


def dump(value: Any, protocol: int) -> Pieces:
    """The bytes of `pickle.dumps`. The value's own buffers are among them: it must not change before they are sent."""
    pieces = Pieces()
    pickle.Pickler(pieces, protocol).dump(value)
    return pieces
