"""The loop over inputs. Everything it uses per input is a local name; everything rare is elsewhere."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, Dict, List, Optional, Tuple, Union

from .. import _numbers, _wire
from . import _describe, _pickles
from ._batch import Batch
from ._channel import INDEX, PENDING, PENDING_LEN, READ_SEQ, Channel
from ._index import ZERO, IndexVariable
from ._load import Call, apply_environment, rehearse
from ._results import NO_COLUMN, SEND_AFTER, Results, number_item
from ._sprint import Sprint
from ._streams import Boundary, CLibrary, Streams
from ._watch import CALM


def serve(channel: Channel) -> None:
    """Answers every batch until the channel ends, then ends the process."""
    _pickles.prepare()
    rehearse()
    runner = _Runner(channel)
    while True:
        frame = channel.next_frame()
        if frame is None:
            break
        kind, body = frame
        if kind == _wire.SPEC:
            runner.spec = json.loads(bytes(body))
        elif kind == _wire.SECRETS:
            runner.spec.setdefault("env", {}).update(json.loads(bytes(body)))
        elif kind == _wire.FUNCTION:
            runner.body = bytes(body)
        elif kind == _wire.INPUTS:
            runner.run(body)
            # The next batch may lie where this one does.
            del body, frame
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
        self.index = IndexVariable(channel.words, self.library.index_text)
        self.spec: Dict[str, Any] = {}
        self.body = b""
        self._call: Union[Call, bytes, None] = None
        self._large = False
        self._forked: List[bool] = []
        os.register_at_fork(after_in_child=lambda: self._forked.append(True))

    def run(self, body: _wire.Item) -> None:
        """Runs one batch."""
        first, attempt, count = _wire.BATCH.unpack_from(body)
        self.streams.check_descriptors()
        begin = self.streams.boundary()
        self.channel.set_running(first, begin.out_total, begin.err_total, 1)
        os.environ["MUSTER_ATTEMPT"] = str(attempt)
        self.index.set(first)
        if self._call is None:
            self._call = self._load()
        if isinstance(self._call, bytes):
            self._refuse(first, count, self._call)
        else:
            self._run(self._call, Batch(body, self._call.is_pickle), begin)
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

    def _end_if_forked(self, code: int) -> None:
        """Ends a child that the user's code forked and that came back here: it must not go on as the runner."""
        if self._forked:
            self.streams.flush()
            self.library.flush()
            os._exit(code)

    def _run(self, call: Call, inputs: Batch, begin: Boundary) -> None:
        channel, streams, forked = self.channel, self.streams, self._forked
        words, variable = channel.words, self.index
        text: Any = variable.text
        watch, monotonic = streams.watch, time.monotonic
        ask, rang = watch.ask, watch.rang
        out, err = streams.out, streams.err
        flush_out, flush_err = out.flush, err.flush
        loads, function = call.loads, call.function
        # Outputs are mostly as large as the ones before them.
        dumps = call.dumps_large if self._large else call.dumps
        numbers, view, ends, first = inputs.numbers, inputs.view, inputs.ends, inputs.first
        an_int, a_float = (int, float) if call.is_pickle and _numbers.available else (None, None)
        # C streams of the user's own need flushing too; for inputs this short they are left to the batch's end.
        flush_c = self.library.flush if inputs.count <= _FLUSH_C_UP_TO else None
        # Counted from 0 to CALM; from CALM on where listening is not possible.
        calm = restless = 0 if watch.can_listen() else CALM
        if watch.listening and (rang or restless):
            watch.stop()
        listening = watch.listening
        # Where the pipes are as empty as they were, and the agent has read nothing since, nobody wrote.
        seen, out_end, err_end = begin
        results = Results(channel)
        at, column, slot = results.at, NO_COLUMN, 0
        sprint: Optional[Sprint] = None
        if numbers is not None and flush_c is None and text is not None:
            sprint = Sprint(function, numbers, words, variable, streams, forked)
        value: Any = None
        item: Any = None
        kind: Any = None
        error: Optional[BaseException] = None
        moved = False
        position, count = 0, inputs.count
        while position < count:
            status = 0
            if sprint is not None and listening and slot < len(column):
                stored = sprint.run(position, first + position, column, slot, at)
                position += stored
                slot += 2 * stored
                results.at = at = at + _numbers.SIZE * stored
                if not sprint.has_run:
                    if monotonic() - results.sent > SEND_AFTER:
                        results.send()
                        at, column, slot = results.at, NO_COLUMN, 0
                    continue
                index = first + position
                value, error = sprint.end()
            else:
                index = first + position
                if moved:
                    channel.set_running(index, out_end, err_end, 1)
                    moved = False
                else:
                    words[INDEX] = index
                digit = index % 10
                if digit and text is not None:
                    text[variable.last_digit] = ZERO + digit
                else:
                    variable.set(index)
                try:
                    if numbers is not None:
                        value = function(numbers[position])
                    else:
                        value = function(loads(view[ends[position] : ends[position + 1]]))
                except BaseException as raised:
                    error = raised
            if error is None:
                try:
                    kind = type(value)
                    if kind is an_int:
                        item = None
                    elif kind is a_float:
                        item = _numbers.item(value)
                    else:
                        item = dumps(value, 5)
                except BaseException as raised:
                    error = raised
            if forked:
                self._end_if_forked(0 if error is None else _print_and_code(error))
            if error is not None:
                kind = None
                status, item = self._failed(call, value, error)
                error = None
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
            if rang if listening else (ask(0, 2) or words[READ_SEQ] != seen):
                seen, out_end, err_end = streams.boundary()
                moved = True
                column = NO_COLUMN
                listening, calm = False, restless
            elif not listening:
                calm += 1
                if calm == CALM:
                    watch.listen()
                    # Whoever wrote before that did not ring.
                    listening = not (ask(0, 2) or words[READ_SEQ] != seen)
                    if not listening:
                        watch.stop()
                        calm = restless
            if item is None:
                try:
                    column[slot] = value
                    slot += 2
                    results.at = at = at + _numbers.SIZE
                    words[PENDING_LEN] = at - PENDING
                except (IndexError, ValueError):  # there is no room, or it has more than 64 bits
                    item = number_item(value, dumps)
            if item is not None:
                results.add(index, out_end, err_end, status, item)
                column, slot = NO_COLUMN, 0
                if kind is an_int:
                    column = results.column(count - position - 1)
                at = results.at
            if monotonic() - results.sent > SEND_AFTER:
                results.send()
                at, column, slot = results.at, NO_COLUMN, 0
            value = item = None
            position += 1
        results.send()
        self._large = results.large

    def _failed(self, call: Call, value: Any, error: BaseException) -> Tuple[int, bytes]:
        """The output of an input that raised, or whose value did not pickle at the first try."""
        if value is not None and isinstance(error, Exception):
            try:
                return _wire.VALUE, call.dumps_again(value)
            except BaseException as second:
                error = second
        return _wire.EXCEPTION, _describe.item(error, call.is_pickle, call.image)


def _print_and_code(error: BaseException) -> int:
    """What the interpreter would do with an exception that ends a process."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    import traceback

    traceback.print_exception(type(error), error, error.__traceback__)
    return 1
