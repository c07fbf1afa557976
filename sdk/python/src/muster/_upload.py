"""Inputs on their way out: from the thread that iterates the user's iterable to the thread that sends.

The iterating thread pickles into a bounded queue and waits when it is full; the sending thread takes whatever is there
whenever its connection is free. So an iterable is never held whole, and an input never waits unsent while the
iterable blocks. Single numbers wait as they are, and are pickled many at once when they are taken. Outputs that are
wanted in order set a `horizon`: inputs from that index on wait with the iterating thread (`_ordered`).

One thread puts, one takes. Appending to and popping from a deque are atomic, so putting takes no lock unless the other
side waits: a million small inputs would otherwise spend most of their time on it.
"""

from __future__ import annotations

import itertools
import pickle
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Union

from . import _numbers, _payload
from ._data import modules_of
from ._kept import Kept
from ._refs import noticed
from ._stream import NOTICE_SECONDS
from ._unpack import spreadable
from ._wire import Run, run_of

# A call whose inputs are all there within this time and size goes out in one request.
SMALL_BYTES = 1 << 20
SMALL_SECONDS = 0.02

BUFFER_BYTES = 8 << 20
REQUEST_BYTES = 4 << 20

# What an input costs beside its bytes, in this queue and in a frame.
_ITEM_COST = 64
_RUN = 4000
_Scalar = Union[int, float, bool, None]
# They cannot change, and pickle always: so they may wait in the queue as they are, to be pickled many at once.
_SCALARS = frozenset({int, float, bool, type(None)})
_SCALAR_COST = _numbers.SIZE + _ITEM_COST
# Iterating these runs no code of the user's, so it cannot block.
_PLAIN = frozenset({list, tuple, range, set, frozenset, dict, str, bytes, bytearray, deque})


class Queue:
    """The bounded queue between the two threads."""

    def __init__(self) -> None:
        self._entries: deque[Run | _Scalar] = deque()
        self._changed = threading.Condition()
        self._sender_waits = False
        self._put_bytes = 0
        self._taken_bytes = 0
        self._put_count = 0
        self._taken_count = 0
        self._horizon = sys.maxsize
        self.closed = False
        self.stopped = False
        self.kept: Kept | None = None

    @property
    def waiting_bytes(self) -> int:
        """How much is in it."""
        return self._put_bytes - self._taken_bytes

    @property
    def count(self) -> int:
        """How many inputs were put, ever."""
        return self._put_count

    @property
    def full(self) -> bool:
        """Whether `put` would wait."""
        return self.waiting_bytes >= BUFFER_BYTES or self._put_count >= self._horizon

    def set_horizon(self, index: int) -> None:
        """Inputs from `index` on wait until it is set anew. One entry may reach past it."""
        with self._changed:
            self._horizon = index
            self._changed.notify_all()

    def put(self, entry: Run | _Scalar) -> bool:
        """Add pickled inputs, or one scalar; waits while the queue is full. False if nobody wants any more."""
        if self.waiting_bytes >= BUFFER_BYTES or self._put_count >= self._horizon:
            with self._changed:
                while self.full and not self.stopped:
                    self._changed.wait(NOTICE_SECONDS)
        if self.stopped:
            return False
        self._entries.append(entry)
        if type(entry) is Run:
            self._put_bytes += _cost(entry)
            self._put_count += entry.number
        else:
            self._put_bytes += _SCALAR_COST
            self._put_count += 1
        if self._sender_waits:
            with self._changed:
                self._changed.notify_all()
        return True

    def close(self) -> None:
        """No more inputs come."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Nobody wants any more: `put` and `wait` return at once from now on."""
        with self._changed:
            self.stopped = True
            self._changed.notify_all()

    def wait(self, until: float | None = None, size: int = 1) -> bool:
        """Wait for `size` bytes, or any at all after the monotonic time `until`, or the end. False if stopped."""
        with self._changed:
            self._sender_waits = True
            try:
                while not self.stopped and not self.closed and self.waiting_bytes < size:
                    left = None if until is None else until - time.monotonic()
                    if left is not None and left <= 0:
                        size, until = 1, None
                        continue
                    self._changed.wait(left)
            finally:
                self._sender_waits = False
            return not self.stopped

    def take(self, limit: int = REQUEST_BYTES) -> tuple[int, list[Run], bool]:
        """Inputs of about `limit` bytes, as (first index, runs, whether they are the last)."""
        first, size = self._taken_count, 0
        runs: list[Run] = []
        scalars: list[_Scalar] = []
        closed = self.closed
        while self._entries and size < limit:
            entry = self._entries.popleft()
            if type(entry) is Run:
                if scalars:
                    runs.append(_run_of_scalars(scalars, set(map(type, scalars))))
                    scalars = []
                runs.append(entry)
                size += _cost(entry)
            else:
                scalars.append(entry)  # type: ignore[arg-type]
                size += _SCALAR_COST
        if scalars:
            runs.append(_run_of_scalars(scalars, set(map(type, scalars))))
        count = sum(run.number for run in runs)
        with self._changed:
            self._taken_bytes += size
            self._taken_count += count
            self._changed.notify_all()
        if self.kept is not None:
            self.kept.sent(first, runs)
        return first, runs, closed and not self._entries


class Inputs:
    """The user's iterable, and how far it has been read. Used by one thread at a time."""

    def __init__(
        self, iterable: Iterable[Any], unpack: bool = False, used: set[str] | None = None
    ) -> None:
        self._used = set() if used is None else used
        self.plain = type(iterable) in _PLAIN
        self._iterable, self._unpack = iterable, unpack
        self.known_empty = self.plain and not iterable
        self._iterator: Iterator[Any] = iter(iterable)
        if unpack:
            self._iterator = map(spreadable, self._iterator, itertools.count())
        self._index = self._last = 0
        self.modules = _modules_of(iterable) if self.plain else ()
        """Where what the first input is, or holds, comes from, if that can be told before it is read."""
        self._entries = self._runs() if self.plain else self._singles()

    def pump(self, queue: Queue, paused: Callable[[], bool] | None = None) -> bool:
        """Put inputs into `queue`: True at the end of the iterable, False if stopped, or when `paused` says so."""
        with noticed(self._used):
            for entry in self._entries:
                if not queue.put(entry) or (paused is not None and paused()):
                    return False
        queue.close()
        return True

    def kept(self) -> Kept:
        """Where to keep what has no output yet."""
        return Kept(self._anew if self.plain else None)

    def _anew(self) -> Iterator[Run]:
        return Inputs(self._iterable, self._unpack)._runs()

    def _runs(self) -> Iterator[Run]:
        """Inputs of a plain container: many scalars at once."""
        while True:
            values = list(itertools.islice(self._iterator, _RUN))
            if not values:
                return
            kinds = set(map(type, values))
            if kinds <= _SCALARS:
                self._index += len(values)
                yield _run_of_scalars(values, kinds)
            else:
                for items in _payload.dump_inputs(values, self._index):
                    self._index += len(items)
                    yield run_of(items)

    def _singles(self) -> Iterator[Run | _Scalar]:
        for value in self._iterator:
            if type(value) in _SCALARS:
                self._index += 1
                yield value
            else:
                yield self._one(value)

    def _one(self, value: Any) -> Run:
        item = _payload.dump_input(value, self._index, self._last)
        self._index += 1
        self._last = len(item)
        return run_of([item])


def _run_of_scalars(values: list[_Scalar], kinds: set[type]) -> Run:
    packed = _numbers.pack(values, kinds)
    if packed is not None:
        return Run(len(values), _numbers.LENGTH * len(values), packed)
    return run_of([pickle.dumps(value, 5) for value in values])


def _cost(run: Run) -> int:
    return len(run.items) + _ITEM_COST * run.number


def _modules_of(plain: Any) -> tuple[str, ...]:
    for first in plain:
        held: Iterable[Any] = (first,)
        if isinstance(first, (tuple, list)):
            held = first
        elif isinstance(first, dict):
            held = first.values()
        return tuple(name for value in held for name in modules_of(value))
    return ()
