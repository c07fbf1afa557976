"""The globals that pickles of arrays and tables name, by module: numpy 1 and 2, pandas 2 and 3, pyarrow."""

from __future__ import annotations

from typing import Dict, FrozenSet

Names = Dict[str, FrozenSet[str]]


def _of(listed: Dict[str, str]) -> Names:
    return {module: frozenset(names.split()) for module, names in listed.items()}


NUMPY = _of(
    {
        "numpy": "dtype ndarray",
        "numpy.core.multiarray": "_reconstruct scalar",
        "numpy._core.multiarray": "_reconstruct scalar",
        "numpy.core.numeric": "_frombuffer",
        "numpy._core.numeric": "_frombuffer",
    }
)

_INDEXES = "Index RangeIndex MultiIndex CategoricalIndex DatetimeIndex TimedeltaIndex PeriodIndex IntervalIndex"
_MASKED = "Int8 Int16 Int32 Int64 UInt8 UInt16 UInt32 UInt64 Float32 Float64 Boolean"
_DTYPES = " ".join(f"{name}Dtype" for name in _MASKED.split())

PANDAS = _of(
    {
        "pandas": f"DataFrame Series {_INDEXES} Categorical CategoricalDtype DatetimeTZDtype StringDtype {_DTYPES} NA",
        "pandas.arrays": "ArrowStringArray StringArray DatetimeArray TimedeltaArray"
        " IntegerArray FloatingArray BooleanArray",
        "pandas.core.frame": "DataFrame",
        "pandas.core.series": "Series",
        "pandas.core.indexes.base": "Index _new_Index",
        "pandas.core.indexes.range": "RangeIndex",
        "pandas.core.indexes.multi": "MultiIndex",
        "pandas.core.indexes.category": "CategoricalIndex",
        "pandas.core.indexes.datetimes": "DatetimeIndex _new_DatetimeIndex",
        "pandas.core.indexes.timedeltas": "TimedeltaIndex",
        "pandas.core.internals.managers": "BlockManager SingleBlockManager",
        "pandas.core.arrays.categorical": "Categorical",
        "pandas.core.arrays.datetimes": "DatetimeArray",
        "pandas.core.arrays.timedeltas": "TimedeltaArray",
        "pandas.core.arrays.string_": "StringArray",
        "pandas.core.arrays.string_arrow": "ArrowStringArray",
        "pandas.core.arrays.integer": f"IntegerArray {_DTYPES}",
        "pandas.core.arrays.floating": f"FloatingArray {_DTYPES}",
        "pandas.core.arrays.boolean": f"BooleanArray {_DTYPES}",
        "pandas.core.dtypes.dtypes": "CategoricalDtype DatetimeTZDtype",
        "pandas._libs.internals": "_unpickle_block",
        "pandas._libs.arrays": "__pyx_unpickle_NDArrayBacked",
        "pandas._libs.missing": "NA",
        "pandas._libs.tslibs.nattype": "_nat_unpickle",
        "pandas._libs.tslibs.timestamps": "_unpickle_timestamp",
        "pandas._libs.tslibs.timedeltas": "_timedelta_unpickle",
        "pandas._libs.tslibs.offsets": "Day Hour Minute Second Milli Micro Nano MonthEnd MonthBegin YearEnd YearBegin",
    }
)

PYARROW = _of(
    {
        "pyarrow.lib": "_restore_array _reconstruct_table _reconstruct_record_batch chunked_array py_buffer schema"
        " field type_for_alias timestamp duration time32 time64 list_ large_list struct map_ dictionary decimal128"
        " decimal256 binary fixed_size_binary"
    }
)
