"""`MUSTER_INPUT_INDEX`, which every input finds in its environment; kept right without work for each input.

There are two environments. Python's own, `os.environ`, is asked for the variable rarely, so it looks the number up on
the shared page when it is asked. C's, which child processes inherit, is bytes in memory: of an index only the last
digit is written, and the whole of it when the others change.
"""

from __future__ import annotations

import os
from itertools import cycle
from typing import Any, Callable, Dict, Iterator, Optional

from ._channel import INDEX

NAME = "MUSTER_INPUT_INDEX"
_KEY = NAME.encode()
ZERO = ord("0")


def digits(first: int) -> Iterator[int]:
    """The last digits of `first` and the numbers after it, as bytes."""
    at = first % 10
    return cycle(b"0123456789"[at:] + b"0123456789"[:at])


class IndexVariable:
    """The variable; `text` is where C's environment has it, or None where it can only be set through `os.putenv`."""

    def __init__(self, words: Any, text: Optional[memoryview]) -> None:
        self.text = text
        self.last_digit = 0
        """The position in `text` of the last digit of what was set."""
        self._words = words
        variables = _Variables(os.environ._data)  # type: ignore[attr-defined]
        variables[_KEY] = b""
        variables.read_index = self._read
        os.environ._data = os.environb._data = variables  # type: ignore[attr-defined]
        # The page goes on to the next input while a child still runs this one.
        self._at_fork = b""
        os.register_at_fork(before=self._note, after_in_child=self._freeze)
        self._variables = variables

    def set(self, index: int) -> None:
        """Writes all of it where C looks."""
        digits = b"%d" % index
        if self.text is None:
            os.putenv(NAME, digits.decode())
        else:
            self.text[:] = digits.ljust(len(self.text), b"\0")
        self.last_digit = len(digits) - 1

    def _read(self) -> bytes:
        return b"%d" % self._words[INDEX]

    def _note(self) -> None:
        self._at_fork = self._read()

    def _freeze(self) -> None:
        at_fork = self._at_fork
        self._variables.read_index = lambda: at_fork


class _Variables(Dict[bytes, bytes]):
    """What `os.environ` keeps its variables in."""

    read_index: Callable[[], bytes]

    def __getitem__(self, key: bytes) -> bytes:
        return self.read_index() if key == _KEY and key in self else super().__getitem__(key)
