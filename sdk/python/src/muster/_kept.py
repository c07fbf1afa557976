"""What a call needs to be submitted again: the inputs that were sent and have no output yet.

A foreground call lives in its gateway's memory; when that is started anew, the client gives the next one what is
missing, at the same indexes. Which inputs have their output is kept as ranges. The inputs of a plain container
(list, range, ...) are not kept: they are taken from it again. Those of any other iterable are kept as they
were sent until their outputs are there; when these are `KEPT_BYTES`, no more is sent until outputs come. So memory
is bounded, and whatever is lost can be sent again.

The sending thread adds; the reading thread says what is done; a call that is submitted again is read from here by
the sending thread.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator

from ._wire import Run, part_of_run

# How many bytes of inputs without an output are kept, at most about so many.
KEPT_BYTES = 256 << 20
# Batches whose inputs are done go when as many bytes as these have been added.
_PRUNE_BYTES = 8 << 20


class Ranges:
    """Indexes, as ranges that do not touch. Adding one costs the same however many there are."""

    def __init__(self) -> None:
        self._ends: dict[int, int] = {}
        self._starts: dict[int, int] = {}

    def add(self, first: int, count: int) -> None:
        """Add `first .. first + count`, none of which is there."""
        end = first + count
        start = self._starts.pop(first, first)
        stop = self._ends.pop(end, end)
        self._ends.pop(start, None)
        self._starts.pop(stop, None)
        self._ends[start] = stop
        self._starts[stop] = start

    def sorted(self) -> list[tuple[int, int]]:
        """All of them, as (first, end), in order."""
        return sorted(self._ends.items())


class Kept:
    """See the module."""

    def __init__(self, again: Callable[[], Iterator[Run]] | None) -> None:
        """`again` makes the inputs anew, from the first on, where that can be done."""
        self._again = again
        self._changed = threading.Condition()
        self._done = Ranges()
        self._batches: list[tuple[int, int, list[Run]]] = []
        self._bytes = 0
        self._added = 0
        self.count = 0
        """How many inputs were sent."""

    def sent(self, first: int, runs: list[Run]) -> None:
        """These inputs go out now."""
        count = sum(run.number for run in runs)
        self.count = first + count
        if self._again is None and count:
            size = sum(run.size for run in runs)
            with self._changed:
                self._batches.append((first, first + count, runs))
                self._bytes += size
                self._added += size
                if self._added >= _PRUNE_BYTES:
                    self._prune()

    def done(self, first: int, count: int) -> None:
        """The outputs of these are there."""
        with self._changed:
            self._done.add(first, count)
            if self._bytes >= KEPT_BYTES:
                self._prune()
                self._changed.notify_all()

    def wait(self, stopped: Callable[[], bool]) -> None:
        """Wait until there is room to keep more."""
        with self._changed:
            while self._bytes >= KEPT_BYTES and not stopped():
                self._changed.wait(1.0)

    def missing(self) -> Iterator[tuple[int, int, list[Run]]]:
        """What was sent, in order: (first, count, runs), without runs where the outputs are there."""
        with self._changed:
            done = self._done.sorted()
            batches = list(self._batches)
        at = 0
        for first, run in _placed(batches) if self._again is None else _numbered(self._again()):
            if first >= self.count:
                break
            if first > at:  # it was dropped, so it is done
                yield at, first - at, []
            for start, stop, is_done in _cut(done, first, min(first + run.number, self.count)):
                part = [] if is_done else [part_of_run(run, start - first, stop - first)]
                yield start, stop - start, part
            at = first + run.number
        if at < self.count:
            yield at, self.count - at, []

    def _prune(self) -> None:
        done = self._done.sorted()
        firsts = [first for first, _end in done]

        def covered(first: int, end: int) -> bool:
            at = bisect_right(firsts, first) - 1
            return at >= 0 and done[at][1] >= end

        self._batches = [batch for batch in self._batches if not covered(batch[0], batch[1])]
        self._bytes = sum(run.size for _first, _end, runs in self._batches for run in runs)
        self._added = 0


def _placed(batches: list[tuple[int, int, list[Run]]]) -> Iterator[tuple[int, Run]]:
    for first, _end, runs in batches:
        for run in runs:
            yield first, run
            first += run.number


def _numbered(runs: Iterator[Run]) -> Iterator[tuple[int, Run]]:
    first = 0
    for run in runs:
        yield first, run
        first += run.number


def _cut(done: list[tuple[int, int]], first: int, end: int) -> Iterator[tuple[int, int, bool]]:
    """`first .. end` in parts that are done, and parts that are not."""
    at = max(bisect_right(done, (first, 1 << 64)) - 1, 0)
    for start, stop in done[at:]:
        if start >= end:
            break
        if stop <= first:
            continue
        if start > first:
            yield first, start, False
        first, stop = max(first, start), min(stop, end)
        yield first, stop, True
        first = stop
    if first < end:
        yield first, end, False
