"""Inputs are any iterable, consumed in the caller's thread as they are uploaded, and never held
whole."""

import io
import sqlite3
import sys
import threading

import pytest
from harness import small_map, until


def test_iterables_of_every_kind_are_taken(service):
    def same(x):
        return x

    assert small_map(same, (x for x in range(3))) == [0, 1, 2]
    assert small_map(same, iter([1, 2])) == [1, 2]
    assert small_map(same, {"a": 1, "b": 2}) == ["a", "b"]
    assert small_map(same, "ab") == ["a", "b"]
    assert small_map(same, map(abs, [-1])) == [1]
    assert sorted(small_map(same, {3, 4})) == [3, 4]
    assert small_map(same, io.StringIO("a\nb\n")) == ["a\n", "b\n"]


class _Sequence:
    """Iterable by `__getitem__` alone."""

    def __getitem__(self, index):
        if index > 2:
            raise IndexError(index)
        return index


def test_an_old_style_sequence_is_taken(service):
    assert small_map(lambda x: x + 1, _Sequence()) == [1, 2, 3]


def test_a_cursor_that_belongs_to_the_callers_thread_can_be_the_inputs(service):
    with sqlite3.connect(":memory:") as database:
        database.execute("create table t (a integer, b text)")
        database.executemany("insert into t values (?, ?)", [(i, str(i)) for i in range(2000)])
        cursor = database.execute("select a, b from t order by a")
        outputs = small_map(lambda row: row[0] + int(row[1]), cursor)
    database.close()
    assert outputs == [2 * i for i in range(2000)]


@pytest.mark.parametrize("generator", [False, True])
def test_the_first_prints_and_outputs_come_before_a_slow_generator_ends(
    service, monkeypatch, generator
):
    """The second input is only made once the first one's print is here: whoever waits for all
    inputs hangs."""
    seen = threading.Event()

    class Watcher(io.TextIOWrapper):
        def write(self, text):
            if "have 0" in text:
                seen.set()
            return super().write(text)

    class WatchedBytes(io.BytesIO):
        def write(self, data):
            if b"have 0" in bytes(data):
                seen.set()
            return super().write(data)

    monkeypatch.setattr(
        sys, "stdout", Watcher(WatchedBytes(), encoding="utf-8", write_through=True)
    )

    def inputs():
        yield 0
        assert seen.wait(20), (
            "the print of the first input has not come while the generator was running"
        )
        yield 1

    def run(x):
        print(f"have {x}")
        return x

    outputs = list(small_map(run, inputs(), generator=generator))
    # A generator yields in the order in which outputs are produced.
    assert (sorted(outputs) if generator else outputs) == [0, 1]


def test_outputs_are_yielded_while_the_inputs_are_still_being_made(service):
    arrived = threading.Event()

    def inputs():
        yield 0
        assert arrived.wait(20), (
            "the first output has not been yielded while the generator was running"
        )
        yield 1

    outputs = small_map(lambda x: x, inputs(), generator=True)
    assert next(outputs) == 0
    arrived.set()
    assert list(outputs) == [1]


class _OwnError(Exception):
    pass


@pytest.mark.parametrize("generator", [False, True])
def test_inputs_that_raise_while_being_iterated_end_the_call_with_that_very_exception(
    service, generator
):
    error = _OwnError("from the inputs")
    known = {call["id"] for call in service.api.calls()}

    def started():
        return [call["id"] for call in service.api.calls() if call["id"] not in known]

    def inputs():
        yield from range(50)
        # It has begun with what there was: an iterable that fails at once needs no call at all.
        until("the call is there", started)
        raise error

    with pytest.raises(_OwnError) as caught:
        list(small_map(lambda x: x, inputs(), generator=generator))
    assert caught.value is error
    (call,) = started()
    until("the call has ended", lambda: service.api.call(call)["state"] == "cancelled", 10)


def test_inputs_that_are_not_iterable_are_refused(service):
    with pytest.raises(TypeError, match="iterable|iterate"):
        small_map(lambda x: x, 5)
