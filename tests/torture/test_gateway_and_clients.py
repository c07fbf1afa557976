"""Gateways and clients that die at a random moment: F1, F2, F3."""

import time

import muster
import pytest
from checker import check, digest, slow_digest
from harness import Script, small_map, until

SMALL = ("--cpus", "0-1", "--ram", "1GiB", "--warm", "1")
INPUTS = 120

SUBMITS = """
import hashlib, time, muster

def digest(i):
    time.sleep(0.01)
    return hashlib.sha256(str(i).encode()).hexdigest()

def inputs():
    for i in range({inputs}):
        time.sleep({pause})
        yield i

print("begins")
call = muster.remote_parallel_map(
    digest, inputs(), background=True, key="torture", func_ram=0.25, spinner=False
)
print(call.id)
"""

READS = """
import hashlib, time, muster

def digest(i):
    time.sleep(0.05)
    return hashlib.sha256(str(i).encode()).hexdigest()

for output in muster.remote_parallel_map(
    digest, range(10_000), generator=True, func_ram=0.25, spinner=False
):
    print(output)
"""


def accepted(service):
    """The events of calls say which indexes there are; so does their record."""
    return [call["inputs"] for call in service.api.calls()]


@pytest.mark.long
@pytest.mark.deadline(120)
def test_a_client_killed_while_it_submits_leaves_what_its_successor_goes_on_with(
    own_service, moments, tmp_path
):
    service = own_service()
    service.add_agent(*SMALL)
    source = SUBMITS.format(inputs=INPUTS, pause=0.02)
    with Script.python(tmp_path, source, env=service.environment) as client:
        client.wait_for(b"begins")
        time.sleep(moments.uniform(0, 2.4))
        client.process.kill()
        client.process.wait(10)
    before = accepted(service)
    assert len(before) <= 1
    source = SUBMITS.format(inputs=INPUTS, pause=0)
    with Script.python(tmp_path, source, env=service.environment) as client:
        call = muster.Call(client.succeed(60).split()[-1].decode())
    assert len(service.api.calls()) == 1, "the same key made a second call"
    assert set(check(service, call, INPUTS, 60).values()) == {1}
    print(f"killed with {before} inputs accepted")


@pytest.mark.long
@pytest.mark.deadline(120)
def test_a_stream_resumes_after_any_event_when_its_reader_was_killed(own_service, moments):
    service = own_service()
    service.add_agent(*SMALL)
    call = small_map(slow_digest(0.02), range(INPUTS), background=True)
    seen, after = {}, 0
    while len(seen) < INPUTS:
        upto = after + moments.randint(1, 20)
        for event in service.api.events(call.id, upto, after):
            assert event["seq"] > after, event
            after = event["seq"]
            if event["type"] == "output":
                assert event["index"] not in seen
                seen[event["index"]] = event
    check(service, call, INPUTS, 30)


@pytest.mark.long
@pytest.mark.deadline(60)
def test_a_foreground_call_ends_after_its_grace_when_its_client_was_killed(
    own_service, moments, tmp_path
):
    service = own_service("--grace", "2s")
    agent = service.add_agent("--cpus", "0-1", "--ram", "1GiB", "--warm", "0")
    with Script.python(tmp_path, READS, env=service.environment) as client:
        client.wait_for(b"\n")
        time.sleep(moments.uniform(0, 1))
        client.process.kill()
        client.process.wait(10)
    (call,) = service.api.calls()
    until("it is cancelled", lambda: service.api.call(call["id"])["state"] == "cancelled", 20)
    until("its containers are gone", lambda: agent.containers() == [], 10)


@pytest.mark.deadline(120)
def test_a_killed_gateway_costs_no_output_of_any_call(own_service, moments):
    service = own_service()
    service.add_agent(*SMALL)
    behind = small_map(slow_digest(0.05), range(INPUTS), background=True)
    outputs = small_map(slow_digest(0.05), range(INPUTS), generator=True)
    found = [next(outputs)]
    time.sleep(moments.uniform(0, 2))
    begun = time.monotonic()
    service.crash_gateway()
    print(f"ready after {time.monotonic() - begun:.2f} s")
    found += outputs
    assert sorted(found) == sorted(map(digest, range(INPUTS)))
    check(service, behind, INPUTS, 60)
