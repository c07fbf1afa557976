"""cloudpickle's pickler, taught what the client needs. Imported with the first call: cloudpickle is not light."""

from __future__ import annotations

import io
import pickle
import weakref
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

from cloudpickle import cloudpickle

from ._asserts import assertion_support
from ._classes import client_class, with_classes
from ._data import modules_of
from ._modules import is_everywhere

_Definition = Tuple[str, bytes]

# Definitions of classes that go by value, as the inputs of the newest call need them; None for other classes.
_definitions: weakref.WeakKeyDictionary[type, Optional[_Definition]] = weakref.WeakKeyDictionary()
_NAMED = (FunctionType, BuiltinFunctionType, type)
_BY_VALUE = (cloudpickle._make_skeleton_class, cloudpickle._make_skeleton_enum)


class Pickled(NamedTuple):
    """A function's pickle."""

    data: bytes
    codes: List[CodeType]
    """Of all functions in it that go by value."""
    modules: Set[str]
    """Where what it names comes from."""


def dump_with_codes(function: Any) -> Pickled:
    """Pickles a function, and notes what it is made of."""
    _definitions.clear()
    file = io.BytesIO()
    pickler = _FunctionPickler(file, 5)
    pickler.dump(function)
    return Pickled(file.getvalue(), pickler.codes, pickler.modules)


def dump_with_buffers(value: Any) -> Tuple[bytes, List[pickle.PickleBuffer], Set[str]]:
    """A value's pickle, its large buffers apart, and the modules beyond the standard library that it names."""
    file = io.BytesIO()
    buffers: List[pickle.PickleBuffer] = []
    pickler = _FunctionPickler(file, 5, buffer_callback=buffers.append)
    pickler.dump(value)
    return file.getvalue(), buffers, {name for name in pickler.modules if not is_everywhere(name)}


class _FunctionPickler(cloudpickle.Pickler):  # type: ignore[misc]
    def __init__(self, file: io.BytesIO, protocol: int, **more: Any) -> None:
        super().__init__(file, protocol=protocol, **more)
        self.codes: List[CodeType] = []
        self.modules: Set[str] = set()

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, ModuleType):
            if obj.__name__ == "_pytest.assertion.rewrite":
                # A test's `assert` was rewritten to call it, and a container need not have it.
                return assertion_support, ()
            self.modules.add(obj.__name__)
        elif isinstance(obj, _NAMED):
            if isinstance(obj.__module__, str):
                self.modules.add(obj.__module__)
        else:
            self.modules.update(modules_of(obj))
        return super().reducer_override(obj)

    def _dynamic_function_reduce(self, func: FunctionType) -> Any:
        self.codes.append(func.__code__)
        return super()._dynamic_function_reduce(func)


def dump_with_classes(value: Any) -> bytes:
    """An input's pickle that names the classes that go by value, with their definitions beside it."""
    file = io.BytesIO()
    pickler = _InputPickler(file, 5)
    pickler.dump(value)
    return pickle.dumps(_Input(tuple(pickler.used.values()), file.getvalue()), 5)


class _InputPickler(cloudpickle.Pickler):  # type: ignore[misc]
    def __init__(self, file: io.BytesIO, protocol: int) -> None:
        super().__init__(file, protocol=protocol)
        self.used: Dict[str, _Definition] = {}

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, type):
            return super().reducer_override(obj)
        if obj not in _definitions:
            reduced = super().reducer_override(obj)
            by_value = isinstance(reduced, tuple) and reduced[0] in _BY_VALUE
            _definitions[obj] = _define(obj) if by_value else None
        definition = _definitions[obj]
        if definition is None:
            return super().reducer_override(obj)
        self.used[definition[0]] = definition
        return client_class, (definition[0],)


def _define(kind: type) -> _Definition:
    pickled = cloudpickle.dumps(kind, 5)
    return cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS[kind], pickled


class _Input:
    def __init__(self, definitions: Tuple[_Definition, ...], data: bytes) -> None:
        self._parts = (definitions, data)

    def __reduce__(self) -> Any:
        return with_classes, self._parts
