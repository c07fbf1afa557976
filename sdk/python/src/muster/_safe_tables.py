"""How arrays and tables are rebuilt from a pickle that is not trusted. Imported when the first one comes.

The libraries' own unpickling believes what it is told of memory: a numpy dtype takes flags that turn bytes into
pointers, a pyarrow array its offsets, a pandas block its places. So arrays are made with numpy's public constructors,
an arrow array is validated whole before anybody sees it, and a table's blocks are looked at before they are joined.
"""

from __future__ import annotations

import importlib
from typing import Any, Callable, Dict, Optional

from ._safe_globals import Refused, Rule, _need, plainly_filled
from ._safe_names import NUMPY, PANDAS, PYARROW, Names


def _object(names: Names, module: str, name: str) -> Any:
    """The object of that name, if it is listed."""
    return getattr(importlib.import_module(module), name, None) if name in names[module] else None


# numpy


def numpy_rule(module: str, name: str) -> Optional[Rule]:
    """The rule for a global of numpy."""
    found = _object(NUMPY, module, name)
    if found is None:
        return None
    fill = {"dtype": _dtype_state, "ndarray": _array_state}.get(name)
    return Rule(found, _NUMPY_CALLS.get(name), False, fill)


def _dtype(*given: Any) -> Any:
    import numpy

    _need(bool(given) and type(given[0]) is str and given[1:] in ((False, True), ()), "numpy.dtype")
    made = numpy.dtype(given[0])
    # One of its own: what it is filled with below must not change what others have.
    return numpy.dtype(made, copy=True)


def _dtype_state(instance: Any, state: Any) -> Any:
    """The dtype with this state, if it is one that numpy itself would make."""
    import numpy

    _need(isinstance(state, tuple) and len(state) >= 8, "a dtype's state")
    order, subarray, names, fields = state[1:5]
    if names is not None:
        _need(isinstance(fields, dict) and set(fields) == set(names), "a dtype's fields")
        described = {
            "names": list(names),
            "formats": [fields[name][0] for name in names],
            "offsets": [fields[name][1] for name in names],
            "itemsize": state[5],
        }
        made = numpy.dtype(described, align=bool(state[7] & 0x80))
        _need(not made.hasobject, "an array of records that hold objects")
    elif subarray is not None:
        made = numpy.dtype(subarray)
        _need(not made.hasobject, "an array of arrays that hold objects")
    elif len(state) > 8 and state[8]:
        unit, count = state[8][1][:2]
        unit = unit.decode() if isinstance(unit, bytes) else unit
        made = numpy.dtype(f"{instance.kind}8[{int(count)}{unit}]")
    else:
        made = instance
    if order in ("<", ">") and made.names is None:
        made = made.newbyteorder(order)
    known = made.__reduce__()[2]
    _need(_same(known[1:8], state[1:8]), "a dtype that numpy would not make")
    return made


def _same(known: Any, said: Any) -> bool:
    return len(known) == len(said) and all(
        type(a) is type(b) and a == b for a, b in zip(known, said)
    )


def _frombuffer(*given: Any) -> Any:
    import numpy

    _need(len(given) == 4 and isinstance(given[0], (bytes, bytearray)), "an array's buffer")
    buffer, dtype, shape, order = given
    _need(isinstance(dtype, numpy.dtype) and not dtype.hasobject, "an array's dtype")
    return numpy.frombuffer(buffer, dtype).reshape(shape, order=order)


def _reconstruct(*given: Any) -> Any:
    import numpy

    _need(len(given) == 3 and given[0] is numpy.ndarray, "an array of another class")
    return numpy.empty((0,), "b")


def _array_state(instance: Any, state: Any) -> Any:
    import numpy

    del instance
    _need(isinstance(state, tuple) and len(state) == 5, "an array's state")
    _, shape, dtype, by_column, content = state
    _need(isinstance(dtype, numpy.dtype) and isinstance(shape, tuple), "an array's state")
    order: Any = "F" if by_column else "C"
    if dtype == numpy.dtype("O"):
        _need(type(content) is list, "an array of objects without objects")
        flat: Any = numpy.empty(len(content), object)
        flat[:] = [None] * len(content)
        for at, value in enumerate(content):
            flat[at] = value
        return flat.reshape(shape, order=order)
    _need(isinstance(content, bytes) and not dtype.hasobject, "an array's content")
    return numpy.frombuffer(bytearray(content), dtype).reshape(shape, order=order)


def _scalar(*given: Any) -> Any:
    import numpy

    _need(
        len(given) == 2 and isinstance(given[0], numpy.dtype) and isinstance(given[1], bytes),
        "a scalar",
    )
    dtype, content = given
    _need(not dtype.hasobject and len(content) == dtype.itemsize, "a scalar's content")
    return numpy.frombuffer(content, dtype)[0]


_NUMPY_CALLS: Dict[str, Callable[..., Any]] = {
    "dtype": _dtype,
    "_frombuffer": _frombuffer,
    "_reconstruct": _reconstruct,
    "scalar": _scalar,
}


# pandas


def pandas_rule(module: str, name: str) -> Optional[Rule]:
    """The rule for a global of pandas. Its constructors hold data; what reads memory by numbers is checked."""
    found = _object(PANDAS, module, name)
    if found is None:
        return None
    call = _PANDAS_CALLS.get(name, found if callable(found) else None)
    fill = _pandas_state if isinstance(found, type) else None
    return Rule(found, call, isinstance(found, type) and name != "BlockManager", fill)


def _pandas_state(instance: Any, state: Any) -> Any:
    import pandas

    filled = plainly_filled(instance, state)
    if isinstance(filled, pandas.Categorical):
        codes = filled.codes
        _need(
            len(codes) == 0 or (codes.min() >= -1 and codes.max() < len(filled.categories)),
            "a category that is not there",
        )
    return filled


def _backed(kind: Any, checksum: Any, state: Any) -> Any:
    _need(state is None, "an array filled before it is made")
    return importlib.import_module("pandas._libs.arrays").__pyx_unpickle_NDArrayBacked(
        kind, checksum, None
    )


def _new_index(kind: Any, parts: Any) -> Any:
    import pandas

    _need(isinstance(kind, type) and issubclass(kind, pandas.Index), "an index of another class")
    _need(isinstance(parts, dict) and "verify_integrity" not in parts, "an index's parts")
    return importlib.import_module("pandas.core.indexes.base")._new_Index(kind, parts)


def _block(values: Any, places: Any, ndim: Any) -> Any:
    internals = importlib.import_module("pandas._libs.internals")
    _need(getattr(values, "ndim", None) in (1, 2) and ndim in (1, 2), "a block's shape")
    _need(isinstance(places, slice) or getattr(places, "ndim", 0) == 1, "a block's places")
    return internals._unpickle_block(values, places, ndim)


def _blocks(*given: Any) -> Any:
    managers = importlib.import_module("pandas.core.internals.managers")
    _need(
        len(given) == 2 and isinstance(given[0], tuple) and isinstance(given[1], list),
        "a table's blocks",
    )
    blocks, axes = given
    _need(len(axes) == 2, "a table's axes")
    width = len(axes[0])
    for block in blocks:
        places = block.mgr_locs.as_array
        _need(len(places) == 0 or (places.min() >= 0 and places.max() < width), "a block's places")
    return managers.BlockManager(blocks, axes)


_PANDAS_CALLS: Dict[str, Callable[..., Any]] = {
    "_new_Index": _new_index,
    "_unpickle_block": _block,
    "__pyx_unpickle_NDArrayBacked": _backed,
    "BlockManager": _blocks,
}


# pyarrow


def pyarrow_rule(module: str, name: str) -> Optional[Rule]:
    """The rule for a global of pyarrow."""
    found = _object(PYARROW, module, name)
    return None if found is None else Rule(found, _PYARROW_CALLS.get(name, found))


def _restored(data: Any) -> Any:
    import pyarrow

    made = pyarrow.lib._restore_array(data)
    try:
        made.validate(full=True)
    except pyarrow.ArrowException as error:
        raise Refused("an arrow array that is not valid") from error
    return made


def _buffer(content: Any) -> Any:
    import pyarrow

    _need(isinstance(content, (bytes, bytearray)), "an arrow buffer of no bytes")
    return pyarrow.py_buffer(content)


_PYARROW_CALLS: Dict[str, Callable[..., Any]] = {"_restore_array": _restored, "py_buffer": _buffer}
