"""The loop over numbers whose outputs are ints, while nobody writes: what is left of `_loop` where every step counts.

It does exactly what that loop does for such inputs, and ends at the first that is unlike them. A sprint starts where a
column is open on the page (`_results`) and a write would ring (`_watch`). It never looks at the clock: whoever starts
one says how long it may be; an output that an unforeseen slow input holds up is found on the page by the agent.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Callable, List, Optional, Tuple

from .._numbers import SIZE
from ._channel import INDEX, PENDING, PENDING_LEN
from ._index import ZERO, IndexVariable, digits
from ._streams import Streams

_LONGEST = 1024
_SHORT = 0.0006
"""Seconds up to which a sprint may be followed by a longer one."""


class Sprint:
    """The sprints of one batch."""

    def __init__(
        self,
        function: Callable[[Any], Any],
        numbers: List[Any],
        words: Any,
        variable: IndexVariable,
        streams: Streams,
        forked: List[bool],
    ) -> None:
        self.has_run = False
        """Whether the input after the last one stored has run too; then it is `end` that says what came of it."""
        self._value: Any = None
        self._error: Optional[BaseException] = None
        self._length = 16
        self._function = function
        self._numbers = numbers
        self._words = words
        self._variable = variable
        self._streams = streams
        self._forked = forked

    def run(self, position: int, index: int, column: memoryview, slot: int, at: int) -> int:
        """Runs some of the inputs from `position` on, the first of them `index`, and stores their outputs.

        The first goes to `column[slot]`, which is `at` on the page. Returns how many are stored.
        """
        began = time.monotonic()
        stored = self._run(position, index, column, slot, at)
        took = time.monotonic() - began
        self._length = (
            min(2 * self._length, _LONGEST) if took < _SHORT else max(1, self._length // 8)
        )
        return stored

    def end(self) -> Tuple[Any, Optional[BaseException]]:
        """What the input after the last one stored returned, or raised. To be asked once."""
        value, error = self._value, self._error
        self._value = self._error = None
        return value, error

    def _run(self, position: int, index: int, column: memoryview, slot: int, at: int) -> int:
        function, words, variable = self._function, self._words, self._variable
        rang, forked = self._streams.watch.rang, self._forked
        text: Any = variable.text
        last_digit = variable.last_digit
        out, err = self._streams.out, self._streams.err
        flush_out, flush_err = out.flush, err.flush
        inputs = zip(
            self._numbers[position : position + self._length],
            range(index, index + self._length),
            digits(index),
            range(slot, len(column), 2),
            range(at + SIZE - PENDING, sys.maxsize, SIZE),
        )
        first, self.has_run = index, False
        for number, index, digit, slot, pending in inputs:  # noqa: B007
            words[INDEX] = index
            if digit == ZERO:
                variable.set(index)
                last_digit = variable.last_digit
            else:
                text[last_digit] = digit
            try:
                value = function(number)
            except BaseException as error:
                self._error = error
                break
            try:
                flush_out()
                flush_err()
                if (
                    rang
                    or type(value) is not int
                    or forked
                    or sys.stdout is not out
                    or sys.stderr is not err
                ):
                    self._value = value
                    break
                column[slot] = value
            except Exception:  # a stream is closed, or the value has more than 64 bits
                self._value = value
                break
            words[PENDING_LEN] = pending
        else:
            return index - first + 1
        self.has_run = True
        return index - first
