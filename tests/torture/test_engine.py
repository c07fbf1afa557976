"""The container engine dies, stands still, or has no disk: F6, and F9 for Docker's disk."""

import os
import signal
import sys
import time

import pytest
from checker import check, slow_digest
from engine import Engine
from harness import small_map, until
from partition import url_by

IMAGE = f"muster/python:{sys.version_info[0]}.{sys.version_info[1]}"
SMALL = ("--cpus", "0-1", "--ram", "1GiB", "--warm", "1")

pytestmark = pytest.mark.long


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "live-restore"])
def machine_engine(request, tmp_path_factory):
    with Engine(tmp_path_factory.mktemp("engine") / "e", live_restore=request.param) as engine:
        engine.load(IMAGE)
        yield engine


@pytest.fixture
def engine(machine_engine, monkeypatch):
    """An engine of our own, where the harness looks for containers meanwhile."""
    monkeypatch.setenv("DOCKER_HOST", machine_engine.url)
    yield machine_engine
    machine_engine.repair()


@pytest.fixture
def served(engine, own_service):
    """A service, and an agent on the test's own engine."""
    service = own_service("--insecure-listen", listen="0.0.0.0:0")
    address = url_by(service, engine.gateway_side)
    return service, service.add_agent(*SMALL, address=address, within=engine.within, warm=1)


def killed_dockerd(engine, moments):
    engine.dockerd.kill()
    time.sleep(moments.uniform(0, 3))
    engine.start_dockerd()


def restarted_dockerd(engine, moments):
    engine.dockerd.terminate()
    assert engine.dockerd.wait(60) == 0
    time.sleep(moments.uniform(0, 1))
    engine.start_dockerd()


def stopped_dockerd(engine, moments):
    engine.dockerd.process.send_signal(signal.SIGSTOP)
    time.sleep(moments.uniform(3, 8))
    engine.dockerd.process.send_signal(signal.SIGCONT)


def killed_containerd(engine, moments):
    engine.containerd.kill()
    time.sleep(moments.uniform(0, 2))
    engine.start_containerd()


def killed_shim(engine, moments):
    os.kill(moments.choice(engine.shims()), signal.SIGKILL)


FAULTS = [killed_dockerd, restarted_dockerd, stopped_dockerd, killed_containerd, killed_shim]


@pytest.mark.deadline(180)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_no_input_fails_because_the_engine_did(served, engine, fault, moments):
    service, agent = served
    call = small_map(slow_digest(0.1), range(150), background=True)
    until("the call runs", lambda: service.api.call(call.id)["done"] > 0, 30)
    time.sleep(moments.uniform(0, 1.5))
    fault(engine, moments)
    attempts = check(service, call, 150, 90)
    again = sum(attempt > 1 for attempt in attempts.values())
    print(f"{fault.__name__}: {again} of 150 inputs ran again")
    if engine.live_restore and fault is not killed_shim:
        assert again == 0
    until("new workers start", lambda: agent.status()["warm"] >= 1, 60)
    check(service, small_map(slow_digest(0), range(4), background=True), 4, 60)
