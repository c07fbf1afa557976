"""Exceptions come back as if the function had run here (PROTOCOL.md 3 and 7.2).

The container describes the exception and all it was caused by as plain data; this module rebuilds it: the real class
where it can be unpickled, its attributes, notes, cause and context, and a traceback whose frames name the files and
lines of the code that ran, so that any traceback printer shows them with their source. What cannot be
rebuilt, and whatever is no `Exception` (SystemExit, KeyboardInterrupt), becomes a RemoteError with the same words.
"""

from __future__ import annotations

import json
import linecache
import os
import pickle
import sys
from contextlib import suppress
from types import FunctionType, TracebackType
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from ._classes import Context, UnknownClass, learn
from ._errors import RemoteError
from ._wire import Item, split_exception

Frame = Tuple[str, int, str, Optional[str]]
"""A frame of a description: file, line number, function, the line's text where it was there."""


def load_exception(
    item: Item,
    context: Context,
    index: int,
    host: Optional[str] = None,
    loads: Callable[[Any], Any] = pickle.loads,
) -> BaseException:
    """The exception of input `index`, ready to be raised: a RemoteError where `loads` cannot rebuild it."""
    head_bytes, detail = split_exception(item)
    head: Dict[str, Any] = json.loads(head_bytes)
    host = host or head.get("host")
    nodes: List[Dict[str, Any]] = []
    if detail:
        with suppress(Exception):
            nodes = loads(detail)["nodes"]
    if not nodes:
        nodes = [
            {"qualname": head["type"], "module": head.get("module"), "message": head["message"]}
        ]
    nodes[0]["traceback"] = head.get("traceback", "")
    built = _Rebuild(nodes, context, loads)
    error = built.root()
    if isinstance(error, RemoteError) and built.is_stand_in(0):
        error.index, error.host, error.call_id = index, host, context.call_id
    _mark(error, index, context.call_id, host)
    return error


def _mark(error: BaseException, index: int, call_id: str, host: Optional[str]) -> None:
    """Says on the exception which input it belongs to: in a note, and as attributes where those names are free."""
    where = f", on host {host}" if host else ""
    _add_note(error, f"input {index} of call {call_id}{where}")
    for name, value in (("index", index), ("call_id", call_id), ("host", host)):
        with suppress(Exception):
            setattr(error, f"muster_{name.partition('_')[0]}", value)
        with suppress(Exception):
            if not hasattr(error, name):
                setattr(error, name, value)


def _add_note(error: BaseException, note: str) -> None:
    with suppress(Exception):
        if sys.version_info >= (3, 11):
            error.add_note(note)
        else:
            error.__notes__ = [*getattr(error, "__notes__", ()), note]


class _Rebuild:
    """One description on its way back to exceptions; each node is built once, so that cycles close."""

    def __init__(
        self, nodes: List[Dict[str, Any]], context: Context, loads: Callable[[Any], Any]
    ) -> None:
        self._nodes = nodes
        self._loads_item = loads
        self._context = context
        self._built: Dict[int, BaseException] = {}
        self._stand_ins: Dict[int, bool] = {}
        self._learnt = False

    def root(self) -> BaseException:
        return self._build(0)

    def is_stand_in(self, number: int) -> bool:
        return self._stand_ins.get(number, False)

    def _build(self, number: int) -> BaseException:
        known = self._built.get(number)
        if known is not None:
            return known
        node = self._nodes[number]
        error = None if node.get("base") else self._real(node)
        if error is None:
            error = _stand_in(node)
            self._stand_ins[number] = True
        self._built[number] = error
        with suppress(Exception):
            self._link(error, node)
        return error

    def _link(self, error: BaseException, node: Dict[str, Any]) -> None:
        error.__traceback__ = make_traceback(node.get("frames", ()))
        if node.get("notes"):
            error.__notes__ = list(node["notes"])
        cause, around = node.get("cause"), node.get("context")
        if around is not None:
            error.__context__ = self._build(around)
        if cause is not None:
            error.__cause__ = self._build(cause)
        error.__suppress_context__ = bool(node.get("suppress"))

    def _real(self, node: Dict[str, Any]) -> Optional[BaseException]:
        """The exception itself: as it pickled itself, else from its parts."""
        for form, build in (("object", None), ("parts", self._from_parts)):
            data = node.get(form)
            if data is None:
                continue
            try:
                loaded = self._loads(data)
                error = build(loaded, node) if build else loaded
                str(error)
            except Exception:
                continue
            if isinstance(error, Exception):
                return error
        return None

    def _loads(self, data: bytes) -> Any:
        try:
            return self._loads_item(data)
        except UnknownClass:
            # What is not trusted does not make this process learn classes either.
            if self._learnt or self._loads_item is not pickle.loads:
                raise
            self._learnt = True
            learn(self._context)
            return pickle.loads(data)

    def _from_parts(self, parts: Any, node: Dict[str, Any]) -> BaseException:
        """Makes an exception without calling the `__init__` of its class, which may want other arguments."""
        kind, new_args, args, attributes, slots = parts
        members = node.get("members")
        if members is not None:
            new_args = args = (args[0], [self._build(member) for member in members])
        base = next(k for k in kind.__mro__ if not k.__flags__ & _HEAP_TYPE)
        error: BaseException = base.__new__(kind, *new_args)
        with suppress(Exception):
            base.__init__(error, *new_args)
        if members is None:
            error.args = args
        error.__dict__.update(attributes)
        for name, value in slots.items():
            with suppress(Exception):
                setattr(error, name, value)
        return error


_MAX_LINE = 1_000_000
"""No file has more lines; a number from a container decides how long a list becomes."""

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class made by a class statement


def _stand_in(node: Dict[str, Any]) -> RemoteError:
    module, name = node.get("module"), node.get("qualname") or "Exception"
    full = name if module in (None, "builtins", "__main__") else f"{module}.{name}"
    return RemoteError(
        node.get("message", ""), type_name=full, traceback_text=node.get("traceback", "")
    )


# Tracebacks


def make_traceback(frames: Any) -> Optional[TracebackType]:
    """A traceback of these frames, the outermost first, that prints as theirs would have."""
    following: Optional[TracebackType] = None
    for file, line, name, text in reversed(list(frames)):
        line = max(line or 1, 1)
        if text is not None:
            _remember_line(file, line, text)
        following = TracebackType(following, _make_frame(file, line, name), 0, line)
    return following


def _template() -> Iterator[None]:
    yield


def _make_frame(file: str, line: int, name: str) -> Any:
    code = _template.__code__
    changes: Dict[str, Any] = {"co_filename": file, "co_name": name, "co_firstlineno": line}
    if sys.version_info >= (3, 11):
        changes["co_qualname"] = name
        changes["co_linetable"] = _one_line(len(code.co_code) // 2)
    # A generator that has not begun: its frame has no caller. That of a call would hold those of all its callers here,
    # and what they hold, for as long as there is the exception.
    return FunctionType(code.replace(**changes), {"__file__": file})().gi_frame


def _one_line(units: int) -> bytes:
    """A location table that puts all of a code object on its first line and in no column.

    With columns, traceback printers would mark some of a line of which this code is not the code.
    """
    no_columns = 0x80 | 13 << 3
    lengths = [min(8, units - at) for at in range(0, units, 8)]
    return b"".join(bytes((no_columns | length - 1, 0)) for length in lengths)


def _remember_line(file: str, line: int, text: str) -> None:
    """Makes the text of a line known to traceback printers, for a file that is not on this machine."""
    if line > _MAX_LINE:
        return
    entry = linecache.cache.get(file)
    if entry is not None and (len(entry) != 4 or entry[1] is not None):
        return
    if entry is None and (os.path.exists(file) or linecache.getlines(file)):
        return
    lines = list(entry[2]) if entry is not None and len(entry) == 4 else []
    if entry is not None and len(lines) >= line and lines[line - 1].strip():
        return
    lines.extend([""] * (line - len(lines)))
    lines[line - 1] = text + "\n"
    linecache.cache[file] = (sum(map(len, lines)), None, lines, file)
