"""Calls of the real runner: what tests of it have in common."""

from __future__ import annotations

import select
import time
from typing import Any, Callable, List

from fake_agent import DEADLINE, Agent, Result
from muster import _payload, _wire


class Context:
    call_id = "c-1"

    def fetch_function(self) -> bytes:
        raise AssertionError("this process made the function")


def begin(agent: Agent, function: Callable[[Any], Any], **spec: Any) -> None:
    agent.begin(_payload.dump_function(function), **spec)


def run(agent: Agent, inputs: List[Any], first: int = 0) -> List[Result]:
    return agent.run([_payload.dump_input(v, i) for i, v in enumerate(inputs)], first)


def values(results: List[Result]) -> List[Any]:
    assert [r.status for r in results] == [_wire.VALUE] * len(results), results
    return [_payload.load_value(r.item, Context()) for r in results]


def error_of(result: Result) -> BaseException:
    assert result.status == _wire.EXCEPTION, result
    return _payload.load_exception(result.item, Context(), result.index, "host-1")


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        select.select([], [], [], 0.002)
