"""Sprints over numbers: they give what the loop that takes one step at a time gives, whatever an input does."""

from __future__ import annotations

import json
import pickle
import sys
from typing import Any, Callable, Dict, List, Tuple

import pytest

from fake_agent import Agent
from muster import _numbers, _payload, _wire

INPUTS = 1000
BY_STEPS = 200
"""Inputs of a batch that is too small for sprints."""


def both_ways(function: Callable[[Any], Any]) -> List[List[Tuple[int, bytes, bytes, bytes]]]:
    """What the inputs gave in one batch, with sprints, and in many, without."""
    body = _payload.dump_function(function)
    items = [_numbers.item(n) for n in range(INPUTS)]
    ways = []
    for size in (INPUTS, BY_STEPS):
        with Agent() as agent:
            agent.begin(body)
            results = [
                result
                for first in range(0, INPUTS, size)
                for result in agent.run(items[first : first + size], first)
            ]
        assert [result.index for result in results] == list(range(INPUTS))
        ways.append([(r.status, _plain(r.status, r.item), r.out, r.err) for r in results])
    return ways


def _plain(status: int, item: bytes) -> bytes:
    """An exception's type and message, as its frames name the files of either loop."""
    if status == _wire.VALUE:
        return pickle.dumps(pickle.loads(item))
    head = json.loads(_wire.split_exception(item)[0])
    return f"{head['type']}: {head['message']}".encode()


SOURCES: Dict[str, str] = {
    "raises": "if n % 97 == 96: raise KeyError(n)",
    "exits": "if n % 97 == 96: raise SystemExit(n)",
    "returns other types": "if n % 97 == 96: return [None, n / 2, str(n), True, 1 << 63, -(1 << 80)][n % 6]",
    "prints a line": "if n % 397 == 396: print('line', n)",
    "prints part of a line": "if n % 397 == 396: print('part', n, end='')",
    "prints to stderr": "if n % 397 == 396: sys.stderr.write(f'error {n}')",
    "writes bytes": "if n % 397 == 396: sys.stdout.buffer.write(b'bytes')",
    "writes under Python": "if n % 397 == 396: os.write(2, b'raw')",
    "prints and raises": "if n % 397 == 396: print('last words', end=''); raise ValueError(n)",
    "keeps a bound write": "if n == 0: keep.append(sys.stdout.write)\nif n % 397 == 396: keep[0]('kept')",
    "replaces stdout": "if n == 500: sys.stdout = io.StringIO()\nif n == 700: sys.stdout = sys.__stdout__; print(n)",
    "closes stdout": "if n == 500: sys.stdout.close()\nif n == 700: print('open again')",
    "reads its index": "if n % 97 == 96: return -int(os.environ['MUSTER_INPUT_INDEX'])",
    "forks": "if n == 500: pid = os.fork(); return os.waitpid(pid, 0)[1] if pid else n",
    "forks and raises": "if n == 500:\n  if os.fork() == 0: raise SystemExit(3)\n  return os.wait()[1]",
}


@pytest.mark.parametrize("how", SOURCES)
def test_what_an_input_does_comes_to_the_same(how: str) -> None:
    lines = "".join(f"  {line}\n" for line in SOURCES[how].splitlines())
    space: Dict[str, Any] = {}
    exec(f"import io, os, sys\nkeep = []\ndef function(n):\n{lines}  return n\n", space)
    in_sprints, by_steps = both_ways(space["function"])
    assert in_sprints == by_steps
    unlike = [n for n, found in enumerate(in_sprints) if found != (0, pickle.dumps(n), b"", b"")]
    assert unlike, "some input does what this is about"


def test_numbers_that_stay_silent_are_run_in_sprints() -> None:
    def who_calls(n: int) -> int:
        return int(sys._getframe(1).f_code.co_filename.endswith("_sprint.py"))

    in_sprints, by_steps = both_ways(who_calls)
    ran = [sum(pickle.loads(item) for _, item, _, _ in way) for way in (in_sprints, by_steps)]
    assert ran[0] > INPUTS / 2
    assert ran[1] == 0
