"""`remote_parallel_map` returning a list."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import multiprocessing
import os
import sqlite3
import sys
import threading
import time

import pytest

import muster
from fake_gateway import TOKEN, die
from muster import _stream, remote_parallel_map


def small_map(function, inputs, **options):
    options.setdefault("spinner", False)
    return remote_parallel_map(function, inputs, **options)


def test_the_eight_parameters_have_their_names_order_and_defaults():
    parameters = inspect.signature(remote_parallel_map).parameters
    positional = [
        (p.name, p.default) for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    assert positional == [
        ("function_", inspect.Parameter.empty),
        ("inputs", inspect.Parameter.empty),
        ("func_cpu", 1),
        ("func_ram", 4),
        ("background", False),
        ("spinner", True),
        ("generator", False),
        ("max_parallelism", None),
    ]
    assert all(p.kind is p.KEYWORD_ONLY for p in list(parameters.values())[8:])


def test_outputs_come_in_input_order(gateway):
    gateway.workers = 4
    assert small_map(lambda x: (time.sleep(0.001 * (9 - x)), x)[1], range(10)) == list(range(10))


@pytest.fixture
def no_garbage_collection():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def is_held_by_nobody_else(values):
    """Whether the caller's name is the only reference to them, as it is to a list that was just made."""
    just_made = list(values)
    return sys.getrefcount(values) == sys.getrefcount(just_made) + 1  # `values` here, and there


@pytest.mark.usefixtures("no_garbage_collection")
@pytest.mark.parametrize("count", [3, 30_000])
@pytest.mark.parametrize("fails", [False, True])
def test_a_call_that_has_ended_holds_neither_inputs_nor_outputs(gateway, count, fails):
    inputs = [[n] for n in range(count)]
    if fails:
        with contextlib.suppress(ZeroDivisionError):
            small_map(lambda x: 1 // x[0], inputs)
    outputs = small_map(lambda x: 1 // (x[0] - fails), inputs, return_exceptions=True)
    assert [n for n in range(count) if isinstance(outputs[n], Exception)] == [int(fails)]
    gateway.until("the outputs are the caller's", lambda: is_held_by_nobody_else(outputs))
    gateway.until("the inputs are the caller's", lambda: is_held_by_nobody_else(inputs))


def test_a_small_call_is_one_request_and_no_thread(gateway):
    before = threading.active_count()
    threads = []

    def inputs_made_here(x):
        return x

    assert small_map(inputs_made_here, [1, 2, 3]) == [1, 2, 3]
    threads.append(threading.active_count())
    assert gateway.requests == [("POST", "/v1/calls")]
    assert [t.name for t in threading.enumerate() if t.name == "muster"] == [], (before, threads)


def test_calls_keep_their_connection_for_the_next(gateway):
    for _ in range(10):
        assert small_map(abs, [-1]) == [1]
    assert gateway.connections < 5


def test_a_kept_connection_that_was_closed_is_replaced(gateway):
    gateway.hang_up_after = [10**9]
    assert small_map(abs, [-1]) == [1]
    from muster import _http

    for (_pid, url), kept in _http._idle.items():
        if url == gateway.url:
            for connection in kept:
                connection.abort()
    assert small_map(abs, [-2]) == [2]


@pytest.mark.parametrize(
    "empty", [[], (), range(0), "", {}, iter(()), (x for x in ())], ids=lambda e: type(e).__name__
)
def test_empty_inputs_give_an_empty_list_and_send_nothing(gateway, empty):
    assert small_map(abs, empty) == []
    assert gateway.requests == []


def test_a_tuple_is_one_argument(gateway):
    assert small_map(lambda pair: pair[0] + pair[1], [(1, 2), (3, 4)]) == [3, 7]


def test_many_inputs_of_a_list_come_back_complete(gateway):
    gateway.batch = 5000
    inputs = list(range(200_000))
    assert small_map(lambda x: x + 1, inputs) == [x + 1 for x in inputs]


def test_many_inputs_of_a_generator_are_never_held_whole(gateway):
    gateway.batch = 100
    ahead = []

    def inputs():
        for x in range(400):
            ahead.append(x - gateway.call.inputs if gateway.calls else x)
            yield bytes(100_000)

    assert small_map(len, inputs()) == [100_000] * 400
    assert max(ahead) <= 200, "8 MiB wait here, 4 MiB are on their way, the rest has arrived"


def test_items_never_sit_unsent_while_the_iterable_blocks(gateway):
    def inputs():
        for x in range(3):
            yield x
            gateway.until(
                f"input {x} has been run", lambda n=x: gateway.calls and gateway.call.done == n + 1
            )

    assert small_map(lambda x: x, inputs()) == [0, 1, 2]


def test_the_iterable_is_iterated_in_the_callers_thread(gateway):
    database = sqlite3.connect(":memory:")
    database.execute("create table t (x)")
    database.executemany("insert into t values (?)", [(x,) for x in range(5000)])
    rows = database.execute("select x from t order by x")  # refuses any other thread
    gateway.batch = 100
    assert small_map(lambda row: row[0], rows) == list(range(5000))
    database.close()


def test_an_exception_of_the_iterable_comes_out_unchanged_and_cancels(gateway):
    class Mine(Exception):
        pass

    error = Mine("from the iterable")

    def inputs():
        yield 1
        gateway.until("the call has started", lambda: gateway.calls)
        raise error

    with pytest.raises(Mine) as caught:
        small_map(lambda x: x, inputs())
    assert caught.value is error
    assert gateway.call.state == "cancelled"


def test_an_iterable_that_raises_before_anything_was_sent_sends_nothing(gateway):
    def inputs():
        yield 1
        raise OSError("at once")

    with pytest.raises(OSError, match="at once"):
        small_map(lambda x: x, inputs())
    assert gateway.requests == []


def test_an_exception_of_the_function_is_raised_with_index_and_call(gateway):
    def run(x):
        if x == 3:
            raise KeyError("three", x)
        return x

    with pytest.raises(KeyError) as caught:
        small_map(run, range(10))
    assert caught.value.args == ("three", 3)
    assert caught.value.index == 3
    assert caught.value.call_id == gateway.call.id


def test_iteration_stops_soon_after_the_first_failure(gateway):
    made = []

    def inputs():
        for x in range(10**9):
            made.append(x)
            yield x
            if x % 100 == 0:
                time.sleep(0.001)

    def run(x):
        if x == 50:
            raise ValueError(x)
        return x

    gateway.batch = 10
    with pytest.raises(ValueError, match="50"):
        small_map(run, inputs())
    assert len(made) < 10**6


def test_a_failure_does_not_wait_for_a_gateway_that_does_not_end_the_call(gateway, monkeypatch):
    from muster import _session

    monkeypatch.setattr(_session, "_STOP_SECONDS", 0.1)
    monkeypatch.setattr("fake_gateway.FakeCall.end", lambda *_: None)

    def run(x):
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        small_map(run, [1, 2])
    assert ("DELETE", "/v1/calls/call1") in gateway.requests


def test_return_exceptions_puts_them_in_their_places(gateway):
    def run(x):
        if x % 2:
            raise ValueError(x)
        if x == 4:
            die(code="worker_died", exit_code=7)
        return x

    got = small_map(run, range(6), return_exceptions=True)
    assert [type(value) for value in got] == [
        int,
        ValueError,
        int,
        ValueError,
        muster.WorkerDied,
        ValueError,
    ]
    assert gateway.call.spec["on_error"] == "continue"


@pytest.mark.parametrize(
    ("failure", "kind", "attributes"),
    [
        (
            {"code": "worker_died", "exit_code": 3},
            muster.WorkerDied,
            {"exit_code": 3, "signal": None},
        ),
        (
            {"code": "worker_died", "signal": 11},
            muster.WorkerDied,
            {"exit_code": None, "signal": 11},
        ),
        (
            {"code": "out_of_memory", "limit_bytes": 1 << 30, "peak_bytes": 1 << 30},
            muster.OutOfMemory,
            {"limit_bytes": 1 << 30, "peak_bytes": 1 << 30},
        ),
        ({"code": "timeout", "timeout_ms": 1500}, muster.InputTimeout, {"timeout_seconds": 1.5}),
        (
            {"code": "too_large", "limit_bytes": 1, "size_bytes": 2},
            muster.ValueTooLarge,
            {"size_bytes": 2},
        ),
        ({"code": "lost"}, muster.HostLost, {}),
        ({"code": "poison", "signal": 9}, muster.WorkerDied, {"signal": 9}),
        ({"code": "of_the_future"}, muster.InputError, {}),
    ],
    ids=lambda value: value.get("code") if isinstance(value, dict) else None,
)
def test_a_failure_names_input_and_host_and_hands_over_what_others_returned(
    gateway, failure, kind, attributes
):
    gateway.workers = 1

    def run(x):
        if x == 2:
            die(**failure)
        return x * 10

    with pytest.raises(muster.InputError) as caught:
        small_map(run, range(5))
    error = caught.value
    assert type(error) is kind
    assert (error.index, error.host, error.call_id, error.attempt) == (
        2,
        "fake-host",
        gateway.call.id,
        1,
    )
    assert {name: getattr(error, name) for name in attributes} == attributes
    assert error.outputs == {0: 0, 1: 10}
    assert "input 2 on host fake-host" in str(error)


def test_out_of_memory_says_func_ram_limit_and_peak(gateway):
    with pytest.raises(muster.OutOfMemory, match=r"func_ram.*limit 1\.00 GB, peak 1\.50 GB"):
        small_map(lambda _: die(code="out_of_memory", limit_bytes=1 << 30, peak_bytes=3 << 29), [1])


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_would_end_the_client_silently_does_not(gateway, kind):
    def run(x):
        raise kind("quiet")

    with pytest.raises(muster.RemoteError) as caught:
        small_map(run, [1])
    assert caught.value.type_name == kind.__name__
    assert caught.value.index == 0


def test_an_output_that_cannot_be_rebuilt_here_names_its_input(gateway):
    class Trap:
        def __reduce__(self):
            return int, ("not a number",)

    with pytest.raises(muster.PicklingError, match="not a number"):
        small_map(lambda x: Trap() if x == 1 else x, [0, 1])


def test_a_call_cancelled_elsewhere_raises_cancelled(gateway):
    def run(x):
        gateway_call.end("cancelled", None)

    def inputs():
        nonlocal gateway_call
        yield 1
        gateway.until("the call has started", lambda: gateway.calls)
        gateway.call.end("cancelled", None)
        yield 2

    gateway_call = None
    with pytest.raises(muster.Cancelled) as caught:
        small_map(lambda x: x, inputs())
    assert caught.value.call_id == gateway.call.id


def test_a_call_that_fails_as_a_whole_says_what_to_do(gateway):
    def inputs():
        yield 1
        gateway.until("the call has started", lambda: gateway.calls)
        gateway.call.end(
            "failed", {"code": "host_failed", "message": "the disk is full", "action": "Make room."}
        )

    with pytest.raises(muster.CallFailed, match="the disk is full. Make room.") as caught:
        small_map(lambda x: time.sleep(5), inputs())
    assert caught.value.code == "host_failed"


def test_a_problem_at_creation_is_its_own_exception_with_what_to_do(gateway):
    for status, code, kind in [
        (503, "no_hosts", muster.NoHosts),
        (422, "does_not_fit", muster.NoHosts),
        (422, "no_such_image", muster.ImageError),
        (422, "no_such_runtime", muster.NoHosts),
        (422, "no_image_for_python", muster.ImageError),
        (422, "python_mismatch", muster.ImageError),
        (422, "no_such_share", muster.ShareError),
        (403, "share_forbidden", muster.ShareError),
        (400, "bad_field", muster.ApiError),
    ]:
        gateway.refusals = [(status, {"code": code, "detail": "it is so.", "action": "Do this."})]
        with pytest.raises(muster.ApiError, match="it is so. Do this.") as caught:
            small_map(abs, [1])
        assert type(caught.value) is kind
        assert (caught.value.code, caught.value.status) == (code, status)


def test_a_wrong_token_is_an_auth_error(gateway):
    with pytest.raises(muster.AuthError, match="MUSTER_TOKEN"):
        small_map(abs, [1], token="wrong")


def test_url_and_token_can_be_arguments(gateway, monkeypatch):
    monkeypatch.delenv("MUSTER_URL")
    monkeypatch.delenv("MUSTER_TOKEN")
    assert small_map(abs, [-1], url=gateway.url, token=TOKEN) == [1]


@pytest.mark.parametrize("inputs", [[1, 2, 3], "generator"], ids=["list", "generator"])
def test_a_broken_connection_is_resumed_and_nothing_comes_twice(gateway, capfdbinary, inputs):
    from fake_gateway import say

    gateway.workers = 1
    gateway.hang_up_after = [1, 30, 90, 100, 200, 333, 10, 400]

    def run(x):
        say(b"print %d\n" % x)
        return x

    given = range(30)
    assert small_map(run, (x for x in given) if inputs == "generator" else given) == list(range(30))
    assert capfdbinary.readouterr().out == b"".join(b"print %d\n" % x for x in range(30))
    assert ("GET", f"/v1/calls/{gateway.call.id}/events") in gateway.requests


def test_a_resume_within_a_batch_of_outputs_skips_what_it_has(gateway):
    class Sink:
        def __init__(self):
            self.got = []

        def outputs(self, first, attempt, outputs):
            self.got += [(first + at, bytes(item)) for at, (_, item) in enumerate(outputs)]

    from muster import _wire

    sink = Sink()
    stream = _stream.Stream(None, "call")
    batch = _wire.outputs_frame(0, 1, [(0, b"a"), (0, b"b"), (0, b"c")])[_wire.HEADER.size :]
    later = _wire.outputs_frame(0, 1, [(0, b"a"), (0, b"b"), (0, b"c"), (0, b"d")])[
        _wire.HEADER.size :
    ]
    stream._handle(sink, _wire.OUTPUTS, 2, batch)
    assert stream.last == 4
    stream._handle(sink, _wire.OUTPUTS, 2, batch)
    stream._handle(sink, _wire.OUTPUTS, 2, later)
    assert (sink.got, stream.last) == ([(0, b"a"), (1, b"b"), (2, b"c"), (3, b"d")], 5)


def test_silence_counts_as_broken(gateway, monkeypatch):
    monkeypatch.setattr(_stream, "SILENCE_SECONDS", 0.05)
    assert small_map(lambda x: (time.sleep(0.4), x)[1], [5]) == [5]
    assert len([path for _, path in gateway.requests if path.endswith("/events")]) >= 2


def test_a_gateway_that_is_gone_is_told_and_at_last_a_transport_error_with_the_call(
    gateway, monkeypatch, capsys
):
    monkeypatch.setattr(_stream, "LOST_SECONDS", 0.5)
    monkeypatch.setattr(_stream, "_TOLD_SECONDS", 0.0)
    gateway.hang_up_after = [40]

    def inputs():
        yield 1
        gateway.until("the call has started", lambda: gateway.calls)
        gateway.server.server_close()
        gateway.call.log(7, b'{"type":"state"}')
        yield 2

    with pytest.raises(muster.TransportError, match="no gateway|lost|failed"):
        small_map(lambda x: time.sleep(10), inputs())
    assert capsys.readouterr().err.count("cannot be reached; trying again") == 1


def test_several_threads_call_at_once(gateway):
    results = {}

    def one(number):
        results[number] = small_map(lambda x: x * number, (x for x in range(20)))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == {number: [x * number for x in range(20)] for number in range(8)}


def test_it_works_inside_a_running_event_loop(gateway):
    async def main():
        return small_map(abs, [-1]), await asyncio.to_thread(small_map, abs, [-2])

    assert asyncio.run(main()) == ([1], [2])


def test_it_works_after_a_fork_and_the_parents_calls_are_left_alone(gateway):
    assert small_map(abs, [-1]) == [1]
    pending = remote_parallel_map(
        lambda x: (time.sleep(0.05), x)[1], range(10), generator=True, spinner=False
    )
    assert next(pending) in range(10)
    child = multiprocessing.get_context("fork").Process(target=_in_child, args=(pending,))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert small_map(abs, [-3]) == [3]
    assert len(list(pending)) == 9


def _in_child(pending):
    pending.close()
    ok = small_map(abs, [-2]) == [2]
    os._exit(0 if ok else 1)


def test_inputs_that_cannot_be_pickled_name_their_index_and_cancel(gateway):
    def inputs():
        yield 1
        gateway.until("the call has started", lambda: gateway.calls)
        yield threading.Lock()

    with pytest.raises(muster.PicklingError) as caught:
        small_map(lambda x: x, inputs())
    assert caught.value.index == 1
    assert gateway.call.state == "cancelled"
