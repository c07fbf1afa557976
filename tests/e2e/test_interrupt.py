"""Ctrl-C cancels the call; no signal handler is ever replaced."""

import re
import signal
import time

import pytest
from harness import small_map, until
from harness.docker import inspect


def _newest(service):
    return service.api.calls()[0]["id"]


def _containers(running):
    """The containers the function says it runs in: a container's host name is its own name."""
    return re.findall(r"running in (\S+)\.", running.stdout.decode())


ENDLESS = """
import platform, signal, time, muster

def run(x):
    {ignore}
    print(f"running in {{platform.node()}}.")
    time.sleep(600)

options = dict(func_ram=0.25, spinner=False)
try:
    {call}
except KeyboardInterrupt:
    print("KeyboardInterrupt came out", flush=True)
    raise
"""


@pytest.mark.parametrize(
    ("call", "ignore"),
    [
        ("muster.remote_parallel_map(run, range(4), **options)", "pass"),
        (
            "muster.remote_parallel_map(run, range(4), **options)",
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        ),
        ("list(muster.remote_parallel_map(run, range(4), generator=True, **options))", "pass"),
    ],
    ids=["list", "a function that ignores SIGTERM", "generator"],
)
def test_ctrl_c_cancels_the_call_and_its_containers_are_gone_within_ten_seconds(
    script, service, call, ignore
):
    running = script(ENDLESS.format(call=call, ignore=ignore))
    until("both workers run", lambda: len(_containers(running)) == 2)
    call_id = _newest(service)
    names = _containers(running)
    assert all(inspect(name) for name in names)
    running.interrupt()
    start = time.monotonic()
    until("its containers are gone", lambda: not any(inspect(name) for name in names), 10)
    assert running.end(10 - (time.monotonic() - start) + 1) in (-signal.SIGINT, 130)
    assert b"KeyboardInterrupt came out" in running.stdout
    until("the call is cancelled", lambda: service.api.call(call_id)["state"] == "cancelled", 5)


def test_ctrl_c_while_the_inputs_are_being_made_cancels_the_call(script, service):
    source = """
import sys, threading, muster

def inputs():
    yield 1
    print("making inputs", flush=True)
    threading.Event().wait()

muster.remote_parallel_map(lambda x: x, inputs(), func_ram=0.25, spinner=False)
"""
    running = script(source)
    running.wait_for(b"making inputs\n")
    running.interrupt()
    assert running.end(10) in (-signal.SIGINT, 130)
    call_id = _newest(service)
    until("the call is cancelled", lambda: service.api.call(call_id)["state"] == "cancelled", 10)


def test_no_signal_handler_is_replaced_before_during_or_after_a_call(service):
    numbers = [n for n in signal.valid_signals() if n not in (signal.SIGKILL, signal.SIGSTOP)]

    def handlers():
        return {number: signal.getsignal(number) for number in numbers}

    before = handlers()
    during = []

    def inputs():
        for x in range(3):
            during.append(handlers())
            yield x

    for _ in small_map(lambda x: x, inputs(), generator=True):
        during.append(handlers())
    small_map(lambda x: x, inputs())
    assert during
    assert all(seen == before for seen in during)
    assert handlers() == before
