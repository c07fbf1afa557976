"""The rule for every test of this folder: it has a deadline."""

import faulthandler
import signal
import sys

import pytest

DEFAULT_DEADLINE = 45.0


class DeadlinePassed(BaseException):
    """Raised inside a test that takes too long. A BaseException, so that no test and no product
    code swallows it."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Interrupts a test that takes too long, where it stands: the traceback then shows what it was
    waiting for."""
    marker = item.get_closest_marker("deadline")
    seconds = float(marker.args[0]) if marker else DEFAULT_DEADLINE

    def passed(_signal, _frame):
        raise DeadlinePassed(f"{item.name} took longer than {seconds:g} s")

    previous = signal.signal(signal.SIGALRM, passed)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    # Where the main thread cannot be interrupted (it waits in C code), at least say where it hangs.
    faulthandler.dump_traceback_later(seconds + 15, file=sys.__stderr__)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
