"""Pickles of what goes back to the client."""

from __future__ import annotations

import io
import pickle
from typing import Any, Set, Union

from .. import _pieces
from .._classes import client_class, fill_classes_once
from .._errors import PicklingError
from ._channel import PAGE_BYTES

_made_here: Set[str] = set()
_pickler: Any = None


def prepare() -> None:
    """Imports cloudpickle, and keeps apart the classes that came from the client and those made here."""
    global _pickler
    from cloudpickle import cloudpickle

    fill_classes_once()
    original = cloudpickle._get_or_create_tracker_id
    tracked = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS

    def note_own_classes(kind: Any) -> str:
        is_new = kind not in tracked
        tracker_id: str = original(kind)
        if is_new:
            _made_here.add(tracker_id)
        return tracker_id

    cloudpickle._get_or_create_tracker_id = note_own_classes

    class OutputPickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, type):
                tracker_id = tracked.get(obj)
                if tracker_id is not None and tracker_id not in _made_here:
                    return client_class, (tracker_id,)
            return super().reducer_override(obj)

    _pickler = OutputPickler


def dump(value: Any) -> bytes:
    """The pickle of any value; what this process got from the client's `__main__` goes back by name."""
    try:
        return pickle.dumps(value, 5)
    except Exception:
        return _dump_by_value(value)


def dump_large(value: Any, protocol: int) -> Union[bytes, _pieces.Pieces]:
    """What `pickle.dumps` makes of a value that is probably large; in pieces, if it does not fit into the page."""
    pieces = _pieces.dump(value, protocol)
    return pieces if len(pieces) > PAGE_BYTES else b"".join(pieces.parts)


def dump_output(value: Any) -> bytes:
    """The pickle of an output that plain pickle refused. Raises PicklingError that says what is in the way."""
    try:
        return _dump_by_value(value)
    except MemoryError:
        raise
    except Exception as error:
        from .._explain import explain_output

        raise PicklingError(explain_output(value, error)) from None


def _dump_by_value(value: Any) -> bytes:
    file = io.BytesIO()
    _pickler(file, 5).dump(value)
    return file.getvalue()
