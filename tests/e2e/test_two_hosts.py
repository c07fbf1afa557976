"""Two agents on one gateway, each with half the machine."""

import os
import time

import muster
import pytest
from harness import held, small_map, until
from test_limits import most_at_once


@pytest.fixture
def two_hosts(own_service):
    service = own_service()
    for cpu in ("0", "1"):
        service.add_agent("--cpus", cpu, "--ram", "2GiB", "--warm", "0")
    return service


def _interval_function():
    # Made here, so that it travels by itself: this module needs pytest, which no container has.
    def interval(_):
        start = time.monotonic()
        time.sleep(0.4)
        return start, time.monotonic()

    return interval


def test_inputs_are_spread_over_both_and_max_parallelism_holds_over_all(two_hosts):
    # Each host has one core: two inputs at the same time are on two hosts, and see different cores.
    with held(lambda _: tuple(os.sched_getaffinity(0)), [0, 1]) as cores:
        assert sorted(cores) == [(0,), (1,)]
    two_hosts.wait_idle()

    interval = _interval_function()
    assert most_at_once(small_map(interval, range(10), func_cpu=0.25, max_parallelism=3)) <= 3
    assert most_at_once(small_map(interval, range(4), max_parallelism=1)) == 1

    # More than one host has is refused, though all together have it.
    with pytest.raises(muster.NoHosts) as caught:
        small_map(interval, [0], func_cpu=2)
    assert any(agent.name in str(caught.value) for agent in two_hosts.agents)


def test_when_one_host_stops_the_other_goes_on(two_hosts):
    first, second = two_hosts.agents
    outputs = small_map(_interval_function(), range(10), generator=True)
    next(outputs)
    first.terminate()
    first.wait_stopped()
    until("the gateway has noticed", lambda: len(two_hosts.api.hosts()) == 1, 15)
    assert len(list(outputs)) == 9
    assert small_map(lambda x: x, [1]) == [1]
    assert second.status() is not None
