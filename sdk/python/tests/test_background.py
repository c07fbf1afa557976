"""`background=True`, and `Call` from anywhere."""

from __future__ import annotations

import threading

import pytest

import muster
from conftest import SLOW
from fake_gateway import say
from muster import Call, remote_parallel_map


def start(function, inputs, **options):
    return remote_parallel_map(function, inputs, background=True, **options)


@pytest.mark.parametrize("kind", [list, iter], ids=["list", "iterator"])
def test_it_returns_when_function_and_inputs_are_uploaded(gateway, kind):
    SLOW.clear()

    def run(x):
        from conftest import SLOW

        SLOW.wait(10)
        return x * x

    call = start(run, kind(range(50)))
    assert isinstance(call, Call)
    assert (gateway.call.inputs, gateway.call.total, gateway.call.done) == (50, 50, 0)
    assert call.status().state == "running"
    with pytest.raises(TimeoutError):
        call.wait(timeout=0.05)
    with pytest.raises(TimeoutError):
        call.results(timeout=0.05)
    SLOW.set()
    assert call.wait(timeout=10).finished
    assert call.results() == [x * x for x in range(50)]
    assert call.results() == [x * x for x in range(50)], "reading takes nothing away"


def test_a_gateway_that_cannot_be_reached_is_waited_for_no_longer_than_asked(gateway):
    SLOW.clear()

    def run(x):
        from conftest import SLOW

        SLOW.wait(10)

    call = start(run, [1])
    gateway.hang_up_after = [40]
    gateway.server.server_close()
    with pytest.raises(TimeoutError):
        call.wait(timeout=0.2)
    SLOW.set()


def test_any_process_attaches_by_id(gateway):
    call = start(abs, [-1, -2])
    again = Call(call.id)
    assert again == call
    assert again.results() == [1, 2]
    assert call.id in repr(again)


def test_results_as_completed_come_with_their_index(gateway):
    call = start(lambda x: x * 10, range(5))
    assert sorted(call.results(as_completed=True)) == [(x, x * 10) for x in range(5)]


def test_results_raise_what_the_function_raised_or_return_it(gateway):
    def run(x):
        if x == 1:
            raise ValueError("in the background")
        return x

    call = start(run, range(3), return_exceptions=True)
    with pytest.raises(ValueError, match="in the background") as caught:
        call.results()
    assert caught.value.index == 1
    with pytest.raises(ValueError, match="in the background"):
        list(call.results(as_completed=True))
    got = call.results(return_exceptions=True)
    assert [got[0], type(got[1]), got[2]] == [0, ValueError, 2]


def test_logs_are_what_was_printed_whole_or_by_input_or_by_stream(gateway):
    gateway.workers = 1

    def run(x):
        say(b"out %d\n" % x)
        say(b"err %d \xff\n" % x, 2)

    call = start(run, range(2))
    call.wait()
    assert call.logs() == "out 0\nerr 0 \ufffd\nout 1\nerr 1 \ufffd\n"
    assert call.logs(1) == "out 1\nerr 1 \ufffd\n"
    assert call.logs(stream="stdout") == "out 0\nout 1\n"
    with pytest.raises(ValueError, match="stdin"):
        call.logs(stream="stdin")


def test_logs_of_a_running_call_are_what_it_has_printed_so_far(gateway):
    SLOW.clear()

    def run(x):
        from conftest import SLOW

        say(b"begun\n")
        SLOW.wait(10)

    call = start(run, [1])
    gateway.until("it has printed", lambda: gateway.call.seq == 2)
    assert call.logs() == "begun\n"
    SLOW.set()


def test_cancel_can_be_repeated_and_results_say_cancelled(gateway):
    SLOW.clear()

    def run(x):
        from conftest import SLOW

        SLOW.wait(10)

    call = start(run, [1])
    call.cancel()
    call.cancel()
    assert call.status().state == "cancelled"
    with pytest.raises(muster.Cancelled):
        call.results()
    with pytest.raises(muster.Cancelled):
        list(call.results(as_completed=True))
    SLOW.set()


def test_the_iterable_is_iterated_in_the_callers_thread(gateway):
    threads = set()

    def inputs():
        for x in range(2000):
            threads.add(threading.get_ident())
            yield x

    assert start(lambda x: x, inputs()).results() == list(range(2000))
    assert threads == {threading.get_ident()}


def test_an_exception_of_the_iterable_comes_out_and_cancels(gateway):
    def inputs():
        yield 1
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        start(abs, inputs())
    assert gateway.call.state == "cancelled"


def test_a_call_that_ends_while_it_is_uploaded_still_gives_its_handle(gateway):
    def inputs():
        yield 1
        gateway.until("it has failed", lambda: gateway.call.state == "failed")
        yield from range(1000)

    def run(x):
        raise ValueError("early")

    call = start(run, inputs())
    with pytest.raises(ValueError, match="early"):
        call.results()


def test_empty_inputs_make_a_call_without_outputs(gateway):
    assert start(abs, []).results() == []


def test_an_unknown_call_says_so(gateway):
    with pytest.raises(muster.CallNotFound, match="nosuchcall"):
        Call("nosuchcall").status()
    with pytest.raises(muster.CallNotFound):
        Call("nosuchcall").results()


@pytest.mark.parametrize("wrong", ["", "../calls", "a b", "a?b"])
def test_what_cannot_be_an_id_is_refused(gateway, wrong):
    with pytest.raises(ValueError, match="id"):
        Call(wrong)


def test_calls_and_hosts_are_listed(gateway):
    call = start(abs, [1], name="the name")
    (status,) = muster.calls()
    assert (status.id, status.name) == (call.id, "the name")
    (host,) = muster.hosts()
    assert host["host"] == "fake-host"


def test_under_its_key_a_call_is_made_once_and_its_upload_goes_on_where_it_stopped(gateway):
    class Stopped(Exception):
        pass

    def inputs(stop):
        for index in range(20):
            if index == 10 and stop:
                gateway.until("ten are there", lambda: gateway.calls and gateway.call.inputs == 10)
                raise Stopped
            yield index

    with pytest.raises(Stopped):
        start(abs, inputs(stop=True), key="nightly")
    assert (gateway.call.state, gateway.call.total) == ("running", None), "it waits"
    call = start(abs, inputs(stop=False), key="nightly")
    assert call.id == gateway.call.id
    assert call.results() == list(range(20))
    assert start(abs, inputs(stop=False), key="nightly") == call


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"key": 7, "background": True}, TypeError),
        ({"key": "", "background": True}, ValueError),
        ({"key": "k\u00e4se", "background": True}, ValueError),
        ({"key": "k"}, ValueError),
    ],
)
def test_a_key_that_cannot_be_one_is_refused(gateway, options, kind):
    with pytest.raises(kind, match="key"):
        remote_parallel_map(abs, [1], **options)
    assert not gateway.requests
