"""`generator=True, ordered=True`: input order, and a bounded look-ahead that cannot hang."""

from __future__ import annotations

import gc
import itertools
import pickle
import time
from typing import Any

import pytest

import muster
from conftest import SLOW
from fake_gateway import die
from muster import _ordered, _upload, _wire, remote_parallel_map
from muster._collect import AHEAD_BYTES, AHEAD_COUNT
from muster._ordered import LEAST, Ordered, window_of


def ordered(function, inputs, **options):
    return remote_parallel_map(
        function, inputs, generator=True, ordered=True, spinner=False, **options
    )


def slow_first(x):
    from conftest import SLOW

    if x == 0:
        SLOW.wait(60)
    return x


@pytest.mark.parametrize("kind", [list, iter], ids=["list", "iterator"])
def test_outputs_come_in_input_order(gateway, kind):
    gateway.workers = 4
    inputs = kind([x * 7 % 10 for x in range(200)])
    got = ordered(lambda x: (time.sleep(0.0005 * (x % 5)), x)[1], inputs)
    assert list(got) == [x * 7 % 10 for x in range(200)]


def test_outputs_before_their_turn_wait_for_it(gateway):
    SLOW.clear()
    outputs = ordered(slow_first, range(3))
    gateway.until("the others have run", lambda: gateway.call.done == 2)
    SLOW.set()
    assert list(outputs) == [0, 1, 2]


def waits(call, index):
    return any(waiting == index for waiting, _ in call.waiting[:1])


@pytest.fixture
def followed(monkeypatch):
    """Those that have started, each with its session."""
    found = []
    follow = Ordered.follow

    def note(self, session):
        found.append((self, session))
        follow(self, session)

    monkeypatch.setattr(Ordered, "follow", note)
    return found


@pytest.mark.parametrize("kind", [list, iter], ids=["list", "iterator"])
@pytest.mark.parametrize("size", [0, 2_000])
def test_one_slow_input_before_100_000_quick_ones_takes_bounded_memory(
    gateway, followed, kind, size
):
    SLOW.clear()
    count = 100_000

    def run(x):
        from conftest import SLOW

        if x == 0:
            SLOW.wait(60)
        return x, b"." * size

    outputs = ordered(run, kind(range(count)))
    call = gateway.call
    gateway.until("the slow one runs alone", lambda: call.inputs and not waits(call, 0))
    gateway.batch = 100
    ((queued, session),) = followed

    def still() -> bool:
        """All that may be given was given, has run, and was read."""
        held_back = session.queue.full or session.queue.closed
        return held_back and queued._seen_count == session.queue.count - 1 == call.done

    gateway.until("nothing moves but the slow one", still, 60)
    given = session.queue.count
    held = sum(batch.item_bytes for _, _, batch in queued._held.values())
    if size:
        window = window_of(queued._seen_bytes, queued._seen_count)
        assert LEAST < window < AHEAD_BYTES // size
        assert given <= window * 9 // 8 + _upload._RUN
        assert AHEAD_BYTES // 2 < held < AHEAD_BYTES * 3 // 2
    else:
        assert given > count // 2, "small outputs do not stop anything"
    SLOW.set()
    for x, (got, more) in enumerate(outputs):
        assert got == x
        assert len(more) == size
    assert x == count - 1
    assert call.state == "succeeded"


def test_an_endless_iterable_is_read_no_further_than_the_window(gateway, followed):
    SLOW.clear()
    gateway.batch = 500
    read = []

    def inputs():
        for x in itertools.count():
            read.append(x)
            yield str(x)

    outputs = ordered(lambda x: slow_first(int(x)), inputs())
    gateway.until("it waits", lambda: followed and followed[0][1].queue.full)
    SLOW.set()
    assert list(itertools.islice(outputs, 50_000)) == list(range(50_000))
    outputs.close()
    assert len(read) <= 50_000 + 2 * AHEAD_COUNT + LEAST
    gateway.until("the call is cancelled", lambda: gateway.call.state == "cancelled")


def test_a_slow_consumer_holds_the_reader_back(gateway, monkeypatch):
    monkeypatch.setattr("muster._collect.AHEAD_COUNT", 5)
    outputs = ordered(lambda x: x, range(200))
    gateway.until("all inputs have run", lambda: gateway.call.done == 200)
    assert list(outputs) == list(range(200))


def test_an_exception_is_raised_in_its_turn_and_ends_the_call(gateway):
    SLOW.clear()
    gateway.workers = 3

    def run(x):
        if x == 2:
            raise ValueError("two")
        return slow_first(x)

    outputs = ordered(run, range(5))
    gateway.until("the others have run", lambda: gateway.call.done == 4)
    assert gateway.call.state == "running", "the first is not given up for the third"
    SLOW.set()
    assert [next(outputs), next(outputs)] == [0, 1]
    with pytest.raises(ValueError, match="two") as caught:
        next(outputs)
    assert caught.value.index == 2
    assert list(outputs) == []


def test_of_two_failures_the_first_by_index_is_raised(gateway):
    SLOW.clear()

    def run(x):
        slow_first(x)
        raise ValueError(f"input {x}")

    outputs = ordered(run, [0, 1])
    gateway.until("the second has failed", lambda: gateway.call.failed == 1)
    SLOW.set()
    with pytest.raises(ValueError, match="input 0"):
        next(outputs)


def test_after_a_failure_no_more_inputs_are_given_and_raising_cancels_what_runs(gateway):
    gateway.batch = 100

    def run(x):
        if x == 10:
            raise ValueError("ten")
        return x

    outputs = ordered(run, itertools.count())
    got = []
    with pytest.raises(ValueError, match="ten"):
        for value in outputs:
            got.append(value)
    assert got == list(range(10))
    gateway.until("the call is over", lambda: gateway.call.state == "cancelled")
    assert gateway.call.inputs <= LEAST * 5


def test_return_exceptions_puts_them_in_their_places(gateway):
    def run(x):
        if x % 2:
            die(code="worker_died", exit_code=1)
        return x

    got = list(ordered(run, range(4), return_exceptions=True))
    assert [type(value).__name__ for value in got] == ["int", "WorkerDied"] * 2


def test_an_exception_of_the_iterable_comes_out(gateway):
    def inputs():
        yield 1
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        list(ordered(lambda x: (time.sleep(5), x)[1], inputs()))


@pytest.mark.parametrize("how", ["close", "drop"])
def test_closing_or_dropping_it_cancels_the_call(gateway, how):
    SLOW.clear()
    outputs = ordered(slow_first, itertools.count())
    if how == "close":
        outputs.close()
    else:
        del outputs
        gc.collect()
    gateway.until("the call is cancelled", lambda: gateway.call.state == "cancelled")
    SLOW.set()


def test_no_inputs_yield_nothing(gateway):
    assert list(ordered(abs, [])) == list(ordered(abs, iter([]))) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [({}, "add generator=True.* a list is"), ({"background": True}, "add generator=True.* Call's")],
)
def test_it_is_for_generators_only_and_says_what_to_do(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        remote_parallel_map(abs, [1], ordered=True, **options)
    assert isinstance(caught.value, muster.UsageError)


# The collector alone


def batch(*values: Any) -> _wire.Outputs:
    items = [pickle.dumps(value) for value in values]
    ends = list(itertools.accumulate(map(len, items), initial=0))
    return _wire.Outputs(b"".join(items), bytes(len(items)), ends)


class Loads:
    def load(self, first, attempt, outputs):
        return [pickle.loads(item) for item in outputs.items()], []


class Followed:
    """As much of a session as a collector sees."""

    def __init__(self) -> None:
        self.queue = self
        self.horizons: list[int] = []

    def set_horizon(self, index: int) -> None:
        self.horizons.append(index)

    def touch(self) -> None:
        """Nobody asks."""


def collector(return_exceptions=False):
    session = Followed()
    queued = Ordered(return_exceptions)
    queued.follow(session)  # type: ignore[arg-type]
    return queued, session


def test_batches_are_handed_on_in_turn_and_what_stays_behind_a_gap_is_missed():
    queued, _ = collector()
    loader: Any = Loads()
    for first, values in ((3, "d"), (1, "bc"), (0, "a"), (5, "f")):
        queued.add(loader, first, 1, batch(*values))
    queued.finish()
    assert list(queued.batches()) == [(0, ["a"], []), (1, ["b", "c"], []), (3, ["d"], [])]
    assert queued.missing() == 4


def test_the_horizon_stays_a_window_ahead_of_the_oldest_missing_output():
    queued, session = collector()
    loader: Any = Loads()
    assert session.horizons == [LEAST]
    queued.add(loader, 1, 1, batch(*range(10_000)))
    assert session.horizons[1:] == [AHEAD_COUNT], "small outputs, wide window"
    queued.add(loader, 10_001, 1, batch(b"." * (16 << 20)))
    narrow = window_of(queued._seen_bytes, queued._seen_count)
    assert session.horizons[2:] == [narrow]
    assert LEAST < narrow < AHEAD_COUNT
    queued.add(loader, 0, 1, batch(0))
    assert session.horizons[-1] - 10_002 >= narrow


def test_the_horizon_stays_where_it_is_after_a_failure():
    failed = _wire.Outputs(b"x", b"\1", [0, 1])
    for keep, moves in ((False, False), (True, True)):
        queued, session = collector(return_exceptions=keep)
        queued.add(Loads(), 5, 1, failed)  # type: ignore[arg-type]
        queued.add(Loads(), 0, 1, batch(*range(5)))  # type: ignore[arg-type]
        assert (len(session.horizons) > 1) is moves


def test_a_window_is_never_narrow_enough_to_leave_hosts_idle():
    assert window_of(1 << 40, 1) == LEAST
    assert window_of(1, 1) == AHEAD_COUNT
    assert window_of(AHEAD_BYTES, 10_000) == 10_000
    assert _ordered.LEAST >= _upload._RUN
