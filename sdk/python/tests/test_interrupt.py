"""Ctrl-C cancels the call and comes out as KeyboardInterrupt; no signal handler is replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from muster import remote_parallel_map

SOURCE = """
import signal, sys, time
before = signal.getsignal(signal.SIGINT)
import muster
def forever():
    for x in range(10**9):
        time.sleep(0.01)
        yield x
def blocking():
    yield 60
    # In short pieces: CPython overlooks a signal that comes just before a blocking call until the call is over.
    while True:
        time.sleep(0.02)
try:
    {call}
except KeyboardInterrupt:
    assert signal.getsignal(signal.SIGINT) is before
    print("interrupted")
"""

CALLS = {
    "small": "muster.remote_parallel_map(time.sleep, [60])",
    "streaming": "muster.remote_parallel_map(time.sleep, forever())",
    "blocked iterable": "muster.remote_parallel_map(time.sleep, blocking())",
    "generator": "list(muster.remote_parallel_map(time.sleep, [60], generator=True))",
    "background": "muster.remote_parallel_map(time.sleep, forever(), background=True)",
}


@pytest.mark.parametrize("kind", CALLS)
def test_ctrl_c_cancels_the_call_and_comes_out(gateway, kind):
    with subprocess.Popen(
        [sys.executable, "-c", SOURCE.format(call=CALLS[kind])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parent,
    ) as process:
        gateway.until("the call runs", lambda: gateway.calls and gateway.call.inputs)
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert out == b"interrupted\n", err
    assert err == b""
    gateway.until("the call is cancelled", lambda: gateway.call.state == "cancelled")


def test_ctrl_c_before_the_gateway_answered_cancels_too(gateway):
    gateway.hold_creation.clear()
    with subprocess.Popen(
        [sys.executable, "-c", SOURCE.format(call=CALLS["small"])],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent,
    ) as process:
        gateway.until("the request has come", lambda: gateway.requests)
        os.kill(process.pid, signal.SIGINT)
        gateway.until("the client asks which call it made", lambda: len(gateway.requests) == 2)
        gateway.hold_creation.set()
        out, _ = process.communicate(timeout=20)
    assert out == b"interrupted\n"
    gateway.until("the call is cancelled", lambda: gateway.call.state == "cancelled")


def test_a_call_in_another_thread_touches_no_signal_handler(gateway):
    before = signal.getsignal(signal.SIGINT)
    got = []
    thread = threading.Thread(
        target=lambda: got.append(remote_parallel_map(abs, iter([-1]), spinner=False))
    )
    thread.start()
    thread.join(10)
    assert got == [[1]]
    assert signal.getsignal(signal.SIGINT) is before
