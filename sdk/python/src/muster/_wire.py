"""The wire codec: frames, batches, prints and records (sdk/wire/PROTOCOL.md, sections 2, 3 and 6.2).

No I/O and no clock. The Rust crate `muster-wire` does the same; both suites run the vectors in `sdk/wire/vectors/`.
Batches may hold hundreds of thousands of items of a few bytes, so nothing here works item by item where the
interpreter can be told to do it in one step: all lengths are read at once, items are slices.
"""

from __future__ import annotations

import struct
from itertools import accumulate
from typing import Any, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

from . import _numbers

SPEC = 1
FUNCTION = 2
INPUTS = 3
INPUTS_END = 4
OUTPUTS = 5
PRINT = 6
EVENT = 7
SKIP = 8
WORKERS = 16
DEMAND = 17
WORKER_STATUS = 18
HOST_STATUS = 19
RECEIPT = 20
SECRETS = 21
TAKEN = 22
HELD = 23
HELLO = 32
START = 33
EXIT = 34
SIGNAL = 35
RESULTS = 36

VALUE = 0
EXCEPTION = 1
FAILURE = 2

STDOUT = 1
STDERR = 2

MAX_ITEM = 256 << 20
"""The largest single input or output, in bytes."""
MAX_FRAME = 272 << 20
"""The largest frame body a receiver takes, in bytes."""
FRAMES_TYPE = "application/vnd.muster.frames"
"""Media type of a body made of frames."""

HEADER = struct.Struct("<IB3xQ")
BATCH = struct.Struct("<QII")
PRINT_HEAD = struct.Struct("<QIB3x")
RECORD = struct.Struct("<QQQIIB7x")

Buffer = Union[bytes, bytearray, memoryview]
Item = Union[bytes, memoryview]

_KINDS = frozenset(
    (SPEC, FUNCTION, INPUTS, INPUTS_END, OUTPUTS, PRINT, EVENT, SKIP)
    + (WORKERS, DEMAND, WORKER_STATUS, HOST_STATUS, RECEIPT, SECRETS)
    + (TAKEN, HELD)
    + (HELLO, START, EXIT, SIGNAL, RESULTS)
)

# From this many bytes on an item is handed out as a view of its frame: copying it would cost more than the view.
_VIEW_FROM = 64 << 10
# From this many bytes on a frame of outputs is received where it will be read.
_LARGE = 256 << 10
# Memory that is used again comes in steps of this many bytes, and is not kept from so many on.
_ROUND = 1 << 20
_KEEP = 64 << 20


class WireError(ValueError):
    """A frame or body that is not as PROTOCOL.md says; `code` is what the vectors call it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def _malformed(what: str, why: str) -> WireError:
    return WireError("malformed", f"malformed {what}: {why}")


# Frames


def frame(kind: int, body: Buffer, seq: int = 0) -> bytes:
    """Header and body in one buffer."""
    return b"".join((HEADER.pack(len(body), kind, seq), body))


def number_frame(kind: int, number: int) -> bytes:
    """A frame whose body is one `u64` (INPUTS_END)."""
    return frame(kind, struct.pack("<Q", number))


def skip_frame(first: int, count: int) -> bytes:
    """The SKIP frame of the inputs `first .. first + count`."""
    return frame(SKIP, struct.pack("<QQ", first, count))


class Reused:
    """Memory for one large body at a time: it is used again when nobody holds a view of the last one.

    Fresh memory costs as much as the bytes that are read into it.
    """

    def __init__(self) -> None:
        self._memory = bytearray()

    def view(self, length: int) -> memoryview:
        """`length` bytes to write into."""
        try:
            # Fails while a view is held.
            self._memory.append(0)
            self._memory.pop()
        except BufferError:
            self._memory = bytearray()
        if len(self._memory) < length:
            # Rounded up: the next one may be a little longer.
            self._memory = bytearray(-(-length // _ROUND) * _ROUND)
        view = memoryview(self._memory)[:length]
        if length > _KEEP:
            self._memory = bytearray()
        return view


class Decoder:
    """Cuts a stream of bytes into frames: `push` what came, then take frames until there is none.

    Where `room` gives a view, the bytes that come next belong to a large OUTPUTS frame and may be written straight
    into it instead (`wrote` says how many): its body is then handed out as a view, without a copy.
    """

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._reused = Reused()
        self._large: Optional[memoryview] = None
        self._seq = 0
        self._filled = 0

    def push(self, data: Buffer) -> None:
        """Adds bytes as they came."""
        large = self._large
        if large is not None:
            count = min(len(data), len(large) - self._filled)
            large[self._filled : self._filled + count] = data[:count]
            self._filled += count
            data = data[count:]
        self._buffer += data

    def room(self) -> Optional[memoryview]:
        """What is missing of the large body that is coming, if one is."""
        if self._large is None:
            buffer = self._buffer
            if len(buffer) < HEADER.size:
                return None
            length, kind, seq = HEADER.unpack_from(buffer)
            come = len(buffer) - HEADER.size
            if kind != OUTPUTS or not _LARGE <= length <= self._limit or come >= length:
                return None
            self._large, self._seq, self._filled = self._reused.view(length), seq, come
            with memoryview(buffer) as view:
                self._large[:come] = view[HEADER.size :]
            buffer.clear()
        return self._large[self._filled :]

    def wrote(self, count: int) -> None:
        """So many bytes were written into `room`."""
        self._filled += count

    @property
    def empty(self) -> bool:
        """Whether the stream may end here: nothing of a frame is left over."""
        return not self._buffer and self._large is None

    def next_frame(self) -> Optional[Tuple[int, int, Item]]:
        """The next whole frame as (kind, seq, body), or None when more bytes are needed.

        Raises WireError when the peer broke the protocol; the stream is of no use then.
        """
        large = self._large
        if large is not None:
            if self._filled < len(large):
                return None
            self._large = None
            return OUTPUTS, self._seq, large
        buffer = self._buffer
        while len(buffer) >= HEADER.size:
            length, kind, seq = HEADER.unpack_from(buffer)
            if length > self._limit:
                raise WireError(
                    "too_long", f"a frame of {length} bytes is over the limit of {self._limit}"
                )
            known = kind in _KINDS
            if not known and kind < 128:
                raise WireError("unknown_kind", f"unknown frame kind {kind}")
            end = HEADER.size + length
            if len(buffer) < end:
                return None
            with memoryview(buffer) as view:
                body = bytes(view[HEADER.size : end])
            del buffer[:end]
            if known:
                return kind, seq, body
        return None

    def __iter__(self) -> Iterator[Tuple[int, int, Item]]:
        while True:
            found = self.next_frame()
            if found is None:
                return
            yield found


# Batches


class Run(NamedTuple):
    """Inputs that follow one another."""

    number: int
    lengths: bytes
    """A `u32` for each."""
    items: Buffer
    """Their bytes, one after another."""

    @property
    def size(self) -> int:
        """Bytes that they take in a frame."""
        return len(self.lengths) + len(self.items)


def run_of(items: Sequence[Buffer]) -> Run:
    """A run of these items."""
    lengths = list(map(len, items))
    joined = items[0] if len(items) == 1 else b"".join(items)
    return Run(len(lengths), struct.pack(f"<{len(lengths)}I", *lengths), joined)


def part_of_run(run: Run, start: int, stop: int) -> Run:
    """The inputs `start .. stop` of a run, counted from its first."""
    if (start, stop) == (0, run.number):
        return run
    lengths = struct.unpack(f"<{run.number}I", run.lengths)
    begin, size = sum(lengths[:start]), sum(lengths[start:stop])
    items = memoryview(run.items)[begin : begin + size]
    return Run(stop - start, run.lengths[4 * start : 4 * stop], items)


def inputs_frame(first: int, items: Sequence[Buffer], attempt: int = 0) -> bytes:
    """The INPUTS frame of the inputs `first .. first + len(items)`."""
    return b"".join(inputs_parts(first, [run_of(items)], attempt))


def inputs_parts(first: int, runs: Sequence[Run], attempt: int = 0) -> List[Buffer]:
    """The INPUTS frame of runs that follow one another, in pieces; items that are large are pieces of their own."""
    count = sum(run.number for run in runs)
    body = BATCH.size + sum(run.size for run in runs)
    small: List[Buffer] = [HEADER.pack(body, INPUTS, 0), BATCH.pack(first, attempt, count)]
    small += [run.lengths for run in runs]
    parts: List[Buffer] = []
    for run in runs:
        if len(run.items) < _VIEW_FROM:
            small.append(run.items)
        else:
            parts += (b"".join(small), run.items)
            small = []
    if small:
        parts.append(b"".join(small))
    return parts


def decode_inputs(body: bytes) -> Tuple[int, int, List[Item]]:
    """The body of an INPUTS frame: (first, attempt, items)."""
    first, attempt, count, ends = _batch("INPUTS", body, 4)
    return first, attempt, _slices(body, count, ends)


def outputs_frame(first: int, attempt: int, outputs: Sequence[Tuple[int, Buffer]]) -> bytes:
    """The OUTPUTS frame of the outputs `first .. first + len(outputs)`, each (status, item)."""
    lengths = [len(item) for _, item in outputs]
    body = b"".join(
        (
            BATCH.pack(first, attempt, len(lengths)),
            struct.pack(f"<{len(lengths)}I", *lengths),
            bytes([status for status, _ in outputs]),
            *[item for _, item in outputs],
        )
    )
    return frame(OUTPUTS, body)


def decode_outputs(body: Item) -> Tuple[int, int, List[Tuple[int, Item]]]:
    """The body of an OUTPUTS frame: (first, attempt, [(status, item)]); items that are large are views of `body`."""
    first, attempt, outputs = read_outputs(body)
    return first, attempt, list(outputs)


def read_outputs(body: Item) -> Tuple[int, int, Outputs]:
    """The body of an OUTPUTS frame, checked, its items not yet cut apart: (first, attempt, outputs)."""
    if len(body) > BATCH.size:
        # Numbers, and nothing else: their ends need not be added up.
        first, attempt, count = BATCH.unpack_from(body)
        start, size = BATCH.size + 5 * count, _numbers.SIZE
        if (
            len(body) == start + size * count
            and first + count < 1 << 64
            and body[BATCH.size : start] == _numbers.LENGTH * count + bytes(count)
        ):
            return first, attempt, Outputs(body, bytes(count), range(start, len(body) + 1, size))
    first, attempt, count, ends = _batch("OUTPUTS", body, 5)
    statuses = bytes(body[16 + 4 * count : 16 + 5 * count])
    if count and max(statuses) > FAILURE:
        raise _malformed("OUTPUTS", "unknown status")
    return first, attempt, Outputs(body, statuses, ends)


class Outputs:
    """The outputs of one frame, in order, each (status, item) when iterated over."""

    __slots__ = ("_body", "_ends", "_statuses")

    def __init__(self, body: Item, statuses: bytes, ends: Sequence[int]) -> None:
        self._body = body
        self._statuses = statuses
        self._ends = ends

    def __len__(self) -> int:
        return len(self._statuses)

    def __iter__(self) -> Iterator[Tuple[int, Item]]:
        return iter(zip(self._statuses, self.items()))

    @property
    def item_bytes(self) -> int:
        """Bytes of all items."""
        return self._ends[-1] - self._ends[0]

    @property
    def all_values(self) -> bool:
        """Whether none is an exception or a failure."""
        return not any(self._statuses)

    def items(self) -> List[Item]:
        """The items, in order."""
        return _slices(self._body, len(self), self._ends)

    def numbers(self) -> Optional[List[Any]]:
        """The values, if all are numbers that were pickled as such (PROTOCOL.md 7.4)."""
        if type(self._ends) is not range or not self.all_values:
            return None
        view = memoryview(self._body)[self._ends[0] : self._ends[-1]]
        return _numbers.unpack(view, len(self))

    def after(self, count: int) -> Outputs:
        """Without the first `count`."""
        return Outputs(self._body, self._statuses[count:], self._ends[count:])


def _batch(what: str, body: Item, per_item: int) -> Tuple[int, int, int, List[int]]:
    """The fixed part of a batch and where its items begin and end, all checked."""
    if len(body) < BATCH.size:
        raise _malformed(what, "shorter than its fixed part")
    first, attempt, count = BATCH.unpack_from(body)
    start = BATCH.size + per_item * count
    if len(body) < start:
        raise _malformed(what, "shorter than its count says")
    lengths = struct.unpack_from(f"<{count}I", body, BATCH.size)
    if count and max(lengths) > MAX_ITEM:
        raise _malformed(what, "an item is over the limit")
    ends = list(accumulate(lengths, initial=start))
    if ends[-1] != len(body):
        raise _malformed(what, "the lengths do not add up to the items")
    if first + count >= 1 << 64:
        raise _malformed(what, "indexes past 2^64")
    return first, attempt, count, ends


def _slices(body: Item, count: int, ends: Sequence[int]) -> List[Item]:
    if len(body) > _VIEW_FROM * max(count, 1):
        view = memoryview(body)
        return [
            bytes(view[start:end]) if end - start < _VIEW_FROM else view[start:end]
            for start, end in zip(ends, ends[1:])
        ]
    body = bytes(body)
    return [body[start:end] for start, end in zip(ends, ends[1:])]


# Prints and results


def print_frame(index: int, attempt: int, stream: int, text: Buffer, seq: int = 0) -> bytes:
    """The PRINT frame of what one attempt of one input wrote."""
    return frame(PRINT, PRINT_HEAD.pack(index, attempt, stream) + bytes(text), seq)


def decode_print(body: bytes) -> Tuple[int, int, int, bytes]:
    """The body of a PRINT frame: (index, attempt, STDOUT or STDERR, bytes)."""
    if len(body) < PRINT_HEAD.size:
        raise _malformed("PRINT", "shorter than its fixed part")
    index, attempt, stream = PRINT_HEAD.unpack_from(body)
    if stream not in (STDOUT, STDERR):
        raise _malformed("PRINT", "unknown stream")
    return index, attempt, stream, body[PRINT_HEAD.size :]


def record(
    index: int, out_end: int, err_end: int, status: int, items: Buffer, count: int = 1
) -> bytes:
    """One record of RESULTS, of `count` inputs."""
    length = len(items) // count
    return b"".join((RECORD.pack(index, out_end, err_end, count, length, status), items))


def decode_results(body: bytes) -> List[Tuple[int, int, int, int, bytes, int]]:
    """The records of RESULTS, or of pending: (index, out_end, err_end, status, items, count)."""
    records = []
    at = 0
    while at < len(body):
        if len(body) - at < RECORD.size:
            raise _malformed("RESULTS", "a record is cut short")
        index, out_end, err_end, count, length, status = RECORD.unpack_from(body, at)
        at += RECORD.size
        if status > FAILURE:
            raise _malformed("RESULTS", "unknown status")
        if length > MAX_ITEM:
            raise _malformed("RESULTS", "an item is over the limit")
        if not count:  # a run that is still growing: it goes to the end
            if not length or at == len(body) or (len(body) - at) % length:
                raise _malformed("RESULTS", "an open run that is not a number of items")
            count = (len(body) - at) // length
        if length * count > len(body) - at:
            raise _malformed("RESULTS", "an item is cut short")
        if index + count >= 1 << 64:
            raise _malformed("RESULTS", "indexes past 2^64")
        records.append((index, out_end, err_end, status, body[at : at + length * count], count))
        at += length * count
    return records


def exception_item(head: bytes, detail: bytes = b"") -> bytes:
    """The item of an exception: its JSON head, then the bytes of PROTOCOL.md 7.2."""
    return b"".join((struct.pack("<I", len(head)), head, detail))


def split_exception(item: Item) -> Tuple[bytes, bytes]:
    """The JSON head of an exception item, and what follows it."""
    if len(item) < 4:
        raise _malformed("exception", "its head is cut short")
    (length,) = struct.unpack_from("<I", item)
    if len(item) - 4 < length:
        raise _malformed("exception", "its head is cut short")
    return bytes(item[4 : 4 + length]), bytes(item[4 + length :])
