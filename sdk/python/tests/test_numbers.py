"""Numbers as pickles of one length."""

from __future__ import annotations

import pickle
from typing import Any, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster import _numbers

ints = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1)
floats = st.lists(st.floats(), min_size=1)


def same(one: List[Any], other: List[Any]) -> bool:
    """Equal, and of equal types; NaN is as good as NaN."""
    return repr(one) == repr(other)


@given(st.one_of(ints, floats))
def test_numbers_come_back_together_and_each_alone(values: List[Any]) -> None:
    packed = _numbers.pack(values, set(map(type, values)))
    assert packed is not None
    items = [bytes(packed[at : at + 16]) for at in range(0, len(packed), 16)]
    assert same([pickle.loads(item) for item in items], values)
    assert same(_numbers.unpack(bytes(packed), len(values)) or [], values)
    assert items == [_numbers.item(value) for value in values]


@pytest.mark.parametrize("values", [[2**63], [1, 2.0], [True], [None], ["1"], [1, -(2**63) - 1]])
def test_what_is_not_numbers_of_one_kind_is_left_to_pickle(values: List[Any]) -> None:
    assert _numbers.pack(values, set(map(type, values))) is None


@given(ints, st.integers(0), st.integers(0, 255))
def test_items_that_pack_did_not_make_are_not_read(values: List[int], at: int, byte: int) -> None:
    packed = _numbers.pack(values, set(map(type, values)))
    assert packed is not None
    other = bytearray(packed)
    at %= len(packed)
    if 7 <= at % 16 < 15 or packed[at] == byte:
        return
    other[at] = byte
    assert _numbers.unpack(bytes(other), len(values)) is None


def test_mixed_ints_and_floats_of_one_length_are_not_read_as_a_column() -> None:
    assert _numbers.unpack(_numbers.item(1) + _numbers.item(1.0), 2) is None
