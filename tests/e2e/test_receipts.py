"""What each input cost comes with the call."""

import json

import muster

BACKGROUND = {"func_ram": 0.5, "background": True}


def test_receipts_say_how_long_inputs_waited_and_ran_and_what_they_used(service):
    def f(kind):
        import time

        if kind == "wait":
            time.sleep(0.3)
        elif kind == "work":
            until = time.process_time() + 0.3
            while time.process_time() < until:
                pass
        else:
            bytearray(150 << 20)

    call = muster.remote_parallel_map(f, ["wait", "work", "hold"], max_parallelism=1, **BACKGROUND)
    wait, work, hold = call.receipts(timeout=30)
    host = service.agents[0].name
    assert [(one.index, one.attempt, one.host) for one in (wait, work, hold)] == [
        (0, 1, host),
        (1, 1, host),
        (2, 1, host),
    ]
    assert 0.3 <= wait.run_seconds < 3
    assert wait.cpu_seconds < 0.3
    assert 0.28 <= work.cpu_seconds <= work.run_seconds + 0.1
    assert work.queue_seconds >= 0.3
    assert wait.peak_bytes < 150 << 20 < hold.peak_bytes <= 512 << 20
    # As often as wanted, from anywhere.
    assert muster.Call(call.id).receipts() == [wait, work, hold]


def test_a_second_attempt_has_the_receipt(service):
    def f(_):
        import os

        if os.environ["MUSTER_ATTEMPT"] == "1":
            os._exit(3)

    call = muster.remote_parallel_map(f, [0], retries=1, **BACKGROUND)
    (receipt,) = call.receipts(timeout=30)
    assert receipt.attempt == 2


def test_tiny_inputs_share_receipts_and_each_has_one(service):
    call = muster.remote_parallel_map(abs, range(20_000), **BACKGROUND)
    receipts = call.receipts(timeout=30)
    assert [receipt.index for receipt in receipts] == list(range(20_000))
    assert sum(receipt.run_seconds for receipt in receipts) < 30
    _, _, body = service.api.request("GET", f"/v1/calls/{call.id}/events")
    events = [json.loads(line) for line in body.splitlines()]
    told = [event for event in events if event["type"] == "receipt"]
    assert sum(event["count"] for event in told) == 20_000
    assert len(told) < 2_000


def test_a_receipt_comes_before_the_output_that_it_is_of(service):
    call = muster.remote_parallel_map(abs, [1], **BACKGROUND)
    call.wait(timeout=30)
    _, _, body = service.api.request("GET", f"/v1/calls/{call.id}/events")
    kinds = [json.loads(line)["type"] for line in body.splitlines()]
    kinds = [kind for kind in kinds if kind in ("receipt", "output", "end")]
    assert kinds == ["receipt", "output", "end"]
