"""Lines of different inputs never mix, and no byte is added, dropped or reordered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster import _lines
from muster._lines import STDERR, STDOUT, Lines

PIECES = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from([STDOUT, STDERR]),
        st.text(alphabet="ab\n", min_size=1, max_size=8).map(str.encode),
    ),
    max_size=40,
)


@given(PIECES, st.permutations(range(4)), st.booleans())
def test_each_input_is_exact_and_no_line_holds_two_inputs(pieces, order, known_total):
    # Every byte carries its input, so that the result shows who wrote what.
    marked = [
        (index, stream, bytes([b if b == 10 else b + 8 * index for b in data]))
        for index, stream, data in pieces
    ]
    lines, out = Lines(), []
    if known_total:
        out += lines.total(4)
    for index, stream, data in marked:
        out += lines.feed(index, stream, data)
    before_end = list(out)
    for index in order:
        before_end += lines.ended(index, 1)
    out = before_end + lines.end()
    for stream in (STDOUT, STDERR):
        for index in range(4):
            own = {10, 97 + 8 * index, 98 + 8 * index}
            wanted = b"".join(data for i, s, data in marked if (i, s) == (index, stream)).replace(
                b"\n", b""
            )
            got = bytes(b for s, data in out if s == stream for b in data if b in own and b != 10)
            assert got == wanted
        got_newlines = sum(data.count(b"\n") for s, data in out if s == stream)
        assert got_newlines == sum(data.count(b"\n") for _, s, data in marked if s == stream)
        # All but the last line, where tails without a newline have to meet.
        for line in b"".join(data for s, data in out if s == stream).split(b"\n")[:-1]:
            assert len({(b - 97) // 8 for b in line}) <= 1, line


def test_a_complete_line_goes_out_at_once_and_a_tail_waits_for_its_newline():
    lines = Lines()
    assert lines.feed(0, STDOUT, b"one\ntw") == [(STDOUT, b"one\n")]
    assert lines.feed(1, STDOUT, b"other\n") == [(STDOUT, b"other\n")]
    assert lines.feed(0, STDOUT, b"o\n") == [(STDOUT, b"two\n")]


def test_a_single_input_is_live_without_newlines():
    lines = Lines()
    assert lines.total(1) == []
    assert lines.feed(0, STDOUT, b".") == [(STDOUT, b".")]
    assert lines.feed(0, STDERR, b"50%\r") == [(STDERR, b"50%\r")]


def test_the_last_input_that_runs_is_live_and_what_it_held_goes_out():
    lines = Lines()
    lines.total(2)
    assert lines.feed(1, STDOUT, b"held") == []
    assert lines.ended(0, 1) == [(STDOUT, b"held")]
    assert lines.feed(1, STDOUT, b".") == [(STDOUT, b".")]


def test_tails_of_inputs_that_ended_go_out_at_the_end():
    lines = Lines()
    lines.total(3)
    assert lines.feed(0, STDOUT, b"tail 0") == []
    assert lines.ended(0, 1) == []
    assert lines.feed(1, STDOUT, b"line\n") == [(STDOUT, b"line\n")]
    assert lines.ended(1, 2) == []
    assert lines.end() == [(STDOUT, b"tail 0")]


def test_a_retried_input_goes_on_where_its_last_attempt_stopped():
    lines = Lines()
    assert lines.feed(0, STDOUT, b"first attempt, ") == []
    assert lines.feed(0, STDOUT, b"second\n") == [(STDOUT, b"first attempt, second\n")]


def test_a_line_without_end_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_lines, "MAX_TAIL", 10)
    lines = Lines()
    assert lines.feed(0, STDOUT, b"x" * 6) == []
    assert lines.feed(0, STDOUT, b"y" * 6) == [(STDOUT, b"x" * 6 + b"y" * 6)]


def test_tails_of_ended_inputs_are_bounded_together(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_lines, "MAX_ENDED", 10)
    lines = Lines()
    for index in range(2):
        lines.feed(index, STDOUT, b"x" * 6)
    assert lines.ended(0, 1) == []
    assert lines.ended(1, 1) == [(STDOUT, b"x" * 6), (STDOUT, b"x" * 6)]
