"""A bit of what a disk keeps has changed: F18. What it was part of is named and not used; the rest is read as ever."""

import base64
import hashlib
import os
import pickle
import signal

import muster
import pytest
from checker import outputs
from harness import small_map, until

SMALL = ("--cpus", "0-1", "--ram", "1GiB", "--warm", "0")
# More than a row of the store holds, so that each is a file of its own.
LARGE = 1 << 20
INPUTS = 12

pytestmark = pytest.mark.long


def large(i):
    return hashlib.shake_128(str(i).encode()).digest(LARGE)


def flip(file, moments):
    """Changes one bit of a file, and nothing else of it."""
    with file.open("r+b") as disk:
        place = moments.randrange(file.stat().st_size)
        disk.seek(place)
        byte = disk.read(1)[0]
        disk.seek(place)
        disk.write(bytes([byte ^ (1 << moments.randrange(8))]))


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_an_input_whose_bit_changed_on_the_gateways_disk_is_not_run(own_service, moments):
    service = own_service()
    agent = service.add_agent(*SMALL)
    os.kill(agent.daemon.pid, signal.SIGSTOP)
    try:
        inputs = [large(i) for i in range(INPUTS)]
        call = small_map(
            lambda x: hashlib.sha256(x).hexdigest(), inputs, background=True, return_exceptions=True
        )
        kept = files(service.state / "payloads")
        assert kept
        flip(moments.choice(kept), moments)
        # What it still has in memory is right.
        service.crash_gateway()
    finally:
        os.kill(agent.daemon.pid, signal.SIGCONT)
    found, end = outputs(service, call, 40)
    print(end)
    assert (end["state"], sorted(found)) == ("succeeded", list(range(INPUTS)))
    damaged = damaged_of(found)
    assert 0 < end["failed"] == len(damaged) < INPUTS, "those that came in one batch"
    for index in set(found) - damaged:
        assert value(found[index]) == hashlib.sha256(large(index)).hexdigest()
    with pytest.raises(muster.Damaged, match="submit it again") as caught:
        call.results()
    assert caught.value.index in damaged
    assert set(caught.value.outputs) == set(found) - damaged


def test_an_output_whose_bit_changed_on_the_gateways_disk_is_not_delivered(own_service, moments):
    service = own_service()
    service.add_agent(*SMALL)
    call = small_map(lambda i: large(i), range(INPUTS), background=True)
    call.wait()
    before = set(files(service.state / "payloads"))
    assert before
    service.crash_gateway()
    flip(moments.choice(sorted(before)), moments)
    found, end = outputs(service, call, 40)
    assert (end["state"], end["done"]) == ("succeeded", INPUTS)
    assert sorted(found) == list(range(INPUTS))
    damaged = damaged_of(found)
    assert damaged
    for index in set(found) - damaged:
        assert value(found[index]) == large(index)
    with pytest.raises(muster.Damaged, match="submit this input again") as caught:
        call.results()
    assert caught.value.index in damaged
    assert set(caught.value.outputs) == set(found) - damaged
    assert len(call.results(return_exceptions=True)) == INPUTS


def test_data_whose_bit_changed_in_a_hosts_cache_is_fetched_again(own_service, moments):
    service = own_service()
    agent = service.add_agent(*SMALL)
    ref = muster.put(pickle.PickleBuffer(large(0)))

    def read(_):
        return hashlib.sha256(ref.get()).hexdigest()

    expected = hashlib.sha256(large(0)).hexdigest()
    assert small_map(read, [0]) == [expected]
    service.wait_idle()
    agent.kill()
    (cached,) = files(agent.cache / "data")
    cached.chmod(0o600)
    flip(cached, moments)
    agent.start()
    agent.wait_ready()
    until("it is alone", lambda: len(service.api.hosts()) == 1)
    assert small_map(read, [0]) == [expected]


def test_data_whose_bit_changed_at_the_gateway_reaches_no_function(own_service, moments):
    service = own_service()
    service.add_agent(*SMALL)
    ref = muster.put(pickle.PickleBuffer(large(1)))
    parts = [file for file in files(service.state / "blobs") if file.stat().st_size > 1000]
    flip(moments.choice(parts), moments)
    with pytest.raises(muster.MusterError) as caught:
        small_map(lambda _: len(ref.get()), [0])
    print(repr(caught.value))
    again = muster.put(pickle.PickleBuffer(large(1)))
    assert again == ref
    digests = small_map(lambda _: hashlib.sha256(ref.get()).hexdigest(), [0])
    assert digests == [hashlib.sha256(large(1)).hexdigest()]


def value(event):
    return pickle.loads(base64.b64decode(event["pickle_base64"]))


def damaged_of(found):
    """The indexes that have a failure for their output, which says that it is damaged."""
    failures = {index: event["failure"] for index, event in found.items() if event.get("failure")}
    assert {failure["code"] for failure in failures.values()} == {"damaged"}
    return set(failures)
