"""The loop over inputs. Everything it uses per input is a local name; everything rare is elsewhere."""

from __future__ import annotations

import json
import os
import struct
import sys
import time
from itertools import accumulate
from typing import Any, Dict, List, Tuple, Union

from .. import _wire
from . import _describe, _pickles
from ._channel import INDEX, PAGE_BYTES, PENDING, PENDING_LEN, Channel
from ._load import Call, apply_environment
from ._streams import Boundary, CLibrary, Streams

_SEND_AFTER = 0.005
"""Seconds after the last sending from which the end of an input sends what is pending."""
_VIEW_FROM = 1 << 20
"""Bytes of a batch from which its inputs are unpickled in place rather than from a copy."""


def serve(channel: Channel) -> None:
    """Answers every batch until the channel ends, then ends the process."""
    _pickles.prepare()
    runner = _Runner(channel)
    while True:
        frame = channel.next_frame()
        if frame is None:
            break
        kind, body = frame
        if kind == _wire.SPEC:
            runner.spec = json.loads(body)
        elif kind == _wire.FUNCTION:
            runner.body = body
        elif kind == _wire.INPUTS:
            runner.run(body)
    runner.streams.flush()
    runner.library.flush()
    os._exit(0)


_FLUSH_C_UP_TO = 256
"""Batches up to this many inputs flush C's streams after each of them."""


class _Runner:
    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.streams = Streams(channel)
        self.library = CLibrary()
        self.spec: Dict[str, Any] = {}
        self.body = b""
        self._call: Union[Call, bytes, None] = None
        self._forked: List[bool] = []
        os.register_at_fork(after_in_child=lambda: self._forked.append(True))

    def run(self, body: bytes) -> None:
        """Runs one batch."""
        first, attempt, count = _wire.BATCH.unpack_from(body)
        self.streams.check_descriptors()
        begin = self.streams.boundary()
        self.channel.set_running(first, begin.out_total, begin.err_total, 1)
        os.environ["MUSTER_ATTEMPT"] = str(attempt)
        self._set_index(first)
        if self._call is None:
            self._call = self._load()
        if isinstance(self._call, bytes):
            self._refuse(first, count, self._call)
        else:
            lengths = struct.unpack_from(f"<{count}I", body, _wire.BATCH.size)
            ends = list(accumulate(lengths, initial=_wire.BATCH.size + 4 * count))
            self._run(self._call, first, body, ends, begin)
        self.library.flush()
        end = self.streams.boundary()
        self.channel.set_running(first + count, end.out_total, end.err_total, 0)

    def _load(self) -> Union[Call, bytes]:
        try:
            apply_environment(self.spec)
            call = Call(self.spec, self.body)
        except BaseException as error:
            self._end_if_forked(1)
            return Call.failed(self.spec, error)
        finally:
            self.body = b""
        self._end_if_forked(0)
        return call

    def _refuse(self, first: int, count: int, item: bytes) -> None:
        """The function cannot be loaded: so says the output of every input."""
        self.streams.flush()
        end = self.streams.boundary()
        for index in range(first, first + count):
            self.channel.send_record(index, end.out_total, end.err_total, _wire.EXCEPTION, item)

    def _set_index(self, index: int) -> None:
        os.environ._data[b"MUSTER_INPUT_INDEX"] = b"%d" % index  # type: ignore[attr-defined]
        text = self.library.index_text
        if text is None:
            os.putenv("MUSTER_INPUT_INDEX", str(index))
        else:
            text[:] = (b"%d" % index).ljust(21, b"\0")

    def _end_if_forked(self, code: int) -> None:
        """Ends a child that the user's code forked and that came back here: it must not go on as the runner."""
        if self._forked:
            self.streams.flush()
            self.library.flush()
            os._exit(code)

    def _run(self, call: Call, index: int, body: bytes, ends: List[int], begin: Boundary) -> None:
        channel, streams, forked = self.channel, self.streams, self._forked
        page, words = channel.page, channel.words
        loads, function, dumps = call.loads, call.function, call.dumps
        pack_into, record_size = _wire.RECORD.pack_into, _wire.RECORD.size
        poll, monotonic = streams.poll, time.monotonic
        out, err = streams.out, streams.err
        flush_out, flush_err = out.flush, err.flush
        variables = os.environ._data  # type: ignore[attr-defined]
        index_text, set_text = self.library.index_text, _INDEX_TEXT.pack_into
        # Where the pipes are as empty as they were, and the page says what it said, nobody wrote.
        seen, out_end, err_end = begin
        # C streams of the user's own need flushing too; for inputs this short they are left to the batch's end.
        flush_c = self.library.flush if len(ends) <= _FLUSH_C_UP_TO else None
        view: Any = memoryview(body) if len(body) > _VIEW_FROM and call.is_pickle else body
        value: Any = None
        item: Any = None
        moved = False
        at = PENDING
        sent = monotonic()
        for start, end in zip(ends, ends[1:]):
            if moved:
                channel.set_running(index, out_end, err_end, 1)
                moved = False
            else:
                words[INDEX] = index
            variables[b"MUSTER_INPUT_INDEX"] = text = b"%d" % index
            if index_text is not None:
                set_text(index_text, 0, text)
            else:
                os.putenv("MUSTER_INPUT_INDEX", str(index))
            try:
                value = function(loads(view[start:end]))
                item = dumps(value, 5)
                status = 0
            except BaseException as error:
                if forked:
                    self._end_if_forked(_print_and_code(error))
                status, item = self._failed(call, value, error)
            if forked:
                self._end_if_forked(0)
            value = None
            try:
                flush_out()
                flush_err()
                if flush_c is not None:
                    flush_c()
                if sys.stdout is not out or sys.stderr is not err:
                    streams.flush()
            except Exception:
                streams.flush()
                out, err = streams.out, streams.err
                flush_out, flush_err = out.flush, err.flush
            if poll(0, 2) or page[0:24] != seen:
                seen, out_end, err_end = streams.boundary()
                moved = True
            size = len(item)
            if size > _wire.MAX_ITEM:
                status, item = _wire.FAILURE, _too_large(size)
                size = len(item)
            if at + record_size + size > PAGE_BYTES:
                channel.send_pending(at)
                at = PENDING
                sent = monotonic()
            if at + record_size + size > PAGE_BYTES:
                channel.send_record(index, out_end, err_end, status, item)
            else:
                pack_into(page, at, index, out_end, err_end, status, size)
                at += record_size
                page[at : at + size] = item
                at += size
                words[PENDING_LEN] = at - PENDING
                if monotonic() - sent > _SEND_AFTER:
                    channel.send_pending(at)
                    at = PENDING
                    sent = monotonic()
            item = None
            index += 1
        channel.send_pending(at)

    def _failed(self, call: Call, value: Any, error: BaseException) -> Tuple[int, bytes]:
        """The output of an input that raised, or whose value did not pickle at the first try."""
        if value is not None and isinstance(error, Exception):
            try:
                return _wire.VALUE, call.dumps_again(value)
            except BaseException as second:
                error = second
        return _wire.EXCEPTION, _describe.item(error, call.is_pickle, call.image)


_INDEX_TEXT = struct.Struct("21s")


def _print_and_code(error: BaseException) -> int:
    """What the interpreter would do with an exception that ends a process."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    import traceback

    traceback.print_exception(type(error), error, error.__traceback__)
    return 1


def _too_large(size: int) -> bytes:
    failure = {
        "code": "too_large",
        "message": f"the output is {size} bytes, and one output may have {_wire.MAX_ITEM}",
        "limit_bytes": _wire.MAX_ITEM,
        "size_bytes": size,
    }
    return json.dumps(failure).encode()
