"""The real runner as a process of its own, driven over its channel, pipes and page."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
import time
from typing import Any, List

import pytest

from fake_agent import DEADLINE, Agent
from muster import _classes, _numbers, _payload, _wire
from runner_calls import begin, error_of, run, values


def test_says_hello_with_the_version_of_its_python(agent: Agent) -> None:
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert json.loads(agent.hello) == {"role": "python", "version": 1, "python": python}


def test_answers_each_input_of_each_batch_in_order(agent: Agent) -> None:
    begin(agent, lambda x: x * 2)
    assert values(run(agent, [1, 2, 3])) == [2, 4, 6]
    results = run(agent, ["a", [1]], first=3)
    assert [r.index for r in results] == [3, 4]
    assert values(results) == ["aa", [1, 1]]


def test_an_empty_batch_and_the_end_of_the_channel_end_it_cleanly(agent: Agent) -> None:
    begin(agent, lambda x: x)
    run(agent, [])
    agent.sock.close()
    assert agent.process.wait(DEADLINE) == 0


def test_exceptions_are_outputs_and_the_batch_goes_on(agent: Agent) -> None:
    begin(agent, lambda x: 1 // x)
    results = run(agent, [1, 0, 2])
    assert [r.status for r in results] == [0, 1, 0]
    assert isinstance(error_of(results[1]), ZeroDivisionError)


@pytest.mark.parametrize("how", ["sys.exit(5)", "raise KeyboardInterrupt", "raise GeneratorExit"])
def test_exits_by_exception_are_outputs_too(agent: Agent, how: str) -> None:
    def f(x: str) -> None:
        exec(x, {"sys": sys})

    begin(agent, f)
    results = run(agent, [how, "1"])
    assert [r.status for r in results] == [1, 0]
    assert type(error_of(results[0])).__name__ == "RemoteError"


def test_an_output_that_cannot_be_pickled_is_an_exception_that_says_why(agent: Agent) -> None:
    def f(x: int) -> Any:
        return {"a": [threading.Lock()]} if x else (n for n in ())

    begin(agent, f)
    results = run(agent, [0, 1])
    assert "a generator, which cannot be pickled" in str(error_of(results[0]))
    assert "output['a'][0], a _thread.lock" in str(error_of(results[1]))


def test_large_inputs_and_outputs_pass_and_small_ones_between_them(agent: Agent) -> None:
    begin(agent, lambda x: x)
    inputs = [b"a" * 3_000_000, 1, b"b" * 1_040_000, 2, b"c" * 1_044_447, "x"]
    assert values(run(agent, inputs)) == inputs


def test_large_outputs_of_any_kind_are_what_pickle_alone_makes_of_them(agent: Agent) -> None:
    def f(x: int) -> Any:
        size = 2_000_000
        kinds = (
            bytes(size),
            bytearray(size),
            "é" * size,
            {"a": [bytes(70_000)] * 3, "b": [bytes([n]) * 70_000 for n in range(30)]},
            pickle.PickleBuffer(memoryview(bytearray(size)).cast("B", (2, size // 2))),
            {"small": x},
            (threading.Lock(), bytes(size)),
            list(range(size)),
        )
        return kinds[x]

    begin(agent, f)
    assert agent.run([pickle.dumps(0)])[0].item == pickle.dumps(f(0), 5)
    for x in (1, 2, 3, 4, 5, 6, 0, 7):
        # Each in a batch of its own, after one that was large, or was not.
        (result,) = agent.run([pickle.dumps(x)])
        if x == 6:
            assert "output[0], a _thread.lock" in str(error_of(result))
        else:
            assert result.item == pickle.dumps(f(x), 5)


def test_an_output_over_the_limit_is_a_failure_that_names_both_sizes(agent: Agent) -> None:
    limit = _wire.MAX_ITEM
    begin(agent, lambda x: bytearray(x))
    result, after = run(agent, [limit + 1, 1])
    assert result.status == _wire.FAILURE
    failure = json.loads(result.item)
    assert failure["code"] == "too_large"
    assert failure["limit_bytes"] == limit < failure["size_bytes"]
    assert after.status == _wire.VALUE


def test_more_results_than_the_page_holds_all_arrive(agent: Agent) -> None:
    begin(agent, lambda x: bytes(x))
    inputs = [5000] * 1000
    assert [len(v) for v in values(run(agent, inputs))] == inputs


def test_a_function_that_cannot_be_loaded_is_the_exception_of_every_input(agent: Agent) -> None:
    function = _payload.dump_function(len)
    header = json.loads(function[4 : 4 + int.from_bytes(function[:4], "little")])
    assert header["modules"] is not None
    body = b"cnosuchmodule.deep\nf\n."
    head = json.dumps({"modules": [], "sources": [], "function_len": len(body)}).encode()
    agent.begin(len(head).to_bytes(4, "little") + head + body)
    for result in run(agent, [1, 2]):
        error = error_of(result)
        assert isinstance(error, ModuleNotFoundError)
        assert "image muster/python:x has no module 'nosuchmodule'" in " ".join(notes(error))


def notes(error: BaseException) -> List[str]:
    return list(getattr(error, "__notes__", ()))


def test_source_gets_and_gives_json(agent: Agent) -> None:
    script = b"def main(x):\n    return {'got': x, 'name': __name__}\n"
    agent.begin(script, kind="source", encoding="json", entry="main")
    (result,) = agent.run([b'{"a": [1, null]}'])
    assert json.loads(result.item) == {"got": {"a": [1, None]}, "name": "__muster_main__"}


def test_source_errors_carry_type_message_and_traceback_as_text(agent: Agent) -> None:
    script = b"class E(Exception): pass\ndef main(x):\n    raise E('no ' + x)\n"
    agent.begin(script, kind="source", encoding="json", entry="main")
    (result,) = agent.run([b'"way"'])
    assert result.status == _wire.EXCEPTION
    head, detail = _wire.split_exception(result.item)
    found = json.loads(head)
    assert (found["type"], found["message"], detail) == ("E", "no way", b"")
    assert "raise E('no ' + x)" in found["traceback"]
    assert '"<source>", line 3, in main' in found["traceback"]
    assert "_runner" not in found["traceback"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (b"def other(x): pass", "no function 'main'; it defines: other"),
        (b"def main(x:", "SyntaxError"),
        (b"import nosuch", "has no module 'nosuch'"),
        (b"def main(x): return {1, 2}", "set, which cannot be written as JSON"),
        (b"def main(x): return float('nan')", "cannot be written as JSON"),
    ],
)
def test_source_that_does_not_work_says_why(agent: Agent, source: bytes, words: str) -> None:
    agent.begin(source, kind="source", encoding="json", entry="main")
    (result,) = agent.run([b"1"])
    assert result.status == _wire.EXCEPTION
    found = json.loads(_wire.split_exception(result.item)[0])
    assert words in f"{found['type']}: {found['message']} {found['traceback']}"


def test_inputs_see_their_call_index_and_attempt(agent: Agent) -> None:
    def f(_: Any) -> Any:

        import muster

        child = subprocess.run(
            ["sh", "-c", "echo $MUSTER_INPUT_INDEX $MUSTER_ATTEMPT $X"], stdout=subprocess.PIPE
        )
        now = muster.current()
        return (now.call_id, now.index, now.attempt), os.environ["X"], child.stdout.decode()

    begin(agent, f, env={"X": "y", **WORKER})
    items = [pickle.dumps(None)] * 3
    results = agent.run(items, first=9, attempt=2)
    assert values(results) == [(("c-1", n, 2), "y", f"{n} 2 y\n") for n in (9, 10, 11)]


def test_a_function_has_the_secrets_of_its_call_in_its_environment(agent: Agent) -> None:
    def f(_: Any) -> Any:

        return os.environ["X"], os.environ["PW"]

    begin(agent, f, secrets={"PW": "a b"}, env={"X": "y"})
    assert values(run(agent, [None])) == [("y", "a b")]


WORKER = {"MUSTER_HOST": "node", "MUSTER_CPU": "0.5", "MUSTER_RAM_BYTES": "1073741824"}


def test_inputs_see_what_their_worker_has_and_the_time_they_have_left(agent: Agent) -> None:
    def f(_: Any) -> Any:
        import multiprocessing

        import muster

        now = muster.current()
        time.sleep(0.01)
        with multiprocessing.get_context("fork").Pool(1) as pool:
            child = pool.apply(muster.current)
        assert now.time_left is not None
        assert child.time_left is not None
        left = now.time_left, now.time_left - child.time_left
        return now.host, now.cores, now.memory, os.access(now.scratch, os.W_OK), left

    begin(agent, f, env=WORKER, timeout_ms=60_000)
    (found,) = values(agent.run([pickle.dumps(None)]))
    assert found[:4] == ("node", 0.5, 1 << 30, True)
    left, passed = found[4]
    assert 50 < left <= 60
    assert 0.01 <= passed < 30


def test_inputs_without_a_time_limit_have_no_time_left_to_tell(agent: Agent) -> None:
    def f(_: Any) -> Any:
        import muster

        return muster.current().time_left

    begin(agent, f, env=WORKER)
    assert values(agent.run([pickle.dumps(None)])) == [None]


def test_main_looks_empty_and_arguments_sane(agent: Agent) -> None:
    def f(_: Any) -> Any:
        import __main__

        names = [name for name in vars(__main__) if not name.startswith("__")]
        return names, sys.argv, "" in sys.path, sys.stdin.read()

    begin(agent, f)
    assert values(run(agent, [0])) == [([], [""], False, "")]


def test_an_input_that_cannot_be_unpickled_is_an_exception(agent: Agent) -> None:
    begin(agent, lambda x: x)
    results = agent.run([b"garbage", pickle.dumps(1)])
    assert [r.status for r in results] == [1, 0]


def test_a_python_of_another_version_is_refused_with_both_named(agent: Agent) -> None:
    begin(agent, lambda x: x, python="2.7")
    (result,) = run(agent, [1])
    assert "pickled by Python 2.7, but image muster/python:x has Python 3" in str(error_of(result))


def test_starting_imports_nothing_of_the_client(agent: Agent) -> None:
    def f(_: Any) -> List[str]:
        return sorted(name for name in sys.modules if name.startswith("muster."))

    begin(agent, f)
    (found,) = values(run(agent, [0]))
    allowed = {
        "muster._wire",
        "muster._asserts",
        "muster._classes",
        "muster._errors",
        "muster._explain",
        "muster._numbers",
        "muster._pieces",
        "muster._places",
    }
    assert {name for name in found if not name.startswith("muster._runner")} <= allowed


def checks(x: int) -> int:
    assert 0 < x < 10, f"not {x}"
    assert isinstance(x, int)
    assert x != 5 and x != 6  # noqa: PT018
    return x


def test_asserts_that_pytest_rewrote_work_without_pytest(agent: Agent) -> None:
    agent.begin(hidden_pytest(_payload.dump_function(checks)))
    results = run(agent, [1, 20, 5])
    assert [r.status for r in results] == [0, 1, 1]
    assert str(error_of(results[1])).startswith("not 20")
    assert type(error_of(results[2])) is AssertionError


def hidden_pytest(body: bytes) -> bytes:
    """The same FUNCTION, with a first step that makes pytest impossible to import."""
    function = bytes(_classes.function_of(body))
    # Pickle opcodes: run `hide`, drop what it returns, go on.
    hide = b"cbuiltins\nexec\n(Vimport sys; sys.modules['_pytest'] = None\ntR0"
    whole = function[:2] + hide + function[2:]
    head = json.dumps({"modules": [], "function_len": len(whole)}).encode()
    return len(head).to_bytes(4, "little") + head + whole


def test_results_of_every_kind_follow_one_another(agent: Agent) -> None:
    kinds = [1, -(2**63), 2**63, 1.5, None, True, "text", [1], 2**64, 3, 4]

    def f(n: int) -> Any:
        if n % 50 == 7:
            print("seven")
        if n % 50 == 8:
            raise ValueError(n)
        return kinds[n // 20] if n % 3 else n

    begin(agent, f)
    results = run(agent, list(range(220)), first=5)
    assert [r.index for r in results] == list(range(5, 225))
    for n, result in enumerate(results):
        assert result.out == (b"seven\n" if n % 50 == 7 else b"")
        if n % 50 == 8:
            assert isinstance(error_of(result), ValueError)
        else:
            (value,) = values([result])
            wanted = kinds[n // 20] if n % 3 else n
            assert (value, type(value)) == (wanted, type(wanted))


def test_numbers_are_given_as_the_types_they_were(agent: Agent) -> None:
    begin(agent, lambda x: (x, type(x).__name__))
    numbers = [float(n) for n in range(20)]
    items = [_numbers.item(n) for n in numbers]
    assert values(agent.run(items)) == [(n, "float") for n in numbers]
