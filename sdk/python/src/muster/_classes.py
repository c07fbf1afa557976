"""Classes keep their identity on the way out and back.

cloudpickle sends a class of `__main__` by value, under an id it remembers on both sides. What comes back from a
container names such a class by that id alone (`client_class`), so that an output, an exception or an enum member is an
instance of the very class the user's script defined, and that class is never written over by its copy.
"""

from __future__ import annotations

from typing import Any


class UnknownClass(LookupError):
    """A class that another process sent, and this one has not met; `args[0]` is its id."""


def client_class(tracker_id: str) -> Any:
    """The class the client knows under this id. Pickles made in containers call this by name."""
    from cloudpickle import cloudpickle

    found = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracker_id)
    if found is None:
        raise UnknownClass(tracker_id)
    return found


def set_class_once(target: Any, state: Any) -> Any:
    """cloudpickle's `_class_setstate` for classes met the first time; one met before is left as it is.

    A class by value arrives with every input that is an instance of it. Only its first arrival may fill it: later
    ones would undo what the user's code has done to its attributes.
    """
    from cloudpickle import cloudpickle

    tracker_id = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS.get(target)
    if tracker_id in _filled:
        return target
    _filled.add(tracker_id)
    return _fill(target, state)


_filled: set[Any] = set()
_fill: Any = None


def keep_first_state(already: bool) -> None:
    """Makes every unpickling in this process use `set_class_once`.

    `already`: the classes this process tracks now count as filled (a client's own classes do).
    """
    global _fill
    from cloudpickle import cloudpickle

    if _fill is None:
        _fill = cloudpickle._class_setstate
        cloudpickle._class_setstate = set_class_once
    if already:
        _filled.update(cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID)
