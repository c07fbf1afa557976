"""A gateway that is started anew while a foreground call runs: the call is submitted again, and its result is whole."""

from __future__ import annotations

import random
import threading

import pytest

from conftest import SLOW
from muster import _kept, remote_parallel_map
from muster._kept import Kept, Ranges
from muster._wire import run_of


def slow_if_odd(x):
    from conftest import SLOW

    if x % 2:
        SLOW.wait(20)
    return x * 10


@pytest.fixture(autouse=True)
def slow_again():
    SLOW.clear()
    yield
    SLOW.set()


def restart_when_half_is_done(gateway, **how):
    """Start the gateway anew once the ten even inputs are done; then odd ones go on."""

    def watch():
        gateway.until("even inputs are done", lambda: gateway.calls and gateway.call.done == 10)
        gateway.restart(**how)
        SLOW.set()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.mark.parametrize("said", [True, False], ids=["it says so", "it is killed"])
@pytest.mark.parametrize("kind", [list, iter], ids=["a container", "an iterator"])
def test_a_list_is_complete_and_what_had_its_output_is_not_run_again(gateway, capfd, said, kind):
    gateway.workers = 20
    watch = restart_when_half_is_done(gateway, end=said)
    assert remote_parallel_map(slow_if_odd, kind(range(20)), spinner=False) == [
        x * 10 for x in range(20)
    ]
    watch.join()
    assert 0 < gateway.call.skipped <= 10
    assert gateway.call.inputs == 20
    said_so = capfd.readouterr().err.splitlines()
    assert len(said_so) == 1
    assert "submitting again" in said_so[0]


@pytest.mark.parametrize("ordered", [True, False])
def test_a_generator_gives_each_output_once(gateway, ordered):
    gateway.workers = 20
    watch = restart_when_half_is_done(gateway)
    outputs = remote_parallel_map(
        slow_if_odd, iter(range(20)), spinner=False, generator=True, ordered=ordered
    )
    found = list(outputs)
    watch.join()
    assert sorted(found) == [x * 10 for x in range(20)]
    assert not ordered or found == sorted(found)


def test_inputs_that_come_after_the_restart_go_to_the_new_call(gateway):
    def inputs():
        yield from range(5)
        gateway.until("five are done", lambda: gateway.calls and gateway.call.done == 5)
        gateway.restart()
        yield from range(5, 10)

    assert remote_parallel_map(lambda x: -x, inputs(), spinner=False) == [-x for x in range(10)]
    assert gateway.created == 2


def test_a_gateway_that_has_no_hosts_yet_is_asked_again(gateway):
    no_hosts = {"code": "no_hosts", "detail": "no host", "action": "wait"}

    def inputs():
        yield from range(5)
        gateway.until("five are done", lambda: gateway.calls and gateway.call.done == 5)
        gateway.refusals += [(503, no_hosts)] * 3
        gateway.restart()
        yield 5

    assert remote_parallel_map(lambda x: x, inputs(), spinner=False) == list(range(6))


def test_ranges_hold_what_was_added_and_do_not_touch():
    rng = random.Random(7)
    for _ in range(50):
        ranges, left = Ranges(), list(range(40))
        added = set()
        while left and rng.random() < 0.95:
            first = rng.choice(left)
            count = 1
            while first + count in left and rng.random() < 0.5:
                count += 1
            ranges.add(first, count)
            added |= set(range(first, first + count))
            left = [at for at in left if at not in added]
        found = ranges.sorted()
        assert {at for first, end in found for at in range(first, end)} == added
        assert all(end < then for (_, end), (then, _) in zip(found, found[1:]))


@pytest.mark.parametrize("again", [True, False], ids=["a container", "an iterator"])
def test_what_is_missing_is_given_in_order_at_its_indexes(monkeypatch, again):
    monkeypatch.setattr(_kept, "_PRUNE_BYTES", 50)
    rng = random.Random(3)
    for _ in range(100):
        sizes = [rng.randint(1, 6) for _ in range(rng.randint(1, 8))]
        total = sum(sizes)
        items = [b"x" * (at % 5) + b"%d" % at for at in range(total)]
        runs, at = [], 0
        for size in sizes:
            runs.append(run_of(items[at : at + size]))
            at += size
        kept = Kept((lambda runs=runs: iter(runs)) if again else None)
        at, done = 0, set()
        for run in runs:
            kept.sent(at, [run])
            at += run.number
            for index in range(at):
                if index not in done and rng.random() < 0.3:
                    kept.done(index, 1)
                    done.add(index)
        found, at = {}, 0
        for first, count, parts in kept.missing():
            assert first == at
            at += count
            for part in parts:
                begin = 0
                for n in range(part.number):
                    size = int.from_bytes(part.lengths[4 * n : 4 * n + 4], "little")
                    found[first + n] = bytes(part.items[begin : begin + size])
                    begin += size
        assert at == total
        assert found == {at: item for at, item in enumerate(items) if at not in done}


def test_inputs_wait_while_too_much_is_kept(monkeypatch):
    monkeypatch.setattr(_kept, "KEPT_BYTES", 10)
    kept = Kept(None)
    kept.sent(0, [run_of([b"0123456789"])])
    done = threading.Event()

    def wait():
        kept.wait(lambda: False)
        done.set()

    threading.Thread(target=wait, daemon=True).start()
    assert not done.wait(0.05)
    kept.done(0, 1)
    assert done.wait(10)
