"""User code that takes over its runner and speaks to the agent itself: it harms its own call, and nobody else."""

import functools
import os
import socket
import struct
import threading
import time

import muster
import pytest
from harness import small_map

# What all attacks together may cost the agent's memory, in bytes.
GROWTH = 96 << 20


def hostile(attack, index):
    """Runs in the container: takes the runner's channel and page from under it."""
    import gc
    import os

    from muster import _wire
    from muster._runner._channel import Channel

    channel = next(thing for thing in gc.get_objects() if isinstance(thing, Channel))
    descriptor, words = channel._fd, channel.words

    def results(index, count=1, out_end=0, size=4, status=0):
        record = _wire.RECORD.pack(index, out_end, 0, count, size, status) + b"N." + b"xx"
        return _wire.HEADER.pack(len(record), _wire.RESULTS, 0) + record

    def send(data, times=1):
        for _ in range(times):
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]

    big = (1 << 64) - 1
    if attack == "garbage":
        send(b"\x5f" * (1 << 20))
    elif attack == "a frame of no end":
        send(struct.pack("<I", 0xFFFFFFFF) + bytes(1 << 20), 4096)
    elif attack == "a frame of another kind":
        send(_wire.HEADER.pack(4, _wire.OUTPUTS, 0) + b"lies")
    elif attack == "an output of an input it was not given":
        send(results(index + 1_000_000))
    elif attack == "an output of the end of all indexes":
        send(results(big, count=0xFFFFFFFF))
    elif attack == "more outputs than inputs":
        send(results(index, count=0xFFFFFFFF, size=0))
    elif attack == "one output again and again":
        send(results(index), 1_000_000)
    elif attack == "prints that were never printed":
        send(results(index, out_end=big))
    elif attack == "a flood of frames":
        send(_wire.HEADER.pack(0, _wire.RESULTS, 0) * 4096, 4096)
    elif attack == "lies on the page":
        for at in range(len(words)):
            words[at] = big
        channel.page[4096:] = os.urandom(len(channel.page) - 4096)
        os._exit(3)
    elif attack == "a channel that is closed":
        os.close(descriptor)
        while True:
            time.sleep(1)
    elif attack == "signals to pid 1":
        for number in (1, 2, 9, 15, 19):
            os.kill(1, number)
        try:
            os.kill(-1, 9)
        except ProcessLookupError:
            pass  # nobody else is there
    return attack


ATTACKS = [
    "garbage",
    "a frame of no end",
    "a frame of another kind",
    "an output of an input it was not given",
    "an output of the end of all indexes",
    "more outputs than inputs",
    "one output again and again",
    "prints that were never printed",
    "a flood of frames",
    "lies on the page",
    "a channel that is closed",
    "signals to pid 1",
]


@pytest.mark.deadline(180)
def test_a_hostile_runner_harms_only_its_own_call(service):
    before = service.agents[0].daemon.memory()
    neighbour, outputs = threading.Event(), []

    def run_neighbour():
        try:
            for _ in range(len(ATTACKS)):
                outputs.append(small_map(lambda x: x * x, range(2000), max_parallelism=1))
        finally:
            neighbour.set()

    threading.Thread(target=run_neighbour, daemon=True).start()
    for attack in ATTACKS:
        started = time.monotonic()
        try:
            got = small_map(
                functools.partial(hostile, attack),
                [0],
                timeout=5,
                max_parallelism=1,
                results="safe",
                return_exceptions=True,
            )
        except muster.CallError:
            continue
        finally:
            assert time.monotonic() - started < 60, attack
        # One output for one input, whatever was said, and only what may be one.
        assert len(got) == 1, attack
        assert got[0] in (None, attack) or isinstance(got[0], muster.InputError), (attack, got)
    assert neighbour.wait(90), "a neighbour's calls did not go on"
    assert outputs == [[x * x for x in range(2000)]] * len(ATTACKS)
    assert small_map(len, ["abc"]) == [3]
    assert service.agents[0].daemon.memory() - before < GROWTH


def test_no_other_socket_can_be_reached_from_a_container(service):
    """The folder of its own sockets is all a worker sees of the agent: one answers no more, one takes nested calls."""
    assert service

    def look(_):
        def connect(path):
            try:
                with socket.socket(socket.AF_UNIX) as one:
                    one.connect(path)
            except OSError as error:
                return type(error).__name__
            return "connected"

        sockets = []
        for at, _, names in os.walk("/", onerror=lambda _: None):
            if at.startswith(("/proc", "/sys")):
                continue
            sockets += [
                path
                for path in (os.path.join(at, name) for name in names)
                if os.path.exists(path) and (os.stat(path).st_mode & 0o170000) == 0o140000
            ]
        abstract = [f"\0muster-agent/{name}" for name in ("node", os.uname().nodename)]
        with open("/proc/net/unix") as table:
            listed = [line.split()[-1] for line in table if "@" in line.split()[-1]]
        return {path: connect(path) for path in sockets + abstract}, listed

    ((found, listed),) = small_map(look, [0])
    assert found.pop("/.muster/socket/call.sock") == "connected"
    assert set(found.values()) <= {"ConnectionRefusedError", "PermissionError"}, found
    assert len([path for path in found if path.startswith("/")]) <= 1
    assert listed == []
