"""How much the gateway holds at once, and what it costs; prints what it measured.

`MUSTER_LOAD_SECONDS` says how long streams stay open (120),
`MUSTER_LOAD_SHARE` how much of the full numbers is tried (1).
"""

import os
import subprocess
import time

import pytest
from crowd import Crowd, Watch, calls, inputs, latencies
from harness import until
from harness.open_files import allow_many_files

pytestmark = pytest.mark.long

SECONDS = float(os.environ.get("MUSTER_LOAD_SECONDS") or 120)
SHARE = float(os.environ.get("MUSTER_LOAD_SHARE") or 1)
STREAMS = int(5_000 * SHARE)
# The gateway takes 10,000 connections in all, and these tests ask beside them.
IDLE = int(9_980 * SHARE)
SLOW = int(2_000 * SHARE)
SMALL = "/v1/hosts"
KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture
def service(own_service):
    allow_many_files()
    return own_service()


def row(what, found):
    print(f"  {what:<44} {found}")


def cost(service, before, size):
    """What one of them costs, in bytes of the gateway's memory."""
    return (service.gateway.memory() - before) / size


@pytest.mark.deadline(SECONDS + 120)
def test_an_open_event_stream_costs_less_than_32_kib(service):
    service.add_agent("--cpus", "0-1", "--ram", "1GiB", "--warm", "1")
    call = service.api.create(command=["sleep", "3600"], inputs=[""], ram=0.5)
    path = f"/v1/calls/{call['id']}/events"
    before = service.gateway.memory()
    row("small requests alone", latencies(service.api, SMALL, 5))
    with Watch(service, STREAMS * 32 * KIB + 32 * MIB), Crowd(service.api, STREAMS, path) as crowd:
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            beside = latencies(service.api, SMALL, min(5, SECONDS))
            assert crowd.open() == STREAMS
        each = cost(service, before, STREAMS)
        row(f"{STREAMS} event streams, each", f"{each / KIB:.1f} KiB")
        row("small requests beside them", beside)
        assert each < 32 * KIB
    service.api.cancel(call["id"])
    service.wait_idle()


@pytest.mark.deadline(180)
def test_idle_connections_cost_little_and_disturb_nobody(service):
    before = service.gateway.memory()
    with Watch(service, IDLE * 32 * KIB + 32 * MIB), Crowd(service.api, IDLE, "/healthz") as crowd:
        row(f"{IDLE} idle connections, each", f"{cost(service, before, IDLE) / KIB:.1f} KiB")
        row("small requests beside them", latencies(service.api, SMALL, 5))
        assert crowd.open() == IDLE


@pytest.mark.deadline(SECONDS + 400)
def test_slow_readers_do_not_slow_the_others(service):
    service.add_agent("--cpus", "0-1", "--ram", "2GiB", "--warm", "1")
    # More than a log has in memory: readers begin with what was spilled.
    prints = service.api.create(command=["sh", "-c", "seq 3000000 >&2"], inputs=[""], ram=0.5)
    until("22 MB of prints", lambda: service.api.call(prints["id"])["ended"], 60)
    path = f"/v1/calls/{prints['id']}/events"
    alone = measured(service, "alone")
    before = service.gateway.memory()
    with Watch(service, SLOW * 512 * KIB), Crowd(service.api, SLOW, path, 4 * KIB) as crowd:
        crowd.read_slowly(1024)
        ends = time.monotonic() + max(SECONDS, 150)
        # At first they take what they can hold.
        requests = alone["small requests, 500/s"]
        until(
            "requests are answered as before", lambda: _normal(service, requests), 120, interval=0
        )
        beside = measured(service, "beside them")
        # What each took at first it has read by then: more is read back for it, and again.
        until("they have read on", lambda: time.monotonic() > ends, SECONDS + 200, interval=1)
        each = cost(service, before, SLOW)
        row(f"{SLOW} readers of 1 KiB/s, each", f"{each / KIB:.1f} KiB")
        assert crowd.ended == 0
        assert each < 512 * KIB
    for what, noise in NOISE.items():
        assert beside[what].within_twice(alone[what], noise), f"{what}: {beside[what]}"
    service.wait_idle()


# What is measured beside slow readers, and what two cores that are busy may add to its p50 and its p99 by
# themselves, in seconds.
NOISE = {
    "small requests, 500/s": (0.003, 0.05),
    "inputs of a running call, 50/s": (0.005, 0.1),
    "calls, one by one": (0.1, 1),
}


def measured(service, when):
    found = dict(
        zip(
            NOISE,
            (
                latencies(service.api, SMALL, 20),
                inputs(service.api, 10, 50),
                calls(service.api, 10),
            ),
        )
    )
    for what, taken in found.items():
        row(f"{what}, {when}", taken)
    return found


@pytest.mark.deadline(180)
def test_an_overload_is_over_ten_seconds_after_it_ends(service):
    alone = latencies(service.api, SMALL, 5)
    row("small requests alone", alone)
    header = f"Authorization: Bearer {service.token}"
    command = ["wrk", "-t", "2", "-c", "320", "-d", "20", "-H", header, service.url + SMALL]
    # 64 connections saturate two cores; these are five times as many.
    with Watch(service, 256 * MIB):
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    assert "Non-2xx" not in done.stdout, done.stdout
    ended = time.monotonic()
    until("it is as before", lambda: _normal(service, alone), 10, interval=0)
    row("normal again after an overload", f"{time.monotonic() - ended:.1f} s")


def _normal(service, alone):
    return latencies(service.api, SMALL, 0.5).at(50) < max(2 * alone.at(50), 0.002)
