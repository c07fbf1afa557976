"""Calls that functions make: they just work, print and raise through their parent, end with it, and never deadlock."""

import contextlib
import json
import os
import time

import muster
import pytest
from harness import held, small_map, until
from harness.curl import as_json, curl


def live(service):
    """Calls that have not ended."""
    return [call for call in service.api.calls() if call["state"] in ("queued", "running")]


@pytest.mark.smoke
def test_a_function_calls_a_function_with_no_configuration(service):
    def row(y):
        def cell(x):
            return x * y

        return muster.remote_parallel_map(cell, range(3), func_ram=0.25)

    assert small_map(row, range(4)) == [[x * y for x in range(3)] for y in range(4)]


@pytest.mark.deadline(120)
def test_a_fleet_full_of_parents_does_not_stand_still(service):
    def parent(n):
        return sum(muster.remote_parallel_map(lambda x: x + n, range(5), func_ram=0.25))

    # Two slots, and eight parents that each take a whole core.
    assert small_map(parent, range(8)) == [10 + 5 * n for n in range(8)]


def test_prints_and_exceptions_of_children_come_through_the_parent(service, capfd):
    def parent(n):
        def child(x):
            print("child", x, flush=True)
            if x == 1:
                raise LookupError(f"no {x}")

        try:
            muster.remote_parallel_map(child, [0], func_ram=0.25)
            muster.remote_parallel_map(child, [1], func_ram=0.25)
        except LookupError as error:
            return str(error)

    assert small_map(parent, [1]) == ["no 1"]
    printed = capfd.readouterr().out.splitlines()
    assert printed == ["child 0", "child 1"]


def test_children_end_when_their_parent_is_cancelled_or_dies(service):
    def parent(how):
        def child(x):
            time.sleep(600)

        outputs = muster.remote_parallel_map(child, [1], func_ram=0.25, generator=True)
        if how == "dies":
            import threading

            threading.Timer(2, lambda: os._exit(3)).start()
        return list(outputs)

    with pytest.raises(muster.WorkerDied):
        small_map(parent, ["dies"])
    until("the child of the dead parent is cancelled", lambda: not live(service), 30)

    outputs = small_map(parent, ["waits"], generator=True)
    import threading

    def cancel():
        until("parent and child run", lambda: len(live(service)) == 2, 30)
        parent = [call for call in live(service) if call["name"] == "parent"][0]
        muster.Call(parent["id"]).cancel()

    threading.Thread(target=cancel).start()
    with contextlib.suppress(muster.Cancelled):
        list(outputs)
    until("the child is cancelled too", lambda: not live(service), 30)


def test_children_end_when_the_time_of_their_parent_is_up(service):
    known = {call["id"] for call in service.api.calls()}

    def parent(_):
        def child(x):
            time.sleep(600 * x)

        outputs = muster.remote_parallel_map(child, [0, 1], func_ram=0.25, generator=True)
        next(outputs)
        print("the child runs", flush=True)
        return list(outputs)

    with pytest.raises(muster.InputTimeout):
        small_map(parent, [1], timeout=10)
    until("the child is cancelled", lambda: not live(service), 30)
    (child,) = (
        call for call in service.api.calls() if call["id"] not in known and call["name"] == "child"
    )
    assert (child["state"], child["done"]) == ("cancelled", 1)


def test_what_lets_a_function_make_calls_ends_with_its_call(service):
    """As a container would ask that has got hold of all that its agent has."""
    (agent,) = service.agents
    credential = json.loads((agent.identity / "identity.json").read_text())["token"]

    def ask(parent):
        call = {"command": ["echo", "from a child"], "ram": 0.25}
        return curl(
            service, "/v1/calls", "-H", f"Muster-Parent: {parent}", *as_json(call), token=credential
        )

    with held(lambda _: muster.current().call_id, [0]) as (parent,):
        assert "from a child" in str(ask(parent).events)
        assert curl(service, f"/v1/calls/{parent}", token=credential).status == 403
        assert muster.Call(parent).status().state == "running"
    until("the parent has ended", lambda: not live(service))
    refused = ask(parent)
    assert (refused.status, refused.json["code"]) == (404, "unknown_call")


def test_children_end_with_the_input_that_made_them_and_not_with_its_worker(service):
    def parent(how):
        import sys

        def leaked(x):
            time.sleep(600 * x)

        if how == "waits":
            time.sleep(600)
        outputs = muster.remote_parallel_map(leaked, [0, 1], func_ram=0.25, generator=True)
        next(outputs)
        # Nothing in this process ends it.
        sys.leaked = [*getattr(sys, "leaked", []), outputs]
        if how == "raises":
            raise LookupError(how)
        return len(sys.leaked)

    inputs = ["returns", "raises", "waits"]
    options = {"max_parallelism": 1, "generator": True, "ordered": True, "return_exceptions": True}
    outputs = small_map(parent, inputs, **options)
    assert next(outputs) == 1
    assert isinstance(next(outputs), LookupError)
    until("only the parent runs", lambda: [call["name"] for call in live(service)] == ["parent"])
    found = [call["state"] for call in service.api.calls() if call["name"] == "leaked"]
    assert found == ["cancelled", "cancelled"]
    outputs.close()


def test_calls_of_functions_are_nested_only_so_deep_and_so_many(own_service):
    bounds = ["--nested-depth", "1", "--nested-calls", "2"]
    own_service(*bounds).add_agent("--cpus", "0-1", "--ram", "4GiB")

    def one(x):
        return muster.remote_parallel_map(two, [x], func_ram=0.25)

    def two(x):
        try:
            muster.remote_parallel_map(lambda y: y, [x], func_ram=0.25)
        except muster.NestedError as error:
            return error.code, "--nested-depth" in str(error)

    assert small_map(one, [1]) == [[("nested_too_deep", True)]]

    def many(x):
        def child(y):
            time.sleep(600 * y)

        running = []
        for _ in range(2):
            outputs = muster.remote_parallel_map(child, [0, 1], func_ram=0.25, generator=True)
            running.append((outputs, next(outputs)))
        try:
            muster.remote_parallel_map(child, [0], func_ram=0.25)
        except muster.NestedError as error:
            return error.code, "--nested-calls" in str(error)

    assert small_map(many, [1]) == [("too_many_nested", True)]


@pytest.mark.deadline(90)
def test_parents_that_leave_no_memory_for_their_children_are_told(own_service):
    own_service().add_agent("--cpus", "0-1", "--ram", "1GiB")

    def parent(x):
        try:
            muster.remote_parallel_map(lambda y: y, [x], func_ram=0.75)
        except muster.CallFailed as error:
            return str(error)

    outputs = muster.remote_parallel_map(parent, [1], func_ram=0.5, spinner=False)
    assert "func_ram" in outputs[0]


def test_a_container_reaches_nothing_else_of_the_gateway(service):
    def ask(path):
        import http.client
        import socket

        sock = socket.socket(socket.AF_UNIX)
        sock.connect("/.muster/socket/call.sock")
        connection = http.client.HTTPConnection("agent")
        connection.sock = sock
        connection.request("GET", path)
        return connection.getresponse().status

    paths = [
        "/v1/calls",
        "/v1/hosts",
        "/v1/tokens",
        "/metrics",
        "/v1/calls/../hosts",
        "/v1/calls/c-1",
    ]
    assert small_map(ask, paths) == [404] * len(paths)
