"""Disks that are full: the gateway's spill, a host's cache, the container engine's own: F9.

The store's is in tests/e2e.
"""

import hashlib
import pickle
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import muster
import pytest
from checker import check, slow_digest
from engine import Engine
from harness import small_map, until
from harness.disks import filled, make_image, on_image, small
from harness.service import Service
from partition import url_by

IMAGE = f"muster/python:{sys.version_info[0]}.{sys.version_info[1]}"
SMALL = ("--cpus", "0-1", "--ram", "1GiB")
MIB = 1 << 20

pytestmark = pytest.mark.long


@pytest.mark.deadline(90)
def test_a_call_that_cannot_spill_waits_says_so_and_ends_when_there_is_space(tmp_path, monkeypatch):
    folder, bounds = tmp_path / "service", ("--queue-memory", "1MiB", "--spare-memory", "0")
    with small(folder / "gateway", 24), Service(folder, bounds) as service:
        for name, value in service.environment.items():
            monkeypatch.setenv(name, value)
        service.add_agent(*SMALL, "--warm", "0")

        def run(x):
            time.sleep(0.05)
            return hashlib.sha256(x).hexdigest()

        def inputs():
            for i in range(12):
                yield bytes([i]) * MIB

        with ThreadPoolExecutor(1) as pool:
            with filled(service.state):
                waiting = pool.submit(small_map, run, inputs())
                until(
                    "it says why it waits",
                    lambda: any(
                        "disk is full" in (c["waiting"] or "") for c in service.api.calls()
                    ),
                    30,
                )
                assert small_map(lambda x: x, range(8)) == list(range(8)), "others go on"
                assert not waiting.done()
            assert waiting.result(60) == [hashlib.sha256(x).hexdigest() for x in inputs()]


@pytest.mark.deadline(90)
def test_a_host_whose_cache_has_no_room_says_so_and_works_again_when_it_has(own_service, tmp_path):
    service = own_service()
    with small(tmp_path / "cache", 8) as cache:
        service.add_agent(*SMALL, "--warm", "0", cache=cache)
        ref = muster.put(pickle.PickleBuffer(bytes(4 * MIB)))

        def read(_):
            return len(ref.get())

        with filled(cache):
            with pytest.raises(muster.CallFailed) as caught:
                small_map(read, [0])
            print(repr(caught.value))
            assert small_map(lambda x: x, [1]) == [1], "who needs no data notices nothing"
        assert small_map(read, [0]) == [4 * MIB]
        service.stop()


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """An engine with a small disk of its own, where the harness looks for containers meanwhile."""
    image, folder = tmp_path / "image", tmp_path / "engine"
    make_image(image, 512)
    with on_image(folder / "data", image), Engine(folder) as engine:
        engine.load(IMAGE)
        monkeypatch.setenv("DOCKER_HOST", engine.url)
        yield engine


@pytest.mark.deadline(180)
def test_a_host_whose_engine_has_no_disk_left_fails_no_input_and_works_again(engine, own_service):
    service = own_service("--insecure-listen", listen="0.0.0.0:0")
    address = url_by(service, engine.gateway_side)
    service.add_agent(*SMALL, "--warm", "0", address=address, within=engine.within)
    running = small_map(slow_digest(0.1), range(100), background=True, max_parallelism=1)
    until("it runs", lambda: service.api.call(running.id)["done"] > 0, 30)
    with filled(engine.data):
        late = small_map(slow_digest(0.1), range(8), background=True)
        waits = until("it says why it waits", lambda: service.api.call(late.id)["waiting"], 30)
        print(waits)
        done = service.api.call(running.id)["done"]
        until("what runs goes on", lambda: service.api.call(running.id)["done"] > done, 30)
    check(service, running, 100, 60)
    check(service, late, 8, 60)
