"""The disk of the gateway's store: full, and without power."""

import json
import random
import shutil
import signal
import threading
import time

import muster
import pytest
from harness import small_map, until
from harness.disks import cut_power, filled, make_image, on_image, small
from harness.service import Service


def slow(x):
    import time

    print("input", x)
    time.sleep(0.05)
    return x * x


@pytest.fixture
def lead_to(monkeypatch):
    """Makes the SDK use a service."""

    def lead(service):
        for name, value in service.environment.items():
            monkeypatch.setenv(name, value)

    return lead


def test_a_full_disk_refuses_new_work_whole_and_running_calls_end_when_there_is_space(
    tmp_path, lead_to
):
    folder = tmp_path / "service"
    with small(folder / "gateway", 24), Service(folder) as service:
        lead_to(service)
        service.add_agent("--cpus", "0-1", "--ram", "2GiB", "--warm", "0")
        call = small_map(slow, range(100), background=True)
        until("it runs", lambda: call.status().done > 5, 30)
        with filled(service.state):
            large = json.dumps(
                {
                    "background": True,
                    "source": "def f(x): return len(x)",
                    "entry": "f",
                    "inputs": ["x" * (2 << 20)],
                    "ram": 0.25,
                }
            ).encode()
            kind = {"Content-Type": "application/json"}
            status, headers, body = service.api.request("POST", "/v1/calls", large, kind)
            assert (status, json.loads(body)["code"]) == (507, "disk_full")
            assert headers["Retry-After"]
            assert [kept["id"] for kept in service.api.calls()] == [call.id]
            assert call.status().state == "running"
        assert call.results(timeout=60) == [x * x for x in range(100)]
        status, _, _ = service.api.request("POST", "/v1/calls", large, kind)
        assert status == 201
        service.cancel_all()


def test_after_a_power_cut_all_that_was_answered_or_shown_is_there(tmp_path, lead_to):
    """What the image of the state folder's file system holds is what a disk has that lost everything
    unsynced. Files in it that are being written are as the kernel left them."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    image, folder = tmp_path / "image", tmp_path / "service"
    make_image(image, 256)
    with on_image(folder / "gateway", image), Service(folder) as service:
        lead_to(service)
        service.add_agent("--cpus", "0-1", "--ram", "2GiB", "--warm", "0")
        acknowledged, ended = {}, threading.Event()
        # So many calls for each cut that the disk does not fill up.
        turns = threading.Semaphore(0)

        def submit():
            while turns.acquire() and not ended.is_set():
                # Some have chunks that lie in files of their own.
                inputs = [bytes(rng.choice([10, 10, 10, 2 << 20])) for _ in range(3)]
                call = small_map(len, inputs, background=True)
                acknowledged[call.id] = len(inputs)

        submitting = threading.Thread(target=submit, daemon=True)
        submitting.start()
        running = small_map(slow, range(400), background=True)
        for cut in range(3):
            seen = len(acknowledged)
            turns.release(10)
            until("more calls are acknowledged", lambda seen=seen: len(acknowledged) > seen + 2, 60)
            time.sleep(rng.uniform(0, 0.3))
            shown = service.api.events(running.id, service.api.call(running.id)["seq"])
            promised = dict(acknowledged)
            copy = tmp_path / f"copy-{cut}"
            service.gateway.process.send_signal(signal.SIGSTOP)
            cut_power(image, copy)
            service.gateway.process.send_signal(signal.SIGCONT)
            again = tmp_path / f"again-{cut}"
            again.mkdir()
            # The key of the secrets is kept apart from what it seals.
            shutil.copy(folder / "gateway.key", again)
            check_copy(again, copy, promised, running.id, shown)
        ended.set()
        turns.release()
        submitting.join(60)
        service.cancel_all()


def check_copy(folder, copy, promised, running, shown):
    """A gateway on the copy knows every call with all its inputs, and every event that was shown."""
    with on_image(folder / "gateway", copy), Service(folder) as service:
        for call, inputs in promised.items():
            record = service.api.call(call)
            assert (record["inputs"], record["total"]) == (inputs, inputs)
        assert service.api.events(running, shown[-1]["seq"]) == shown
        assert muster.Call(running, service.url, service.token).status().total == 400
