"""What the gateway's disk has damaged: named, and the rest is there."""

from __future__ import annotations

import json

import pytest

import muster
from fake_gateway import die, say
from muster import Call, _wire, remote_parallel_map


def damage(call, kind):
    """Have the first event of this kind be missing from the stream."""
    at = next(at for at, event in enumerate(call.events) if event[2] == kind)
    seq, count, _, _ = call.events[at]
    said = json.dumps({"type": "damaged", "events": count}).encode()
    call.events[at] = (seq, count, _wire.EVENT, said)


def test_a_damaged_output_of_a_background_call_is_named_and_the_others_are_there(gateway):
    def run(x):
        if x == 1:
            die(code="damaged", message="its output was damaged; submit this input again")
        return x * 10

    call = remote_parallel_map(run, range(3), background=True, return_exceptions=True)
    with pytest.raises(muster.Damaged, match="input 1 .*submit this input again") as caught:
        call.results()
    assert caught.value.index == 1
    assert caught.value.outputs == {0: 0, 2: 20}
    first, damaged, last = call.results(return_exceptions=True)
    assert (first, last) == (0, 20)
    assert isinstance(damaged, muster.Damaged)


@pytest.mark.parametrize("as_completed", [False, True])
def test_outputs_that_are_missing_without_a_name_are_counted(gateway, as_completed):
    call = remote_parallel_map(abs, [-1, -2, -3], background=True)
    call.wait(10)
    damage(gateway.call, _wire.OUTPUTS)
    with pytest.raises(muster.CallFailed, match=r"1 outputs? of call .* damaged") as caught:
        list(Call(call.id).results(as_completed=as_completed))
    assert caught.value.code == "damaged"
    assert "disk" in caught.value.action
    if not as_completed:
        assert len(caught.value.outputs) == 2


def test_missing_prints_are_told_where_they_were_and_cost_no_output(gateway):
    def run(x):
        say(b"ran %d\n" % x)
        return x

    call = remote_parallel_map(run, [1, 2], background=True, max_parallelism=1)
    call.wait(10)
    damage(gateway.call, _wire.PRINT)
    assert call.results() == [1, 2]
    missing, printed = call.logs().splitlines()
    assert "1 events are missing" in missing
    assert printed == "ran 2"


def test_a_live_call_tells_what_is_missing_on_stderr(gateway, capfd):
    def run(x):
        say(b"ran %d\n" % x)
        return x

    gateway.lost.add(_wire.PRINT)
    assert remote_parallel_map(run, [1], spinner=False) == [1]
    assert "1 events are missing" in capfd.readouterr().err
