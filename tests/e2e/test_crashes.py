"""A crash costs the input that crashed and no other; the error says what happened, to which input,
and where."""

import os
import signal
import sys
import time

import muster
import pytest
from harness import small_map

GIB = 1 << 30


def _named(error, service, index):
    assert error.index == index
    assert error.host == service.agents[0].name
    assert error.call_id == service.api.calls()[0]["id"]
    assert str(index) in str(error)
    assert error.host in str(error)


@pytest.mark.smoke
def test_an_exit_in_the_middle_of_a_batch_fails_only_that_input(service):
    def run(x):
        if x == 10:
            os._exit(3)
        return x * x

    outputs = small_map(run, range(20), return_exceptions=True)
    error = outputs[10]
    assert type(error) is muster.WorkerDied
    assert (error.exit_code, error.signal) == (3, None)
    _named(error, service, 10)
    assert [output for x, output in enumerate(outputs) if x != 10] == [
        x * x for x in range(20) if x != 10
    ]


def test_without_return_exceptions_the_others_outputs_are_on_the_exception(service):
    def run(x):
        if x == 10:
            os._exit(3)
        return x * x

    with pytest.raises(muster.WorkerDied) as caught:
        small_map(run, range(11), max_parallelism=1)
    _named(caught.value, service, 10)
    assert caught.value.outputs == {x: x * x for x in range(10)}


def test_an_exit_with_zero_is_a_death_too(service):
    with pytest.raises(muster.WorkerDied) as caught:
        small_map(lambda _: os._exit(0), [1])
    assert caught.value.exit_code == 0


def test_a_signal_names_the_signal(service):
    def run(_):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(muster.WorkerDied) as caught:
        small_map(run, [1])
    assert (caught.value.signal, caught.value.exit_code) == (signal.SIGKILL, None)
    assert not isinstance(caught.value, muster.OutOfMemory)
    _named(caught.value, service, 0)


def test_a_segfault_in_c_code_names_the_signal(service):
    def run(_):
        import ctypes

        ctypes.string_at(0)

    with pytest.raises(muster.WorkerDied) as caught:
        small_map(run, [1])
    assert caught.value.signal == signal.SIGSEGV
    assert "SIGSEGV" in str(caught.value)


@pytest.mark.smoke
def test_too_much_memory_names_func_ram_the_limit_and_the_peak_and_a_neighbour_does_not_notice(
    service,
):
    def run(x):
        if x == 0:
            hoard = []
            while True:
                hoard.append(bytearray(b"x") * (8 << 20))
        # Longer than the other one needs to run out of memory.
        end = time.monotonic() + 3
        turns = 0
        while time.monotonic() < end:
            turns += 1
        return turns

    start = time.monotonic()
    died, turns = small_map(run, [0, 1], return_exceptions=True)
    assert time.monotonic() - start < 30
    assert type(died) is muster.OutOfMemory
    assert died.limit_bytes == GIB // 4
    assert 0.8 * died.limit_bytes < died.peak_bytes <= died.limit_bytes * 1.01
    assert "func_ram" in str(died)
    _named(died, service, 0)
    assert turns > 0


def test_a_child_that_runs_out_of_memory_is_not_the_functions_death(service):
    def run(_):
        import subprocess

        hoard = "x = []\nwhile True: x.append(bytearray(b'x') * (8 << 20))"
        return subprocess.run([sys.executable, "-c", hoard], check=False).returncode

    assert small_map(run, [0], func_ram=0.5) == [-signal.SIGKILL]


def test_a_crash_keeps_what_was_printed_before_it(service, capsys):
    def run(_):
        print("before", flush=True)
        os.write(1, b"straight\n")
        os._exit(1)

    with pytest.raises(muster.WorkerDied):
        small_map(run, [1])
    assert capsys.readouterr().out == "before\nstraight\n"


def test_many_crashes_in_one_call_each_fail_alone(service):
    def run(x):
        if x % 4 == 1:
            os._exit(x)
        return x

    outputs = small_map(run, range(12), return_exceptions=True)
    assert [x for x, output in enumerate(outputs) if isinstance(output, muster.WorkerDied)] == [
        1,
        5,
        9,
    ]
    assert [error.exit_code for error in outputs if isinstance(error, Exception)] == [1, 5, 9]
    assert [output for output in outputs if not isinstance(output, Exception)] == [
        0,
        2,
        3,
        4,
        6,
        7,
        8,
        10,
        11,
    ]


def _fail_before(attempt):
    """A function that fails until its attempt has this number."""

    def run(how):
        if int(os.environ["MUSTER_ATTEMPT"]) < attempt:
            if how == "raise":
                raise ValueError("once more")
            if how == "exit":
                os._exit(9)
            time.sleep(60)
        return how, int(os.environ["MUSTER_ATTEMPT"])

    return run


def test_retries_try_failed_inputs_again(service):
    outputs = small_map(_fail_before(3), ["raise", "exit", "sleep"], retries=2, timeout=1)
    assert outputs == [("raise", 3), ("exit", 3), ("sleep", 3)]


def test_when_the_retries_are_used_up_the_last_failure_comes_out(service):
    outputs = small_map(_fail_before(9), ["raise", "exit"], retries=1, return_exceptions=True)
    assert [type(error) for error in outputs] == [ValueError, muster.WorkerDied]


def test_without_retries_nothing_runs_twice(service):
    with pytest.raises(ValueError, match="once more"):
        small_map(_fail_before(2), ["raise"])


def test_a_timeout_limits_one_inputs_run_time_and_no_others(service):
    def run(x):
        time.sleep(60 if x == 1 else 0.01)
        return x

    outputs = small_map(run, range(30), timeout=1.5, return_exceptions=True)
    error = outputs.pop(1)
    assert type(error) is muster.InputTimeout
    assert error.timeout_seconds == 1.5
    assert "1.5" in str(error)
    _named(error, service, 1)
    assert outputs == [0, *range(2, 30)]


def test_a_timeout_ends_even_what_ignores_signals(service):
    def run(_):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        time.sleep(600)

    with pytest.raises(muster.InputTimeout):
        small_map(run, [0], timeout=1)
