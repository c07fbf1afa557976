"""What `remote_parallel_map` is: its signature, its outputs, where it runs."""

import inspect
import json
import os
import platform
import sys

import muster
import pytest
from harness import Script, held, small_map

NAMES = [
    "function_",
    "inputs",
    "func_cpu",
    "func_ram",
    "background",
    "spinner",
    "generator",
    "max_parallelism",
]
DEFAULTS = [inspect.Parameter.empty] * 2 + [1, 4, False, True, False, None]
EXTRAS = {"image", "env", "timeout", "retries", "return_exceptions", "name"}


def test_the_signature_is_exactly_the_eight_names_in_order_then_keyword_only_extras():
    parameters = inspect.signature(muster.remote_parallel_map).parameters.values()
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [p.name for p in positional] == NAMES
    assert [p.default for p in positional] == DEFAULTS
    rest = [p for p in parameters if p.kind is not p.POSITIONAL_OR_KEYWORD]
    assert all(p.kind is p.KEYWORD_ONLY for p in rest)
    assert {p.name for p in rest} >= EXTRAS


@pytest.mark.smoke
def test_a_function_runs_for_each_input_and_the_outputs_come_in_input_order(service):
    def square(x):
        return x * x

    assert small_map(square, range(100)) == [x * x for x in range(100)]


@pytest.mark.smoke
def test_with_its_own_defaults_a_call_runs_too(service):
    assert muster.remote_parallel_map(lambda x: x + 1, [1, 2, 3]) == [2, 3, 4]


def test_all_eight_arguments_can_be_given_by_position(service):
    assert muster.remote_parallel_map(lambda x: -x, [1, 2], 1, 0.25, False, False, False, 1) == [
        -1,
        -2,
    ]


def test_empty_inputs_give_an_empty_list(service):
    assert small_map(lambda x: x, []) == []
    assert small_map(lambda x: x, iter(())) == []
    assert list(small_map(lambda x: x, [], generator=True)) == []


def test_the_function_runs_in_a_container_and_not_here(service):
    def where(_):
        return platform.node(), os.getpid(), os.getuid()

    ((node, pid, uid),) = small_map(where, [None])
    assert node != platform.node()
    assert (pid, uid) != (os.getpid(), os.getuid())
    assert uid != 0


def test_inputs_run_in_parallel_when_there_is_room(service):
    # None of them ends by itself: each can only be seen while the other runs.
    with held(lambda x: (x, platform.node()), [0, 1]) as found:
        assert {x for x, _ in found} == {0, 1}
        assert len({node for _, node in found}) == 2


def test_more_inputs_than_room_are_queued_and_run_one_after_another_on_each_worker(service):
    def interval(_):
        import time

        start = time.monotonic()
        time.sleep(0.05)
        return platform.node(), start, time.monotonic()

    intervals = small_map(interval, range(20))
    workers = {node for node, _, _ in intervals}
    assert 1 <= len(workers) <= 2, "a host with two cores has room for two workers of one core"
    for worker in workers:
        own = sorted((start, end) for node, start, end in intervals if node == worker)
        assert all(end <= start for (_, end), (start, _) in zip(own, own[1:])), (
            "two inputs at once in one worker"
        )


def test_cores_and_memory_may_be_fractions(service):
    assert muster.remote_parallel_map(
        lambda x: x, [7], func_cpu=0.5, func_ram=0.2, spinner=False
    ) == [7]


def test_results_of_many_types_come_back_as_they_were(service):
    values = [
        None,
        True,
        0,
        -1,
        2**80,
        1.5,
        float("inf"),
        "",
        "héllo",
        b"\0\xff",
        (1, (2,)),
        [1],
        {"a": {1}},
        1j,
        ...,
    ]
    assert small_map(lambda x: x, values) == values


def test_large_inputs_and_outputs_arrive_whole(service):
    blob = os.urandom(1 << 20) * 16
    (answer,) = small_map(lambda x: x[::-1], [blob], func_ram=0.5)
    assert answer == blob[::-1]


def test_the_environment_can_be_given_and_forwarded_by_name(service, monkeypatch):
    monkeypatch.setenv("E2E_FORWARDED", "from here")

    def read(name):
        return os.environ.get(name)

    assert small_map(read, ["A", "E2E_FORWARDED"], env={"A": "1 é"}) == ["1 é", None]
    assert small_map(read, ["E2E_FORWARDED", "A"], env=["E2E_FORWARDED"]) == ["from here", None]


def test_the_function_can_ask_for_its_call_index_and_attempt(service):
    def who(_):
        names = ("MUSTER_CALL_ID", "MUSTER_INPUT_INDEX", "MUSTER_ATTEMPT")
        current = muster.current()
        return (
            [os.environ.get(name) for name in names],
            current.call_id,
            current.index,
            current.attempt,
        )

    answers = small_map(who, ["a", "b", "c"])
    calls = {call for _, call, _, _ in answers}
    assert len(calls) == 1
    assert service.api.call(calls.pop())["state"] == "succeeded"
    assert [(index, attempt) for _, _, index, attempt in answers] == [(0, 1), (1, 1), (2, 1)]
    for (call_id, index, attempt), call, number, tries in answers:
        assert (call_id, int(index), int(attempt)) == (call, number, tries)


def test_the_function_can_ask_what_it_has(service):
    def ask(_):
        current = muster.current()
        with open(f"{current.scratch}/kept", "w") as file:
            file.write("here")
        with open(f"{current.scratch}/kept") as file:
            assert file.read() == "here"
        return current

    (current,) = small_map(ask, [1], func_cpu=0.5, func_ram=0.25, timeout=30)
    assert current.host == service.agents[0].name
    assert (current.cores, current.memory) == (0.5, 1 << 28)
    assert current.scratch == "/tmp"
    assert 0 < current.time_left <= 30
    (without,) = small_map(ask, [1])
    assert without.time_left is None


def test_an_input_that_is_tried_again_knows_its_attempt_and_keeps_its_index(service):
    def run(x):
        current = muster.current()
        if current.attempt == 1:
            raise LookupError(x)
        return current.call_id, current.index, current.attempt

    tried = small_map(run, "ab", retries=1)
    assert len({call for call, _, _ in tried}) == 1
    assert [again for _, *again in tried] == [[0, 2], [1, 2]]


def test_a_name_is_in_the_record_of_the_call(service):
    small_map(lambda x: x, [1], name="nightly é")
    assert service.api.calls()[0]["name"] == "nightly é"


def test_the_python_inside_has_the_minor_version_of_the_client(service):
    def version(_):
        return tuple(sys.version_info[:2])

    assert small_map(version, [0]) == [tuple(sys.version_info[:2])]


def test_import_takes_less_than_a_tenth_of_a_second(tmp_path):
    # By its own count of processor time, in a fresh interpreter, so that a busy machine does not
    # decide.
    source = "import time; t = time.process_time(); import muster; print(time.process_time() - t)"
    with Script([sys.executable, "-c", source], cwd=tmp_path) as script:
        assert float(script.succeed()) < 0.1


def test_the_gateway_is_found_in_a_config_file(service, tmp_path):
    folder = tmp_path / "config" / "muster"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"url": service.url, "token": service.token}))
    source = (
        "import muster; print(muster.remote_parallel_map(abs, [-3], func_ram=0.25, spinner=False))"
    )
    away = {
        "MUSTER_URL": "",
        "MUSTER_TOKEN": "",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "HOME": str(tmp_path),
    }
    with Script.python(tmp_path, source, env=away) as script:
        assert script.succeed() == b"[3]\n"
