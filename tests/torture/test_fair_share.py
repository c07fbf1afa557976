"""Users and calls that share real hosts: P11. Prints what it measured."""

import contextlib
import subprocess
import time

import muster
import pytest
from harness import until
from harness.api import Api
from harness.service import programs

SLOTS = 4

pytestmark = pytest.mark.long


@pytest.fixture
def shared(own_service):
    """A service with four slots on two hosts; and a token of another user."""
    service = own_service()
    for _ in range(2):
        service.add_agent("--cpus", "0-1", "--ram", "1GiB", "--warm", "2", warm=2)
    command = [
        programs() / "muster-gateway", "token", "create", "--state-dir", service.state,
        "--owner", "other",
    ]  # fmt: skip
    made = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=True
    )
    token = made.stdout.split()[-1]
    known = Api(service.url, token)
    until("the gateway knows the token", lambda: known.request("GET", "/v1/calls")[0] == 200)
    return service, token


def sleeps(seconds):
    def run(_):
        import time

        time.sleep(seconds)

    return run


def submit(service, token, seconds, inputs):
    call = muster.remote_parallel_map(
        sleeps(seconds), range(inputs), background=True, func_cpu=1, func_ram=0.25, spinner=False,
        url=service.url, token=token,
    )  # fmt: skip
    return call.id


@pytest.mark.deadline(90)
def test_a_user_gets_its_share_of_the_slots_beside_one_with_many_calls(shared):
    service, other = shared
    for _ in range(5):
        submit(service, service.token, 0.3, 2000)
    until(
        "all slots are taken", lambda: sum(host["workers"] for host in service.api.hosts()) == SLOTS
    )
    late = submit(service, other, 0.3, 2000)
    begun = time.monotonic()
    until("it has half of them", lambda: service.api.call(late)["workers"] >= SLOTS / 2, 10)
    print(f"half of {SLOTS} slots after {time.monotonic() - begun:.2f} s")
    before = [service.api.call(call["id"])["done"] for call in service.api.calls()]
    ids = [call["id"] for call in service.api.calls()]
    until("100 more have ended", lambda: sum(done(service, ids)) >= sum(before) + 100, 40)
    gained = dict(zip(ids, map(int.__sub__, done(service, ids), before), strict=True))
    share = gained[late] / sum(gained.values())
    print(f"its share of the next {sum(gained.values())} inputs: {share:.0%}")
    assert share >= 0.4, "80 % of an equal share"
    service.cancel_all()
    service.wait_idle()


@pytest.mark.deadline(60)
def test_a_short_call_behind_a_long_one_starts_within_a_batch(shared):
    service, _ = shared
    long = submit(service, service.token, 0.05, 100_000)
    until("all slots are its", lambda: service.api.call(long)["workers"] == SLOTS, 20)
    until("its batches have grown", lambda: service.api.call(long)["done"] > 100, 20)
    begun = time.monotonic()
    with contextlib.closing(
        muster.remote_parallel_map(
            sleeps(0.01), range(4), generator=True, func_cpu=1, func_ram=0.25, spinner=False
        )
    ) as outputs:
        next(outputs)
        first = time.monotonic() - begun
        list(outputs)
    print(f"first output after {first:.2f} s, all after {time.monotonic() - begun:.2f} s")
    assert service.api.call(long)["state"] == "running"
    assert first < 10
    service.cancel_all()
    service.wait_idle()


def done(service, ids):
    return [service.api.call(call)["done"] for call in ids]
