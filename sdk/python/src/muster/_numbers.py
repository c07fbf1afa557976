"""Numbers as pickles that are made and read many at once (PROTOCOL.md, 7.4).

An int of 64 bits or a float may be pickled in 16 bytes: 7 that are the same for all of its type, 8 of the number, and
the end. Any unpickler reads them. As all have one length, a list of them is written and read as one column of numbers,
in a tenth of the time that pickling one after another takes, while each stays an item of its own that can be sent, run
and lost without the others.
"""

from __future__ import annotations

import struct
import sys
from array import array
from typing import Any, List, Optional, Set, Union

SIZE = 16
"""Bytes of each."""
AT = 7
"""Where the number is."""
# 0 is pushed and dropped again, to make the opcodes 7 bytes; then an int of 8 bytes, and the end.
INT = b"\x80\x05K\x000\x8a\x08" + bytes(8) + b"."
# None is pushed and dropped, twice; then a float, whose bytes have the other order.
FLOAT = b"\x80\x05N0N0G" + bytes(8) + b"."
_INT = struct.Struct("<7sq1s")
_FLOAT = struct.Struct(">7sd1s")
LENGTH = struct.pack("<I", SIZE)

available = sys.byteorder == "little"
"""Whether this machine's numbers are as pickles have them; elsewhere they are pickled one by one."""


def pack(values: List[Any], kinds: Set[type]) -> Optional[bytes]:
    """The pickles of `values`, which are of these types, one after another, if all are ints of 64 bits, or all floats.

    Else None.
    """
    if not available or len(kinds) != 1:
        return None
    if int in kinds:
        try:
            return _fill(INT, array("q", values))
        except OverflowError:
            return None
    if float in kinds:
        column = array("d", values)
        column.byteswap()
        return _fill(FLOAT, array("q", column.tobytes()))
    return None


def _fill(like: bytes, column: array[int]) -> bytes:
    """As many pickles as the column has numbers, each with one of them."""
    between = array("q", (like * len(column))[AT:-1])
    between[::2] = column
    return b"".join((like[:AT], between, like[-1:]))


def unpack(items: Union[bytes, memoryview], count: int) -> Optional[List[Any]]:
    """The values of `count` pickles, if they were made by `pack`; else None. `items` has SIZE bytes for each."""
    if not available or not count:
        return None
    packed = bytearray(items)
    numbers = words(packed)[::2]
    column = numbers.tobytes()
    numbers[:] = memoryview(bytes(len(column))).cast("q")
    if packed == INT * count:
        return array("q", column).tolist()
    if packed == FLOAT * count:
        values = array("d", column)
        values.byteswap()
        return values.tolist()
    return None


def item(value: Union[int, float]) -> bytes:
    """The pickle of one. `struct.error` if it is an int of more than 64 bits."""
    if type(value) is int:
        return _INT.pack(INT[:AT], value, b".")
    return _FLOAT.pack(FLOAT[:AT], value, b".")


def words(packed: Union[bytearray, memoryview]) -> memoryview:
    """The 8 byte words of pickles that lie one after another; every other one, from the first, is a number."""
    return memoryview(packed)[AT:-1].cast("q")
