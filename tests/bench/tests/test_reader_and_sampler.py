"""The processes that watch: what they make of lines and of memory."""

import os

from muster_bench import functions
from muster_bench.processes import cpu_seconds, pss_bytes, tree
from muster_bench.sampler import Scope, highest, look
from muster_bench.stdout_reader import Verdict, verify


def printed(capfd, *tasks):
    for task in tasks:
        functions.print_lines(task)
    return capfd.readouterr().out.encode()


def test_a_printed_line_has_eighty_bytes(capfd):
    assert [len(line) for line in printed(capfd, (3, 2)).splitlines(keepends=True)] == [
        functions.LINE
    ] * 2


def test_right_lines_are_right_in_any_order_and_behind_a_prefix(capfd):
    lines = printed(capfd, (0, 2), (1, 2)).splitlines(keepends=True)
    lines.reverse()
    assert verify(b"(task pid=7) " + b"".join(lines)) == Verdict(right=4, wrong=0, twice=0)


def test_a_torn_line_is_wrong(capfd):
    data = printed(capfd, (0, 3))
    assert verify(data[:100] + b"\n" + data[100:]) == Verdict(right=2, wrong=2, twice=0)


def test_a_line_that_comes_again_is_counted(capfd):
    data = printed(capfd, (0, 1))
    assert verify(data + data) == Verdict(right=1, wrong=0, twice=1)


def test_the_tree_of_this_process_has_its_child_and_can_leave_it_out():
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    try:
        assert {os.getpid(), child} <= tree(os.getpid())
        assert child not in tree(os.getpid(), without=[child])
        members = Scope(os.getpid(), roles={"gateway": child}).members()
        assert members["gateway"] == {child}
        assert child not in members["workers"]
    finally:
        os.close(writing)
        os.waitpid(child, 0)


def test_this_process_has_used_cpu_and_memory():
    assert cpu_seconds(os.getpid()) > 0
    assert pss_bytes(os.getpid()) > 1 << 20
    found = look(Scope(os.getpid()))
    assert found["total"] >= found["client"] > 0


def test_a_process_that_is_gone_counts_nothing():
    assert cpu_seconds(1 << 30) == 0
    assert pss_bytes(1 << 30) == 0


def test_a_peak_is_the_highest_of_each_role():
    assert highest({"client": 1, "total": 5}, {"client": 2, "total": 4, "workers": 3}) == {
        "client": 2,
        "total": 5,
        "workers": 3,
    }
