"""Lines out of prints: what may be written now, so that lines of different inputs never mix. Pure.

Bytes of an input come in order, in pieces that end anywhere. A complete line goes out at once. What follows the last
newline (the tail) waits for its newline, for no byte may be added and another input could write next. Tails of inputs
that have ended go out at the end of the call. When all other inputs have ended there is nobody left to mix
with: then every byte goes out as it comes, so that dots and progress bars of a single input are live.

Nothing is added, dropped or reordered within one (input, stream). Memory is bounded: a tail past `MAX_TAIL` bytes, or
tails of ended inputs past `MAX_ENDED` bytes together, go out as they are.
"""

from __future__ import annotations

STDOUT = 1
STDERR = 2

MAX_TAIL = 16 << 20
MAX_ENDED = 64 << 20


class Lines:
    """The tails of one call. Every method gives back what to write now, as (stream, bytes) in order."""

    def __init__(self) -> None:
        self._tails: dict[tuple[int, int], list[bytes]] = {}
        self._sizes: dict[tuple[int, int], int] = {}
        self._ended: list[tuple[int, bytes]] = []
        self._ended_bytes = 0
        self._done = 0
        self._total: int | None = None

    def feed(self, index: int, stream: int, data: bytes) -> list[tuple[int, bytes]]:
        """`data` was printed by input `index`."""
        if not data:
            return []
        key = (index, stream)
        tail = self._tails.get(key)
        if self._alone():
            return [(stream, self._join(key, data))]
        stop = data.rfind(b"\n") + 1
        if stop == len(data):
            return [(stream, self._join(key, data))]
        out = []
        if stop:
            out.append((stream, self._join(key, data[:stop])))
            tail = None
        rest = data[stop:]
        if tail is None:
            self._tails[key] = [rest]
            self._sizes[key] = len(rest)
        else:
            tail.append(rest)
            self._sizes[key] += len(rest)
        if self._sizes[key] > MAX_TAIL:
            out.append((stream, self._join(key, b"")))
        return out

    def ended(self, first: int, count: int) -> list[tuple[int, bytes]]:
        """Inputs `first .. first+count` have ended: they print no more."""
        self._done += count
        if not self._tails:
            return []
        for key in [key for key in self._tails if first <= key[0] < first + count]:
            tail = self._join(key, b"")
            self._ended.append((key[1], tail))
            self._ended_bytes += len(tail)
        out = self._flush_ended() if self._ended_bytes > MAX_ENDED else []
        return out + self._live()

    def total(self, total: int) -> list[tuple[int, bytes]]:
        """The call has `total` inputs, no more will come."""
        self._total = total
        return self._live()

    def end(self) -> list[tuple[int, bytes]]:
        """The call has ended."""
        out = self._flush_ended()
        for key in sorted(self._tails):
            out.append((key[1], self._join(key, b"")))
        return out

    def _alone(self) -> bool:
        return self._total is not None and self._done >= self._total - 1

    def _live(self) -> list[tuple[int, bytes]]:
        if not self._tails or not self._alone():
            return []
        return [(key[1], self._join(key, b"")) for key in sorted(self._tails)]

    def _flush_ended(self) -> list[tuple[int, bytes]]:
        out, self._ended, self._ended_bytes = self._ended, [], 0
        return out

    def _join(self, key: tuple[int, int], data: bytes) -> bytes:
        tail = self._tails.pop(key, None)
        if tail is None:
            return data
        del self._sizes[key]
        tail.append(data)
        return b"".join(tail)
