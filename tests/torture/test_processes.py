"""Agents, containers and runners that die or stand still at a random moment: F4, F5, F16."""

import os
import signal
import time

import muster
import pytest
from checker import check, outputs, slow_digest
from harness import small_map, until
from harness.docker import docker, inspect

SMALL = ("--cpus", "0-1", "--ram", "1GiB", "--warm", "1")


def _background(inputs, seconds=0.05, **options):
    return small_map(slow_digest(seconds), range(inputs), background=True, **options)


def _begun(service, call):
    until("the call runs", lambda: service.api.call(call.id)["done"] > 0, 30)


@pytest.mark.deadline(120)
def test_a_killed_agent_costs_no_output(own_service, moments):
    service = own_service()
    agents = [service.add_agent(*SMALL) for _ in range(2)]
    call = _background(150)
    _begun(service, call)
    time.sleep(moments.uniform(0, 1.5))
    victim = moments.choice(agents)
    victim.kill()
    time.sleep(moments.uniform(0, 1))
    victim.start()
    check(service, call, 150, 60)
    victim.wait_ready()


@pytest.mark.deadline(120)
def test_a_killed_container_or_runner_costs_only_the_input_it_ran(own_service, moments):
    service = own_service()
    agent = service.add_agent(*SMALL)
    call = _background(80, retries=1)
    _begun(service, call)
    time.sleep(moments.uniform(0, 1))
    used = [name for name in agent.containers() if _runs_python(name)]
    container = moments.choice(used)
    if moments.random() < 0.5:
        docker("kill", container)
    else:
        os.kill(moments.choice(_pythons(container)), signal.SIGKILL)
    attempts = check(service, call, 80, 60)
    assert sum(attempt > 1 for attempt in attempts.values()) <= 1, attempts


@pytest.mark.deadline(60)
def test_the_input_whose_worker_was_killed_is_named_and_the_others_have_their_outputs(
    own_service, moments
):
    service = own_service()
    agent = service.add_agent(*SMALL)
    call = _background(40, max_parallelism=1, return_exceptions=True)
    _begun(service, call)
    time.sleep(moments.uniform(0, 0.5))
    used = until("it runs", lambda: [name for name in agent.containers() if _busy(service, name)])
    docker("kill", moments.choice(used))
    found, end = outputs(service, call, 40)
    failed = [event for event in found.values() if "failure" in event]
    assert len(found) == 40
    assert len(failed) <= 1, failed
    for event in failed:
        assert event["failure"]["code"] == "worker_died"
        assert event["failure"]["host"] == agent.name
    assert end["failed"] == len(failed)


@pytest.mark.long
@pytest.mark.deadline(240)
def test_an_agent_that_stood_still_for_over_a_minute_is_fenced(own_service, moments):
    service = own_service()
    still, other = (service.add_agent(*SMALL) for _ in range(2))
    call = _background(12, seconds=20)
    until("both work", lambda: service.api.call(call.id)["workers"] == 4, 30)
    os.kill(still.daemon.pid, signal.SIGSTOP)
    try:
        stopped = time.monotonic()
        until("it is suspect", lambda: still.status()["state"] == "suspect", 15)
        until("it is given up", lambda: still.status() is None, 60)
        assert time.monotonic() - stopped < 60
        time.sleep(moments.uniform(1, 10))
    finally:
        os.kill(still.daemon.pid, signal.SIGCONT)
    attempts = check(service, call, 12, 120)
    assert 1 <= sum(attempt > 1 for attempt in attempts.values()) <= 2, attempts
    until("it is back", lambda: still.status() and still.status()["state"] == "ready", 30)
    assert other.status()["state"] == "ready"


@pytest.mark.deadline(60)
def test_a_cancelled_call_that_ignores_sigterm_is_gone_in_ten_seconds(own_service):
    def stubborn(i):
        import signal
        import time

        if i == 0:
            return "kept"
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
        return None

    service = own_service()
    agent = service.add_agent("--cpus", "0-1", "--ram", "1GiB", "--warm", "0")
    call = small_map(stubborn, range(4), background=True)
    until("one output is there", lambda: service.api.call(call.id)["done"] == 1, 30)
    until("both workers run", lambda: len(agent.containers()) == 2, 20)
    begun = time.monotonic()
    for _ in range(3):
        call.cancel()
    assert muster.Call(call.id).status().state == "cancelled"
    assert time.monotonic() - begun < 20
    until("its containers are gone", lambda: agent.containers() == [], 10)
    found, end = outputs(service, call, 10)
    assert (list(found), end["state"]) == ([0], "cancelled")


def _pythons(container):
    """Process ids of the runner in a container, without pid 1."""
    lines = docker("top", container, "-eo", "pid,comm").splitlines()[1:]
    pids = [(int(line.split()[0]), line.split()[1]) for line in lines]
    return [pid for pid, name in pids if name.startswith("python")]


def _runs_python(container):
    return inspect(container) is not None and bool(_pythons(container))


def _busy(service, container):
    return service.api.hosts()[0]["workers"] > 0 and _runs_python(container)
