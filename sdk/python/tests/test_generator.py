"""`generator=True`."""

from __future__ import annotations

import gc
import inspect
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import muster
from fake_gateway import die
from muster import _collect, remote_parallel_map


def generate(function, inputs, **options):
    return remote_parallel_map(function, inputs, generator=True, spinner=False, **options)


def test_it_is_a_generator_and_the_call_has_started_before_it_is_iterated(gateway):
    outputs = generate(lambda x: x * 2, [1, 2, 3])
    assert inspect.isgenerator(outputs)
    gateway.until("all inputs have run", lambda: gateway.call.done == 3)
    assert sorted(outputs) == [2, 4, 6]


def test_a_generator_that_has_ended_holds_no_inputs(gateway):
    inputs = [[n] for n in range(30_000)]
    before = sys.getrefcount(inputs)
    gc.collect()
    gc.disable()
    try:
        assert sum(1 for _ in generate(lambda x: x, inputs)) == len(inputs)
        gateway.until("the inputs are the caller's", lambda: sys.getrefcount(inputs) == before)
    finally:
        gc.enable()


def test_it_comes_back_at_once_even_when_the_iterable_blocks(gateway):
    release = threading.Event()

    def inputs():
        release.wait(10)
        yield 1

    begun = time.monotonic()
    outputs = generate(lambda x: x, inputs())
    assert time.monotonic() - begun < 5
    assert gateway.call.state == "running"
    release.set()
    assert list(outputs) == [1]


def test_outputs_come_as_they_are_produced(gateway):
    gateway.workers = 2

    def run(x):
        from conftest import SLOW

        if x == 0:
            SLOW.wait(10)
        return x

    from conftest import SLOW

    SLOW.clear()
    outputs = generate(run, [0, 1, 2])
    assert next(outputs) == 1
    assert next(outputs) == 2
    SLOW.set()
    assert next(outputs) == 0
    with pytest.raises(StopIteration):
        next(outputs)


@pytest.mark.parametrize(
    "how", ["close", "drop", "never iterated and dropped", "never iterated and closed"]
)
def test_a_generator_that_is_closed_or_dropped_cancels_the_call(gateway, how):
    outputs = generate(lambda x: (time.sleep(0.01), x)[1], iter(range(10_000)))
    if "never" not in how:
        next(outputs)
    if "close" in how:
        outputs.close()
    else:
        del outputs
        gc.collect()
    gateway.until("the call is cancelled", lambda: gateway.call.state == "cancelled")


def test_one_that_is_never_iterated_harms_nothing(gateway):
    outputs = generate(lambda x: x, range(10))
    gateway.until("the call has ended", lambda: gateway.call.state == "succeeded")
    del outputs
    gc.collect()
    assert gateway.call.state == "succeeded"
    assert remote_parallel_map(abs, [-1], spinner=False) == [1]


def test_one_that_is_read_to_the_end_cancels_nothing(gateway):
    assert sorted(generate(lambda x: x, (x for x in range(50)))) == list(range(50))
    gc.collect()
    assert not [path for method, path in gateway.requests if method == "DELETE"]


@pytest.mark.parametrize("empty", [[], iter(())], ids=["list", "iterator"])
def test_empty_inputs_yield_nothing(gateway, empty):
    assert list(generate(abs, empty)) == []


def test_the_functions_exception_is_raised_where_it_came_and_ends_the_call(gateway):
    gateway.workers = 1

    def run(x):
        if x == 2:
            raise ValueError("two")
        return x

    outputs = generate(run, range(10))
    assert [next(outputs), next(outputs)] == [0, 1]
    with pytest.raises(ValueError, match="two") as caught:
        next(outputs)
    assert caught.value.index == 2
    assert list(outputs) == []


def test_return_exceptions_yields_them(gateway):
    def run(x):
        if x:
            die(code="worker_died", exit_code=1)
        return x

    got = list(generate(run, [0, 1], return_exceptions=True))
    assert sorted(type(value).__name__ for value in got) == ["WorkerDied", "int"]


def test_an_exception_of_the_iterable_comes_out_and_cancels(gateway):
    def inputs():
        yield 1
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        list(generate(lambda x: (time.sleep(5), x)[1], inputs()))
    assert gateway.call.state == "cancelled"


def test_an_error_before_anything_runs_is_immediate(gateway):
    gateway.refusals = [
        (503, {"code": "no_hosts", "detail": "no host", "action": "Start an agent."})
    ]
    with pytest.raises(muster.NoHosts):
        generate(abs, [1])


def test_a_slow_consumer_holds_the_reader_back_but_not_for_ever(gateway, monkeypatch):
    monkeypatch.setattr(_collect, "AHEAD_COUNT", 5)
    monkeypatch.setattr(_collect, "_TOUCH_SECONDS", 0.05)
    outputs = generate(lambda x: x, range(200))
    gateway.until("all inputs have run", lambda: gateway.call.done == 200)
    gateway.until(
        "the gateway hears that the client is there",
        lambda: ("GET", f"/v1/calls/{gateway.call.id}/events") in gateway.requests,
    )
    assert sorted(outputs) == list(range(200))


def test_one_that_is_alive_at_the_end_of_the_program_cancels_its_call(gateway):
    source = (
        "import time, muster\n"
        "outputs = muster.remote_parallel_map(time.sleep, iter([0] + [0.02] * 5000), generator=True, spinner=False)\n"
        "next(outputs)\n"
    )
    subprocess.run(
        [sys.executable, "-c", source], check=True, timeout=30, cwd=Path(__file__).parent
    )
    gateway.until("the call is cancelled", lambda: gateway.call.state == "cancelled")
