"""Networks that fall silent: F13."""

import time

import pytest
from checker import check, slow_digest
from harness import small_map, until
from partition import Network

SMALL = ("--cpus", "0-1", "--ram", "1GiB", "--warm", "0")
WAYS = {"up": ("up",), "down": ("down",), "both": ("up", "down")}


@pytest.fixture
def partitioned(own_service, tmp_path):
    """A service, an agent behind a network that can be cut, and that network."""
    service = own_service("--insecure-listen", listen="0.0.0.0:0")
    network = Network(service)
    agent = service.add_agent(*SMALL, address=network.url)
    return service, agent, network


def _call(service, inputs, seconds, workers):
    call = small_map(slow_digest(seconds), range(inputs), background=True)
    until("it works", lambda: service.api.call(call.id)["workers"] == workers, 30)
    return call


@pytest.mark.long
@pytest.mark.deadline(90)
def test_ten_seconds_of_silence_cost_nothing(partitioned, moments):
    service, agent, network = partitioned
    call = _call(service, 16, 2, 2)
    time.sleep(moments.uniform(0, 2))
    with network.cut(*moments.choice(list(WAYS.values()))):
        time.sleep(10)
    attempts = check(service, call, 16, 60)
    assert set(attempts.values()) == {1}, attempts
    until("it is heard", lambda: agent.status()["state"] == "ready", 20)


@pytest.mark.long
@pytest.mark.deadline(240)
@pytest.mark.parametrize("ways", WAYS.values(), ids=WAYS)
def test_after_a_minute_of_silence_the_inputs_run_elsewhere_once(partitioned, ways, moments):
    service, agent, network = partitioned
    service.add_agent(*SMALL)
    call = _call(service, 12, 20, 4)
    time.sleep(moments.uniform(0, 5))
    with network.cut(*ways):
        begun = time.monotonic()
        until("it is suspect", lambda: agent.status()["state"] == "suspect", 30)
        until("it is given up", lambda: agent.status() is None, 75)
        print(f"given up after {time.monotonic() - begun:.0f} s of silence {ways}")
        time.sleep(moments.uniform(0, 10))
    check(service, call, 12, 150)
    until("it is back", lambda: agent.status(), 90)


@pytest.mark.long
@pytest.mark.deadline(420)
def test_a_host_that_is_cut_off_stops_its_containers_by_itself(partitioned):
    service, agent, network = partitioned
    service.add_agent(*SMALL)
    call = _call(service, 4, 150, 4)
    assert agent.containers()
    with network.cut("up", "down"):
        begun = time.monotonic()
        until("its containers are gone", lambda: agent.containers() == [], 145)
        assert time.monotonic() - begun > 60
        print(f"containers gone after {time.monotonic() - begun:.0f} s")
    check(service, call, 4, 250)
    until("it is back", lambda: agent.status(), 60)
