"""The one checker: a call that was accepted, whatever was done to its hosts."""

import base64
import hashlib
import json
import pickle


def digest(i):
    """The workload's answer for one input."""
    return hashlib.sha256(str(i).encode()).hexdigest()


def slow_digest(seconds):
    """The workload: answers after `seconds`."""

    def run(i):
        import hashlib
        import time

        time.sleep(seconds)
        return hashlib.sha256(str(i).encode()).hexdigest()

    return run


def outputs(service, call, seconds):
    """Reads the whole stream of a call: its outputs by index, each checked to be there once."""
    status, _, body = service.api.request(
        "GET", f"/v1/calls/{call.id}/events?after=0", timeout=seconds
    )
    assert status == 200, body
    events = [json.loads(line) for line in body.splitlines()]
    logged = [event for event in events if event["type"] != "progress"]
    last = 0
    for event in logged:
        # What was damaged is counted.
        last += event["events"] if event["type"] == "damaged" else 1
        assert event["seq"] == last, event
    assert [event["type"] for event in logged].count("end") == 1
    assert logged[-1]["type"] == "end"
    found = {}
    for event in logged:
        if event["type"] == "output":
            assert event["index"] not in found, f"input {event['index']} ended twice"
            found[event["index"]] = event
    return found, logged[-1]


def check(service, call, inputs, seconds):
    """Every input ended once, with the oracle's answer, and nothing else came; the attempts."""
    found, end = outputs(service, call, seconds)
    assert end["state"] == "succeeded", (end, [e for e in found.values() if "failure" in e])
    assert sorted(found) == list(range(inputs))
    for index, event in found.items():
        assert "pickle_base64" in event, event
        assert pickle.loads(base64.b64decode(event["pickle_base64"])) == digest(index)
    return {index: event["attempt"] for index, event in found.items()}
