"""The gateway is killed and started again: foreground calls end whole and right, and of background
calls nothing is lost that was acknowledged or shown."""

import hashlib
import os
import random
import threading
import time

import muster
import pytest
from harness import small_map, until


def digest(x):
    return hashlib.sha256(str(x).encode()).hexdigest()


def slow_digest(x):
    import hashlib
    import time

    print("input", x)
    time.sleep(0.05)
    return hashlib.sha256(str(x).encode()).hexdigest()


@pytest.fixture
def fleet(own_service):
    service = own_service()
    service.add_agent("--cpus", "0-1", "--ram", "2GiB", "--warm", "0")
    return service


@pytest.mark.parametrize("kind", [list, iter], ids=["a container", "an iterator"])
def test_a_generator_of_a_foreground_call_gives_each_output_once(fleet, capfd, kind):
    expected = sorted(map(digest, range(60)))
    outputs = small_map(slow_digest, kind(range(60)), generator=True)
    found = [next(outputs) for _ in range(10)]
    fleet.crash_gateway()
    found += outputs
    assert sorted(found) == expected
    assert capfd.readouterr().err.count("submitting again") == 1


def test_a_gateway_that_is_asked_to_stop_hands_its_foreground_calls_to_the_next(fleet):
    outputs = small_map(slow_digest, range(200), generator=True)
    found = [next(outputs) for _ in range(10)]
    fleet.restart_gateway(fleet.url.removeprefix("http://"))
    assert sorted([*found, *outputs]) == sorted(map(digest, range(200)))


def test_a_background_call_loses_nothing_that_was_shown_however_often_the_gateway_dies(fleet):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    call = small_map(slow_digest, range(150), background=True, key=f"restart-{seed}")
    shown = []
    for _ in range(3):
        before = len(shown) // 3
        until("it goes on", lambda before=before: call.status().done > before, 60)
        time.sleep(rng.uniform(0, 0.5))
        seq = fleet.api.call(call.id)["seq"]
        shown = fleet.api.events(call.id, seq)
        fleet.crash_gateway()
        assert fleet.api.events(call.id, seq) == shown
    again = small_map(slow_digest, range(150), background=True, key=f"restart-{seed}")
    assert again == call
    assert call.results(timeout=120) == list(map(digest, range(150)))
    indexes = [index for index, _ in call.results(as_completed=True)]
    assert sorted(indexes) == list(range(150))
    assert "input 149" in call.logs()
    fleet.crash_gateway()
    assert muster.Call(call.id).results() == list(map(digest, range(150)))


def test_an_input_that_runs_while_the_gateway_is_killed_is_not_run_again(fleet):
    def long(x):
        import time

        import muster

        print("began", x, "attempt", muster.current().attempt, flush=True)
        time.sleep(15)
        print("ended", x, flush=True)
        return x, muster.current().attempt

    call = small_map(long, range(2), background=True)
    until("both run", lambda: call.logs().count("began") == 2, 60)
    fleet.crash_gateway()
    assert call.results(timeout=120) == [(0, 1), (1, 1)]
    lines = sorted(call.logs().splitlines())
    assert lines == ["began 0 attempt 1", "began 1 attempt 1", "ended 0", "ended 1"]


def test_a_background_call_keeps_its_tokens_limit_to_shares(own_service, tmp_path):
    service = own_service()
    shares = []
    for name in ("data", "out"):
        (tmp_path / name).mkdir(mode=0o755)
        shares += ["--share", f"{name}={tmp_path / name}"]
    service.add_agent("--cpus", "0-1", "--ram", "2GiB", "--warm", "0", *shares)
    limited = service.command("token", "create", "--share", "data")

    def parent(_):
        print("waits", flush=True)
        while not os.path.exists("/data/go"):
            time.sleep(0.1)

        def child(name):
            try:
                return muster.remote_parallel_map(len, ["x"], func_ram=0.25, shares={name: "/s"})
            except muster.ShareError as error:
                return error.code

        return [child("data"), child("out")]

    call = small_map(parent, [0], shares={"data": "/data"}, token=limited, background=True)
    until("the function waits", lambda: "waits" in call.logs(), 60)
    service.crash_gateway()
    (tmp_path / "data" / "go").touch()
    assert call.results(timeout=120) == [[[1], "share_forbidden"]]


def test_a_million_queued_inputs_are_there_again_in_little_memory(fleet):
    def wait(_):
        import time

        time.sleep(600)

    call = small_map(wait, range(1_000_000), background=True, max_parallelism=1)
    begun = time.monotonic()
    fleet.crash_gateway()
    print(f"ready after {time.monotonic() - begun:.2f} s")
    status = call.status()
    assert (status.total, status.done) == (1_000_000, 0)
    assert fleet.gateway.memory_peak() < 300 << 20
    print(f"peak {fleet.gateway.memory_peak() >> 20} MiB")
    call.cancel()


def test_an_upload_goes_on_while_the_gateway_is_started_again(fleet):
    crashed = threading.Event()

    def inputs():
        yield from range(1000)
        fleet.crash_gateway()
        crashed.set()
        yield from range(1000, 2000)

    call = small_map(lambda x: x + 1, inputs(), background=True)
    assert crashed.is_set()
    assert call.results(timeout=60) == list(range(1, 2001))


def test_a_background_call_that_was_cancelled_stays_so_though_the_gateway_is_killed_at_once(fleet):
    call = small_map(slow_digest, range(1000), background=True)
    until("it runs", lambda: call.status().done > 0, 60)
    call.cancel()
    fleet.crash_gateway()
    assert call.status().state == "cancelled"
