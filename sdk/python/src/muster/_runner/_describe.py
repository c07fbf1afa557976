"""Exceptions as plain data (PROTOCOL.md 3 and 7.2), whatever they are made of."""

from __future__ import annotations

import copyreg
import json
import linecache
import os
import pickle
import sys
import traceback
from contextlib import suppress
from types import GetSetDescriptorType, MemberDescriptorType, TracebackType
from typing import Any, Dict, List, Optional, Tuple

import cloudpickle

from .. import _wire
from ._modules import client_file
from ._pickles import dump

_OWN = (
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,
    os.path.dirname(os.path.abspath(cloudpickle.__file__)) + os.sep,
)
_MAX_FRAMES = 1_000
_MAX_TEXT = 1 << 20
_MAX_OBJECT = 64 << 20
_HEAP_TYPE = 1 << 9
_OWN_PICKLING = frozenset(
    (
        "__reduce__",
        "__reduce_ex__",
        "__getstate__",
        "__setstate__",
        "__getnewargs__",
        "__getnewargs_ex__",
    )
)
_KEPT_APART = frozenset(
    (
        "args",
        "exceptions",
        "message",
        "__dict__",
        "__weakref__",
        "__traceback__",
        "__context__",
        "__cause__",
    )
)


def item(error: BaseException, pickled: bool, image: str) -> bytes:
    """The item of an output with status 1; `pickled`: with the description for a Python client."""
    if isinstance(error, ModuleNotFoundError):
        _explain_missing(error, image)
    kind = type(error)
    head = {
        "type": kind.__qualname__,
        "module": kind.__module__,
        "message": _text(error)[:_MAX_TEXT],
        "traceback": _traceback_text(error)[:_MAX_TEXT],
    }
    if os.environ.get("MUSTER_HOST"):
        head["host"] = os.environ["MUSTER_HOST"]
    detail = b""
    if pickled:
        with suppress(Exception):
            detail = pickle.dumps({"nodes": _describe(error)}, 5)
    return _wire.exception_item(json.dumps(head).encode(), detail)


def _explain_missing(error: ModuleNotFoundError, image: str) -> None:
    note = f"image {image} has no module {error.name!r}: choose one that has it, with image=..."
    with suppress(Exception):
        if note not in getattr(error, "__notes__", ()):
            error.__notes__ = [*getattr(error, "__notes__", ()), note]


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return f"<str() of {type(error).__qualname__} failed>"


# The description


def _describe(error: BaseException) -> List[Dict[str, Any]]:
    """The exception first, then all that it refers to; references are numbers, so that cycles are no matter."""
    numbers: Dict[int, int] = {id(error): 0}
    queue = [error]

    def number(other: Optional[BaseException]) -> Optional[int]:
        if other is None:
            return None
        if id(other) not in numbers:
            numbers[id(other)] = len(queue)
            queue.append(other)
        return numbers[id(other)]

    nodes = []
    for current in queue:
        kind = type(current)
        members = getattr(current, "exceptions", None) if _is_group(current) else None
        node: Dict[str, Any] = {
            "module": str(kind.__module__),
            "qualname": str(kind.__qualname__),
            "message": _text(current)[:_MAX_TEXT],
            "notes": _notes(current),
            "frames": _frames(current.__traceback__),
            "cause": number(current.__cause__),
            "context": number(current.__context__),
            "suppress": bool(current.__suppress_context__),
            "members": None if members is None else [number(member) for member in members],
            "base": not isinstance(current, Exception),
        }
        if not node["base"]:
            node["object"], node["parts"] = _pickle(current, members is not None)
        nodes.append(node)
        if len(queue) > _MAX_FRAMES:
            break
    for node in nodes:
        for key in ("cause", "context"):
            if node[key] is not None and node[key] >= len(nodes):
                node[key] = None
    return nodes


def _is_group(error: BaseException) -> bool:
    return any(kind.__name__ == "BaseExceptionGroup" for kind in type(error).__mro__)


def _notes(error: BaseException) -> Optional[List[str]]:
    notes = getattr(error, "__notes__", None)
    return [str(note) for note in notes] if isinstance(notes, (list, tuple)) else None


def _frames(trace: Optional[TracebackType]) -> List[Tuple[str, int, str, Optional[str]]]:
    """(file at the client, line, function, the line's text) of each frame of the user's."""
    frames: List[Tuple[str, int, str, Optional[str]]] = []
    while trace is not None:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith(_OWN):
            line = linecache.getline(code.co_filename, trace.tb_lineno, trace.tb_frame.f_globals)
            text = line.rstrip("\r\n") or None
            frames.append((client_file(code.co_filename), trace.tb_lineno, code.co_name, text))
        trace = trace.tb_next
    if len(frames) > 2 * _MAX_FRAMES:
        frames[_MAX_FRAMES:-_MAX_FRAMES] = []
    return frames


# The object


def _pickle(error: BaseException, is_group: bool) -> Tuple[Optional[bytes], Optional[bytes]]:
    """The exception as it pickles itself, and in parts, as far as either can be trusted to come back whole."""
    kind = type(error)
    own_classes = [base for base in kind.__mro__ if base.__flags__ & _HEAP_TYPE]
    own_pickling = kind in copyreg.dispatch_table or any(
        not _OWN_PICKLING.isdisjoint(vars(base)) for base in own_classes
    )
    own_init = any("__init__" in vars(base) or "__new__" in vars(base) for base in own_classes)
    whole = parts = None
    if not is_group and (own_pickling or not own_init):
        with suppress(Exception):
            whole = dump(error)
            whole = whole if len(whole) <= _MAX_OBJECT else None
    if whole is None or own_pickling:
        with suppress(Exception):
            parts = _pickle_parts(error, is_group)
    return whole, parts


def _pickle_parts(error: BaseException, is_group: bool) -> bytes:
    """Class, arguments and attributes, without those that cannot be pickled."""
    args = error.args[:1] if is_group else error.args
    new_args = args
    if not is_group:
        with suppress(Exception):
            # Builtin exceptions know arguments that are not in `args` (the file of an OSError).
            base: Any = next(k for k in type(error).__mro__ if not k.__flags__ & _HEAP_TYPE)
            new_args = base.__reduce__(error)[1]
    slots: Dict[str, Any] = {}
    for kind in type(error).__mro__:
        if kind in (BaseException, object):
            break
        for name, member in vars(kind).items():
            is_slot = isinstance(member, (MemberDescriptorType, GetSetDescriptorType))
            if is_slot and name not in _KEPT_APART:
                with suppress(Exception):
                    slots[name] = getattr(error, name)
    attributes = {name: value for name, value in vars(error).items() if name != "__notes__"}
    try:
        return dump((type(error), new_args, args, attributes, slots))
    except Exception:
        return dump(
            (
                type(error),
                tuple(map(_or_text, new_args)),
                tuple(map(_or_text, args)),
                {name: value for name, value in attributes.items() if _can_dump(value)},
                {name: value for name, value in slots.items() if _can_dump(value)},
            )
        )


def _can_dump(value: Any) -> bool:
    try:
        dump(value)
    except Exception:
        return False
    return True


def _or_text(value: Any) -> Any:
    return value if _can_dump(value) else str(value)


# The text


def _traceback_text(error: BaseException) -> str:
    """The traceback as Python prints it, in the names of the client's files and without frames of ours."""
    try:
        whole = traceback.TracebackException(type(error), error, error.__traceback__)
        _rename(whole, set())
        # From 3.11 on the notes are in there already.
        notes = _notes(error) or [] if sys.version_info < (3, 11) else []
        return "".join([*whole.format(), *(f"{note}\n" for note in notes)])
    except Exception:
        return f"{type(error).__qualname__}: {_text(error)}\n"


def _rename(part: Any, seen: Any) -> None:
    if part is None or id(part) in seen:
        return
    seen.add(id(part))
    part.stack[:] = [frame for frame in part.stack if not frame.filename.startswith(_OWN)]
    for frame in part.stack:
        frame.line  # noqa: B018 - reads the text while the file still has its name here
        frame.filename = client_file(frame.filename)
    _rename(part.__cause__, seen)
    _rename(part.__context__, seen)
    for member in getattr(part, "exceptions", None) or ():
        _rename(member, seen)
