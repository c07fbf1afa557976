"""What tells the runner's loop that somebody printed: asked for, or listened to."""

from __future__ import annotations

import pickle
from typing import Any, Iterator, List

import pytest

from fake_agent import Agent, Result
from muster import _numbers, _payload, _wire


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent() as agent:
        yield agent


def run(agent: Agent, function: Any, count: int) -> List[Result]:
    agent.begin(_payload.dump_function(function))
    return agent.run([_numbers.item(n) for n in range(count)])


def printed(results: List[Result]) -> List[int]:
    assert [r.status for r in results] == [_wire.VALUE] * len(results), results
    return [r.index for r in results if r.out or r.err]


def test_prints_after_many_silent_inputs_are_their_own(agent: Agent) -> None:
    def f(n: int) -> None:
        import os
        import subprocess
        import sys
        import threading

        if n == 300:
            print("from Python")
        elif n == 301:
            os.write(2, b"a write")
        elif n == 500:
            subprocess.run(["echo", "a child"])
        elif n == 700:
            thread = threading.Thread(target=os.write, args=(1, b"a thread"))
            thread.start()
            thread.join()
        elif n == 900:
            sys.stdout.write("half a line")
        elif n == 998:
            os.system("echo the shell")

    results = run(agent, f, 1000)
    assert printed(results) == [300, 301, 500, 700, 900, 998]
    said = {r.index: (r.out, r.err) for r in results if r.out or r.err}
    assert said == {
        300: (b"from Python\n", b""),
        301: (b"", b"a write"),
        500: (b"a child\n", b""),
        700: (b"a thread", b""),
        900: (b"half a line", b""),
        998: (b"the shell\n", b""),
    }


def test_silence_goes_on_from_batch_to_batch(agent: Agent) -> None:
    def f(n: int) -> None:
        import os

        if n in (150, 250, 251):
            os.write(1, b"%d" % n)

    agent.begin(_payload.dump_function(f))
    for first in (0, 100, 200, 300):
        results = agent.run([_numbers.item(n) for n in range(first, first + 100)], first)
        assert printed(results) == [n for n in (150, 250, 251) if first <= n < first + 100]


def test_prints_are_attributed_where_the_signal_is_blocked_or_taken(agent: Agent) -> None:
    def f(n: int) -> None:
        import os
        import signal

        if n == 0:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGURG])
        if n == 400:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGURG])
            signal.signal(signal.SIGURG, signal.SIG_IGN)
        if n % 200 == 130:
            os.write(1, b"x")

    agent.begin(_payload.dump_function(f))
    assert not printed(agent.run([_numbers.item(0)]))
    found = []
    for first in (1, 400, 401):
        count = 399 if first == 1 else 1 if first == 400 else 400
        items = [_numbers.item(n) for n in range(first, first + count)]
        found += printed(agent.run(items, first))
    assert found == [130, 330, 530, 730]


def test_a_child_that_prints_while_an_input_sleeps_does_not_wake_it(agent: Agent) -> None:
    def f(n: int) -> float:
        import subprocess
        import time

        if n < 150:
            return 0.0
        begun = time.monotonic()
        with subprocess.Popen(["sh", "-c", "echo one; echo two"]) as child:
            time.sleep(0.05)
            child.wait()
        return time.monotonic() - begun

    results = run(agent, f, 151)
    assert printed(results) == [150]
    assert results[150].out == b"one\ntwo\n"
    assert pickle.loads(results[150].item) >= 0.05
