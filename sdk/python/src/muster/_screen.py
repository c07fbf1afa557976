"""The one line of this process's terminal that a spinner may draw on.

Several calls may run at once, but there is one terminal: one spinner draws at a time, and whatever is printed by
any call erases its line first. The next tick draws it again below.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

_ERASE = "\r\x1b[K"

_lock = threading.RLock()
_owner: object | None = None
_drawn = False
_open_line = False


def claim(owner: object) -> bool:
    """Whether `owner` may draw: nobody else does, and nobody left an unfinished line there."""
    global _owner
    with _lock:
        if _owner is None:
            _owner = owner
        return _owner is owner and not _open_line


def draw(owner: object, text: str) -> None:
    """Draw `owner`'s line."""
    global _drawn
    with _lock:
        if not claim(owner):
            return
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(_ERASE + text)
            sys.stderr.flush()
            _drawn = True


def erase(owner: object) -> None:
    """Take `owner`'s line away until the next `draw`."""
    with _lock:
        if _owner is owner:
            _erase()


def leave(owner: object) -> None:
    """`owner` draws no more."""
    global _owner, _open_line
    with _lock:
        if _owner is owner:
            _erase()
            _owner = None
            _open_line = False


@contextlib.contextmanager
def printing(target: Any, ends_line: bool) -> Iterator[None]:
    """Around writing to `target`, which may be the terminal."""
    global _open_line
    with _lock:
        if _owner is not None and is_terminal(target):
            _erase()
            _open_line = not ends_line
        yield


def is_terminal(stream: Any) -> bool:
    """Whether `stream` shows on a terminal that understands control codes."""
    try:
        return bool(stream.isatty()) and os.environ.get("TERM") != "dumb"
    except (AttributeError, ValueError):
        return False


def _erase() -> None:
    global _drawn
    if _drawn:
        _drawn = False
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(_ERASE)
            sys.stderr.flush()


def _after_fork() -> None:
    global _lock, _owner, _drawn, _open_line
    _lock = threading.RLock()
    _owner, _drawn, _open_line = None, False, False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
