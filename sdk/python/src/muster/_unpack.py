"""`unpack=True`: each input is all arguments of the function, as `itertools.starmap` has it.

The function goes inside an `Unpack`, so neither wire nor runner knows of it. Pickles call `Unpack` by name (PROTOCOL.md
7.3). Its frame is in no traceback, since the runner leaves out frames of this package. That inputs can be spread is
checked at the client, where the iterable is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, Tuple

from ._errors import UsageTypeError


class Unpack:
    """`function`, called with what its one argument holds: positional arguments, or keywords in a mapping."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return self._function(*value)
        return self._function(**value)

    def __reduce__(self) -> Tuple[Any, ...]:
        return Unpack, (self._function,)


def spreadable(value: Any, index: int) -> Any:
    """Input `index`, as it is; `UsageTypeError` unless it is a tuple, a list or a mapping of names."""
    if isinstance(value, (tuple, list)):
        return value
    if not isinstance(value, Mapping):
        raise UsageTypeError(
            f"inputs[{index}] is of type {type(value).__name__}; with unpack=True each input is a tuple or list of"
            " positional arguments, or a mapping of keyword arguments"
        )
    for name in value:
        if not isinstance(name, str):
            raise UsageTypeError(
                f"inputs[{index}] has a key of type {type(name).__name__}; with unpack=True the keys of a mapping are"
                " names of parameters"
            )
    return value
