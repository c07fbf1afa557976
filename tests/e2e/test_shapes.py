"""The other shapes of a call: several arguments, a generator in input order, and coroutines."""

import asyncio
import itertools
import time
import traceback

import muster.aio
import pytest
from harness import small_map, until


def area(width, height=1, *, scale=1):
    return width * height * scale


def add(x, y):
    raise ValueError(f"{x} and {y}")


@pytest.mark.smoke
def test_inputs_are_spread_over_the_functions_parameters(service):
    inputs = [(2, 3), [4], {"width": 5, "scale": 10}]
    assert small_map(area, inputs, unpack=True) == [6, 4, 50]
    assert small_map(pow, ((2, x) for x in range(2000)), unpack=True) == [2**x for x in range(2000)]


def test_prints_and_tracebacks_of_a_spread_function_are_its_own(service, capfd):
    with pytest.raises(ValueError, match="1 and 2") as caught:
        small_map(add, [(1, 2)], unpack=True)
    remote = traceback.extract_tb(caught.value.__traceback__)[-1:]
    assert [(frame.name, frame.line) for frame in remote] == [
        ("add", 'raise ValueError(f"{x} and {y}")')
    ]
    assert "_unpack" not in "".join(traceback.format_exception(caught.value))
    small_map(lambda x, y: print(x, y), [{"x": 1, "y": 2}], unpack=True)
    assert capfd.readouterr().out == "1 2\n"


@pytest.mark.smoke
def test_an_ordered_generator_yields_in_input_order(service):
    def run(x):
        time.sleep(0.2 if x % 50 == 0 else 0)
        return x

    outputs = small_map(run, iter(range(300)), generator=True, ordered=True)
    assert list(outputs) == list(range(300))


@pytest.mark.deadline(120)
def test_one_slow_input_before_100_000_quick_ones_holds_nothing_up_for_ever(service):
    def run(x):
        if x == 0:
            time.sleep(5)
        return x

    outputs = small_map(run, (x for x in range(100_001)), generator=True, ordered=True)
    for at, x in enumerate(outputs):
        assert x == at
    assert at == 100_000


def test_an_ordered_generator_reads_a_window_ahead_and_ends_its_call_when_it_is_dropped(service):
    known = {call["id"] for call in service.api.calls()}
    taken = itertools.count()
    read = []

    def inputs():
        for x in taken:
            read[:] = [x]
            yield x

    def run(x):
        if x == 1:
            time.sleep(600)
        return x

    outputs = small_map(run, inputs(), generator=True, ordered=True)
    assert next(outputs) == 0
    (call,) = (call for call in service.api.calls() if call["id"] not in known)

    def stands():
        done = service.api.call(call["id"])["done"]
        return done >= 80_000 and done + 5 >= read[0]

    until("all that was read has run, but for one", stands, 60, interval=0.5)
    assert read[0] <= 101_000
    del outputs
    until("it is over", lambda: service.api.call(call["id"])["state"] == "cancelled")


def test_an_ordered_generator_raises_in_its_turn_and_cancels(service):
    known = {call["id"] for call in service.api.calls()}

    def run(x):
        if x == 1:
            raise ValueError("one")
        time.sleep(1 if x == 0 else 600)
        return x

    outputs = small_map(run, [0, 1, 2], generator=True, ordered=True)
    assert next(outputs) == 0
    with pytest.raises(ValueError, match="one"):
        next(outputs)
    (call,) = (call for call in service.api.calls() if call["id"] not in known)
    until("it is over", lambda: service.api.call(call["id"])["state"] in ("cancelled", "failed"))


def aio_map(function, inputs, **options):
    return muster.aio.remote_parallel_map(function, inputs, func_ram=0.25, spinner=False, **options)


@pytest.mark.smoke
def test_coroutines_await_the_list_or_iterate_the_generator(service, capfd):
    def run(x):
        print("input", x)
        return x * x

    async def inputs():
        for x in range(20):
            await asyncio.sleep(0)
            yield x

    async def main():
        whole, background = await asyncio.gather(
            aio_map(run, inputs(), func_cpu=0.5), aio_map(run, [3], func_cpu=0.5, background=True)
        )
        streamed = [x async for x in aio_map(run, range(20), generator=True, ordered=True)]
        return whole, await asyncio.to_thread(background.results), streamed

    squares = [x * x for x in range(20)]
    assert asyncio.run(main()) == (squares, [9], squares)
    printed = capfd.readouterr().out.splitlines()
    assert sorted(printed) == sorted([f"input {x}" for x in range(20)] * 2)


@pytest.mark.parametrize("how", ["list", "generator"])
def test_cancelling_a_task_cancels_its_call(service, how):
    known = {call["id"] for call in service.api.calls()}

    def run(x):
        time.sleep(600)

    def new():
        return [call for call in service.api.calls() if call["id"] not in known]

    async def consume():
        if how == "list":
            await aio_map(run, [1])
        async for _ in aio_map(run, itertools.count(), generator=True):
            pass

    async def main():
        task = asyncio.create_task(consume())
        await asyncio.to_thread(until, "it runs", lambda: new() and new()[0]["state"] == "running")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    (call,) = new()
    until("it is cancelled", lambda: service.api.call(call["id"])["state"] == "cancelled")
