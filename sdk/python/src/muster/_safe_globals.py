"""What a restricted unpickler lets through by name: exact globals, and what each may be used for.

A pickle names functions and classes, and says which to call with what. So for every name there is a `Rule`: what the
name stands for here, how it may be called, whether it may be made empty and then filled. A rule that calls checks its
arguments, so that no combination of names does more than hold data: nothing here opens, imports, evaluates or looks
up by name, and nothing takes raw memory at its word.

A pickle imports nothing but what is listed here: modules of the standard library, numpy, pandas and pyarrow.
"""

from __future__ import annotations

import builtins
import importlib
import re
from typing import Any, Callable, Dict, NamedTuple, Optional


class Refused(Exception):
    """A pickle asks for what is not let through; says what."""


class Rule(NamedTuple):
    """What a global may be used for; as a plain value always."""

    found: Any
    call: Optional[Callable[..., Any]] = None
    """How it is called, arguments checked."""
    empty: bool = False
    """Whether it is a class whose `__new__` may be called."""
    fill: Optional[Callable[[Any, Any], Any]] = None
    """How an instance takes its state; gives what takes the instance's place."""


def rule(module: str, name: str) -> Optional[Rule]:
    """The rule for this global, if it is on the list."""
    find = _LISTED.get(module)
    try:
        return find(module, name) if find is not None else None
    except ImportError:
        return None  # another version of the library made it, or it is not installed here


def plainly_filled(instance: Any, state: Any) -> Any:
    """What pickle does with state: `__setstate__`, or attributes."""
    given = getattr(instance, "__setstate__", None)
    if given is not None:
        given(state)
        return instance
    slots = None
    if isinstance(state, tuple) and len(state) == 2:
        state, slots = state
    if state:
        instance.__dict__.update({_text(key): value for key, value in state.items()})
    for key, value in (slots or {}).items():
        setattr(instance, _text(key), value)
    return instance


def _text(value: Any) -> str:
    if type(value) is not str:
        raise Refused("an attribute whose name is no text")
    return value


def _need(good: bool, what: str) -> None:
    if not good:
        raise Refused(what)


# The standard library


def _standard(module: str, name: str) -> Optional[Rule]:
    how = _STANDARD.get((module, name))
    if how is None:
        return None
    found = getattr(importlib.import_module(module), name)
    call = {"value": None, "data": found}.get(how, _CHECKED.get(how))
    return Rule(found, call, how == "uuid", plainly_filled if how in ("uuid", "space") else None)


def _complex(*given: Any) -> complex:
    _need(len(given) == 2 and all(type(part) is float for part in given), "complex() of no floats")
    return complex(*given)


def _set_of(kind: Any) -> Callable[..., Any]:
    def make(*given: Any) -> Any:
        _need(len(given) == 1 and type(given[0]) is list, "a set of no list")
        return kind(given[0])

    return make


def _fraction(*given: Any) -> Any:
    from fractions import Fraction

    ints = len(given) == 2 and all(type(part) is int for part in given)
    text = len(given) == 1 and type(given[0]) is str and re.fullmatch(r"-?\d+(/\d+)?", given[0])
    _need(bool(ints or text), "a Fraction of neither ints nor digits")
    return Fraction(*given)


def _counted(*given: Any) -> Any:
    from collections import Counter

    _need(len(given) == 1 and type(given[0]) is dict, "a Counter of no dict")
    return Counter(*given)


def _defaulting(*given: Any) -> Any:
    from collections import defaultdict

    factories = (None, int, float, str, list, dict, set, tuple, bool, bytes)
    _need(
        len(given) < 2 and all(any(part is known for known in factories) for part in given),
        "a defaultdict's factory",
    )
    return defaultdict(*given)


def _deque(*given: Any) -> Any:
    from collections import deque

    _need(not given or (given[0] == () and len(given) <= 2), "a deque that is not empty at first")
    return deque(*given)


def _array(kind: Any, *given: Any) -> Any:
    import array

    _need(kind is array.array, "an array of another class")
    return array._array_reconstructor(kind, *given)  # type: ignore[attr-defined]


def _attribute(*given: Any) -> Any:
    """`getattr` is how a time zone names its own constructor; nothing else."""
    import zoneinfo

    _need(
        len(given) == 2 and given[0] is zoneinfo.ZoneInfo and given[1] == "_unpickle",
        "builtins.getattr",
    )
    return zone


def zone(key: Any, _from_cache: Any) -> Any:
    """A time zone by its name."""
    import zoneinfo

    return zoneinfo.ZoneInfo(_text(key))


def _space(*given: Any) -> Any:
    from types import SimpleNamespace

    _need(not given, "a SimpleNamespace that is not empty at first")
    return SimpleNamespace()


_CHECKED: Dict[str, Callable[..., Any]] = {
    "complex": _complex,
    "set": _set_of(set),
    "frozenset": _set_of(frozenset),
    "fraction": _fraction,
    "counter": _counted,
    "defaultdict": _defaulting,
    "deque": _deque,
    "array": _array,
    "getattr": _attribute,
    "space": _space,
}
_BUILTIN_VALUES = (
    "int", "float", "str", "list", "dict", "tuple", "bool", "bytes", "bytearray", "object",
    "Ellipsis", "NotImplemented",
)  # fmt: skip
# "value": may be there, not be called. "data": called with anything it can only hold it or refuse it.
_STANDARD: Dict[Any, str] = {
    **{("builtins", name): "value" for name in _BUILTIN_VALUES},
    **{("builtins", name): "data" for name in ("range", "slice")},
    **{("builtins", name): name for name in ("complex", "set", "frozenset", "getattr")},
    **{
        ("datetime", name): "data" for name in ("date", "time", "datetime", "timedelta", "timezone")
    },
    **{("pathlib", name): "data" for name in ("PurePosixPath", "PosixPath", "PureWindowsPath")},
    **{
        ("pathlib._local", name): "data"
        for name in ("PurePosixPath", "PosixPath", "PureWindowsPath")
    },
    ("decimal", "Decimal"): "data",
    ("fractions", "Fraction"): "fraction",
    ("uuid", "UUID"): "uuid",
    ("uuid", "SafeUUID"): "data",
    ("collections", "OrderedDict"): "data",
    ("collections", "Counter"): "counter",
    ("collections", "defaultdict"): "defaultdict",
    ("collections", "deque"): "deque",
    ("array", "array"): "value",
    ("array", "_array_reconstructor"): "array",
    ("zoneinfo", "ZoneInfo"): "value",
    ("types", "SimpleNamespace"): "space",
}


def exception_rule(module: str, name: str) -> Optional[Rule]:
    """Exceptions that Python itself has: they hold their arguments."""
    found = getattr(builtins, name, None) if module == "builtins" else None
    if isinstance(found, type) and issubclass(found, Exception):
        return Rule(found, found, False, plainly_filled)
    return None


def _builtins(module: str, name: str) -> Optional[Rule]:
    return _standard(module, name) or exception_rule(module, name)


def _by_library(loader: str) -> Callable[[str, str], Optional[Rule]]:
    def find(module: str, name: str) -> Optional[Rule]:
        from . import _safe_tables

        return getattr(_safe_tables, loader)(module, name)  # type: ignore[no-any-return]

    return find


def _listed() -> Dict[str, Callable[[str, str], Optional[Rule]]]:
    from ._safe_names import NUMPY, PANDAS, PYARROW

    found: Dict[str, Callable[[str, str], Optional[Rule]]] = {
        module: _standard for module, _ in _STANDARD
    }
    found["builtins"] = _builtins
    for names, loader in (
        (NUMPY, "numpy_rule"),
        (PANDAS, "pandas_rule"),
        (PYARROW, "pyarrow_rule"),
    ):
        found.update({module: _by_library(loader) for module in names})
    return found


_LISTED = _listed()
