"""Why something cannot be pickled: the path to the innermost object that stops it, in words."""

from __future__ import annotations

import functools
import io
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Iterator, Optional, Set, Tuple

_MAX_STEPS = 2_000
"""How many objects are tried before the search gives up and names the outer one."""


def explain(value: Any, index: Optional[int], error: BaseException) -> str:
    """A sentence for a function (`index` None) or an input that `error` kept from being pickled."""
    start = _describe_function(value) if index is None else f"inputs[{index}]"
    if isinstance(error, RecursionError) or "recursion" in str(error):
        return f"{start} cannot be pickled: it is nested too deeply"
    search = _Search()
    path, culprit = search.innermost(value, start)
    if culprit is value:
        return f"{start} {_is_a(value)} cannot be pickled: {_first_line(error)}"
    return f"{path}, {_article(culprit)}, which cannot be pickled ({_first_line(search.error or error)})"


def explain_output(value: Any, error: BaseException) -> str:
    """A sentence for what the function returned."""
    search = _Search()
    path, culprit = search.innermost(value, "output")
    if culprit is value:
        return f"the function returned {_article(value)}, which cannot be pickled: {_first_line(error)}"
    return f"the function returned {_article(value)} with {path}, {_article(culprit)}, which cannot be pickled"


class _Search:
    def __init__(self) -> None:
        self._visited: Set[int] = set()
        self._steps = 0
        self.error: Optional[BaseException] = None

    def innermost(self, value: Any, path: str) -> Tuple[str, Any]:
        """The innermost part of `value` that cannot be pickled, and where it is."""
        self._visited.add(id(value))
        for label, child in _parts(value):
            if id(child) in self._visited or self._steps > _MAX_STEPS:
                continue
            self._steps += 1
            error = _try(child)
            if error is not None:
                self.error = error
                inner = path + label if label[0] in "[.(" else f"{path} {label}"
                return self.innermost(child, inner)
        return path, value


def _try(value: Any) -> Optional[BaseException]:
    import cloudpickle

    try:
        cloudpickle.Pickler(_Nowhere(), 5).dump(value)
    except Exception as error:
        return error
    return None


class _Nowhere(io.RawIOBase):
    def write(self, data: Any) -> int:
        return len(data)


def _parts(value: Any) -> Iterator[Tuple[str, Any]]:
    """The parts that pickling goes through, each with the words that lead to it."""
    if isinstance(value, FunctionType):
        yield from _function_parts(value)
    elif isinstance(value, MethodType):
        yield "is a method of", value.__self__
        yield "is", value.__func__
    elif isinstance(value, functools.partial):
        yield ".func", value.func
        yield from ((f".args[{n}]", part) for n, part in enumerate(value.args))
        yield from ((f".keywords[{name!r}]", part) for name, part in value.keywords.items())
    elif isinstance(value, dict):
        for n, (key, part) in enumerate(list(value.items())):
            if not isinstance(key, (str, int)):
                yield f" key {n}", key
            yield f"[{_short(key)}]", part
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{n}]", part) for n, part in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        yield from (("(one of its elements)", part) for part in value)
    elif isinstance(value, type):
        for name, part in vars(value).items():
            if name not in ("__dict__", "__weakref__", "__doc__", "__module__"):
                part = part.__func__ if isinstance(part, (staticmethod, classmethod)) else part
                yield f".{name}", part
    elif not isinstance(value, (ModuleType, BuiltinFunctionType)):
        yield from _object_parts(value)


def _function_parts(function: FunctionType) -> Iterator[Tuple[str, Any]]:
    from cloudpickle import cloudpickle

    if cloudpickle._should_pickle_by_reference(function):
        return
    for name in sorted(_global_names(function.__code__)):
        if name in function.__globals__:
            yield f"uses global {name!r}", function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        try:
            yield f"uses variable {name!r} of the function around it", cell.cell_contents
        except ValueError:
            continue
    yield from (("has a default value", part) for part in function.__defaults__ or ())
    for name, part in (function.__kwdefaults__ or {}).items():
        yield f"has for {name!r} the default value", part
    yield from ((f".{name}", part) for name, part in vars(function).items())


def _global_names(code: Any) -> Set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, type(code)):
            names |= _global_names(constant)
    return names


def _object_parts(value: Any) -> Iterator[Tuple[str, Any]]:
    state = getattr(value, "__dict__", None)
    if isinstance(state, dict):
        yield from ((f".{name}", part) for name, part in list(state.items()))
    for base in type(value).__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            if isinstance(name, str) and hasattr(value, name):
                yield f".{name}", getattr(value, name)
    if type(value).__module__ not in ("builtins",):
        yield " class", type(value)


def _describe_function(function: Any) -> str:
    if isinstance(function, FunctionType):
        return f"function {function.__qualname__!r}"
    name = getattr(function, "__qualname__", None)
    return repr(name) if isinstance(name, str) else f"the {type(function).__qualname__} object"


def _article(value: Any) -> str:
    if isinstance(value, ModuleType):
        return f"module {value.__name__!r}"
    name = _type_name(value)
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _is_a(value: Any) -> str:
    return "" if isinstance(value, FunctionType) else f"is {_article(value)}, which"


def _type_name(value: Any) -> str:
    kind = type(value)
    if kind.__module__ in ("builtins", "__main__"):
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__


def _short(key: Any) -> str:
    try:
        text = repr(key)
    except Exception:
        return "..."
    return text if len(text) <= 60 else text[:57] + "..."
