"""`generator=True`: the call has started, outputs come as they are produced, closing it cancels the
call."""

import gc
import threading
import time
import types

import pytest
from harness import small_map, until


def _newest(service, known):
    return next(call for call in service.api.calls() if call["id"] not in known)


def _ids(service):
    return {call["id"] for call in service.api.calls()}


def test_it_returns_a_generator_at_once_and_the_call_has_started(service):
    known = _ids(service)

    def run(_):
        time.sleep(600)

    outputs = small_map(run, [1], generator=True)
    assert isinstance(outputs, types.GeneratorType) or (
        iter(outputs) is outputs and hasattr(outputs, "close")
    )
    # Nobody asks for an output, and yet it runs.
    until(
        "the call runs",
        lambda: _ids(service) - known and _newest(service, known)["state"] == "running",
    )
    outputs.close()


@pytest.mark.smoke
def test_outputs_are_yielded_as_they_are_produced(service):
    """The second input never ends, so its successor's output is only seen by whoever does not wait
    for order."""

    def run(x):
        if x == 0:
            time.sleep(600)
        return x

    outputs = small_map(run, [0, 1, 2], generator=True)
    assert {next(outputs), next(outputs)} == {1, 2}
    outputs.close()


def test_all_outputs_come_once(service):
    assert sorted(small_map(lambda x: x, range(5000), generator=True)) == list(range(5000))


@pytest.mark.parametrize("how", ["close", "drop", "break"])
def test_closing_or_dropping_it_cancels_the_call(service, how):
    known = _ids(service)

    def run(x):
        if x:
            time.sleep(600)
        return x

    outputs = small_map(run, [0, 1, 2], generator=True)
    if how == "break":
        for output in outputs:  # noqa: B007 - it is looked at below
            break
    else:
        output = next(outputs)
    assert output == 0
    call = _newest(service, known)["id"]
    if how == "close":
        outputs.close()
        assert list(outputs) == [], "a closed generator has nothing more to give"
    del outputs
    gc.collect()
    until("the call is cancelled", lambda: service.api.call(call)["state"] == "cancelled", 10)
    until("its containers are gone", lambda: service.agents[0].busy() == 0, 10)


def test_dropping_it_before_the_first_output_cancels_the_call_too(service):
    known = _ids(service)
    outputs = small_map(lambda _: time.sleep(600), [0], generator=True)
    until("the call is there", lambda: _ids(service) - known)
    del outputs
    gc.collect()
    until("the call is cancelled", lambda: _newest(service, known)["state"] == "cancelled", 10)


def test_one_that_nobody_iterates_harms_nothing(service):
    idle = small_map(lambda _: bytes(100_000), range(200), generator=True)
    assert small_map(lambda x: x, [1]) == [1], "another call in the same process runs meanwhile"
    assert sum(len(output) for output in idle) == 200 * 100_000, "and it can still be read"


def test_a_client_that_never_iterates_or_closes_ends_as_it_should(script):
    source = """
import muster
options = dict(func_ram=0.25, generator=True, spinner=False)
outputs = muster.remote_parallel_map(lambda x: x, range(10), **options)
print("leaving")
"""
    assert script(source).succeed() == b"leaving\n"


def test_an_exception_comes_out_of_it_after_which_it_is_exhausted(service):
    def run(x):
        if x == 1:
            raise ValueError(x)
        return x

    outputs = small_map(run, [0, 1], generator=True, max_parallelism=1)
    assert next(outputs) == 0
    with pytest.raises(ValueError, match="1"):
        next(outputs)
    assert list(outputs) == []


def test_return_exceptions_yields_them(service):
    def run(x):
        raise ValueError(x)

    errors = list(small_map(run, [1, 2], generator=True, return_exceptions=True))
    assert sorted(error.args for error in errors) == [(1,), (2,)]


def test_it_can_be_iterated_in_another_thread_than_the_one_that_made_it(service):
    outputs = small_map(lambda x: x, range(100), generator=True)
    got = []
    thread = threading.Thread(target=lambda: got.extend(outputs))
    thread.start()
    thread.join(20)
    assert sorted(got) == list(range(100))


def test_two_at_once_are_read_side_by_side(service):
    first = small_map(lambda x: x, range(50), func_cpu=0.5, generator=True)
    second = small_map(lambda x: -x, range(50), func_cpu=0.5, generator=True)
    pairs = list(zip(first, second))
    assert sorted(a for a, _ in pairs) == list(range(50))
    assert sorted(-b for _, b in pairs) == list(range(50))
