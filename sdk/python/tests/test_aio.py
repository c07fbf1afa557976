"""`muster.aio`: calls that coroutines await, while the event loop goes on."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import muster
import muster.aio
from conftest import SLOW
from fake_gateway import say
from muster._plan import More


@pytest.fixture(autouse=True)
def _no_thread_is_left(gateway):
    """Whatever happened to a call, its threads end, once its functions and inputs let go."""
    yield
    SLOW.set()
    gateway.until(
        "its threads end", lambda: not [t for t in threading.enumerate() if t.name == "muster"]
    )


def amap(function, inputs, **options):
    options.setdefault("spinner", False)
    return muster.aio.remote_parallel_map(function, inputs, **options)


def run(main):
    """Runs a coroutine function with a deadline."""
    return asyncio.run(asyncio.wait_for(main(), 30))


async def until(what, condition, seconds=10.0):
    """Wait for a condition with a deadline, in the event loop."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.002)


def cancelled(gateway):
    return bool(gateway.calls) and gateway.call.state == "cancelled"


def slow(x):
    from conftest import SLOW

    SLOW.wait(30)
    return x


def test_it_has_the_same_parameters_as_the_plain_form():
    plain, aio = (
        inspect.signature(form.remote_parallel_map).parameters for form in (muster, muster.aio)
    )
    assert list(plain) == list(aio)
    for name, parameter in plain.items():
        assert (parameter.kind, parameter.default) == (aio[name].kind, aio[name].default)
    keywords = {name for name, p in plain.items() if p.kind is p.KEYWORD_ONLY}
    assert keywords - {"unpack", "ordered"} == set(More.__annotations__)


# The list


@pytest.mark.parametrize("kind", [list, iter], ids=["list", "iterator"])
def test_awaiting_it_gives_the_outputs_in_input_order(gateway, kind):
    assert run(lambda: amap(lambda x: x * x, kind(range(100)))) == [x * x for x in range(100)]


def test_options_are_those_of_the_plain_form(gateway):
    assert run(lambda: amap(pow, [(2, 3)], unpack=True, func_cpu=0.5, name="a name")) == [8]
    assert (gateway.call.spec["cpu"], gateway.call.spec["name"]) == (0.5, "a name")


@pytest.mark.parametrize("empty", [[], iter(())], ids=["list", "iterator"])
def test_no_inputs_make_no_call(gateway, empty):
    assert run(lambda: amap(abs, empty)) == []
    assert gateway.requests == []


def test_what_the_function_raises_is_raised_where_it_is_awaited(gateway):
    def fail(x):
        raise ValueError(f"input {x}")

    with pytest.raises(ValueError, match="input 7") as caught:
        run(lambda: amap(fail, [7]))
    assert caught.value.index == 0


def test_an_exception_that_no_future_takes_comes_out_all_the_same(gateway):
    def fail(x):
        raise StopIteration(x)

    with pytest.raises(RuntimeError) as caught:
        run(lambda: amap(fail, [7]))
    assert isinstance(caught.value.__cause__, StopIteration)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"func_cpu": 0}, "func_cpu"), ({"ordered": True}, "generator=True"), ({"inputs": 3}, "not int")],
)  # fmt: skip
def test_wrong_arguments_are_said_when_it_is_awaited(options, words):
    awaitable = amap(abs, options.pop("inputs", [1]), **options)
    with pytest.raises(muster.UsageError, match=words):
        asyncio.run(awaitable)


def test_the_event_loop_goes_on_while_the_iterable_and_the_function_block(gateway):
    """Both wait for what only the event loop does."""
    SLOW.clear()
    may_iterate = threading.Event()

    def inputs():
        may_iterate.wait(30)
        yield 1

    async def main():
        task = asyncio.create_task(amap(slow, inputs()))
        await asyncio.sleep(0)
        may_iterate.set()
        await until("it runs", lambda: gateway.calls and gateway.call.inputs)
        SLOW.set()
        return await task

    assert run(main) == [1]


def test_many_run_at_once(gateway):
    """More than the event loop has threads; none ends before all have begun."""
    SLOW.clear()
    count = 2 * (os.cpu_count() or 1) + 40

    async def main():
        tasks = [asyncio.create_task(amap(slow, [x])) for x in range(count)]
        await until("all run", lambda: len(gateway.calls) == count)
        SLOW.set()
        return await asyncio.gather(*tasks)

    assert run(main) == [[x] for x in range(count)]


def test_the_iterable_sees_the_callers_context_and_prints_come_out(gateway, capsys):
    variable = contextvars.ContextVar("variable", default="unset")

    def inputs():
        yield variable.get()

    async def main():
        variable.set("the caller's")
        return await amap(lambda x: (say(b"printed\n"), x)[1], inputs())

    assert run(main) == ["the caller's"]
    assert capsys.readouterr().out == "printed\n"


def test_in_the_background_it_gives_a_call(gateway):
    SLOW.clear()
    call = run(lambda: amap(slow, range(3), background=True))
    assert isinstance(call, muster.Call)
    assert call.status().state == "running"
    SLOW.set()
    assert call.results() == [0, 1, 2]


# Cancelling


def blocking_inputs():
    yield 1
    SLOW.wait(30)


@pytest.mark.parametrize("inputs", [lambda: [1], itertools.count, blocking_inputs])
@pytest.mark.parametrize("options", [{}, {"background": True}], ids=str)
def test_cancelling_the_task_that_awaits_cancels_the_call(gateway, inputs, options):
    if options and inputs() == [1]:
        return  # in the background by then
    SLOW.clear()

    async def main():
        task = asyncio.create_task(amap(slow, inputs(), **options))
        await until("it runs", lambda: gateway.calls and gateway.call.inputs)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cancelled(gateway), "before the task is over"

    run(main)
    SLOW.set()


def test_a_deadline_cancels_the_call(gateway):
    SLOW.clear()

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(amap(slow, [1]), 0.3)

    run(main)
    assert cancelled(gateway)
    SLOW.set()


def test_cancelling_before_the_gateway_answered_cancels_too(gateway):
    SLOW.clear()
    gateway.hold_creation.clear()

    async def main():
        task = asyncio.create_task(amap(slow, [1]))
        await until("the request has come", lambda: gateway.requests)
        task.cancel()
        await asyncio.sleep(0)
        gateway.hold_creation.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main)
    gateway.until("the call is cancelled", lambda: cancelled(gateway))
    SLOW.set()


def test_cancelling_at_once_makes_no_call_or_cancels_it(gateway):
    SLOW.clear()

    async def main():
        task = asyncio.create_task(amap(slow, [1]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main)
    gateway.until("nothing runs", lambda: not gateway.calls or cancelled(gateway))
    SLOW.set()


# The generator


def test_async_for_yields_outputs_as_they_come(gateway):
    SLOW.clear()

    def first_is_slow(x):
        return slow(x) if x == 0 else x

    async def main():
        outputs = amap(first_is_slow, [0, 1, 2], generator=True)
        assert inspect.isasyncgen(outputs)
        assert [await outputs.__anext__(), await outputs.__anext__()] == [1, 2]
        SLOW.set()
        return [x async for x in outputs]

    assert run(main) == [0]


def test_it_can_be_ordered(gateway):
    gateway.workers = 4

    async def main():
        options = {"generator": True, "ordered": True}
        return [x async for x in amap(lambda x: x, iter(range(500)), **options)]

    assert run(main) == list(range(500))


def test_the_event_loop_goes_on_between_outputs(gateway):
    SLOW.clear()

    async def main():
        async def release():
            await until("it runs", lambda: gateway.calls and gateway.call.inputs)
            SLOW.set()

        other = asyncio.create_task(release())
        got = [x async for x in amap(slow, [1], generator=True)]
        await other
        return got

    assert run(main) == [1]


def test_without_a_step_there_is_no_call(gateway):
    async def main():
        outputs = amap(slow, [1], generator=True)
        await outputs.aclose()

    run(main)
    assert gateway.requests == []


@pytest.mark.parametrize("empty", [[], iter(())], ids=["list", "iterator"])
def test_no_inputs_yield_nothing(gateway, empty):
    async def main():
        return [x async for x in amap(abs, empty, generator=True)]

    assert run(main) == []


def test_a_failure_is_raised_after_what_came_before_it(gateway):
    gateway.workers = 1

    def fail(x):
        if x == 2:
            raise ValueError("two")
        return x

    async def main():
        got = []
        with pytest.raises(ValueError, match="two"):
            async for x in amap(fail, range(10), generator=True):
                got.append(x)
        return got

    assert run(main) == [0, 1]


@pytest.mark.parametrize("how", ["close", "break", "cancel", "cancel while it waits"])
def test_leaving_it_cancels_the_call(gateway, how):
    SLOW.clear()

    def quick_at_first(x):
        return slow(x) if x > 20 or "waits" in how else x

    async def consume():
        outputs = amap(quick_at_first, itertools.count(), generator=True)
        async for _ in outputs:
            if how == "close":
                await outputs.aclose()
                assert cancelled(gateway)
            elif how == "cancel":
                await asyncio.sleep(60)
            break

    async def main():
        task = asyncio.create_task(consume())
        if "cancel" in how:
            await until("it runs", lambda: gateway.calls and gateway.call.inputs)
            task.cancel()
        await asyncio.wait([task])
        gc.collect()
        await until("the call is cancelled", lambda: cancelled(gateway))

    run(main)
    SLOW.set()


def test_one_that_is_left_when_the_event_loop_ends_cancels_its_call(gateway):
    async def main():
        outputs = amap(lambda x: x, itertools.count(), generator=True)
        return await outputs.__anext__(), outputs

    run(main)
    assert cancelled(gateway)


# Asynchronous inputs


def test_asynchronous_inputs_are_iterated_in_the_event_loop(gateway):
    threads = set()

    async def inputs():
        for x in range(200):
            await asyncio.sleep(0)
            threads.add(threading.get_ident())
            yield x

    async def main():
        return await amap(lambda x: -x, inputs()), threading.get_ident()

    got, loop = run(main)
    assert got == [-x for x in range(200)]
    assert threads == {loop}


def test_an_exception_of_asynchronous_inputs_comes_out_and_cancels(gateway):
    SLOW.clear()

    async def inputs():
        yield 1
        await until("it runs", lambda: gateway.calls and gateway.call.inputs)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        run(lambda: amap(slow, inputs()))
    assert cancelled(gateway)
    SLOW.set()


@pytest.mark.parametrize("options", [{}, {"generator": True}], ids=str)
def test_asynchronous_inputs_that_wait_are_let_go_when_the_call_is_cancelled(gateway, options):
    SLOW.clear()
    ended = []

    async def inputs():
        yield 1
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async def consume():
        if options:
            return [x async for x in amap(slow, inputs(), **options)]
        return await amap(slow, inputs())

    async def main():
        task = asyncio.create_task(consume())
        await until("it runs", lambda: gateway.calls and gateway.call.inputs)
        task.cancel()
        await asyncio.wait([task])
        await until("the inputs are let go", lambda: ended)

    run(main)
    assert cancelled(gateway)
    SLOW.set()


def test_the_plain_form_says_who_takes_asynchronous_inputs():
    async def inputs():
        yield 1

    with pytest.raises(TypeError, match=r"muster\.aio"):
        muster.remote_parallel_map(abs, inputs())


# The end of the program

SOURCE = """
import asyncio, itertools, sys, time
import muster.aio
async def main():
    {main}
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize(
    "main",
    [
        "await muster.aio.remote_parallel_map(time.sleep, [60])",
        "[x async for x in muster.aio.remote_parallel_map(time.sleep, itertools.repeat(60), generator=True)]",
    ],
    ids=["list", "generator"],
)
def test_ctrl_c_cancels_the_call_and_comes_out(gateway, main):
    with subprocess.Popen(
        [sys.executable, "-c", SOURCE.format(main=main)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parent,
    ) as process:
        gateway.until("the call runs", lambda: gateway.calls and gateway.call.inputs)
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (out, err) == (b"interrupted\n", b"")
    assert cancelled(gateway)


def test_an_event_loop_that_is_simply_left_cancels_at_the_end_of_the_program(gateway):
    source = (
        "import asyncio, time, muster.aio\n"
        "loop = asyncio.new_event_loop()\n"
        "task = loop.create_task(muster.aio.remote_parallel_map(time.sleep, [60], spinner=False))\n"
        "loop.run_until_complete(asyncio.sleep(1))\n"
    )
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", source],
        stderr=subprocess.DEVNULL,
        check=True,
        timeout=30,
        cwd=Path(__file__).parent,
    )
    gateway.until("the call is cancelled", lambda: cancelled(gateway))
