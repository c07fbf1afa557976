"""Classes keep their identity on the way out and back.

cloudpickle sends a class of `__main__` by value, under an id it remembers on both sides. What comes back from a
container names such a class by that id alone (`client_class`), so that an output, an exception or an enum member is an
instance of the very class the user's script defined, and that class is never written over by its copy.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import weakref
from typing import Any, List, Protocol, Tuple, Union

from ._errors import PicklingError


class UnknownClass(LookupError):
    """A class that another process sent, and this one has not met; `args[0]` is its id."""


def client_class(tracker_id: str) -> Any:
    """The class the client knows under this id. Pickles made in containers call this by name."""
    from cloudpickle import cloudpickle

    found = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracker_id)
    if found is None:
        raise UnknownClass(tracker_id)
    return found


def with_classes(definitions: Tuple[Tuple[str, bytes], ...], data: bytes) -> Any:
    """An input with the classes of `__main__` that it is made of. Pickled inputs call this by name.

    A definition is read once in a process; a million inputs of one class do not define it a million times.
    """
    from cloudpickle import cloudpickle

    for tracker_id, definition in definitions:
        if tracker_id not in cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID:
            # The tracker holds classes weakly.
            _kept.append(pickle.loads(definition))
    return pickle.loads(data)


_kept: List[Any] = []
_filled: weakref.WeakSet[Any] = weakref.WeakSet()
_original: Any = None


def set_class_once(target: Any, state: Any) -> Any:
    """cloudpickle's `_class_setstate` for classes met the first time; one met before is left as it is.

    A class by value may arrive again and again. Only its first arrival may fill it: later ones would undo what the
    user's code has done to its attributes.
    """
    from cloudpickle import cloudpickle

    if target in _filled:
        return target
    _filled.add(target)
    return (_original or cloudpickle._class_setstate)(target, state)


def fill_classes_once() -> None:
    """Makes every unpickling in this process use `set_class_once`: for containers."""
    global _original
    from cloudpickle import cloudpickle

    if _original is None:
        _original = cloudpickle._class_setstate
        cloudpickle._class_setstate = set_class_once


class Context(Protocol):
    """The call an item belongs to."""

    @property
    def call_id(self) -> str: ...

    def fetch_function(self) -> bytes:
        """The body of the call's FUNCTION frame."""


def learn(context: Context) -> None:
    """Learns the classes of a call that another process started. Raises PicklingError if that cannot be."""
    body = context.fetch_function()
    try:
        _learn_classes(function_of(body))
    except Exception as error:
        raise PicklingError(
            f"the function of call {context.call_id}, which defines the classes of its outputs,"
            f" cannot be loaded here: {type(error).__name__}: {error}"
        ) from error


def function_of(body: Union[bytes, memoryview]) -> memoryview:
    """The pickled function in the body of FUNCTION (PROTOCOL.md 7.1)."""
    (size,) = struct.unpack_from("<I", body)
    header = json.loads(bytes(body[4 : 4 + size]))
    return memoryview(body)[len(body) - header["function_len"] :]


def _learn_classes(pickled: memoryview) -> None:
    """Unpickles a function for the classes it brings; those this process tracks already stay as they are."""
    from cloudpickle import cloudpickle

    class Learner(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if name == "_class_setstate":
                return set_class_once
            return super().find_class(module, name)

    for kind in list(cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.values()):
        _filled.add(kind)
    # The tracker holds classes weakly: what is learnt here must live as long as this process.
    _kept.append(Learner(io.BytesIO(pickled)).load())
